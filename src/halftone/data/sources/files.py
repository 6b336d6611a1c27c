"""Image files with labels, and which files of a tree count as images."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halftone.data.decode import MAX_PIXELS, decode_file, look_at_file, read_file
from halftone.data.labelled import Encoded, Labels, LeftOut, Look, Pixels

EXTENSIONS = (
    dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG")
    | {".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".gif": "GIF", ".bmp": "BMP", ".dib": "BMP"}
    | {".tif": "TIFF", ".tiff": "TIFF"}
    | dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM")
)
"""How image files are called, and the format that they then have."""
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "__pycache__"})
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class FileImages:
    """A labelled source over image files."""

    root: Path
    paths: tuple[str, ...]
    """Relative to the root, so that moving the set changes nothing."""
    labels: Labels
    classes: tuple[str, ...]
    max_pixels: int = MAX_PIXELS

    @property
    def array(self) -> None:
        """Files are not in memory."""
        return None

    def path(self, index: int) -> Path:
        """Return where one image lies."""
        return self.root / self.paths[index]

    def pixels(self, index: int) -> Pixels:
        """Decode one file."""
        return decode_file(self.path(index), max_pixels=self.max_pixels)

    def encoded(self, index: int) -> Encoded:
        """Return one file as it lies on disk, and the largest picture that is taken."""
        return Encoded(self.content(index), self.max_pixels)

    def look(self, index: int) -> Look:
        """Read one file's header."""
        return look_at_file(self.path(index), max_pixels=self.max_pixels)

    def content(self, index: int) -> bytes:
        """Return one file as it lies on disk."""
        return read_file(self.path(index))

    def name(self, index: int) -> str:
        """Name one image by its path below the root."""
        return self.paths[index]


def walk(folder: Path, left_out: list[LeftOut] | None = None) -> Iterator[str]:
    """Yield the files below a folder that may be images, as sorted paths relative to it.

    Hidden and system files are left out, and so is what is not a regular file (a pipe would block the
    reader). Links are followed, but not to a folder that was seen already or that holds this one: a link back to
    the root would bring the images of every other class.

    Args:
        folder: to look in.
        left_out: what is not a regular file is added here.

    Raises:
        OSError: a folder cannot be read.
    """
    real = os.path.realpath(folder)
    seen = {real, *map(str, Path(real).parents)}
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(folder / below) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        folders = []
        for entry in found:
            relative = f"{below}/{entry.name}" if below else entry.name
            if is_hidden(entry.name):
                continue
            kind = kind_of(entry)
            if kind == "folder":
                real = os.path.realpath(entry.path)
                if real not in seen:
                    seen.add(real)
                    folders.append(relative)
            elif kind == "file":
                yield relative
            elif left_out is not None:
                left_out.append(LeftOut(relative, _strange(entry), _named_as_image(entry.name)))
        pending += reversed(folders)


def kind_of(entry: os.DirEntry[str]) -> Literal["folder", "file", "other"]:
    """Say what an entry of a folder is, where it leads if it is a link; a link to itself is something other."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError:
        return "other"


def expected_kind(name: str, otherwise: str) -> str:
    """Return the format that a file's name claims, or another value if it claims none."""
    return EXTENSIONS.get(Path(name).suffix.lower(), otherwise)


def _strange(entry: os.DirEntry[str]) -> str:
    """Say why an entry is neither a file nor a folder."""
    if entry.is_symlink() and not Path(entry.path).exists():
        return f"a link to {Path(entry.path).readlink()}, which is not there"
    return "not a regular file"


def _named_as_image(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder belongs to the system rather than to the data."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS or name.lower() in _SYSTEM_FILES


def looks_like_image(path: Path) -> bool:
    """Tell by its extension, or else by its first bytes, whether a file is meant to be an image."""
    if _named_as_image(path.name):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    known = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
    return start.startswith(known) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or start[4:12] == b"ftypavif"
