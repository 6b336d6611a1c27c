"""plan."""

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from halftone.cli.flags import with_recipe
from halftone.cli.train import Data, Json, RecipeFile, gather, patient_console


@with_recipe
def plan(
    data: Data = None,
    *,
    recipe: RecipeFile = None,
    picture: Annotated[Path | None, Parameter(help="Draw the schedule into this PNG file, too.")] = None,
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Show what train would do and why, draw the schedule, and do nothing."""
    wish = gather(data, recipe, settings)
    from halftone.base.records import dump_yaml
    from halftone.report.schedule_figure import schedule_chart
    from halftone.run.folder import check_free
    from halftone.run.prepare import prepare
    from halftone.track.console import show_plan

    check_free(wish)
    found = prepare(wish, fetch=False, check_peak=True).plan
    if picture is not None:
        from halftone.base.files import write_bytes
        from halftone.report.figures import to_png
        from halftone.report.schedule_figure import schedule_figure

        write_bytes(picture, to_png(schedule_figure(found)))
        print(f"picture: {picture}", file=sys.stderr)
    if json:
        print(json_module.dumps(found.to_mapping(), indent=2))
        return 0
    console = patient_console(stderr=False)
    show_plan(console, found)
    for title, text in (
        ("rate", schedule_chart(found)),
        ("asked", dump_yaml(found.asked.model_dump(mode="json", exclude_unset=True))),
    ):
        console.print(f"\n{title}:", style="bold")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    return 0
