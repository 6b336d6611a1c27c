"""What is said of outcomes, and how often it is wrong."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from comparison.examples import evaluated
from comparisons import epochs, outcome, paired, variants
from halftone.comparison.records import CompareConfig, Outcome, Variant, Verdict
from halftone.comparison.verdicts.pairing import auto_target, seconds_to
from halftone.comparison.verdicts.verdict import judge
from halftone.comparison.verdicts.wording import short_names

FP32, BF16 = TWO = variants("fp32", "bf16")
FP32_F, BF16_F, FP16_F, FP8_F = FOUR = variants("fp32", "bf16", "fp16", "fp8")
SMALL = [-0.0003, 0.0005, -0.001, 0.0008, -0.0004]
CONFIG = CompareConfig()


def only(differences: list[float], config: CompareConfig = CONFIG, **fields: Any) -> Verdict:
    (verdict,) = judge(TWO, paired(TWO, differences, **fields), config)
    return verdict


def with_loss(*table: list[float]) -> list[Outcome]:
    return [
        outcome(variant, seed, loss=loss)
        for variant, losses in zip(TWO, table, strict=True)
        for seed, loss in enumerate(losses)
    ]


def test_the_sentence_holds_the_whole_verdict() -> None:
    outcomes = []
    for seed, difference in enumerate(SMALL):
        outcomes.append(outcome(FP32, seed, 0.97, train_seconds=10.0, peak_memory_mb=500.0, joules=90.0))
        outcomes.append(outcome(BF16, seed, 0.97 + difference, train_seconds=4.8, peak_memory_mb=285.0, joules=45.0))
    (verdict,) = judge(TWO, outcomes, CONFIG)
    assert verdict.sentence == (
        "bf16 is as accurate as fp32 (difference -0.01 points, 95 % interval -0.10 to +0.08, 5 seeds), "
        "2.1 times as fast, 0.57 of the memory, 0.50 of the energy."
    )
    assert verdict.kind == "equivalent"
    low, high = stats.ttest_1samp(SMALL, 0).confidence_interval(0.95)
    assert verdict.difference is not None
    assert (verdict.difference.low, verdict.difference.high) == pytest.approx((low, high))
    methods = " ".join(verdict.methods)
    for name in ("Student", "Schuirmann 1987", "within 0.5 points", "Memory: the peak of the process"):
        assert name in methods
    assert "Holm" not in methods
    assert "looks" not in methods


def test_a_difference_within_the_margin_is_none_also_where_it_is_measurable() -> None:
    verdict = only([-0.002, -0.0025, -0.0018, -0.0022, -0.002])
    assert verdict.kind == "equivalent"
    assert verdict.sentence.startswith(
        "bf16 is as accurate as fp32 within 0.5 points, though measurably less accurate (difference -0.21 points,"
    )


def test_better_and_worse_are_told_by_what_the_measure_is() -> None:
    up = [0.02, 0.025, 0.018, 0.022, 0.021]
    down = [-value for value in up]
    assert only(up).kind == "better"
    assert only(up).sentence.startswith("bf16 is more accurate than fp32 (difference +2.12 points")
    assert only(down).kind == "worse"
    recall = only(up, CompareConfig(measure="recall"))
    assert recall.sentence.startswith("bf16 has a higher mean recall of the classes than fp32")
    calibration = only(up, CompareConfig(measure="calibration_error"))
    assert (calibration.kind, only(down, CompareConfig(measure="calibration_error")).kind) == ("worse", "better")
    assert calibration.sentence.startswith("bf16 is worse calibrated than fp32 (difference +2.12 points")


def test_the_loss_is_told_in_nats_and_its_margin_in_hundredths_of_one() -> None:
    config = CompareConfig(measure="loss")
    (worse,) = judge(TWO, with_loss([0.1, 0.2, 0.3], [0.12, 0.221, 0.322]), config)
    assert worse.sentence.startswith("bf16 reaches a higher loss than fp32 (difference +0.0210 nats, 95 % interval +0.")
    assert worse.equivalence is not None
    assert worse.equivalence.margin == 0.005
    (same,) = judge(TWO, with_loss([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), config)
    assert same.sentence == (
        "bf16 reaches as low a loss as fp32 (difference +0.0000 nats, 95 % interval +0.0000 to +0.0000, 3 seeds)."
    )


def test_what_is_not_shown_says_how_many_more_seeds_would() -> None:
    verdict = only([-0.003, 0.004, -0.007, 0.008, -0.004], train_seconds=3.0)
    assert verdict.kind == "not shown"
    assert verdict.equivalence is not None
    assert verdict.sentence == (
        "Whether bf16 is as accurate as fp32 is not shown (difference -0.04 points, 95 % interval -0.81 to +0.73, "
        f"5 seeds): about {verdict.equivalence.num_more} more seeds would show it within 0.5 points. "
        "Beside fp32: as fast."
    )
    assert "80 %" in " ".join(verdict.methods)


def test_outside_of_the_margin_no_number_of_seeds_would_show_it() -> None:
    verdict = only([-0.01, 0.004, -0.02, -0.008, -0.004])
    assert verdict.kind == "not shown"
    assert verdict.equivalence is not None
    assert verdict.equivalence.num_more is None
    assert "no number of seeds would" in verdict.sentence
    assert verdict.sentence.endswith("more seeds could only show that it is worse.")
    assert "not even 1,000 more seeds" in only([-0.5, 0.5, 0.1, -0.1003]).sentence


def test_one_pair_cannot_tell() -> None:
    verdict = only([-0.002])
    assert (verdict.kind, verdict.difference, verdict.equivalence) == ("too few", None, None)
    assert verdict.sentence == (
        "Whether bf16 is as accurate as fp32 cannot be told from one seed (accuracy 89.80 % against 90.00 %, "
        "difference -0.20 points): one pair cannot tell chance from effect."
    )
    (none,) = judge(TWO, [], CONFIG)
    assert none.sentence == "Whether bf16 is as accurate as fp32 cannot be told: no seed has finished with both."


def test_a_run_that_has_no_metrics_is_no_pair() -> None:
    outcomes = [*paired(TWO, SMALL), outcome(FP32, 5), outcome(BF16, 5, None), outcome(BF16, 6)]
    (verdict,) = judge(TWO, outcomes, CONFIG)
    assert verdict.difference is not None
    assert verdict.difference.num_pairs == 5
    assert verdict.kind == "equivalent"


def test_runs_that_diverge_are_a_verdict() -> None:
    outcomes = paired(TWO, SMALL, train_seconds=2.0)
    outcomes[3] = outcome(BF16, 1, status="diverged")
    outcomes[5] = outcome(BF16, 2, status="failed", fault="the device has no memory left.")
    (verdict,) = judge(TWO, outcomes, CONFIG)
    assert verdict.kind == "diverges"
    assert verdict.sentence.startswith(
        "bf16 diverges in 1 of 5 runs, fails in 1 (the device has no memory left); fp32 finishes all of its runs. "
        "In the 3 pairs that finished, bf16 is as accurate as fp32 (difference +0.00 points"
    )
    assert verdict.sentence.endswith("Beside fp32: as fast.")
    every = [outcome(FP32, seed) for seed in range(3)] + [outcome(BF16, seed, status="failed") for seed in range(3)]
    (failed,) = judge(TWO, every, CONFIG)
    assert (failed.kind, failed.difference) == ("failed", None)
    assert failed.sentence == "bf16 fails in 3 of 3 runs; fp32 finishes all of its runs."


def test_a_baseline_that_diverges_is_said() -> None:
    outcomes = paired(TWO, SMALL)
    outcomes[0] = outcome(FP32, 0, status="diverged")
    (some,) = judge(TWO, outcomes, CONFIG)
    assert some.kind == "equivalent"
    assert some.sentence.endswith("The baseline fp32 diverges in 1 of 5 runs; only pairs that finished count.")
    every = [outcome(BF16, seed) for seed in range(3)] + [outcome(FP32, seed, status="diverged") for seed in range(3)]
    (none,) = judge(TWO, every, CONFIG)
    assert none.kind == "too few"
    assert none.sentence.endswith("The baseline fp32 diverges in 3 of 3 runs; bf16 finishes all of its runs.")


def test_speed_is_told_with_its_range_and_with_what_the_range_allows() -> None:
    def told(*ratios: float) -> str:
        outcomes = [outcome(FP32, seed, train_seconds=1.0) for seed in range(len(ratios))]
        outcomes += [outcome(BF16, seed, train_seconds=ratio) for seed, ratio in enumerate(ratios)]
        return judge(TWO, outcomes, CONFIG)[0].sentence.rpartition("seeds), ")[2]

    assert told(0.5, 0.48, 0.45) == "2.1 times as fast (2.0 to 2.2)."
    assert told(1.25, 1.2, 1.3) == "0.80 times as fast (0.77 to 0.83)."
    assert told(1.03, 1.0, 0.97) == "as fast (1.00 times, 0.97 to 1.03)."
    assert told(0.6, 0.8, 1.5) == "neither faster nor slower beyond the noise (1.25 times as fast, 0.67 to 1.67)."


def test_memory_is_that_of_the_accelerator_where_both_have_one() -> None:
    outcomes = [outcome(FP32, seed, peak_memory_mb=100.0, device_memory_mb=80.0) for seed in range(3)]
    outcomes += [outcome(BF16, seed, peak_memory_mb=100.0, device_memory_mb=40.0) for seed in range(3)]
    (verdict,) = judge(TWO, outcomes, CONFIG)
    assert verdict.memory is not None
    assert verdict.memory.median == 0.5
    assert "Memory: the peak of the accelerator." in verdict.methods


def test_what_a_guess_reaches_is_no_target() -> None:
    metrics = evaluated(0, 5.0, np.random.default_rng(0), 4)
    guess = max(one.support for one in metrics.classes) / metrics.num_images

    def run(seed: int, accuracy: float) -> Outcome:
        return outcome(FP32, seed, epochs=epochs((1.0, accuracy))).replaced(metrics=metrics)

    assert auto_target([run(0, 0.9), run(1, 1.6 * guess)]) == pytest.approx(1.6 * guess)
    assert auto_target([run(0, 0.9), run(1, 1.4 * guess)]) is None


def test_time_to_a_target_is_that_of_the_first_epoch_that_reaches_it() -> None:
    slow = epochs((1.0, 0.5), (2.0, None), (3.0, 0.9), (4.0, 0.8))
    fast = epochs((1.0, 0.95), (2.0, 0.85))
    weak = epochs((1.0, 0.3))
    outcomes = [outcome(FP32, 0, epochs=slow), outcome(BF16, 0, epochs=fast)]
    outcomes += [outcome(FP32, 1, epochs=slow), outcome(BF16, 1, epochs=weak)]
    assert auto_target(outcomes[:2]) == 0.9
    assert auto_target(outcomes) == 0.3
    assert auto_target([*outcomes, outcome(BF16, 2)]) is None
    assert auto_target([*outcomes[:2], outcome(BF16, 2, status="diverged", epochs=weak)]) == 0.9
    assert (seconds_to(0.9, outcomes[0]), seconds_to(0.9, outcomes[3])) == (3.0, None)
    (verdict,) = judge(TWO, outcomes, CONFIG, target=0.9)
    assert verdict.seconds_to_target is not None
    assert (verdict.seconds_to_target.median, verdict.seconds_to_target.num_pairs) == (pytest.approx(1 / 3), 1)
    assert "90.00 % reached in 0.33 of the time in 1 of 2 pairs" in verdict.sentence


def test_agreement_takes_the_predictions_of_the_same_seed() -> None:
    found = {("precision=fp32", 0): [(0, 0), (1, 1)], ("precision=bf16", 0): [(0, 0), (1, 0)]}
    (verdict,) = judge(TWO, paired(TWO, SMALL), CONFIG, predictions=lambda *run: found.get(run))
    assert verdict.agreement is not None
    assert (verdict.agreement.num_images, verdict.agreement.same, verdict.agreement.only_baseline) == (2, 0.5, 1)
    assert "McNemar" in " ".join(verdict.methods)


def test_several_variants_are_corrected_as_by_statsmodels() -> None:
    rng = np.random.default_rng(5)
    table = [list(rng.normal(mean, 0.002, 6)) for mean in (0.0, 0.002, 0.004)]
    verdicts = judge(FOUR, paired(FOUR, *table), CONFIG)
    found = [(one.difference, one.equivalence) for one in verdicts]
    raw = [stats.ttest_1samp(row, 0) for row in table]
    tests = [ttost_paired(np.array(row), np.zeros(6), -0.005, 0.005)[0] for row in table]
    corrected = multipletests([one.pvalue for one in raw], method="bonferroni")[1]
    shown, holm, *_ = multipletests(tests, method="holm")
    for number, (difference, equivalence) in enumerate(found):
        assert difference is not None
        assert equivalence is not None
        assert difference.p_value == pytest.approx(corrected[number])
        assert (difference.low, difference.high) == pytest.approx(
            tuple(raw[number].confidence_interval(1 - 0.05 / 3))
        )  # fmt: skip
        assert (difference.low > 0 or difference.high < 0) == (difference.p_value < 0.05)
        assert (equivalence.p_value, equivalence.shown) == (pytest.approx(holm[number]), shown[number])
        assert (equivalence.num_more == 0) == shown[number]
    assert "98.3 % interval" in verdicts[0].sentence
    assert "3 variants are judged" in " ".join(verdicts[0].methods)


def test_names_are_short_where_they_speak() -> None:
    assert list(short_names(TWO).values()) == ["fp32", "bf16"]
    assert list(short_names(variants("none", "5ep", setting="warmup")).values()) == ["warmup=none", "warmup=5ep"]
    assert list(short_names(variants("0.1", "0.2", setting="lr")).values()) == ["lr=0.1", "lr=0.2"]
    mixed = (*TWO, *variants("he", setting="init"))
    assert list(short_names(mixed).values()) == ["precision=fp32", "precision=bf16", "init=he"]
    grid = Variant(name="precision=bf16, init=he", changes={"precision": "bf16", "init": "he"})
    assert short_names([grid]) == {grid.name: grid.name}


def test_without_a_true_difference_the_interval_covers_and_nothing_is_better() -> None:
    """1,000 experiments: 93 to 97 % of the intervals hold the truth, which is zero."""
    table = np.random.default_rng(11).normal(0, 0.002, (1000, 5))
    verdicts = [only(list(row)) for row in table]
    covered = np.mean([one.difference.low <= 0 <= one.difference.high for one in verdicts if one.difference])
    assert 0.93 <= covered <= 0.97
    assert np.mean([one.kind in ("better", "worse") for one in verdicts]) <= 0.05 + margin_of_error(1000)
    assert np.mean([one.kind == "equivalent" for one in verdicts]) > 0.9


@pytest.mark.parametrize("deviation", [0.001, 0.004])
def test_a_true_difference_of_the_margin_is_seldom_called_equivalent(deviation: float) -> None:
    table = np.random.default_rng(12).normal(-CONFIG.margin / 100, deviation, (1000, 5))
    wrong = np.mean([only(list(row)).kind == "equivalent" for row in table])
    assert wrong <= 0.05 + margin_of_error(1000)


def test_with_several_variants_any_wrong_verdict_is_as_seldom() -> None:
    """Three variants as good as the baseline: is one called different? At the margin: is one called equivalent?"""
    rng = np.random.default_rng(13)
    for mean, kinds in ((0.0, {"better", "worse"}), (0.005, {"equivalent"})):
        wrong = 0
        for experiment in rng.normal(mean, 0.001, (300, 3, 5)):
            verdicts = judge(FOUR, paired(FOUR, *(list(row) for row in experiment)), CONFIG)
            wrong += any(one.kind in kinds for one in verdicts)
        assert wrong / 300 <= 0.05 + margin_of_error(300)


def test_coarse_accuracies_cover_as_well() -> None:
    """Accuracies of 360 images, whose differences are often all equal."""
    rng = np.random.default_rng(14)
    covered = []
    for base, other in zip(rng.normal(0.97, 0.001, (1000, 3)), rng.normal(0.97, 0.001, (1000, 3)), strict=True):
        coarse = np.round(360 * other) / 360 - np.round(360 * base) / 360
        difference = only(list(coarse), num_images=360).difference
        assert difference is not None
        covered.append(difference.low <= 0 <= difference.high)
    assert np.mean(covered) >= 0.95 - margin_of_error(1000)


def margin_of_error(num_experiments: int) -> float:
    """Three standard errors of a share that is 5 % in truth."""
    return 3 * math.sqrt(0.05 * 0.95 / num_experiments)


def test_a_verdict_is_a_record_that_can_be_written_and_read() -> None:
    verdict = only(SMALL)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
