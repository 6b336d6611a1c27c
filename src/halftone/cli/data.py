"""check-data."""

import json as json_module
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halftone.base.errors import RecipeError

if TYPE_CHECKING:  # what these import takes a second, which --help should not
    from halftone.data.checked import Checked
    from halftone.data.config import DataConfig
    from halftone.run.label_check import JudgedPart


def check_data(
    data: Annotated[str, Parameter(help="As for train.")],
    /,
    *,
    root: Annotated[Path | None, Parameter(name="--data.root", help="As for train.")] = None,
    download: Annotated[bool, Parameter(name="--data.download", help="As for train.", negative=())] = False,
    max_megapixels: Annotated[float, Parameter(name="--data.max-megapixels", help="As for train.")] = 100.0,
    timeout: Annotated[float | None, Parameter(name="--data.timeout", help="As for train. [60]")] = None,
    workers: Annotated[int | None, Parameter(help="Decoding threads. [the usable cores]")] = None,
    look_alikes: Annotated[bool, Parameter(help="Also look for pictures that look alike. [yes]")] = True,
    run: Annotated[Path | None, Parameter(help="The folder of a run, to judge the labels by its model.")] = None,
    device: Annotated[str, Parameter(help="Where the run's model computes, as for evaluate.")] = "auto",
    report: Annotated[Path | None, Parameter(help="Write a page with the pictures to this file.")] = None,
    strict: Annotated[bool, Parameter(help="Exit with 3 if anything is wrong.", negative=())] = False,
    json: Annotated[bool, Parameter(help="Print JSON on standard output.", negative=())] = False,
) -> int:
    """Decode every image in full and name what is broken, unbalanced, there twice, or probably mislabelled.

    Wrong are files that cannot be read or that the decoder complains of, links that lead nowhere, pictures that lie in
    two parts, and pictures under two labels: equal ones, and those that look alike. With --run also the labels are
    named that the run's model holds wrong; they are suggestions and do not count for --strict.
    """
    from halftone.cli.data_shown import show, summary
    from halftone.data.config import DataConfig

    if run is not None:
        from halftone.run.folder import RunFolder

        RunFolder(run.expanduser()).read_plan()  # before the long look, not after it
    if report is not None and not report.expanduser().absolute().parent.is_dir():
        raise RecipeError(
            f"report = {report}: there is no folder {report.parent}", hint="make it, or name another file"
        )
    asked = {"source": data, "root": root, "download": download, "max_megapixels": max_megapixels}
    config = DataConfig.parse({**asked, **({} if timeout is None else {"timeout": timeout})})
    checked = _check(config, workers, look_alikes=look_alikes)
    judged = [] if run is None else _judge(run, config, device)
    if json:
        print(json_module.dumps(summary(checked, judged)))
    else:
        show(checked, judged)
    if report is not None:
        from halftone.report.data_page import write_data_page

        write_data_page(checked, judged, report.expanduser())
        print(f"page: {report}", file=sys.stderr)
    problems = checked.num_problems
    print(f"{problems} problems" if problems else "no problems", file=sys.stderr)
    return 3 if strict and problems else 0


def _check(config: "DataConfig", workers: int | None, *, look_alikes: bool) -> "Checked":
    from halftone.cli.progress import counted, working
    from halftone.data.check import check_part
    from halftone.data.checked import Checked
    from halftone.data.copies import find_copies
    from halftone.data.open import open_source
    from halftone.system.threads import usable_cores

    parts = open_source(config, least_classes=1)
    threads = usable_cores() if workers is None else workers
    checks = []
    for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test)):
        if part is not None:
            growing = check_part(name, part, workers=threads, timeout=config.timeout)
            checks.append(deque(counted(growing, total=len(part.labels), label=name), maxlen=1).pop())
    with working("looking for copies"):
        copies = find_copies(checks, alike=look_alikes)
    return Checked(config.source, checks, copies, parts.left_out, parts.notes)


def _judge(run: Path, config: "DataConfig", device: str) -> "list[JudgedPart]":
    from halftone.cli.progress import Reached, measured
    from halftone.run.label_check import check_labels

    steps = measured(
        check_labels(run, config, device=device), lambda step: Reached(f"labels, {step.part}", step.done, step.total)
    )
    return [step.judged for step in steps if step.judged is not None]
