"""The kinds of diagnosis, put together."""

from cyclopts import App

from halftone.cli.diagnose.precision import precision
from halftone.cli.diagnose.speed import speed
from halftone.cli.diagnose.warmup import warmup
from halftone.cli.diagnose.weights import weights
from halftone.cli.register import register

diagnose = App(
    name="diagnose",
    help="Look into a network and its training: precision, warmup, weights, speed.",
    help_format="plaintext",
)
register(diagnose, precision, warmup, weights, speed)
