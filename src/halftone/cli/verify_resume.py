"""verify-resume."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import HalftoneError, ModelFileError, RecipeError, ResourceError
from halftone.cli.flags import with_recipe
from halftone.cli.train import Data, Json, RecipeFile, gather, stopping

if TYPE_CHECKING:
    from halftone.exactness.records import Event, Verdict

_MOST = 1000


@with_recipe
def verify_resume(
    data: Data = None,
    *,
    recipe: RecipeFile = None,
    kills: Annotated[int, Parameter(help="Processes that are killed; --seed draws where.")] = 3,
    output: Annotated[
        Path | None, Parameter(help="Keep both runs in this folder; without it, they are removed at the end.")
    ] = None,
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Train once straight and once with kills, resuming each time, and compare the whole state bit by bit.

    Takes the flags of train, and twice its time. Processes die by SIGKILL in steps, within saves, and right after
    resuming. What differs first is named: weights, an optimizer's moment, a random stream, a row of a table.
    """
    with stopping() as stop:
        wish = gather(data, recipe, settings)
        if not 1 <= kills <= _MOST:
            raise RecipeError(f"kills = {kills}: it must be from 1 to {_MOST}", hint="3 is usual")
        from halftone.exactness.records import Verdict
        from halftone.exactness.verify import verify

        with _folder(output) as folder:
            for event in verify(wish, folder, kills=kills, stop=stop):
                if isinstance(event, Verdict):
                    return _conclude(event, json=json)
                print(_sentence(event), file=sys.stderr)
    raise AssertionError("there was no verdict")


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """Give an empty folder: the one that was asked for, or one that goes away.

    Raises:
        RecipeError: it holds something.
        ResourceError: it cannot be made.
    """
    from halftone.base.files import make_folder

    if output is None:
        with TemporaryDirectory(prefix="halftone-", ignore_cleanup_errors=True) as place:
            yield Path(place)
        return
    make_folder(output)
    if any(output.iterdir()):
        raise RecipeError(f"output = {output}: the folder is taken", hint="name one that is not there yet")
    yield output.resolve()


def _sentence(event: "Event") -> str:
    from halftone.exactness.records import Kill, Trained

    if isinstance(event, Kill):
        again = f"{event.replayed} steps are done again" if event.replayed else "no step is done again"
        return f"killed {event.where}, after step {event.step}; goes on from step {event.resumed_from}: {again}"
    assert isinstance(event, Trained)
    return f"{event.name}: trained in {event.seconds:.1f} s"


def _conclude(verdict: "Verdict", *, json: bool) -> int:
    """Print the verdict.

    Raises:
        ModelFileError: the resumed run ended otherwise.
        ResourceError: so do two runs that were never stopped.
    """
    if json:
        print(verdict.model_dump_json())
    if verdict.exact:
        if not json:
            print(
                f"exact: {verdict.num_steps} steps, {len(verdict.kills)} kills, {verdict.replayed} steps done again; "
                f"state, tables and weights are the same to the last bit (sha256 {verdict.digest[:16]})"
            )
        return 0
    for difference in verdict.differences:
        print(f"differs: {difference}", file=sys.stderr)
    raise _fault(verdict)


def _fault(verdict: "Verdict") -> HalftoneError:
    first = verdict.differences[0]
    if verdict.repeats:
        return ModelFileError(
            f"not exact: the run that was resumed differs from the one that was not, first in {first}",
            hint="a network of yours must keep what it remembers in parameters and buffers; --output keeps both runs",
        )
    return ResourceError(
        f"not exact: even two runs that were never stopped differ here, first in {first}",
        hint="--threads 1 and --deterministic let more machines repeat themselves",
    )
