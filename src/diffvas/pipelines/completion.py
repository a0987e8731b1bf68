"""Both stages on a clip of any size and length: modal masks in, amodal masks and content out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffvas import arrays
from diffvas.diffusion.sampling import Sampling
from diffvas.focus import Box, Boxes, crop_each
from diffvas.pipelines.amodal import object_masks
from diffvas.pipelines.content import object_content
from diffvas.pipelines.depths import check_fit, layer_stack
from diffvas.pipelines.desk import Desk
from diffvas.pipelines.doubt import settle
from diffvas.pipelines.drawing import Guard, Meter, Plan, Progress, Shelf, decode_windows, draw_latents
from diffvas.pipelines.drawing import window_generator as window_generator  # re-exported, as are those below
from diffvas.pipelines.front import RIM, wide_size
from diffvas.pipelines.loading import CompletionModel, load_pipelines
from diffvas.pipelines.material import MOST_MARGIN, ArrayTrack, Material, of_arrays
from diffvas.pipelines.pixels import cut_coverage, in_view
from diffvas.pipelines.pixels import cut_each as cut_each
from diffvas.pipelines.pixels import cut_masks as cut_masks
from diffvas.pipelines.pixels import layer as layer
from diffvas.pipelines.pixels import match_visible as match_visible
from diffvas.pipelines.sharpen import sharpen
from diffvas.pipelines.sight import Seen, tell_front
from diffvas.pipelines.timeline import Timeline, check_model_fps, plan_timeline
from diffvas.pipelines.uncertainty import check_output
from diffvas.pipelines.windows import Window, plan_windows, window_starts
from diffvas.types import Clip, Completion, ObjectCompletion, ObjectTrack

Array = np.ndarray


def check_inputs(clip: Clip, tracks: Sequence[ObjectTrack], depth: Array | None) -> None:
    """Raise ValueError where tracks or depth do not fit the clip."""
    if not tracks:
        raise ValueError("tracks: expected at least one object, got none")
    ids = [t.object_id for t in tracks]
    if len(set(ids)) != len(ids):
        raise ValueError(f"tracks: expected every object id once, got {ids}")
    expected = (clip.num_frames, *clip.size)
    for track in tracks:
        if track.modal_masks.shape != expected:
            raise ValueError(
                f"masks: expected {expected} frames, height, width like the clip, got {track.modal_masks.shape} "
                f"for object {track.object_id}"
            )
    if depth is not None:
        check_fit("depth", depth.shape, expected)


def check_number(name: str, value: int, least: int) -> None:
    """Raise ValueError unless ``value`` is a whole number of ``least`` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def as_tracks(tracks: Sequence[ObjectTrack] | Array) -> list[ObjectTrack]:
    """The tracks, or object 1 from the masks of one object.

    Raises:
        ValueError: an array that is not (T, H, W), or with more than one value beside 0: labels of several objects.
    """
    if not isinstance(tracks, np.ndarray):
        return list(tracks)
    if tracks.ndim != 3:
        raise ValueError(f"tracks: expected masks (T, H, W) of one object, got an array of shape {tracks.shape}")
    on = tracks[tracks != 0]
    if tracks.dtype != np.bool_ and on.size and (on != on[0]).any():
        raise ValueError(
            "tracks: expected masks of one object (bool), got several labels; use one ObjectTrack for each"
        )
    return [ObjectTrack(1, tracks != 0)]


def check_margin(margin: float) -> None:
    """Raise ValueError unless it is a number from 0 to ``MOST_MARGIN``."""
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin <= MOST_MARGIN:
        raise ValueError(f"margin: expected a number from 0 to {MOST_MARGIN}, got {margin!r}")


# ---------------------------------------------------------------------------------------------------------------------
# stacks at the model's own size, for those who measure


def plain_windows(visible: Array, length: int) -> list[Window]:
    """The windows of a clip without cuts, of which every frame is seen."""
    spans = ((start, min(start + length, len(visible))) for start in window_starts(len(visible), length))
    pairs = zip(plan_windows(visible, length), spans, strict=True)
    return [Window(number, frames, *span) for number, (frames, span) in enumerate(pairs)]


