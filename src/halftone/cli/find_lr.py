"""find-lr."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from halftone.base.errors import RecipeError
from halftone.cli.flags import with_recipe
from halftone.cli.train import Data, Json, RecipeFile, gather

_PICTURE, _TABLE = "lr_range.png", "lr_range.csv"


@with_recipe
def find_lr(
    data: Data = None,
    *,
    recipe: RecipeFile = None,
    steps: Annotated[int, Parameter(help="Training steps from the lowest to the highest rate.")] = 100,
    out: Annotated[Path, Parameter(help="Where the picture and the numbers go.")] = Path("lr_range"),
    json: Json = False,
    settings: dict[str, Any],
) -> int:
    """Train a copy of the network with a growing rate, and say at which rates it learns (Smith 2017).

    The network, the optimizer, the precision, the batch and the changes of images are those of train. The picture
    shows the loss over the rate.
    """
    wish = gather(data, recipe, settings)
    if steps < 20:
        raise RecipeError(f"steps = {steps}: it must be at least 20", hint="100 is usual; more steps, less noise")
    from halftone.base.files import make_folder, write_bytes, write_text
    from halftone.cli.progress import counted
    from halftone.report.figures import to_png
    from halftone.report.range_figure import range_figure
    from halftone.run.finding import RangeTest, begin_range_test
    from halftone.system.memory import keep_freed_memory

    if wish.keep_memory:
        keep_freed_memory()
    plan, points = begin_range_test(wish, num_steps=steps)
    test = RangeTest(plan, tuple(counted(points, total=steps, label="range test")), steps)
    make_folder(out)
    write_text(out / _TABLE, test.table())
    write_bytes(out / _PICTURE, to_png(range_figure(test)))
    if json:
        print(test.measured.model_dump_json(exclude={"critical"}))
    else:
        for sentence in test.sentences():
            print(sentence)
    print(f"picture: {out / _PICTURE}", file=sys.stderr)
    return 0
