"""The focus: the part of each frame around an object that the models look at, which follows the object.

Small models work at few pixels; a box that holds the object and room for its hidden parts spends them where they
count. The box moves and grows with the object, so that a part of it lies at about the same place in every frame, which
is where a video network's temporal layers look for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from diffvas.types import F32, U8, Bool, Extent

Array = NDArray
T = TypeVar("T", F32, U8)

# chosen on scenes of the validation and training splits by the score of the votes alone (``shape_memory``), which
# ``diffvas eval scenes`` prints; flat around these values
FADE = 40.0  # frames after which a size seen once counts a third of itself
STIFFNESS = 3.0  # of the path against bending, in the weight of one frame in full view
INERTIA = 0.02  # of the path against moving, which keeps it from running away where nothing is seen
STIFFNESS_WHOLE, INERTIA_WHOLE = 2.0, 0.0002  # where extents are of whole objects
SIZE_STIFFNESS = 8.0
COMPLETE = 4  # a frame counts as much as what is seen of the object's largest extent, to this power
PARTLY = 1e-3  # and this much at least
MARGIN = 0.03  # of the box that stays free around what is visible


@dataclass(frozen=True)
class Box:
    """Rows ``top:bottom`` and columns ``left:right`` of a frame; may reach beyond it."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def moved(self, by: NDArray[np.floating]) -> Box:
        """The box (x, y) pixels farther, rounded."""
        x, y = round(float(by[0])), round(float(by[1]))
        return Box(self.top + y, self.bottom + y, self.left + x, self.right + x)

    def grown(self, share: float) -> Box:
        """The box with a rim of a share of its height above and below, and of its width left and right, rounded."""
        y, x = (round(share * side) for side in self.size)
        return Box(self.top - y, self.bottom + y, self.left - x, self.right + x)

    def crop(self, stack: Array) -> Array:
        """The box of a stack (T, H, W, ...), as a view where it lies in the frame.

        Beyond the frame masks are empty, and images and depth go on as at its border.
        """
        height, width = stack.shape[1:3]
        over = ((-self.top, self.bottom - height), (-self.left, self.right - width))
        if all(end <= 0 for side in over for end in side):
            return stack[:, self.top : self.bottom, self.left : self.right]
        rows, columns = np.arange(self.top, self.bottom), np.arange(self.left, self.right)
        out = stack[:, rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)]
        if stack.dtype == bool:
            out[:, (rows < 0) | (rows >= height)] = False
            out[:, :, (columns < 0) | (columns >= width)] = False
        return out

    def paste(self, part: Array, size: tuple[int, int]) -> Array:
        """A stack (T, *self.size, ...) in frames of ``size``, zero around it; what is beyond the frame is lost."""
        out = np.zeros((len(part), *size, *part.shape[3:]), part.dtype)
        rows = slice(max(self.top, 0), min(self.bottom, size[0]))
        columns = slice(max(self.left, 0), min(self.right, size[1]))
        if rows.start < rows.stop and columns.start < columns.stop:
            inner = part[:, rows.start - self.top : rows.stop - self.top]
            out[:, rows, columns] = inner[:, :, columns.start - self.left : columns.stop - self.left]
        return out


Boxes = Sequence[Box]  # one box per frame


def crop_each(boxes: Boxes, stack: Array, size: tuple[int, int], resize: Callable[[Any, tuple[int, int]], T]) -> T:
    """(T, h, w, ...): every frame's box of a stack (T, H, W, ...), resized to ``size`` by one of ``arrays``."""
    parts = (box.crop(frame[None]) for box, frame in zip(boxes, stack, strict=True))
    return np.concatenate([resize(np.ascontiguousarray(part), size) for part in parts])


def paste_each(boxes: Boxes, parts: Sequence[Array], size: tuple[int, int]) -> Array:
    """(T, *size, ...): one part of each box's size per frame, put back into frames."""
    return np.concatenate([box.paste(part[None], size) for box, part in zip(boxes, parts, strict=True)])


def whole_frames(count: int, size: tuple[int, int]) -> list[Box]:
    """The path of models that look at whole frames."""
    return [Box(0, size[0], 0, size[1])] * count


