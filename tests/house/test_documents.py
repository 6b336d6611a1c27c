"""What README and the documentation show works: commands are read by the real parser, Python examples run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import halftone
from halftone.cli.flags import nest
from halftone.cli.main import app
from halftone.run.recipe import Recipe, expand

ROOT = Path(halftone.__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(page.read_text("utf-8")) if found == language]


COMMANDS = [(name, line) for name, page in zip(NAMES, PAGES, strict=True)
            for text in blocks(page, "bash") for line in text.splitlines() if line.startswith("halftone ")]  # fmt: skip
EXAMPLES = [(name, text) for name, page in zip(NAMES, PAGES, strict=True) for text in blocks(page, "python")]


def test_there_is_something_to_check() -> None:
    assert len([line for name, line in COMMANDS if name == "README.md"]) >= 5
    assert len([text for name, text in EXAMPLES if name == "README.md"]) == 3


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{name}: {line}" for name, line in COMMANDS])
def test_a_command_that_is_shown_is_understood(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    if command.__name__ in ("train", "plan"):
        given: dict[str, Any] = bound.kwargs
        names = {name for name in given if name.partition("__")[0] in Recipe.model_fields}
        Recipe.parse(expand(nest({name: given[name] for name in names if given[name] is not None})))


@pytest.mark.parametrize(("page", "text"), EXAMPLES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(EXAMPLES)])
def test_a_python_example_runs(page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, page, "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [target for target in targets if not target.startswith(("http", "mailto"))]
    generated = {"reference/cli.md", "reference/recipe.md", "reference/api.md"}
    missing = [target for target in local
               if not (page.parent / target).exists() and not target.endswith(tuple(generated))]  # fmt: skip
    assert missing == []
