"""report."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    runs: Annotated[list[Path], Parameter(help="Folders of runs.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="Where the page over several runs goes.")] = Path("runs.html"),
) -> int:
    """Draw the report of a run again, or one page over several runs."""
    from halftone.report.history import read_history
    from halftone.report.listener import write_report
    from halftone.report.page import write_overview
    from halftone.run.folder import RunFolder

    folders = [RunFolder(path.expanduser().resolve()) for path in runs]
    for folder in folders:
        write_report(folder)
    if len(folders) == 1:
        print(folders[0].report)
        return 0
    write_overview([read_history(folder) for folder in folders], out)
    print(out.resolve())
    return 0
