"""Stage 1 as a stream: an object's whole mask in every frame of a clip of any length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from diffvas.pipelines.desk import Desk, Estimate, Reader, every_frame, see_window
from diffvas.pipelines.doubt import REACH, settle
from diffvas.pipelines.drawing import decode_windows, draw_latents
from diffvas.pipelines.pixels import cut_masks
from diffvas.pipelines.sharpen import sharpen
from diffvas.pipelines.sight import Sight
from diffvas.pipelines.uncertainty import Medoid, expected_iou, mean_shape
from diffvas.pipelines.windows import Run, Window, most_inside
from diffvas.types import F32, Bool


@dataclass(frozen=True, eq=False)
class MaskFrame:
    """One object in one frame after stage 1.

    Attributes:
        frame: its number. amodal: (H, W) bool. probability: (H, W) float32, None with one sample.
        confidence: expected IoU of ``amodal`` with the samples; None with one sample, or where nothing was drawn.
    """

    frame: int
    amodal: Bool
    probability: F32 | None
    confidence: float | None


def object_masks(desk: Desk, object_id: int, first: int = 0) -> Iterator[MaskFrame]:
    """An object's amodal masks in every frame of the clip from ``first`` on."""
    best = choose_samples(desk, object_id) if desk.output == "best" and desk.plan.samples > 1 else {}
    for frame, estimate in every_frame(desk, object_id, partial(soft_masks, desk, object_id), first):
        modal = desk.material.modal(object_id, frame)
        if estimate is None:
            some = desk.plan.samples > 1
            yield MaskFrame(frame, modal, modal.astype(np.float32) if some else None, None)
        else:
            yield _finish(desk, estimate, frame, modal, best)


def soft_masks(desk: Desk, object_id: int, first: int = 0) -> Iterator[Estimate]:
    """What stage 1 says of every frame that it sees, from position ``first`` or before it on."""
    reader = Reader(desk, object_id, "amodal", desk.runs[object_id]) if desk.tells_by_colour else None
    for number, run in enumerate(desk.runs[object_id]):
        if run.stop > first:
            yield from _settled(desk, _soft_run(desk, object_id, number, max(first - REACH, 0), reader))
        for window in run.windows:  # also those that an earlier process has done
            desk.count("amodal", object_id, window)


def _settled(desk: Desk, found: Iterator[tuple[Estimate, Bool]]) -> Iterator[Estimate]:
    if desk.model.sure is None or desk.material.depth_at is not None:
        yield from (estimate for estimate, _ in found)
        return
    frames = ((estimate, estimate.maps, modal) for estimate, modal in found)
    for estimate, maps in settle(frames, desk.model.threshold, desk.model.sure):
        yield replace(estimate, maps=maps)


def _soft_run(
    desk: Desk, object_id: int, number: int, first: int, reader: Reader | None
) -> Iterator[tuple[Estimate, Bool]]:
    """Of every frame from about ``first`` on what the networks say, and its visible mask (h, w) as they see it."""
    run, pipe, plan = desk.runs[object_id][number], desk.model.amodal, desk.plan
    several = len(desk.material.tracks) > 1 and desk.model.behaviour != "faithful"
    ordered = desk.material.depth_at is not None and (desk.model.depth_rule or several)
    sights: dict[int, Sight] = {}

    def see(window: Window) -> Sight:
        if window.number not in sights:
            sights[window.number] = see_window(desk, object_id, run, window, reader, number, ordered=ordered)
        return sights[window.number]

    def draw(window: Window) -> torch.Tensor:
        if reader is not None:
            see(window)  # frames are read in the order of the windows, also of those whose latents are there already

        def work() -> torch.Tensor:
            sight = see(window)
            a, b = sight.seen.condition(memory=desk.model.memory), sight.seen.nearness
            keys = [(plan.seed, object_id, 1, window.number, k) for k in range(plan.samples)]
            shared = (plan.seed, object_id, 0, window.number, 0)
            tick = partial(desk.meter.tick, "amodal")
            return torch.stack([z.cpu() for z in draw_latents(pipe, a, b, shared, keys, plan.amodal, tick)])

        return desk.latents("amodal", object_id, window, work)

    def decode(latents: torch.Tensor) -> F32:
        samples = [desk.guard(pipe, partial(pipe.decode, z.to(desk.model.device))) for z in latents]
        return np.stack([sample.mean(1).numpy() for sample in samples])

    chunk = int(pipe.config.defaults["decode_chunk"])
    # masks are finished by what was said of all of a window's frames
    first = max(run.start, most_inside(run.windows, max(first, run.start)).start if desk.model.rounds > 1 else first)
    decoded = decode_windows(run.windows, (run.start, run.stop), chunk, draw, decode, first)
    for position, maps in sharpen(desk.model, run.windows, lambda window: see(window).seen, decoded):
        window = most_inside(run.windows, position)
        sight, index = see(window), window.index(position)
        room = _room(desk, object_id, run, window, sight, position) if ordered else None
        for passed in [w.number for w in run.windows if w.stop <= position and w.number in sights]:
            del sights[passed]
        yield Estimate(position, number, run.box(position), maps, room), sight.seen.modal[index]
    pipe.maybe_free_model_hooks()


