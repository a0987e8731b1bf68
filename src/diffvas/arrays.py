"""Conversions between files' arrays and networks' tensors: the only place for them.

``uint8 <-> [-1, 1]``, ``HWC <-> CHW``, ``mask <-> RGB`` and resizing live here, so that training and inference cannot
disagree about a rounding rule. torch is imported inside the functions that need it: reading files does not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.types import F32, U8, Bool

if TYPE_CHECKING:
    import torch


def _as_array(value: Any, name: str, dtype: type) -> NDArray[Any]:
    """``value`` as a NumPy array of exactly ``dtype``; torch CPU tensors are accepted."""
    array = np.asarray(value)
    if array.dtype != dtype:
        raise ValueError(f"{name}: expected dtype {np.dtype(dtype).name}, got {array.dtype}")
    return array


# ---------------------------------------------------------------------------------------------------------------------
# files' arrays <-> networks' tensors


def to_signed(frames_u8: U8) -> torch.Tensor:
    """RGB frames as a network wants them.

    Args:
        frames_u8: (..., H, W, 3) uint8.

    Returns:
        (..., 3, H, W) float32 tensor in [-1, 1]; 0 becomes -1 and 255 becomes 1. It owns its memory.

    Raises:
        ValueError: another dtype, or a last axis that is not 3.
    """
    import torch

    frames = _as_array(frames_u8, "frames_u8", np.uint8)
    if frames.ndim < 3 or frames.shape[-1] != 3:
        raise ValueError(f"frames_u8: expected shape (..., H, W, 3), got {frames.shape}")
    signed = torch.from_numpy(np.moveaxis(frames, -1, -3).astype(np.float32, order="C"))
    return signed.div_(127.5).sub_(1.0)


def from_signed(x: torch.Tensor) -> U8:
    """The inverse of :func:`to_signed`: round to the nearest of 256 levels, clamp what is outside [-1, 1].

    Args:
        x: (..., 3, H, W) tensor, any float dtype, any device, nominally in [-1, 1]. NaN has no colour and is refused.

    Returns:
        (..., H, W, 3) uint8 array.

    Raises:
        ValueError: another shape, or NaN values.
    """
    if x.ndim < 3 or x.shape[-3] != 3:
        raise ValueError(f"x: expected shape (..., 3, H, W), got {tuple(x.shape)}")
    levels = x.detach().float().add(1.0).mul(127.5)
    if bool(levels.isnan().any()):
        raise ValueError("x: expected numbers, got NaN")
    u8 = levels.round().clamp(0, 255).movedim(-3, -1).cpu().numpy().astype(np.uint8)
    return np.ascontiguousarray(u8)


def _grey_to_signed(grey: F32) -> torch.Tensor:
    """(..., H, W) in [0, 1] to (..., 3, H, W) in [-1, 1], three equal channels."""
    import torch

    signed = torch.from_numpy(np.ascontiguousarray(grey, dtype=np.float32)) * 2.0 - 1.0
    return signed.unsqueeze(-3).repeat(*([1] * (signed.ndim - 2)), 3, 1, 1)


def masks_to_signed(masks: Bool) -> torch.Tensor:
    """Masks as the RGB images that the VAE encodes: white on black.

    Args:
        masks: (..., H, W) bool.

    Returns:
        (..., 3, H, W) float32 tensor, 1 inside and -1 outside.
    """
    return _grey_to_signed(_as_array(masks, "masks", np.bool_).astype(np.float32))


def depth_to_signed(depth: F32) -> torch.Tensor:
    """Normalised depth as the RGB images that the VAE encodes.

    Args:
        depth: (..., H, W) float in [0, 1], 1 = near; see :func:`normalise_depth`.

    Returns:
        (..., 3, H, W) float32 tensor in [-1, 1].

    Raises:
        ValueError: values outside [0, 1], or NaN.
    """
    array = np.asarray(depth, dtype=np.float32)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(f"depth: expected values in [0, 1], got {low:g} to {high:g}")
    return _grey_to_signed(array)


def composite_on_white(rgb_u8: U8, mask: Bool) -> U8:
    """The pixels of ``rgb_u8`` on the mask, white elsewhere: how content is shown to stage 2 (paper, section 3.3).

    Args:
        rgb_u8: (..., H, W, 3) uint8.
        mask: (..., H, W) bool.

    Returns:
        (..., H, W, 3) uint8, a new array.
    """
    if rgb_u8.shape[:-1] != mask.shape:
        raise ValueError(f"mask: expected shape {rgb_u8.shape[:-1]} like the image, got {mask.shape}")
    white: U8 = np.where(mask[..., None], rgb_u8, np.uint8(255)).astype(np.uint8)
    return white


# ---------------------------------------------------------------------------------------------------------------------
# resizing; sizes are (height, width)


def _resize(stack: NDArray[Any], size: tuple[int, int], grow: int) -> NDArray[Any]:
    """(T, H, W[, C]) resized frame by frame: pixel areas when shrinking (no aliasing), ``grow`` when growing.

    "Shrinking" is by area: a frame that shrinks in one direction and grows in the other is judged by its pixel count.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size: expected (height, width) of 1 or more, got {size}")
    if stack.shape[1:3] == (height, width):
        return stack.copy()
    shrinks = height * width < stack.shape[1] * stack.shape[2]
    how = cv2.INTER_AREA if shrinks else grow
    out = np.empty((stack.shape[0], height, width, *stack.shape[3:]), dtype=stack.dtype)
    for i, frame in enumerate(stack):
        out[i] = cv2.resize(np.ascontiguousarray(frame), (width, height), interpolation=how)
    return out


