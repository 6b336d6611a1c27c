"""Looking at an image more than once, against torch's own padding and flips."""

import pytest
import torch
import torch.nn.functional as F

from halftone.data.augment.views import views_of

IMAGES = torch.randint(0, 256, (3, 3, 7, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [1, 2, 6])
def test_views_are_those_that_torch_makes(count: int) -> None:
    padded = F.pad(IMAGES.float(), (1, 1, 1, 1), mode="reflect").to(torch.uint8)
    plain, mirrored = (IMAGES, 0.5), (IMAGES.flip(3), 0.5)
    expected = {1: [(IMAGES, 1.0)], 2: [plain, mirrored], 6: [(IMAGES, 0.25), (IMAGES.flip(3), 0.25)]}[count]
    if count == 6:
        for part in (padded[..., :7, :6], padded[..., 2:, 2:]):
            expected += [(part, 0.125), (part.flip(3), 0.125)]
    found = list(views_of(IMAGES, count))
    assert len(found) == count
    assert sum(share for _, share in found) == 1
    for (view, share), (wanted, weight) in zip(found, expected, strict=True):
        assert share == weight
        assert any(torch.equal(view, other) for other, _ in expected)
        assert torch.equal(view, wanted)
