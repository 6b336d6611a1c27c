"""From a folder of JPEGs to batches of random-resized crops: halftone beside the loaders that people write."""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks import harness
from benchmarks.harness import Contestant, Race, Target
from halftone.base.files import read_json, write_json, write_text
from halftone.base.inputs import InputSpec
from halftone.data.cache.kept import kept_side
from halftone.data.cache.open import open_cache
from halftone.data.config import DataConfig
from halftone.data.cut import cut_file, shrink
from halftone.data.fit import Box, fit, middle
from halftone.data.labelled import Labelled
from halftone.data.open import open_source
from halftone.data.order import epoch_order
from halftone.data.streaming import RandomBox, StreamingFeed
from halftone.system.memory import available_bytes, keep_freed_memory
from halftone.system.threads import usable_cores

CLAIM = (
    "Batches of 224-pixel random-resized crops, with as many threads as the rivals have processes, in the first epoch "
    "and from the cache: at least 2.8 and 10 times as many images per second as DataLoader(ImageFolder) with Pillow "
    "from JPEGs of 500x375 pixels, at least 2.1 and 20 times from 1600x1200. The pixels differ from Pillow's, "
    "antialiased, by less than 1.5 of 255 on average."
)
SIZE, BATCH, AREA = 224, 64, (0.08, 1.0)
PILLOW = "ImageFolder, Pillow, ToTensor"
DECODED, FILLING, KEPT = "halftone, no cache", "halftone, filling the cache", "halftone, from the cache"
LIMITS = {(500, 375): (2.8, 10.0), (1600, 1200): (2.1, 20.0)}
"""Times the images per second of `PILLOW`, in the first epoch and from the cache."""
LEAST_SECONDS = 0.5
"""What a turn lasts at least."""
SPEC = InputSpec(size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)
CPU = torch.device("cpu")


def main() -> None:
    settings = _arguments()
    where = harness.machine(["torchvision", "pillow", "simplejpeg"])
    keep_freed_memory()  # as every run does
    torch.set_num_threads(settings.workers)
    photos = sorted((settings.data / "train").rglob("*.jpg"))
    out, races = Console(width=150), []
    pixels: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(dir=settings.scratch) as scratch:
        os.environ["HALFTONE_CACHE"] = str(Path(scratch) / "cache")
        for (width, height), number in zip(LIMITS, settings.images, strict=True):
            folder = _enlarged(photos, Path(scratch) / f"{width}x{height}", width, height, number, settings.quality)
            race = _race(folder, width, height, settings)
            harness.show_race(out, race)
            races.append(race)
            pixels += _differences(f"{width}x{height}", sorted(folder.rglob("*.jpg"))[:100], [SIZE])
    pixels += _differences("photos as they are", photos[::3], [32, 48, 64, 96, 128, 224])
    table = harness.markdown_table(COLUMNS, pixels)
    out.print(table, highlight=False)
    if not settings.dry:
        harness.write_races("loader", CLAIM, races, where, harness.command_line("benchmarks.loader"))
        page, values = harness.RESULTS / "loader.md", harness.RESULTS / "loader.json"
        write_text(page, f"{page.read_text('utf-8')}\n## Pixels\n\n{PIXELS}\n\n{table}\n")
        write_json(values, read_json(values) | {"pixels": [dict(zip(COLUMNS, row, strict=True)) for row in pixels]})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photos with a part train/<class>/")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant, at least 7")
    parser.add_argument("--images", type=int, nargs=2, default=[1280, 256], help="of 500x375, of 1600x1200")
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs that are made")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="threads, and processes of the rivals")
    parser.add_argument("--scratch", type=Path, help="where the images and the cache are made and removed again")
    parser.add_argument("--dry", action="store_true", help="print the tables, but leave results/ as it is")
    return parser.parse_args()


def _enlarged(photos: list[Path], folder: Path, width: int, height: int, number: int, quality: int) -> Path:
    """Enlarge photos to one size, in two classes."""
    for index in track(range(number), description=folder.name, console=Console(stderr=True), transient=True):
        place = folder / f"class{index % 2}" / f"{index:04d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(photos[index * len(photos) // number]) as photo:
            large = photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        large.save(place, quality=quality)
    return folder


def _race(folder: Path, width: int, height: int, settings: argparse.Namespace) -> Race:
    files = list(folder.rglob("*.jpg"))
    first, kept = LIMITS[width, height]
    race = Race(
        title=f"JPEGs of {width}x{height} pixels: time per batch of {BATCH} images",
        reference=PILLOW,
        settings={
            "images": len(files),
            "kilobytes each": round(sum(file.stat().st_size for file in files) / len(files) / 1000),
            "rounds": settings.rounds,
            "workers": settings.workers,
            "crops": f"{AREA[0]:g} to {AREA[1]:g} of the area",
        },
        targets=[
            Target(name, "ratio", 1 / limit) for name, limit in ((DECODED, first), (FILLING, first), (KEPT, kept))
        ],
    )
    with _rivals(folder, settings.workers) as rivals:
        ours = _ours(open_source(DataConfig(source=str(folder))).train, settings.workers)
        turns = [Contestant(name, partial(_turn, measure)) for name, measure in (rivals | ours).items()]
        race.run(turns, rounds=settings.rounds)
    return race


Measure = Callable[[], Sequence[float]]


