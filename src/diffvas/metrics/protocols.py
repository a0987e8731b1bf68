"""The published protocols as data, and one evaluator of run-length masks that follows any of them.

Numbers made under different protocols do not compare: they differ in size, in rounding, and above all in which frames
enter mIoU_occ. Notation as in ``mask``: prediction P, true amodal mask G, modal (visible) mask M.

Intersections and unions are worked out on runs wherever that is exact. Two rules need pixels: bilinear resizing and
erosion (`reference`); those are done by OpenCV on uint8 images, inside the box of the three masks, which is exact too.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.metrics import rle as runs
from diffvas.metrics.mask import HIDDEN_SHARE, FrameScores, average_clips
from diffvas.metrics.rle import Rle

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Protocol:
    """The rules that decide what a mask score means.

    Attributes:
        name: of the protocol. about: where it comes from, for tables.
        resize: what becomes of a prediction that is not of the truth's size: "nearest" by pixel centres, "bilinear" as
            OpenCV does on uint8 images of 0 and 1, or "refuse".
        union_modal: M is added to P before scoring.
        epsilon: IoU = I / (U + epsilon). With 0 the IoU is exact, and that of two empty masks is 1; otherwise it is 0.
        single_precision: the ratio is taken in float32, in which epsilon vanishes beside a union of 32 pixels or more.
        erosion: side of the square of ones that erodes P \\ M and G \\ M, once, before IoU_occ; 0 = none.
        occ_frames: the frames of mIoU_occ.
            "hidden": hidden area of at least 0.05 % of the frame. A total miss counts 0.
            "hits": IoU_occ of 1e-6 or more. Total misses vanish.
            "visible": frames with a visible pixel.
            "visible-imperfect": the same, less those whose IoU_occ is exactly 1.
        fully_hidden: whether frames without a visible pixel enter mIoU.
        average: whether the headline is the mean over all "frames", or the mean of the "clips"' means.
    """

    name: str
    about: str
    resize: Literal["nearest", "bilinear", "refuse"] = "refuse"
    union_modal: bool = False
    epsilon: float = 1e-6
    single_precision: bool = False
    erosion: int = 0
    occ_frames: Literal["hidden", "hits", "visible", "visible-imperfect"] = "hidden"
    fully_hidden: bool = True
    average: Literal["frames", "clips"] = "frames"


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("strict", "every hidden frame counts, exactly (ours)", "nearest", union_modal=True, epsilon=0.0),
        Protocol(
            "reference",
            "total misses vanish from mIoU_occ (Diffusion-VAS's code on SAIL-VOS)",
            "bilinear",
            union_modal=True,
            erosion=5,
            occ_frames="hits",
        ),
        Protocol(
            "eoras",
            "frames without a visible pixel left out, no union (EoRaS's code on MOVi)",
            single_precision=True,
            occ_frames="visible-imperfect",
            fully_hidden=False,
        ),
        Protocol(
            "c2f",
            "mean of the clips' means, no union (C2F-Seg's code on MOViD-Amodal)",
            occ_frames="visible",
            fully_hidden=False,
            average="clips",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ValueError: no such protocol; the nearest name is suggested.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    near = difflib.get_close_matches(name, PROTOCOLS, 1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got '{name}'{hint}")


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one frame: intersection and union of P and G, and of their hidden parts; |G \\ M| and |M|."""

    inter: int
    union: int
    inter_occ: int
    union_occ: int
    hidden_area: int
    visible_area: int


def overlap(pred: Rle, amodal: Rle, modal: Rle, protocol: Protocol) -> Overlap:
    """Count one frame's pixels under a protocol's rules of size, union and erosion.

    Args:
        pred: predicted amodal mask, of the truth's size unless the protocol resizes.
        amodal, modal: the truth, of one size; checked masks only (``rle.check_rle``).

    Raises:
        ValueError: sizes that differ.
    """
    size, pred_size = list(amodal["size"]), list(pred["size"])
    if list(modal["size"]) != size:
        raise ValueError(f"modal: expected a mask of size {size} like amodal, got {list(modal['size'])}")
    if pred_size != size and protocol.resize == "refuse":
        raise ValueError(
            f"pred: expected the truth's own size {size}, got {pred_size}: protocol '{protocol.name}' does not resize"
        )
    if protocol.erosion or (pred_size != size and protocol.resize == "bilinear"):
        return _overlap_of_pixels(pred, amodal, modal, protocol)
    return _overlap_of_runs(runs.resize_nearest(pred, size) if pred_size != size else pred, amodal, modal, protocol)


