"""What several rooms' tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

os.environ["COLUMNS"] = "120"  # tables and help are laid out for one terminal, from the first import on
settings.register_profile("repeatable", deadline=None, derandomize=True)  # a commit that passed passes again
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")  # pytest --hypothesis-profile=explore draws other examples


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data and weights, kept beside the project; tests that need them skip where they are absent."""
    place = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not place.is_dir():
        pytest.skip("../shared/data is not here")
    return place


@pytest.fixture(autouse=True, scope="session")
def _one_core() -> None:
    """Tiny tensors: a second thread only waits for the first. Of several test processes, each keeps to a core."""
    torch.set_num_threads(1)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):  # what a run takes for all cores is then this one
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured in tests, and in the processes that they start, stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HALFTONE_CACHE", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def plain_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes in fp32 only, whatever this one has."""
    monkeypatch.setattr("halftone.system.device.cpu_capabilities", dict)
