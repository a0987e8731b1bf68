"""Predictions against truths, clip by clip: every frame that is wanted is found, counted as missing, or named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from diffvas.bench.predictions import MaskTruth, Prediction
from diffvas.metrics import rle as runs
from diffvas.metrics.mask import FrameScores
from diffvas.metrics.probability import ProbabilityScore, question_window
from diffvas.metrics.protocols import Protocol as Rules
from diffvas.metrics.protocols import frame_visibility, score_frames
from diffvas.metrics.rle import Rle
from diffvas.metrics.video import Steadiness, SteadyScore

F64 = NDArray[np.float64]
Missing = Literal["refuse", "empty"]
Progress = Callable[[str, int, int], None]
SHOWN = 5


class Predictions(Protocol):
    """Whatever has predictions of one method: a folder, a file of the reference's, the modal masks."""

    name: str

    def get(self, truth: MaskTruth) -> Prediction | None:
        """The prediction for a truth; None where there is none."""

    def extra(self, clips: set[str]) -> list[str]:
        """What belongs to none of ``clips``."""


class ModalPredictions:
    """The visible masks as predictions: the baseline that completes nothing."""

    name = "modal"

    def get(self, truth: MaskTruth) -> Prediction:
        """The truth's own visible masks."""
        return Prediction(truth.clip, truth.frames, list(truth.modal))

    def extra(self, clips: set[str]) -> list[str]:
        """None, ever."""
        return []


@dataclass
class Problems:
    """Frames and clips that were wanted and not there, or there and not wanted; all by name.

    Attributes:
        missing: "CLIP: FRAME", scored as empty predictions. extra: frames or clips without truth, not scored.
        wanted: frames that have truth.
    """

    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    wanted: int = 0

    def lines(self, limit: int = SHOWN) -> list[str]:
        """One sentence each for what is missing and what is too much."""
        out = []
        if self.missing:
            out.append(f"{len(self.missing)} of {self.wanted} frames have no prediction: {few(self.missing, limit)}")
        if self.extra:
            out.append(f"{len(self.extra)} predictions belong to no frame that is scored: {few(self.extra, limit)}")
        return out

    def refuse(self, name: str) -> None:
        """Raise ValueError if anything is missing."""
        if self.missing:
            raise ValueError(
                f"predictions: expected one for each of {self.wanted} frames from '{name}', {len(self.missing)} are "
                f"missing: {few(self.missing)} (--missing empty scores them as empty masks)"
            )


def few(names: Sequence[str], limit: int = SHOWN) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


@dataclass(frozen=True, eq=False)
class ClipScore:
    """One method on one object of one clip.

    Attributes:
        clip, group, frames: of the truth. scores: of the answer, per frame. samples: the same of each of K samples.
        visibility: (T,) IoU of the modal and the amodal mask. steady: of the answer, and of the truth.
        probability: of the pixels around the object; None without probabilities. seconds, peak_bytes: as predicted.
    """

    clip: str
    group: str
    frames: tuple[str, ...]
    scores: FrameScores
    samples: tuple[FrameScores, ...]
    visibility: F64
    steady: tuple[Steadiness, Steadiness] | None = None
    probability: ProbabilityScore | None = None
    seconds: float = float("nan")
    peak_bytes: int | None = None


@dataclass
class MethodScores:
    """All clips of one method under one protocol."""

    name: str
    rules: Rules
    clips: list[ClipScore] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)


def align(truth: MaskTruth, prediction: Prediction | None, problems: Problems) -> Prediction:
    """The prediction in the truth's frames and their order; missing frames become empty masks and are noted."""
    problems.wanted += len(truth.frames)
    if prediction is not None and prediction.frames == truth.frames:
        return prediction
    place = {} if prediction is None else {name: t for t, name in enumerate(prediction.frames)}
    problems.missing += [f"{truth.clip}: {name}" for name in truth.frames if name not in place]
    problems.extra += [f"{truth.clip}: {name}" for name in place if name not in set(truth.frames)]
    size = truth.size if prediction is None else prediction.masks[0]["size"]
    nothing = runs.empty(size)

    def ordered(masks: list[Rle]) -> list[Rle]:
        return [masks[place[name]] if name in place else nothing for name in truth.frames]

    if prediction is None:
        return Prediction(truth.clip, truth.frames, ordered([]))
    levels = None
    if prediction.probability is not None:
        blank = np.zeros(prediction.probability.shape[1:], np.uint8)
        levels = np.stack([prediction.probability[place[n]] if n in place else blank for n in truth.frames])
    drawn = tuple(ordered(sample) for sample in prediction.samples)
    return replace(prediction, frames=truth.frames, masks=ordered(prediction.masks), samples=drawn, probability=levels)


