"""What a study searches: settings of the recipe, and the values that each of them may take."""

import math
import re
from collections.abc import Mapping
from itertools import product
from typing import Any, Literal

from halftone.base.errors import RecipeError
from halftone.base.lengths import Span
from halftone.base.records import Record, nested_record
from halftone.run.recipe import SHORT_NAMES, Recipe, merge

Value = float | int | str
"""As the sampler draws it: a number of a range, or one of the choices."""

FORMS = "lr=log:1e-4..1, label-smoothing=uniform:0..0.2, epochs=int:3..10, warmup=none,5%,10%"
"""One example of each form, for hints."""
_NUMBER = r"([-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)"
_RANGE = re.compile(rf"^(uniform|log|int):{_NUMBER}(ep|it|%)?\.\.{_NUMBER}(ep|it|%)?$")
_LIKE_A_RANGE = re.compile(r"^(?:[a-z-]+:)?[^,:/|]*\d[^,:/|]*\.\.[^,:/|]+$")
_GOLDEN = 0.381966
"""A place within a range at which a number is hardly ever whole by chance."""
_LARGEST_GRID = 10_000
_JUDGES = ("data.source", "data.root", "data.validation", "data.split_seed", "stop.metric")
"""What decides on which images trials are judged, and by what."""


class Choices(Record):
    """A setting that takes one of some values."""

    name: str
    """As it is shown: the short name where there is one."""
    setting: str
    """Its place in the recipe, such as `optimizer.lr`."""
    values: tuple[str, ...]
    """As they were typed."""

    def __str__(self) -> str:
        return ("|" if any("," in value for value in self.values) else ",").join(self.values)

    def text(self, value: Value) -> str:
        """Write a drawn value as one would type it."""
        return str(value)


