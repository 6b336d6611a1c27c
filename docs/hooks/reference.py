"""Writes the reference pages while the documentation is built: from the parser, the records and the public names.

Nothing of the reference is written by hand, so it cannot go out of date.
"""

import re
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

import halftone
from halftone.base.records import nested_record
from halftone.cli.main import app
from halftone.run.recipe import SHORT_NAMES, Recipe


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages; mkdocs calls this before it reads any."""
    pages = {
        "reference/cli.md": command_line(),
        "reference/recipe.md": recipe_page(),
        "reference/api.md": public_names(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def command_line() -> str:
    """Describe every command and flag, as `--help` does."""
    text = re.sub(r"## Table of Contents\n.*?\n(?=\*\*)", "", app.generate_docs(), flags=re.DOTALL)
    codes = (
        "\n## Exit codes\n\n"
        "| code | meaning |\n|---|---|\n"
        "| 0 | done |\n| 2 | the request was wrong |\n| 3 | the data |\n| 4 | a model or checkpoint file |\n"
        "| 5 | training diverged |\n| 6 | the environment or resources |\n"
        "| 75 | interrupted, everything is saved, `--resume` goes on |\n| 130 | the same after Ctrl-C |\n"
    )
    return "# Command line\n" + text.partition("\n")[2] + codes


def recipe_page() -> str:
    """Describe every setting of a recipe, room by room."""
    lines = [
        "# Recipe",
        "",
        "Every setting, with its default. The same names are keywords in Python, keys in YAML and flags on the",
        "command line (`warmup.shape` is `--warmup.shape`). What is `auto` is decided by the plan, with a reason.",
        "",
        "## Everyday settings",
        "",
        *_table((name, field) for name, field in Recipe.model_fields.items() if not nested_record(field.annotation)),
    ]
    for name, field in Recipe.model_fields.items():
        room: Any = nested_record(field.annotation)
        if room is not None:
            short = f" A bare value is `{name}.{room.shorthand}`." if room.shorthand else ""
            lines += ["", f"## {name}", "", f"{_line(room.__doc__)}{short}", "", *_table(_fields(name, room))]
    return "\n".join(lines) + "\n"


def _fields(room: str, record: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in record.model_fields.items():
        yield f"{room}.{name}", field


def _table(fields: Iterator[tuple[str, Any]]) -> list[str]:
    shorts = {place: short for short, place in SHORT_NAMES.items()}
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in fields:
        default = field.get_default(call_default_factory=True)
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
        text = _line(field.description).replace("|", "\\|")
        text += f" Short: `{shorts[name]}`." if name in shorts else ""
        rows.append(f"| `{name}` | {f'`{shown}`' if shown else ''} | {text} |")
    return rows


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def public_names() -> str:
    """List the public names, each with its docstring."""
    groups = {
        "Verbs": ("train", "resume", "training", "resuming", "make_plan", "evaluate_run", "compare"),
        "Things": ("Recipe", "Run", "Classifier", "Precision", "StopRequest", "ComparisonRun"),
        "Errors": tuple(name for name, place in halftone._WHERE.items() if place == "halftone.base.errors"),
    }
    lines = ["# Python", "", "Everything here is imported as `import halftone as ht`."]
    for title, names in groups.items():
        lines += ["", f"## {title}", "", *(f"::: {_place(name)}\n" for name in names)]
    lines += ["", "## Events", "", "What `ht.training` yields; `ht.events` holds them all.", ""]
    lines += ["::: halftone.run.events\n    options:\n      heading_level: 3\n      show_root_heading: false\n"]
    lines += ["::: halftone.loop.events\n    options:\n      heading_level: 3\n      show_root_heading: false\n"]
    return "\n".join(lines) + "\n"


def _place(name: str) -> str:
    return f"{halftone._WHERE[name]}.{name}"
