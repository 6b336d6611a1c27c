"""doctor."""

import json as json_module
from typing import Annotated

from cyclopts import Parameter


def doctor(*, json: Annotated[bool, Parameter(help="Print JSON on standard output.", negative=())] = False) -> int:
    """Look at this machine: devices, number formats, threads, memory, packages, and what to do about them."""
    from halftone.doctor.findings import findings

    found = list(findings())
    if json:
        print(json_module.dumps([finding.model_dump() for finding in found], indent=2))
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        marks = {"good": "[green]ok[/]", "note": "[yellow]note[/]", "bad": "[red]bad[/]"}
        for finding in found:
            text = escape(finding.found) + (f"\n[dim]{escape(finding.advice)}[/]" if finding.advice else "")
            table.add_row(marks[finding.state], finding.what, text)
        Console(highlight=False).print(table)
    return 6 if any(finding.state == "bad" for finding in found) else 0