def amodal_frames(
    model: CompletionModel,
    seen: Seen,
    object_id: int,
    *,
    samples: int,
    sampling: Sampling,
    seed: int,
    tick: Callable[[], None],
) -> Array:
    """(K, T, h, w) float32 in [0, 1]: the soft amodal masks of every sample, at the model's own size.

    Args:
        seen: of all frames; its depth normalised. tick: called once per sample and UNet step.
    """
    pipe = model.amodal
    windows = plain_windows(in_view(seen.modal), model.frames)
    parts = {window.number: seen.at(window.frames) for window in windows}

    def draw(window: Window) -> torch.Tensor:
        part = parts[window.number]
        keys = [(seed, object_id, 1, window.number, k) for k in range(samples)]
        a, shared = part.condition(memory=model.memory), (seed, object_id, 0, window.number, 0)
        return torch.stack(list(draw_latents(pipe, a, part.nearness, shared, keys, sampling, tick)))

    def decode(latents: torch.Tensor) -> Array:
        return np.stack([pipe.decode(z).mean(1).numpy() for z in latents])

    decoded = _decode_all(model, pipe.config.defaults["decode_chunk"], seen.modal, draw, decode)
    sharp = sharpen(model, windows, lambda window: parts[window.number], enumerate(decoded))
    soft = np.stack([maps for _, maps in sharp], 1)
    if model.sure is None or seen.depth is not None:
        return soft
    frames = ((frame, soft[:, frame], seen.modal[frame]) for frame in range(soft.shape[1]))
    return np.stack([maps for _, maps in settle(frames, model.threshold, model.sure)], 1)


def content_frames(
    model: CompletionModel,
    rgb: Array,
    modal: Array,
    amodal: Array,
    object_id: int,
    *,
    sampling: Sampling,
    seed: int,
    tick: Callable[[], None],
) -> Array:
    """(T, h, w, 3) float32 in [0, 1]: the generated object on white, at the model's own size.

    Args:
        rgb: (T, h, w, 3) uint8; modal, amodal: (T, h, w) bool.
    """
    pipe = model.content
    assert pipe is not None
    visible = arrays.composite_on_white(rgb, modal)

    def draw(window: Window) -> torch.Tensor:
        a, b = arrays.to_signed(visible[window.frames]), arrays.masks_to_signed(amodal[window.frames])
        shared, key = (seed, object_id, 2, window.number, 0), (seed, object_id, 3, window.number, 0)
        return torch.stack(list(draw_latents(pipe, a, b, shared, [key], sampling, tick)))

    def decode(latents: torch.Tensor) -> Array:
        return pipe.decode(latents[0]).permute(0, 2, 3, 1).numpy()[None]

    frames = _decode_all(model, pipe.config.defaults["decode_chunk"], modal, draw, decode)
    return np.stack([frame[0] for frame in frames])


def _decode_all(
    model: CompletionModel,
    chunk: int,
    modal: Array,
    draw: Callable[[Window], torch.Tensor],
    decode: Callable[[torch.Tensor], Array],
) -> list[Array]:
    windows = plain_windows(in_view(modal), model.frames)
    return [maps for _, maps in decode_windows(windows, (0, len(modal)), int(chunk), draw, decode)]


def look_at(model: CompletionModel, modal: Array, depth: Array | None, frames_u8: Array | None = None) -> list[Box]:
    """What both stages look at in every frame of a clip without cuts, as :func:`complete` would.

    Args:
        modal, depth, frames_u8: see :func:`as_seen`.
    """
    count, size = len(modal), (modal.shape[1], modal.shape[2])
    if frames_u8 is None:
        model = replace(model, front=None)
    images = () if frames_u8 is None else frames_u8
    material = Material(
        "", 1.0, size, range(count), {1: ArrayTrack(modal)}, lambda numbers: (images[t] for t in numbers),
        None if depth is None else depth.__getitem__,
    )  # fmt: skip
    timeline = plan_timeline(material.times, (), "all", model.frames)
    desk = make_desk(model, material, timeline, Plan.of(model, 1, 0), None)
    return [run.box(t) for run in desk.runs[1] for t in range(count)] or model.look_at(modal)


