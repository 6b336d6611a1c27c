"""Frozen records: validated on the way in, readable YAML on the way out, one-line errors."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from halftone.base.errors import RecipeError, closest
from halftone.base.files import write_text
from halftone.version import __version__

Auto = Literal["auto"]
"""A setting that the plan decides."""

Value = TypeVar("Value")
_LARGEST_YAML = 1 << 20


class Record(BaseModel):
    """A frozen record with named, typed, documented fields. Unknown fields are an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
        ser_json_inf_nan="null",
    )

    shorthand: ClassVar[str] = ""
    """The setting that a bare value stands for, as in `data: digits`; empty if there is none."""

    synonyms: ClassVar[Mapping[str, str]] = {}
    """Names that people know from elsewhere, and what they are called here; for hints only."""

    @model_validator(mode="before")
    @classmethod
    def _bare_value(cls, value: Any) -> Any:
        if cls.shorthand and not isinstance(value, Mapping | BaseModel):
            return {cls.shorthand: value}
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` and `no` where a number is wanted; pydantic would read 1 and 0."""
        if isinstance(value, bool) and info.field_name is not None:
            kinds = set(leaf_types(cls.model_fields[info.field_name].annotation))
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("it must be a number, not yes or no")
        return value

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str = "") -> Self:
        """Validate a mapping, for example one read from YAML or gathered from flags.

        Raises:
            RecipeError: one line with the setting, its value and what is allowed.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise explain(error, cls, source=source) from None

    def replaced(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated again.

        Raises:
            RecipeError: together they are not allowed.
        """
        return self.parse({name: getattr(self, name) for name in type(self).model_fields} | changes)


def decided(value: Value | Auto) -> Value:
    """Return a setting that the plan has settled; an 'auto' left at this point is a bug, not bad input."""
    if isinstance(value, str) and value == "auto":
        raise AssertionError("the plan left an 'auto' undecided")
    return value


def explain(error: ValidationError, record: type[Record], *, source: str = "") -> RecipeError:
    """Turn the first fault of a validation into one line: the setting, its value, what is allowed."""
    faults = error.errors(include_url=False)
    fault = faults[0]
    setting = _setting(fault["loc"])
    num_others = len({_setting(other["loc"]) for other in faults}) - 1
    others = f" (and {num_others} more)" if num_others else ""
    if fault["type"] == "extra_forbidden":
        message, hint = f"unknown setting '{setting}'", _nearest_setting(setting, record)
    elif fault["type"] == "missing":
        message, hint = f"'{setting}' is missing", f"give it a value: --{setting}"
    else:
        same = [other for other in faults if _setting(other["loc"]) == setting]
        allowed = _allowed(same)
        value = fault["input"]
        shown = repr(value) if len(repr(value)) < 60 else repr(value)[:57] + "..."
        message = f"{setting} = {shown}: {allowed}" if setting else allowed
        hint = next(filter(None, (_nearest_choice(other, value) for other in same)), "")
    return RecipeError(f"{source}: {message}{others}" if source else message + others, hint=hint)


def _allowed(faults: Sequence[Any]) -> str:
    """Say what one setting may be, from the faults that the branches of its type found."""
    said = faults[0]["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if faults[0]["type"] == "path_type":
        said = "it must be a path"
    if faults[0]["type"] in ("bool_parsing", "bool_type"):
        said = "it must be yes or no"
    choices = [fault["ctx"]["expected"] for fault in faults[1:] if fault["type"] == "literal_error"]
    return ", or ".join([said.replace("Input should", "it must", 1), *choices])


def _setting(location: tuple[int | str, ...]) -> str:
    """Return a setting's dotted name, without the branch of a union that pydantic appends: nobody has written it."""
    branches = {"float", "int", "str", "bool", "constrained-float", "constrained-int"}
    return ".".join(
        part for part in location if isinstance(part, str) and part not in branches and not re.search(r"[\[(]", part)
    )


def _nearest_setting(name: str, record: type[Record]) -> str:
    """Return a hint for a setting that does not exist: by its whole name, by its last part, by other tools' names."""
    known = set(settings(record))
    leaves = {setting.rpartition(".")[2]: setting for setting in sorted(known, reverse=True)}
    last = name.rpartition(".")[2]
    for word, options in ((name, dict.fromkeys(known)), (last, dict(record.synonyms)), (last, leaves)):
        matches = difflib.get_close_matches(word, options, n=1, cutoff=0.75)
        if matches:
            return f"did you mean '{options[matches[0]] or matches[0]}'?"
    return "`halftone train --help` lists them all"


def _nearest_choice(fault: Any, value: Any) -> str:
    expected = fault.get("ctx", {}).get("expected", "")
    if fault["type"] == "literal_error" and isinstance(value, str):
        return closest(value, [word.strip("' ") for word in expected.replace(" or ", ",").split(",")])
    return ""


def settings(record: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings of a record, nested ones included."""
    for name, field in record.model_fields.items():
        yield prefix + name
        nested = nested_record(field.annotation)
        if nested is not None:
            yield from settings(nested, f"{prefix}{name}.")


def nested_record(annotation: Any) -> type[BaseModel] | None:
    """Return the record type inside an annotation such as `WarmupConfig` or `WarmupConfig | None`."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def leaf_types(annotation: Any) -> Iterator[Any]:
    """Yield the plain types within an annotation such as `Annotated[int, Field(ge=1)] | Auto`."""
    parts = get_args(annotation)
    if not parts or get_origin(annotation) is Literal:
        yield annotation
        return
    for part in parts:
        yield from leaf_types(part)


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML only: no tags that build objects, no aliases, no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key must be a plain word (line {key_node.start_mark.line + 1})")
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"the key '{key}' stands twice (again in line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        RecipeError: missing, too large, not YAML, or not a mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_YAML + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RecipeError(f"cannot read {path}: {reason}", hint="name a YAML file, such as run.yaml") from None
    if len(content) > _LARGEST_YAML:
        raise RecipeError(f"{path} is too large: a recipe has at most {_LARGEST_YAML} bytes")
    try:
        values = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 a SafeLoader, made stricter
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none is a ValueError
        raise RecipeError(f"{path} is not plain YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RecipeError(f"{path} must hold a mapping of settings, such as 'epochs: 10'")
    return values


def refuse_newer(values: Mapping[str, Any], source: str) -> None:
    """Refuse settings that a newer major version wrote, which says so under `halftone`.

    Raises:
        RecipeError: naming both versions.
    """
    written = str(values.get("halftone", __version__))
    major, own = (version.partition(".")[0] for version in (written, __version__))
    if not major.isdecimal():
        raise RecipeError(f"{source}: halftone = {written!r}: it must be a version, such as {__version__}")
    if int(major) > int(own):
        raise RecipeError(
            f"{source} was written by halftone {written}, and this is {__version__}, which cannot know what is in it",
            hint=f"install that version: pip install 'halftone>={major}'",
        )


def to_yaml(record: Record) -> str:
    """Write a record as YAML, without the fields that keep their default."""
    return dump_yaml(record.model_dump(mode="json", exclude_defaults=True))


def dump_yaml(values: Mapping[str, Any]) -> str:
    """Write a mapping as YAML in the order given."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping to a YAML file, atomically."""
    write_text(path, dump_yaml(values))
