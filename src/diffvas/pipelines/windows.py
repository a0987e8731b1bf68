"""Cutting a clip of any length into windows, and putting results together again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from diffvas.focus import Box
from diffvas.types import Extent


def plan_windows(visible: np.ndarray, length: int = 25, overlap: int | None = None) -> list[np.ndarray]:
    """Frame numbers of each window, in order.

    Windows of ``length`` consecutive frames overlap by ``overlap``; the last one ends at the last frame. A window in
    which the object is never seen has nothing to go by: its outer frames are replaced by the nearest frames with the
    object in view, before and after, up to a sixth of the window on each side.

    Args:
        visible: (T,) bool, whether the object is seen in a frame.
        length: frames of a window, 1 or more.
        overlap: 0 to ``length - 1``; a third of the window where None, which is 8 of 25.

    Returns:
        int arrays of ``min(length, T)`` frame numbers each, increasing. How many there are depends on T alone.

    Raises:
        ValueError: a ``length`` below 1, or an ``overlap`` that leaves no way forward.
    """
    total = len(visible)
    starts = window_starts(total, length, overlap)
    if total <= length:
        return [np.arange(total)]
    seen = np.flatnonzero(visible)
    context = min(max(1, length // 6), (length - 1) // 2)
    windows = []
    for start in starts:
        frames = np.arange(start, start + length)
        if context and not visible[frames].any():
            before, after = seen[seen < start][-context:], seen[seen >= start + length][:context]
            inner = np.linspace(start, start + length - 1, length - len(before) - len(after)).round().astype(int)
            frames = np.concatenate([before, inner, after])
        windows.append(frames)
    return windows


def window_starts(total: int, length: int, overlap: int | None = None) -> list[int]:
    """The first frame of each window; see :func:`plan_windows`."""
    if length < 1:
        raise ValueError(f"length: expected at least 1 frame, got {length}")
    overlap = length // 3 if overlap is None else overlap
    if not 0 <= overlap < length:
        raise ValueError(f"overlap: expected 0 to {length - 1} frames, got {overlap}")
    return [0] if total <= length else [*range(0, total - length, length - overlap), total - length]


def blend_windows(total: int, windows: list[np.ndarray], results: list[np.ndarray]) -> np.ndarray:
    """Cross-fade windows into one clip.

    Args:
        total: frames of the clip. windows: from ``plan_windows``. results: (len(window), ...) float32 each.

    Returns:
        (total, ...) float32; where windows overlap, a mean weighted by the distance to each window's end. Frames that
        no window holds (dropped from a window without the object) take the nearest frame that one does.
    """
    value = np.zeros((total, *results[0].shape[1:]), np.float32)
    weight = np.zeros(total, np.float32)
    for frames, result in zip(windows, results, strict=True):
        n = len(frames)
        ramp = np.minimum(np.arange(n), np.arange(n)[::-1]).astype(np.float32) + 1
        for k, frame in enumerate(frames):
            value[frame] += ramp[k] * result[k]
            weight[frame] += ramp[k]
    held = np.flatnonzero(weight)
    value[held] /= weight[held].reshape(-1, *[1] * (value.ndim - 1))
    for frame in np.flatnonzero(weight == 0):
        value[frame] = value[held[np.argmin(np.abs(held - frame))]]
    return value


# ---------------------------------------------------------------------------------------------------------------------
# a video of any length, object by object


@dataclass(frozen=True, eq=False)
class Window:
    """Frames that the networks see at once.

    Attributes:
        number: among all windows of the clip, whether or not the object has one there: draws derive from it.
        frames: frame numbers, increasing; see :func:`plan_windows`. start, stop: the span that they stand for.
    """

    number: int
    frames: np.ndarray
    start: int
    stop: int

    def index(self, frame: int) -> int:
        """Where a frame is among the window's; of one that was dropped for context, the nearest that was not."""
        return int(np.abs(self.frames - frame).argmin())


def most_inside(windows: Sequence[Window], frame: int) -> Window:
    """The window in which a frame is farthest from the ends, of windows in order."""
    last = first = bisect_right(windows, frame, key=lambda w: w.start)
    while first and windows[first - 1].stop > frame:
        first -= 1
    return max(windows[first:last], key=lambda w: min(frame - w.start, w.stop - 1 - frame))


@dataclass(frozen=True, eq=False)
class Run:
    """The windows of one shot, blended in latent space: a frame looks the same in all that hold it.

    Attributes:
        boxes: what is looked at, for each of the shot's frames. windows: in order. start, stop: the shot.
    """

    boxes: Sequence[Box]
    windows: tuple[Window, ...]
    start: int
    stop: int

    def box(self, frame: int) -> Box:
        """What is looked at in a frame of the shot."""
        return self.boxes[frame - self.start]


def plan_runs(
    extents: Sequence[Extent | None],
    shots: Sequence[tuple[int, int]],
    length: int,
    boxes_around: Callable[[Sequence[Extent | None]], Sequence[Box]],
) -> list[Run]:
    """All windows of an object, with the boxes that follow it.

    No window crosses a cut, and a shot in which the object is not seen has none: nothing is invented there.

    Args:
        extents: per frame (top, bottom, left, right) of what is visible, or None. shots: (start, stop) of each.
        length: frames of a window. boxes_around: what the models look at, for what is visible in a shot.
    """
    runs: list[Run] = []
    number = 0
    for start, stop in shots:
        starts = window_starts(stop - start, length)
        visible = np.array([extent is not None for extent in extents[start:stop]])
        if visible.any():
            frames = [start + part for part in plan_windows(visible, length)]
            spans = [(start + at, min(start + at + length, stop)) for at in starts]
            windows = [Window(number + i, f, *span) for i, (f, span) in enumerate(zip(frames, spans, strict=True))]
            runs.append(Run(boxes_around(extents[start:stop]), tuple(windows), start, stop))
        number += len(starts)
    return runs


class Blend:
    """Cross-fades windows as they come, in the memory of the frames that a later window can still change."""

    def __init__(self, start: int, stop: int) -> None:
        """For the frames from ``start`` to ``stop``."""
        self._next, self._stop = start, stop
        self._held: dict[int, list[tuple[float, torch.Tensor]]] = {}
        self._last: torch.Tensor | None = None

    def add(self, window: Window, values: torch.Tensor, settled: int) -> list[tuple[int, torch.Tensor]]:
        """Take in a window, and give the frames before ``settled``, which no later one will change.

        Args:
            values: (K, n, ...), n being the window's frames; only those in its span count, the rest is context.

        Returns:
            (frame, (K, ...)) in order; a mean weighted by the distance to each window's end. A frame that no window
            holds (dropped to make room for context) takes the one before it.
        """
        n = len(window.frames)
        for k, frame in enumerate(window.frames.tolist()):
            if window.start <= frame < window.stop:
                self._held.setdefault(frame, []).append((float(min(k, n - 1 - k) + 1), values[:, k]))
        out = []
        for frame in range(self._next, min(settled, self._stop)):
            parts = self._held.pop(frame, [])
            value = self._last if not parts else parts[0][1]
            if value is None:  # dropped, and nothing before it: what comes next
                value = self._held[min(self._held)][0][1]
            if len(parts) > 1:
                total = sum(weight for weight, _ in parts)
                value = torch.stack([weight / total * part for weight, part in parts]).sum(0)
            self._last = value
            out.append((frame, value))
        self._next = max(self._next, min(settled, self._stop))
        for frame in [f for f in self._held if f < self._next]:
            del self._held[frame]
        return out