def as_seen(
    model: CompletionModel, boxes: Boxes, modal: Array, depth: Array | None, frames_u8: Array | None = None
) -> Seen:
    """What the networks look at of a whole clip, at their size.

    Args:
        boxes: one per frame. modal: (T, H, W) bool. depth: (T, H, W) float, larger = nearer, or None.
        frames_u8: (T, H, W, 3) uint8, from which a model that can do so tells what stands in front, without depth.
    """
    size = model.view_size((modal.shape[1], modal.shape[2]))
    small = cut_coverage(crop_each(boxes, modal, size, arrays.resize_masks_area))
    inside = crop_each(boxes, np.ones_like(modal), size, arrays.resize_masks_area) >= 0.5
    if depth is None:
        seen = Seen(small, None, inside)
        if model.front is None or frames_u8 is None or not small.any():
            return seen
        wide, around = wide_size(size), [box.grown(RIM) for box in boxes]
        rgb = crop_each(around, frames_u8, wide, arrays.resize_u8)
        shown = crop_each(around, np.ones_like(modal), wide, arrays.resize_masks_area) >= 0.5
        return tell_front(model.front, seen, rgb, shown, around)
    near = arrays.normalise_depth(crop_each(boxes, arrays.normalise_depth(depth), size, arrays.resize_float))
    return Seen(small, near, inside)


def soft_masks(model: CompletionModel, seen: Seen, key: int, plan: Plan, meter: Meter) -> Array:
    """(K, T, h, w) float32 in [0, 1] at the model's size, of what is ``seen``.

    Args:
        key: what the draws derive from.
    """
    return amodal_frames(
        model,
        seen,
        key,
        samples=plan.samples,
        sampling=plan.amodal,
        seed=plan.seed,
        tick=lambda: meter.tick("amodal"),
    )


# ---------------------------------------------------------------------------------------------------------------------
# clips in memory


def complete_object(desk: Desk, object_id: int) -> ObjectCompletion:
    """One object in every frame, as arrays."""
    material, shape = desk.material, (desk.material.num_frames, *desk.material.size)
    amodal, some = np.zeros(shape, bool), desk.plan.samples > 1
    probability = np.zeros(shape, np.float32) if some else None
    confidence = np.full(shape[0], np.nan, np.float32) if some else None
    with desk.meter.timed("amodal"):
        for found in object_masks(desk, object_id):
            amodal[found.frame] = found.amodal
            if probability is not None and found.probability is not None:
                probability[found.frame] = found.probability
            if confidence is not None and found.confidence is not None:
                confidence[found.frame] = found.confidence
    rgba = None
    if desk.plan.content is not None:
        rgba = np.zeros((*shape, 4), np.uint8)
        with desk.meter.timed("content"):
            for t, frame in object_content(desk, object_id, amodal.__getitem__):
                rgba[t] = frame
    modal = np.stack([material.modal(object_id, t) for t in range(shape[0])])
    return ObjectCompletion(object_id, modal, amodal, probability, rgba, confidence)


