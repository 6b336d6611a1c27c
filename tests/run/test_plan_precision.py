"""The part of the plan that concerns precision: measured, remembered, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from halftone.base.errors import RecipeError, ResourceError
from halftone.base.records import dump_yaml
from halftone.precision.config import PrecisionConfig
from halftone.precision.policy import own_format
from halftone.precision.probe import Finding, Measured, Probe
from halftone.run.plan import make
from halftone.run.plan import precision as part
from halftone.run.plan.make import make_plan
from halftone.run.plan.precision import candidates
from halftone.run.plan.record import Plan
from halftone.run.recipe import Recipe
from halftone.system.device import DeviceFacts, cuda_formats
from samples import wish, write_npz

CPU = DeviceFacts("cpu", "a CPU", frozenset({"fp32", "bf16"}))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "tiny.npz")


@pytest.fixture(autouse=True)
def _own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with bf16, on which nothing was measured yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place in (make, part):
        monkeypatch.setattr(place, "device_facts", lambda device: CPU)


def auto(tiny: Path, tmp_path: Path, *, probe_seconds: float = 1.0, **settings: Any) -> Recipe:
    precision = {"mode": "auto", "probe_seconds": probe_seconds, **settings.pop("precision", {})}
    recipe = wish(tiny, tmp_path, **{"epochs": 1, **settings})
    return recipe.replaced(precision=PrecisionConfig.parse(precision))


def reason(plan: Plan, setting: str = "precision.mode") -> str:
    return next(choice.reason for choice in plan.choices if choice.setting == setting)


def found(mode: Any = "bf16", *, complete: bool = True, **layers: Any) -> Finding:
    taken = Measured(mode=mode, layers=layers, name=mode, seconds=(0.1, 0.1), speed=2.0, verdict="taken")
    full = Measured(mode="fp32", name="fp32", seconds=(0.2, 0.2), speed=1.0, verdict="slower")
    return Finding(
        mode=mode,
        layers=layers,
        num_images=16,
        rounds=2,
        seconds=1.0,
        budget=1.0,
        complete=complete,
        evidence=(full, taken),
    )


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Probe]]:
    """Let the probe find what is given, and keep what it was asked."""

    def give(finding: Finding) -> list[Probe]:
        asked: list[Probe] = []

        def run(self: Probe, num_images: int) -> Finding:
            asked.append(self)
            return finding

        monkeypatch.setattr(Probe, "run", run)
        return asked

    return give


def test_auto_measures_and_the_evidence_is_in_the_plan_and_survives_yaml(tiny: Path, tmp_path: Path) -> None:
    plan = make_plan(auto(tiny, tmp_path)).plan
    settled = plan.settled.precision
    assert settled.mode in ("fp32", "bf16", "bf16-true")
    assert {"fp32", "bf16"} <= {one.name for one in plan.evidence}
    taken = next(one for one in plan.evidence if one.verdict == "taken")
    assert (taken.mode, taken.layers) == (settled.mode, settled.layers)
    assert [one.verdict for one in plan.evidence].count("taken") == 1
    assert all(one.verdict for one in plan.evidence)
    measured = [one for one in plan.evidence if one.cosine is not None]
    assert measured[0].name == "fp32" and measured[0].cosine == pytest.approx(1)
    assert all(one.cosine is not None and one.cosine > 0.7 and one.activation_mb for one in measured)
    assert "times as fast" in reason(plan)
    assert Plan.parse(yaml.safe_load(dump_yaml(plan.to_mapping()))) == plan


def test_measuring_leaves_the_network_the_random_numbers_and_the_threads_as_they_were(
    tiny: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    measured = make_plan(auto(tiny, tmp_path))
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads
    plain = make_plan(auto(tiny, tmp_path, probe_seconds=0))
    one, other = measured.built.module, plain.built.module
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert not any(own_format(layer) for layer in one.modules())
    assert all(parameter.grad is None for parameter in one.parameters())


def test_the_second_time_it_comes_from_the_cache(tiny: Path, tmp_path: Path, finds: Any) -> None:
    asked = finds(found(depthwise="fp32"))
    first = make_plan(auto(tiny, tmp_path)).plan
    second = make_plan(auto(tiny, tmp_path)).plan
    assert len(asked) == 1
    assert second.evidence == first.evidence
    assert second.settled.precision == first.settled.precision
    assert "measured before" not in reason(first)
    assert reason(second) == f"{reason(first)}; measured before, on this machine"


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"model": "cifar_resnet14"},
        {"model": {"channels_last": False}},
        {"data": {"size": 20}},
        {"accumulate": 2},
        {"precision": {"layers": {"norm": "fp32"}}},
        {"freeze": "backbone"},
    ],
    ids=str,
)
def test_another_question_is_measured_anew(tiny: Path, tmp_path: Path, finds: Any, change: dict[str, Any]) -> None:
    asked = finds(found())
    make_plan(auto(tiny, tmp_path))
    make_plan(auto(tiny, tmp_path, **change))
    assert len(asked) == 2


def test_what_a_short_run_could_not_finish_is_measured_for_a_long_one(tiny: Path, tmp_path: Path, finds: Any) -> None:
    asked = finds(found(complete=False).replaced(budget=0.01))
    make_plan(auto(tiny, tmp_path, max_steps=1))
    make_plan(auto(tiny, tmp_path, epochs=5000))
    assert len(asked) == 2


def test_what_was_finished_is_not_measured_for_longer(tiny: Path, tmp_path: Path, finds: Any) -> None:
    asked = finds(found().replaced(budget=0.01))
    make_plan(auto(tiny, tmp_path, max_steps=1))
    make_plan(auto(tiny, tmp_path, epochs=5000))
    assert len(asked) == 1


def test_layers_that_were_found_are_settled_and_said(tiny: Path, tmp_path: Path, finds: Any) -> None:
    finds(found(**{f"layer{number}": "fp32" for number in range(8)}))
    plan = make_plan(auto(tiny, tmp_path)).plan
    assert plan.settled.precision.mode == "bf16"
    assert len(plan.settled.precision.layers) == 8
    assert reason(plan, "precision.layers") == "slower in the reduced format than in fp32"
    value = next(choice.value for choice in plan.choices if choice.setting == "precision.layers")
    assert value.endswith("layer5 in fp32 and 2 more")
    assert make_plan(plan.settled.replaced(precision=PrecisionConfig(mode="bf16"))).plan.evidence == ()


def test_layers_that_were_asked_for_stay_and_only_the_mode_is_chosen(tiny: Path, tmp_path: Path, finds: Any) -> None:
    asked = finds(found(norm="fp32"))
    plan = make_plan(auto(tiny, tmp_path, precision={"layers": "norm=fp32"})).plan
    assert asked[0]._layers == {"norm": "fp32"}
    assert plan.settled.precision.layers == {"norm": "fp32"}
    assert not any(choice.setting == "precision.layers" for choice in plan.choices)


def test_other_settings_of_precision_are_kept(tiny: Path, tmp_path: Path, finds: Any) -> None:
    finds(found())
    settled = make_plan(
        auto(tiny, tmp_path, precision={"evaluation": "fp32", "scale": 8.0, "max_skipped": 3})
    ).plan.settled
    assert (settled.precision.evaluation, settled.precision.scale, settled.precision.max_skipped) == ("fp32", 8.0, 3)


def test_without_seconds_the_rule_decides(tiny: Path, tmp_path: Path, finds: Any) -> None:
    asked = finds(found("fp32"))
    plan = make_plan(auto(tiny, tmp_path, probe_seconds=0)).plan
    assert (plan.settled.precision.mode, plan.evidence) == ("bf16", ())
    assert reason(plan) == "this CPU multiplies bf16 by instructions of its own"
    assert asked == []
    assert not (tmp_path / "cache").exists()


def test_a_device_with_one_format_has_nothing_to_measure(
    tiny: Path, tmp_path: Path, finds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = finds(found())
    monkeypatch.setattr(make, "device_facts", lambda device: DeviceFacts("cpu", "an old CPU", frozenset({"fp32"})))
    plan = make_plan(auto(tiny, tmp_path)).plan
    assert plan.settled.precision.mode == "fp32"
    assert asked == []
    assert "no bf16 instructions" in reason(plan)


def test_where_measuring_fails_the_rule_decides_and_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Probe, num_images: int) -> Finding:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(Probe, "run", fail)
    plan = make_plan(auto(tiny, tmp_path)).plan
    assert plan.settled.precision.mode == "bf16"
    assert reason(plan).endswith("(measuring failed: out of memory)")
    assert plan.evidence == ()


class Failing(nn.Module):
    """A network whose output is not a number, or that cannot be copied."""

    def __init__(self, *, copies: bool) -> None:
        super().__init__()
        self.layer, self.copies = nn.Linear(768, 3), copies

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1)) * float("nan")

    def __deepcopy__(self, memo: Any) -> "Failing":
        if not self.copies:
            raise TypeError("cannot pickle this")
        other = Failing(copies=True)
        other.load_state_dict(self.state_dict())
        return other


def test_a_network_that_cannot_be_copied_is_left_to_the_rule(tiny: Path, tmp_path: Path) -> None:
    plan = make_plan(auto(tiny, tmp_path), model=Failing(copies=False)).plan
    assert plan.settled.precision.mode == "bf16"
    assert "measuring failed: cannot pickle this" in reason(plan)


def test_a_network_that_is_not_finite_is_left_to_the_rule(tiny: Path, tmp_path: Path) -> None:
    plan = make_plan(auto(tiny, tmp_path), model=Failing(copies=True)).plan
    assert plan.settled.precision.mode in ("fp32", "bf16")


@pytest.mark.parametrize("seconds", [1.0, 20.0])
def test_the_budget_is_what_was_asked_or_a_share_of_the_run(
    tiny: Path, tmp_path: Path, finds: Any, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = finds(found())
    monkeypatch.setattr(part, "affordable", lambda model, images, *rest, seconds: (len(images), 0.1))
    make_plan(auto(tiny, tmp_path, probe_seconds=seconds, epochs=10))  # 60 steps of a tenth of a second
    make_plan(auto(tiny, tmp_path / "other", probe_seconds=seconds, epochs=10, batch_size=8, accumulate=2, max_steps=3))
    budgets = [probe._end - probe._began for probe in asked]
    assert budgets == pytest.approx([min(seconds, 0.5 + 0.05 * 60 * 0.1), min(seconds, 0.5 + 0.05 * 3 * 2 * 0.1)])


def test_a_batch_that_is_too_slow_is_measured_in_part(
    tiny: Path, tmp_path: Path, finds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    asked = finds(found())
    plain = Probe.run

    def run(self: Probe, num_images: int) -> Finding:
        sizes.append(num_images)
        return plain(self, num_images)

    monkeypatch.setattr(Probe, "run", run)
    times = iter([9.0, 0.05])  # of four images: 16 take 0.2 seconds, and 60 steps of that twelve
    monkeypatch.setattr(part.Trial, "seconds", lambda self, config: next(times))
    make_plan(auto(tiny, tmp_path, probe_seconds=6.0))
    assert sizes == [8]
    assert len(asked[0]._trial._images) == 8


@pytest.mark.parametrize(
    ("facts", "modes"),
    [
        (CPU, ("fp32", "bf16", "bf16-true")),
        (DeviceFacts("cpu", "old", frozenset({"fp32"})), ("fp32",)),
        (DeviceFacts("cpu", "new", frozenset({"fp32", "bf16", "fp16"})), ("fp32", "bf16", "bf16-true")),
        (DeviceFacts("cuda", "A100", cuda_formats(8, 0)), ("fp32", "tf32", "bf16", "bf16-true", "fp16", "fp16-true")),
        (DeviceFacts("cuda", "V100", cuda_formats(7, 0)), ("fp32", "fp16", "fp16-true")),
        (DeviceFacts("mps", "M3", frozenset({"fp32", "fp16"})), ("fp32", "fp16", "fp16-true")),
    ],
)
def test_only_formats_with_hardware_are_candidates(facts: DeviceFacts, modes: tuple[str, ...]) -> None:
    assert candidates(facts) == modes


@pytest.mark.parametrize("mode", ["auto", "bf16", "fp32"])
def test_layers_that_match_nothing_are_refused_before_anything_is_measured(
    tiny: Path, tmp_path: Path, finds: Any, mode: str
) -> None:
    asked = finds(found())
    with pytest.raises(RecipeError, match=r"precision.layers = 'atention': no layer of the network matches"):
        make_plan(auto(tiny, tmp_path, precision={"mode": mode, "layers": "atention=fp32"}))
    assert asked == []


@pytest.mark.parametrize("mode", ["fp16", "fp16-true"])
def test_F4_fp16_on_a_cpu_is_refused_but_forced_or_rehearsed(tiny: Path, tmp_path: Path, mode: str) -> None:
    with pytest.raises(RecipeError, match=f"precision.mode = {mode} on a CPU: it is emulated there") as caught:
        make_plan(wish(tiny, tmp_path, precision=mode))
    assert "--precision.emulate fp16" in caught.value.hint
    forced = make_plan(wish(tiny, tmp_path, precision=mode, force=True)).plan
    assert forced.settled.precision.mode == mode
    said = [choice.reason for choice in forced.choices if choice.setting == "precision.mode"]
    assert said == ["forced, on a CPU: it is emulated there, 12 to 31 times slower than fp32"]
    plan = make_plan(wish(tiny, tmp_path, precision={"mode": "auto", "emulate": "fp16"})).plan
    assert (plan.settled.precision.mode, plan.settled.precision.emulate) == ("fp16", "fp16")


def test_F4_instructions_for_fp16_in_a_cpu_are_not_enough(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = DeviceFacts("cpu", "a new CPU", frozenset({"fp32", "bf16", "fp16"}))
    monkeypatch.setattr(make, "device_facts", lambda device: new)
    with pytest.raises(RecipeError, match="PyTorch's backward pass is still far slower"):
        make_plan(wish(tiny, tmp_path, precision="fp16"))


def test_tf32_without_units_is_refused_but_rehearsed(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"precision.mode = tf32: a CPU has no tf32 units") as caught:
        make_plan(wish(tiny, tmp_path, precision="tf32"))
    assert "--precision.emulate tf32" in caught.value.hint
    plan = make_plan(wish(tiny, tmp_path, precision={"mode": "auto", "emulate": "tf32"})).plan
    assert (plan.settled.precision.mode, plan.settled.precision.emulate) == ("fp32", "tf32")


def test_fp8_is_refused_for_a_convnet_and_without_its_units(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="none of the 1 linear layers has sides that are multiples of 16"):
        make_plan(wish(tiny, tmp_path, precision="fp8"))
    transformer = nn.Sequential(nn.Flatten(), nn.Linear(768, 32), nn.Linear(32, 3))
    with pytest.raises(ResourceError, match="no fp8 units"):
        make_plan(wish(tiny, tmp_path, precision="fp8"), model=transformer)


def test_what_was_asked_for_is_no_choice(tiny: Path, tmp_path: Path, finds: Any) -> None:
    asked = finds(found())
    for precision in ("bf16", "bf16-true", {"mode": "auto", "emulate": "fp8-e4m3"}):
        plan = make_plan(wish(tiny, tmp_path, precision=precision)).plan
        assert not any(choice.setting.startswith("precision") for choice in plan.choices)
        assert plan.evidence == ()
    assert asked == []
