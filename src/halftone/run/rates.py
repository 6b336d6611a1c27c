"""Rates that were left at auto, refined by what the user's own network and images show."""

import time
from collections.abc import Sequence
from itertools import islice

import torch

from halftone.base.lengths import Span
from halftone.base.records import decided
from halftone.loop.critical import critical_share, put_back
from halftone.loop.range_test import RangePoint, endless_batches, range_test
from halftone.loop.session import Session
from halftone.loop.state import digest_of
from halftone.loop.step import update
from halftone.models.own import is_own
from halftone.run.measuring import measuring
from halftone.run.plan import cache, decide, rates
from halftone.run.plan.decide import Decision
from halftone.run.plan.make import Prepared
from halftone.run.plan.network import GIVEN
from halftone.run.plan.preview import schedule_of
from halftone.run.plan.record import MeasuredRates, Plan
from halftone.schedule.range_curve import FEWEST_POINTS, read_range
from halftone.version import __version__

LOWEST, HIGHEST = 1e-3, 1e2
"""Of the peak, asked or by rule: the rates of a range test within a plan."""
_STEPS_PER_BATCH = 4
"""The time that a batch takes in the search for the critical rate, in training steps."""
_BATCHES = (3, 1)
"""On which the critical rate is measured: as many as the time allows."""


def with_rates(prepared: Prepared, *, fetch: bool = True, check_peak: bool = False) -> Prepared:
    """Measure at which rates the network trains, and refine what was left at auto.

    The peak by rule is kept where it lies in the measured range; an adaptive warmup starts at the critical rate.
    All is measured on a copy of the network; where measuring fails, or is not worth its time, the rule stays.

    Args:
        prepared: a plan by rule, with the network and its starting weights.
        fetch: whether published weights are there.
        check_peak: whether the range is measured for a peak that was asked for, too, so that a warning can be given.
    """
    plan = prepared.plan
    wants_range, wants_start = check_peak or plan.asked.optimizer.lr == "auto", _wants_start(plan)
    if not wants_range and not wants_start:
        return prepared
    why_not = rates.obstacle(plan, fetch=fetch)
    measured = MeasuredRates()
    if not why_not:
        try:
            measured = _measured(prepared, wants_range=wants_range, wants_start=wants_start)
        except Exception as error:  # the user's own network and images: whatever goes wrong, the run goes on
            why_not = f"measuring failed: {' '.join(str(error).split())[:120] or type(error).__name__}"
    if why_not or measured == MeasuredRates():
        return prepared.with_plan(_by_rule(plan, why_not or "a step takes too long to measure"))
    return prepared.with_plan(refined(plan, measured))


def _wants_start(plan: Plan) -> bool:
    return plan.settled.warmup.shape == "adaptive" and plan.asked.warmup.start == "auto"


def _by_rule(plan: Plan, why_not: str) -> Plan:
    """Say of what was left at auto that the rule stays, and why."""
    if plan.asked.optimizer.lr != "auto" and not _wants_start(plan):
        return plan
    setting = "optimizer.lr" if plan.asked.optimizer.lr == "auto" else "warmup.start"
    value = plan.settled.optimizer.lr if setting == "optimizer.lr" else plan.settled.warmup.start
    before = next((f"{choice.reason}; " for choice in plan.choices if choice.setting == setting), "")
    return plan.with_choice(setting, value, f"{before}by rule: {why_not}")


def _measured(prepared: Prepared, *, wants_range: bool, wants_start: bool) -> MeasuredRates:
    """Return what was measured for this very run before, or measure."""
    key = _key(prepared, wants_range=wants_range, wants_start=wants_start)
    known = None if key is None else cache.read("rates", key, MeasuredRates)
    if known is not None:
        return known
    measured = _measure(prepared, wants_range=wants_range, wants_start=wants_start)
    if key is not None and measured.num_steps:
        cache.write("rates", key, measured)
    return measured


def _key(prepared: Prepared, *, wants_range: bool, wants_start: bool) -> str | None:
    """Return what the rates depend on, hashed: settings, images, weights, versions.

    None where a network or images of others take part, whose code may change unseen.
    """
    plan, settled = prepared.plan, prepared.plan.settled
    name, source = settled.model.name, settled.data.source
    if name == GIVEN or is_own(name) or source == "given" or source.startswith("hf:"):
        return None
    return cache.key_of(
        settled.model_dump(mode="json", exclude={"run", "stop", "average", "epochs", "max_steps"}),
        (wants_range, wants_start, rates.range_steps(plan.total_steps)),
        (plan.data.fingerprint, plan.device, torch.__version__, __version__),
        digest_of(*prepared.built.module.state_dict().values()),
    )


