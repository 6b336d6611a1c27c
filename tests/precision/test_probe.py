"""What the probe decides, on a trial whose times are given: no clock has a say here."""

import math
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halftone.base.records import Record
from halftone.precision import probe
from halftone.precision.agreement import Agreement, LayerAgreement
from halftone.precision.config import LayerFormat, Mode, PrecisionConfig
from halftone.precision.probe import Finding, Measured, Probe
from halftone.precision.trial import Candidate

KINDS = nn.Sequential(
    nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.ReLU(), nn.MultiheadAttention(4, 2), nn.Linear(4, 4)
)
PLAIN = nn.Sequential(nn.Conv2d(4, 4, 3))
Times = Mapping[str, float | Callable[[int], float]]


class Trial:
    """A trial that takes the seconds it is told, by the name of the candidate, on a clock of its own."""

    def __init__(
        self,
        times: Times,
        model: nn.Module = PLAIN,
        *,
        cosines: Mapping[str, float] | None = None,
        fails: Mapping[str, str] | None = None,
    ) -> None:
        self.times, self.model = times, model
        self.cosines, self.fails = cosines or {}, fails or {}
        self.clock = 0.0
        self.steps: list[str] = []

    def seconds(self, config: PrecisionConfig) -> float:
        assert config.mode != "auto"
        name = str(Candidate(config.mode, config.layers))
        assert not self.fails.get(name)
        given = self.times[name]
        taken = given(self.steps.count(name)) if callable(given) else given
        self.steps.append(name)
        self.clock += taken
        return taken

    def runs(self, config: PrecisionConfig) -> str:
        problem = self.fails.get(str(Candidate(config.mode, config.layers)), "")  # type: ignore[arg-type]
        if not problem:
            self.seconds(config)
        return problem

    def gradients(self, config: PrecisionConfig) -> dict[str, Tensor]:
        return {"weight": torch.ones(1)}

    def agreement(self, config: PrecisionConfig, reference: dict[str, Tensor]) -> Agreement:
        cosine = self.cosines.get(str(Candidate(config.mode, config.layers)), 0.999)  # type: ignore[arg-type]
        return Agreement(cosine, 0.01, 0.002, (LayerAgreement("good", 1.0, 0, 0), LayerAgreement("bad", cosine, 0, 0)))

    def activation_bytes(self, config: PrecisionConfig) -> int:
        return (4 if config.mode == "fp32" else 2) * 2**20


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Finding]]:
    """Run a probe; layers that alone are slower in the reduced format are given."""

    def run(
        trial: Trial,
        modes: tuple[Mode, ...] = ("fp32", "bf16"),
        *,
        seconds: float = 1000.0,
        slower: tuple[str, ...] = (),
        layers: dict[str, LayerFormat] | None = None,
    ) -> Finding:
        monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: trial.clock))
        monkeypatch.setattr(probe, "slower_layers", lambda *_, until: list(slower) if trial.clock < until else [])
        return Probe(trial, modes, seconds=seconds, layers=layers).run(32)  # type: ignore[arg-type]

    yield run


def of(found: Finding, name: str) -> Measured:
    return next(one for one in found.evidence if one.name == name)


def names(found: Finding) -> list[str]:
    return [one.name for one in found.evidence]


MODES: tuple[Mode, ...] = ("fp32", "bf16", "bf16-true", "fp16")


@pytest.mark.parametrize("fastest", MODES)
def test_the_fastest_uniform_mode_is_taken(probed: Any, fastest: str) -> None:
    times = {mode: 1.0 if mode == fastest else 2.0 for mode in MODES}
    found = probed(Trial(times), MODES)
    assert (found.mode, found.layers) == (fastest, {})
    assert of(found, fastest).verdict == "taken"
    assert all(one.verdict not in ("", "taken") for one in found.evidence if one.name != fastest)
    assert found.complete
    assert found.num_images == 32
    assert of(found, fastest).speed == (1.0 if fastest == "fp32" else 2.0)


