"""A session to measure with: over a copy of the network, at a flat rate, and nothing of it stays behind."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import torch

from halftone.base.lengths import Span
from halftone.base.records import decided
from halftone.base.seeds import stream_seed
from halftone.data.labelled import Labelled, Subset
from halftone.loop.session import Session
from halftone.loop.state import unchanged_random
from halftone.run.plan.make import Prepared
from halftone.run.session import build_session
from halftone.schedule.config import DecayConfig, WarmupConfig


@contextmanager
def measuring(prepared: Prepared, *, num_batches: int, whole: bool = False) -> Iterator[Session]:
    """Build a session whose training leaves no trace.

    It has the optimizer, precision, batch and changes of images of the run to come, and the peak rate in every step;
    pictures have their full size.
    The network of `prepared` is not touched: parameters, buffers, modes and gradients stay as they are, and so do the
    random streams, the threads and the determinism of the process.

    Args:
        prepared: a planned run.
        num_batches: how many will be looked at; no more images than these need are decoded.
        whole: whether a step does all that it does in the run; without it, weights are not averaged and nothing is
            compiled, which changes no gradient.
    """
    plan, config = prepared.plan, prepared.plan.settled
    settled = config.replaced(
        warmup=WarmupConfig(length=Span(0, "it"), shape="linear", start=1.0),
        decay=DecayConfig(shape="constant"),
        **(
            {}
            if whole
            else {"average": config.average.replaced(decay=0.0), "model": config.model.replaced(compile=False)}
        ),
    )
    few = _some(prepared.train, num_batches * decided(settled.batch_size), seed=settled.seed)
    with _unchanged_process(prepared.device):
        copied = replace(
            prepared,
            plan=plan.replaced(settled=settled, keep_validation=False, early_sizes=()),
            train=few,
            built=replace(prepared.built, module=copy.deepcopy(prepared.built.module)),
        )
        session = build_session(copied)
        session.enter_training()
        yield session


def _some(source: Labelled, count: int, *, seed: int) -> Labelled:
    """Return the images that a number of batches need, drawn at random where that is not all of them."""
    if count >= len(source.labels):
        return source
    chosen = np.random.default_rng(stream_seed(seed, "measuring")).permutation(len(source.labels))[:count]
    return Subset(source, np.sort(chosen).astype(np.int64))


@contextmanager
def _unchanged_process(device: torch.device) -> Iterator[None]:
    """Give back the random streams, the threads and the determinism of the process as they were."""
    threads = torch.get_num_threads()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with unchanged_random(device):
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        with suppress(RuntimeError):
            torch.set_num_threads(threads)
