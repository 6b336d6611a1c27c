"""The listener that leaves plots and a page in the run's folder."""

from halftone.base.files import write_bytes, write_json
from halftone.data.labelled import Labelled
from halftone.report import figures
from halftone.report.history import read_history
from halftone.report.page import write_page
from halftone.report.pictures import grid, inline_jpeg, thumbnails, worst_mistakes
from halftone.run.events import Event, Finished, FirstBatch, Planned, Started
from halftone.run.folder import RunFolder
from halftone.run.plan.record import Plan


class Report:
    """Draws the first batch when it comes, and everything else when the run is over."""

    def __init__(self) -> None:
        """Wait for the run to start."""
        self._plan: Plan | None = None
        self._folder: RunFolder | None = None
        self._validation: Labelled | None = None

    def hear(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Planned():
                self._plan = event.plan
            case Started():
                self._folder, self._validation = event.folder, event.validation
            case FirstBatch():
                self._draw_batch(event)
            case Finished():
                assert self._validation is not None
                assert self._plan is not None
                write_report(event.folder, self._validation)
            case _:
                pass

    def close(self) -> None:
        """Nothing is held open."""

    def _draw_batch(self, event: FirstBatch) -> None:
        assert self._folder is not None
        assert self._plan is not None
        pictures = list(event.images.permute(0, 2, 3, 1).numpy())
        captions = [self._plan.data.classes[int(label)] for label in event.labels]
        title = "What the network sees in training, after augmentation"
        write_bytes(self._folder.path / "train_batch.jpg", grid(pictures, captions, title=title))


def write_report(folder: RunFolder, validation: Labelled | None = None) -> None:
    """Write the plots and the page of a run.

    Args:
        folder: of the run.
        validation: the validation images; without them the pictures that an earlier report drew are kept.
    """
    history = read_history(folder)
    drawn = {
        "results": figures.side_by_side(history, figures.losses, figures.accuracies),
        "lr": figures.side_by_side(history, figures.rate),
        "precision": figures.side_by_side(history, *figures.precision_panels(history)),
    }
    if history.metrics is not None:
        drawn["confusion_matrix"] = figures.confusion(history.metrics)
    for name, figure in drawn.items():
        write_bytes(folder.path / f"{name}.png", figures.to_png(figure))
    if validation is not None and folder.predictions.is_file():
        _draw_mistakes(folder, history.plan, validation)
    write_page(history)


def _draw_mistakes(folder: RunFolder, plan: Plan, validation: Labelled) -> None:
    mistakes = worst_mistakes(folder.predictions)
    pictures = thumbnails(validation, mistakes, plan.input)
    shown = [mistake for mistake in mistakes if mistake.index in pictures]
    if shown:
        captions = [f"{m.true}\nas {m.predicted} ({m.confidence:.0%})" for m in shown]
        title = "Validation images that the best weights get wrong, worst first"
        drawn = grid([pictures[mistake.index] for mistake in shown], captions, title=title)
        write_bytes(folder.path / "val_predictions.jpg", drawn)
    rows = [
        {
            "name": mistake.name,
            "true": mistake.true,
            "predicted": mistake.predicted,
            "confidence": mistake.confidence,
            "picture": inline_jpeg(pictures[mistake.index]),
        }
        for mistake in shown
    ]
    write_json(folder.path / "mistakes.json", rows)
