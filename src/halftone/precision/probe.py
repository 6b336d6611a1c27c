"""The probe: the fastest precision for a network on this machine, found by measuring full training steps.

The uniform modes are measured first, one step of each in turn, so that a noisy machine favours none. Then the fastest
reduced one is improved: its layers are timed one by one, and those that alone are faster in fp32 are put into it
together; then, kind by kind, all layers of a kind are. A change stays where the whole step gains by it. The winner is
measured against the best uniform mode once more and taken only if it is faster.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from pydantic import Field

from halftone.base.records import Record
from halftone.precision.agreement import Gradients
from halftone.precision.config import LayerFormat, LayerKind, Mode
from halftone.precision.layer_times import slower_layers
from halftone.precision.policy import kind_of
from halftone.precision.trial import Candidate, Trial

GAIN = 1.03
"""A change stays if the step is this many times as fast; what is less drowns in noise."""
AGREES = 0.7
"""Gradients whose cosine with those of fp32 is less point elsewhere."""
_HOPELESS = 2.5
"""A candidate whose second step takes this many times the fastest is measured no further."""
_KINDS: tuple[LayerKind, ...] = ("depthwise", "norm", "attention", "activation", "linear")
"""In the order in which they are tried in fp32."""


class Measured(Record):
    """What was measured of one candidate."""

    mode: Mode
    layers: dict[str, LayerFormat] = Field(default_factory=dict)
    name: str
    """As people read it."""
    seconds: tuple[float, ...] = ()
    """Of each full step."""
    speed: float | None = None
    """Times as fast as fp32, by medians."""
    activation_mb: float | None = None
    """What the forward pass keeps for the backward pass, in MiB."""
    cosine: float | None = None
    """Of its gradient with that of fp32."""
    relative_error: float | None = None
    underflow: float | None = None
    """Share of the gradient's values that are zero and are not in fp32."""
    fits: bool = True
    """Whether its gradient agrees well enough to train with."""
    worst_layer: str = ""
    """Whose gradient agrees least."""
    verdict: str = ""
    """Why it was not taken, or that it was."""


class Finding(Record):
    """What the probe came to."""

    mode: Mode
    layers: dict[str, LayerFormat] = Field(default_factory=dict)
    num_images: int
    """In the batch that was measured."""
    rounds: int
    """Full steps of the winner that were measured."""
    seconds: float
    """That the probe took."""
    budget: float
    """Seconds that it was allowed."""
    complete: bool
    """Whether the time sufficed for all that was to be measured."""
    evidence: tuple[Measured, ...]


@dataclass(slots=True, eq=False)
class _Entry:
    candidate: Candidate
    times: list[float]
    verdict: str = ""
    measured: Measured | None = None
    unfit: bool = False
    """Whether its gradients rule it out."""


