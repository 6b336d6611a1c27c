"""`halftone check-data` on a tree with planted faults and copies: what it names, what it does not, and how fast."""

import argparse
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks import harness
from halftone.base.files import write_json, write_text

CLAIM = (
    "Of a tree of 10,000 small pictures with 500 planted faults, 500 are named and none falsely, at 1,000 pictures a "
    "second or more on 2 cores, copies included. Planted copies are found: equal in their pixels all, re-encoded and "
    "resized at least 95 %, and of the pairs named at least 95 % are planted or were in the pictures before."
)
SIDE = 64
LEAST_SPEED, LEAST_RECALL, LEAST_PRECISION = 1000, 0.95, 0.95
EQUAL = ("byte-equal", "another format, no loss")
PARTS = ("train", "val")


def _truncated(share: float) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, _: data[: max(1, int(len(data) * share))]


def _rotten(data: bytes, chance: random.Random) -> bytes:
    """Zero 40 bytes within the compressed picture."""
    place = chance.randrange(len(data) * 2 // 5, len(data) * 4 // 5)
    return data[:place] + bytes(40) + data[place + 40 :]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(60, len(data) - 60)
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


def _claiming(width: int, height: int) -> Callable[[bytes, random.Random], bytes]:
    """Write another size into a PNG's header, with the right checksum."""
    import struct
    import zlib

    def change(data: bytes, _: random.Random) -> bytes:
        head = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]

    return change


def _as(kind: str) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, _: _encoded(Image.open(io.BytesIO(data)).convert("RGB"), kind)


FAULTS: dict[str, tuple[str, Callable[[bytes, random.Random], bytes] | None]] = {
    "JPEG cut off at 1 %": (".jpg", _truncated(0.01)),
    "JPEG cut off at 50 %": (".jpg", _truncated(0.5)),
    "JPEG cut off at 99 %": (".jpg", _truncated(0.99)),
    "PNG cut off at 50 %": (".png", _truncated(0.5)),
    "PNG cut off at 99 %": (".png", _truncated(0.99)),
    "zero bytes": (".jpg", lambda *_: b""),
    "header only, 30 bytes": (".jpg", lambda data, _: data[:30]),
    "text": (".jpg", lambda *_: b"there was a picture here once\n" * 40),
    "HTML": (".png", lambda *_: b"<!doctype html><title>404</title>" + b"<p>not found</p>" * 50),
    "bomb by its header": (".png", _claiming(20_000, 20_000)),
    "no pixels by its header": (".png", _claiming(0, 0)),
    "PDF under the name of a JPEG": (".jpg", _as("PDF")),
    "EPS under the name of a PNG": (".png", _as("EPS")),
    "40 zeroed bytes in a PNG": (".png", _rotten),
    "a flipped bit in a PNG": (".png", _flipped),
    "all zeros": (".jpg", lambda data, _: bytes(len(data))),
    "link that leads nowhere": (".jpg", None),
    "pipe": (".png", None),
}
ROT = "40 zeroed bytes in a JPEG"
"""Not among the promised: many such files decode to another picture without a complaint."""
COPIES: dict[str, Callable[[bytes], tuple[bytes, str]]] = {
    "byte-equal": lambda data: (data, ".png" if data[:4] == b"\x89PNG" else ".jpg"),
    "another format, no loss": lambda data: (_encoded(_open(data), "WEBP", lossless=True), ".webp"),
    "JPEG, quality 85": lambda data: (_encoded(_open(data), "JPEG", quality=85), ".jpg"),
    "JPEG, quality 50": lambda data: (_encoded(_open(data), "JPEG", quality=50), ".jpg"),
    "resized to 48": lambda data: (_encoded(_open(data).resize((48, 48)), "JPEG", quality=85), ".jpg"),
    "resized to 96": lambda data: (_encoded(_open(data).resize((96, 96)), "PNG"), ".png"),
    "lighter by 30 %": lambda data: (_encoded(ImageEnhance.Brightness(_open(data)).enhance(1.3), "PNG"), ".png"),
    "gray": lambda data: (_encoded(_open(data).convert("L"), "JPEG", quality=85), ".jpg"),
}


