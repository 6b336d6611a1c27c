"""The loops of libraries that bring their own, each as its documentation shows it."""

import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.harness import Clock, silence
from benchmarks.loop_overhead.task import DECAY, MOMENTUM, RATE, Batches, Task


class _Stream(IterableDataset):  # type: ignore[type-arg]
    """Whole batches as a data set, for what insists on a `DataLoader`."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Any:
        return iter(self._batches)


def accelerate(task: Task, clock: Clock) -> nn.Module:
    """Accelerate: everything prepared, its backward, the loss kept on the device and read at the end."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    network = task.fresh_network()
    optimizer = task.optimizer(network)
    loader = DataLoader(_Stream(Batches(task, clock)), batch_size=None)
    scheduler = task.schedule(optimizer)
    model, optimizer, loader, scheduler = accelerator.prepare(network, optimizer, loader, scheduler)
    model.train()
    total = torch.zeros(())
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        total += loss.detach()
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step()
    total.item()
    return network


def lightning(task: Task, clock: Clock) -> nn.Module:
    """Lightning as it is shipped: progress bar, logger, checkpoints, and the loss logged in each step."""
    return _lightning(task, clock, log=True)


def lightning_bare(task: Task, clock: Clock) -> nn.Module:
    """Lightning with all of that off, by its own switch for measuring."""
    return _lightning(task, clock, log=False, barebones=True)


def _lightning(task: Task, clock: Clock, *, log: bool, **options: Any) -> nn.Module:
    from lightning.pytorch import LightningModule, Trainer

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = task.fresh_network()

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            images, labels = batch
            loss = F.cross_entropy(self.network(images), labels)
            if log:
                self.log("train_loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = task.optimizer(self)
            schedule = {"scheduler": task.schedule(optimizer), "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": schedule}

    module = Classifier()
    with silence(), tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, **options)
        trainer.fit(module, Batches(task, clock))
    return module.network


def fastai(task: Task, clock: Clock) -> nn.Module:
    """The `Learner.fit` of fastai with the callbacks it always has, and its schedule on the rate."""
    from fastai.callback.schedule import ParamScheduler, SchedCos
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    def optimizer(parameters: Any, **options: Any) -> OptimWrapper:
        sgd = torch.optim.SGD
        return OptimWrapper(parameters, sgd, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY, **options)

    network = task.fresh_network()
    few = DataLoader([(task.prepare(task.images[:32])[0], task.labels[0])])
    with silence(), tempfile.TemporaryDirectory() as folder:
        loaders = DataLoaders(DataLoader(_Stream(Batches(task, clock)), batch_size=None), few)
        learner = Learner(loaders, network, loss_func=F.cross_entropy, opt_func=optimizer, lr=RATE, path=folder)
        learner.fit(1, cbs=ParamScheduler({"lr": SchedCos(RATE, 0.0)}))
    return network