class Range(Record):
    """A setting that takes any number between two ends."""

    name: str
    setting: str
    kind: Literal["uniform", "log", "int"]
    """`uniform`: all numbers alike; `log`: all orders of magnitude alike; `int`: whole numbers."""
    low: float
    high: float
    unit: Literal["", "ep", "it", "%"] = ""
    """Of a length."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.low:.12g}{self.unit}..{self.high:.12g}{self.unit}"

    def text(self, value: Value) -> str:
        """Write a drawn value as one would type it, in four digits."""
        number = float(value)
        if self.kind == "int":
            return f"{number:.0f}{self.unit}"
        if self.unit:  # a length has no exponent
            return f"{number:.4f}".rstrip("0").rstrip(".") + self.unit
        return repr(min(max(float(f"{number:.4g}"), self.low), self.high))


Dimension = Choices | Range


class Space(Record):
    """The settings that are searched, in the order in which they were named."""

    dimensions: tuple[Dimension, ...]

    def texts(self) -> dict[str, str]:
        """Return what is searched as it is typed, by name."""
        return {dimension.name: str(dimension) for dimension in self.dimensions}

    def applied(self, recipe: Recipe, values: Mapping[str, str]) -> Recipe:
        """Return a recipe with values of the space, by name.

        Raises:
            RecipeError: together they are not allowed.
        """
        changes: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.name in values:
                changes = merge(changes, _tree(dimension.setting, values[dimension.name]))
        return _changed(recipe, changes)

    def located(self, recipe: Recipe) -> dict[str, Value] | None:
        """Return the point of the space at which a recipe stands, or None if it is outside, as `auto` is."""
        found: dict[str, Value] = {}
        for dimension in self.dimensions:
            value = _located(dimension, recipe)
            if value is None:
                return None
            found[dimension.name] = value
        return found

    @property
    def size(self) -> float:
        """How many points there are; infinite where there is a range of numbers that are not whole."""
        return math.prod(_size(dimension) for dimension in self.dimensions)

    def grid(self) -> list[dict[str, Value]]:
        """Return all points of the space.

        Raises:
            RecipeError: there are too many, or infinitely many.
        """
        axes: list[list[Value]] = []
        for dimension in self.dimensions:
            if isinstance(dimension, Choices):
                axes.append(list(dimension.values))
            elif dimension.kind == "int":
                axes.append(list(range(round(dimension.low), round(dimension.high) + 1)))
            else:
                raise RecipeError(
                    f"space {dimension.name} = {dimension.kind}: a grid needs values, and a range has no end of them",
                    hint=f"--space {dimension.name}={','.join(_some(dimension))}",
                )
        if self.size > _LARGEST_GRID:
            raise RecipeError(f"the grid has {self.size:,.0f} points, and at most {_LARGEST_GRID:,} are tried")
        names = [dimension.name for dimension in self.dimensions]
        return [dict(zip(names, point, strict=True)) for point in product(*axes)]


def parse_space(texts: Mapping[str, str], recipe: Recipe) -> Space:
    """Read a search space, and try each of its choices and the ends of its ranges on a recipe.

    Args:
        texts: for each setting, by any name that the recipe knows it by, its values: `a,b,c` or `a|b|c`,
            `uniform:LOW..HIGH`, `log:LOW..HIGH`, `int:LOW..HIGH`; of a length with its unit, `uniform:0%..20%`.
        recipe: the one that is searched from.

    Raises:
        RecipeError: one line with the setting, its values and what is allowed.
    """
    if not texts:
        raise RecipeError("space is empty: there is nothing to search", hint=f"for example --space {FORMS}")
    dimensions: list[Dimension] = []
    for name, text in texts.items():
        dimension = _dimension(name, text.strip(), recipe)
        if dimension.setting in {other.setting for other in dimensions}:
            raise RecipeError(f"space {name} = {text}: {dimension.name} is searched twice", hint="name it once")
        dimensions.append(dimension)
    return Space(dimensions=tuple(dimensions))


def split_space(words: list[str]) -> dict[str, str]:
    """Split `lr=log:1e-4..1`, as it is typed on the command line, into setting and values.

    Raises:
        RecipeError: one has no `=`, or a setting is named twice.
    """
    texts: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.strip():
            raise RecipeError(f"space = {word}: it must be SETTING=VALUES", hint=f"for example --space {FORMS}")
        if name.strip() in texts:
            raise RecipeError(f"space = {word}: {name.strip()} is searched twice", hint="name it once")
        texts[name.strip()] = text
    return texts


def _dimension(name: str, text: str, recipe: Recipe) -> Dimension:
    source = f"space {name} = {text}"
    setting = _setting(name.replace("-", "_"), source)
    shown = _shown(setting)
    match = _RANGE.match(text)
    if match is not None:
        found: Dimension = _range(shown, setting, match, source)
        points = _some(found) if isinstance(found, Range) else []
    elif _LIKE_A_RANGE.match(text):
        raise RecipeError(
            f"{source}: a range is uniform:LOW..HIGH, log:LOW..HIGH or int:LOW..HIGH", hint=f"for example {FORMS}"
        )
    else:
        points = [value.strip() for value in text.split("|" if "|" in text else ",")]
        found = Choices(name=shown, setting=setting, values=tuple(points))
    read = [_field(_changed(recipe, _tree(setting, point), source=source), setting) for point in points]
    if isinstance(found, Choices):
        _check_choices(points, read, source)
    return found


def _check_choices(points: list[str], read: list[Any], source: str) -> None:
    for number, value in enumerate(read):
        if value in read[:number]:
            raise RecipeError(f"{source}: {points[number]} stands there twice", hint="name each value once")
    if len(points) < 2:
        raise RecipeError(
            f"{source}: one value is no choice", hint=f"give it as a flag of its own, or search a range: {FORMS}"
        )


def _range(name: str, setting: str, match: re.Match[str], source: str) -> Range:
    kind, low, high = match[1], float(match[2]), float(match[4])
    units = (match[3] or match[5] or "", match[5] or "")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise RecipeError(f"{source}: the low end must be below the high one")
    if units[0] != units[1]:
        raise RecipeError(f"{source}: both ends need one unit", hint="for example uniform:0%..20%")
    if kind == "log" and low <= 0:
        raise RecipeError(f"{source}: the low end of a log range must be above 0", hint="uniform can start at 0")
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise RecipeError(f"{source}: the ends of an int range must be whole numbers")
    return Range.parse(
        {"name": name, "setting": setting, "kind": kind, "low": low, "high": high, "unit": units[1]}, source=source
    )


def _size(dimension: Dimension) -> float:
    if isinstance(dimension, Choices):
        return len(dimension.values)
    return dimension.high - dimension.low + 1 if dimension.kind == "int" else math.inf


def _some(dimension: Range) -> list[str]:
    """Return both ends of a range and a place between them."""
    low, high = dimension.low, dimension.high
    between = low * (high / low) ** _GOLDEN if dimension.kind == "log" else low + (high - low) * _GOLDEN
    return [dimension.text(value) for value in (low, between, high)]


def _setting(name: str, source: str) -> str:
    """Return the place in the recipe of a setting by any of its names.

    Raises:
        RecipeError: there is none of that name, or it is not to be searched.
    """
    setting = SHORT_NAMES.get(name, name)
    room, _, inner = setting.partition(".")
    record = nested_record(Recipe.model_fields[room].annotation) if room in Recipe.model_fields else None
    if record is not None and not inner:
        assert issubclass(record, Record)
        if not record.shorthand:
            raise RecipeError(f"{source}: '{name}' holds several settings", hint=f"name one of them: {name}.NAME")
        setting = f"{room}.{record.shorthand}"
    elif room not in Recipe.model_fields or (inner and (record is None or inner not in record.model_fields)):
        Recipe.parse(_tree(setting, "?"), source=source)  # it says what is wrong with the name
        raise AssertionError(f"{setting} is a setting after all")
    if room == "run" or setting in _JUDGES:
        why_not = "it says where a run is kept" if room == "run" else "all trials are judged alike"
        raise RecipeError(f"{source}: {setting} cannot be searched: {why_not}", hint=f"search another one: {FORMS}")
    return setting


def _shown(setting: str) -> str:
    """Return the shortest name of a setting."""
    for short, place in SHORT_NAMES.items():
        if place == setting:
            return short
    room, _, inner = setting.partition(".")
    record = nested_record(Recipe.model_fields[room].annotation)
    return room if record is not None and issubclass(record, Record) and record.shorthand == inner else setting


def _tree(setting: str, value: str) -> dict[str, Any]:
    room, _, inner = setting.partition(".")
    return {room: {inner: value}} if inner else {room: value}


def _changed(recipe: Recipe, changes: Mapping[str, Any], *, source: str = "") -> Recipe:
    return Recipe.parse(merge(recipe.model_dump(exclude_unset=True), changes), source=source)


def _field(recipe: Recipe, setting: str) -> Any:
    """Return the value of a setting in a recipe."""
    room, _, inner = setting.partition(".")
    value = getattr(recipe, room)
    return getattr(value, inner) if inner else value


def _located(dimension: Dimension, recipe: Recipe) -> Value | None:
    """Return the value of a dimension at which a recipe stands, or None."""
    value = _field(recipe, dimension.setting)
    if isinstance(dimension, Choices):
        for choice in dimension.values:
            if _field(_changed(recipe, _tree(dimension.setting, choice)), dimension.setting) == value:
                return choice
        return None
    if isinstance(value, Span):
        if value.unit != dimension.unit and value:
            return None
        value = value.amount
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not dimension.low <= value <= dimension.high:
        return None
    return int(value) if dimension.kind == "int" else float(value)