def _room(desk: Desk, object_id: int, run: Run, window: Window, sight: Sight, position: int) -> Bool | None:
    """Where in the box the object may be hidden, by depth.

    With several objects the rule holds for every model: what is visible of another object and farther than this one
    hides nothing of it. Elsewhere it is for models that have it as their own.
    """
    if sight.order is None:
        return None
    material, frame, box = desk.material, int(desk.timeline.at[position]), run.box(position)
    room = sight.order.room(window.index(position), material.depth(frame), box)
    if not desk.model.depth_rule:
        seen = np.zeros(room.shape, bool)
        for other in material.tracks:
            if other != object_id and material.extents(other)[frame] is not None:
                seen |= box.crop(material.modal(other, frame)[None])[0]
        room = room | ~seen
    if material.margin:  # nobody knows what is beyond the frame
        camera = material.inside.paste(np.ones((1, *material.frame_size), bool), material.size)
        room = room | ~box.crop(camera)[0]
    return room


def _finish(desk: Desk, estimate: Estimate, frame: int, modal: Bool, best: dict[int, int]) -> MaskFrame:
    """Cut an estimate to a mask, at the source's size."""
    model, box = desk.model, estimate.box
    near, halo = box.crop(modal[None]), 0.0 if desk.material.depth_at is not None else model.halo
    room = None if estimate.room is None else estimate.room[None]

    def cut(soft: F32, level: float = model.threshold) -> Bool:
        faithful = model.behaviour == "faithful"
        return cut_masks(soft[None], level, near, room, faithful=faithful, halo=halo)[0]

    def whole(mask: Bool) -> Bool:
        # the box holds all that is visible in the networks' frames, but not always in those between
        return modal | box.paste(mask[None], desk.material.size)[0]

    if desk.plan.samples == 1:
        return MaskFrame(frame, whole(cut(estimate.maps[0])), None, None)
    samples = [cut(*one) for one in zip(estimate.maps, model.levels(desk.plan.samples), strict=True)]
    if desk.output == "mean-shape":
        chosen = near[0] | mean_shape(samples)
    elif desk.output == "best":
        chosen = samples[best[_shot(desk, estimate.position)]]
    else:
        chosen = cut(estimate.maps.mean(0))
    share = np.zeros(chosen.shape, np.float32)
    for sample in samples:
        share += sample
    probability = np.maximum(box.paste((share / len(samples))[None], desk.material.size)[0], modal)
    return MaskFrame(frame, whole(chosen), probability.astype(np.float32), expected_iou(chosen, samples))


def choose_samples(desk: Desk, object_id: int) -> dict[int, int]:
    """By shot, the sample that agrees best with the others: one for all of its frames, so that it holds together."""
    levels = np.array(desk.model.levels(desk.plan.samples), np.float32)[:, None, None]
    found: dict[int, Medoid] = {}
    for estimate in soft_masks(desk, object_id):
        medoid = found.setdefault(_shot(desk, estimate.position), Medoid(desk.plan.samples))
        medoid.add(list(estimate.maps >= levels))
    return {shot: medoid.best for shot, medoid in found.items()}


def _shot(desk: Desk, position: int) -> int:
    return next(i for i, (start, stop) in enumerate(desk.timeline.shots) if start <= position < stop)
