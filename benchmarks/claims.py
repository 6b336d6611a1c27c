"""Published claims, each settled by one command of `halftone compare`; its sentences and two of its pictures are kept.

python -m benchmarks.claims digits
python -m benchmarks.claims mixed-precision --data DIR
python -m benchmarks.claims init
python -m benchmarks.claims warmup --data cifar10.npz
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.runs import arguments, first_images, shown
from halftone.base.files import read_json, write_json, write_text
from halftone.comparison.records import Comparison, Outcome

PICTURES = ("differences", "curves")
NUM_TRAIN, NUM_TEST = 10_000, 10_000


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody published, and the command that tries it."""

    text: str
    flags: Sequence[str]
    """Behind the data."""
    images: str = ""
    """The set whose first images are taken; empty for the embedded digits."""
    most_seconds: float | None = None
    """Of the whole command, with 5 seeds on 2 cores."""


CLAIMS: Mapping[str, Claim] = {
    "digits": Claim(
        "The example of the documentation: 5 pairs of whole runs on the digits in under 3 minutes on 2 cores.",
        ("--vary", "precision=fp32,bf16"),
        most_seconds=180,
    ),
    "mixed-precision": Claim(
        "Mixed precision matches full precision (Micikevicius et al. 2018).",
        ("--vary", "precision=fp32,bf16", "--epochs", "6"),
        images="fashion-mnist",
    ),
    "init": Claim(
        "In depth, He's initialisation lets a rectified network learn where Xavier's stalls (He et al. 2015).",
        (
            *("--vary", "init=he,xavier", "--model", "plain30", "--optimizer", "adam", "--lr", "5e-4"),
            *("--batch-size", "64", "--epochs", "10", "--warmup", "none", "--decay", "constant"),
            *("--augment", "none", "--precision", "fp32"),
        ),
    ),
    "warmup": Claim(
        "A warmup makes a large rate for large batches possible (Goyal et al. 2017).",
        (
            *("--vary", "warmup=none,2ep", "--model", "cifar_resnet8", "--size", "16", "--epochs", "6"),
            *("--optimizer", "sgd", "--lr", "1.6", "--batch-size", "512", "--precision", "fp32"),
        ),
        images="cifar10",
    ),
}


def main() -> None:
    settings = _arguments()
    claim, where = CLAIMS[settings.claim], harness.machine()
    with tempfile.TemporaryDirectory() as folder:
        root, data = Path(folder), "digits"
        if claim.images:
            source = settings.data.expanduser().resolve()
            data = str(first_images(claim.images, source, root, train=NUM_TRAIN, test=NUM_TEST))
        words = ["compare", data, *claim.flags, "--seeds", str(settings.seeds)]
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "halftone", *words, "--name", "claim"], cwd=root, check=True)
        seconds = time.perf_counter() - begun
        found = Comparison.parse(read_json(root / "runs" / "claim" / "verdict.json"), source="verdict.json")
        text = _report(settings, claim, found, seconds, where)
        print(text)
        if not settings.dry:
            _keep(settings, found, seconds, where, root / "runs" / "claim")
            write_text(_place(settings.claim, "md"), text)


def _arguments() -> argparse.Namespace:
    parser = arguments("claims", __doc__, seeds=5)
    parser.add_argument("claim", choices=list(CLAIMS))
    parser.add_argument("--data", type=Path, help="where the images are")
    settings = parser.parse_args()
    if CLAIMS[settings.claim].images and settings.data is None:
        parser.error(f"{settings.claim} needs --data")
    return settings


def _place(claim: str, ending: str) -> Path:
    return harness.RESULTS / f"claim_{claim.replace('-', '_')}.{ending}"


def _keep(settings: Any, found: Comparison, seconds: float, where: Mapping[str, Any], folder: Path) -> None:
    for picture in PICTURES:
        target = _place(settings.claim, "png")
        shutil.copyfile(folder / f"{picture}.png", target.with_stem(f"{target.stem}_{picture}"))
    runs = [
        {"variant": one.variant, "seed": one.seed, "status": one.status, "accuracy": _accuracy(one)}
        for one in found.outcomes
    ]
    verdicts = [one.model_dump(mode="json", exclude={"methods"}) for one in found.verdicts]
    values = {"machine": where, "seconds": round(seconds, 1), "runs": runs, "verdicts": verdicts}
    write_json(_place(settings.claim, "json"), values)


def _report(settings: Any, claim: Claim, found: Comparison, seconds: float, where: Mapping[str, Any]) -> str:
    rows = []
    for variant in found.variants:
        outcomes = [one for one in found.outcomes if one.variant == variant.name]
        accuracies = [100 * value for one in outcomes if (value := _accuracy(one)) is not None]
        ended = sum(one.status == "finished" for one in outcomes)
        rows.append((variant.name, shown(accuracies) if accuracies else "-", f"{ended} of {len(outcomes)}"))
    data = "digits"
    if claim.images:
        data = f"{claim.images}-{NUM_TRAIN}.npz"
    typed = " ".join(["halftone compare", data, *claim.flags, "--seeds", str(settings.seeds)])
    parts = [
        f"# claim_{settings.claim.replace('-', '_')}",
        claim.text,
        f"`{typed}`",
        *([f"The first {NUM_TRAIN:,} training and {NUM_TEST:,} test images."] if claim.images else []),
        f"Kept by `{harness.command_line('benchmarks.claims')}`.",
        harness.describe(where),
        harness.markdown_table(("", "accuracy, % (95 % interval)", "finished"), rows),
        *(f"> {verdict.sentence}" for verdict in found.verdicts),
        f"The whole command took {seconds:.0f} s{_kept_within(claim, settings, seconds)}.",
    ]
    return "\n\n".join(parts) + "\n"


def _kept_within(claim: Claim, settings: Any, seconds: float) -> str:
    if claim.most_seconds is None or settings.seeds != 5:
        return ""
    verdict = "met" if seconds < claim.most_seconds else "MISSED"
    return f"; {verdict}: under {claim.most_seconds:.0f} s"


def _accuracy(outcome: Outcome) -> float | None:
    return outcome.metrics.accuracy if outcome.metrics is not None else None


if __name__ == "__main__":
    main()
