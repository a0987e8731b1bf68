"""The `reference` protocol on SAIL-VOS the plain way: whole frames, 64-bit integers, masks encoded and decoded again.

Tests compare the fast evaluator with it; run as a program, it says how much faster the evaluator is:

    python tests/plain_scoring.py ANNOTATIONS.json PREDICTIONS.json
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco

from diffvas.metrics.rle import check_rle

Sequence = tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]


def plain_scores(pred: list[dict], amodal: list[dict], modal: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """(T,) IoU and (T,) IoU_occ of one clip's run-length masks; misses are still among the latter."""
    height, width = amodal[0]["size"]
    G = np.stack([_channels(rle) for rle in amodal]).sum(axis=-1) > 0
    M = np.stack([_channels(rle) for rle in modal]).sum(axis=-1) > 0
    G, M = G.astype(int), M.astype(int)
    resized = np.zeros((len(pred), height, width))
    for t, rle in enumerate(pred):
        resized[t] = cv2.resize(coco.decode(rle), (width, height), interpolation=cv2.INTER_LINEAR)
    union = np.logical_or(resized, M).astype(np.uint8)
    again = [coco.encode(np.asfortranarray(mask)) for mask in union]
    P = np.array([coco.decode(rle) for rle in again]).astype(int)
    return _iou(P, G), _iou(_eroded(P & ~M), _eroded(G & ~M))


def _channels(rle: dict) -> np.ndarray:
    """(H, W, 3) float32 in [-1, 1], resized to its own size: how masks come to the reference's metrics."""
    mask = coco.decode(rle)
    mask = cv2.resize(mask, (mask.shape[1], mask.shape[0]))
    return np.stack([mask] * 3, axis=-1).astype(np.float32) * 2 - 1


def _eroded(masks: np.ndarray) -> np.ndarray:
    images = (np.clip(masks, 0, 1) * 255).astype(np.uint8)
    kernel = np.ones((5, 5), np.uint8)
    return (np.stack([cv2.erode(image, kernel) for image in images]) / 255).astype(np.int64)


def _iou(P: np.ndarray, G: np.ndarray) -> np.ndarray:
    return (P & G).sum(axis=(1, 2)) / ((P | G).sum(axis=(1, 2)) + 1e-6)


def plain_means(sequences: list[Sequence]) -> tuple[float, float]:
    """mIoU and mIoU_occ over all frames of all sequences; total misses vanish from the second."""
    scores = [plain_scores(*sequence) for sequence in sequences]
    iou, occ = (np.concatenate(values) for values in zip(*scores, strict=True))
    return float(iou.mean()), float(occ[occ >= 1e-6].mean())


def read_sequences(annotations: str, predictions: str) -> list[Sequence]:
    """Predicted, amodal and modal run-length masks of every sequence of two files in the SAIL-VOS format."""
    with open(annotations) as a, open(predictions) as p:
        clips, found = json.load(a), json.load(p)
    return [
        (
            [found[f"({image}, {clip['obj_id']})"]["diffvas_res_rle"] for image in clip["image_ids"]],
            clip["segmentation"],
            clip["visible_mask"],
        )
        for clip in clips
    ]


def main(annotations: str, predictions: str, rounds: int = 3) -> None:
    """Print the processor seconds a sequence takes both ways (best of some rounds, alternating), reading left out.

    Processor time and not the clock's: on a busy machine the clock says more about the others.
    """
    from diffvas.allocator import keep_freed_memory
    from diffvas.metrics.protocols import PROTOCOLS, MaskScore

    sequences = read_sequences(annotations, predictions)
    plain, fast = [], []
    keep_freed_memory()
    cv2.setNumThreads(1)
    for _ in range(rounds):
        began = time.process_time()
        plain_result = plain_means(sequences)
        plain.append(time.process_time() - began)
        began = time.process_time()
        score = MaskScore(PROTOCOLS["reference"])
        for pred, amodal, modal in sequences:
            for rle in (*pred, *amodal, *modal):
                check_rle("rle", rle)
            score.update(pred, amodal, modal)
        fast_result = score.compute(resamples=1)
        fast.append(time.process_time() - began)
    count = len(sequences)
    print(f"plain: {min(plain) / count:.3f} s per sequence, mIoU {plain_result[0]!r}, mIoU_occ {plain_result[1]!r}")
    print(
        f"fast:  {min(fast) / count:.4f} s per sequence with all checks, mIoU {fast_result['miou']!r}, "
        f"mIoU_occ {fast_result['miou_occ']!r}; {min(plain) / min(fast):.0f} times faster"
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
