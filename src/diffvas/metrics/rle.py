"""Masks as COCO run lengths: the form in which predictions are stored and, where that is exact, scored.

A run-length mask is ``{"size": [height, width], "counts": str | bytes}``, the compressed form of pycocotools: column by
column, alternating runs of background and object. Areas, unions and intersections are worked out on the runs by
pycocotools' C code, which trusts its input: a broken string makes it read beyond its buffers. So everything that comes
from a file goes through :func:`check_rle` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

Rle = dict[str, Any]
Bool = NDArray[np.bool_]


def encode(mask: Bool) -> Rle:
    """One (H, W) bool mask as run lengths with ``counts`` as ASCII text, so that it can be written as JSON."""
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def encode_masks(masks: Bool) -> list[Rle]:
    """(T, H, W) bool masks as T run-length masks."""
    return [encode(mask) for mask in masks]


def decode(rle: Rle, rows: slice = slice(None), columns: slice = slice(None)) -> Bool:
    """One run-length mask as (H, W) bool, or the part of it in a window; its transpose is contiguous.

    The runs are laid out by NumPy, which takes a tenth of the time of pycocotools' own decoder on large frames.

    Args:
        rle: the mask.
        rows, columns: the window, as slices with step 1.

    Raises:
        ValueError: runs that do not fill the mask.
    """
    height, width = rle["size"]
    runs = run_lengths(rle["counts"])
    ends = np.cumsum(runs)
    if runs.size and (runs.min() < 0 or ends[-1] != height * width):
        raise ValueError(f"rle: expected runs that add up to {height} x {width} pixels, got {int(ends[-1])}")
    left, right, _ = columns.indices(width)
    edges = np.concatenate([[left * height], np.clip(ends, left * height, right * height)])
    inside = edges[1:] - edges[:-1]
    pixels = np.repeat(np.arange(runs.size) % 2 == 1, inside)
    return pixels.reshape(max(right - left, 0), height)[:, rows].T


def decode_masks(rles: Sequence[Rle]) -> Bool:
    """T run-length masks of one size as (T, H, W) bool."""
    return np.stack([decode(rle) for rle in rles])


def empty(size: Sequence[int]) -> Rle:
    """The mask of ``size`` (height, width) without any pixel."""
    return encode(np.zeros((int(size[0]), int(size[1])), bool))


def run_lengths(counts: str | bytes) -> NDArray[np.int64]:
    """The runs that a compressed ``counts`` stands for, background first.

    COCO writes each number in groups of 5 bits, lowest first, one character each ('0' + 6 bits, the sixth saying that
    more follow, the last group's fifth bit being the sign); from the fourth on, numbers are differences to the number
    two places before.

    Raises:
        ValueError: characters that are not of this code, or a number that breaks off.
    """
    try:
        raw = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except UnicodeEncodeError:
        raise ValueError("counts: expected compressed run lengths, got characters outside their code") from None
    groups = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not groups.size:
        return np.zeros(0, np.int64)
    if groups.min() < 0 or groups.max() > 63:
        raise ValueError("counts: expected compressed run lengths, got characters outside their code")
    last = (groups & 0x20) == 0
    if not last[-1]:
        raise ValueError("counts: expected compressed run lengths, got a number that breaks off")
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    place = np.arange(groups.size) - np.repeat(starts, np.diff(np.append(starts, groups.size)))
    if place.max() > 9:
        raise ValueError("counts: expected compressed run lengths, got a number of more than 50 bits")
    values = np.add.reduceat((groups & 0x1F) << (5 * place), starts)
    negative = (groups[last] & 0x10) != 0
    values -= np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values


def check_rle(name: str, rle: Any, size: Sequence[int] | None = None) -> Rle:
    """Raise ValueError unless ``rle`` is a whole and valid run-length mask (of ``size``, if given); return it.

    Args:
        name: what to call it in the message.
        rle: ``{"size", "counts"}``; ``counts`` may also be a list of runs (COCO's uncompressed form).
        size: the (height, width) it must have.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise ValueError(f"{name}: expected a run-length mask with 'size' and 'counts', got {_describe(rle)}")
    got, counts = rle["size"], rle["counts"]
    whole = isinstance(got, list | tuple) and len(got) == 2 and all(type(n) is int and n > 0 for n in got)
    if not whole:
        raise ValueError(f"{name}: expected a size of two whole numbers of 1 or more, got {got!r}")
    if size is not None and list(got) != list(size):
        raise ValueError(f"{name}: expected a mask of {size[0]} x {size[1]} (height x width), got {got[0]} x {got[1]}")
    if isinstance(counts, list):
        whole = all(type(n) is int for n in counts)
        runs = np.array(counts if whole else [-1], np.int64)
    elif isinstance(counts, str | bytes):
        try:
            runs = run_lengths(counts)
        except ValueError as error:
            raise ValueError(f"{name}: {str(error).removeprefix('counts: ')}") from None
    else:
        raise ValueError(f"{name}: expected counts as text or a list, got {_describe(counts)}")
    pixels = got[0] * got[1]
    if (runs < 0).any() or runs.sum() != pixels:
        total = "a negative run" if (runs < 0).any() else f"{int(runs.sum())}"
        raise ValueError(f"{name}: expected runs that add up to {got[0]} x {got[1]} = {pixels} pixels, got {total}")
    return coco.frPyObjects(rle, *got) if isinstance(counts, list) else rle


def _describe(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def area(rle: Rle) -> int:
    """Number of object pixels."""
    return int(coco.area(rle))


def union(*rles: Rle) -> Rle:
    """Pixels that are in any of some masks of one size."""
    _check_sizes(rles)
    return dict(coco.merge(list(rles), intersect=False))


def intersection(*rles: Rle) -> Rle:
    """Pixels that are in all of some masks of one size."""
    _check_sizes(rles)
    return dict(coco.merge(list(rles), intersect=True))


def _check_sizes(rles: Sequence[Rle]) -> None:
    sizes = {(int(rle["size"][0]), int(rle["size"][1])) for rle in rles}
    if len(sizes) != 1:
        raise ValueError(f"rles: expected masks of one size, got {sorted(sizes)}")


def box(rle: Rle) -> NDArray[np.float64]:
    """(4,) float64 x, y, width, height of the mask, in pixels: one pixel is 1 x 1; all 0 where the mask is empty."""
    if not area(rle):  # pycocotools takes a last run of 0 pixels for a pixel
        return np.zeros(4)
    return np.asarray(coco.toBbox(rle), np.float64)


def resize_nearest(rle: Rle, size: Sequence[int]) -> Rle:
    """The mask at another (height, width), by the source pixel under each new pixel's centre."""
    height, width = int(size[0]), int(size[1])
    mask = decode(rle)
    if mask.shape == (height, width):
        return rle
    # whole-number arithmetic: floor((2i + 1) * H / (2h)) has no rounding to worry about
    rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
    cols = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
    return encode(mask[rows[:, None], cols[None, :]])