def extent(mask: Bool) -> Extent | None:
    """(top, bottom, left, right) of a mask (H, W); None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1) if len(rows) else None


def follow(
    extents: Sequence[Extent | None],
    size: tuple[int, int],
    expand: float = 2.0,
    least: float = 0.12,
    aspect: float = 1.0,
    shares: Sequence[float] | None = None,
) -> list[Box]:
    """A box around an object in every frame, with room for what is hidden of it.

    Size: the larger side of what has been seen of it lately or will be seen soon. Place: where its visible parts are,
    frames in which more is seen counting more, on a smooth path that goes straight on through frames without.
    Each box holds all that is visible in its frame.

    Args:
        extents: (T,), what is visible per frame; not all None. size: (height, width) of the frames.
        expand: side of the box in sides of the object. least: smallest side of the object as a share of the frame's
            shorter side. aspect: width / height of the boxes, whose shorter side is the one that ``expand`` gives.
        shares: (T,) in [0, 1], of the whole object, which the extents are of then, how much is visible in each frame.
    """
    seen = np.array([t for t, e in enumerate(extents) if e is not None])
    if not len(seen):
        return whole_frames(len(extents), size)
    edges = np.array([extents[t] for t in seen], np.float64)
    sides = edges[:, 1::2] - edges[:, ::2]  # height, width
    largest = np.stack([_fade(seen, sides[:, axis], len(extents)) for axis in (0, 1)], 1)
    if shares is not None:  # the size of a whole object is known, and no less before and after it is seen
        largest[: seen[0]], largest[seen[-1] + 1 :] = largest[seen[0]], largest[seen[-1]]
    weights = np.zeros((len(extents), 2))
    counts = (sides / largest[seen]) ** COMPLETE if shares is None else np.asarray(shares, np.float64)[seen, None]
    weights[seen] = counts + PARTLY
    firm = (STIFFNESS, INERTIA) if shares is None else (STIFFNESS_WHOLE, INERTIA_WHOLE)
    centres = np.zeros((len(extents), 2))
    centres[seen] = (edges[:, ::2] + edges[:, 1::2]) / 2
    centres = np.stack([_smooth(centres[:, axis], weights[:, axis], *firm) for axis in (0, 1)], 1)
    shape = np.array([1.0, aspect]) / min(1.0, aspect)  # (vertical, horizontal), the shorter side 1
    side = np.maximum(largest.max(1), least * min(size))
    side = np.exp(_smooth(np.log(side), np.ones(len(side)), SIZE_STIFFNESS, 0.0))
    half = 0.5 * expand * side[:, None] * shape
    # never so small or so far off that something visible is cut
    need = (sides / shape).max(1) / (1 - 2 * MARGIN) / 2
    half[seen] = np.maximum(half[seen], need[:, None] * shape)
    pad = MARGIN * 2 * half[seen]
    low, high = edges[:, 1::2] + pad - half[seen], edges[:, ::2] - pad + half[seen]
    centres[seen] = centres[seen].clip(np.minimum(low, high), np.maximum(low, high))
    tops, bottoms = np.floor(centres - half), np.ceil(centres + half)
    return [Box(int(a[0]), int(b[0]), int(a[1]), int(b[1])) for a, b in zip(tops, bottoms, strict=True)]


def _fade(seen: NDArray[np.int64], values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(count,): the largest of the values seen, each fading with the frames since or until it was."""
    out = np.zeros(count)
    out[seen] = values
    keep = np.exp(-1 / FADE)
    for t in range(1, count):
        out[t] = max(out[t], out[t - 1] * keep)
    for t in range(count - 2, -1, -1):
        out[t] = max(out[t], out[t + 1] * keep)
    return out


def _smooth(
    values: NDArray[np.float64], weights: NDArray[np.float64], stiffness: float, inertia: float
) -> NDArray[np.float64]:
    """Penalised least squares (Whittaker 1923): near the values by their weights, with small first and second
    differences; linear in the number of frames."""
    count = len(values)
    bands = np.zeros((3, count))  # upper diagonals, as LAPACK has them: the main one is the last row
    bands[2] = weights
    if count > 1:
        bands[2, :-1] += inertia
        bands[2, 1:] += inertia
        bands[1, 1:] -= inertia
    for k, a in enumerate((1.0, -2.0, 1.0)) if count > 2 else ():
        bands[2, k : count - 2 + k] += stiffness * a * a
    if count > 2:
        bands[1, 1 : count - 1] += stiffness * -2.0
        bands[1, 2:count] += stiffness * -2.0
        bands[0, 2:] += stiffness
    middle = float((weights * values).sum() / weights.sum())  # inertia and rounding are about the middle, not about 0
    solved = solveh_banded(bands[2 - min(2, count - 1) :], weights * (values - middle))
    return np.asarray(solved + middle)