def test_evidence_says_what_was_measured(probed: Any) -> None:
    trial = Trial({"fp32": 3.0, "bf16": 2.0}, cosines={"bf16": 0.9})
    found = probed(trial)
    assert names(found) == ["fp32", "bf16"]
    one = of(found, "bf16")
    assert (one.speed, one.activation_mb, one.cosine, one.relative_error) == (1.5, 2.0, 0.9, 0.01)
    assert (one.underflow, one.worst_layer) == (0.002, "bad")
    assert of(found, "fp32").activation_mb == 4.0
    assert found.rounds == len(one.seconds) >= 15  # one, seven in turn, and seven in the last comparison
    assert found.seconds == trial.clock
    assert Finding.model_validate_json(found.model_dump_json()) == found
    assert isinstance(found, Record)


def test_the_modes_are_measured_in_turn(probed: Any) -> None:
    trial = Trial({"fp32": 1.0, "bf16": 0.9, "fp16": 0.95})
    probed(trial, ("fp32", "bf16", "fp16"))
    assert trial.steps[:6] == ["fp32", "fp32", "bf16", "bf16", "fp16", "fp16"]  # each prepared, then taken once
    assert trial.steps[6:15] == ["fp32", "bf16", "fp16"] * 3


def test_a_single_slow_step_decides_nothing(probed: Any) -> None:
    found = probed(Trial({"fp32": 2.0, "bf16": lambda step: 40.0 if step == 3 else 1.0}))
    assert found.mode == "bf16"
    assert of(found, "bf16").speed == 2.0
    assert max(of(found, "bf16").seconds) == 40.0


@pytest.mark.parametrize(("reduced", "mode"), [(0.98, "fp32"), (0.9, "bf16")])
def test_what_is_hardly_faster_than_fp32_is_not_taken(probed: Any, reduced: float, mode: str) -> None:
    found = probed(Trial({"fp32": 1.0, "bf16": reduced}))
    assert found.mode == mode
    assert of(found, mode).verdict == "taken"
    if mode == "fp32":
        assert of(found, "bf16").verdict == "only 1.02 times as fast as fp32"


@pytest.mark.parametrize(
    ("cosine", "words"),
    [
        (0.3, "its gradients point elsewhere than those of fp32 (cosine 0.30)"),
        (math.nan, "its gradients are not finite"),
    ],
)
def test_gradients_that_disagree_or_are_not_finite_rule_a_mode_out(probed: Any, cosine: float, words: str) -> None:
    trial = Trial({"fp32": 2.0, "bf16": 1.5, "fp16": 0.1}, cosines={"fp16": cosine})
    found = probed(trial, ("fp32", "bf16", "fp16"))
    assert found.mode == "bf16"
    out = of(found, "fp16")
    assert out.verdict == words
    assert out.cosine == (None if math.isnan(cosine) else cosine)
    assert trial.steps.count("fp16") == 2  # it is measured no further


def test_a_mode_that_cannot_run_is_out_and_says_why(probed: Any) -> None:
    found = probed(Trial({"fp32": 2.0, "bf16": 1.0}, fails={"fp16": "no kernel"}), ("fp32", "fp16", "bf16"))
    assert found.mode == "bf16"
    out = of(found, "fp16")
    assert (out.verdict, out.seconds, out.speed) == ("does not run here: no kernel", (), None)


def test_a_hopeless_mode_is_measured_once(probed: Any) -> None:
    trial = Trial({"fp32": 1.0, "bf16": 0.8, "fp16": 20.0})
    found = probed(trial, ("fp32", "bf16", "fp16"))
    assert found.mode == "bf16"
    assert of(found, "fp16").verdict == "20.0 times as slow as fp32"
    assert trial.steps.count("fp16") == 2


def test_where_only_fp32_is_left_it_is_taken(probed: Any) -> None:
    found = probed(Trial({"fp32": 1.0, "fp16": 9.0}, fails={"bf16": "no"}), ("fp32", "bf16", "fp16"))
    assert found.mode == "fp32"
    assert of(found, "fp32").verdict == "taken"


def test_without_fp32_there_is_no_finding(probed: Any) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        probed(Trial({"bf16": 1.0}, fails={"fp32": "out of memory"}))


