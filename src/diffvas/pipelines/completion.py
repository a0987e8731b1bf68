"""Both stages on a clip of any size and length: modal masks in, amodal masks and content out."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from diffvas import arrays
from diffvas.diffusion.sampling import Sampling
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline
from diffvas.pipelines.loading import CompletionModel, load_pipelines
from diffvas.pipelines.order import may_be_hidden
from diffvas.pipelines.windows import blend_windows, plan_windows
from diffvas.types import Clip, Completion, ObjectCompletion, ObjectTrack

Array = np.ndarray
Progress = Callable[[str, int, int], None]


def window_generator(seed: int, object_id: int, stage: int, window: int, sample: int) -> torch.Generator:
    """A CPU generator of its own for every draw, so that no result depends on what else is computed."""
    state = np.random.SeedSequence([seed, object_id, stage, window, sample]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


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
    if depth is not None and depth.shape != expected:
        raise ValueError(f"depth: expected {expected} frames, height, width like the clip, got {depth.shape}")


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


def amodal_frames(
    model: CompletionModel,
    modal: Array,
    depth: Array | None,
    object_id: int,
    *,
    samples: int,
    sampling: Sampling,
    seed: int,
    tick: Callable[[], None],
) -> Array:
    """(K, T, h, w) float32 in [0, 1]: the soft amodal masks of every sample, at the model's own size.

    Args:
        modal: (T, h, w) bool at the model's size. depth: (T, h, w) float32 in [0, 1] or None.
        tick: called once per sample and UNet step.
    """
    windows = plan_windows(in_view(modal), model.frames)
    out: list[list[Array]] = [[] for _ in range(samples)]
    for w, frames in enumerate(windows):
        a = arrays.masks_to_signed(modal[frames])
        # a caller that resized may be beyond 1 by a rounding error
        b = None if depth is None else arrays.depth_to_signed(depth[frames].clip(0, 1))
        keys = [(seed, object_id, 1, w, k) for k in range(samples)]
        shared = (seed, object_id, 0, w, 0)
        for k, z in enumerate(draw_latents(model.amodal, a, b, shared, keys, sampling, tick)):
            out[k].append(model.amodal.decode(z).mean(1).numpy())
    return np.stack([blend_windows(len(modal), windows, sample) for sample in out])


def draw_latents(
    pipe: DiffusionVASPipeline,
    a: torch.Tensor,
    b: torch.Tensor | None,
    shared: tuple[int, int, int, int, int],
    keys: Sequence[tuple[int, int, int, int, int]],
    sampling: Sampling,
    tick: Callable[[], None],
) -> Iterator[torch.Tensor]:
    """(T, 4, h, w) scaled latents, one sample per key.

    Args:
        a, b: (T, 3, h, w) conditions in [-1, 1]. shared, keys: what the condition noise and each sample derive from;
            the released inference draws all of a sample from one generator and encodes anew for every sample.
    """
    if pipe.behaviour.frame_tokens:
        for key in keys:
            generator = window_generator(*key)
            yield pipe.denoise(pipe.encode_conditions(a, b, generator), [generator], sampling, tick)[0]
        return
    conditions = pipe.encode_conditions(a, b, window_generator(*shared))
    yield from pipe.denoise(conditions, [window_generator(*key) for key in keys], sampling, tick)


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
    windows = plan_windows(in_view(modal), model.frames)
    pipe = model.content
    assert pipe is not None
    visible = arrays.composite_on_white(rgb, modal)
    results = []
    for w, frames in enumerate(windows):
        a, b = arrays.to_signed(visible[frames]), arrays.masks_to_signed(amodal[frames])
        shared, key = (seed, object_id, 2, w, 0), (seed, object_id, 3, w, 0)
        (z,) = draw_latents(pipe, a, b, shared, [key], sampling, tick)
        results.append(pipe.decode(z).permute(0, 2, 3, 1).numpy())
    return blend_windows(len(modal), windows, results)


def match_visible(generated: Array, rgb: Array, modal: Array, amodal: Array, detail: float) -> Array:
    """Low frequencies from the camera, detail from the model: colours that meet those of the visible part.

    The camera's visible colours are spread by a normalised Gaussian over their surroundings, going over into the clip's
    mean colour of the object far from any visible pixel and in frames without one. The generated picture adds what it
    has beyond its own low frequencies.

    Args:
        generated, rgb: (T, h, w, 3) float32 in [0, 1]. modal, amodal: (T, h, w) bool.
        detail: share of the generated detail that is kept; a model's own measured setting.
    """
    if not modal.any():
        return generated
    overall = rgb[modal].mean(0)
    out = np.empty_like(generated)
    spread = 0.08 * modal.shape[2]

    def smooth(image: Array, on: Array, beyond: Array) -> Array:
        mass = cv2.GaussianBlur(on, (0, 0), spread)[..., None]
        return np.asarray((cv2.GaussianBlur(image * on[..., None], (0, 0), spread) + 0.005 * beyond) / (mass + 0.005))

    for t in range(len(out)):
        on = amodal[t].astype(np.float32)
        # the object stands on white, which bleeds into its border by about the VAE's blur
        share = cv2.GaussianBlur(on, (0, 0), 1.5)[..., None].clip(0.3, 1)
        clean = (1 - (1 - generated[t]) / share).clip(0, 1)
        low = smooth(clean, on, clean)
        out[t] = smooth(rgb[t], modal[t].astype(np.float32), overall) + detail * (clean - low)
    return out.clip(0, 1)


def layer(clip: Clip, track: ObjectTrack, amodal: Array, content: Array) -> Array:
    """(T, H, W, 4) uint8: generated pixels where the object is hidden, the camera's own where it is visible."""
    frames, height, width = amodal.shape
    rgba = np.zeros((frames, height, width, 4), np.uint8)
    for t in range(frames):
        if not amodal[t].any():
            continue
        grown = cv2.resize(content[t], (width, height), interpolation=cv2.INTER_CUBIC)
        rgba[t, ..., :3] = (grown * 255).round().clip(0, 255).astype(np.uint8)
        rgba[t, ..., :3][track.modal_masks[t]] = clip.frames_u8[t][track.modal_masks[t]]
        rgba[t][~amodal[t]] = 0
        rgba[t, ..., 3][amodal[t]] = 255
    return rgba


