"""The terminal: the plan, a progress bar where there is a terminal, and a line per epoch everywhere."""

import shlex
import time
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from halftone.base.errors import printable
from halftone.loop.events import (
    EpochDone,
    Evaluating,
    StepTaken,
    Unreadable,
)
from halftone.metrics.verdict import Verdict
from halftone.precision.probe import Measured
from halftone.run.events import Event, Finished, Judged, Planned, Started
from halftone.run.plan.preview import warmup_in_words
from halftone.run.plan.record import Plan
from halftone.system.memory import peak_bytes
from halftone.track.wording import sentence, share

_REFRESH = 0.2
"""Seconds between updates of the bar: numbers are read from the device no more often than that."""
_MUCH_WAITING = 0.1
"""The share of training spent waiting for images from which on it is worth a word."""
_NAMED = 3
"""Unreadable images that are named; the rest is counted."""
_HEADING = (
    f"{'epoch':>9} {'loss':>8} {'val loss':>9} {'accuracy':>9} {'f1':>7} {'rate':>10} {'images/s':>9} {'time':>8}"
)


class Terminal:
    """Shows a run to a person. Writes to the console it is given, never to standard output by itself."""

    def __init__(self, console: Console, *, plan: bool = True) -> None:
        """Show on a console; `plan` says whether the plan is shown first."""
        self._console = console
        self._has_bar = console.is_terminal
        self._show_plan = plan
        self._bar: Progress | None = None
        self._plan: Plan | None = None
        self._shown = 0.0
        self._seen = 0
        self._since = 0.0
        self._unreadable: set[str] = set()
        self._trained = self._waited = 0.0

    def hear(self, event: Event) -> None:
        """Take one event."""
        match event:
            case StepTaken():
                self._step(event)
            case Evaluating():
                self._evaluating(event)
            case EpochDone():
                self._epoch(event)
            case Planned():
                self._plan = event.plan
                if self._show_plan:
                    show_plan(self._console, event.plan)
            case Started():
                self._console.print(f"run: {event.folder.path}", soft_wrap=True, highlight=False, markup=False)
                self._console.print(_HEADING, style="bold", highlight=False)
            case Judged():
                self._judged(event.verdict)
            case Finished():
                self._finish(event)
            case Unreadable():
                known = len(self._unreadable)
                self._unreadable.add(event.fault.name)
                if known < len(self._unreadable) <= _NAMED:
                    self._note(f"left out, cannot be read: {event.fault.name}: {event.fault.reason}")
            case _:
                self._note(sentence(event))

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _note(self, text: str | None) -> None:
        if text is not None:
            self._console.print(
                f"note: {printable(text)}", style="yellow", soft_wrap=True, highlight=False, markup=False
            )

    def _step(self, event: StepTaken) -> None:
        self._seen += event.num_images
        now = time.monotonic()
        if not self._has_bar or now - self._shown < _REFRESH:
            return
        assert self._plan is not None
        rate = self._seen / (now - self._since) if self._since else 0.0
        text = f"loss {float(event.loss):.3f}"
        if event.num_correct is not None:
            text += f"  accuracy {int(event.num_correct) / max(event.num_images, 1):.2f}"
        if event.loss_scale is not None:
            text += f"  scale {float(event.loss_scale):g}"
        skipped = event.tried - int(event.step)
        if skipped:
            text += f"  {skipped} skipped"
        memory = peak_bytes(event.loss.device) / 2**30
        text += f"  {rate:.0f} images/s  {memory:.1f} GB"
        label = f"epoch {event.epoch}/{self._plan.settled.epochs}"
        self._show(label, event.tried, self._plan.total_steps, text)
        self._shown = self._since = now
        self._seen = 0

    def _evaluating(self, event: Evaluating) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._shown < _REFRESH:
            return
        self._bar.update(self._bar.tasks[0].id, note=f"evaluating {event.done}/{event.total}", refresh=True)
        self._shown = now

    def _show(self, label: str, done: int, total: int, text: str) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                auto_refresh=False,  # drawn by `update` below, not by a thread beside the training
                transient=True,
            )
            self._bar.add_task(label, total=total, note="")
            self._bar.start()
        self._bar.update(self._bar.tasks[0].id, description=label, completed=done, note=text, refresh=True)

    def _epoch(self, event: EpochDone) -> None:
        assert self._plan is not None
        found, epoch = event.evaluation.metrics, f"{event.epoch}/{self._plan.settled.epochs}"
        line = (
            f"{epoch:>9} {_number(event.train_loss):>8} {_number(found.loss):>9} "
            f"{share(found.accuracy):>9} {_number(found.f1, 3):>7} {event.lr:>10.3g} {event.images_per_second:>9.0f} "
            f"{clock(event.seconds):>8}"
        )
        if event.improved:
            line += "  best"
        self._trained += event.train_seconds
        self._waited += event.data_wait_seconds
        if event.skipped_steps:
            line += f"  {event.skipped_steps} steps skipped so far"
        self._console.print(line, soft_wrap=True, highlight=False)

    def _judged(self, verdict: Verdict) -> None:
        self.close()
        said = " ".join(filter(None, (verdict.sentence, verdict.advice)))
        self._console.print(f"verdict: {said}", soft_wrap=True, highlight=False, markup=False)

    def _finish(self, event: Finished) -> None:
        self.close()
        if self._unreadable:
            self._note(f"{len(self._unreadable)} images could not be read and were left out; unreadable.csv names them")
        assert self._plan is not None
        if self._waited > _MUCH_WAITING * self._trained:
            asked = self._plan.asked.data.source
            source = "DATA" if asked == "given" else shlex.quote(asked)
            self._note(
                f"{self._waited / self._trained:.0%} of the training time was waiting for data; "
                f"`halftone diagnose speed {source}` says what helps"
            )
        views = self._plan.settled.data.views
        looks = f" ({views} views of each image)" if views > 1 else ""
        self._console.print(
            f"done in {clock(event.seconds)}; best epoch {event.best_epoch}{looks}; "
            f"everything is in {event.folder.path}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def show_plan(console: Console, plan: Plan) -> None:
    """Print a plan: what is there, and what was decided and why."""
    facts = plan.data
    gray = "gray" if plan.input.channels == 1 else "colour"
    console.print(
        f"{facts.num_train:,} training and {facts.num_validation:,} validation images of {len(facts.classes)} classes"
        f"{f', {facts.num_test:,} kept for a last test' if facts.num_test else ''}; "
        f"{plan.settled.model.name} with {plan.model.num_parameters:,} parameters on {plan.input.size} x "
        f"{plan.input.size} {gray}; {plan.settled.epochs} epochs of {plan.batches_per_epoch} steps, "
        f"{plan.total_steps:,} in all",
        highlight=False,
        markup=False,
    )
    console.print(f"warmup: {warmup_in_words(plan)}", highlight=False, markup=False)
    if plan.weights != "fresh":
        console.print(f"weights: {plan.weights}", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for choice in plan.choices:
        table.add_row(choice.setting, choice.value, choice.reason)
    console.print(table)
    if plan.evidence:
        console.print(_evidence(plan.evidence))
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True, highlight=False, markup=False)


def _evidence(measured: tuple[Measured, ...]) -> Table:
    """Lay out what was measured to choose the precision."""
    table = Table(box=None, pad_edge=False, title="precision, measured", title_justify="left", title_style="bold")
    for title in ("", "speed", "step", "kept memory", "cosine", ""):
        table.add_column(title, justify="right" if title else "left", overflow="fold")
    for one in measured:
        step = f"{1000 * median(one.seconds):.1f} ms" if one.seconds else "-"
        memory = "-" if one.activation_mb is None else f"{one.activation_mb:.0f} MB"
        cosine = "-" if one.cosine is None else f"{one.cosine:.3f}"
        speed = "-" if one.speed is None else f"{one.speed:.2f}x"
        table.add_row(one.name, speed, step, memory, cosine, one.verdict)
    return table


def clock(seconds: float) -> str:
    """Write a duration as people read it: 42 s, 3:07, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
