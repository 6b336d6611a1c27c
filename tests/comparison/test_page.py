"""The page and the pictures of a comparison: whole, safe, and right about the numbers, also for odd comparisons."""

import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from comparison.examples import comparison as put_together
from comparison.examples import diverged, finished, four_variants, many_variants, two_variants
from halftone.comparison.pages.class_figures import class_effects, drawn_classes
from halftone.comparison.pages.figures import differences, timelines, write_figures
from halftone.comparison.pages.looks import COLOURS, lay, looks, shortened
from halftone.comparison.pages.page import write_page
from halftone.comparison.pages.summary import ended, summarised
from halftone.comparison.records import Comparison, Variant

HOSTILE = '<script>alert(1)</script>$a_$&"'


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
        self.sources += [value or "" for name, value in attrs if name in names or name.startswith("on")]


def page_of(comparison: Comparison, folder: Path) -> str:
    return write_page(comparison, folder).read_text("utf-8")


@pytest.fixture(scope="module")
def four() -> Comparison:
    return four_variants()


@pytest.fixture(scope="module")
def page(four: Comparison, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(four, tmp_path_factory.mktemp("page"))


def test_the_page_holds_everything_itself(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert all(source.startswith(("data:", "#")) for source in outline.sources)
    assert "script" not in outline.tags
    assert "@import" not in page
    assert "url(" not in re.sub(r"url\(#", "", page)


def test_it_tells_every_verdict_method_note_fault_and_the_command(four: Comparison, page: str) -> None:
    verdicts, rest = unescape(page).split("<h2>", 1)
    for verdict in four.verdicts:
        assert verdict.sentence in verdicts
        assert all(method in rest for method in verdict.methods)
    faults = [run.fault for run in four.outcomes if run.fault]
    assert len(faults) == 1
    for text in (*four.notes, *faults, four.command, *four.environment.values()):
        assert text in rest


def test_the_pictures_are_there_with_how_to_read_them(page: str) -> None:
    for title in ("Difference of accuracy", "Validation accuracy, %", "Validation loss, nats", "Accuracy, %, over time",
                  "Accuracy, %, over memory", "Difference of recall", "Difference of precision",
                  "Learning rate at the end of an epoch", "Loss scale at the end of an epoch"):  # fmt: skip
        assert f">{title}</text>" in page
    for part in re.split("<h2>", page)[1:]:
        if "</svg></div>" in part:
            assert '<p class="soft">' in part.split("<svg", 1)[0]


def test_means_ranges_and_what_became_of_runs(four: Comparison) -> None:
    rows = {row.name: row for row in summarised(four).rows}
    for number, variant in enumerate(four.variants):
        found = [100 * run.metrics.accuracy for run in four.outcomes if run.variant == variant.name and run.metrics]
        cell = rows["accuracy, %"].cells[number]
        assert cell.text == f"{fmean(found):.2f}"
        assert cell.spread == f"{min(found):.2f} to {max(found):.2f}"
    assert ended(four, four.variants[0].name) == "5 of 5"
    assert ended(four, four.variants[2].name) == "4 of 5, 1 diverged"
    assert summarised(four).unknown == ("accelerator memory, MB", "energy, J")


def test_the_best_is_marked_and_what_reaches_it_but_not_noise(four: Comparison) -> None:
    rows = {row.name: [cell.best for cell in row.cells] for row in summarised(four).rows}
    assert rows["accuracy, %"] == [False, True, False, False]
    assert rows["loss, nats"] == [False, True, False, True]
    assert not any(rows["process memory, MB"])
    assert rows["training time, s"] == [False, False, True, True]
    assert rows["skipped steps"] == [True, True, False, False]
    alone = summarised(two_variants(seeds=1))
    assert [cell.best for row in alone.rows if row.name == "training time, s" for cell in row.cells] == [False, True]


def test_class_effects_are_paired_differences_in_points() -> None:
    comparison = two_variants(seeds=3, num_classes=20)
    verdict = comparison.verdicts[0]
    runs = {(run.variant, run.seed): run.metrics for run in comparison.outcomes}
    found = class_effects(comparison, verdict, "recall")["class 7"]
    for seed in range(3):
        ours, theirs = runs[verdict.variant, seed], runs[verdict.baseline, seed]
        assert ours is not None
        assert theirs is not None
        assert found[seed] == pytest.approx(100 * (ours.classes[7].recall - theirs.classes[7].recall))  # type: ignore[operator]
    drawn = drawn_classes(comparison, verdict)
    assert len(drawn) == 15
    means = [fmean(class_effects(comparison, verdict, "recall")[name]) for name in drawn]
    assert means == sorted(means)


def test_courses_are_drawn_only_where_they_tell_something() -> None:
    assert [draw.__name__ for draw in timelines(four_variants(seeds=1))] == ["rates", "loss_scales"]
    assert timelines(two_variants(seeds=1)) == []


def test_a_run_with_a_report_is_linked(tmp_path: Path) -> None:
    comparison = two_variants(seeds=1)
    folder = tmp_path / comparison.outcomes[0].folder
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("")
    links = [link for link in re.findall(r'href="([^"]*)"', page_of(comparison, tmp_path)) if link.startswith("./")]
    assert links == ["./runs/precision%3Dfp32%2Cseed%3D0/report.html"]


def all_diverged() -> Comparison:
    variants = (Variant(name="lr=0.1", changes={"lr": "0.1"}), Variant(name="lr=9", changes={"lr": "9"}))
    runs = [diverged(variant, seed, epochs=4 * (1 - seed)) for variant in variants for seed in range(2)]
    return put_together(variants, runs)


def no_metrics() -> Comparison:
    comparison = two_variants(seeds=2)
    runs = [run.replaced(metrics=None, epochs=(), train_seconds=None) for run in comparison.outcomes]
    return put_together(comparison.variants, runs)


def failed_baseline() -> Comparison:
    comparison = two_variants(seeds=2)
    first = comparison.variants[0].name
    runs = [
        run.replaced(status="failed", fault="out of memory", metrics=None) if run.variant == first else run
        for run in comparison.outcomes
    ]
    return put_together(comparison.variants, runs)


def hostile() -> Comparison:
    variants = tuple(
        Variant(name=f"_{HOSTILE}{word * 40}", changes={"precision": HOSTILE + word}) for word in ("ab", "cd")
    )
    runs = [finished(variant, seed, skill=5, speed=1, num_classes=3) for seed in range(2) for variant in variants]
    renamed = []
    for run in runs:
        assert run.metrics is not None
        classes = tuple(one.replaced(name=f"{HOSTILE}{one.name}") for one in run.metrics.classes)
        renamed.append(
            run.replaced(metrics=run.metrics.replaced(classes=classes), fault=HOSTILE, settled={"lr": HOSTILE})
        )
    made = put_together(variants, renamed)
    return made.replaced(name=HOSTILE, command=HOSTILE, notes=(HOSTILE,), environment={HOSTILE: HOSTILE})


ODD: list[Callable[[], Comparison]] = [
    all_diverged,
    no_metrics,
    failed_baseline,
    hostile,
    lambda: two_variants(seeds=1),
    lambda: many_variants(12, seeds=2, num_classes=3),
    lambda: two_variants(seeds=2, num_classes=100),
]


@pytest.mark.parametrize("make", ODD, ids=["diverged", "no metrics", "no baseline", "hostile", "one seed", "12", "100"])
def test_odd_comparisons_have_pages_and_pictures(make: Callable[[], Comparison], tmp_path: Path) -> None:
    comparison = make()
    text = page_of(comparison, tmp_path)
    outline = Outline()
    outline.feed(text)
    assert "script" not in outline.tags
    assert outline.tags.count("svg") == text.count("</svg>") > 4
    assert all(source.startswith(("data:", "#")) for source in outline.sources)
    assert not re.search(r">\s*(nan|None|inf)\b", text)
    for path in write_figures(comparison, tmp_path):
        with Image.open(path) as picture:
            assert round(picture.info["dpi"][0]) == 200
            assert np.asarray(picture.convert("L")).min() < 100


def test_pictures_for_a_paper_show_something_on_white(four: Comparison, tmp_path: Path) -> None:
    paths = write_figures(four, tmp_path)
    assert [path.name for path in paths] == ["differences.png", "curves.png", "trade_offs.png", "classes.png"]
    for path in paths:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"))
        assert min(pixels.shape) > 300
        assert pixels[0, 0] == 255
        assert 0.01 < (pixels < 200).mean() < 0.5


def test_one_huge_difference_does_not_press_the_others_flat() -> None:
    variants = tuple(Variant(name=f"lr={rate}", changes={"lr": rate}) for rate in ("0.1", "0.2", "9"))
    skills = (5.2, 5.2, 0.0)
    runs = [
        finished(variant, seed, skill=skill, speed=1, num_classes=3)
        for seed in range(3)
        for variant, skill in zip(variants, skills, strict=True)
    ]
    _, (axes,) = lay(1, (4.8, 3))
    differences(axes, put_together(variants, runs))
    assert axes.get_xscale() == "symlog"
    assert "logarithmic beyond" in axes.get_xlabel()
    _, (axes,) = lay(1, (4.8, 3))
    differences(axes, two_variants(seeds=3))
    assert axes.get_xscale() == "linear"


def test_variants_look_different_and_can_be_seen_in_both_themes() -> None:
    found = list(looks(many_variants(12, seeds=1)).values())
    assert len({(look.colour, look.dash, look.mark) for look in found}) == 12
    assert len({(look.colour, look.dash) for look in found}) == 12
    for colour in COLOURS:
        assert contrast(colour, "#ffffff") >= 3
        assert contrast(colour, "#1c2229") >= 3


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, relative luminance."""
    lights = []
    for colour in (one, other):
        channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lights) / min(lights)


def test_long_names_keep_both_ends() -> None:
    assert shortened("short") == "short"
    assert shortened("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"