def shrink_masks(masks: Array, size: tuple[int, int]) -> Array:
    """(T, h, w) bool at the model's size: pixels that are half covered or more by the masks (T, H, W) bool."""
    coverage = arrays.resize_masks_area(masks, size)
    small = coverage >= 0.5
    return small if small.any() else coverage > 0  # smaller than a pixel of the model: keep what there is of it


def grow_masks(soft: Array, threshold: float, size: tuple[int, int]) -> Array:
    """(T, H, W) bool from soft masks (T, h, w): resized first and cut then, which keeps outlines smooth."""
    return np.stack([cv2.resize(s, size[::-1], interpolation=cv2.INTER_LINEAR) >= threshold for s in soft])


def cut_masks(soft: Array, threshold: float, modal: Array, room: Array | None, *, faithful: bool = False) -> Array:
    """(T, H, W) bool amodal masks from soft ones (T, h, w): what is visible, and what may be hidden and is likely.

    Args:
        modal: (T, H, W) bool. room: (T, H, W) bool, where something nearer is seen (``order.may_be_hidden``); None
            where there is no depth to tell.
        faithful: cut first and resize by nearest neighbour then, as the reference does.
    """
    size = (modal.shape[1], modal.shape[2])
    whole = arrays.resize_masks_nearest(soft > threshold, size) if faithful else grow_masks(soft, threshold, size)
    return modal | (whole if room is None else whole & room)


def in_view(masks: Array) -> Array:
    """(T,) bool, in which frames of (T, H, W) bool there is anything."""
    return np.asarray(masks.any((1, 2)))


