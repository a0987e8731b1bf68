"""Example clips as pictures: what the camera saw, what of the hidden part was found, missed, and claimed wrongly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.bench.predictions import MaskTruth
from diffvas.bench.score import Predictions, Problems, align
from diffvas.data.datasets import open_objects
from diffvas.metrics import rle as runs
from diffvas.metrics.protocols import Protocol
from diffvas.metrics.rle import Rle

U8 = NDArray[np.uint8]
# the pictures (T, H, W, 3) uint8 RGB of a truth's frames, given their numbers; None where there are none
Frames = Callable[[MaskTruth, Sequence[int]], Sequence[U8] | None]

# Told apart by most colour-blind viewers, and by their lightness.
COLOURS = {"visible": (92, 134, 220), "found": (38, 166, 120), "missed": (245, 166, 35), "wrong": (196, 64, 150)}
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
    """(up to TILE[0], TILE[1], 3) uint8 RGB: one frame of one method, on its own grey picture if it is given."""
    size = amodal["size"]
    pred = pred if list(pred["size"]) == list(size) else runs.resize_nearest(pred, size)
    p, g, m = (runs.decode(mask)[part] for mask in (pred, amodal, modal))
    p = p | m if rules.union_modal else p
    canvas = np.empty((*g.shape, 3), np.uint8)
    canvas[:] = BACKGROUND
    share = 1.0
    if frame_u8 is not None and list(frame_u8.shape[:2]) == list(size):
        canvas[:] = frame_u8[part].mean(axis=2, keepdims=True) * 0.55 + 100
        share = 0.65
    for name, mask in (("visible", m), ("found", p & g & ~m), ("missed", g & ~p & ~m), ("wrong", p & ~g)):
        canvas[mask] = np.round((1 - share) * canvas[mask] + share * np.array(COLOURS[name]))
    return fit_tile(canvas)


def fit_tile(canvas: U8) -> U8:
    """(up to TILE[0], TILE[1], 3) uint8 RGB: a picture as large as fits, on white where it is narrow."""
    scale = min(TILE[0] / canvas.shape[0], TILE[1] / canvas.shape[1])
    wide, tall = max(1, round(canvas.shape[1] * scale)), max(1, round(canvas.shape[0] * scale))
    small = cv2.resize(canvas, (wide, tall), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    out = np.full((tall, TILE[1], 3), 255, np.uint8)
    left = (TILE[1] - wide) // 2
    out[:, left : left + wide] = small
    return out


def draw_clip(
    truth: MaskTruth, methods: Sequence[Predictions], rules: Protocol, frames: Frames | None = None
) -> list[dict[str, Any]]:
    """One strip of tiles per method: up to ``FRAMES`` frames, of those that hide something if they are enough.

    Args:
        frames: reads the clip's pictures; without any the masks are drawn alone.

    Returns:
        per strip: name, and picture (H, W, 3) uint8 RGB; first, without a name, the clip itself if it has pictures.
    """
    hides = [t for t, (g, m) in enumerate(zip(truth.amodal, truth.modal, strict=True)) if runs.area(g) > runs.area(m)]
    shown = hides if len(hides) >= FRAMES else list(range(len(truth.frames)))
    picked = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, FRAMES).round().astype(int))]
    part = window(truth)
    found = None if frames is None else frames(truth, picked)
    pictures: Sequence[U8 | None] = [None] * len(picked) if found is None else found
    strips: list[dict[str, Any]] = []
    if found is not None:
        strips.append({"name": None, "picture": _strip([fit_tile(np.ascontiguousarray(one[part])) for one in found])})
    for method in methods:
        masks = align(truth, method.get(truth), Problems()).masks
        tiles = [
            tile(masks[t], truth.amodal[t], truth.modal[t], part, rules, picture)
            for t, picture in zip(picked, pictures, strict=True)
        ]
        strips.append({"name": method.name, "picture": _strip(tiles)})
    return strips


def _strip(tiles: Sequence[U8]) -> U8:
    gap = np.full((len(tiles[0]), 4, 3), 140, np.uint8)  # for light and dark pages alike
    return np.concatenate([piece for one in tiles for piece in (one, gap)][:-1], axis=1)


def frames_below(images: Path) -> Frames:
    """Reads the files that a truth names, relative to a folder; ValueError where one is missing or no picture."""

    def read(truth: MaskTruth, numbers: Sequence[int]) -> Sequence[U8] | None:
        return [_read_file(images / truth.images[t]) for t in numbers] if truth.images else None

    return read


def frames_of(path: str | Path, kind: str | None = None, **options: Any) -> Frames:
    """Reads the pictures of the data set that the truths are of; what it takes beside the path is ``open_objects``'.

    Raises:
        FileNotFoundError, ValueError: no data set, and when called: an object that it does not have, broken pictures.
    """
    clips = open_objects(path, kind, tolerant=True, **options)

    def read(truth: MaskTruth, numbers: Sequence[int]) -> Sequence[U8] | None:
        pictures = clips.get(truth.clip).frames_u8()
        return None if pictures is None else [pictures[t] for t in numbers]

    return read


def _read_file(path: Path) -> U8:
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
    frames: Frames | None = None,
) -> list[dict[str, Any]]:
    """Write the strips of the ranked clips into ``folder/examples``: as PNG, or as JPEG where they show pictures.

    Returns:
        per rank: rank, clip, and per strip its name (None: the clip itself) and the picture's path relative to
        ``folder``.
    """
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    out = []
    for rank, clip in ranked.items():
        strips = []
        drawn = draw_clip(truths[clip], methods, rules, frames)
        end, how = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 88]) if drawn[0]["name"] is None else (".png", [])
        for i, strip in enumerate(drawn):
            name = f"examples/{rank}_{i}{end}"
            done, data = cv2.imencode(end, strip["picture"][..., ::-1], how)
            assert done
            (folder / name).write_bytes(data.tobytes())
            strips.append({"name": strip["name"], "picture": name})
        out.append({"rank": rank, "clip": clip, "strips": strips})
    return out
