"""Records: validated in, readable YAML out, errors of one line."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from halftone.base import records
from halftone.base.errors import RecipeError
from halftone.base.lengths import Length, Span
from halftone.base.records import Auto, Record, decided, dump_yaml, nested_record, read_yaml, to_yaml, write_yaml


class Warm(Record):
    """A nested record with a shorthand."""

    shorthand = "length"

    length: Length | Auto = "auto"
    shape: Literal["linear", "cosine"] = "linear"


class Wish(Record):
    """A record as recipes have them."""

    synonyms = {"learning_rate": "lr"}  # noqa: RUF012

    lr: Annotated[float, Field(gt=0)] | Auto = "auto"
    size: Annotated[int, Field(ge=4)] = 8
    feed: Literal["resident", "streaming"] | Auto = "auto"
    root: Path | None = None
    amp: bool = False
    names: tuple[str, ...] = ()
    warm: Warm = Warm()


def fault(**values: Any) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        Wish.parse(values)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 2
    return caught.value


def test_a_record_is_frozen_and_knows_its_defaults() -> None:
    wish = Wish.parse({"lr": "1e-3", "warm": "5ep"})
    assert (wish.lr, wish.warm.length, wish.warm.shape) == (0.001, Span(5, "ep"), "linear")
    with pytest.raises(ValueError, match="frozen"):
        wish.lr = 1.0  # type: ignore[misc]
    assert wish.replaced(lr=2.0).lr == 2.0
    assert wish.replaced(lr=2.0).warm == wish.warm
    with pytest.raises(RecipeError, match="greater than 0"):
        wish.replaced(lr=-1.0)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("siez", "did you mean 'size'?"),
        ("learning_rat", "did you mean 'lr'?"),
        ("shape", "did you mean 'warm.shape'?"),
        ("banana", "`halftone train --help` lists them all"),
    ],
)
def test_B1_an_unknown_setting_is_named_with_the_nearest(name: str, hint: str) -> None:
    error = fault(**{name: 1})
    assert str(error) == f"unknown setting '{name}'"
    assert error.hint == hint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": "ten"}, "lr = 'ten': it must be a valid number, unable to parse string as a number, or 'auto'"),
        ({"lr": [1]}, "lr = [1]: it must be a valid number, or 'auto'"),
        ({"lr": -1}, "lr = -1: it must be greater than 0, or 'auto'"),
        ({"lr": float("nan")}, "lr = nan: it must be a finite number, or 'auto'"),
        ({"lr": float("inf")}, "lr = inf: it must be a finite number, or 'auto'"),
        ({"size": 3}, "size = 3: it must be greater than or equal to 4"),
        ({"size": 8.5}, "size = 8.5: it must be a valid integer, got a number with a fractional part"),
        ({"feed": "residnt"}, "feed = 'residnt': it must be 'resident' or 'streaming', or 'auto'"),
        ({"root": 5}, "root = 5: it must be a path"),
        ({"amp": "perhaps"}, "amp = 'perhaps': it must be yes or no"),
        ({"warm": {"shape": "cosin"}}, "warm.shape = 'cosin': it must be 'linear' or 'cosine'"),
        ({"warm": "5"}, "warm.length = '5': a length is a number with a unit: 5ep"),
        ({"names": [1, 2]}, "names = 1: it must be a valid string"),
        ({"lr": "x" * 500}, "..."),
        ({"size": "a\nb"}, r"size = 'a\nb'"),
        ({"lr": 0, "size": 0, "feed": "x"}, "lr = 0: it must be greater than 0, or 'auto' (and 2 more)"),
    ],
)
def test_B2_B3_a_wrong_value_is_named_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    error = fault(**values)
    assert message in str(error)
    assert len(str(error)) < 300


def test_a_near_choice_is_suggested_in_any_branch_of_a_type() -> None:
    assert fault(feed="residnt").hint == "did you mean 'resident'?"
    assert fault(feed="atuo").hint == "did you mean 'auto'?"
    assert fault(lr="atuo").hint == "did you mean 'auto'?"


def test_a_message_names_its_source() -> None:
    with pytest.raises(RecipeError, match=r"^run.yaml: size = 1: "):
        Wish.parse({"size": 1}, source="run.yaml")


def test_a_missing_setting_says_how_to_give_it() -> None:
    class Needy(Record):
        size: int

    with pytest.raises(RecipeError, match="'size' is missing") as caught:
        Needy.parse({})
    assert caught.value.hint == "give it a value: --size"


def test_only_settled_values_leave_the_plan() -> None:
    assert decided(3) == 3
    with pytest.raises(AssertionError):
        decided("auto")


def test_settings_and_nested_records() -> None:
    assert list(records.settings(Wish)) == [
        "lr", "size", "feed", "root", "amp", "names", "warm", "warm.length", "warm.shape",
    ]  # fmt: skip
    assert nested_record(Warm | None) is Warm
    assert nested_record(int) is None


PRINTABLE = st.text(st.characters(exclude_categories=["Cc"]), max_size=20)
WISHES = st.builds(
    Wish,
    lr=st.one_of(st.just("auto"), st.floats(1e-300, 1e300)),
    size=st.integers(4, 2**62),
    feed=st.sampled_from(["auto", "resident", "streaming"]),
    root=st.one_of(st.none(), PRINTABLE.filter(lambda text: text.strip("./") == text != "").map(Path)),
    amp=st.booleans(),
    names=st.lists(st.one_of(PRINTABLE, st.sampled_from(["no", "1e3", "null", "~", "2001-01-01", "a: b"]))).map(tuple),
    warm=st.builds(
        Warm, length=st.integers(0, 10**9).map(lambda n: f"{n}it"), shape=st.sampled_from(["linear", "cosine"])
    ),
)


@settings(max_examples=60)
@given(WISHES)
def test_a_record_survives_the_way_through_yaml(wish: Wish) -> None:
    text = to_yaml(wish)
    assert Wish.parse(yaml.load(text, Loader=records._StrictLoader) or {}) == wish
    assert "warm" in text or wish.warm == Warm()


def test_yaml_leaves_defaults_out_and_keeps_the_order(tmp_path: Path) -> None:
    assert to_yaml(Wish()) == "{}\n"
    assert to_yaml(Wish(size=9, lr=0.1)) == "lr: 0.1\nsize: 9\n"
    write_yaml(tmp_path / "run.yaml", {"zebra": 1, "apple": "é\udcff"})
    assert list(read_yaml(tmp_path / "run.yaml")) == ["zebra", "apple"]
    assert read_yaml(tmp_path / "run.yaml")["apple"] == "é\udcff"
    assert dump_yaml({"name": "é"}) == "name: é\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "the key 'a' stands twice (again in line 2)"),
        ("a:\n  b: 1\n  b: 2\n", "the key 'b' stands twice (again in line 3)"),
        ("a:\n\tb: 1\n", "is not plain YAML"),
        ("", "must hold a mapping"),
        ("- 1\n- 2\n", "must hold a mapping"),
        ("1: 2\n", "must hold a mapping"),
        ("? [1, 2]\n: 3\n", "a key must be a plain word (line 1)"),
        ("? {a: 1}\n: 3\n", "a key must be a plain word (line 1)"),
        ("a: &x [1]\nb: *x\n", "aliases (*name) are not allowed"),
        ("a: 2001-99-99\n", "month must be in 1..12"),
        ("a: !!int abc\n", "is not plain YAML"),
        ("a: " + "[" * 5000, "is not plain YAML"),
        ("a: b: c\n", "is not plain YAML"),
        ("a: \x00\n", "is not plain YAML"),
    ],
)
def test_B5_a_damaged_recipe_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_yaml(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_B5_billion_laughs_and_large_files_are_refused_at_once(tmp_path: Path) -> None:
    laughs = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    (tmp_path / "laughs.yaml").write_text(laughs)
    (tmp_path / "large.yaml").write_bytes(b"a: 1\n" * 2_000_000)
    start = time.perf_counter()
    with pytest.raises(RecipeError, match="aliases"):
        read_yaml(tmp_path / "laughs.yaml")
    with pytest.raises(RecipeError, match="too large"):
        read_yaml(tmp_path / "large.yaml")
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system [touch canary]", "!!python/name:os.system ''", "!!python/module:os ''"]
)
def test_B6_no_tag_runs_code(tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(f"a: {tag}\n")
    with pytest.raises(RecipeError, match="not plain YAML"):
        read_yaml(tmp_path / "run.yaml")
    assert not (tmp_path / "canary").exists()


def test_B10_what_is_no_readable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("a: é\n".encode("latin-1"))
    with pytest.raises(RecipeError, match="not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes("\ufeffa: 1\r\nb: no\r\n".encode())
    assert read_yaml(tmp_path / "run.yaml") == {"a": 1, "b": False}


def test_B2_yes_and_no_are_no_numbers(tmp_path: Path) -> None:
    """YAML reads `no` as false, and pydantic would read false as 0."""
    for values in ({"lr": True}, {"size": False}):
        assert "it must be a number, not yes or no" in str(fault(**values))
    assert Wish.parse({"amp": True}).amp
    path = tmp_path / "wish.yaml"
    path.write_text("size: no\n")
    with pytest.raises(RecipeError, match=r"size = False: it must be a number"):
        Wish.parse(read_yaml(path))
