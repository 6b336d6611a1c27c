"""The kinds of diagnosis, put together."""

from cyclopts import App

from halftone.cli.diagnose.precision import precision
from halftone.cli.diagnose.warmup import warmup
from halftone.cli.diagnose.weights import weights

diagnose = App(
    name="diagnose",
    help="Look into a network and its training: precision, warmup, weights.",
    help_format="plaintext",
)
diagnose.command(precision, name="precision")
diagnose.command(warmup, name="warmup")
diagnose.command(weights, name="weights")
