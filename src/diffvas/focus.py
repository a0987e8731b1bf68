"""The focus crop: the part of the frame around an object that the models look at.

Small models work at few pixels; a crop that holds the object and room for its hidden parts spends them where they
count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """Rows ``top:bottom`` and columns ``left:right`` of a frame; the same in every frame of a clip."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def crop(self, stack: NDArray) -> NDArray:
        """The box of a stack (T, H, W, ...), as a view."""
        return stack[:, self.top : self.bottom, self.left : self.right]

    def paste(self, part: NDArray, size: tuple[int, int]) -> NDArray:
        """A stack (T, *self.size, ...) in frames of ``size``, zero around it."""
        out = np.zeros((len(part), *size, *part.shape[3:]), part.dtype)
        out[:, self.top : self.bottom, self.left : self.right] = part
        return out


def _span(low: float, high: float, expand: float, least: float, limit: int) -> tuple[int, int]:
    """``low``..``high`` made ``expand`` times as long about its middle, at least ``least``, moved into 0..``limit``."""
    length = min(max((high - low) * expand, least), limit)
    start = min(max((low + high - length) / 2, 0.0), limit - length)
    return round(start), round(start + length)


def focus_box(masks: NDArray[np.bool_], expand: float = 1.7, least: float = 0.25, aspect: float = 2.0) -> Box:
    """The box around all that is ever seen of an object, with room for what is not.

    Args:
        masks: (T, H, W) bool, True somewhere. expand: size of the box in sizes of what is seen.
        least: smallest side as a share of the frame's shorter side. aspect: the longer side is at most this many times
            the shorter one, as far as the frame allows.
    """
    height, width = masks.shape[1:]
    seen = np.asarray(masks.any(axis=0))
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return Box(0, height, 0, width)
    smallest = least * min(height, width)
    # a part that is hidden can be as large as the larger side of what is seen, so both sides get some of it
    tall, wide = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    floor_h, floor_w = max(smallest, wide * expand / aspect), max(smallest, tall * expand / aspect)
    top, bottom = _span(rows[0], rows[-1] + 1, expand, floor_h, height)
    left, right = _span(columns[0], columns[-1] + 1, expand, floor_w, width)
    return Box(top, bottom, left, right)


def fit_aspect(box: Box, aspect: float, size: tuple[int, int], slack: float = 1.3) -> Box:
    """The box lengthened on one side, as far as frames of ``size`` allow, until its width / height is ``aspect`` within
    a factor of ``slack``."""
    high, wide = box.size
    now = wide / high
    if now < aspect / slack:
        left, right = _span(box.left, box.right, 1.0, high * aspect / slack, size[1])
        return Box(box.top, box.bottom, left, right)
    if now > aspect * slack:
        top, bottom = _span(box.top, box.bottom, 1.0, wide / aspect / slack, size[0])
        return Box(top, bottom, box.left, box.right)
    return box
