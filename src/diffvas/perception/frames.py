"""Frames by number from what can only be read forwards, in the memory of a few: clips of any length can be tracked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from diffvas.types import U8

KEEP = 24  # frames held; going backwards, as many are read at a time


class FrameArray(Protocol):
    """Frames by number."""

    def __getitem__(self, number: int, /) -> U8:
        """(H, W, 3) uint8 RGB."""
        ...


class Frames(Protocol):
    """What is tracked: a ``types.Clip``, or a :class:`LazyClip`."""

    @property
    def frames_u8(self) -> FrameArray: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...


class LazyClip:
    """A clip whose frames are read when they are asked for; :data:`KEEP` of them are held.

    Neighbours in either direction are cheap. A jump back reads from the beginning of what is read, so that a whole
    clip backwards costs its number of frames over twice :data:`KEEP` readings.

    Args:
        read: the frames (H, W, 3) uint8 RGB of ascending numbers, as ``video.Footage.frames`` gives them.
        num_frames, size: of the clip; size is (height, width).
    """

    def __init__(
        self, read: Callable[[Sequence[int]], Iterator[U8]], num_frames: int, size: tuple[int, int], keep: int = KEEP
    ) -> None:
        self._read, self._keep = read, keep
        self.num_frames, self.size = num_frames, size
        self.height, self.width = size
        self._held: dict[int, U8] = {}
        self._next = 0
        self._stream: Iterator[U8] = iter(())
        self._running = False

    @property
    def frames_u8(self) -> LazyClip:
        return self

    def __getitem__(self, number: int) -> U8:
        if not 0 <= number < self.num_frames:
            raise IndexError(number)
        if number in self._held:
            return self._held[number]
        if not (self._running and self._next <= number < self._next + self._keep):
            # backwards: those before it too, since they come next
            before = bool(self._held) and number < min(self._held)
            self._next = max(0, number - self._keep + 1) if before else number
            self._stream = self._read(range(self._next, self.num_frames))
            self._running = True
        while self._next <= number:
            frame = next(self._stream, None)
            if frame is None:
                self._running = False
                raise ValueError(f"clip: expected {self.num_frames} frames, got none after {self._next - 1}")
            self._held[self._next] = frame
            self._next += 1
            if len(self._held) > self._keep:
                del self._held[next(iter(self._held))]
        return self._held[number]
