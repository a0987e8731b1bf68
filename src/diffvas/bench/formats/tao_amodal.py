"""TAO-Amodal in the files of the Diffusion-VAS release: amodal boxes, visible masks, no amodal masks.

Annotations: a list of {track_id, video_id, file_names, rles: [counts], height, width, amodal_bboxes: [xywh], ...}.
Predictions: {"(video_id, 'frame.jpg', 'relative track id')": {"diffvas_res_bbox": [x, y, width, height]}}.
Track ids: {str(video_id): first absolute track id}; relative id = track id - that + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvas.bench.formats.layout import one_per_frame, read_records, read_table, shape
from diffvas.bench.score import Missing, Problems
from diffvas.metrics.box import BoxScore, box_iou, check_boxes, mask_boxes
from diffvas.metrics.rle import check_rle

F64 = NDArray[np.float64]
KEYS = ("track_id", "video_id", "file_names", "rles", "height", "width", "amodal_bboxes")
RESULT = "diffvas_res_bbox"


@dataclass(frozen=True, eq=False)
class BoxTruth:
    """One object of one clip with its true boxes.

    Attributes:
        clip: "VIDEO ID/TRACK ID/FIRST FRAME". group: the video id. frames: T file names, without folders.
        amodal, modal: (T, 4) float64 boxes (x, y, width, height); amodal ones may leave the image.
    """

    clip: str
    group: str
    frames: tuple[str, ...]
    amodal: F64
    modal: F64
    video_id: int
    track_id: int

    @property
    def visibility(self) -> float:
        """Mean IoU of modal and amodal box, by which the reference sorts clips into ranges."""
        return float(box_iou(self.amodal, self.modal).mean())


def read_annotations(path: str | Path) -> list[BoxTruth]:
    """All sequences of an annotation file.

    Raises:
        ValueError: another layout, broken masks or boxes, lists of different lengths, a sequence that stands twice.
    """
    truths: dict[str, BoxTruth] = {}
    for i, record in enumerate(read_records(path, KEYS, "TAO-Amodal annotations")):
        truth = _sequence(record, f"sequence {i} of '{path}'")
        if truth.clip in truths:
            raise ValueError(f"path: expected every sequence once in '{path}', got '{truth.clip}' a second time")
        truths[truth.clip] = truth
    return list(truths.values())


def _sequence(record: dict[str, Any], where: str) -> BoxTruth:
    one_per_frame(record, ("file_names", "rles", "amodal_bboxes"), where)
    frames = tuple(PurePosixPath(str(name)).name for name in record["file_names"])
    if len(set(frames)) != len(frames):
        raise ValueError(f"{where}: expected every frame once, got {len(frames) - len(set(frames))} a second time")
    size = [record["height"], record["width"]]
    masks = [
        check_rle(f"{where}, visible mask of '{frame}'", {"size": size, "counts": counts})
        for frame, counts in zip(frames, record["rles"], strict=True)
    ]
    amodal = check_boxes(f"{where}, amodal_bboxes", record["amodal_bboxes"])
    video, track = record["video_id"], record["track_id"]
    clip = f"{video}/{track}/{frames[0]}"
    return BoxTruth(clip, str(video), frames, amodal, mask_boxes(masks), video, track)


@dataclass
class BoxResult:
    """Scores of one method on all sequences: ``clips`` beside the scores' own, in the same order."""

    name: str
    score: BoxScore = field(default_factory=BoxScore)
    clips: list[BoxTruth] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


def score_boxes(
    truths: Sequence[BoxTruth],
    predictions: str | Path,
    track_ids: str | Path | None = None,
    *,
    visibility: tuple[float, float] | None = None,
    missing: Missing = "refuse",
) -> BoxResult:
    """Score a prediction file, or the modal boxes.

    Args:
        truths: see :func:`read_annotations`.
        predictions: a file, or "modal".
        track_ids: the file of first track ids per video; needed unless "modal".
        visibility: only clips whose mean IoU of modal and amodal box is in this range, both ends included.
        missing: "refuse" raises and names what is missing; "empty" takes the modal box there, which is what an empty
            prediction becomes in this protocol.

    Raises:
        ValueError: another layout, boxes with NaN, missing frames (unless "empty").
    """
    chosen = [t for t in truths if visibility is None or visibility[0] <= t.visibility <= visibility[1]]
    if str(predictions) == "modal":
        result = BoxResult("modal")
        for truth in chosen:
            result.score.update(truth.modal, truth.amodal)
        result.clips, result.problems.wanted = chosen, sum(len(t.frames) for t in chosen)
        return result
    if track_ids is None:
        raise ValueError("track_ids: expected the file of first track ids per video, got none")
    result = BoxResult(Path(predictions).stem)
    first = read_table(track_ids, "first track ids, an object of 'video_id': track id")
    found = read_table(predictions, f"TAO-Amodal predictions, an object of keys: {{'{RESULT}': box}}")
    known = {key for truth in truths for key in prediction_keys(truth, first, track_ids)}
    for truth in chosen:
        keys = prediction_keys(truth, first, track_ids)
        result.problems.wanted += len(keys)
        result.problems.missing += [key for key in keys if key not in found]
        boxes = truth.modal.copy()
        for t, key in enumerate(keys):
            if key in found:
                boxes[t] = _box(found[key], key, predictions)
        result.score.update(boxes, truth.amodal)
        result.clips.append(truth)
    result.problems.extra = [key for key in found if key not in known]
    if missing == "refuse":
        result.problems.refuse(result.name)
    return result


def prediction_keys(truth: BoxTruth, first: dict[str, Any], path: str | Path) -> list[str]:
    """The keys of a sequence's frames in a prediction file. Raises ValueError for a video without a first track id."""
    start = first.get(str(truth.video_id))
    if not isinstance(start, int):
        raise ValueError(f"track_ids: expected a track id for video {truth.video_id} in '{path}', got {start!r}")
    return [str((truth.video_id, frame, str(truth.track_id - start + 1))) for frame in truth.frames]


def _box(value: Any, key: str, path: str | Path) -> F64:
    if not isinstance(value, dict) or RESULT not in value:
        raise ValueError(f"path: expected {key}: {{'{RESULT}': box}} in '{path}', got {shape(value)}")
    return check_boxes(f"prediction {key} in '{path}'", [value[RESULT]])[0]
