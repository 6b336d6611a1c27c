"""What several rooms' tests share."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data and weights, kept beside the project; tests that need them skip where they are absent."""
    place = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not place.is_dir():
        pytest.skip("../shared/data is not here")
    return place


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tiny tensors: a second thread only waits for the first."""
    torch.set_num_threads(1)