def _overlap_of_runs(pred: Rle, amodal: Rle, modal: Rle, protocol: Protocol) -> Overlap:
    pred = runs.union(pred, modal) if protocol.union_modal else pred
    both = runs.intersection(pred, amodal)
    inter, seen = runs.area(both), runs.area(modal)
    true_area = runs.area(amodal)
    return Overlap(
        inter=inter,
        union=runs.area(pred) + true_area - inter,
        inter_occ=inter - runs.area(runs.intersection(both, modal)),
        union_occ=runs.area(runs.union(pred, amodal, modal)) - seen,
        hidden_area=true_area - runs.area(runs.intersection(amodal, modal)),
        visible_area=seen,
    )


def _overlap_of_pixels(pred: Rle, amodal: Rle, modal: Rle, protocol: Protocol) -> Overlap:
    height, width = amodal["size"]
    rows, columns = _window([pred, amodal, modal], (height, width))
    if list(pred["size"]) == [height, width]:
        whole = runs.decode(pred, rows, columns).view(np.uint8)
    else:
        how = cv2.INTER_LINEAR if protocol.resize == "bilinear" else cv2.INTER_NEAREST_EXACT
        small = np.ascontiguousarray(runs.decode(pred).view(np.uint8))
        whole = cv2.resize(small, (width, height), interpolation=how)[rows, columns]
    # Column by column, as runs are: the square of ones has no direction, and counts have none either.
    p = cv2.transpose(whole)
    g = runs.decode(amodal, rows, columns).view(np.uint8).T
    m = runs.decode(modal, rows, columns).view(np.uint8).T
    if protocol.union_modal:
        p = cv2.bitwise_or(p, m)
    inter = _count(cv2.bitwise_and(p, g))
    unseen = cv2.subtract(np.ones_like(m), m)
    p_occ, g_occ = cv2.bitwise_and(p, unseen), cv2.bitwise_and(g, unseen)
    hidden_area = _count(g_occ)
    if protocol.erosion:
        square = np.ones((protocol.erosion, protocol.erosion), np.uint8)
        p_occ, g_occ = cv2.erode(p_occ, square), cv2.erode(g_occ, square)
    return Overlap(
        inter=inter,
        union=_count(p) + _count(g) - inter,
        inter_occ=_count(cv2.bitwise_and(p_occ, g_occ)),
        union_occ=_count(cv2.bitwise_or(p_occ, g_occ)),
        hidden_area=hidden_area,
        visible_area=_count(m),
    )


def _count(image: U8) -> int:
    return int(cv2.countNonZero(image))


