"""Speed diagnosed: planted numbers to verdicts and advice, and real steps with a source that is slow on purpose."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from halftone.cli.main import main
from halftone.diagnose.speed import diagnose_speed
from halftone.diagnose.speed_figure import speed_figure
from halftone.diagnose.speed_record import Circumstances, Measured, Pace
from halftone.diagnose.speed_verdict import judge, losses, remedies, sentence
from halftone.report.figures import to_png
from halftone.run.recipe import Recipe
from samples import stripes, write_folder, write_npz

STEP = {"data": 0.001, "augmentation": 0.002, "forward": 0.03, "backward": 0.06, "optimizer": 0.005, "halftone": 0.002}


def pace(value: float) -> Pace:
    return Pace(median=value, least=value, most=value)


def measured(**values: Any) -> Measured:
    """A step of 0.1 s whose network alone takes 0.097 s, for 32 images."""
    step = {**STEP, **values.pop("step", {})}
    whole = sum(step.values())
    model = pace(values.pop("model", 32 / 0.097))
    usual: dict[str, Any] = {
        "num_steps": 60, "step": step, "real": pace(32 / whole), "model": model, "share": 32 / whole / model.median,
        "half_batch": model.median, "reading": 900.0, "changing": 16000.0, "copying": None, "precisions": {},
        "start": {"imports": 2.0, "data": 0.5},
    }  # fmt: skip
    return Measured(**{**usual, **values})


def around(**values: Any) -> Circumstances:
    usual: dict[str, Any] = {
        "model": "resnet18", "device": "a CPU", "device_kind": "cpu", "size": 224, "batch_size": 32,
        "precision": "fp32", "precision_asked": True, "feed": "streaming", "workers": 2, "threads": 2, "cores": 2,
        "load": 2.0, "picture_side": 300, "decoded_bytes": 1 << 40, "free_bytes": 1 << 30, "cache": "",
        "keeps_memory": True, "channels_last": True, "deterministic": False, "heavy_changes": True,
    }  # fmt: skip
    return Circumstances(**{**usual, **values})


def advice(found: Measured, where: Circumstances) -> list[str]:
    return [remedy.advice for remedy in remedies(judge(found, where), found, where)]


def test_a_step_that_is_all_network_is_limited_by_the_model() -> None:
    found = measured()
    assert judge(found, around()) == "model"
    assert sentence("model", found, around()) == (
        "The model is the limit: the real path reaches 97% of what the model alone does."
    )
    assert advice(found, around()) == []


@pytest.mark.parametrize(
    ("part", "seconds", "kind"), [("data", 0.02, "waits for data"), ("augmentation", 0.03, "augmentation"),
                                  ("halftone", 0.05, "halftone")]
)  # fmt: skip
def test_the_largest_loss_is_the_verdict(part: str, seconds: float, kind: str) -> None:
    found = measured(step={part: seconds})
    assert judge(found, around()) == kind
    share = seconds / sum(found.step.values())
    assert losses(found, around())[kind] == pytest.approx(share)  # type: ignore[index]
    assert f"{share:.0%} of " in sentence(kind, found, around())  # type: ignore[arg-type]


def test_decoding_beside_the_network_shows_as_a_slower_network() -> None:
    found = measured(step={"forward": 0.05, "backward": 0.09})
    # 0.145 s of computing; alone 0.097 s less what halftone does itself, 0.002 s
    assert losses(found, around())["decoding takes the cores"] == pytest.approx(0.05 / 0.15)
    assert judge(found, around()) == "decoding takes the cores"
    # a GPU does not decode, and nobody decodes for a resident set: then it is noise
    assert judge(found, around(device_kind="cuda")) == "model"
    assert judge(found, around(feed="resident")) == "model"


def test_waiting_for_data_is_advised_by_what_is_left_undone() -> None:
    slow = measured(step={"data": 0.1})
    assert advice(slow, around(workers=0)) == ["--data.workers 2"]
    assert advice(slow, around(workers=1, cores=4)) == ["--data.workers 4"]
    assert advice(slow, around(workers=3, cores=16, device_kind="cuda")) == ["--data.workers 15"]
    assert advice(slow, around(cache="off"))[0] == "--data.cache auto"
    assert advice(slow, around(decoded_bytes=100 << 20))[0] == "--data.feed resident"
    assert advice(slow, around(picture_side=1200)) == ["store them at 448 pixels on the shorter side"]
    assert advice(slow, around()) == ["store the pictures smaller, or on a faster disk"]
    # a faster network would not help
    faster = measured(step={"data": 0.1}, precisions={"fp32": 1.0, "bf16": 9.0})
    assert advice(faster, around()) == ["store the pictures smaller, or on a faster disk"]


def test_a_faster_precision_is_proposed_only_where_it_was_measured_and_not_chosen_by_auto() -> None:
    found = measured(precisions={"fp32": 330.0, "bf16": 660.0, "bf16-true": 340.0})
    assert advice(found, around()) == ["--precision bf16"]
    assert "2.00 times as fast" in remedies("model", found, around())[0].reason
    assert advice(found, around(precision_asked=False)) == []
    assert advice(measured(precisions={"fp32": 330.0, "bf16": 335.0}), around()) == []


def test_a_larger_batch_is_proposed_where_half_of_it_is_slower() -> None:
    assert advice(measured(half_batch=250.0), around()) == ["--batch-size 64"]
    assert advice(measured(half_batch=320.0), around()) == []
    assert advice(measured(half_batch=None), around()) == []


def test_settings_that_cost_time_are_named_whatever_the_limit_is() -> None:
    found = measured()
    assert advice(found, around(threads=8)) == ["--threads 2"]
    assert advice(found, around(threads=1)) == ["--threads 2"]
    assert advice(found, around(keeps_memory=False)) == ["--keep-memory"]
    assert advice(found, around(channels_last=False)) == ["--model.channels-last true"]
    assert advice(found, around(deterministic=True)) == ["leave out --deterministic"]
    assert advice(found, around(load=5.0)) == ["measure and train on a quiet machine"]
    assert advice(measured(step={"augmentation": 0.05}), around()) == ["--augment light"]


class Sleeping:
    """A data set of Python's that takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.images, self.labels = stripes(64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        time.sleep(self.seconds)
        return Image.fromarray(self.images[index]), int(self.labels[index])


