"""The kinds of diagnosis, put together."""

from cyclopts import App

from halftone.cli.diagnose.precision import precision

diagnose = App(name="diagnose", help="Look into a network and its training: precision.", help_format="plaintext")
diagnose.command(precision, name="precision")