def _window(masks: Sequence[Rle], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns that hold all masks, scaled to ``size``, and a rim of background wherever the frame has one.

    The rim is 2 pixels of each mask's own, enlarged with it: bilinear resizing spreads a mask by less than one source
    pixel, and erosion must see that the object ends. At the frame's edge OpenCV's erosion takes the outside for object,
    here as there.
    """
    low, high = np.array(size, float), np.zeros(2)
    for mask in masks:
        x, y, wide, tall = runs.box(mask)
        if wide:
            scale = np.array(size) / np.array(mask["size"])
            rim = 2 * np.maximum(scale, 1.0)
            low = np.minimum(low, np.array([y, x]) * scale - rim)
            high = np.maximum(high, np.array([y + tall, x + wide]) * scale + rim)
    if (high <= 0).any():
        return slice(0, 1), slice(0, 1)
    low, high = np.maximum(np.floor(low), 0).astype(int), np.minimum(np.ceil(high), size).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1])


def ratio(inter: NDArray[np.int64], union: NDArray[np.int64], protocol: Protocol) -> NDArray[np.float64]:
    """(T,) float64 IoU of pixel counts in a protocol's rules of epsilon and precision."""
    if protocol.single_precision:
        single = inter.astype(np.float32) / (union.astype(np.float32) + np.float32(protocol.epsilon))
        return single.astype(np.float64)
    if protocol.epsilon:
        return inter / (union + protocol.epsilon)
    return np.where(union == 0, 1.0, inter / np.maximum(union, 1))


def score_frames(pred: Sequence[Rle], amodal: Sequence[Rle], modal: Sequence[Rle], protocol: Protocol) -> FrameScores:
    """Score one object in one clip, frame by frame.

    Args:
        pred, amodal, modal: T run-length masks each, checked (``rle.check_rle``).

    Raises:
        ValueError: lengths or sizes that differ.
    """
    if not len(pred) == len(amodal) == len(modal) or not len(amodal):
        raise ValueError(
            f"pred: expected as many masks as there are true ones, one or more, got {len(pred)} predictions, "
            f"{len(amodal)} amodal and {len(modal)} modal masks"
        )
    counts = [overlap(p, g, m, protocol) for p, g, m in zip(pred, amodal, modal, strict=True)]
    table = np.array(
        [[c.inter, c.union, c.inter_occ, c.union_occ, c.hidden_area, c.visible_area] for c in counts], np.int64
    )
    inter, union, inter_occ, union_occ, hidden_area, visible_area = table.T
    iou_occ = ratio(inter_occ, union_occ, protocol)
    seen = visible_area > 0
    if protocol.occ_frames == "hits":
        counted = iou_occ >= 1e-6
    elif protocol.occ_frames == "hidden":
        height, width = amodal[0]["size"]
        counted = hidden_area >= HIDDEN_SHARE * height * width
    else:
        counted = seen & (iou_occ != 1.0) if protocol.occ_frames == "visible-imperfect" else seen
    return FrameScores(
        iou=ratio(inter, union, protocol),
        iou_occ=iou_occ,
        hidden_area=hidden_area,
        counted=counted,
        fully_hidden=counted & ~seen,
        scored=np.ones(len(seen), bool) if protocol.fully_hidden else seen,
    )


def frame_visibility(amodal: Sequence[Rle], modal: Sequence[Rle]) -> NDArray[np.float64]:
    """(T,) float64: IoU(M, G) with epsilon 1e-6, so 0 where both are empty.

    Its mean over a clip is the visibility by which the paper's figure 3 and the reference's ranges sort clips.
    """
    inter = np.array([runs.area(runs.intersection(g, m)) for g, m in zip(amodal, modal, strict=True)])
    total = np.array([runs.area(g) + runs.area(m) for g, m in zip(amodal, modal, strict=True)])
    return inter / (total - inter + 1e-6)


@dataclass
class MaskScore:
    """Collects clips under a protocol and averages them; one `update` per object and clip.

    Attributes:
        protocol: the rules. clips: per-frame scores in the order of the updates.
    """

    protocol: Protocol = field(default_factory=lambda: PROTOCOLS["strict"])
    clips: list[FrameScores] = field(default_factory=list)

    def update(self, pred: Sequence[Rle], amodal: Sequence[Rle], modal: Sequence[Rle]) -> FrameScores:
        """Add one object of one clip (see :func:`score_frames`) and return its per-frame scores."""
        scores = score_frames(pred, amodal, modal, self.protocol)
        self.clips.append(scores)
        return scores

    def compute(self, *, rng: np.random.Generator | None = None, resamples: int = 2000) -> dict[str, float | int]:
        """Averages over everything seen so far, with the keys of :func:`diffvas.metrics.mask.average_clips`.

        ``headline_miou`` and ``headline_miou_occ`` are the two numbers that the protocol publishes.
        """
        averages = average_clips(self.clips, rng=rng, resamples=resamples)
        return averages | headline(averages, self.protocol)


def headline(averages: dict[str, float | int], protocol: Protocol) -> dict[str, float]:
    """The two numbers that a protocol publishes, from all averages."""
    suffix = "_clip" if protocol.average == "clips" else ""
    return {f"headline_{key}": float(averages[f"{key}{suffix}"]) for key in ("miou", "miou_occ")}
