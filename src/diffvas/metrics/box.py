"""Amodal boxes: IoU, the share of frames above a threshold that TAO-Amodal's `reference` protocol calls AP, and the
padded canvas from which boxes are read that leave the image.

A box is (x, y, width, height) in pixels, x to the right and y downwards from the image's top left corner; a mask of one
pixel at the corner has the box (0, 0, 1, 1). Boxes may begin before 0 and end beyond the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffvas.metrics import rle as runs
from diffvas.metrics.mask import bootstrap_interval, pool
from diffvas.metrics.rle import Rle

F64 = NDArray[np.float64]

THRESHOLDS = (0.25, 0.50, 0.75)


def check_boxes(name: str, boxes: Sequence[Sequence[float]] | F64) -> F64:
    """``boxes`` as a (T, 4) float64 array; ValueError if it is none, or has NaN, infinite or negative sizes."""
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected (T, 4) numbers, got {str(boxes)[:60]}") from None
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name}: expected (T, 4) numbers, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {int((~np.isfinite(array)).sum())} NaN or infinite")
    if (array[:, 2:] < 0).any():
        raise ValueError(f"{name}: expected widths and heights of 0 or more, got {array[:, 2:].min():g}")
    return array


def mask_boxes(masks: Sequence[Rle]) -> F64:
    """(T, 4) boxes of T run-length masks; 0 0 0 0 where a mask is empty."""
    return np.array([runs.box(mask) for mask in masks]).reshape(-1, 4)


def box_iou(a: F64, b: F64) -> F64:
    """(T,) IoU of each pair of (T, 4) boxes; 0 where both have no area."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=1)
    union = a[:, 2:].prod(axis=1) + b[:, 2:].prod(axis=1) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def box_union(a: F64, b: F64) -> F64:
    """(T, 4) smallest boxes that hold both; a box without area adds nothing."""
    low = np.minimum(a[:, :2], b[:, :2])
    high = np.maximum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    both = np.concatenate([low, high - low], axis=1)
    no_a, no_b = (a[:, 2:].prod(axis=1) == 0), (b[:, 2:].prod(axis=1) == 0)
    return np.where(no_a[:, None], b, np.where(no_b[:, None], a, both))


def canvas_padding(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that the `reference` adds on each side of an image (height, width): objects may leave it."""
    return size[0] // 4, size[1] // 4


def boxes_from_canvas(masks: Sequence[Rle], size: tuple[int, int], modal_boxes: F64) -> F64:
    """The boxes that TAO-Amodal scores, from amodal masks on the padded canvas.

    The box of the prediction, less the padding; the modal box where the prediction is empty; the union of the two
    otherwise (metrics of the `reference` protocol).

    Args:
        masks: T predictions of the canvas' size: height + 2 * (height // 4) by width + 2 * (width // 4).
        size: (height, width) of the image without padding.
        modal_boxes: (T, 4) boxes of the visible masks in the image.

    Raises:
        ValueError: a mask of another size.
    """
    top, left = canvas_padding(size)
    canvas = [size[0] + 2 * top, size[1] + 2 * left]
    for t, mask in enumerate(masks):
        if list(mask["size"]) != canvas:
            raise ValueError(f"masks: expected the padded canvas' size {canvas}, got {list(mask['size'])} in frame {t}")
    boxes = mask_boxes(masks)
    boxes[boxes[:, 2] > 0, :2] -= left, top
    return box_union(boxes, modal_boxes)


@dataclass
class BoxScore:
    """Collects clips and says in what share of frames the box is right.

    "AP_t" is the share of frames whose IoU is above t, strictly: no scores, no classes, given association. It is what
    the paper prints; see ``trackap`` for the LVIS measure of that name.

    Attributes:
        clips: (T,) IoU of each clip, in the order of the updates.
    """

    clips: list[F64] = field(default_factory=list)

    def update(self, pred: F64, true: F64) -> F64:
        """Add one clip's (T, 4) boxes and return its (T,) IoU.

        Raises:
            ValueError: not (T, 4) finite boxes, or lengths that differ.
        """
        pred, true = check_boxes("pred", pred), check_boxes("true", true)
        if len(pred) != len(true):
            raise ValueError(f"pred: expected {len(true)} boxes, one per true box, got {len(pred)}")
        values = box_iou(pred, true)
        self.clips.append(values)
        return values

    def compute(
        self,
        *,
        rng: np.random.Generator | None = None,
        resamples: int = 2000,
        groups: Sequence[str] | None = None,
    ) -> dict[str, float | int]:
        """miou, ap25, ap50, ap75 with ``_low`` and ``_high`` (clips or groups of clips resampled), clips, frames."""
        rng = np.random.default_rng(0) if rng is None else rng
        measures = {"miou": self.clips}
        measures |= {f"ap{round(100 * t)}": [(c > t).astype(float) for c in self.clips] for t in THRESHOLDS}
        out: dict[str, float | int] = {}
        for name, values in measures.items():
            flat = np.concatenate([*values, np.empty(0)])
            out[name] = float(flat.mean()) if flat.size else float("nan")
            out[f"{name}_low"], out[f"{name}_high"] = bootstrap_interval(
                pool(values, groups), rng=rng, resamples=resamples
            )
        return out | {"clips": len(self.clips), "frames": sum(map(len, self.clips))}
