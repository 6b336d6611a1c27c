"""tune."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from halftone.base.errors import Diverged, printable
from halftone.cli.flags import with_recipe
from halftone.cli.train import Data, Json, RecipeFile, gather, patient_console, stopping
from halftone.tune.config import TuneConfig

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from halftone.tune.records import Outcome, TuneEvent

_SEARCH = Group("The search", sort_key=0)
Text = str | None
"""The records read the values, as they do those of the recipe."""


def _asked(name: str, metavar: str = "NAME") -> Parameter:
    """Return the flag of a setting of the search, with the help that stands beside it."""
    field = TuneConfig.model_fields[name]
    text = " ".join((field.description or "").split()).replace("`", "")
    return Parameter(group=_SEARCH, metavar=metavar, help=f"{text} [{field.default}]")


Searched = Annotated[
    list[str] | None,
    Parameter(
        group=_SEARCH,
        metavar="SETTING=VALUES",
        negative=(),
        help="A setting to search, any of train's, once for each: warmup=none,5%,10%, lr=log:1e-4..1, "
        "label-smoothing=uniform:0..0.2 or epochs=int:3..10.",
    ),
]


@with_recipe
def tune(
    data: Data = None,
    *,
    space: Searched = None,
    trials: Annotated[Text, _asked("trials", "INT")] = None,
    sampler: Annotated[Text, _asked("sampler")] = None,
    pruner: Annotated[Text, _asked("pruner")] = None,
    judged: Annotated[Text, _asked("judged")] = None,
    confirm: Annotated[Text, _asked("confirm", "INT")] = None,
    study: Annotated[
        str | None, Parameter(group=_SEARCH, help="Its name and folder; one that is there already goes on.")
    ] = None,
    storage: Annotated[
        Path | None,
        Parameter(group=_SEARCH, help="An SQLite file that holds it; without one, study.db in its folder."),
    ] = None,
    recipe: RecipeFile = None,
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Search for settings with many short runs, and say whether the best of them beats the defaults.

    The first run has the defaults. The result is a recipe for train. Several processes with one --study share the work.
    """
    from halftone.tune.records import StudyDone
    from halftone.tune.space import split_space

    asked = {"trials": trials, "sampler": sampler, "pruner": pruner, "judged": judged, "confirm": confirm}
    config = TuneConfig.parse({name: value for name, value in asked.items() if value is not None})
    texts = split_space(space or [])
    wish = gather(data, recipe, settings)
    from halftone.tune.study import tuning

    last: TuneEvent | None = None
    with stopping() as stop:
        screen = _Screen(patient_console(stderr=True))
        try:
            for last in tuning(wish, texts, config, study=study, storage=storage, stop=stop):
                screen.show(last)
        finally:
            screen.close()
    assert isinstance(last, StudyDone)
    summary = last.summary
    if json:
        print(summary.model_dump_json())
    if summary.recipe is None:
        raise Diverged(
            "no trial finished, so there is no best one", hint=f"{summary.folder}/trials.csv says why; narrow the space"
        )
    if not json:
        print(summary.recipe)
        print(f"train it: halftone train --recipe {summary.recipe}", file=sys.stderr)
    return 0


class _Screen:
    """Shows a study to a person: a line for each run, and on a terminal what is under way."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._status: Status | None = None
        self._amount: Callable[[float | None], str] = str

    def show(self, event: "TuneEvent") -> None:
        """Take one event."""
        from halftone.tune.records import Remark, StudyDone, StudyOpened, TrialDone, TrialEpoch, TrialStarted
        from halftone.tune.summary import amount, settings_in_words

        match event:
            case StudyOpened():
                self._amount = lambda value: amount(event.metric, value)
                done = f", {event.num_done} of them done" if event.num_done else ""
                self._print(f"study: {event.folder}, {event.total} trials{done}")
                self._print(f"{'':>18} {event.metric:>9} {'epoch':>7} {'time':>8}", style="bold")
            case TrialStarted():
                again = ", going on" if event.resumed else ""
                self._under_way(f"{event.label}{again}: {settings_in_words(event.values)}")
            case TrialEpoch():
                self._under_way(
                    f"{event.label}: epoch {event.epoch} of {event.num_epochs}, {self._amount(event.value)}"
                )
            case TrialDone():
                self._print(self._line(event.label, event.outcome) + ("  best" if event.is_best else ""))
            case Remark():
                self._print(f"note: {event.text}", style="yellow")
            case StudyDone(summary):
                self.close()
                for sentence in summary.sentences:
                    self._print(sentence)

    def close(self) -> None:
        """Remove what is under way."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _line(self, label: str, outcome: "Outcome") -> str:
        from halftone.track.console import clock
        from halftone.tune.summary import settings_in_words

        epoch = f"{outcome.epoch}/{outcome.num_epochs}"
        numbers = f"{self._amount(outcome.value):>9} {epoch:>7} {clock(outcome.seconds):>8}"
        status = "" if outcome.status == "finished" else f"  {outcome.status}"
        fault = f": {outcome.fault}" if outcome.fault else ""
        return f"{label:>18} {numbers}  {settings_in_words(outcome.values)}{status}{fault}"

    def _under_way(self, text: str) -> None:
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(text.replace("[", r"\["))

    def _print(self, text: str, *, style: str | None = None) -> None:
        self._console.print(printable(text), style=style, soft_wrap=True, highlight=False, markup=False)
