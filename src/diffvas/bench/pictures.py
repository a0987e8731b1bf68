"""Example clips as pictures: what was visible, what of the hidden part was found, missed, and claimed wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.bench.predictions import MaskTruth
from diffvas.bench.score import Predictions, Problems, align
from diffvas.metrics import rle as runs
from diffvas.metrics.protocols import Protocol
from diffvas.metrics.rle import Rle

U8 = NDArray[np.uint8]

# Told apart by most colour-blind viewers, and by their lightness.
COLOURS = {"visible": (176, 186, 200), "found": (38, 166, 120), "missed": (245, 166, 35), "wrong": (196, 64, 150)}
BACKGROUND = (246, 247, 249)
FRAMES = 6
TILE = (132, 200)
MARGIN = 0.25


def rank_clips(lines: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The best, median and worst clip of a method by mIoU_occ, of those with frames that count.

    Args:
        lines: ``per_clip`` of a method's summary.
    """
    ranked = sorted((x for x in lines if x["frames_occ"]), key=lambda x: (-x["miou_occ"], x["clip"]))
    if not ranked:
        return {}
    return {"best": ranked[0]["clip"], "median": ranked[len(ranked) // 2]["clip"], "worst": ranked[-1]["clip"]}


def window(truth: MaskTruth) -> tuple[slice, slice]:
    """Rows and columns around the true masks of all frames, with a margin, in the tile's proportions where possible."""
    boxes = np.array([runs.box(m) for m in truth.amodal])
    boxes = boxes[boxes[:, 2] > 0]
    height, width = truth.size
    if not len(boxes):
        return slice(0, height), slice(0, width)
    low = boxes[:, :2].min(axis=0)[::-1]
    high = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)[::-1]
    extent = (high - low) * (1 + 2 * MARGIN)
    extent = np.maximum(extent, [extent[1] * TILE[0] / TILE[1], extent[0] * TILE[1] / TILE[0]])
    middle = (low + high) / 2
    start = np.floor(np.maximum(middle - extent / 2, 0)).astype(int)
    stop = np.minimum(np.ceil(middle + extent / 2), [height, width]).astype(int)
    return slice(int(start[0]), int(stop[0])), slice(int(start[1]), int(stop[1]))


def tile(
    pred: Rle, amodal: Rle, modal: Rle, part: tuple[slice, slice], rules: Protocol, frame_u8: U8 | None = None
) -> U8:
    """(TILE..., 3) uint8 RGB: one frame of one method, on the frame's own grey picture if it is given."""
    size = amodal["size"]
    pred = pred if list(pred["size"]) == list(size) else runs.resize_nearest(pred, size)
    p, g, m = (runs.decode(mask)[part] for mask in (pred, amodal, modal))
    p = p | m if rules.union_modal else p
    canvas = np.empty((*g.shape, 3), np.uint8)
    canvas[:] = BACKGROUND
    share = 1.0
    if frame_u8 is not None and list(frame_u8.shape[:2]) == list(size):
        canvas[:] = frame_u8[part].mean(axis=2, keepdims=True) * 0.6 + 90
        share = 0.6
    for name, mask in (("visible", m), ("found", p & g & ~m), ("missed", g & ~p & ~m), ("wrong", p & ~g)):
        canvas[mask] = np.round((1 - share) * canvas[mask] + share * np.array(COLOURS[name]))
    scale = min(TILE[0] / canvas.shape[0], TILE[1] / canvas.shape[1])
    wide, tall = max(1, round(canvas.shape[1] * scale)), max(1, round(canvas.shape[0] * scale))
    small = cv2.resize(canvas, (wide, tall), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    out = np.full((*TILE, 3), 255, np.uint8)
    top, left = (TILE[0] - tall) // 2, (TILE[1] - wide) // 2
    out[top : top + tall, left : left + wide] = small
    return out


def draw_clip(
    truth: MaskTruth, methods: Sequence[Predictions], rules: Protocol, images: Path | None = None
) -> list[dict[str, Any]]:
    """One strip of tiles per method: up to ``FRAMES`` frames, of those that hide something if they are enough.

    Args:
        images: the folder that the truth's image names are relative to; None draws the masks alone.

    Returns:
        per method: name, and picture (H, W, 3) uint8 RGB.
    """
    hides = [t for t, (g, m) in enumerate(zip(truth.amodal, truth.modal, strict=True)) if runs.area(g) > runs.area(m)]
    shown = hides if len(hides) >= FRAMES else list(range(len(truth.frames)))
    picked = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, FRAMES).round().astype(int))]
    part = window(truth)
    frames = {t: _read_frame(truth, t, images) for t in picked}
    strips = []
    for method in methods:
        masks = align(truth, method.get(truth), Problems()).masks
        tiles = [tile(masks[t], truth.amodal[t], truth.modal[t], part, rules, frames[t]) for t in picked]
        gap = np.full((TILE[0], 4, 3), 255, np.uint8)
        strip = np.concatenate([piece for one in tiles for piece in (one, gap)][:-1], axis=1)
        strips.append({"name": method.name, "picture": strip})
    return strips


def _read_frame(truth: MaskTruth, t: int, images: Path | None) -> U8 | None:
    if images is None or not truth.images:
        return None
    path = images / truth.images[t]
    if not path.is_file():
        raise ValueError(f"images: expected the frame '{path}', found no such file")
    frame = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if frame is None:
        raise ValueError(f"images: expected a picture, got '{path}', which OpenCV cannot read")
    return np.asarray(frame[..., ::-1], np.uint8)


def write_examples(
    folder: Path,
    truths: dict[str, MaskTruth],
    methods: Sequence[Predictions],
    rules: Protocol,
    ranked: dict[str, str],
    images: Path | None = None,
) -> list[dict[str, Any]]:
    """Write the strips of the ranked clips as PNG into ``folder/examples``.

    Returns:
        per rank: rank, clip, and per method its name and the picture's path relative to ``folder``.
    """
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    out = []
    for rank, clip in ranked.items():
        strips = []
        for i, strip in enumerate(draw_clip(truths[clip], methods, rules, images)):
            name = f"examples/{rank}_{i}.png"
            done, data = cv2.imencode(".png", strip["picture"][..., ::-1])
            assert done
            (folder / name).write_bytes(data.tobytes())
            strips.append({"name": strip["name"], "picture": name})
        out.append({"rank": rank, "clip": clip, "strips": strips})
    return out