def test_a_network_that_is_not_finite_even_in_fp32_is_left_to_fp32_or_a_known_error(probed: Any) -> None:
    trial = Trial({"fp32": 2.0, "bf16": 1.0}, cosines=dict.fromkeys(("fp32", "bf16"), math.nan))
    try:
        assert probed(trial).mode == "fp32"
    except RuntimeError as error:
        assert "not finite" in str(error)


DEPTHWISE, NORM = "bf16 with depthwise in fp32", "bf16 with norm in fp32"
OTHERS = {f"bf16 with {kind} in fp32": 1.0 for kind in ("depthwise", "norm", "attention", "activation", "linear")}


def test_a_kind_that_is_faster_in_fp32_is_put_into_it(probed: Any) -> None:
    more = {f"{DEPTHWISE}, {kind} in fp32": 0.8 for kind in ("norm", "attention", "activation", "linear")}
    found = probed(Trial({"fp32": 2.0, "bf16": 1.0, DEPTHWISE: 0.8, **more}, KINDS))
    assert (found.mode, found.layers) == ("bf16", {"depthwise": "fp32"})
    assert of(found, DEPTHWISE).verdict == "taken"
    assert of(found, DEPTHWISE).speed == 2.5
    assert of(found, DEPTHWISE).cosine == 0.999
    assert of(found, "bf16").verdict == "1.25 times the time of what was taken"
    assert of(found, f"{DEPTHWISE}, norm in fp32").verdict == f"1.00 times as fast as {DEPTHWISE}"


def test_a_kind_that_gains_next_to_nothing_is_left(probed: Any) -> None:
    found = probed(Trial({"fp32": 2.0, "bf16": 1.0, **OTHERS, NORM: 0.98}, KINDS))
    assert (found.mode, found.layers) == ("bf16", {})
    assert of(found, NORM).verdict == "1.02 times as fast as bf16"
    assert names(found) == ["fp32", "bf16", *OTHERS]


def test_kinds_that_are_not_in_the_network_are_not_tried(probed: Any) -> None:
    assert names(probed(Trial({"fp32": 2.0, "bf16": 1.0}))) == ["fp32", "bf16"]


def test_gains_of_several_kinds_add_up(probed: Any) -> None:
    class Times(dict[str, float]):
        def __missing__(self, name: str) -> float:
            gain = 0.2 * ("depthwise" in name) + 0.2 * ("linear" in name) - 0.1 * ("norm" in name)
            return 1.0 - gain if name.startswith("bf16") else 2.0

    found = probed(Trial(Times(), KINDS))
    assert found.layers == {"depthwise": "fp32", "linear": "fp32"}
    assert found.mode == "bf16"


def test_every_kind_is_tried_also_after_three_were_taken(probed: Any) -> None:
    """With three kinds in fp32 the next two candidates read alike: "... and 2 more"."""

    class ByLayers(Trial):
        def seconds(self, config: PrecisionConfig) -> float:
            faster = len({"depthwise", "norm", "attention", "linear"} & config.layers.keys())
            self.times = {
                str(Candidate(config.mode, config.layers)): 2.0 - 0.2 * faster - 0.5 * (config.mode == "bf16")
            }  # type: ignore[arg-type]
            return super().seconds(config)

    found = probed(ByLayers({}, KINDS))
    assert found.layers == dict.fromkeys(("depthwise", "norm", "attention", "linear"), "fp32")


def test_single_layers_that_are_slower_are_tried_together(probed: Any) -> None:
    both = "bf16 with 0 in fp32, 3 in fp32"
    found = probed(Trial({"fp32": 2.0, "bf16": 1.0, both: 0.7}), slower=("0", "3"))
    assert (found.mode, found.layers) == ("bf16", {"0": "fp32", "3": "fp32"})
    found = probed(Trial({"fp32": 2.0, "bf16": 1.0, both: 1.1}), slower=("0", "3"))
    assert found.layers == {}
    assert of(found, both).verdict == "0.91 times as fast as bf16"


