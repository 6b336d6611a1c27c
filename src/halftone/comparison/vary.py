"""From `--vary precision=fp32,bf16` to variants, and from a variant to the recipe of each of its runs."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from halftone.base.errors import RecipeError
from halftone.base.records import Record, nested_record
from halftone.comparison.records import Variant
from halftone.run.recipe import SHORT_NAMES, Recipe, merge, recipe_file

FILE = "recipe"
"""The setting that stands for a whole recipe file."""
_KEPT = {
    "seed": "each variant is trained with the same seeds; --seeds says how many",
    "run": "the comparison has its own folder: --name and --root",
    "data.source": "accuracy on different images cannot be compared in pairs",
    "force": "it is no way of training",
}
"""What cannot be varied, and why."""
_MOST = 64
"""Variants."""


def parse_varied(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read `SETTING=VALUE,VALUE,...`, once for each setting that varies.

    A value that holds a comma itself is separated by `|`: `augment.resized_crop=0.35,1|0.5,1`.

    Raises:
        RecipeError: it is written otherwise, a setting comes twice, cannot be varied, or has fewer than two values.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, mark, values = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not mark or not name:
            raise RecipeError(
                f"--vary {text}: it must be SETTING=VALUE,VALUE,...", hint="for example --vary precision=fp32,bf16"
            )
        choices = tuple(value.strip() for value in values.split("|" if "|" in values else ","))
        check_varied(name, choices)
        if name in found:
            raise RecipeError(f"--vary {name} comes twice", hint=f"name all its values at once: --vary {name}=A,B,C")
        found[name] = choices
    return found


def check_varied(name: str, values: Sequence[str]) -> None:
    """Refuse a setting that cannot be varied, and values that make no variants.

    Raises:
        RecipeError: so it is.
    """
    full = _full(name)
    reason = _KEPT.get(full) or _KEPT.get(full.partition(".")[0])
    if reason:
        raise RecipeError(f"--vary {name}: this cannot be varied, since {reason}")
    if len(values) < 2 or "" in values:
        raise RecipeError(
            f"--vary {name}={','.join(values)}: it must have two values or more", hint="the first one is the baseline"
        )
    if len(set(values)) < len(values):
        raise RecipeError(f"--vary {name}={','.join(values)}: a value comes twice")


def variants_of(varied: Mapping[str, Sequence[str]], *, pairs: bool) -> tuple[Variant, ...]:
    """Return all combinations, or the baseline and each single change of it; the baseline comes first.

    Args:
        varied: settings and their values; the first values together are the baseline.
        pairs: one change at a time.

    Raises:
        RecipeError: nothing varies, or far too much.
    """
    if not varied:
        raise RecipeError("nothing to compare", hint="say what varies: --vary precision=fp32,bf16")
    if pairs:
        first = {name: values[0] for name, values in varied.items()}
        others = [{**first, name: value} for name, values in varied.items() for value in values[1:]]
        changes = [first, *others]
    else:
        changes = [dict(zip(varied, chosen, strict=True)) for chosen in itertools.product(*varied.values())]
    if len(changes) > _MOST:
        raise RecipeError(
            f"{len(changes)} variants are more than {_MOST}", hint="--pairs changes one setting at a time"
        )
    return tuple(Variant(name=_named(one), changes=one) for one in changes)


def _named(changes: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items())


def recipe_of(base: Mapping[str, Any], variant: Variant, *, seed: int) -> Recipe:
    """Return the recipe of one run.

    Args:
        base: what all runs have in common, as from YAML.
        variant: its changes win over the base; a recipe file in it gives way to the base.
        seed: of the run.

    Raises:
        RecipeError: a change is not allowed.
    """
    values: Mapping[str, Any] = base
    try:
        for name, value in variant.changes.items():
            if name == FILE:
                values = merge(recipe_file(Path(value)), values)
        for name, value in variant.changes.items():
            if name != FILE:
                values = merge(values, _nested(name, value))
        return Recipe.parse(merge(values, {"seed": seed}))
    except RecipeError as error:
        raise RecipeError(f"--vary {_named(variant.changes)}: {error}", hint=error.hint) from error


def _nested(name: str, value: str) -> dict[str, Any]:
    if name not in SHORT_NAMES and name.partition(".")[0] not in Recipe.model_fields:
        Recipe.parse({name: value})  # says what it might have meant
    room, dot, setting = name.partition(".")
    return {room: {setting: value}} if dot else {name: value}


def settings_of(variants: Sequence[Variant]) -> tuple[str, ...]:
    """Return the full names of the settings that vary, in the order in which they were given."""
    return tuple(dict.fromkeys(_full(name) for variant in variants for name in variant.changes))


def _full(name: str) -> str:
    """Return the full name of a setting: `optimizer.lr` for `lr`, `precision.mode` for `precision`."""
    field = Recipe.model_fields.get(name)
    room = nested_record(field.annotation) if field is not None else None
    return f"{name}.{room.shorthand}" if room is not None and issubclass(room, Record) else SHORT_NAMES.get(name, name)
