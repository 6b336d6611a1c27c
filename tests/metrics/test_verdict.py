"""The verdict on a run, from metrics and losses that are made up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from halftone.metrics.report import ClassMetrics, Metrics
from halftone.metrics.verdict import EpochLosses, class_gaps, judge, rise_of, share_gap, still_falling


def learning(*validation: float) -> list[EpochLosses]:
    """Epochs with these validation losses and a training loss that falls."""
    return [EpochLosses(1 / (epoch + 1), loss) for epoch, loss in enumerate(validation)]


SETTLED = learning(1.0, 0.6, 0.5, 0.5, 0.5)
RISING = learning(1.0, 0.5, 0.6, 0.7, 0.8)
FALLING = learning(1.0, 0.8, 0.6, 0.5)


def metrics(*recalls: float, each: int = 1000, loss: float | None = 0.5) -> Metrics:
    """Classes of `each` images, found as often as given."""
    classes = tuple(
        ClassMetrics(name=f"class {n}", support=each, predicted=each, precision=None, recall=recall, f1=None)
        for n, recall in enumerate(recalls)
    )
    return Metrics(
        num_images=each * len(recalls),
        loss=loss,
        accuracy=sum(recalls) / len(recalls) if recalls else None,
        top5=None,
        precision=None,
        recall=None,
        f1=None,
        calibration_error=None,
        classes=classes,
        confusion=(),
    )


@pytest.mark.parametrize(
    ("training", "validation", "losses", "kind"),
    [
        (0.99, 0.70, SETTLED, "over-fits"),
        (0.97, 0.92, SETTLED, "over-fits"),
        (0.99, 0.98, SETTLED, "fits"),  # a gap nobody would act on
        (0.60, 0.58, SETTLED, "under-fits"),
        (0.70, 0.62, SETTLED, "under-fits"),  # a gap, but more is missing in training itself
        (0.96, 0.95, FALLING, "under-fits"),
        (0.995, 0.99, FALLING, "fits"),  # falling still, but there is nothing left to gain
        (0.96, 0.955, RISING, "over-fits"),
        (0.94, 0.90, SETTLED, "fits"),
        (0.44, 0.37, RISING, "over-fits"),  # the best weights are early ones, and more epochs would not help
    ],
)
def test_the_larger_part_of_the_error_decides(
    training: float, validation: float, losses: list[EpochLosses], kind: str
) -> None:
    found = judge(metrics(training), metrics(validation), losses)
    assert found.kind == kind
    assert f"{100 * training:.1f} % of the training images" in found.sentence
    assert bool(found.advice) == (kind in ("over-fits", "under-fits"))


def test_a_gap_within_two_standard_errors_is_none() -> None:
    assert judge(metrics(0.97, each=60), metrics(0.92, each=60), SETTLED).kind != "over-fits"
    assert judge(metrics(0.97, each=2000), metrics(0.92, each=2000), SETTLED).kind == "over-fits"


def test_few_images_tell_nothing() -> None:
    found = judge(metrics(1.0, each=20), metrics(0.95, each=20), SETTLED)
    assert found.kind == "unclear"
    assert "too few images" in found.sentence


def test_without_training_images_the_loss_is_what_is_left() -> None:
    assert judge(None, metrics(0.9), RISING).kind == "over-fits"
    assert judge(None, metrics(0.9), FALLING).kind == "under-fits"
    assert judge(None, metrics(0.9), SETTLED).kind == "unclear"
    assert judge(None, None, []).kind == "unclear"
    assert judge(metrics(0.9), metrics(), SETTLED).kind == "unclear"


def test_evidence_has_the_losses() -> None:
    found = judge(metrics(0.99, loss=0.1), metrics(0.7, loss=1.25), RISING)
    assert "loss 0.100 in training and 1.250 in validation" in found.evidence
    assert "the validation loss ended 60 % above its lowest point" in found.evidence


def test_the_direction_of_the_loss() -> None:
    assert rise_of(RISING) == pytest.approx(0.6)
    assert rise_of(SETTLED) == rise_of([]) == rise_of(learning(0.0, 1.0, 1.0, 1.0)) == 0
    assert rise_of(learning(1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.6)) == 0  # it came late
    diverging = [EpochLosses(epoch.validation, epoch.validation) for epoch in RISING]
    assert rise_of(diverging) == 0  # the training loss rises, too
    assert still_falling([1.0, 0.8, 0.6, 0.5])
    assert not still_falling([1.0, 0.5])
    assert not still_falling([0.3, 0.9, 0.8, 0.7])


@given(
    st.floats(0, 1), st.integers(1, 5000), st.floats(0, 1), st.integers(1, 5000)
)  # fmt: skip
def test_the_error_of_a_gap_is_never_zero(first: float, many: int, second: float, few: int) -> None:
    gap = share_gap(first, many, second, few)
    assert gap.error > 0
    assert gap.value == first - second
    assert share_gap(second, few, first, many).error == pytest.approx(gap.error)


def test_the_error_is_the_binomial_one_for_many_images() -> None:
    wanted = math.sqrt(stats.binom.var(5000, 0.8) / 5000**2 + stats.binom.var(2000, 0.6) / 2000**2)
    assert share_gap(0.8, 5000, 0.6, 2000).error == pytest.approx(wanted, rel=1e-3)


def test_a_class_stands_out_where_its_gap_is_larger_than_that_of_all() -> None:
    gaps = class_gaps(metrics(0.99, 0.98, 0.97, 0.99), metrics(0.95, 0.60, 0.93, 0.96))
    assert [gap.name for gap in gaps if gap.stands_out] == ["class 1"]
    assert gaps[0].name == "class 1"
    assert gaps[0].gap.value == pytest.approx(0.38)
    assert not any(gap.stands_out for gap in class_gaps(metrics(0.99, 0.98), metrics(0.79, 0.78)))
