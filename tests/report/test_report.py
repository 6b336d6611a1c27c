"""Figures and the page of a real, tiny run, and what they make of odd ones."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halftone.base.errors import ModelFileError
from halftone.metrics.report import Metrics
from halftone.report import figures
from halftone.report.history import Column, History, read_history
from halftone.report.listener import write_report
from halftone.report.page import write_overview, write_page
from halftone.report.pictures import worst_mistakes
from halftone.run.folder import RunFolder
from halftone.run.recipe import Recipe
from halftone.verbs import train
from samples import write_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("report")
    data = write_folder(root / "set", classes=4)
    for part in ("train", "val"):  # a class name that would be markup, if the page let it
        (data / part / "other").rename(data / part / "<b>&other")
    recipe = Recipe(
        data=str(data),
        epochs=2,
        batch_size=16,
        model="cifar_resnet8",
        precision="fp32",
        threads=1,
        lr=0.02,
        run={"root": root / "runs", "tensorboard": False},
    )
    return RunFolder(train(recipe).path)


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_holds_everything_itself(run: RunFolder) -> None:
    text = run.report.read_text("utf-8")
    outline = Outline()
    outline.feed(text)
    assert all(source.startswith("data:") for source in outline.sources)
    assert outline.tags.count("svg") == 4  # losses, accuracies, rate, gradient norm
    assert "script" not in outline.tags
    assert "@import" not in text and "url(" not in re.sub(r"url\(#", "", text)


def test_D28_names_from_disk_are_escaped(run: RunFolder) -> None:
    text = run.report.read_text("utf-8")
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;other" in text


SHOWN = {"name": "a", "true": "x", "predicted": "y", "confidence": 0.5, "picture": "data:image/jpeg;base64,AA=="}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mistakes.json", "{"),
        ("mistakes.json", "{}"),
        ("mistakes.json", "[1]"),
        ("mistakes.json", "[{}]"),
        ("mistakes.json", "[" * 100_000),
        ("mistakes.json", json.dumps([{**SHOWN, "picture": "https://elsewhere.example/pixel.png"}])),
        ("mistakes.json", json.dumps([{**SHOWN, "picture": "javascript:alert(1)"}])),
        ("mistakes.json", json.dumps([{**SHOWN, "confidence": "<script>"}])),
        ("classification_report.json", '{"epoch": "<b>"}'),
        ("classification_report.json", "[]"),
        ("train_report.json", '{"accuracy": "much"}'),
        ("results.csv", "epoch,val_loss\n1,<script>\n"),
        ("steps.csv", "step,loss\n1,__import__('os')\n"),
        ("environment.json", "{"),
    ],
)
def test_D28_tampered_files_beside_the_weights_are_named(run: RunFolder, tmp_path: Path, name: str, text: str) -> None:
    folder = RunFolder(Path(shutil.copytree(run.path, tmp_path / "run")))
    page = folder.report.read_bytes()
    (folder.path / name).write_text(text)
    with pytest.raises(ModelFileError) as caught:
        write_page(read_history(folder))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert folder.report.read_bytes() == page


def test_D28_names_in_tampered_files_are_escaped(run: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(run.path, tmp_path / "run")))
    evil = '<script>alert(1)</script>" onerror="alert(2)'
    (folder.path / "mistakes.json").write_text(json.dumps([{**SHOWN, "name": evil, "true": evil, "predicted": evil}]))
    outline = Outline()
    write_page(read_history(folder))
    outline.feed(folder.report.read_text("utf-8"))
    assert "script" not in outline.tags
    assert all(source.startswith("data:") for source in outline.sources)


def test_the_numbers_on_the_page_are_those_of_the_report(run: RunFolder) -> None:
    text, found = run.report.read_text("utf-8"), json.loads(run.classification_report.read_text())
    assert f"{100 * found['accuracy']:.2f} %" in text
    rows = re.findall(r'<td class="value">([^<]*)</td><td class="n">(\d+)</td><td class="n">(\d+)</td>', text)
    assert [(int(support), int(predicted)) for _, support, predicted in rows] == [
        (row["support"], row["predicted"]) for row in found["classes"]
    ]
    for choice in read_history(run).plan.choices:
        assert choice.setting in text


@pytest.mark.parametrize("name", ["results.png", "lr.png", "precision.png", "confusion_matrix.png", "train_batch.jpg"])
def test_pictures_show_something(run: RunFolder, name: str) -> None:
    with Image.open(run.path / name) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert min(pixels.shape) > 100
    assert 0.001 < (pixels < 200).mean() < 0.9


def test_mistakes_are_the_costliest_first(run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(
        "index,name,label,predicted,confidence,loss\n0,a,x,x,0.9,0.1\n1,b,x,y,0.6,1.5\n2,c,y,x,0.9,2.5\n3,d,y,x,0.5,0.7\n"
    )
    assert [mistake.name for mistake in worst_mistakes(path)] == ["c", "b", "d"]
    shown = json.loads((run.path / "mistakes.json").read_text())
    assert len(shown) == len(worst_mistakes(run.predictions))


def test_a_report_is_drawn_again_without_the_images(run: RunFolder) -> None:
    before = run.report.read_text("utf-8")
    write_report(run)
    assert run.report.read_text("utf-8") == before


def curve(history: History, losses: list[float]) -> History:
    falling: Column = [1 / (epoch + 1) for epoch in range(len(losses))]
    return replace(history, epochs={**history.epochs, "train_loss": falling, "val_loss": list(losses)})


def test_the_page_has_the_verdict_that_the_run_ended_with(run: RunFolder) -> None:
    history, found = read_history(run), json.loads(run.train_report.read_text())
    assert history.training is not None
    assert history.training.num_images == history.metrics.num_images == 18  # type: ignore[union-attr]
    assert found.pop("verdict") == history.verdict.model_dump(mode="json")
    assert history.verdict.sentence in run.report.read_text("utf-8")
    assert history.training == Metrics.parse(found)


def test_the_verdict_follows_the_loss_where_training_images_were_not_measured(run: RunFolder) -> None:
    history = replace(read_history(run), training=None)
    assert curve(history, [1.0, 0.5, 0.6, 0.7, 0.8]).verdict.kind == "over-fits"
    assert curve(history, [1.0, 0.8, 0.6, 0.5]).verdict.kind == "under-fits"
    assert replace(history, metrics=None).verdict.sentence.endswith("no epoch was completed with usable metrics.")


def test_a_class_whose_gap_stands_out_is_bold(run: RunFolder, tmp_path: Path) -> None:
    history = read_history(run)
    assert history.metrics is not None

    def recalls(*found: float) -> Metrics:
        assert history.metrics is not None
        pairs = zip(history.metrics.classes, found, strict=True)
        classes = tuple(one.replaced(support=1000, recall=recall) for one, recall in pairs)
        return history.metrics.replaced(num_images=4000, accuracy=sum(found) / 4, classes=classes)

    odd = replace(history, training=recalls(0.99, 0.99, 0.98, 0.99), metrics=recalls(0.95, 0.55, 0.94, 0.96))
    (tmp_path / "run").mkdir()
    write_page(replace(odd, folder=RunFolder(tmp_path / "run")))
    text = (tmp_path / "run/report.html").read_text("utf-8")
    assert re.findall(r"<strong>([^<]*)</strong>", text) == ["44.0"]
    write_page(replace(odd, training=None, folder=RunFolder(tmp_path / "run")))
    assert "gap, points" not in (tmp_path / "run/report.html").read_text("utf-8")


def test_decisions_of_an_adaptive_warmup_are_marked(run: RunFolder) -> None:
    tried = read_history(run).steps["tried"]
    rows = [
        {"tried": str(int(tried[step] or 0)), "step": "1", "action": action, "share": "0.5", "reason": "a spike"}
        for step, action in ((1, "backed off"), (2, "finished"))
    ]
    history = replace(read_history(run), decisions=rows)
    drawn = figures.to_svg(figures.side_by_side(history, figures.rate))
    assert ">backed off</text>" in drawn and ">finished</text>" in drawn
    plain = figures.to_svg(figures.side_by_side(replace(history, decisions=[]), figures.rate))
    assert ">finished</text>" not in plain and ">backed off</text>" not in plain


def test_the_loss_scale_is_drawn_where_there_was_one(run: RunFolder) -> None:
    history = read_history(run)
    assert figures.precision_panels(history) == (figures.gradient_norm,)
    steps = {**history.steps, "loss_scale": [1024.0] * len(history.steps["tried"]), "skipped": [1.0, 0.0]}
    scaled = replace(history, steps=steps)
    assert figures.precision_panels(scaled) == (figures.gradient_norm, figures.loss_scale)
    drawn = figures.to_svg(figures.side_by_side(scaled, *figures.precision_panels(scaled)))
    assert "skipped step" in drawn


def test_many_classes_are_a_picture_not_a_table(run: RunFolder, tmp_path: Path) -> None:
    history = read_history(run)
    assert history.metrics is not None
    one = history.metrics.classes[0]
    many = history.metrics.replaced(
        classes=tuple(one.replaced(name=f"class {number}") for number in range(60)),
        confusion=tuple(tuple(int(row == column) for column in range(60)) for row in range(60)),
    )
    (tmp_path / "run").mkdir()
    write_page(replace(history, metrics=many, training=None, folder=RunFolder(tmp_path / "run")))
    text = (tmp_path / "run/report.html").read_text("utf-8")
    assert 'class="matrix"' not in text
    assert text.count("<svg") == 5


def test_several_runs_on_one_page(run: RunFolder, tmp_path: Path) -> None:
    history = read_history(run)
    write_overview([history, history], tmp_path / "runs.html")
    text = (tmp_path / "runs.html").read_text("utf-8")
    assert text.count(f'<td class="value">{history.name}</td>') == 2
    assert "Validation accuracy" in text


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not a run folder"):
        read_history(RunFolder(tmp_path))
