"""The published fast CIFAR-10 training (Jordan 2024, with Muon) in plain eager PyTorch: what the recipe runs against.

Constants and structure are the published ones; nothing of halftone is used, and the allocator is as the C library has
it.
One process trains one network and prints a JSON object: the seconds of each step, of training and of the evaluation,
and the accuracy without and with six views.

    python -m benchmarks.cifar10_94.plain --data cifar10.npz --seed 0
"""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 2000
EPOCHS = 8
WHITEN_EPOCHS = 3
WIDTHS = (64, 256, 256)
BIAS_RATE, HEAD_RATE, FILTER_RATE = 0.053, 0.67, 0.24
DECAY = 2e-6 * BATCH
"""A rate times its weight decay."""
SMOOTHING = 0.2


class Norm(nn.BatchNorm2d):
    """Batch normalisation whose weight stays at one."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        self.weight.requires_grad = False


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding="same", bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(inputs, outputs), nn.MaxPool2d(2), Norm(outputs), nn.GELU(),
        convolution(outputs, outputs), Norm(outputs), nn.GELU(),
    )  # fmt: skip


class Net(nn.Module):
    """2x2 whitening, three blocks, a head whose logits are divided by its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad = False
        inputs = (24, *WIDTHS[:-1])
        self.layers = nn.Sequential(nn.GELU(), *map(block, inputs, WIDTHS), nn.MaxPool2d(3))
        self.head = nn.Linear(WIDTHS[-1], 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def start(self, images: Tensor) -> None:
        """Make the first convolution whiten 2x2 patches of images [batch, 3, 32, 32]."""
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self.whiten.weight.data.copy_(torch.cat([filters, -filters]))

    def forward(self, images: Tensor, *, trains_bias: bool = True) -> Tensor:
        """Return logits [batch, 10] for images [batch, 3, 32, 32]."""
        bias = self.whiten.bias
        assert bias is not None
        features = F.conv2d(images, self.whiten.weight, bias if trains_bias else bias.detach())
        return self.head(self.layers(features).flatten(1)) / WIDTHS[-1]


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum on filters that are kept at a norm of the root of their number."""

    def __init__(self, parameters: list[Tensor]) -> None:
        super().__init__(parameters, {"lr": FILTER_RATE, "momentum": 0.6})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update all filters."""
        for group in self.param_groups:
            for weight in group["params"]:
                buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                buffer.mul_(group["momentum"]).add_(weight.grad)
                ahead = weight.grad.add(buffer, alpha=group["momentum"])
                weight.mul_(len(weight) ** 0.5 / weight.norm())
                weight.add_(orthogonal(ahead.reshape(len(ahead), -1)).view_as(weight), alpha=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """Three Newton-Schulz steps in bfloat16, [rows, columns] with no more rows than columns here."""
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.to(matrix.dtype)


def batches(images: Tensor, labels: Tensor, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches, each image mirrored every other epoch and shifted by up to two pixels."""
    flipped = torch.rand(len(images), device=images.device) < 0.5
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    for epoch in range(epochs):
        shifts = torch.randint(0, 5, (2, len(images)), device=images.device)
        cut = torch.empty_like(images)
        for down in range(5):
            for right in range(5):
                here = (shifts[0] == down) & (shifts[1] == right)
                cut[here] = padded[here, :, down : down + 32, right : right + 32]
        mirrored = flipped ^ bool(epoch % 2)
        cut = torch.where(mirrored[:, None, None, None], cut.flip(3), cut)
        order = torch.randperm(len(images), device=images.device)
        for chosen in order[: len(order) // BATCH * BATCH].split(BATCH):
            yield cut[chosen].contiguous(memory_format=torch.channels_last), labels[chosen]


def views(model: Net, images: Tensor) -> Tensor:
    """Return the logits [batch, 10] over six views: both sides, and both shifted by a pixel two ways."""
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    plain = both_sides(model, images)
    return 0.5 * plain + 0.25 * (both_sides(model, padded[..., :32, :32]) + both_sides(model, padded[..., 2:, 2:]))


def both_sides(model: Net, images: Tensor) -> Tensor:
    images = images.contiguous(memory_format=torch.channels_last)
    return 0.5 * (model(images).float() + model(images.flip(3)).float())


def train(settings: argparse.Namespace) -> dict[str, Any]:
    """Train one network and say how long it took and how good it is."""
    torch.manual_seed(settings.seed)
    device = torch.device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with np.load(settings.data) as file:
        parts = [torch.from_numpy(file[name]).to(device) for name in ("x_train", "y_train", "x_test", "y_test")]
    x_train, x_test = (part.permute(0, 3, 1, 2).float() / 255 for part in parts[::2])
    y_train, y_test = (part.long() for part in parts[1::2])
    mean, std = x_train.mean((0, 2, 3), keepdim=True), x_train.std((0, 2, 3), keepdim=True)
    x_train, x_test = (x_train - mean) / std, (x_test - mean) / std
    steps = settings.epochs * (len(x_train) // BATCH)
    steps = min(steps, settings.steps) if settings.steps else steps
    until = settings.bias_steps or WHITEN_EPOCHS * (len(x_train) // BATCH)
    model = Net().to(device).to(memory_format=torch.channels_last)
    model.start(x_train[:5000])
    filters = [weight for weight in model.parameters() if weight.ndim == 4 and weight.requires_grad]
    biases = [weight for name, weight in model.layers.named_parameters() if weight.ndim == 1 and weight.requires_grad]
    groups = [
        {"params": [model.whiten.bias], "lr": BIAS_RATE, "weight_decay": DECAY / BIAS_RATE},
        {"params": biases, "lr": BIAS_RATE, "weight_decay": DECAY / BIAS_RATE},
        {"params": [model.head.weight], "lr": HEAD_RATE, "weight_decay": DECAY / HEAD_RATE},
    ]
    sgd, muon = torch.optim.SGD(groups, momentum=0.85, nesterov=True, fused=True), Muon(filters)
    rated = [(group, group["lr"]) for group in (*sgd.param_groups, *muon.param_groups)]
    half = torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")
    clock, seconds = time.perf_counter(), []
    begun = clock
    model.train()
    for step, (images, labels) in zip(range(steps), batches(x_train, y_train, settings.epochs), strict=False):
        with half:
            outputs = model(images, trains_bias=step < until)
        F.cross_entropy(outputs.float(), labels, label_smoothing=SMOOTHING, reduction="sum").backward()
        for place, (group, peak) in enumerate(rated):
            group["lr"] = peak * max(0.0, 1 - step / (steps if place else until))
        sgd.step()
        muon.step()
        model.zero_grad(set_to_none=True)
        if settings.steps:  # a whole run does not wait for the device
            wait(device)
            seconds.append(time.perf_counter() - clock)
            clock = time.perf_counter()
    wait(device)
    trained = time.perf_counter() - begun
    if settings.steps:
        return {"steps": seconds}
    correct = evaluate(model, x_test, y_test, half, views)
    wait(device)
    return {
        "train_seconds": trained,
        "seconds": time.perf_counter() - begun,
        "accuracy_views": correct,
        "accuracy": evaluate(model, x_test, y_test, half, lambda net, images: net(images).float()),
    }


def evaluate(model: Net, images: Tensor, labels: Tensor, half: Any, look: Any) -> float:
    model.eval()
    with torch.inference_mode(), half:
        guesses = torch.cat([look(model, part).argmax(1) for part in images.split(BATCH)])
    return float((guesses == labels).double().mean())


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar10_94.plain", description=__doc__)
    parser.add_argument("--data", required=True, help="cifar10.npz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0, help="time so many steps, and nothing else")
    parser.add_argument(
        "--bias-steps", type=int, default=0, help="of which the bias of the whitening trains in so many"
    )
    print(json.dumps(train(parser.parse_args())))


if __name__ == "__main__":
    main()