class Slow(nn.Module):
    """A network that takes longer than any data path."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.03)
        return self.head(images.flatten(1))


QUICK: dict[str, Any] = {"precision": "fp32", "threads": 1, "batch_size": 8, "epochs": 1, "warmup": "none", "lr": 0.01}


def test_a_slow_source_is_what_training_waits_for() -> None:
    recipe = Recipe(model="cifar_resnet8", data={"feed": "streaming", "workers": 1}, **QUICK)
    found = diagnose_speed(recipe, seconds=0.5, data=(Sleeping(0.01), Sleeping(0.0)))
    assert found.verdict == "waits for data"
    # 8 images at 10 ms each, one after the other
    assert sum(found.measured.step.values()) == pytest.approx(0.08, rel=0.5)
    assert found.measured.reading == pytest.approx(100, rel=0.3)
    assert found.measured.share < 0.8
    assert found.sentence.startswith("Training waits for data in ")
    assert found.measured.real.least <= found.measured.real.median <= found.measured.real.most


def test_a_slow_network_is_the_limit_and_stays_as_it_was() -> None:
    images, labels = stripes(64)
    network, random = Slow(), torch.get_rng_state()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recipe = Recipe(augment="none", **QUICK)
    found = diagnose_speed(
        recipe, seconds=0.5, data=((images, labels), (images, labels)), model=network, before={"imports": 1.5}
    )
    assert found.verdict == "model"
    assert found.measured.step["forward"] == pytest.approx(0.03, rel=0.5)
    assert 0.8 < found.measured.share < 1.2
    assert found.circumstances.feed == "resident" and found.circumstances.picture_side == 16
    stages = ["imports", "data", "network", "precision", "weights", "rates", "building", "first step"]
    assert list(found.measured.start) == stages and found.measured.start["imports"] == 1.5
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert to_png(speed_figure(found)).startswith(b"\x89PNG")


def test_the_command_prints_parts_limits_verdict_and_leaves_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folder(tmp_path / "pictures", train=24, val=6)
    flags = ["--threads", "1", "--batch-size", "8", "--precision", "fp32", "--model", "cifar_resnet8", "--lr", "0.01"]
    words = ["diagnose", "speed", str(data), *flags, "--data.feed", "streaming", "--seconds", "0.5"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said, talk = capsys.readouterr()
    lines = said.splitlines()
    assert lines[0].startswith("cifar_resnet8 at 20 pixels in fp32, batches of 8; ")
    assert [" ".join(line.split()[:-2]) for line in lines[2:8]] == [
        "waiting for data", "augmentation", "forward", "backward", "optimizer", "halftone's own",
    ]  # fmt: skip
    for start in (
        "as it trains",
        "the model alone",
        "reading alone",
        "before the first step, ",
        "verdict: ",
        "advice: ",
    ):
        assert any(line.startswith(start) for line in lines), start
    assert f"picture: {tmp_path / 'out' / 'speed.png'}" in talk
    kept = json.loads((tmp_path / "out" / "speed.json").read_text())
    shares = [float(line.split()[-1].rstrip("%")) for line in lines[2:8]]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert kept["measured"]["num_steps"] >= 6 and kept["circumstances"]["feed"] == "streaming"
    assert kept["circumstances"]["picture_side"] == 20


def test_too_little_time_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_npz(tmp_path / "tiny.npz")
    assert main(["diagnose", "speed", str(data), "--seconds", "0.1"]) == 2
    assert "seconds = 0.1: it must be at least 0.5" in capsys.readouterr().err


@pytest.mark.gpu
def test_a_gpu_is_timed_by_its_own_clock() -> None:
    images, labels = stripes(256)
    recipe = Recipe(model="cifar_resnet20", device="cuda", **{**QUICK, "batch_size": 64})
    found = diagnose_speed(recipe, seconds=2, data=((images, labels), (images, labels)))
    whole = 64 / found.measured.real.median
    assert sum(found.measured.step.values()) == pytest.approx(whole, rel=0.2)
    assert found.measured.copying is not None and found.measured.copying > found.measured.real.median
    assert np.isfinite(list(found.measured.step.values())).all()
