"""Scores of content in the hidden region: stage 2 on true masks, the mean visible colour, and inpainting."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from diffvas import arrays
from diffvas.bench.cases import Case, pool_groups
from diffvas.bench.propagation import propagate
from diffvas.focus import crop_each, paste_each
from diffvas.metrics import bootstrap_interval, mean_colour_fill, psnr_inside, ssim_inside, temporal_psnr_inside
from diffvas.pipelines.colours import touch_up
from diffvas.pipelines.completion import content_frames, match_visible
from diffvas.pipelines.loading import CompletionModel
from diffvas.pipelines.pixels import cut_coverage, paint
from diffvas.pipelines.recall import Moment, fill, look
from diffvas.pipelines.timeline import Motion

Array = np.ndarray
MEAN_COLOUR, INPAINT, FLOW = "mean visible colour", "inpainting (Telea)", "flow-propagated pixels"
BEST_PSNR = 60.0
"""A frame that is reproduced exactly has an infinite PSNR; it counts with this many dB."""


@dataclass(frozen=True, eq=False)
class ContentResult:
    """Scores of one method on one case; psnr (dB) and ssim are (N,) float64 over the frames with hidden area, steady
    (dB) is (1,), or (0,) where no pixel is hidden in two frames running: ``metrics.temporal_psnr_inside``."""

    psnr: Array
    ssim: Array
    steady: Array
    seconds: float


def inpaint_object(rgb: Array, modal: Array, amodal: Array) -> Array:
    """(T, H, W, 3) uint8: the hidden part filled from the object's own visible pixels (Telea 2004), frame by frame.

    Everything that is not a visible pixel of the object counts as unknown, so that no colour of an occluder or of the
    background runs in. Where nothing of it is visible there is nothing to run in: the mean colour is left.
    """
    out = mean_colour_fill(rgb, modal)
    height, width = modal.shape[1:]
    for t in range(len(out)):
        ys, xs = np.nonzero(amodal[t])
        if not len(ys) or not modal[t].any():
            continue
        rows = slice(max(int(ys.min()) - 2, 0), min(int(ys.max()) + 3, height))
        window = (rows, slice(max(int(xs.min()) - 2, 0), min(int(xs.max()) + 3, width)))
        unknown = (~modal[t][window]).astype(np.uint8)
        out[t][window] = cv2.inpaint(np.ascontiguousarray(rgb[t][window]), unknown, 3, cv2.INPAINT_TELEA)
    return out


def generate(model: CompletionModel, case: Case, steps: int, seed: int) -> dict[str, tuple[Array, float]]:
    """What ``complete`` would paint if its amodal masks were the true ones; without recall, and the network alone.

    Returns:
        by method: (T, H, W, 3) uint8 and seconds.
    """
    assert case.frames_u8 is not None
    began = time.perf_counter()
    frame = (case.modal.shape[1], case.modal.shape[2])
    boxes, size = model.look_at(case.amodal), model.view_size(frame)
    modal, amodal = (
        cut_coverage(crop_each(boxes, m, size, arrays.resize_masks_area)) for m in (case.modal, case.amodal)
    )
    amodal |= modal
    rgb = crop_each(boxes, case.frames_u8, size, arrays.resize_u8)
    images = (case.frames_u8, case.modal, case.amodal)
    cropped = ([box.crop(x[t : t + 1])[0] for t, box in enumerate(boxes)] for x in images)
    views = [(rgb_u8, on, whole) for rgb_u8, on, whole in zip(*cropped, strict=True)]
    assert model.content is not None
    sampling = model.content.sampling(steps=steps)
    raw = content_frames(model, rgb, modal, amodal, 1, sampling=sampling, seed=case.seed(seed), tick=lambda: None)
    raw_seconds = time.perf_counter() - began
    detail = 1.0 if model.detail is None else model.detail
    matched = match_visible(raw, rgb.astype(np.float32) / 255, modal, amodal, detail)

    def finish(picture: Array | list[Array]) -> Array:
        layers = [paint(*view, one)[..., :3] for view, one in zip(views, picture, strict=True)]
        return paste_each(boxes, layers, frame)

    pictures: dict[str, tuple[Array | list[Array], float]]
    pictures = {", colours not matched": (raw, raw_seconds)}
    pictures[", without recall"] = (matched, time.perf_counter() - began)
    if model.recall:
        overall = (rgb[modal].mean(0) / 255).astype(np.float32)
        motion = Motion(frame, [1])
        for image, on in zip(case.frames_u8, case.modal, strict=True):
            motion.add(image, [on])
        moments = [
            Moment(float(t), (float(x), float(y)), (boxes[t].left, boxes[t].top))
            for t, (x, y) in enumerate(motion.paths()[1])
        ]
        others = [view[0] for view in (look(*v, m) for v, m in zip(views, moments, strict=True)) if view is not None]
        stack = zip(matched, views, moments, strict=True)
        found = [fill(picture, *view, moment, others, overall) for picture, view, moment in stack]
        filled = [one.colours for one in found]
        net = model.colours
        name = "" if net is None else ", not touched up"
        pictures[name] = (filled, time.perf_counter() - began)
        if net is not None:
            known = zip(views, found, matched, strict=True)
            finished = [touch_up(net, *view, one, picture, overall, size) for view, one, picture in known]
            pictures[""] = (finished, time.perf_counter() - began)
    else:
        pictures[""] = pictures.pop(", without recall")
    name = f"ours, {steps} step{'s' if steps > 1 else ''}"
    return {name + more: (finish(picture), seconds) for more, (picture, seconds) in reversed(pictures.items())}


def score_frames(painted: Array, case: Case, seconds: float) -> ContentResult:
    """PSNR and SSIM of every frame with hidden area, inside the hidden region alone."""
    hidden = case.amodal & ~case.modal
    psnr, ssim = [], []
    assert case.alone_u8 is not None
    for t in np.flatnonzero(case.counted):
        one = slice(t, t + 1)
        psnr.append(min(psnr_inside(painted[one], case.alone_u8[one], hidden[one]), BEST_PSNR))
        ssim.append(ssim_inside(painted[one], case.alone_u8[one], hidden[one]))
    steady = min(temporal_psnr_inside(painted, case.alone_u8, hidden), BEST_PSNR)
    return ContentResult(np.array(psnr), np.array(ssim), np.array([steady] if np.isfinite(steady) else []), seconds)


def score_content(model: CompletionModel, case: Case, steps: Sequence[int], seed: int = 0) -> dict[str, ContentResult]:
    """All methods on one case with colours, in the region that is hidden by the true masks.

    Args:
        steps: numbers of Euler steps of stage 2 to try.
    """
    assert case.frames_u8 is not None
    painted = {MEAN_COLOUR: (mean_colour_fill(case.frames_u8, case.modal), float("nan"))}
    began = time.perf_counter()
    filled = inpaint_object(case.frames_u8, case.modal, case.amodal)
    painted[INPAINT] = (filled, time.perf_counter() - began)
    began = time.perf_counter()
    carried = propagate(case.frames_u8, case.modal, case.amodal)
    painted[FLOW] = (carried, time.perf_counter() - began)
    for count in steps:
        painted |= generate(model, case, count, seed)
    return {name: score_frames(frames, case, seconds) for name, (frames, seconds) in painted.items()}


@dataclass
class ContentBoard:
    """Collects the results of whole cases."""

    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    results: dict[str, list[ContentResult]] = field(default_factory=dict)

    def add(self, case: Case, results: dict[str, ContentResult]) -> None:
        """Take in one case."""
        for name, result in results.items():
            self.results.setdefault(name, []).append(result)
        self.names.append(case.name)
        self.groups.append(case.group)

    def summary(self) -> list[dict[str, Any]]:
        """One dict per method: means over frames, intervals that resample groups, and the gain over the mean colour."""
        lines = []
        for name, results in self.results.items():
            base = self.results[MEAN_COLOUR]
            psnr = [r.psnr for r in results]
            gains = [r.psnr - b.psnr for r, b in zip(results, base, strict=True)]
            line: dict[str, Any] = {"method": name}
            ssim, steady = [r.ssim for r in results], [r.steady for r in results]
            for key, values in (("psnr", psnr), ("ssim", ssim), ("gain", gains), ("steady", steady)):
                line[key] = float(np.concatenate(values).mean()) if any(map(len, values)) else float("nan")
                line[f"{key}_low"], line[f"{key}_high"] = self._interval(values)
            line |= {"clips": sum(bool(len(p)) for p in psnr), "frames": sum(map(len, psnr))}
            line["seconds"] = float(np.mean([r.seconds for r in results]))
            lines.append(line)
        return lines

    def _interval(self, values: list[Array]) -> tuple[float, float]:
        return bootstrap_interval(pool_groups(values, self.groups), rng=np.random.default_rng(0))
