"""SAIL-VOS in the files of the Diffusion-VAS release.

Annotations: a list of {segmentation, visible_mask: [RLE], bbox, image_ids, obj_id, category_id, image_file_names}.
Predictions: {"(image_id, obj_id)": {"diffvas_res_rle": RLE}}, of any one size, before the union with the modal mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffvas.bench.predictions import MaskTruth, Prediction
from diffvas.bench.storage import read_table
from diffvas.data.records import checked_records, shape
from diffvas.data.sailvos import read_head
from diffvas.metrics.rle import check_rle

KEYS = ("segmentation", "visible_mask", "image_ids", "obj_id", "image_file_names")
RESULT = "diffvas_res_rle"


def read_annotations(path: str | Path) -> list[MaskTruth]:
    """All sequences of an annotation file.

    A clip is called "SCENE/OBJECT/FIRST IMAGE ID" and its frames "(image_id, obj_id)", as predictions are; the group is
    the scene, all of the image's folder but its own last part.

    Raises:
        ValueError: another layout, broken masks, lists of different lengths, a sequence or frame that stands twice.
    """
    truths: list[MaskTruth] = []
    clips: set[str] = set()
    for i, record in enumerate(checked_records(path, KEYS, "SAIL-VOS annotations")):
        truth = _sequence(record, f"sequence {i} of '{path}'")
        if truth.clip in clips:
            raise ValueError(f"path: expected every sequence once in '{path}', got '{truth.clip}' a second time")
        clips.add(truth.clip)
        truths.append(truth)
    return truths


def _sequence(record: dict[str, Any], where: str) -> MaskTruth:
    head, size = read_head(record, where), None
    masks: dict[str, list[dict[str, Any]]] = {"segmentation": [], "visible_mask": []}
    for key, checked in masks.items():
        for frame, rle in zip(head.frames, record[key], strict=True):
            checked.append(check_rle(f"{where}, {key} of {frame}", rle, size))
            size = rle["size"]
    return MaskTruth(head.name, head.scene, head.frames, masks["segmentation"], masks["visible_mask"], head.images)


class SailvosPredictions:
    """The predictions of one file.

    Args:
        path: the file.
        truths: what they may belong to.

    Raises:
        ValueError: another layout.
    """

    def __init__(self, path: str | Path, truths: Sequence[MaskTruth]) -> None:
        self.name = Path(path).stem
        self._path = path
        what = f"SAIL-VOS predictions, an object of '(image_id, obj_id)': {{'{RESULT}': RLE}}"
        self._found = read_table(path, what)
        for key, value in self._found.items():
            if not isinstance(value, dict) or RESULT not in value:
                raise ValueError(f"path: expected {what} in '{path}', got '{key}': {shape(value)}")
        self._known = {frame for truth in truths for frame in truth.frames}
        self._size: list[int] | None = None

    def get(self, truth: MaskTruth) -> Prediction | None:
        """The prediction for a sequence, with the frames that are there."""
        frames = tuple(frame for frame in truth.frames if frame in self._found)
        masks = []
        for frame in frames:
            rle = check_rle(f"prediction {frame} in '{self._path}'", self._found[frame][RESULT], self._size)
            self._size = list(rle["size"])
            masks.append(rle)
        return Prediction(truth.clip, frames, masks) if frames else None

    def extra(self, clips: set[str]) -> list[str]:
        """Keys that belong to no annotated frame."""
        return [key for key in self._found if key not in self._known]
