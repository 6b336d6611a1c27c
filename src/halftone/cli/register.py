"""How a function becomes a command: under its name, with its docstring as prose that fits any terminal."""

import inspect
from collections.abc import Callable
from typing import Any

from cyclopts import App


def register(app: App, *commands: Callable[..., Any]) -> None:
    """Add commands to an app. The lines of a docstring break where the terminal ends, not where the source does."""
    for command in commands:
        paragraphs = (inspect.getdoc(command) or "").split("\n\n")
        help_text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        app.command(command, name=command.__name__.replace("_", "-"), help=help_text)
