"""The range test on small sessions: rates, losses, and where it stops."""

import math
from itertools import islice, pairwise

import pytest
from small_sessions import BATCH, session_of

from halftone.loop.range_test import RangePoint, endless_batches, range_test


def points(num_steps: int = 40, *, lowest: float = 1e-3, highest: float = 1e5, **settings: object) -> list[RangePoint]:
    session = session_of(waits=True, warmup="none", decay="constant", l1=0.0, **settings)
    return list(range_test(session, num_steps=num_steps, lowest=lowest, highest=highest))


def test_rates_grow_by_equal_factors_from_the_lowest_to_the_highest() -> None:
    found = points(11, lowest=1e-3, highest=1e-1)
    shares = [point.share for point in found]
    assert shares[0] == pytest.approx(1e-3)
    assert shares[-1] == pytest.approx(1e-1)
    factors = [after / before for before, after in pairwise(shares)]
    assert factors == pytest.approx([100 ** (1 / 10)] * 10)


def test_all_groups_train_at_the_share_of_their_own_peak() -> None:
    session = session_of(waits=True, warmup="none", decay="constant", l1=0.0, optimizer={"name": "sgd", "head_lr": 4.0})
    peaks = [group["peak"] for group in session.optimizer.param_groups]
    assert len(set(peaks)) == 2
    for point in range_test(session, num_steps=3, lowest=0.5, highest=2.0):
        rates = [group["lr"] for group in session.optimizer.param_groups]
        assert rates == pytest.approx([peak * point.share for peak in peaks])


def test_it_stops_where_the_loss_explodes() -> None:
    found = points()
    assert 4 < len(found) < 40
    losses = [point.loss for point in found]
    assert losses[-1] > 4 * min(losses) or math.isinf(losses[-1])
    assert found[-1].share > 1  # the peak itself is a usual rate


def test_it_ends_with_a_loss_that_is_not_finite() -> None:
    found = points(poison=lambda tried: tried == 6)
    assert len(found) == 7
    assert found[-1].loss == math.inf
    assert all(math.isfinite(point.loss) for point in found[:-1])


def test_a_single_bad_batch_does_not_end_it() -> None:
    calm = points(20, lowest=1e-4, highest=1e-2)
    assert len(calm) == 20


def test_batches_go_on_over_the_epochs() -> None:
    session = session_of(waits=True)
    batches = list(islice(endless_batches(session), 30))  # 12 in an epoch
    assert all(len(batch.labels) == BATCH for batch in batches)
    assert sorted(int(i) for batch in batches[:12] for i in batch.indices) == list(range(12 * BATCH))
    assert [list(b.indices) for b in batches[12:24]] != [list(b.indices) for b in batches[:12]]
