"""The page of a data set: what is broken, what is there twice, what is probably mislabelled, with the pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from halftone.base.errors import UnreadableImage, printable
from halftone.base.files import write_text
from halftone.data.check import PartCheck
from halftone.data.checked import Checked
from halftone.data.copies import Copies, Place, leaked
from halftone.data.examine import examine
from halftone.data.labelled import Labelled
from halftone.report.pictures import inline_jpeg
from halftone.run.label_check import JudgedPart, LabelError

MOST_GROUPS = 24
"""Of each kind of copies and of the labels of each part."""
MOST_FAULTS = 200
_MOST_IN_GROUP = 4
"""Pictures that are shown of equal ones."""
_MOST_CLASSES = 200


class Shown(NamedTuple):
    """A picture with what is said of it."""

    picture: str
    """As a data address; empty if it cannot be read."""
    name: str
    part: str
    label: str


class Group(NamedTuple):
    """Pictures that are copies of each other."""

    images: list[Shown]
    num_more: int
    likeness: str


class Section(NamedTuple):
    """Copies of one kind."""

    title: str
    text: str
    groups: list[Group]
    num_more: int


class Suggestion(NamedTuple):
    """A picture whose label is probably wrong."""

    shown: Shown
    error: LabelError


class Labels(NamedTuple):
    """The labels of one part."""

    part: JudgedPart
    suggestions: list[Suggestion]
    num_more: int


class PartRow(NamedTuple):
    """The numbers of one part."""

    check: PartCheck
    leaked: int
    sizes: str
    kinds: str


class ClassRow(NamedTuple):
    """The images of one class."""

    name: str
    counts: list[tuple[int, float]]
    """Of each part: images, and their share of the part's largest class."""


def write_data_page(checked: Checked, judged: Sequence[JudgedPart], path: Path) -> None:
    """Write the page. It holds its pictures itself.

    Raises:
        ResourceError: it cannot be written.
    """
    faults = [
        (kind, printable(fault.name), fault.reason)
        for check in checked.parts
        for kind, found in (("unreadable", check.faults), ("suspicious", check.suspects))
        for fault in found
    ]
    faults += [("left out", printable(other.name), other.reason) for other in checked.missed]
    remarks = [
        (printable(fault.name), fault.reason)
        for check in checked.parts
        for fault in (*check.renamed, *check.animated)
    ]  # fmt: skip
    classes = _class_rows(checked.parts)
    text = _TEMPLATES.get_template("data.html.j2").render(
        name=printable(checked.name),
        num_images=sum(check.num_images for check in checked.parts),
        num_problems=checked.num_problems,
        rows=[_part_row(check, checked.copies) for check in checked.parts],
        faults=faults[:MOST_FAULTS],
        more_faults=max(0, len(faults) - MOST_FAULTS),
        remarks=remarks[:MOST_FAULTS],
        more_remarks=max(0, len(remarks) - MOST_FAULTS),
        sections=_sections(checked),
        labels=[_labels(part) for part in judged],
        classes=classes[:_MOST_CLASSES],
        more_classes=max(0, len(classes) - _MOST_CLASSES),
        notes=[printable(note) for note in checked.notes],
    )
    write_text(path, text)


_TEMPLATES = Environment(
    loader=PackageLoader("halftone.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def _sections(checked: Checked) -> list[Section]:
    """Return the copies by how bad they are, each group in the first section that it belongs to."""
    sources = {check.part: check.source for check in checked.parts}
    kinds = (
        (
            "In two parts",
            "What is learned in one part is asked in the other: results look too good.",
            checked.leaks,
        ),
        ("Under two labels", "At most one of the labels is right.", checked.contradicting),
        ("There twice", "In one part and under one label. They count double.", checked.harmless),
    )
    return [
        Section(
            title, text, [_group(group, sources) for group in found[:MOST_GROUPS]], max(0, len(found) - MOST_GROUPS)
        )
        for title, text, found in kinds
        if found
    ]


def _group(group: Copies, sources: dict[str, Labelled]) -> Group:
    images = [_shown(place, sources[place.part]) for place in group.images[:_MOST_IN_GROUP]]
    likeness = "equal" if group.kind == "equal" else f"alike: {group.likeness:.2f}"
    return Group(images, max(0, len(group.images) - _MOST_IN_GROUP), likeness)


def _shown(place: Place, source: Labelled) -> Shown:
    try:
        picture = inline_jpeg(examine(source, place.index).pixels)
    except UnreadableImage:  # it could be read a moment ago
        picture = ""
    return Shown(picture, printable(place.name), place.part, printable(place.label))


def _labels(part: JudgedPart) -> Labels:
    suggestions = [
        Suggestion(_shown(Place(part.part, error.index, error.name, error.given), part.images), error)
        for error in part.errors[:MOST_GROUPS]
    ]
    return Labels(part, suggestions, max(0, len(part.errors) - MOST_GROUPS))


def _part_row(check: PartCheck, copies: Sequence[Copies]) -> PartRow:
    kinds = [f"{count:,} {kind}" for kind, count in (*check.kinds.most_common(), *check.modes.most_common())]
    sides = check.sides[check.readable]
    sizes = ""
    if len(sides):
        (low_height, low_width), (high_height, high_width) = sides.min(0).tolist(), sides.max(0).tolist()
        sizes = f"{low_width} to {high_width} x {low_height} to {high_height}"
    return PartRow(check, leaked(copies, check.part), sizes, ", ".join(kinds))


def _class_rows(checks: Sequence[PartCheck]) -> list[ClassRow]:
    counts = [check.per_class for check in checks]
    largest = [max(count.values(), default=0) or 1 for count in counts]
    return [
        ClassRow(
            printable(name),
            [(count.get(name, 0), count.get(name, 0) / most) for count, most in zip(counts, largest, strict=True)],
        )
        for name in counts[0]
    ]
