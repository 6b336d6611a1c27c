"""The commands on weight files, put together."""

from cyclopts import App

from halftone.cli.register import register
from halftone.cli.weights.average import average
from halftone.cli.weights.convert import convert
from halftone.cli.weights.look import diff, show

weights = App(
    name="weights", help="Look into weight files, compare, average and convert them.", help_format="plaintext"
)
register(weights, show, diff, average, convert)
