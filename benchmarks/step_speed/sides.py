"""The two sides: halftone's loop over a session, and what a careful person writes in a notebook."""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.step_speed.task import DECAY, MEAN, MOMENTUM, NETWORKS, RATE, SEED, STD, images, order
from halftone.loop.events import StepTaken
from halftone.loop.state import Progress
from halftone.loop.train import train
from halftone.run.plan.make import make_plan
from halftone.run.recipe import Recipe
from halftone.run.session import build_session
from halftone.system.memory import keep_freed_memory

MOST = 10_000
"""Steps for which there is an order; more than anybody waits for."""


def ours(
    name: str,
    network: nn.Module,
    precision: str,
    *,
    batch: int | None = None,
    device: str = "cpu",
    compiled: bool = False,
) -> Iterator[Tensor]:
    """Train as `halftone train` does, with logging off, and yield the loss of each step, on the device."""
    if device == "cpu" and not keep_freed_memory():
        raise SystemExit("this system's allocator cannot keep memory")
    batch = batch or NETWORKS[name].batch
    pixels, labels = images(batch)
    recipe = Recipe(
        precision=precision,
        optimizer={"name": "sgd", "lr": RATE, "momentum": MOMENTUM, "l2": DECAY, "decay_all": True},
        loss={"label_smoothing": 0.0},
        data={"mean": MEAN, "std": STD},
        augment="none",
        warmup="none",
        decay="constant",
        epochs=1,
        batch_size=batch,
        device=device,
        threads=torch.get_num_threads(),
        seed=SEED,
        run={"grad_norm": False},
        model={"compile": compiled},
    )
    some = slice(2 * batch)
    data = (pixels, labels), (pixels[some], labels[some])
    session = build_session(make_plan(recipe, data=data, model=network))
    endless = replace(session, order=lambda _: order(batch, MOST), batches_per_epoch=MOST, max_batches=MOST)
    for event in train(endless, Progress.start(session.device), max_skipped=1):
        if isinstance(event, StepTaken):
            yield event.loss


def raw(name: str, network: nn.Module, precision: str) -> Iterator[Tensor]:
    """Train as a tutorial does, NCHW and with the allocator as it is, and yield the loss of each step."""
    size = NETWORKS[name].batch
    pixels, labels = images(size)
    inputs, targets = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    for chosen in torch.from_numpy(order(size, MOST)).split(size):
        batch, wanted = inputs[chosen].float().div_(255).sub_(mean).div_(std), targets[chosen]
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(network(batch), wanted)
        loss.backward()
        optimizer.step()
        yield loss.detach()


SIDES = {"ours": ours, "raw": raw}