@dataclass(slots=True)
class Planted:
    """What was put into the tree: file names below its root."""

    faults: dict[str, str] = field(default_factory=dict)
    """The kind of each faulty file."""
    rotten: set[str] = field(default_factory=set)
    """Files of the kind `ROT`."""
    copies: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The kind of each copy, and what it is a copy of."""
    num_files: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="cifar10.npz: where the pictures come from")
    parser.add_argument("--images", type=int, default=10_000, help="files in the tree")
    parser.add_argument("--faults", type=int, default=500, help="of these, faulty")
    parser.add_argument("--rotten", type=int, default=50, help="of these, JPEGs with zeroed bytes")
    parser.add_argument("--copies", type=int, default=500, help="of these, copies")
    parser.add_argument("--rounds", type=int, default=3, help="runs of the command, of which the speed is taken")
    parser.add_argument("--seed", type=int, default=0, help="of what is planted where")
    parser.add_argument("--keep", type=Path, help="leave the tree here and write check.html beside it")
    parser.add_argument("--dry", action="store_true", help="leave results/ as they are")
    settings = parser.parse_args()
    where = harness.machine(["numpy", "pillow", "scipy", "simplejpeg"])
    with tempfile.TemporaryDirectory() as scratch:
        root = (settings.keep or Path(scratch)) / "tree"
        planted = _plant(root, settings)
        page = ["--report", str(root.parent / "check.html")] if settings.keep else []
        runs = [_run(root, page if not turn else []) for turn in range(settings.rounds)]
    found, _, peak = runs[0]
    tables = _tables(planted, found)
    speeds = [planted.num_files / seconds for _, seconds, _ in runs]
    speed = harness.Spread.of(speeds)
    tree = f"{planted.num_files:,} files of {SIDE} x {SIDE} pixels, half PNG and half JPEG. Planted: "
    tree += f"{len(planted.faults)} faults, {len(planted.rotten)} rotten JPEGs and {len(planted.copies)} copies."
    took = f"The whole command, from its start to its end, with the search for copies: {speed.text()} files a second "
    took += f"(median and range of {len(runs)} runs); {peak:,.0f} MB of memory at most."
    facts = [tree, took, *tables[1]]
    met = {**tables[2], f"at least {LEAST_SPEED:,} files a second": speed.median >= LEAST_SPEED}
    ends = [f"- {'met' if fine else 'MISSED'}: {what}" for what, fine in met.items()]
    command = harness.command_line("benchmarks.check_data")
    parts = ["# check_data", CLAIM, f"`{command}`", harness.describe(where), *facts, *tables[0], "\n".join(ends)]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if not settings.dry:
        write_text(harness.RESULTS / "check_data.md", text)
        values: dict[str, Any] = {"claim": CLAIM, "command": command, "machine": where, "facts": facts, "met": met}
        write_json(harness.RESULTS / "check_data.json", values | {"files_per_second": speeds, "peak_mb": peak})


def _plant(root: Path, settings: argparse.Namespace) -> Planted:
    """Write the tree: sound pictures of ten classes in two parts, then faults, then copies of sound ones."""
    chance, planted = random.Random(settings.seed), Planted()
    with np.load(settings.data) as archive:
        pictures = archive["x_train"][: settings.images]
    num_sound = settings.images - settings.faults - settings.rotten - settings.copies
    sound: list[tuple[str, bytes]] = []
    kinds = [kind for _, kind in zip(range(settings.faults), _around(FAULTS), strict=False)]
    kinds += [ROT] * settings.rotten
    for number in range(num_sound + len(kinds)):
        kind = kinds[number - num_sound] if number >= num_sound else ""
        suffix, change = FAULTS.get(kind, ((".png", ".jpg")[number % 2], None)) if kind != ROT else (".jpg", _rotten)
        picture = Image.fromarray(pictures[number]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        data = _encoded(picture, "PNG") if suffix == ".png" else _encoded(picture, "JPEG", quality=92)
        name = f"{PARTS[number // 10 % 5 == 0]}/class{number % 10}/{number:05d}{suffix}"
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not kind:
            sound.append((name, data))
        elif kind == ROT:
            planted.rotten.add(name)
        else:
            planted.faults[name] = kind
        if kind == "pipe":
            os.mkfifo(place)
        elif kind == "link that leads nowhere":
            place.symlink_to("gone.jpg")
        else:
            place.write_bytes(data if change is None else change(data, chance))
    originals = chance.sample(sound, settings.copies)
    for number, ((name, data), kind) in enumerate(zip(originals, _around(COPIES), strict=False)):
        changed, suffix = COPIES[kind](data)
        part, label, _ = name.split("/")
        part = PARTS[part == PARTS[0]] if number // len(COPIES) % 2 else part
        other = f"{part}/{label}/copy{number:05d}{suffix}"
        (root / other).write_bytes(changed)
        planted.copies[other] = (kind, name)
    planted.num_files = settings.images
    return planted


def _run(root: Path, more: list[str]) -> tuple[dict[str, Any], float, float]:
    """Run the command; return what it found, its seconds, and the most memory of a process so far in MB."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "halftone", "check-data", str(root), "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    return json.loads(done.stdout), seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _tables(planted: Planted, found: dict[str, Any]) -> tuple[list[str], list[str], dict[str, bool]]:
    """Return tables, sentences, and which promises were kept."""
    named = {entry["name"] for part in found["parts"] for kind in ("unreadable", "suspicious") for entry in part[kind]}
    named |= {entry["name"] for entry in found["left_out"]}
    false = named - planted.faults.keys() - planted.rotten
    per_kind = Counter(planted.faults.values())
    hits = Counter(kind for name, kind in planted.faults.items() if name in named)
    faults = harness.markdown_table(
        ["fault", "planted", "named"], [(kind, str(count), str(hits[kind])) for kind, count in per_kind.items()]
    )
    pairs = {frozenset(pair) for group in found["copies"] for pair in _pairs(group["names"])}
    recall = {kind: [0, 0] for kind in COPIES}
    for name, (kind, original) in planted.copies.items():
        recall[kind][1] += 1
        recall[kind][0] += frozenset((name, original)) in pairs
    rows = [(kind, str(total), str(hit), f"{hit / total:.1%}") for kind, (hit, total) in recall.items() if total]
    copies = harness.markdown_table(["copy", "planted", "found", "recall"], rows)
    truth = {frozenset((name, original)) for name, (_, original) in planted.copies.items()}
    touching = [pair for pair in pairs if pair & set(planted.copies)]
    right = sum(pair in truth for pair in touching)
    before = len(pairs) - len(touching)
    precision = right / max(len(touching), 1)
    changed = [recall[kind] for kind in COPIES if kind not in EQUAL]
    least = sum(hit for hit, _ in changed) / max(sum(total for _, total in changed), 1)
    about_copies = f"Copies: of {len(touching)} pairs with a planted copy in them {right} are planted, a precision "
    about_copies += f"of {precision:.1%}; {before} more pairs lie among the pictures themselves, as CIFAR-10 has them."
    sentences = [
        f"Faults: {sum(hits.values())} of {len(planted.faults)} named, {len(false)} falsely.",
        f"{ROT}: {len(named & planted.rotten)} of {len(planted.rotten)} named. The others decode without a complaint.",
        about_copies,
    ]
    met = {
        "all faults named": sum(hits.values()) == len(planted.faults),
        "none falsely": not false,
        "all copies with equal pixels found": all(recall[kind][0] == recall[kind][1] for kind in EQUAL),
        f"at least {LEAST_RECALL:.0%} of the changed copies found ({least:.1%})": least >= LEAST_RECALL,
        f"a precision of at least {LEAST_PRECISION:.0%}": precision >= LEAST_PRECISION,
    }
    return [faults, copies], sentences, met


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    return [(one, other) for number, one in enumerate(names) for other in names[:number]]


def _around(kinds: dict[str, Any]) -> Any:
    while True:
        yield from kinds


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
