"""The data that flows through the program: a clip, the objects in it, and what was completed.

All classes are frozen and check themselves when made, so that code further on never meets a half-right array.
Sizes are ``(height, width)``; axes are ``T H W C``; the layout or range is in the name where it is not the default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Extent = tuple[int, int, int, int]  # (top, bottom, left, right) of what is visible in a frame, ends exclusive


def _describe(value: object) -> str:
    """What came, in words for an error message."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    return f"{type(value).__name__} {value!r}"


def _check_array(name: str, value: object, dtype: type, layout: str) -> None:
    """Raise unless ``value`` is an array of ``dtype`` whose axes fit ``layout``, e.g. "(T, H, W, 3)", none empty."""
    axes = layout.strip("()").split(", ")
    ok = isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == len(axes)
    if ok:
        assert isinstance(value, np.ndarray)
        fixed = all(not axis.isdigit() or int(axis) == n for axis, n in zip(axes, value.shape, strict=True))
        ok = fixed and min(value.shape) > 0
    if not ok:
        raise ValueError(
            f"{name}: expected a {np.dtype(dtype).name} array of shape {layout} with no empty axis, "
            f"got {_describe(value)}"
        )


def _check_object_id(object_id: object) -> None:
    if isinstance(object_id, bool) or not isinstance(object_id, int | np.integer) or object_id < 1:
        raise ValueError(f"object_id: expected a whole number of 1 or more, got {_describe(object_id)}")


@dataclass(frozen=True, eq=False)
class Clip:
    """A video, decoded.

    Attributes:
        frames_u8: (T, H, W, 3) uint8, RGB, T >= 1.
        fps: frames per second, above 0.
        name: what to call the clip in messages and results.

    Raises:
        ValueError: frames of another shape or dtype, or an fps that is not a positive finite number.
    """

    frames_u8: U8
    fps: float = 25.0
    name: str = "clip"

    def __post_init__(self) -> None:
        _check_array("frames_u8", self.frames_u8, np.uint8, "(T, H, W, 3)")
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps: expected a finite number above 0, got {self.fps!r}")

    @property
    def num_frames(self) -> int:
        return int(self.frames_u8.shape[0])

    @property
    def height(self) -> int:
        return int(self.frames_u8.shape[1])

    @property
    def width(self) -> int:
        return int(self.frames_u8.shape[2])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class ObjectTrack:
    """Where one object is visible, frame by frame.

    Attributes:
        object_id: 1 or more; 0 means background in label images.
        modal_masks: (T, H, W) bool, True where the object is visible. A frame without any visible pixel is normal
            (the object is hidden or away); a track without any is an error, since nothing would say what to complete.

    Raises:
        ValueError: a bad id, masks of another shape or dtype, or no visible pixel in the whole track.
    """

    object_id: int
    modal_masks: Bool

    def __post_init__(self) -> None:
        _check_object_id(self.object_id)
        _check_array("modal_masks", self.modal_masks, np.bool_, "(T, H, W)")
        if not self.modal_masks.any():
            raise ValueError(
                f"modal_masks: expected at least one visible pixel of object {self.object_id}, got none in "
                f"{self.modal_masks.shape[0]} frames"
            )

    @property
    def num_frames(self) -> int:
        return int(self.modal_masks.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.modal_masks.shape[1]), int(self.modal_masks.shape[2])


