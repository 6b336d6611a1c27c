"""Findings that are kept between runs."""

import os
from pathlib import Path

import pytest

from halftone.precision.probe import Finding, Measured
from halftone.run.plan import cache

FINDING = Finding(
    mode="bf16",
    layers={"depthwise": "fp32", "features.0.*": "fp16"},
    num_images=32,
    rounds=7,
    seconds=3.25,
    budget=20.0,
    complete=True,
    evidence=(
        Measured(mode="fp32", name="fp32", seconds=(0.1, 0.2), speed=1.0),
        Measured(mode="bf16", name="bf16", seconds=(0.05,), speed=2.0, cosine=0.99, verdict="taken"),
    ),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "halftone" / "precision"


def test_a_finding_makes_the_round_trip(place: Path) -> None:
    assert cache.folder("precision") == place
    assert cache.read("precision", "abc", Finding) is None
    cache.write("precision", "abc", FINDING)
    assert cache.read("precision", "abc", Finding) == FINDING
    assert cache.read("precision", "abd", Finding) is None
    assert [path.name for path in place.iterdir()] == ["abc.json"]


def test_a_new_finding_replaces_the_old(place: Path) -> None:
    cache.write("precision", "abc", FINDING)
    cache.write("precision", "abc", FINDING.replaced(mode="fp32"))
    assert cache.read("precision", "abc", Finding) == FINDING.replaced(mode="fp32")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"mode": "bf16"}', b"\xff\xfe\x00", b"null"])
def test_a_broken_file_is_no_finding_and_is_written_anew(place: Path, content: bytes) -> None:
    cache.write("precision", "abc", FINDING)
    (place / "abc.json").write_bytes(content)
    assert cache.read("precision", "abc", Finding) is None
    cache.write("precision", "abc", FINDING)
    assert cache.read("precision", "abc", Finding) == FINDING


def test_a_file_of_another_version_is_no_finding(place: Path) -> None:
    cache.write("precision", "abc", FINDING)
    text = (place / "abc.json").read_text()
    (place / "abc.json").write_text(text.replace('"rounds"', '"turns"'))
    assert cache.read("precision", "abc", Finding) is None
    (place / "abc.json").write_text(text.replace('"bf16"', '"bf17"'))
    assert cache.read("precision", "abc", Finding) is None


def test_where_nothing_can_be_written_nothing_is_kept_and_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.write("precision", "abc", FINDING)
    assert cache.read("precision", "abc", Finding) is None
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_keeps_nothing(place: Path) -> None:
    place.mkdir(parents=True)
    place.chmod(0o500)
    try:
        cache.write("precision", "abc", FINDING)
        assert cache.read("precision", "abc", Finding) is None
    finally:
        place.chmod(0o700)


def test_without_a_setting_it_is_the_cache_of_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", None):
        monkeypatch.delenv("XDG_CACHE_HOME") if value is None else monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache.folder("precision") == tmp_path / ".cache" / "halftone" / "precision"
