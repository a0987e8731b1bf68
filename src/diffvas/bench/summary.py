"""Scores of several methods as ``per_frame.csv`` and ``summary.json``: everything that tables and curves are made of.

All intervals are percentile bootstrap over clips (groups of clips, where objects share a scene), from seed 0, so equal
scores give equal files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from diffvas import __version__
from diffvas.bench.predictions import PredictionFolder
from diffvas.bench.report import write_json
from diffvas.bench.score import ClipScore, MethodScores, Predictions
from diffvas.bench.storage import write_text
from diffvas.metrics.intervals import paired_difference
from diffvas.metrics.mask import FrameScores, average_clips, pool
from diffvas.metrics.probability import ProbabilityScore
from diffvas.metrics.protocols import headline
from diffvas.metrics.topk import curve
from diffvas.metrics.video import SteadyScore

Array = np.ndarray

VISIBILITY_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COLUMNS = (
    "method",
    "clip",
    "group",
    "frame",
    "sample",
    "iou",
    "iou_occ",
    "scored",
    "counted",
    "hidden_area",
    "visible",
)
RESAMPLES = 2000


def summarise(
    methods: Sequence[MethodScores], baseline: str | None = None, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Everything about some methods on the same clips.

    Args:
        methods: scored under one protocol, on the same clips in the same order.
        baseline: what the others are compared with; by default every method with the best of the others.
        resamples: bootstrap draws.

    Returns:
        version, protocol (its rules), clips, and per method: averages with intervals and N, ``headline_miou`` and
        ``headline_miou_occ``, topk, visibility, probability, steadiness, runtime, problems, per_clip; ``differences``.

    Raises:
        ValueError: no methods, names that stand twice, other clips, or a baseline that is not among them.
    """
    _check(methods, baseline)
    rules = methods[0].rules
    return {
        "version": __version__,
        "protocol": asdict(rules),
        "clips": len(methods[0].clips),
        "methods": [_method(method, resamples) for method in methods],
        "differences": _differences(methods, baseline, resamples),
    }


def made_by(predictions: Predictions) -> dict[str, Any]:
    """How predictions were made, as their folder says: ``fitted`` (data, steps, batch, seed; empty where the weights
    came from elsewhere, None where there is nothing to fit or nobody knows) and ``weights``, a digest."""
    about = predictions.folder.about if isinstance(predictions, PredictionFolder) else {}
    settings = about.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    return {"fitted": settings.get("fitted"), "weights": settings.get("weights", "")}


def _check(methods: Sequence[MethodScores], baseline: str | None) -> None:
    names = [method.name for method in methods]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"methods: expected one or more, each name once, got {', '.join(names) or 'none'}")
    if baseline is not None and baseline not in names:
        raise ValueError(f"baseline: expected one of {', '.join(names)}, got '{baseline}'")
    clips = [[clip.clip for clip in method.clips] for method in methods]
    rules = {method.rules for method in methods}
    if any(one != clips[0] for one in clips) or len(rules) != 1:
        raise ValueError("methods: expected scores of the same clips under one protocol, got different ones")


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _groups(method: MethodScores) -> list[str]:
    return [clip.group for clip in method.clips]


def occ_values(clip: FrameScores) -> Array:
    """(N,) IoU_occ of the frames that count."""
    return clip.iou_occ[clip.counted]


def _mean(values: Sequence[Array]) -> float:
    flat = np.concatenate([*values, np.empty(0)])
    flat = flat[~np.isnan(flat)]
    return float(flat.mean()) if flat.size else float("nan")


def _method(method: MethodScores, resamples: int) -> dict[str, Any]:
    scores = [clip.scores for clip in method.clips]
    averages = average_clips(scores, rng=_rng(), resamples=resamples, groups=_groups(method))
    out: dict[str, Any] = {"name": method.name, **averages, **headline(averages, method.rules)}
    out["topk"] = _topk(method.clips)
    out["visibility"] = _visibility(method, resamples)
    out["probability"] = _probability(method.clips)
    out["steadiness"] = _steadiness(method.clips)
    seconds = np.array([clip.seconds for clip in method.clips])
    peaks = [clip.peak_bytes for clip in method.clips if clip.peak_bytes is not None]
    out["runtime"] = {
        "seconds_per_clip": float(np.nanmean(seconds)) if np.isfinite(seconds).any() else float("nan"),
        "peak_bytes": max(peaks) if peaks else None,
    }
    problems = method.problems
    out["problems"] = {"missing": problems.missing, "extra": problems.extra, "wanted": problems.wanted}
    out["per_clip"] = [_clip_line(clip) for clip in method.clips]
    return out


def _clip_line(clip: ClipScore) -> dict[str, Any]:
    hidden = occ_values(clip.scores)
    return {
        "clip": clip.clip,
        "miou": _mean([clip.scores.iou[clip.scores.scored]]),
        "miou_occ": _mean([hidden]),
        "frames_occ": len(hidden),
        "visibility": float(clip.visibility.mean()),
        "seconds": clip.seconds,
    }


