"""One step forward and back from the command line, for a network of each family that people ask for."""

from pathlib import Path

import pytest

from halftone.base.tables import read_table
from halftone.cli.main import main
from samples import write_npz

OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_channels=3):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))
"""
NETWORKS = {
    "cnn": 16,
    "cifar_resnet20": 16,
    "own": 16,
    "resnet18": 64,
    "resnet50": 64,
    "vgg11_bn": 64,
    "inception_v3": 299,
    "efficientnet_b0": 64,
    "mobilenet_v3_small": 64,
    "densenet121": 64,
    "convnext_tiny": 64,
    "vit_b_16": 224,
    "swin_t": 64,
    "squeezenet1_1": 64,
    "timm:resnet10t": 64,
    "timm:efficientnetv2_rw_t": 64,
    "timm:vit_tiny_patch16_224": 224,
}
"""Networks, and a size of picture that keeps the step short."""
FAST = ("cnn", "own", "timm:resnet10t")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in NETWORKS]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_from_the_command_line(
    name: str, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_npz(tmp_path / "tiny.npz", train=4, test=3)
    (tmp_path / "net.py").write_text(OWN)
    model = f"{tmp_path / 'net.py'}:Net" if name == "own" else name
    flags = ["--model", model, "--size", str(NETWORKS[name]), "--precision", precision, "--batch-size", "4"]
    flags += ["--max-steps", "1", "--run.root", str(tmp_path / "runs"), "--no-run.report", "--no-run.tensorboard"]
    assert main(["train", str(data), *flags]) == 0
    (row,) = read_table(Path(capsys.readouterr().out.strip()) / "steps.csv")
    assert row["skipped"] == "0"
    assert 0.5 < float(row["loss"]) < 10
    assert float(row["grad_norm"]) > 0