def test_kinds_come_on_top_of_single_layers(probed: Any) -> None:
    first = "bf16 with 4 in fp32"
    more = {f"{first}, {kind} in fp32": 0.8 for kind in ("norm", "attention", "activation", "linear")}
    both = f"{first}, depthwise in fp32"
    more |= {f"{both}, {kind} in fp32": 0.6 for kind in ("norm", "attention", "activation", "linear")}
    found = probed(Trial({"fp32": 2.0, "bf16": 1.0, first: 0.8, both: 0.6, **more}, KINDS), slower=("4",))
    assert found.layers == {"4": "fp32", "depthwise": "fp32"}
    assert found.mode == "bf16"


def test_the_fastest_reduced_mode_is_improved_even_where_fp32_was_faster(probed: Any) -> None:
    found = probed(Trial({"fp32": 1.0, "bf16": 1.3, "bf16 with 0 in fp32": 0.8}), slower=("0",))
    assert (found.mode, found.layers) == ("bf16", {"0": "fp32"})
    assert of(found, "bf16 with 0 in fp32").verdict == "taken"


def test_the_improved_candidate_is_measured_once_more_against_the_best_uniform_mode(probed: Any) -> None:
    """What looked like a gain and is none in the last comparison is dropped."""
    improved = "bf16 with 0 in fp32"
    trial = Trial({"fp32": 2.0, "bf16": 1.0, improved: lambda step: 0.5 if step < 8 else 1.5}, PLAIN)
    found = probed(trial, slower=("0",))
    assert (found.mode, found.layers) == ("bf16", {})
    assert of(found, improved).verdict == "1.50 times the time of what was taken"
    assert of(found, "bf16").verdict == "taken"
    assert trial.steps[-3:] == ["fp32", "bf16", improved]


def test_every_contender_is_measured_once_per_round(probed: Any) -> None:
    trial = Trial({"fp32": 2.0, "bf16": 1.0})
    probed(trial)
    assert trial.steps[-6:] == ["fp32", "bf16"] * 3


def test_an_improved_candidate_whose_gradients_disagree_is_out(probed: Any) -> None:
    improved = "bf16 with 0 in fp32"
    trial = Trial({"fp32": 2.0, "bf16": 1.0, improved: 0.5}, cosines={improved: 0.1})
    found = probed(trial, slower=("0",))
    assert (found.mode, found.layers) == ("bf16", {})
    assert "point elsewhere" in of(found, improved).verdict
    assert of(found, "bf16").verdict == "taken"


def test_tf32_is_a_uniform_candidate_that_is_not_improved(probed: Any) -> None:
    found = probed(Trial({"fp32": 2.0, "tf32": 0.5}, KINDS), ("fp32", "tf32"))
    assert found.mode == "tf32"
    assert names(found) == ["fp32", "tf32"]


def test_where_layers_were_asked_for_only_the_mode_is_chosen(probed: Any) -> None:
    asked = " with 0 in fp32"
    found = probed(Trial({f"fp32{asked}": 2.0, f"bf16{asked}": 1.0}, KINDS), layers={"0": "fp32"}, slower=("4",))
    assert (found.mode, found.layers) == ("bf16", {"0": "fp32"})
    assert names(found) == [f"fp32{asked}", f"bf16{asked}"]


@pytest.mark.parametrize("seconds", [4.0, 12.0, 20.0])
def test_a_spent_budget_is_said_and_the_best_so_far_taken(probed: Any, seconds: float) -> None:
    trial = Trial({"fp32": 2.0, "bf16": 1.0, **OTHERS}, KINDS)
    found = probed(trial, seconds=seconds)
    assert not found.complete
    assert found.mode == "bf16"
    # what begins within the budget may end behind it, and the first steps of the uniform modes are taken in any case
    assert trial.clock <= max(seconds, 6.0) + 4.0


def test_a_budget_that_suffices_is_kept(probed: Any) -> None:
    trial = Trial({"fp32": 0.2, "bf16": 0.1, **dict.fromkeys(OTHERS, 0.1)}, KINDS)
    found = probed(trial, seconds=60.0)
    assert found.complete
    assert trial.clock < 60


def test_no_stream_of_random_numbers_is_touched(probed: Any) -> None:
    class Drawing(Trial):
        def seconds(self, config: PrecisionConfig) -> float:
            torch.rand(3)
            return super().seconds(config)

    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    probed(Drawing({"fp32": 2.0, "bf16": 1.0}))
    assert torch.equal(torch.rand(2), expected)
