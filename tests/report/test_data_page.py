"""The page of a data set, as a browser would read it."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from halftone.base.errors import ResourceError
from halftone.data.check import check_part
from halftone.data.checked import Checked
from halftone.data.config import DataConfig
from halftone.data.copies import find_copies
from halftone.data.open import open_source
from halftone.report import data_page
from halftone.report.data_page import write_data_page
from halftone.run.label_check import JudgedPart, LabelError
from pictures import encoded, noise, write

EVIL = '<script>alert("x")</script>'


class Reader(HTMLParser):
    """Collects the pictures, the tags and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(root: Path) -> Checked:
    parts = open_source(DataConfig(source=str(root)))
    sources = [("train", parts.train), *([("validation", parts.validation)] if parts.validation else [])]
    checks = [list(check_part(name, part, workers=1))[-1] for name, part in sources]
    return Checked(str(root), checks, find_copies(checks), parts.left_out, parts.notes)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    one, two, three = (noise(12, 9, seed=seed) for seed in range(3))
    root = tmp_path / "set"
    write(root / f"train/a/{EVIL.replace('/', '')}.png", one)
    write(root / "train/<b>b/2.png", two)
    write(root / "val/a/again.png", one)
    write(root / "val/<b>b/3.png", noise(12, 9, seed=8))
    write(root / "train/a/twice.png", three)
    write(root / "train/<b>b/thrice.bmp", encoded(three, "BMP"))
    write(root / "train/a/cut.png", encoded(noise(20, 20))[:200])
    write(root / "train/a/named.jpg", noise(7, 7))
    (root / "train/a/gone.png").symlink_to("nowhere")
    return root


def test_the_page_holds_pictures_names_and_faults(tree: Path, tmp_path: Path) -> None:
    found = checked(tree)
    source = found.parts[1].source
    index = [source.name(number) for number in range(2)].index("val/<b>b/3.png")
    error = LabelError(index, "val/<b>b/3.png", "<b>b", 0.012, "a", 0.957)
    judged = JudgedPart("validation", source, "no", 2, 0.5, (error,))
    write_data_page(found, [judged], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    page = Reader(text)
    assert {"script", "b"} & page.tags <= {"b"}
    assert EVIL.replace("/", "") in page.text  # as text, not as a tag
    for words in ("4 problems", "train/a/cut.png", "a link to nowhere, which is not there", "In two parts",
                  "Under two labels", "it is PNG, not JPEG", "rather a 95.7", "given <b>b 1.2"):  # fmt: skip
        assert words in " ".join(page.text.split()), words
    assert len(page.pictures) == 2 + 2 + 1  # a pair in two parts, a pair under two labels, a label
    for picture in page.pictures:
        head, _, body = picture.partition(",")
        assert head == "data:image/jpeg;base64"
        assert max(Image.open(io.BytesIO(base64.b64decode(body))).size) == 128
    assert not re.search(r"(src|href)=\"(?!data:)", text)  # nothing is fetched from anywhere


def test_the_page_of_a_sound_set(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"set/{'ab'[number % 2]}/{number}.png", noise(9, 9, seed=number))
    write_data_page(checked(tmp_path / "set"), [], tmp_path / "page.html")
    page = Reader((tmp_path / "page.html").read_text("utf-8"))
    assert "no problems" in page.text
    assert page.pictures == []


def test_the_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_page, "MOST_GROUPS", 3)
    monkeypatch.setattr(data_page, "MOST_FAULTS", 2)
    for number in range(5):
        picture = noise(9, 9, seed=number)
        for part in ("train/a", "val/a", "train/b"):
            write(tmp_path / f"set/{part}/{number}.png", picture)
        write(tmp_path / f"set/train/b/{number}.jpg", b"text")
    write_data_page(checked(tmp_path / "set"), [], tmp_path / "page.html")
    page = Reader((tmp_path / "page.html").read_text("utf-8"))
    assert len(page.pictures) == 3 * 3
    assert "And 2 more groups" in page.text
    assert "And 3 more broken files" in page.text


def test_a_page_that_cannot_be_written(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot write"):
        write_data_page(checked(tree), [], tmp_path / "nowhere" / "page.html")


def test_a_picture_that_is_gone_meanwhile(tree: Path, tmp_path: Path) -> None:
    found = checked(tree)
    (tree / "val/a/again.png").unlink()
    write_data_page(found, [], tmp_path / "page.html")
    page = Reader((tmp_path / "page.html").read_text("utf-8"))
    assert "cannot be read" in page.text
    assert len(page.pictures) == 3