def _turn(epoch: Measure) -> Sequence[float]:
    """Take whole epochs until they have lasted: some are over so soon that one would say little."""
    start, seconds = time.perf_counter(), list(epoch())
    while time.perf_counter() - start < LEAST_SECONDS:
        seconds += epoch()
    return seconds


@contextmanager
def _rivals(folder: Path, workers: int) -> Iterator[dict[str, Measure]]:
    """Give the rivals' loaders; their processes stay between the turns, so that starting them costs nothing."""
    crop = partial(v2.RandomResizedCrop, SIZE, antialias=True)
    v1 = torchvision.transforms
    plain = ImageFolder(folder, v1.Compose([v1.RandomResizedCrop(SIZE), v1.ToTensor()]))
    small = ImageFolder(folder, v1.Compose([v1.RandomResizedCrop(SIZE), v1.PILToTensor()]))
    tensors = ImageFolder(folder, crop(), loader=_read_tensor)
    sets = {PILLOW: plain, "ImageFolder, Pillow, uint8": small, "ImageFolder, torchvision's decoder and v2": tensors}
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": True, "shuffle": True}
    loaders = {name: DataLoader(part, BATCH, **options) for name, part in sets.items()}
    yield {name: partial(_epoch, loader) for name, loader in loaders.items()}


def _read_tensor(path: str) -> torch.Tensor:
    mode = torchvision.io.ImageReadMode.RGB
    return torchvision.io.decode_jpeg(torchvision.io.read_file(path), mode=mode)


def _ours(source: Labelled, workers: int) -> dict[str, Measure]:
    epochs = count()
    box = RandomBox(AREA, seed=0)
    open_ = partial(open_cache, "disk", spec=SPEC, area=AREA, free_memory=available_bytes(CPU))
    filled = StreamingFeed(source, SPEC, CPU, workers=workers, box=box, kept=open_(source=source))

    def epoch(feed: StreamingFeed) -> Sequence[float]:
        number = next(epochs)
        order = epoch_order(len(source.labels), seed=0, epoch=number)
        return _epoch(feed.batches(order, BATCH, epoch=number))

    def filling() -> Sequence[float]:
        with _other_cache():
            return epoch(StreamingFeed(source, SPEC, CPU, workers=workers, box=box, kept=open_(source=source)))

    epoch(filled)
    return {
        DECODED: partial(epoch, StreamingFeed(source, SPEC, CPU, workers=workers, box=box)),
        FILLING: filling,
        KEPT: partial(epoch, filled),
    }


@contextmanager
def _other_cache() -> Iterator[None]:
    """Let a cache begin empty, and remove it."""
    place = os.environ["HALFTONE_CACHE"]
    with tempfile.TemporaryDirectory(dir=Path(place).parent) as empty:
        os.environ["HALFTONE_CACHE"] = empty
        try:
            yield
        finally:
            os.environ["HALFTONE_CACHE"] = place


def _epoch(batches: Any) -> Sequence[float]:
    """Take all batches and return the seconds per `BATCH` images."""
    start, num_images = time.perf_counter(), 0
    for batch in batches:
        num_images += len(batch[0]) if isinstance(batch, list) else len(batch.images)
    return [(time.perf_counter() - start) * BATCH / num_images]


COLUMNS = ("pictures", "to", "images", "middle", "random crop", "random crop, kept")
PIXELS = (
    "Mean absolute difference of 255 from Pillow, which decodes in full, cuts the box out and resizes it with its "
    "antialiased bilinear filter: the mean over the images (the largest of one image). The box that evaluation sees; a "
    "random one of 0.35 to 1 of the area; and one of the picture as it is kept, beside the same part of the original."
)


def _differences(title: str, files: list[Path], sizes: list[int]) -> Iterator[tuple[str, ...]]:
    for size in sizes:
        spec, found = SPEC.replaced(size=size), np.zeros((3, len(files)))
        for row, file in enumerate(files):
            found[:, row] = _difference(file, spec, RandomBox((0.35, 1.0), seed=row))
        told = (f"{values.mean():.2f} ({values.max():.2f})" for values in found)
        yield title, str(size), str(len(files)), *told


def _difference(file: Path, spec: InputSpec, random: RandomBox) -> list[float]:
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = picture.size
    draw = partial(random.draw, epoch=0, position=0)
    source = open_source(DataConfig(source="given"), ([np.asarray(picture)], [0]), least_classes=1).train
    kept = shrink(source, 0, spec, kept_side(spec.size, random.area))
    of_kept = draw(*kept.shape[:2])
    down, right = height / kept.shape[0], width / kept.shape[1]
    of_file = Box(of_kept.left * right, of_kept.top * down, of_kept.right * right, of_kept.bottom * down)
    pairs = [
        (cut_file(data, spec), middle(height, width, spec)),
        (cut_file(data, spec, draw), draw(height, width)),
        (fit(kept, spec, of_kept), of_file),
    ]
    return [float(np.abs(seen.astype(int) - _pillow(picture, spec.size, box)).mean()) for seen, box in pairs]


def _pillow(picture: Image.Image, size: int, box: Box) -> np.ndarray[Any, Any]:
    edges = (box.left, box.top, min(box.right, picture.width), min(box.bottom, picture.height))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=edges))


if __name__ == "__main__":
    main()