@dataclass(frozen=True, eq=False)
class ObjectCompletion:
    """One object, completed.

    Attributes:
        object_id: as in its :class:`ObjectTrack`.
        modal_masks: (T, H, W) bool, the visible part, as given.
        amodal_masks: (T, H, W) bool, the whole object; contains the modal mask.
        probability: (T, H, W) float32 in [0, 1], the share of the K samples that cover the pixel; None when K == 1.
        content_rgba: (T, H, W, 4) uint8, the whole object's colours with straight alpha; alpha is 255 on the amodal
            mask. On the modal mask the colours are the camera's own. None where only masks were asked for.
        confidence: (T,) float32 in [0, 1], the expected IoU of each frame's amodal mask with the samples; NaN where
            nothing was drawn; None when K == 1.

    Raises:
        ValueError: shapes that disagree, an amodal mask that misses visible pixels, probabilities or confidences
            outside [0, 1], or content that is not opaque on the amodal mask.
    """

    object_id: int
    modal_masks: Bool
    amodal_masks: Bool
    probability: F32 | None
    content_rgba: U8 | None = None
    confidence: F32 | None = None

    def __post_init__(self) -> None:
        _check_object_id(self.object_id)
        _check_array("modal_masks", self.modal_masks, np.bool_, "(T, H, W)")
        _check_array("amodal_masks", self.amodal_masks, np.bool_, "(T, H, W)")
        expected = self.modal_masks.shape
        shapes: dict[str, tuple[int, ...]] = {"amodal_masks": self.amodal_masks.shape}
        if self.content_rgba is not None:
            _check_array("content_rgba", self.content_rgba, np.uint8, "(T, H, W, 4)")
            shapes["content_rgba"] = self.content_rgba.shape[:3]
        if self.probability is not None:
            _check_array("probability", self.probability, np.float32, "(T, H, W)")
            shapes["probability"] = self.probability.shape
        if self.confidence is not None:
            _check_array("confidence", self.confidence, np.float32, "(T)")
            if self.confidence.shape != expected[:1]:
                raise ValueError(f"confidence: expected (T,) = {expected[:1]}, got {self.confidence.shape}")
        for name, shape in shapes.items():
            if shape != expected:
                raise ValueError(f"{name}: expected (T, H, W) = {expected} like modal_masks, got {shape}")
        self._check_values()

    def _check_values(self) -> None:
        lost = int((self.modal_masks & ~self.amodal_masks).sum())
        if lost:
            raise ValueError(f"amodal_masks: expected to contain the modal masks, got {lost} visible pixels outside")
        if self.probability is not None:
            low, high = float(self.probability.min()), float(self.probability.max())
            if not (0.0 <= low and high <= 1.0):
                raise ValueError(f"probability: expected values in [0, 1], got {low:g} to {high:g}")
        if self.confidence is not None and ((self.confidence < 0) | (self.confidence > 1)).any():
            raise ValueError("confidence: expected values in [0, 1] or NaN, got others")
        if self.content_rgba is None:
            return
        clear = int((self.content_rgba[..., 3][self.amodal_masks] != 255).sum())
        if clear:
            raise ValueError(f"content_rgba: expected alpha 255 on the amodal mask, got {clear} pixels with less")

    @property
    def num_frames(self) -> int:
        return int(self.modal_masks.shape[0])


@dataclass(frozen=True, eq=False)
class Completion:
    """The result of completing a clip's objects.

    Attributes:
        clip: the input.
        objects: one entry per object, in the order given; ids are distinct.
        settings: what the result depends on (model, steps, samples, seed, ...); JSON-able.
        seconds: wall time per stage.

    Raises:
        ValueError: an object whose masks do not fit the clip, two objects of one id, or content whose visible
            pixels are not the clip's own.
    """

    clip: Clip
    objects: tuple[ObjectCompletion, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = [obj.object_id for obj in self.objects]
        if len(set(ids)) != len(ids):
            raise ValueError(f"objects: expected distinct object ids, got {ids}")
        expected = (self.clip.num_frames, *self.clip.size)
        for obj in self.objects:
            if obj.modal_masks.shape != expected:
                raise ValueError(
                    f"objects: expected masks of shape {expected} like the clip, got {obj.modal_masks.shape} "
                    f"for object {obj.object_id}"
                )
            if obj.content_rgba is None:
                continue
            seen = obj.modal_masks
            changed = int((obj.content_rgba[seen][:, :3] != self.clip.frames_u8[seen]).any(axis=1).sum())
            if changed:
                raise ValueError(
                    f"objects: expected visible pixels identical to the clip's, got {changed} changed pixels in the "
                    f"content of object {obj.object_id}"
                )

    def save(self, out_dir: str | Path) -> Path:
        """Write result.json, the preview and the PNGs; see :func:`diffvas.export.save_completion`."""
        from diffvas.export import save_completion

        return save_completion(self, out_dir)
