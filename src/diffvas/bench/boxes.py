"""Box scores: predictions against truths that are boxes, as TAO-Amodal's are. ``reference`` is the only protocol.

A mask becomes its box; on the larger canvas of ``data.base.on_canvas`` the box may leave the frame. An empty prediction
becomes the box of what is visible, and every other one holds it (metrics of the `reference` protocol).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffvas.bench.predictions import BoxTruth, PredictionFolder
from diffvas.bench.score import Missing, Problems
from diffvas.metrics.box import BoxScore, box_union, boxes_from_canvas, canvas_padding, mask_boxes

F64 = NDArray[np.float64]


@dataclass
class BoxResult:
    """Scores of one method on all sequences: ``clips`` beside the scores' own, in the same order."""

    name: str
    score: BoxScore = field(default_factory=BoxScore)
    clips: list[BoxTruth] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


class BoxPredictions(Protocol):
    """Whatever has boxes of one method."""

    name: str

    def get(self, truth: BoxTruth) -> tuple[F64, list[str]]:
        """(T, 4) boxes, and the names of the frames that have none; there the box is the modal one."""

    def extra(self, truths: Sequence[BoxTruth]) -> list[str]:
        """What belongs to none of ``truths``."""


class ModalBoxes:
    """The boxes of the visible masks: the baseline that completes nothing."""

    name = "modal"

    def get(self, truth: BoxTruth) -> tuple[F64, list[str]]:
        """The truth's own modal boxes."""
        return truth.modal, []

    def extra(self, truths: Sequence[BoxTruth]) -> list[str]:
        """None, ever."""
        return []


class FolderBoxes:
    """The boxes of masks that ``bench predict`` wrote, of the frame's size or of the larger canvas'."""

    def __init__(self, folder: PredictionFolder) -> None:
        self.folder, self.name = folder, folder.name

    def get(self, truth: BoxTruth) -> tuple[F64, list[str]]:
        """See ``BoxPredictions``; ValueError where masks are of another size, or broken."""
        rows, columns = canvas_padding(truth.size)
        height, width = truth.size
        canvas = [height + 2 * rows, width + 2 * columns]
        found = self.folder.read(truth.clip, [[height, width], canvas])
        place = {} if found is None else {name: t for t, name in enumerate(found.frames)}
        missing = [f"{truth.clip}: {name}" for name in truth.frames if name not in place]
        boxes = truth.modal.copy()
        at = [t for t, name in enumerate(truth.frames) if name in place]
        if found is not None and at:
            masks = [found.masks[place[truth.frames[t]]] for t in at]
            if list(masks[0]["size"]) == canvas:
                boxes[at] = boxes_from_canvas(masks, truth.size, truth.modal[at])
            else:
                boxes[at] = box_union(mask_boxes(masks), truth.modal[at])
        return boxes, missing

    def extra(self, truths: Sequence[BoxTruth]) -> list[str]:
        """Ids of predictions that belong to none of ``truths``."""
        return self.folder.extra({truth.clip for truth in truths})


def score_boxes(
    truths: Iterable[BoxTruth],
    predictions: BoxPredictions,
    *,
    visibility: tuple[float, float] | None = None,
    missing: Missing = "refuse",
) -> BoxResult:
    """Score one method.

    Args:
        truths: what is wanted. predictions: of one method.
        visibility: only clips whose mean IoU of modal and amodal box is in this range, both ends included.
        missing: "refuse" raises and names what is missing; "empty" takes the modal box there, which is what an empty
            prediction becomes in this protocol.

    Raises:
        ValueError: broken predictions, missing frames (unless "empty").
    """
    truths, result = list(truths), BoxResult(predictions.name)
    for truth in truths:
        if visibility is None or visibility[0] <= truth.visibility <= visibility[1]:
            boxes, lost = predictions.get(truth)
            result.problems.wanted += len(truth.frames)
            result.problems.missing += lost
            result.score.update(boxes, truth.amodal)
            result.clips.append(truth)
    result.problems.extra = predictions.extra(truths)
    if missing == "refuse":
        result.problems.refuse(result.name)
    return result
