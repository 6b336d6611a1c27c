"""Where a convolution looks: the sizes before and after it, of one layer and one size of input."""

from dataclasses import dataclass
from typing import Self

from torch import nn

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution of maps of one size; each pair is of rows and columns."""

    size: Pair
    """Of the input, in pixels."""
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @classmethod
    def of(cls, layer: nn.Conv2d, size: Pair) -> Self:
        """Return that of a layer whose padding is given in numbers."""
        assert not isinstance(layer.padding, str)
        kernel, stride, padding, dilation = (
            (pair[0], pair[1]) for pair in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        )
        return cls(size, kernel, stride, padding, dilation)

    @property
    def size_after(self) -> Pair:
        """Of the result, in pixels."""
        return self._after(0), self._after(1)

    @property
    def pixels(self) -> int:
        """Of the input."""
        return self.size[0] * self.size[1]

    @property
    def pixels_after(self) -> int:
        """Of the result; none if the kernel is larger than the padded input."""
        rows, columns = self.size_after
        return max(rows, 0) * max(columns, 0)

    @property
    def places(self) -> int:
        """Of the kernel."""
        return self.kernel[0] * self.kernel[1]

    def _after(self, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1)
        return (self.size[axis] + 2 * self.padding[axis] - reach - 1) // self.stride[axis] + 1
