"""Real photos and a real pretrained network: transfer works, and evaluate and predict agree with training."""

import shutil
from pathlib import Path

import pytest

from halftone.base.tables import read_table
from halftone.run.inference import Classifier, evaluate_run
from halftone.run.recipe import Recipe
from halftone.verbs import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_transfer_evaluate_and_predict_after_a_move(precision: str, shared_data: Path, tmp_path: Path) -> None:
    photos = shared_data / "photos"
    recipe = Recipe(
        data=str(photos),
        model="squeezenet1_1",
        weights=str(shared_data / "weights/squeezenet1_1_in1k.safetensors"),
        precision=precision,
        epochs=2,
        run={"root": tmp_path / "runs", "tensorboard": False},
    )
    run = train(recipe)
    told = run.metrics
    assert told.accuracy is not None and told.accuracy > 0.9  # ten classes from two passes
    moved = Path(shutil.move(run.path, tmp_path / "elsewhere"))
    assert evaluate_run(moved).metrics == told
    rows = read_table(moved / "predictions.csv")
    files = [photos / row["name"] for row in rows]
    said = [prediction.label for prediction in Classifier.load(moved).predict(files)]
    assert len(said) == 177
    assert said == [row["predicted"] for row in rows]
