"""How a picture must be turned to stand upright, and where a part of the upright picture lies as it is stored."""

from dataclasses import dataclass

from halftone.data.box import Box
from halftone.data.labelled import Pixels


@dataclass(frozen=True, slots=True)
class Turn:
    """Mirroring, then exchanging rows and columns: the eight EXIF orientations."""

    left_right: bool = False
    top_bottom: bool = False
    exchange: bool = False

    @classmethod
    def of(cls, orientation: int) -> "Turn":
        """Return what undoes an EXIF orientation, 1 to 8."""
        return cls(orientation in (2, 3, 7, 8), orientation in (3, 4, 6, 7), orientation >= 5)

    def upright_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the upright picture, from those of the stored one."""
        return (width, height) if self.exchange else (height, width)

    def stored(self, box: Box, height: int, width: int) -> Box:
        """Return where a box of the upright picture lies in the stored one of this height and width."""
        left, top, right, bottom = box.left, box.top, box.right, box.bottom
        if self.exchange:
            left, top, right, bottom = top, left, bottom, right
        if self.left_right:
            left, right = width - right, width - left
        if self.top_bottom:
            top, bottom = height - bottom, height - top
        return Box(left, top, right, bottom)

    def upright(self, pixels: Pixels) -> Pixels:
        """Turn stored pixels, [height, width, channels]."""
        if self.left_right:
            pixels = pixels[:, ::-1]
        if self.top_bottom:
            pixels = pixels[::-1]
        return pixels.transpose(1, 0, 2) if self.exchange else pixels
