"""Statistics of batch normalisation measured anew, with torch's own as the oracle."""

from collections import OrderedDict

import torch
from torch import nn

from halftone.weights.statistics import measure_statistics, tracked_norms


def network(*, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3),
            first=nn.BatchNorm2d(4),
            drop=nn.Dropout(dropout),
            deep=nn.Conv2d(4, 2, 3),
            second=nn.BatchNorm2d(2),
            silent=nn.BatchNorm2d(2, track_running_stats=False),
        )
    ).eval()


def test_they_are_those_of_torch() -> None:
    batches = [torch.rand(4, 3, 8, 8) for _ in range(3)]
    own, other = network(), network()
    measure_statistics(own, iter(batches), layers={"first", "second"})
    torch.optim.swa_utils.update_bn(batches, other)
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], tensor)


def test_dropout_stays_off_and_everything_is_left_as_it_was() -> None:
    batches = [torch.rand(4, 3, 8, 8)] * 2
    found = []
    for _ in range(2):
        own = network(dropout=0.9)
        momentum = own.first.momentum
        measure_statistics(own, batches, layers={"first", "second"})
        assert not any(layer.training for layer in own.modules())
        assert own.first.momentum == momentum
        found.append(own.second.running_var.clone())
    assert torch.equal(*found)
    plain = network()
    measure_statistics(plain, batches, layers={"first", "second"})
    assert torch.equal(plain.second.running_var, found[0])


def test_layers_that_are_not_named_keep_theirs() -> None:
    own = network()
    before = own.first.running_mean.clone()
    measure_statistics(own, [torch.rand(4, 3, 8, 8)], layers={"second"})
    assert torch.equal(own.first.running_mean, before)
    assert int(own.second.num_batches_tracked) == 1


def test_only_layers_with_statistics_count() -> None:
    assert [name for name, _ in tracked_norms(network())] == ["first", "second"]
