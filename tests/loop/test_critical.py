"""The critical rate: the search on functions that are known, and steps of networks against the loss itself."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_sessions import session_of
from torch import nn

from halftone.loop.critical import critical_share, largest_harmless, put_back
from halftone.loop.range_test import endless_batches
from halftone.loop.session import Session
from halftone.loop.step import update


@given(st.floats(2e-4, 100))
def test_the_search_finds_the_edge_to_a_fifth(edge: float) -> None:
    found = largest_harmless(lambda share: (share - edge / 2) ** 2)  # as at 0 where the share is the edge
    assert found is not None
    assert edge / 1.2 <= found <= edge * 1.0001


def test_the_search_takes_few_passes() -> None:
    counted: list[float] = []

    def loss(share: float) -> float:
        counted.append(share)
        return (share - 0.1) ** 2

    largest_harmless(loss)
    assert len(counted) <= 8


def test_the_ends_of_the_search() -> None:
    assert largest_harmless(lambda share: -share) == 4.0**4
    assert largest_harmless(lambda share: share) is None
    found = largest_harmless(lambda share: math.nan if share > 0.3 else -share)
    assert found is not None
    assert 0.25 <= found <= 0.3


def flat(**settings: object) -> Session:
    return session_of(waits=True, warmup="none", decay="constant", l1=0.0, **settings)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_step_below_is_harmless_and_one_above_is_not(name: str) -> None:
    """Against the run's own optimizer: the scaled direction is the step that it would take."""
    share = critical_share(flat(optimizer=name, lr=0.3), num_batches=1)
    assert share is not None

    def change(factor: float) -> float:
        session = flat(optimizer=name, lr=0.3)
        session.enter_training()
        for group in session.optimizer.param_groups:
            group["peak"] *= share * factor
        batch = next(endless_batches(session))
        before = update(session, batch, step=0, tried=0).loss
        with torch.no_grad():
            images, targets = session.augment(batch, 0)
            after = session.criterion(session.model(session.prepare(images)), targets)
        return float(after - before)

    assert change(0.98) <= 1e-4
    assert change(1.25) > 0


def test_it_leaves_the_network_as_it_was() -> None:
    session = flat()
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    random = torch.get_rng_state()
    assert critical_share(session) is not None
    after = session.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not session.optimizer.state
    assert torch.equal(torch.get_rng_state(), random)


def test_parts_of_a_batch_give_the_same() -> None:
    """Without batch normalisation, whose statistics are those of a part."""
    session = flat()
    session.model[1] = nn.Identity()  # the normalisation; its weights get no gradient
    found = [critical_share(replace(session, parts=parts), num_batches=2) for parts in (1, 3)]
    assert found[0] is not None
    assert found[0] == pytest.approx(found[1], rel=0.2)


def test_dropout_draws_the_same_in_every_pass() -> None:
    session = flat(lr=0.01)
    dropout = nn.Dropout(0.5)
    plain = session.model.forward
    session.model.forward = lambda images: dropout(plain(images))  # type: ignore[method-assign]
    first, second = (critical_share(session, num_batches=2) for _ in range(2))
    assert first == second
    assert first is not None


def test_no_finite_step_is_no_rate() -> None:
    assert critical_share(flat(poison=lambda tried: True), num_batches=1) is None


def test_what_is_trained_meanwhile_is_put_back() -> None:
    session = flat(optimizer="adamw")
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    with put_back(session):
        for number, batch in enumerate(islice(endless_batches(session), 3)):
            update(session, batch, step=number, tried=number)
        assert not torch.equal(session.model.state_dict()["0.weight"], before["0.weight"])
    assert all(torch.equal(session.model.state_dict()[name], value) for name, value in before.items())
    assert not session.optimizer.state
