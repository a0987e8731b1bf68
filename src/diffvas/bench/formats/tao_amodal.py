"""TAO-Amodal in the files of the Diffusion-VAS release: amodal boxes, visible masks, no amodal masks.

Annotations: a list of {track_id, video_id, file_names, rles: [counts], height, width, amodal_bboxes: [xywh], ...}.
Predictions: {"(video_id, 'frame.jpg', 'relative track id')": {"diffvas_res_bbox": [x, y, width, height]}}.
Track ids: {str(video_id): first absolute track id}; relative id = track id - that + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvas.bench import boxes
from diffvas.bench.boxes import BoxResult
from diffvas.bench.predictions import BoxTruth
from diffvas.bench.score import Missing
from diffvas.bench.storage import read_table
from diffvas.data.records import checked_records, shape
from diffvas.data.tao_amodal import read_head
from diffvas.metrics.box import check_boxes, mask_boxes
from diffvas.metrics.rle import check_rle

F64 = NDArray[np.float64]
KEYS = ("track_id", "video_id", "file_names", "rles", "height", "width", "amodal_bboxes")
RESULT = "diffvas_res_bbox"


@dataclass(frozen=True, eq=False)
class TaoTruth(BoxTruth):
    """A sequence's boxes; its clip is called "VIDEO ID/TRACK ID/FIRST FRAME", its group is the video id."""

    video_id: int
    track_id: int


def read_annotations(path: str | Path) -> list[TaoTruth]:
    """All sequences of an annotation file.

    Raises:
        ValueError: another layout, broken masks or boxes, lists of different lengths, a sequence that stands twice.
    """
    truths: dict[str, TaoTruth] = {}
    for i, record in enumerate(checked_records(path, KEYS, "TAO-Amodal annotations")):
        truth = _sequence(record, f"sequence {i} of '{path}'")
        if truth.clip in truths:
            raise ValueError(f"path: expected every sequence once in '{path}', got '{truth.clip}' a second time")
        truths[truth.clip] = truth
    return list(truths.values())


def _sequence(record: dict[str, Any], where: str) -> TaoTruth:
    head = read_head(record, where)
    masks = [
        check_rle(f"{where}, visible mask of '{frame}'", rle) for frame, rle in zip(head.frames, head.rles, strict=True)
    ]
    video, track = record["video_id"], record["track_id"]
    size = (record["height"], record["width"])
    return TaoTruth(head.name, head.group, head.frames, head.boxes, mask_boxes(masks), size, video, track)


class TaoBoxes:
    """The predictions of one file.

    Args:
        path: the file. track_ids: the file of first track ids per video.

    Raises:
        ValueError: another layout.
    """

    def __init__(self, path: str | Path, track_ids: str | Path) -> None:
        self.name = Path(path).stem
        self._path, self._ids = path, track_ids
        self._first = read_table(track_ids, "first track ids, an object of 'video_id': track id")
        self._found = read_table(path, f"TAO-Amodal predictions, an object of keys: {{'{RESULT}': box}}")

    def get(self, truth: BoxTruth) -> tuple[F64, list[str]]:
        """See ``boxes.BoxPredictions``; ValueError where a box is none."""
        keys, found = self._keys(truth), truth.modal.copy()
        for t, key in enumerate(keys):
            if key in self._found:
                found[t] = _box(self._found[key], key, self._path)
        return found, [key for key in keys if key not in self._found]

    def extra(self, truths: Sequence[BoxTruth]) -> list[str]:
        """Keys that belong to no annotated frame."""
        known = {key for truth in truths for key in self._keys(truth)}
        return [key for key in self._found if key not in known]

    def _keys(self, truth: BoxTruth) -> list[str]:
        assert isinstance(truth, TaoTruth)
        return prediction_keys(truth, self._first, self._ids)


def score_boxes(
    truths: Sequence[TaoTruth],
    predictions: str | Path,
    track_ids: str | Path | None = None,
    *,
    visibility: tuple[float, float] | None = None,
    missing: Missing = "refuse",
) -> BoxResult:
    """Score a prediction file, or the modal boxes; see ``boxes.score_boxes``.

    Args:
        truths: see :func:`read_annotations`. predictions: a file, or "modal".
        track_ids: the file of first track ids per video; needed unless "modal".

    Raises:
        ValueError: another layout, boxes with NaN, missing frames (unless "empty").
    """
    if str(predictions) == "modal":
        return boxes.score_boxes(truths, boxes.ModalBoxes(), visibility=visibility)
    if track_ids is None:
        raise ValueError("track_ids: expected the file of first track ids per video, got none")
    return boxes.score_boxes(truths, TaoBoxes(predictions, track_ids), visibility=visibility, missing=missing)


def prediction_keys(truth: TaoTruth, first: dict[str, Any], path: str | Path) -> list[str]:
    """The keys of a sequence's frames in a prediction file. Raises ValueError for a video without a first track id."""
    start = first.get(str(truth.video_id))
    if not isinstance(start, int):
        raise ValueError(f"track_ids: expected a track id for video {truth.video_id} in '{path}', got {start!r}")
    return [str((truth.video_id, frame, str(truth.track_id - start + 1))) for frame in truth.frames]


def _box(value: Any, key: str, path: str | Path) -> F64:
    if not isinstance(value, dict) or RESULT not in value:
        raise ValueError(f"path: expected {key}: {{'{RESULT}': box}} in '{path}', got {shape(value)}")
    return check_boxes(f"prediction {key} in '{path}'", [value[RESULT]])[0]
