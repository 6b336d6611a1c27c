"""The schedule drawn before a run, in characters and as a picture."""

from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from halftone.report.figures import to_png
from halftone.report.schedule_figure import schedule_chart, schedule_figure
from halftone.run.plan.make import make_plan
from halftone.run.plan.preview import warmup_in_words
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from samples import stripes


def plan(**settings: Any) -> Plan:
    values: dict[str, Any] = {"batch_size": 8, "epochs": 10, "lr": 0.2, "model": "cifar_resnet8", "precision": "fp32"}
    pictures = stripes(96, size=8), stripes(9, size=8, seed=3)
    return make_plan(Recipe(**{**values, "device": "cpu", "threads": 1, **settings}), data=pictures).plan


def test_the_chart_has_rates_epochs_and_the_end_of_the_warmup() -> None:
    lines = schedule_chart(plan(warmup="50%", decay="linear")).splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("0.2 ┤")
    assert lines[4].startswith("0.1 ┤")
    assert lines[8].startswith("  0 └")
    assert lines[8].index("┴") - lines[8].index("└") - 1 == 30
    assert lines[9].split() == ["0", "5", "10", "epochs"]
    assert lines[10].index("↑") == lines[8].index("┴")
    assert all(len(line) <= 66 for line in lines)
    peak = [at - 5 for at, cell in enumerate(lines[0]) if cell in "▁▂▃▄▅▆▇█"]  # behind "0.2 ┤"
    assert 24 <= min(peak) < 30 < max(peak) <= 36
    assert lines[7].count("█") > lines[3].count("█") > lines[0].count("█")


def test_a_constant_rate_fills_the_chart() -> None:
    lines = schedule_chart(plan(warmup="none", decay="constant")).splitlines()
    assert all(line.endswith("█" * 60) for line in lines[:8])
    assert "┴" not in lines[8]
    assert len(lines) == 10


def test_a_late_warmup_is_named_within_the_width() -> None:
    lines = schedule_chart(plan(warmup="90%")).splitlines()
    assert lines[10].endswith("end of warmup ↑")
    assert lines[10].index("↑") == lines[8].index("┴")


@pytest.mark.parametrize("settings", [{}, {"decay": "one-cycle"}, {"warmup": "none"}, {"max_steps": 1}])
def test_the_picture_is_drawn(settings: dict[str, Any]) -> None:
    figure = schedule_figure(plan(**settings))
    labels = {axes.get_ylabel() for axes in figure.axes}
    assert ("momentum" in labels) == (settings.get("decay") == "one-cycle")
    assert "learning rate" in labels
    assert Image.open(BytesIO(to_png(figure))).size[0] > 600


def test_the_warmup_in_every_unit() -> None:
    said = warmup_in_words(plan(warmup="25%"))
    assert said == "25% = 30 steps = 2.5 epochs = 240 images, linear from 0.01 of the peak"
    assert warmup_in_words(plan(warmup="30it")).startswith("30 steps = 2.5 epochs")
    assert warmup_in_words(plan()).endswith("adaptive from 0.01 of the peak; it may end sooner or later")
    assert warmup_in_words(plan(warmup="none")) == "none"
    accumulated = warmup_in_words(plan(warmup="25%", accumulate=2))
    assert accumulated == said  # a step is an update, however many parts its batch has
