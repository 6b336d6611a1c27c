"""The events of a real, tiny run, for the listeners to hear."""

import pytest

from halftone.run.events import Event
from halftone.run.recipe import Recipe
from halftone.run.training import training
from samples import write_npz


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    root = tmp_path_factory.mktemp("track")
    recipe = Recipe(
        data=str(write_npz(root / "tiny.npz")),
        epochs=2,
        batch_size=16,
        model="cifar_resnet8",
        precision="fp32",
        threads=1,
        run={"root": root / "runs", "name": "one"},
    )
    return list(training(recipe))