def resize_u8(frames: U8, size: tuple[int, int]) -> U8:
    """Frames (T, H, W, 3) uint8 at another (height, width): area when shrinking, cubic when growing."""
    array = _as_array(frames, "frames", np.uint8)
    if array.ndim != 4:
        raise ValueError(f"frames: expected shape (T, H, W, C), got {array.shape}")
    return _resize(array, size, cv2.INTER_CUBIC)


def resize_float(x: F32, size: tuple[int, int]) -> F32:
    """Maps (T, H, W) float32 at another (height, width): area when shrinking, linear when growing (no overshoot)."""
    array = np.asarray(x, dtype=np.float32)
    if array.ndim != 3:
        raise ValueError(f"x: expected shape (T, H, W), got {array.shape}")
    return _resize(array, size, cv2.INTER_LINEAR)


def resize_masks_area(masks: Bool, size: tuple[int, int]) -> F32:
    """Masks (T, H, W) bool as coverage (T, h, w) float32 in [0, 1]: the share of each new pixel that is inside."""
    coverage = resize_float(_as_array(masks, "masks", np.bool_).astype(np.float32), size)
    return np.clip(coverage, 0.0, 1.0)


def resize_masks_nearest(masks: Bool, size: tuple[int, int]) -> Bool:
    """Masks (T, H, W) bool at another (height, width), by the source pixel under each new pixel's centre.

    Centres are (i + 0.5) * H / h. cv2's INTER_NEAREST takes the top left corner instead, which shifts a mask by up to
    half a source pixel when it shrinks; so the indices are worked out here.
    """
    array = _as_array(masks, "masks", np.bool_)
    if array.ndim != 3:
        raise ValueError(f"masks: expected shape (T, H, W), got {array.shape}")
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size: expected (height, width) of 1 or more, got {size}")
    # whole-number arithmetic: floor((2i + 1) * H / (2h)) has no rounding to worry about
    rows = (2 * np.arange(height) + 1) * array.shape[1] // (2 * height)
    cols = (2 * np.arange(width) + 1) * array.shape[2] // (2 * width)
    return array[:, rows[:, None], cols[None, :]]


# ---------------------------------------------------------------------------------------------------------------------
# values and sizes


