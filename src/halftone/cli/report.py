"""report."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from halftone.base.errors import RecipeError


def report(
    *runs: Annotated[Path, Parameter(help="Folders of runs.")],
    out: Annotated[Path, Parameter(help="Where the page over several runs goes.")] = Path("runs.html"),
) -> int:
    """Draw the report of a run again, or one page over several runs."""
    from halftone.report.history import read_history
    from halftone.report.listener import write_report
    from halftone.report.page import write_overview
    from halftone.run.folder import RunFolder

    if not runs:
        raise RecipeError("no run was named", hint="halftone report RUN...")
    folders = [RunFolder(path.expanduser().resolve()) for path in runs]
    for folder in folders:
        write_report(folder)
    if len(folders) == 1:
        print(folders[0].report)
        return 0
    write_overview([read_history(folder) for folder in folders], out)
    print(out.resolve())
    return 0
