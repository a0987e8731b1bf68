"""What there is to complete, read frame by frame: a clip, its objects' visible masks, its depth, and its canvas.

Both kinds of sources look alike from here: arrays in memory, and files of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.focus import Box, extent
from diffvas.types import F32, U8, Bool, Clip, Extent, ObjectTrack

MOST_MARGIN = 0.5


class Track(Protocol):
    """Where one object is visible: (H, W) bool for every frame; ``masks.MaskRuns`` is one."""

    def __getitem__(self, frame: int) -> Bool: ...

    @property
    def extents(self) -> list[Extent | None]:
        """Per frame (top, bottom, left, right) of what is visible, ends exclusive."""
        ...


class ArrayTrack:
    """A track in memory."""

    def __init__(self, masks: Bool) -> None:
        self._masks = masks

    def __getitem__(self, frame: int) -> Bool:
        return self._masks[frame]

    @cached_property
    def extents(self) -> list[Extent | None]:
        return [extent(mask) for mask in self._masks]


@dataclass(frozen=True, eq=False)
class Material:
    """A clip and its objects on a canvas that may be larger than the frame.

    Attributes:
        name, fps: of the clip. frame_size: (height, width) of the camera's frames. times: seconds of every frame.
        tracks: by object id, at the size of the frames. frames: gives the frames of these numbers, which ascend.
        depth_at: gives a frame's depth (H, W) float32, finite, larger = nearer; None where there is none.
        margin: how far the canvas goes beyond the frame on each side, as a share of the frame's own side.
        said: whether the depth is a person's word on what stands in front (``depths.layers``).
    """

    name: str
    fps: float
    frame_size: tuple[int, int]
    times: Sequence[float]
    tracks: Mapping[int, Track]
    frames: Callable[[Sequence[int]], Iterator[U8]]
    depth_at: Callable[[int], F32] | None = None
    margin: float = 0.0
    said: bool = False
    _extents: dict[int, list[Extent | None]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin <= MOST_MARGIN:
            raise ValueError(f"margin: expected a number from 0 to {MOST_MARGIN}, got {self.margin!r}")

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @cached_property
    def inside(self) -> Box:
        """Where the frame is on the canvas."""
        (height, width), margin = self.frame_size, self.margin
        top, left = round(height * margin), round(width * margin)
        return Box(top, top + height, left, left + width)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the canvas."""
        return self.frame_size[0] + 2 * self.inside.top, self.frame_size[1] + 2 * self.inside.left

    def modal(self, object_id: int, frame: int) -> Bool:
        """(H, W) bool on the canvas, where the object is visible."""
        return self._on_canvas(self.tracks[object_id][frame])

    def extents(self, object_id: int) -> list[Extent | None]:
        """Per frame, the part of the canvas with visible pixels of the object."""
        if object_id not in self._extents:
            y, x = self.inside.top, self.inside.left
            found = self.tracks[object_id].extents
            self._extents[object_id] = [e and (e[0] + y, e[1] + y, e[2] + x, e[3] + x) for e in found]
        return self._extents[object_id]

    def rgb(self, numbers: Sequence[int]) -> Iterator[U8]:
        """(H, W, 3) uint8 of these frames, black around the camera's frame."""
        for frame in self.frames(numbers):
            yield self._on_canvas(frame)

    def depth(self, frame: int) -> F32:
        """(H, W) float32, carried on beyond the camera's frame as it is at its border."""
        assert self.depth_at is not None
        y, x = self.inside.top, self.inside.left
        depth = np.asarray(self.depth_at(frame), np.float32)
        if not (x or y):
            return depth
        return np.asarray(cv2.copyMakeBorder(depth, y, y, x, x, cv2.BORDER_REPLICATE))

    def _on_canvas(self, image: NDArray) -> NDArray:
        box = self.inside
        return box.paste(image[None], self.size)[0] if box.top or box.left else image


def of_arrays(
    clip: Clip, tracks: Sequence[ObjectTrack], depth: F32 | None, margin: float = 0.0, said: bool = False
) -> Material:
    """What is in memory, as material; nothing is copied."""
    return Material(
        clip.name,
        clip.fps,
        clip.size,
        [t / clip.fps for t in range(clip.num_frames)],
        {track.object_id: ArrayTrack(track.modal_masks) for track in tracks},
        lambda numbers: (clip.frames_u8[t] for t in numbers),
        None if depth is None else depth.__getitem__,
        margin,
        said,
    )