def normalise_depth(depth: NDArray[Any]) -> F32:
    """Inverse depth scaled to [0, 1] over the whole clip, larger = nearer.

    Over the clip and not per frame, so that an object's depth does not flicker when something near enters or leaves.

    Args:
        depth: (T, H, W) float, any scale.

    Returns:
        (T, H, W) float32 in [0, 1]; 0.5 everywhere when the depth is constant (nothing is nearer than anything).

    Raises:
        ValueError: another number of axes, or values that are NaN or infinite.
    """
    array = np.asarray(depth, dtype=np.float64)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"depth: expected shape (T, H, W) with no empty axis, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"depth: expected finite values, got {int((~np.isfinite(array)).sum())} NaN or infinite")
    low, high = float(array.min()), float(array.max())
    # halves, because high - low of two finite numbers may not be finite
    half_range = high / 2 - low / 2
    if half_range <= 1e-6 * max(abs(low), abs(high)):  # resizing leaves as much of a constant in float32
        return np.full(array.shape, 0.5, dtype=np.float32)
    scaled = ((array / 2 - low / 2) / half_range).astype(np.float32)
    return np.clip(scaled, 0.0, 1.0)


def clean_depth(depth: NDArray[Any]) -> F32:
    """Depth without gaps: what is NaN or infinite takes the nearest finite value of its frame.

    Both mean "unknown": sensors leave NaN, and 1 / 0 of a missing distance is infinite, not near. Unknown is not far
    either: gaps follow the outlines of near things, where "far" would say that nothing can be hidden there. A frame
    without any finite value takes the nearest frame that has some, the earlier of two.

    Args:
        depth: (T, H, W) numbers, any scale; beyond the range of float32 counts as infinite.

    Returns:
        (T, H, W) float32, a new array, all finite; finite values are unchanged.

    Raises:
        ValueError: another shape, not numbers, or no finite value at all.
    """
    array = np.asarray(depth)
    if array.dtype.kind not in "fiu" or array.ndim != 3 or array.size == 0:
        raise ValueError(
            f"depth: expected numbers of shape (T, H, W) with no empty axis, got {array.dtype} {array.shape}"
        )
    with np.errstate(over="ignore"):
        filled: F32 = array.astype(np.float32)
    known = np.isfinite(filled)
    seen = np.flatnonzero(known.any((1, 2)))
    if seen.size == 0:
        raise ValueError("depth: expected at least one finite value, got only NaN or infinity; leave depth out")
    for t in seen[~known[seen].all((1, 2))]:
        filled[t] = _fill_gaps(filled[t], known[t])
    for t in np.setdiff1d(np.arange(len(filled)), seen):
        filled[t] = filled[seen[np.abs(seen - t).argmin()]]
    return filled


def _fill_gaps(values: F32, known: NDArray[np.bool_]) -> F32:
    """(H, W) with the value of the nearest known pixel where ``known`` is False."""
    unknown = (~known).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros(int(labels.max()) + 1, np.float32)
    of_label[labels[known]] = values[known]
    return of_label[labels]


def working_size(height: int, width: int, area: int = 128 * 256, multiple: int = 32) -> tuple[int, int]:
    """The size (height, width) at which a network works on a source of this size.

    Both sides are multiples of ``multiple`` and h * w <= 1.15 * area. Among those, the least cost wins, where the cost
    is the distortion of the aspect |ln((h / w) / (height / width))| plus half of what the size lacks to the full area,
    ln(limit / (h * w)): an exact aspect at a quarter of the pixels would be a bad bargain, and so would full area with
    a distorted picture. Ties go to the larger area, then to the lower height. For 720 x 1280: 128 x 224.

    Raises:
        ValueError: a size or an area that leaves nothing to choose from.
    """
    if height < 1 or width < 1:
        raise ValueError(f"height, width: expected 1 or more, got {height} x {width}")
    limit = math.floor(1.15 * area)
    if multiple < 1 or limit < multiple * multiple:
        raise ValueError(f"area: expected at least one {multiple} x {multiple} block, got {area}")
    aspect = height / width
    best: tuple[float, int, int] | None = None
    best_size = (multiple, multiple)
    for h in range(multiple, limit // multiple + 1, multiple):
        for w in range(multiple, limit // h + 1, multiple):
            cost = abs(math.log((h / w) / aspect)) + 0.5 * math.log(limit / (h * w))
            key = (round(cost, 9), -h * w, h)
            if best is None or key < best:
                best, best_size = key, (h, w)
    return best_size
