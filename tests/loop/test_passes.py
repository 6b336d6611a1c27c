"""Parts of a batch."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from halftone.loop.passes import even_parts


@given(st.integers(1, 5000), st.integers(1, 300))
def test_parts_are_even_and_none_has_a_single_image(num_images: int, parts: int) -> None:
    bounds = even_parts(num_images, parts)
    sizes = [end - start for start, end in pairwise(bounds)]
    assert (bounds[0], bounds[-1]) == (0, num_images)
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == min(parts, max(1, num_images // 2))
    assert min(sizes) >= min(2, num_images)