def score_clip(truth: MaskTruth, prediction: Prediction, rules: Rules, video: bool = True) -> ClipScore:
    """Score one clip.

    Args:
        truth, prediction: with the same frames, see :func:`align`.
        rules: the protocol.
        video: also measure steadiness and probabilities, which need the truth's own size and decode every mask.
    """
    scores = score_frames(prediction.masks, truth.amodal, truth.modal, rules)
    samples = tuple(score_frames(sample, truth.amodal, truth.modal, rules) for sample in prediction.samples)
    visibility = frame_visibility(truth.amodal, truth.modal)
    base = ClipScore(truth.clip, truth.group, truth.frames, scores, samples, visibility)
    base = replace(base, seconds=prediction.seconds, peak_bytes=prediction.peak_bytes)
    if not video or list(prediction.masks[0]["size"]) != truth.size:
        return base
    steady = SteadyScore().update(prediction.masks, truth.amodal)
    return replace(base, steady=steady, probability=_probability(truth, prediction))


def _probability(truth: MaskTruth, prediction: Prediction) -> ProbabilityScore | None:
    """The probabilities' score in the true box, doubled, less what is visible: stored maps, else shares of samples."""
    if prediction.probability is None and len(prediction.samples) < 2:
        return None
    score = ProbabilityScore()
    for t, (amodal, modal) in enumerate(zip(truth.amodal, truth.modal, strict=True)):
        window = question_window(runs.box(amodal), truth.size)
        if prediction.probability is not None:
            levels, top = prediction.probability[t][window], 255
        else:
            levels, top = runs.decode(prediction.samples[0][t], *window).astype(np.uint16), len(prediction.samples)
            for sample in prediction.samples[1:]:
                levels += runs.decode(sample[t], *window)
        score.update_levels(levels, top, runs.decode(amodal, *window), ~runs.decode(modal, *window))
    return score


def in_range(visibility: F64, limits: tuple[float, float] | None) -> bool:
    """Whether a clip's mean visibility is within limits, both included."""
    return limits is None or bool(limits[0] <= visibility.mean() <= limits[1])


def score_method(
    truths: Iterable[MaskTruth],
    predictions: Predictions,
    rules: Rules,
    *,
    visibility: tuple[float, float] | None = None,
    missing: Missing = "refuse",
    video: bool = True,
    progress: Progress | None = None,
    total: int = 0,
) -> MethodScores:
    """Score all clips of a method.

    Args:
        truths: what is wanted; read once, in order.
        predictions: of one method.
        rules: the protocol.
        visibility: only clips whose mean IoU of modal and amodal mask is in this range, both ends included.
        missing: "refuse" raises at the end and names what is missing; "empty" scores it as an empty mask.
        video: see :func:`score_clip`.
        progress: called as progress(stage, clips done, total).
        total: number of clips, for the progress.

    Raises:
        ValueError: missing frames (unless "empty"), sizes that do not fit, broken masks.
    """
    out = MethodScores(predictions.name, rules)
    known: set[str] = set()
    for done, truth in enumerate(truths, 1):
        if truth.clip in known:
            raise ValueError(f"truths: expected every clip once, got '{truth.clip}' a second time")
        known.add(truth.clip)
        if visibility is None or in_range(frame_visibility(truth.amodal, truth.modal), visibility):
            prediction = align(truth, predictions.get(truth), out.problems)
            try:
                out.clips.append(score_clip(truth, prediction, rules, video))
            except ValueError as error:
                raise ValueError(f"'{predictions.name}' on '{truth.clip}': {error}") from error
        if progress is not None:
            progress(f"score {predictions.name}", done, max(total, done))
    out.problems.extra += predictions.extra(known)
    if missing == "refuse":
        out.problems.refuse(predictions.name)
    return out