def _topk(clips: Sequence[ClipScore]) -> dict[str, list[dict[str, float]]]:
    """Curves of mIoU and mIoU_occ over K, the first K samples; empty lists where the method has no samples."""
    if not clips or not all(clip.samples for clip in clips):
        return {"miou": [], "miou_occ": []}
    whole, hidden = [], []
    for clip in clips:
        whole.append(np.stack([one.iou[one.scored] for one in clip.samples]))
        # Where what counts depends on the sample (`reference`), a frame counts if any sample counts; a miss is a 0.
        counted = np.any([one.counted for one in clip.samples], axis=0)
        hidden.append(np.stack([np.where(one.counted, one.iou_occ, 0.0)[counted] for one in clip.samples]))
    return {"miou": curve(whole), "miou_occ": curve(hidden)}


def _visibility(method: MethodScores, resamples: int) -> list[dict[str, Any]]:
    """mIoU and mIoU_occ of the clips in each bin of mean visibility (paper, figure 3)."""
    bins = []
    means = np.array([clip.visibility.mean() for clip in method.clips])
    for low, high in pairwise(VISIBILITY_EDGES):
        inside = (means >= low) & ((means < high) | (high == VISIBILITY_EDGES[-1]))
        chosen = [clip for clip, use in zip(method.clips, inside, strict=True) if use]
        groups = [clip.group for clip in chosen]
        averages = average_clips([c.scores for c in chosen], rng=_rng(), resamples=resamples, groups=groups)
        keys = ("miou", "miou_occ", "miou_low", "miou_high", "miou_occ_low", "miou_occ_high", "clips", "frames_occ")
        bins.append({"low": low, "high": high, **{key: averages[key] for key in keys}})
    return bins


def _probability(clips: Sequence[ClipScore]) -> dict[str, Any] | None:
    parts = [clip.probability for clip in clips if clip.probability is not None]
    if not parts:
        return None
    total = ProbabilityScore()
    for part in parts:
        total.add(part)
    return total.compute()


def _steadiness(clips: Sequence[ClipScore]) -> dict[str, float] | None:
    pairs = [clip.steady for clip in clips if clip.steady is not None]
    return SteadyScore(pairs).compute() if pairs else None


def _differences(methods: Sequence[MethodScores], baseline: str | None, resamples: int) -> list[dict[str, Any]]:
    """Every method less the baseline (or the best of the others), the same clips drawn for both."""
    headlines = {
        m.name: headline(average_clips([c.scores for c in m.clips], resamples=1), m.rules)["headline_miou_occ"]
        for m in methods
    }
    by_name = {method.name: method for method in methods}
    lines = []
    for method in methods:
        others = [name for name in headlines if name != method.name]
        if not others or method.name == baseline:
            continue
        other = baseline or max(others, key=lambda name: -1.0 if np.isnan(headlines[name]) else headlines[name])
        line: dict[str, Any] = {"method": method.name, "baseline": other}
        for key in ("miou", "miou_occ"):
            a, b = (pool(_values(one, key), _groups(one)) for one in (method, by_name[other]))
            difference, low, high = paired_difference(a, b, rng=_rng(), resamples=resamples)
            line |= {key: difference, f"{key}_low": low, f"{key}_high": high}
        lines.append(line)
    return lines


def _values(method: MethodScores, key: str) -> list[Array]:
    """Per clip, the values whose mean is the headline: of its frames, or one mean where the protocol averages clips."""
    values = [occ_values(c.scores) if key == "miou_occ" else c.scores.iou[c.scores.scored] for c in method.clips]
    if method.rules.average == "frames":
        return values
    return [np.array([v.mean()]) if v.size else v for v in values]


# ---------------------------------------------------------------------------------------------------------------------
# files


def per_frame_csv(methods: Sequence[MethodScores]) -> str:
    """One line per method, clip, frame and sample; sample "" is the method's answer. Numbers are written exactly."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for method in methods:
        for clip in method.clips:
            for sample, scores in [("", clip.scores), *((str(k), s) for k, s in enumerate(clip.samples))]:
                for t, frame in enumerate(clip.frames):
                    writer.writerow(
                        (
                            method.name,
                            clip.clip,
                            clip.group,
                            frame,
                            sample,
                            repr(float(scores.iou[t])),
                            repr(float(scores.iou_occ[t])),
                            int(scores.scored[t]),
                            int(scores.counted[t]),
                            int(scores.hidden_area[t]),
                            repr(float(clip.visibility[t])),
                        )
                    )
    return out.getvalue()


def write_scores(folder: str | Path, methods: Sequence[MethodScores], summary: dict[str, Any]) -> None:
    """Write ``per_frame.csv`` and ``summary.json`` (nan as null) into a folder, each when whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "per_frame.csv", per_frame_csv(methods))
    write_json(folder / "summary.json", summary)


def box_summary(result: Any, resamples: int = RESAMPLES) -> dict[str, Any]:
    """The same for boxes: averages with intervals over clips of one video, and what was missing."""
    averages = result.score.compute(rng=_rng(), resamples=resamples, groups=[t.group for t in result.clips])
    problems = {"missing": result.problems.missing, "extra": result.problems.extra, "wanted": result.problems.wanted}
    return {"version": __version__, "name": result.name, **averages, "problems": problems}


def box_csv(result: Any) -> str:
    """One line per clip and frame of a box score."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("method", "clip", "group", "frame", "iou"))
    for truth, values in zip(result.clips, result.score.clips, strict=True):
        for frame, value in zip(truth.frames, values, strict=True):
            writer.writerow((result.name, truth.clip, truth.group, frame, repr(float(value))))
    return out.getvalue()
