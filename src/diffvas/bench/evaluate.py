"""Scores of amodal masks: visible mask, convex hull, and a model in any number of decodings, on the same cases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from diffvas import arrays
from diffvas.bench.cases import Case, pool_groups
from diffvas.diffusion import conditioning
from diffvas.focus import Boxes, crop_each
from diffvas.metrics import FrameScores, StrictScore, bootstrap_interval, convex_hull_masks, strict_frames
from diffvas.order import may_be_hidden
from diffvas.pipelines.completion import amodal_frames, as_seen, cut_each, look_at
from diffvas.pipelines.loading import CompletionModel
from diffvas.pipelines.sight import Seen
from diffvas.shape_memory import HINT, in_grey, votes
from diffvas.types import Bool

Array = np.ndarray
MODAL, HULL = "modal", "convex hull"
HULL_BEHIND = "convex hull, only behind what is nearer"  # the rule that our masks keep with depth; see ``order.py``
VOTES = "votes of other frames, no network"  # what models with a memory are told; see ``shape_memory.py``
SMALL, THROUGH_VAE = "truth, at the model's size", "truth, through the VAE"  # what no better network could pass
# plain twins, for what the memory, the boxes and the odds are worth
RIGID, AROUND_VISIBLE = ", masks laid as they are", ", boxes around what is visible"
EVEN_ODDS, ONCE = ", odds as they are", ", finished once"
# real things may hide the object, too, of which the truth knows nothing; mistakes elsewhere are not judged either
AT_SHAPES = ", judged where the shapes are"
VOTE_LEVEL = 0.3  # chosen on validation scenes
DEPTHS = {"given": ("given",), "none": ("none",), "both": ("given", "none")}


@dataclass(frozen=True, order=True)
class Decoding:
    """How one mask is made of a model: ``steps`` Euler steps, the mean of ``samples`` samples, ``guidance`` (-1: the
    model's own)."""

    steps: int
    samples: int
    guidance: float = -1.0

    def __str__(self) -> str:
        return f"{self.steps}x{self.samples}" + (f"@{self.guidance:g}" if self.guidance >= 0 else "")


@dataclass(frozen=True)
class MaskPlan:
    """What is scored on every case.

    Attributes:
        decodings: of the model; those of equal steps and guidance share their samples.
        depths: kinds of ``Case.depth_told``.
        thresholds: of the soft masks; the first one is that of the main table. seed: of all draws.
        ceiling: also the truth itself as the networks could say it at best.
        twins: also the votes without bending, all in boxes around what is visible, odds that are not raised where
            little is visible, and masks that are finished once, for models that do so.
    """

    decodings: tuple[Decoding, ...]
    depths: tuple[str, ...]
    thresholds: tuple[float, ...]
    seed: int = 0
    ceiling: bool = False
    twins: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the tables; ``depth`` is "" and ``threshold`` None for methods that have none."""

    method: str
    depth: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class OutOfSight:
    """Frames in which an object is not visible, and in how many of them a model takes it to have left the frame.

    Attributes:
        hidden, hidden_taken: it is hidden in the frame. gone, gone_taken: no part of it is in the frame.
    """

    hidden: int = 0
    hidden_taken: int = 0
    gone: int = 0
    gone_taken: int = 0

    @classmethod
    def count(cls, case: Case, taken: Bool) -> OutOfSight:
        """Of one case; ``taken``: (T,), what the model says."""
        away, there = ~case.modal.any((1, 2)), case.amodal.any((1, 2))
        parts = (away & there, away & there & taken, away & ~there, away & ~there & taken)
        return cls(*(int(part.sum()) for part in parts))

    def __add__(self, other: OutOfSight) -> OutOfSight:
        return OutOfSight(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, eq=False)
class Result:
    """One row's score on one case, the seconds it took (nan for what takes none), and for models with a memory what
    they say of frames in which the object is not visible."""

    scores: FrameScores
    seconds: float
    sight: OutOfSight | None = None


def decode_samples(
    model: CompletionModel,
    seen: Seen,
    how: Decoding,
    counts: Sequence[int],
    seed: int,
) -> tuple[Array, dict[int, float]]:
    """Soft masks of the most samples asked for, and the seconds they took.

    Args:
        seen: from ``as_seen``. counts: numbers of samples.

    Returns:
        (K, T, h, w) float32, and seconds by count; nan for fewer samples, which are a part of the most.
    """
    most = max(counts)
    began = time.perf_counter()
    sampling = model.amodal.sampling(steps=how.steps, guidance=how.guidance if how.guidance >= 0 else None)
    soft = amodal_frames(model, seen, 1, samples=most, sampling=sampling, seed=seed, tick=lambda: None)
    total = time.perf_counter() - began
    return soft, {count: total if count == most else float("nan") for count in counts}


def score_case(model: CompletionModel | None, case: Case, plan: MaskPlan) -> dict[Row, Result]:
    """All rows on one case, in ``strict`` rules: at the truth's own size, the visible mask added before scoring.

    Args:
        model: None leaves only the two baselines.
    """
    results = {
        Row(MODAL): Result(strict_frames(case.modal, case.amodal, case.modal), float("nan")),
        Row(HULL): Result(strict_frames(convex_hull_masks(case.modal), case.amodal, case.modal), float("nan")),
    }
    if model is None:
        return results
    for depth_name in plan.depths:
        room, halo = None, model.halo if depth_name == "none" else 0.0
        depth = case.depth_told(depth_name)
        boxes = look_at(model, case.modal, depth, case.frames_u8)
        seen = as_seen(model, boxes, case.modal, depth, case.frames_u8)
        if depth is not None:
            behind = may_be_hidden(depth, case.modal)
            if depth_name == "given":
                hull = case.modal | (convex_hull_masks(case.modal) & behind)
                results[Row(HULL_BEHIND)] = Result(strict_frames(hull, case.amodal, case.modal), float("nan"))
            room = behind if model.depth_rule else None
        if model.memory:
            # a network is asked where to look if there is no depth: votes without one are asked around what is visible
            around = boxes if depth is not None else model.look_at(case.modal)
            says = seen if depth is not None else as_seen(model, around, case.modal, None)
            told = {VOTES: says.recalled, VOTES + RIGID: recall_rigidly(says)} if plan.twins else {VOTES: says.recalled}
            for name, maps in told.items():
                masks = cut_each(around, maps, VOTE_LEVEL * HINT, case.modal, room, halo=halo)
                results[Row(name, depth_name)] = Result(strict_frames(masks, case.amodal, case.modal), float("nan"))
        if plan.ceiling:
            for name, soft in best_masks(model, boxes, case).items():
                masks = cut_each(boxes, soft, 0.5, case.modal, room)
                scores = strict_frames(masks, case.amodal, case.modal)
                results[Row(name, depth_name)] = Result(scores, float("nan"))
        views = {"": (model, boxes, seen)}
        if plan.twins and model.aims:
            around = model.look_at(case.modal)
            views[AROUND_VISIBLE] = model, around, as_seen(model, around, case.modal, depth, case.frames_u8)
        if plan.twins and model.odds != 1:
            views[EVEN_ODDS] = replace(model, odds=1.0), boxes, seen
        if plan.twins and model.finish is not None and model.rounds > 1:
            views[ONCE] = replace(model, rounds=1), boxes, seen
        for suffix, (one, around, says) in views.items():
            sight = OutOfSight.count(case, says.gone) if model.memory else None
            for steps, guidance in sorted({(d.steps, d.guidance) for d in plan.decodings}):
                group = [d for d in plan.decodings if (d.steps, d.guidance) == (steps, guidance)]
                counts = [d.samples for d in group]
                soft, seconds = decode_samples(one, says, group[0], counts, case.seed(plan.seed))
                for decoding in group:
                    mean = soft[: decoding.samples].mean(0)
                    for threshold in plan.thresholds:
                        masks = cut_each(around, mean, threshold, case.modal, room, halo=halo)
                        scores = strict_frames(masks, case.amodal, case.modal)
                        row = Row(str(decoding) + suffix, depth_name, threshold)
                        results[row] = Result(scores, seconds[decoding.samples], sight)
                        if case.covered is not None and room is None:
                            scores = strict_frames(masks & (case.modal | case.covered), case.amodal, case.modal)
                            row = Row(str(decoding) + suffix + AT_SHAPES, depth_name, threshold)
                            results[row] = Result(scores, float("nan"), sight)
    return results


def recall_rigidly(seen: Seen) -> Array:
    """``seen.recalled`` without bending what is laid over a frame: its plain twin."""
    if not seen.modal.any():
        return seen.recalled
    return in_grey(votes(seen.modal, seen.free, seen.inside, bent=False), seen.modal, seen.free, seen.inside)


@torch.inference_mode()
def best_masks(model: CompletionModel, boxes: Boxes, case: Case) -> dict[str, Array]:
    """The true masks (T, h, w) in [0, 1], as shrunk to the model's size, and as these come back from its VAE."""
    size, pipe = model.view_size((case.modal.shape[1], case.modal.shape[2])), model.amodal
    share = crop_each(boxes, case.amodal, size, arrays.resize_masks_area)
    pixels = arrays.masks_to_signed(share >= 0.5).to(pipe._execution_device)
    latents = conditioning.encode(pipe.vae, pixels, 16) * pipe.vae.config.scaling_factor
    return {SMALL: share, THROUGH_VAE: pipe.decode(latents).mean(1).numpy()}


@dataclass
class MaskBoard:
    """Collects the results of whole cases: a case is in all rows or in none."""

    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)
    results: dict[Row, list[Result]] = field(default_factory=dict)

    def add(self, case: Case, results: dict[Row, Result]) -> None:
        """Take in one case."""
        for row, result in results.items():
            self.results.setdefault(row, []).append(result)
        self.names.append(case.name)
        self.groups.append(case.group)
        self.families.append(case.family)

    def summary(self, family: str | None = None) -> list[dict[str, Any]]:
        """One dict per row: the averages of ``StrictScore``, with intervals that resample groups, and differences.

        ``gain``, ``gain_low``, ``gain_high``: mIoU_occ less the convex hull's on the same frames.
        """
        chosen = [i for i, f in enumerate(self.families) if family is None or f == family]
        lines = []
        for row, results in self.results.items():
            picked = [results[i] for i in chosen]
            hull = [self.results[Row(HULL)][i].scores for i in chosen]
            line: dict[str, Any] = {"method": row.method, "depth": row.depth, "threshold": row.threshold}
            line |= StrictScore([r.scores for r in picked]).compute(resamples=1)
            every = [r.scores.iou for r in picked]
            hidden = [r.scores.iou_occ[r.scores.counted] for r in picked]
            gains = [(r.scores.iou_occ - h.iou_occ)[h.counted] for r, h in zip(picked, hull, strict=True)]
            for name, values in (("miou", every), ("miou_occ", hidden), ("gain", gains)):
                line |= self._interval(name, values, chosen)
            line["gain"] = float(np.concatenate(gains).mean()) if any(map(len, gains)) else float("nan")
            line["seconds"] = float(np.mean([r.seconds for r in picked])) if picked else float("nan")
            sights = [r.sight for r in picked if r.sight is not None]
            if sights:
                line["out_of_sight"] = asdict(sum(sights, OutOfSight()))
            lines.append(line)
        return lines

    def _interval(self, name: str, values: list[Array], chosen: list[int]) -> dict[str, float]:
        pooled = pool_groups(values, [self.groups[i] for i in chosen])
        low, high = bootstrap_interval(pooled, rng=np.random.default_rng(0))
        return {f"{name}_low": low, f"{name}_high": high}

    def per_case(self, threshold: float) -> list[dict[str, Any]]:
        """One dict per case: mIoU and mIoU_occ (nan without hidden area) of every row at ``threshold``."""
        lines = []
        for i, name in enumerate(self.names):
            line: dict[str, Any] = {"case": name, "scores": {}}
            for row, results in self.results.items():
                if row.threshold not in (None, threshold):
                    continue
                scores = results[i].scores
                hidden = scores.iou_occ[scores.counted]
                line["frames_occ"] = len(hidden)
                label = f"{row.method} depth {row.depth}" if row.depth else row.method
                line["scores"][label] = {
                    "miou": float(scores.iou.mean()),
                    "miou_occ": float(hidden.mean()) if len(hidden) else float("nan"),
                }
            lines.append(line)
        return lines
