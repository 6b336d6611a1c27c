"""Flags from the recipe: every setting is written once, in its record, and becomes a flag here."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from halftone.base.lengths import Span
from halftone.base.records import Record, leaf_types, nested_record
from halftone.run.recipe import SHORT_NAMES, Recipe

_DATA = "data.source"
"""The one setting that is an argument, not a flag."""


@cache
def recipe_parameters() -> tuple[inspect.Parameter, ...]:
    """Return a keyword parameter for every setting of a recipe, in the order of the recipe; all commands share them."""
    everyday = Group("Everyday settings", sort_key=1)
    parameters = [
        _parameter(name, field, everyday) for name, field in Recipe.model_fields.items() if not _room(field.annotation)
    ]
    for number, (name, field) in enumerate(Recipe.model_fields.items(), start=2):
        room = _room(field.annotation)
        if room is None:
            continue
        if name != "data" and room.shorthand:
            parameters.append(_bare(name, room, everyday))
        group = Group(f"{name}: {(room.__doc__ or '').splitlines()[0].rstrip('.')}", sort_key=number)
        for inner, inner_field in room.model_fields.items():
            full = f"{name}.{inner}"
            if full != _DATA:
                parameters.append(_parameter(full, inner_field, group))
    return tuple(parameters)


def _room(annotation: Any) -> type[Record] | None:
    found = nested_record(annotation)
    assert found is None or issubclass(found, Record)
    return found


def _bare(name: str, room: type[Record], group: Group) -> inspect.Parameter:
    """Return the short flag of a room, such as `--warmup 5ep` for `--warmup.length 5ep`."""
    field = room.model_fields[room.shorthand]
    text = f"{_sentence(field)} Short for --{name}.{_flag(room.shorthand)}."
    return _keyword(name, str, f"--{name}", text + _default(field), group, metavar=_metavar(field.annotation))


def _parameter(name: str, field: Any, group: Group) -> inspect.Parameter:
    names = [f"--{_flag(name)}", *(f"--{_flag(short)}" for short, place in SHORT_NAMES.items() if place == name)]
    # the short name comes first in the help; it is the one to learn
    kind = _kind(field.annotation)
    text = _sentence(field) + _default(field)
    return _keyword(name, kind, names[::-1], text, group, metavar=_metavar(field.annotation))


def _kind(annotation: Any) -> Any:
    """Return the type that the parser sees: a switch, a switch that takes a value, too, or text."""
    if annotation is bool:
        return bool
    return bool | str if bool in leaf_types(annotation) else str


def _keyword(
    name: str,
    kind: Any,
    names: str | list[str],
    text: str,
    group: Group,
    *,
    metavar: str,
) -> inspect.Parameter:
    listed = [names] if isinstance(names, str) else names
    negative = () if kind is str else [f"--no-{each.removeprefix('--')}" for each in listed]
    marker = Parameter(name=names, help=text, group=group, show_default=False, negative=negative, metavar=metavar)
    return inspect.Parameter(
        name.replace(".", "__"), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, marker]
    )


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _sentence(field: Any) -> str:
    """Return a setting's docstring in one line, with its choices where there is a fixed list that it does not name."""
    text = " ".join((field.description or "").split()).replace("`", "")
    choices = _choices(field.annotation)
    if all(choice in text for choice in choices if choice != "auto"):
        return text
    return f"{text} One of {', '.join(choices)}."


def _choices(annotation: Any) -> list[str]:
    """Return the values of a setting that allows nothing but a list of them; nothing for any other."""
    if get_origin(annotation) in (Union, UnionType):
        branches = [branch for branch in get_args(annotation) if branch is not NoneType]
    else:
        branches = [annotation]
    if any(get_origin(branch) is not Literal for branch in branches):
        return []
    return [str(value) for branch in branches for value in get_args(branch)]


def _metavar(annotation: Any) -> str:
    """Return the word that stands for a setting's value in the help."""
    if get_origin(annotation) is dict:
        return "NAME=VALUE,..."
    kinds = set(leaf_types(annotation))
    words = {Span: "LENGTH", Path: "PATH", bool: "YES|NO", int: "INT", float: "NUMBER"}
    return next((word for kind, word in words.items() if kind in kinds), "NAME")


def _default(field: Any) -> str:
    value = field.default
    if value is PydanticUndefined or value is None or value == () or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, tuple):
        value = ",".join(str(part) for part in value)
    return f" [{value}]"


def with_recipe(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all flags of the recipe; it receives those that were typed as the keyword `settings`.

    The values stay text: the records turn them into numbers, so that flags, YAML and Python share one set of
    rules and one kind of error.
    """
    own = inspect.signature(function)
    kept = [parameter for parameter in own.parameters.values() if parameter.name != "settings"]
    added = recipe_parameters()
    names = {parameter.name for parameter in added}

    def command(*arguments: Any, **given: Any) -> Any:
        settings = {name: value for name, value in given.items() if name in names and value is not None}
        rest = {name: value for name, value in given.items() if name not in names}
        return function(*arguments, settings=nest(settings), **rest)

    command.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*kept, *added]}
    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `{"warmup__shape": "cosine", "warmup": "5ep"}` into the tree that a recipe is read from."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        room, inner, setting = name.partition("__")
        record = _room(Recipe.model_fields[room].annotation)
        if record is None:
            tree[room] = value
        else:
            tree.setdefault(room, {})[setting if inner else record.shorthand] = value
    return tree