@dataclass(frozen=True)
class Plan:
    """How to draw both stages, with nothing left open; ``content`` is None where only masks are wanted."""

    samples: int
    amodal: Sampling
    content: Sampling | None
    seed: int

    @classmethod
    def of(cls, model: CompletionModel, samples: int | None, seed: int, **asked: Any) -> Plan:
        """What was asked for, else the model's measured defaults."""
        stages = [None if pipe is None else pipe.sampling(**asked) for pipe in (model.amodal, model.content)]
        assert stages[0] is not None
        default = model.amodal.config.defaults["samples"]
        return cls(int(default if samples is None else samples), stages[0], stages[1], int(seed))

    def settings(self) -> dict[str, Any]:
        """For ``result.json``."""
        found: dict[str, Any] = {"samples": self.samples, "seed": self.seed}
        for stage, sampling in (("amodal", self.amodal), ("content", self.content)):
            if sampling is not None:
                low, high = sampling.interval
                found[stage] = {"steps": sampling.steps, "sampler": sampling.sampler, "guidance": sampling.guidance}
                if sampling.interval != Sampling.interval:
                    found[stage]["interval"] = [low, high if math.isfinite(high) else None]
        return found


class Meter:
    """Counts UNet steps for ``progress`` and seconds per stage."""

    def __init__(self, progress: Progress | None, windows: int, plan: Plan):
        self.progress = progress
        self.total = {"amodal": windows * plan.samples * plan.amodal.steps}
        if plan.content is not None:
            self.total["content"] = windows * plan.content.steps
        self.done = {"amodal": 0, "content": 0}
        self.seconds: dict[str, float] = {}

    def tick(self, stage: str) -> None:
        """One UNet step of ``stage`` is done."""
        self.done[stage] += 1
        if self.progress is not None:
            self.progress(stage, self.done[stage], self.total[stage])

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to that of ``stage``."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


def complete_object(
    model: CompletionModel, clip: Clip, track: ObjectTrack, depth: Array | None, plan: Plan, meter: Meter
) -> ObjectCompletion:
    """One object of a clip; independent of all others. The models see a box around it, the result is the whole frame.

    Args:
        depth: (T, H, W) float, larger = nearer, or None.
    """
    box = model.focus_box(track.modal_masks)
    near = ObjectTrack(track.object_id, np.ascontiguousarray(box.crop(track.modal_masks)))
    with meter.timed("amodal"):
        soft = soft_masks(
            model, near.modal_masks, None if depth is None else box.crop(depth), track.object_id, plan, meter
        )
        threshold = float(model.amodal.config.defaults["threshold"])
        room = box.crop(may_be_hidden(depth, track.modal_masks)) if model.depth_rule and depth is not None else None
        cut = partial(
            cut_masks, threshold=threshold, modal=near.modal_masks, room=room, faithful=model.behaviour == "faithful"
        )
        amodal = cut(soft.mean(0))
        probability = None
        if plan.samples > 1:
            probability = np.zeros(amodal.shape, np.float32)
            for sample in soft:
                probability += cut(sample)
            probability = box.paste(probability / plan.samples, clip.size)
        model.amodal.maybe_free_model_hooks()
    rgba = None
    if plan.content is not None:
        with meter.timed("content"):
            view = Clip(np.ascontiguousarray(box.crop(clip.frames_u8)), clip.fps, clip.name)
            rgba = box.paste(object_content(model, view, near, amodal, plan, meter), clip.size)
    return ObjectCompletion(track.object_id, track.modal_masks, box.paste(amodal, clip.size), probability, rgba)


