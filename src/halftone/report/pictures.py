"""Pictures for people: a batch as the network sees it, and the worst mistakes."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from halftone.base.errors import UnreadableImage
from halftone.base.inputs import InputSpec
from halftone.base.tables import read_table
from halftone.data.cut import cut
from halftone.data.labelled import Labelled, Pixels
from halftone.report.figures import panels, to_png

MOST_MISTAKES = 24
_SIDE = 128


@dataclass(frozen=True, slots=True)
class Mistake:
    """A validation image that the best weights got wrong."""

    index: int
    name: str
    true: str
    predicted: str
    confidence: float


def worst_mistakes(predictions: Path) -> list[Mistake]:
    """Return the images that were got wrong with the highest loss, worst first."""
    wrong = [row for row in read_table(predictions) if row["label"] != row["predicted"]]
    wrong.sort(key=lambda row: -float(row["loss"]))
    return [
        Mistake(int(row["index"]), row["name"], row["label"], row["predicted"], float(row["confidence"]))
        for row in wrong[:MOST_MISTAKES]
    ]


def grid(pictures: list[Pixels], captions: list[str], *, title: str) -> bytes:
    """Draw pictures [height, width, channels] side by side with captions, as JPEG."""
    columns = min(8, max(1, len(pictures)))
    rows = -(-len(pictures) // columns)
    figure, (place,) = panels(1, size=(max(5.0, 1.35 * columns), 1.6 * rows + 0.3))
    place.remove()
    figure.suptitle(title, fontsize=10, fontweight="bold", ha="left", x=0.01)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(_rgb(picture), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(caption, fontsize=7, loc="center", fontweight="normal")
    with Image.open(io.BytesIO(to_png(figure))) as drawn:
        out = io.BytesIO()
        drawn.convert("RGB").save(out, "JPEG", quality=88)
    return out.getvalue()


def thumbnails(source: Labelled, mistakes: list[Mistake], spec: InputSpec) -> dict[int, Pixels]:
    """Read the pictures of mistakes as the network sees them, by their index; unreadable ones are left out."""
    found = {}
    for mistake in mistakes:
        try:
            found[mistake.index] = cut(source, mistake.index, spec)
        except UnreadableImage:
            continue
    return found


def inline_jpeg(pixels: Pixels) -> str:
    """Return a small picture as a data address for a page."""
    picture = Image.fromarray(_rgb(pixels))
    scale = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _rgb(pixels: Pixels) -> Pixels:
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
