"""When a comparison may stop, and that looking early keeps its promise."""

import math

import numpy as np
import pytest

from comparisons import outcome, paired, variants
from halftone.comparison.records import CompareConfig, Outcome, Verdict
from halftone.comparison.verdicts.sequential import FIRST_LOOK, is_decided, level, num_looks, of_complete_seeds
from halftone.comparison.verdicts.verdict import judge

FP32, BF16 = TWO = variants("fp32", "bf16")
THREE = variants("fp32", "bf16", "fp16")
CONFIG = CompareConfig(seeds=5, until="decided")
SAME = [0.0001, -0.0001, 0.0, 0.0001, 0.0]


def decided(outcomes: list[Outcome], compared: tuple = TWO) -> bool:
    return is_decided(compared, outcomes, judge(compared, outcomes, CONFIG))


def stopped(differences: list[float], config: CompareConfig = CONFIG) -> Verdict:
    """Run a comparison seed by seed until it is decided."""
    verdict = None
    for seeds in range(FIRST_LOOK, config.seeds + 1):
        outcomes = paired(TWO, differences[:seeds])
        verdicts = judge(TWO, outcomes, config)
        (verdict,) = verdicts
        if is_decided(TWO, outcomes, verdicts):
            break
    assert verdict is not None
    return verdict


def test_the_level_is_spent_evenly_over_the_looks() -> None:
    assert (num_looks(CONFIG), level(CONFIG)) == (3, pytest.approx(0.05 / 3))
    assert (num_looks(CompareConfig(seeds=5)), level(CompareConfig(seeds=5))) == (1, pytest.approx(0.05))
    assert [num_looks(CONFIG.replaced(seeds=seeds)) for seeds in (1, 3, 4, 20)] == [1, 1, 2, 18]


def test_early_looks_widen_the_interval_and_say_so() -> None:
    (early,), (fixed,) = judge(TWO, paired(TWO, SAME), CONFIG), judge(TWO, paired(TWO, SAME), CompareConfig())
    assert early.difference is not None
    assert fixed.difference is not None
    assert early.difference.confidence == pytest.approx(1 - 0.05 / 3)
    assert early.difference.high > fixed.difference.high
    assert early.equivalence is not None
    assert fixed.equivalence is not None
    assert early.equivalence.p_value == pytest.approx(3 * (fixed.equivalence.p_value or 0))
    assert "each of the 3 looks is held to 1/3 of the level" in " ".join(early.methods)
    assert "98.3 % interval" in early.sentence


def test_a_clear_verdict_ends_it_from_the_third_seed_on() -> None:
    assert not decided([])
    assert not decided(paired(TWO, SAME[:2]))
    assert decided(paired(TWO, SAME[:3]))
    assert decided(paired(TWO, [0.1, 0.1001, 0.1002]))
    assert not decided(paired(TWO, [0.1, -0.1, 0.05]))


def test_every_verdict_must_be_clear() -> None:
    assert decided(paired(THREE, SAME[:3], SAME[:3]), THREE)
    assert not decided(paired(THREE, SAME[:3], [0.1, -0.1, 0.05]), THREE)


def test_only_complete_seeds_count() -> None:
    outcomes = [*paired(THREE, SAME[:2], SAME[:2]), *paired(THREE, SAME[:3], SAME[:3])[6:8]]
    assert {one.seed for one in of_complete_seeds(THREE, outcomes)} == {0, 1}
    assert not decided(outcomes, THREE)
    first, _ = judge(THREE, outcomes, CONFIG)
    assert first.difference is not None
    assert first.difference.num_pairs == 2


def test_a_variant_that_never_finishes_is_clear_and_one_that_sometimes_does_is_not() -> None:
    baseline = [outcome(FP32, seed) for seed in range(3)]
    never = [outcome(BF16, seed, status="diverged") for seed in range(3)]
    assert decided([*baseline, *never])
    assert not decided([*baseline, *never[:2], outcome(BF16, 2)])
    lost = [outcome(FP32, seed, status="diverged") for seed in range(3)]
    assert decided([*lost, *(outcome(BF16, seed) for seed in range(3))])


def test_stopping_early_keeps_the_promised_error() -> None:
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)
    rng = np.random.default_rng(21)
    none = [stopped(list(row)) for row in rng.normal(0, 0.002, (500, 5))]
    assert np.mean([one.kind in ("better", "worse") for one in none]) <= limit
    missed = [not one.difference.low <= 0 <= one.difference.high for one in none if one.difference]
    assert np.mean(missed) <= limit
    assert np.mean([one.difference.num_pairs for one in none if one.difference]) < 4.7
    margin = [stopped(list(row)) for row in rng.normal(0.005, 0.001, (500, 5))]
    assert np.mean([one.kind == "equivalent" for one in margin]) <= limit
