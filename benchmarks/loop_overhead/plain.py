"""Loops that are written out: PyTorch by hand, and the one of timm's training script."""

import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.harness import Clock
from benchmarks.loop_overhead.task import DECAY, MOMENTUM, RATE, Batches, Task


def raw(task: Task, clock: Clock) -> nn.Module:
    """What a careful person writes in a notebook: no loader, no meter, the loss added up."""
    network = task.fresh_network()
    optimizer = task.optimizer(network)
    scheduler = task.schedule(optimizer)
    order = task.order()
    running = 0.0
    for start in range(0, len(order), task.batch_size):
        clock.tick()
        chosen = order[start : start + task.batch_size]
        images, labels = task.prepare(task.images[chosen]), task.labels[chosen]
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item()
    return network


def raw_floats(task: Task, clock: Clock) -> nn.Module:
    """The same with the whole set turned into normalised floats beforehand, for four times the memory."""
    network = task.fresh_network()
    optimizer = task.optimizer(network)
    scheduler = task.schedule(optimizer)
    order, inputs = task.order(), task.prepare(task.images).permute(0, 2, 3, 1)
    running = 0.0
    for start in range(0, len(order), task.batch_size):
        clock.tick()
        chosen = order[start : start + task.batch_size]
        images, labels = inputs[chosen].permute(0, 3, 1, 2), task.labels[chosen]
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item()
    return network


def timm(task: Task, clock: Clock) -> nn.Module:
    """What `train_one_epoch` of timm's script does in each step, with timm's optimizer, schedule and meters.

    The script is no part of the package; see `train.py` in huggingface/pytorch-image-models. Its log line is
    formatted every 50 steps, and goes nowhere here.
    """
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import AverageMeter, dispatch_clip_grad

    network = task.fresh_network()
    optimizer = create_optimizer_v2(
        network, opt="sgd", lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, filter_bias_and_bn=False
    )
    scheduler = CosineLRScheduler(optimizer, t_initial=task.batches, t_in_epochs=False)
    loader, loss_function, clip_norm = Batches(task, clock), nn.CrossEntropyLoss(), None
    step_time, data_time, losses = AverageMeter(), AverageMeter(), AverageMeter()
    lines = []
    asked = begun = time.time()
    for number, (batch, labels) in enumerate(loader):
        images, targets = batch.to(device="cpu", dtype=torch.float32), labels.to(device="cpu")
        images = images.contiguous(memory_format=torch.channels_last)
        data_time.update(time.time() - asked)
        with nullcontext():  # where mixed precision would go
            loss = loss_function(network(images), targets)
        loss.backward(create_graph=False)
        if clip_norm is not None:
            dispatch_clip_grad(network.parameters(), value=clip_norm, mode="norm")
        optimizer.step()
        losses.update(loss.item(), images.size(0))
        optimizer.zero_grad()
        now = time.time()
        step_time.update(now - begun)
        begun = now
        if number % 50 == 0:
            rates = [group["lr"] for group in optimizer.param_groups]
            lines.append(
                f"{number}/{len(loader)} {losses.val:.3g} {losses.avg:.3g} {step_time.val:.3f} {step_time.avg:.3f} "
                f"{images.size(0) / step_time.avg:.2f}/s {sum(rates) / len(rates):.3e} {data_time.avg:.3f}"
            )
        scheduler.step_update(num_updates=number + 1, metric=losses.avg)
        asked = time.time()
    return network
