"""weights show, weights diff."""

from typing import TYPE_CHECKING

from halftone.base.errors import listed, printable
from halftone.cli.shown import share
from halftone.cli.use import Json
from halftone.cli.weights.shared import File, number, print_json, print_table, table

if TYPE_CHECKING:
    from halftone.run.weight_files import WeightFile
    from halftone.weights.difference import Difference
    from halftone.weights.facts import TensorFacts


def show(file: File, /, *, json: Json = False) -> int:
    """Say what each tensor of a file holds, and what fp16 would lose of it."""
    from halftone.run.weight_files import open_weights
    from halftone.weights.facts import all_facts

    opened = open_weights(file)
    facts, totals = all_facts(opened.tensors)
    if json:
        card = None if opened.card is None else opened.card.model_dump(mode="json")
        found = {"file": str(opened.path), "kind": opened.kind, "card": card, "totals": totals.model_dump(mode="json")}
        print_json({**found, "tensors": [fact.model_dump(mode="json") for fact in facts]})
        return 0
    _show_facts(facts)
    print(printable(f"{opened.path}: {opened.kind}{_of_card(opened)}"))
    broken = f", {totals.num_not_finite:,} not finite" if totals.num_not_finite else ""
    print(f"{totals.num_tensors:,} tensors, {totals.num_elements:,} numbers, {totals.num_bytes:,} bytes{broken}")
    return 0


def _of_card(opened: "WeightFile") -> str:
    """Say what is known of the weights beside their numbers."""
    card = opened.card
    if card is None:
        return f", epoch {opened.epoch}, step {opened.step}" if opened.step else ""
    accuracy = "not evaluated" if card.accuracy is None else f"accuracy {card.accuracy:.2%}"
    return (
        f", {card.name}, {len(card.classes)} classes ({listed(card.classes, most=4)}), "
        f"{card.input.size} x {card.input.size} pixels, epoch {card.epoch}, {accuracy}"
    )


def _show_facts(facts: "tuple[TensorFacts, ...]") -> None:
    broken = any(fact.num_not_finite for fact in facts)
    titles = ("tensor", "shape", "type", "mean", "deviation", "largest", "zeros")
    rows = table(*titles, *(["not finite"] if broken else []), "fp16 loses")
    for fact in facts:
        rows.add_row(
            printable(fact.name),
            "x".join(map(str, fact.shape)) or "-",
            fact.dtype,
            *(number(value) for value in (fact.mean, fact.deviation, fact.largest)),
            share(fact.zeros),
            *([f"{fact.num_not_finite:,}" if fact.num_not_finite else "-"] if broken else []),
            _loss(fact),
        )
    print_table(rows)


def _loss(fact: "TensorFacts") -> str:
    """Say what fp16 would make of a tensor: the share that becomes infinite, zero, or a number with fewer bits."""
    if fact.half is None:
        return "-"
    parts = {"to inf": fact.half.overflow, "to 0": fact.half.underflow, "subnormal": fact.half.subnormal}
    return ", ".join(f"{share(lost)} {words}" for words, lost in parts.items() if lost) or "-"


def diff(first: File, second: File, /, *, json: Json = False) -> int:
    """Compare two files tensor by tensor, the largest relative change first."""
    from halftone.run.weight_files import open_weights
    from halftone.weights.difference import compare

    one, other = open_weights(first), open_weights(second)
    found = compare(one.tensors, other.tensors)
    if json:
        paths = {"first": str(one.path), "second": str(other.path), "identical": found.identical}
        print_json({**paths, **found.model_dump(mode="json")})
        return 0
    _show_difference(found)
    print(f"{found}")
    return 0


def _show_difference(found: "Difference") -> None:
    rows = table("tensor", "relative change", "cosine", "largest change", "")
    for one in found.changed:
        types = "" if one.types[0] == one.types[1] else f"{one.types[0]} and {one.types[1]}"
        cosine = "-" if one.cosine is None else f"{one.cosine:.6f}"
        rows.add_row(printable(one.name), number(one.relative), cosine, number(one.largest), types)
    for pair in found.reshaped:
        shapes = (" x ".join(map(str, shape)) for shape in (pair.first, pair.second))
        rows.add_row(printable(pair.name), "-", "-", "-", " and ".join(shapes))
    for names, words in ((found.only_first, "only in the first"), (found.only_second, "only in the second")):
        for name in names:
            rows.add_row(printable(name), "-", "-", "-", words)
    if rows.row_count:
        print_table(rows)
