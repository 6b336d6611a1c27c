"""diagnose warmup."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from halftone.cli.train import Json

_FIGURE = "warmup_diagnosis.png"


def warmup(
    run: Annotated[Path, Parameter(name=("RUN", "--run"), help="The folder of a run that has ended.")],
    *,
    out: Annotated[Path, Parameter(help="Where the picture goes.")] = Path("diagnosis"),
    json: Json = False,
) -> int:
    """Say whether a run's warmup was too short, too long, unneeded, right or missing, and what to do next.

    Reads the run's tables and plan only: neither its data nor its weights are needed, and it may have diverged.
    """
    from halftone.base.errors import printable
    from halftone.base.files import make_folder, write_bytes
    from halftone.diagnose.warmup import diagnose_warmup
    from halftone.diagnose.warmup_figure import warmup_figure
    from halftone.report.figures import to_png
    from halftone.run.folder import RunFolder

    found = diagnose_warmup(RunFolder(run.expanduser().resolve()))
    diagnosis = found.diagnosis
    make_folder(out)
    write_bytes(out / _FIGURE, to_png(warmup_figure(found)))
    if json:
        print(diagnosis.model_dump_json())
    else:
        print(
            f"{diagnosis.warmup_steps} of {diagnosis.num_steps} steps were warmup, to a rate of "
            f"{diagnosis.peak_rate:.3g}"
        )
        for signal in diagnosis.evidence:
            print(f"{signal.finding:>8}  {signal.name}: {printable(signal.sentence)}")
        print(f"verdict: {diagnosis.verdict}. {diagnosis.sentence}")
        print(f"advice: {diagnosis.advice}")
    print(f"picture: {out / _FIGURE}", file=sys.stderr)
    return 0