def object_content(
    model: CompletionModel, view: Clip, near: ObjectTrack, amodal: Array, plan: Plan, meter: Meter
) -> Array:
    """(T, H, W, 4) uint8: stage 2 on what is in the focus box.

    Args:
        view, near, amodal: the clip, the visible masks and the whole ones, cropped alike.
    """
    assert model.content is not None and plan.content is not None
    size = model.working_size(*view.size)
    modal, rgb = shrink_masks(near.modal_masks, size), arrays.resize_u8(view.frames_u8, size)
    whole = shrink_masks(amodal, size) | modal
    content = content_frames(
        model,
        rgb,
        modal,
        whole,
        near.object_id,
        sampling=plan.content,
        seed=plan.seed,
        tick=partial(meter.tick, "content"),
    )
    model.content.maybe_free_model_hooks()
    if model.detail is not None:
        content = match_visible(content, rgb.astype(np.float32) / 255, modal, whole, model.detail)
    return layer(view, near, amodal, content)


def soft_masks(model: CompletionModel, modal: Array, depth: Array | None, key: int, plan: Plan, meter: Meter) -> Array:
    """(K, T, h, w) float32 in [0, 1] at the model's size, from what is in the focus box at the source's size.

    Args:
        modal: (T, H, W) bool. depth: (T, H, W) float, larger = nearer, or None. key: what the draws derive from.
    """
    size = model.working_size(modal.shape[1], modal.shape[2])
    return amodal_frames(
        model,
        shrink_masks(modal, size),
        None if depth is None else arrays.normalise_depth(arrays.resize_float(arrays.normalise_depth(depth), size)),
        key,
        samples=plan.samples,
        sampling=plan.amodal,
        seed=plan.seed,
        tick=lambda: meter.tick("amodal"),
    )


def complete(
    clip: Clip,
    tracks: Sequence[ObjectTrack] | Array,
    *,
    model: str | Path | CompletionModel = "tiny",
    depth: Array | None = None,
    samples: int | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    interval: tuple[float, float] | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Completion:
    """Complete every object of a clip: its amodal masks and its hidden content.

    Args:
        clip: any size, any length.
        tracks: the objects' modal masks; one object's masks (T, H, W) bool will do.
        model: what ``load_pipelines`` takes, or what it returned (half precision, faithful behaviour, masks only, ...
            are chosen there).
        depth: (T, H, W) float, inverse depth in any unit (larger = nearer), or None where there is none. NaN and
            infinity mean unknown.
        samples: how many amodal samples to take; the mask is where their mean is above the model's threshold.
        steps, sampler, guidance, interval: how both stages are drawn, see ``diffusion.sampling.Sampling``. These and
            ``samples`` are the model's measured defaults where None.
        seed: 0 or more; results depend on it and on each object alone, not on the other objects.
        device: auto, cpu or cuda; where ``model`` is loaded already, its own counts.
        progress: called as (stage, UNet steps done, of all).

    Returns:
        The objects in the order given.

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    tracks = as_tracks(tracks)
    depth = None if depth is None else np.asarray(depth)
    check_inputs(clip, tracks, depth)
    depth = None if depth is None else arrays.clean_depth(depth)
    if samples is not None:
        check_number("samples", samples, 1)
    check_number("seed", seed, 0)
    asked: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance, "interval": interval}
    Sampling(**{name: value for name, value in asked.items() if value is not None})  # complain before loading
    loading = 0.0
    if not isinstance(model, CompletionModel):
        began = time.perf_counter()
        model = load_pipelines(model, device)
        loading = time.perf_counter() - began
    plan = Plan.of(model, samples, seed, **asked)
    windows = sum(len(plan_windows(in_view(t.modal_masks), model.frames)) for t in tracks)
    meter = Meter(progress, windows, plan)
    if loading:
        meter.seconds["load"] = loading
    objects = tuple(complete_object(model, clip, track, depth, plan, meter) for track in tracks)
    settings = {
        "model": model.name,
        "behaviour": model.behaviour,
        **plan.settings(),
        "depth": depth is not None,
        "device": str(model.device),
        "dtype": str(model.amodal.unet.dtype).removeprefix("torch."),
    }
    return Completion(clip, objects, settings, meter.seconds)