def complete(
    clip: Clip,
    tracks: Sequence[ObjectTrack] | Array,
    *,
    model: str | Path | CompletionModel = "tiny",
    depth: Array | None = None,
    in_front: Sequence[ObjectTrack] | Array | None = None,
    samples: int | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    interval: tuple[float, float] | None = None,
    evaluated: tuple[float, float] | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    output: str = "consensus",
    cuts: Sequence[int] = (),
    model_fps: float | str = "auto",
    margin: float = 0.0,
) -> Completion:
    """Complete every object of a clip: its amodal masks and its hidden content.

    Everything is in memory: for videos of any length see ``pipelines.job.complete_video``, which gives the same.

    Args:
        clip: any size, any length.
        tracks: the objects' modal masks; one object's masks (T, H, W) bool will do.
        model: what ``load_pipelines`` takes, or what it returned (half precision, faithful behaviour, masks only, ...
            are chosen there).
        depth: (T, H, W) float, inverse depth in any unit (larger = nearer), or None where there is none. NaN and
            infinity mean unknown.
        in_front: in place of depth, masks of what stands in front of the objects, in the forms of ``tracks``; all else
            is behind them, see ``depths.open_order``.
        samples: how many amodal samples to take; the mask is where their mean is above the model's threshold.
        steps, sampler, guidance, interval, evaluated: how both stages are drawn, see ``diffusion.sampling.Sampling``.
            These and ``samples`` are the model's measured defaults where None.
        seed: 0 or more; results depend on it and on each object alone, not on the other objects (with depth: on what
            is visible of them, for models without a depth rule of their own).
        device: auto, cpu or cuda; where ``model`` is loaded already, its own counts.
        progress: called as (stage, UNet steps done, of all).
        output: what is made of several samples: their ``consensus``; the ``best``, which agrees most with the others;
            or the ``mean-shape``.
        cuts: numbers of the frames with which a new shot begins; no window crosses them.
        model_fps: frames per second that the networks see: a number, "all", or "auto": all frames where a shot fits one
            window, else at least 8; their results are carried back to every frame.
        margin: how far completion may leave the frame on each side, as a share of the frame's side, 0 to 0.5. The
            result's clip is then that large, black around the frame; ``settings["frame"]`` says where that lies.

    Returns:
        The objects in the order given.

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    tracks = as_tracks(tracks)
    depth = _depth_of(clip, tracks, depth, in_front)
    check_margin(margin)
    asked: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance}
    asked |= {"interval": interval, "evaluated": evaluated}
    check_options(samples, seed, output, model_fps, **asked)
    loading = 0.0
    if not isinstance(model, CompletionModel):
        began = time.perf_counter()
        model = load_pipelines(model, device)
        loading = time.perf_counter() - began
    plan = Plan.of(model, samples, seed, **asked)
    material = of_arrays(clip, tracks, depth, float(margin), said=in_front is not None)
    model_fps = "all" if model.behaviour == "faithful" and model_fps == "auto" else model_fps
    timeline = plan_timeline(material.times, cuts, model_fps, model.frames)
    desk = make_desk(model, material, timeline, plan, progress, output=output)
    if loading:
        desk.meter.seconds["load"] = loading
    objects = tuple(complete_object(desk, track.object_id) for track in tracks)
    if margin:
        clip = Clip(material.inside.paste(clip.frames_u8, material.size), clip.fps, clip.name)
    return Completion(clip, objects, settings_of(desk), desk.meter.seconds)


def _depth_of(
    clip: Clip,
    tracks: Sequence[ObjectTrack],
    depth: Array | None,
    in_front: Sequence[ObjectTrack] | Array | None,
) -> Array | None:
    """The depth that :func:`complete` works with: cleaned, or ``depths.layer_stack``. Raises as that does."""
    depth = None if depth is None else np.asarray(depth)
    check_inputs(clip, tracks, depth)
    if in_front is None:
        return None if depth is None else arrays.clean_depth(depth)
    if depth is not None:
        raise ValueError("in_front: expected it or depth, got both")
    nearer = as_tracks(in_front)
    for track in nearer:
        check_fit("in_front", track.modal_masks.shape, (clip.num_frames, *clip.size))
    return layer_stack([track.modal_masks for track in tracks], [track.modal_masks for track in nearer])


def check_options(samples: int | None, seed: int, output: str, model_fps: float | str, **asked: Any) -> None:
    """Complain before a model is loaded.

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    if samples is not None:
        check_number("samples", samples, 1)
    check_number("seed", seed, 0)
    check_output(output)
    check_model_fps(model_fps)
    Sampling(**{name: value for name, value in asked.items() if value is not None})


def make_desk(
    model: CompletionModel,
    material: Material,
    timeline: Timeline,
    plan: Plan,
    progress: Progress | None,
    *,
    output: str = "consensus",
    shelf: Shelf | None = None,
    notify: Callable[[str], None] | None = None,
) -> Desk:
    """A desk with a meter that knows how much there is to do."""
    guard = Guard(notify or partial(warnings.warn, category=RuntimeWarning, stacklevel=2))
    desk = Desk(model, material, timeline, plan, Meter(None, 0, plan), shelf or Shelf(), guard, output)
    windows = sum(len(run.windows) for runs in desk.first_look.values() for run in runs)
    desk.meter = Meter(progress, windows, plan)
    return desk


def settings_of(desk: Desk) -> dict[str, Any]:
    """What a result depends on, for ``result.json``."""
    model, material, timeline = desk.model, desk.material, desk.timeline
    found = {
        "model": model.name,
        "behaviour": model.behaviour,
        **desk.plan.settings(),
        "depth": material.depth_at is not None,
        "device": str(model.device),
        "dtype": str(model.amodal.unet.dtype).removeprefix("torch."),
    }
    if material.said:
        found["in_front"] = True
    if desk.plan.samples > 1:
        found["output"] = desk.output
    if not timeline.every_frame:
        found["model_frames"] = len(timeline.at)
    if len(timeline.shots) > 1:
        found["shots"] = [int(timeline.at[start]) for start, _ in timeline.shots]
    if material.margin:
        box = material.inside
        found["margin"] = material.margin
        found["frame"] = {"top": box.top, "left": box.left, "height": box.size[0], "width": box.size[1]}
    return found