class Probe:
    """Measures candidates within a budget of time."""

    def __init__(
        self,
        trial: Trial,
        modes: Sequence[Mode],
        *,
        seconds: float,
        layers: Mapping[str, LayerFormat] | None = None,
    ) -> None:
        """Prepare.

        Args:
            trial: of the network.
            modes: uniform candidates; `fp32` is the first of them.
            seconds: the budget.
            layers: formats of layers that were asked for; with them, only the mode is chosen.
        """
        self._trial, self._modes, self._layers = trial, modes, dict(layers or {})
        self._began = time.perf_counter()
        self._end = self._began + seconds
        self._budget, self._share = seconds, seconds / 12
        self._entries: dict[tuple[object, ...], _Entry] = {}
        self._complete = True

    def run(self, num_images: int) -> Finding:
        """Measure, and return the winner with the evidence; `num_images` are in the trial's batch.

        Raises:
            RuntimeError: not even fp32 runs.
        """
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            uniform = [self._entry(Candidate(mode, self._layers)) for mode in self._modes]
            self._measure_uniform(uniform)
            best = min(self._able(uniform), key=_typical)
            reduced = [entry for entry in self._able(uniform) if entry.candidate.mode not in ("fp32", "tf32")]
            improved = best
            if reduced and not self._layers:
                improved = self._improve(min(reduced, key=_typical))
            winner = self._final(uniform[0], best, improved)
        winner.verdict = "taken"
        return Finding(
            mode=winner.candidate.mode,
            layers=winner.candidate.layers,
            num_images=num_images,
            rounds=len(winner.times),
            seconds=time.perf_counter() - self._began,
            budget=self._budget,
            complete=self._complete,
            evidence=tuple(self._evidence()),
        )

    def _entry(self, candidate: Candidate) -> _Entry:
        return self._entries.setdefault((candidate.mode, *candidate.layers.items()), _Entry(candidate, []))

    def _able(self, entries: Sequence[_Entry]) -> list[_Entry]:
        return [entry for entry in entries if entry.times and not entry.verdict]

    def _in_time(self, entry: _Entry, steps: int = 1) -> bool:
        """Tell whether another few steps of an entry fit in the budget; once they do not, the probe is incomplete."""
        fits = time.perf_counter() + steps * (_typical(entry) if entry.times else 0.0) < self._end
        self._complete &= fits
        return fits

    def _rounds(self, *entries: _Entry) -> int:
        """Return how many times to measure entries in turn: a twelfth of the budget, two to seven times."""
        return max(2, min(7, int(self._share / sum(map(_typical, entries)))))

    def _measure_uniform(self, entries: list[_Entry]) -> None:
        full, reference = entries[0], None
        for entry in entries:
            if entry is not full and time.perf_counter() > self._end:
                entry.verdict, self._complete = "not measured: the time was over", False
                continue
            problem = self._trial.runs(entry.candidate.config())
            if problem and entry is full:
                raise RuntimeError(problem)
            if problem:
                entry.verdict = f"does not run here: {problem}"
                continue
            entry.times.append(self._trial.seconds(entry.candidate.config()))
            if entry.times[0] > _HOPELESS * full.times[0]:
                entry.verdict = f"{entry.times[0] / full.times[0]:.1f} times as slow as fp32"
                continue
            if reference is None:
                reference = self._trial.gradients(entry.candidate.config())
            self._judge_gradients(entry, reference)
            if full.unfit:
                raise RuntimeError("the gradients in fp32 are not finite")
        able = self._able(entries)
        self._alternate(able, rounds=self._rounds(*able))

    def _judge_gradients(self, entry: _Entry, reference: Gradients) -> None:
        """Note memory and gradients of a candidate; one that points elsewhere is out."""
        agreement = self._trial.agreement(entry.candidate.config(), dict(reference))
        finite = agreement.cosine == agreement.cosine
        entry.measured = Measured(
            mode=entry.candidate.mode,
            layers=entry.candidate.layers,
            name=str(entry.candidate),
            activation_mb=self._trial.activation_bytes(entry.candidate.config()) / 2**20,
            cosine=agreement.cosine if finite else None,
            relative_error=agreement.relative_error if finite else None,
            underflow=agreement.underflow,
            worst_layer=agreement.worst.name,
        )
        entry.unfit = not finite or agreement.cosine < AGREES
        if not finite:
            entry.verdict = "its gradients are not finite"
        elif entry.unfit:
            entry.verdict = f"its gradients point elsewhere than those of fp32 (cosine {agreement.cosine:.2f})"

    def _alternate(self, entries: Sequence[_Entry], *, rounds: int) -> None:
        """Measure entries in turn."""
        for _ in range(rounds):
            for entry in entries:
                if not self._in_time(entry):
                    return
                entry.times.append(self._trial.seconds(entry.candidate.config()))

    def _improve(self, base: _Entry) -> _Entry:
        """Put layers into fp32 as long as that is a gain."""
        present = {kind_of(layer) for layer in self._trial.model.modules()}
        if self._in_time(base, steps=4):
            slower = slower_layers(self._trial, base.candidate.config(), until=self._end)
            if slower:
                base = self._try(base, dict.fromkeys(slower, "fp32"))
        for kind in _KINDS:
            if kind in present:
                base = self._try(base, {kind: "fp32"})
        return base

    def _try(self, base: _Entry, more: dict[str, LayerFormat]) -> _Entry:
        """Return the better of a candidate and the same with more layers in fp32."""
        if not self._in_time(base, steps=5):
            return base
        candidate = Candidate(base.candidate.mode, {**base.candidate.layers, **more})
        entry = self._entry(candidate)
        if entry.times:  # the very layers that were tried already
            return base
        self._trial.seconds(candidate.config())  # the first one prepares what the next ones use
        before = len(base.times)
        self._alternate([base, entry], rounds=self._rounds(base, base))
        if not entry.times:
            return base
        gain = median(base.times[before:]) / median(entry.times)
        if gain < GAIN:
            entry.verdict = f"{gain:.2f} times as fast as {base.candidate}"
            return base
        base.verdict = base.verdict or f"{candidate} is {gain:.2f} times as fast"
        return entry

    def _final(self, full: _Entry, best: _Entry, improved: _Entry) -> _Entry:
        """Measure fp32, the best uniform candidate and the improved one against each other and return the winner."""
        if improved is not best:
            self._judge_gradients(improved, self._trial.gradients(full.candidate.config()))
        contenders = [entry for entry in dict.fromkeys((full, best, improved)) if entry is full or not entry.unfit]
        starts = [len(entry.times) for entry in contenders]
        self._alternate(contenders, rounds=self._rounds(*contenders))
        recent = [median(entry.times[start:] or entry.times) for entry, start in zip(contenders, starts, strict=True)]
        place = recent.index(min(recent))
        # where nothing is gained, full precision costs nothing
        winner = contenders[place] if recent[0] >= GAIN * recent[place] else full
        for entry, seconds in zip(contenders, recent, strict=True):
            if entry is not winner:
                entry.verdict = f"{seconds / recent[contenders.index(winner)]:.2f} times the time of what was taken"
                if winner is full:
                    entry.verdict = f"only {recent[0] / seconds:.2f} times as fast as fp32"
        return winner

    def _evidence(self) -> Iterator[Measured]:
        full = _typical(next(iter(self._entries.values())))
        for entry in self._entries.values():
            known = entry.measured or Measured(
                mode=entry.candidate.mode, layers=entry.candidate.layers, name=str(entry.candidate)
            )
            yield known.replaced(
                fits=not entry.unfit,
                seconds=tuple(entry.times),
                speed=full / _typical(entry) if entry.times else None,
                verdict=entry.verdict or "slower",
            )


def _typical(entry: _Entry) -> float:
    return median(entry.times)