def _measure(prepared: Prepared, *, wants_range: bool, wants_start: bool) -> MeasuredRates:
    """Measure what is wanted, as far as the time allows."""
    plan = prepared.plan
    num_steps, peak = rates.range_steps(plan.total_steps), decided(plan.settled.optimizer.lr)
    seconds = plan.settled.optimizer.probe_seconds * (1.0 if prepared.device.type == "cpu" else 0.5)
    began = time.perf_counter()
    critical, points = None, []
    with measuring(prepared, num_batches=num_steps) as session:
        step = _seconds_per_step(session)
        affordable = [count for count in _BATCHES if count * _STEPS_PER_BATCH * step <= seconds]
        if wants_start and affordable:
            critical = critical_share(session, num_batches=affordable[0])
        left = seconds - (time.perf_counter() - began)
        counts = [count for count in (num_steps, rates.FEWEST_POINTS) if count * step <= left]
        if wants_range and counts:
            points = list(range_test(session, num_steps=counts[0], lowest=LOWEST, highest=HIGHEST))
    found = read_points(points, peak, num_steps=counts[0] if counts else 0)
    return found.replaced(critical=None if critical is None else critical * peak)


def read_points(points: Sequence[RangePoint], peak: float, *, num_steps: int) -> MeasuredRates:
    """Read a range test as rates.

    Args:
        points: of the test.
        peak: the rate that their shares are of.
        num_steps: that were meant; where the loss exploded before them and never fell, the last rate is the edge.
    """
    if not points:
        return MeasuredRates()
    shown, losses = [point.share * peak for point in points], [point.loss for point in points]
    last = shown[-1] if len(points) < num_steps else None
    if len(points) < FEWEST_POINTS:
        return MeasuredRates(edge=last, highest=shown[-1], num_steps=len(points))
    found = read_range(shown, losses)
    return MeasuredRates(
        steepest=found.steepest,
        edge=last if found.suggestion is None else found.edge,
        suggestion=found.suggestion,
        highest=shown[-1],
        num_steps=len(points),
    )


def _seconds_per_step(session: Session) -> float:
    """Time a training step, the second one: the first also prepares."""
    seconds = 0.0
    with put_back(session):
        for number, batch in enumerate(islice(endless_batches(session), 2)):
            clock = time.perf_counter()
            float(update(session, batch, step=number, tried=number).loss)
            seconds = time.perf_counter() - clock
    return seconds


def refined(plan: Plan, measured: MeasuredRates) -> Plan:
    """Refine a plan by rule by what was measured: a pure function.

    Args:
        plan: by rule.
        measured: of its network.
    """
    plan = plan.replaced(rates=measured)
    if plan.asked.optimizer.lr == "auto" and measured.num_steps:
        plan = _with_peak(plan, measured)
    elif plan.asked.optimizer.lr == "auto":
        plan = _by_rule(plan, "a range test would take too long")
    if _wants_start(plan) and measured.critical is not None:
        plan = _with_start(plan, measured.critical)
    return plan.replaced(warmup_steps=schedule_of(plan).warmup_steps)


def _with_peak(plan: Plan, measured: MeasuredRates) -> Plan:
    optimizer = plan.settled.optimizer
    rule = next(choice.reason for choice in plan.choices if choice.setting == "optimizer.lr")
    weights = plan.settled.weights
    trained = weights.pretrained or weights.file is not None
    found = rates.guarded_rate(Decision(decided(optimizer.lr), rule), measured, has_weights=trained)
    plan = plan.with_choice("optimizer.lr", found.value, found.reason)
    changed = optimizer.replaced(lr=found.value)
    if optimizer.name == "muon" and optimizer.rest == "adamw" and plan.asked.optimizer.rest_lr == "auto":
        rest = decide.rest_rate(found.value)
        changed = changed.replaced(rest_lr=rest.value)
        plan = plan.with_choice("optimizer.rest_lr", rest.value, rest.reason)
    return plan.replaced(settled=plan.settled.replaced(optimizer=changed))


def _with_start(plan: Plan, critical: float) -> Plan:
    warmup, peak = plan.settled.warmup, decided(plan.settled.optimizer.lr)
    start = rates.first_share(critical, peak, end=warmup.end)
    plan = plan.with_choice("warmup.start", start.value, start.reason)
    length: Span = decided(warmup.length)
    if plan.asked.warmup.length == "auto":
        left = rates.shortened_warmup(plan.warmup_steps, start.value)
        plan, length = plan.with_choice("warmup.length", left.value, left.reason), left.value
    changed = warmup.replaced(start=start.value, length=length)
    return plan.replaced(settled=plan.settled.replaced(warmup=changed))
