"""Examples for the networks that work on pixels: what the pipelines hand to them, and the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from diffvas import arrays
from diffvas.carried import carry
from diffvas.data.augment import spoil_depth, spoil_mask
from diffvas.data.clutter import clutter
from diffvas.data.examples import (
    SceneSource,
    choose_object,
    open_scenes,
    random_boxes,
    random_boxes_around,
    relative_depth,
)
from diffvas.data.occluders import paste_over, sit_on
from diffvas.diffusion.pixel_net import PixelNet
from diffvas.focus import Box, Boxes, crop_each, extent
from diffvas.order import may_be_hidden
from diffvas.pipelines.aim import whole_extents
from diffvas.pipelines.colours import colour_input
from diffvas.pipelines.content import Album
from diffvas.pipelines.drawing import Key, draw_latents
from diffvas.pipelines.finish import BY_COLOUR, BY_DEPTH, COLOURS, UNTOLD, finish, what_was_said
from diffvas.pipelines.front import RIM, look_passed, wide_size
from diffvas.pipelines.loading import CompletionModel, load_pipelines
from diffvas.pipelines.pixels import match_visible
from diffvas.pipelines.recall import Moment, fill, look
from diffvas.pipelines.sight import Seen, tell_front
from diffvas.pipelines.timeline import Motion
from diffvas.train.pixels import SHAPES, ExampleConfig, Make, pack_bits, pack_signed
from diffvas.train.shape_material import shape_example
from diffvas.types import F32, U8, Bool
from diffvas.world.clip import SceneClip

LEAST_SEEN = 40  # pixels of an object that must be seen somewhere in an example
PASTED = 0.3  # how often things are pasted over an object of a rendered scene
RARE = 0.15  # how often frames in which nothing is hidden are drawn, beside the others


@dataclass(frozen=True, eq=False)
class PixelExample:
    """One object of one scene in boxes that follow it.

    Attributes:
        modal, amodal: (T, h, w) bool; ``modal`` may carry a tracker's faults. depth: (T, h, w) float32 in [0, 1], 1 =
            near. inside: (T, h, w) bool, what is in the frame.
        rgb: (T, H, W, 3) uint8, with a rim around the boxes (``front.wide_size``). shown: (T, H, W) bool, what of that
            is in the frame. room: (T, H, W) bool, where something at least as near as the object is seen, by the exact
            depth. boxes: (T,), with that rim.
    """

    modal: Bool
    amodal: Bool
    depth: F32
    inside: Bool
    rgb: U8
    shown: Bool
    room: Bool
    boxes: Sequence[Box]

    @property
    def weight(self) -> torch.Tensor:
        """(T,) float32, how often each frame is drawn."""
        hidden = (self.amodal & ~self.modal).sum((1, 2)) >= 16
        return torch.from_numpy(np.where(hidden, 1.0, RARE).astype(np.float32))


@lru_cache(maxsize=2)
def _scenes(source: str, frames: int) -> SceneSource:
    return open_scenes(source, frames, colour=True, split="train")


def draw_objects(config: ExampleConfig, key: list[int]) -> Iterator[tuple[SceneClip, int, np.random.Generator]]:
    """A scene, one of its objects worth learning from, and the generator for what is drawn further; the next one where
    that will not do.

    Raises:
        ValueError: the source has no usable object.
    """
    scenes = _scenes(config.source, config.frames)
    for attempt in range(100):
        for_scene, for_example = np.random.SeedSequence([*key, attempt]).spawn(2)
        rng = np.random.default_rng(for_example)
        scene = scenes(for_scene)
        index = choose_object(scene, rng)
        if index is not None:
            yield scene, index, rng
    raise ValueError(f"source: no usable object in 100 scenes of {config.source}")


def draw_pixels(
    config: ExampleConfig, key: list[int], look: Callable[[PixelExample], Seen] | None = None
) -> tuple[PixelExample, np.random.Generator]:
    """Example ``key``, and the generator for what is drawn of it further.

    Args:
        look: what is seen of an example. Where it is given, the boxes are planned a second time, around the whole
            object as far as that tells, as ``pipelines/aim.py`` does.
    """
    for scene, index, rng in draw_objects(config, key):
        if config.clutter and rng.random() < config.clutter:
            scene = clutter(scene, rng)
            scene = (sit_on if rng.random() < 0.5 else paste_over)(scene, index, rng)
        elif config.source != "flat" and config.spoil and rng.random() < PASTED:
            scene = paste_over(scene, index, rng)
        modal = scene.modal_mask(index)
        if not modal.any():
            continue
        boxes = random_boxes(modal, config.size, rng)
        example = cut_out(scene, index, boxes, rng, config.size, config.spoil)
        if example is not None and look is not None:
            extents, shares = whole_extents(look(example), boxes, [extent(mask) for mask in modal])
            boxes = random_boxes_around(extents, shares, (modal.shape[1], modal.shape[2]), config.size, rng)
            example = cut_out(scene, index, boxes, rng, config.size, config.spoil)
        if example is not None and example.modal.any(0).sum() >= LEAST_SEEN:
            return example, rng
    raise AssertionError("draw_objects ends by an error")


def cut_out(
    scene: SceneClip, index: int, boxes: Sequence[Box], rng: np.random.Generator, size: tuple[int, int], spoil: bool
) -> PixelExample | None:
    """Object ``index`` in boxes that follow it, spoilt where asked; None where it is too small to be seen in them."""
    modal, amodal = scene.modal_mask(index), scene.amodal_masks[index]
    room = may_be_hidden(relative_depth(scene.depth), modal)

    def masks(full: Bool, boxes: Boxes, size: tuple[int, int]) -> Bool:
        return np.asarray(crop_each(boxes, full, size, arrays.resize_masks_area) >= 0.5)

    small, whole, inside = (masks(full, boxes, size) for full in (modal, amodal, np.ones_like(modal)))
    if not small.any():
        return None
    depth = relative_depth(crop_each(boxes, scene.depth, size, arrays.resize_float))
    wide, around = wide_size(size), [box.grown(RIM) for box in boxes]
    rgb = crop_each(around, scene.frames_u8, wide, arrays.resize_u8)
    shown, room = (masks(full, around, wide) for full in (np.ones_like(modal), room))
    whole |= small
    if spoil:
        small, depth = spoil_mask(small, rng), spoil_depth(depth, rng)
        rgb = spoil_colours([rgb], rng)[0]
    return PixelExample(small, whole, depth, inside, rgb, shown, room, around)


def spoil_colours(stacks: Sequence[U8], rng: np.random.Generator) -> list[U8]:
    """Stacks of pictures alike in other colours; now and then grey or blurred, or the first with a camera's noise."""
    both = np.concatenate(stacks).astype(np.float32)
    if rng.random() < 0.5:
        both = both[..., rng.permutation(3)]
    grey = both.mean(-1, keepdims=True)
    saturation = 0.0 if rng.random() < 0.08 else float(rng.uniform(0.4, 1.8))
    both = grey + (both - grey) * saturation
    both = 128 + (both - 128) * rng.uniform(0.6, 1.3) + rng.uniform(-30, 30)
    if rng.random() < 0.3:
        sigma = float(rng.uniform(0.4, 1.0))
        both = np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in both])
    first = both[: len(stacks[0])]
    if rng.random() < 0.3:
        first += rng.normal(0, rng.uniform(1, 8), first.shape).astype(np.float32)
    ends = np.cumsum([len(stack) for stack in stacks])[:-1]
    return np.split(np.clip(both, 0, 255).astype(np.uint8), ends)


def front_example(config: ExampleConfig, key: list[int]) -> dict[str, torch.Tensor]:
    """For ``front``: everything that the network sees, and where something nearer is; in boxes of the first look at an
    object, or of the second one, since it is asked in both."""
    second = np.random.default_rng([*key, 1]).random() < 0.5
    example, _ = draw_pixels(config, key, (lambda e: Seen(e.modal, None, e.inside)) if second else None)
    recalled = Seen(example.modal, None, example.inside).recalled
    passed = look_passed(example.rgb, example.modal, example.shown, example.boxes)
    return {
        "rgb": torch.from_numpy(np.ascontiguousarray(example.rgb)),
        "recalled": torch.from_numpy((recalled * 255).round().astype(np.uint8)),
        "passed": torch.from_numpy((passed * 255).round().astype(np.uint8)),
        **{name: pack_bits(getattr(example, name)) for name in ("modal", "amodal", "shown", "room")},
        "weight": example.weight,
    }


# ---------------------------------------------------------------------------------------------------------------------
# finished masks

COLOUR_FRAMES = 6  # of an example for ``colours``
CHUNKS = 2  # of frames that are decoded of an example
SHAPES_EACH = 16  # objects of an example without scenes
PLAIN = 0.4  # ``RARE`` where ``front`` stands for depth: there it has to be learned that nothing is hidden
DEPTH_SHARE = 5 / 6  # of the examples that are not made with ``front`` have depth; the others know of nothing in front


@lru_cache(maxsize=1)
def _model(name: str) -> CompletionModel:
    return load_pipelines(name, "cpu", content=False)


@lru_cache(maxsize=1)
def _whole_model(name: str) -> CompletionModel:
    return load_pipelines(name, "cpu")


@lru_cache(maxsize=1)
def _front(folder: str) -> PixelNet:
    return PixelNet.load(Path(folder))


def _seen(config: ExampleConfig, mode: int, example: PixelExample) -> Seen:
    seen = Seen(example.modal, example.depth if mode == BY_DEPTH else None, example.inside)
    if mode != BY_COLOUR:
        return seen
    return tell_front(_front(config.front), seen, example.rgb, example.shown, example.boxes)


def chunk_starts(count: int, chunk: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Where chunks begin that lie side by side in ``count`` frames; what does not fill one is left out at either end,
    so that every frame has its turn."""
    first = int(rng.integers((count - chunk) % chunk + 1))
    return np.arange(first, count - chunk + 1, chunk)


def finish_example(config: ExampleConfig, key: list[int]) -> dict[str, torch.Tensor]:
    """For ``finish``: two chunks of frames as the decoder gives them, with stage 1 as the pipelines run it: by what
    ``front`` says where there is one, else by depth or by neither; and what the model's own ``finish`` says of them, if
    it has one. Or ``shape_material.shape_example``."""
    if config.source == SHAPES:
        return shape_example(config.size, SHAPES_EACH, DEPTH_SHARE, key, config.scenes)
    model = _model(config.model)
    told = np.random.default_rng([*key, 1]).choice([BY_DEPTH, UNTOLD], p=[DEPTH_SHARE, 1 - DEPTH_SHARE])
    mode = BY_COLOUR if config.front else int(told)
    look_on = partial(_seen, config, mode)
    example, rng = draw_pixels(config, key, look_on if model.aims else None)
    seen = look_on(example)
    weight = example.weight.numpy()
    chunk = min(int(model.amodal.config.defaults["decode_chunk"]), len(weight))
    starts = chunk_starts(len(weight), chunk, rng)
    worth = np.array([weight[start : start + chunk].sum(dtype=np.float64) for start in starts])
    chosen = rng.choice(starts, min(CHUNKS, len(starts)), replace=False, p=worth / worth.sum())
    decoded = np.arange(starts[0], starts[-1] + chunk)
    at = np.concatenate([np.arange(start, start + chunk) for start in np.sort(chosen)]) - starts[0]
    draw: Key = (key[0], key[1], key[2], 0, 0)
    latents = draw_latents(
        model.amodal,
        seen.condition(memory=model.memory),
        seen.nearness,
        draw,
        [draw],
        model.amodal.sampling(),
        lambda: None,
    )
    latent = next(iter(latents))
    soft = np.concatenate([model.amodal.decode(latent[start : start + chunk]).mean(1).numpy() for start in starts])
    known = seen.known[decoded]
    again = {}
    if model.finish is not None:
        said, shown = finish(model.finish, soft, known, mode), seen.at(decoded)
        carried = carry(said, shown.modal, shown.inside, ~seen.gone[decoded])
        again = {"again": pack_signed(what_was_said(said, carried)[at])}
    if seen.rgb is None:
        known = known[:, :-COLOURS]  # none are told
    frames = decoded[at]
    return {
        "maps": pack_signed(np.concatenate([2 * soft[:, None] - 1, known], 1)[at]),
        **again,
        "mode": torch.tensor([mode]),
        **{name: pack_bits(getattr(example, name)[frames]) for name in ("modal", "amodal")},
        "weight": example.weight[torch.from_numpy(frames)].clamp(min=PLAIN if mode == BY_COLOUR else 0.0),
    }


# ---------------------------------------------------------------------------------------------------------------------
# finished colours


def colours_example(config: ExampleConfig, key: list[int]) -> dict[str, torch.Tensor]:
    """For ``colours``: some frames with what recall finds on true masks, and the object's true colours."""
    for scene, index, rng in draw_objects(config, key):
        modal, amodal = scene.modal_mask(index), scene.amodal_masks[index]
        hidden = (amodal & ~modal).sum((1, 2)) >= 16
        if hidden.any() and modal.any(0).sum() >= LEAST_SEEN:
            return _colours(config, scene, index, hidden, key, rng)
    raise AssertionError("draw_objects ends by an error")


def _colours(
    config: ExampleConfig, scene: SceneClip, index: int, hidden: Bool, key: list[int], rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    model = _whole_model(config.model)
    modal, amodal = scene.modal_mask(index), scene.amodal_masks[index]
    frames, alone = scene.frames_u8, scene.amodal_rgb_u8[index]
    if config.spoil:
        frames, alone = spoil_colours([frames, alone], rng)
    boxes = random_boxes(modal, config.size, rng)
    motion = Motion((modal.shape[1], modal.shape[2]), [1])
    for image, on in zip(frames, modal, strict=True):
        motion.add(image, [on])
    cut: list[tuple[U8, Bool, Bool]] = [
        (box.crop(frames[t : t + 1])[0], box.crop(modal[t : t + 1])[0], box.crop(amodal[t : t + 1])[0])
        for t, box in enumerate(boxes)
    ]
    paths = motion.paths()[1]
    moments = [
        Moment(float(t), (float(paths[t, 0]), float(paths[t, 1])), (box.left, box.top)) for t, box in enumerate(boxes)
    ]
    others = [view[0] for view in (look(*c, m) for c, m in zip(cut, moments, strict=True)) if view is not None]
    small = [arrays.resize_masks_area(c[1][None], config.size)[0] >= 0.5 for c in cut]
    whole = [(arrays.resize_masks_area(c[2][None], config.size)[0] >= 0.5) | m for c, m in zip(cut, small, strict=True)]
    rgb = np.concatenate([arrays.resize_u8(c[0][None], config.size) for c in cut])
    on, all_ = np.stack(small), np.stack(whole)
    overall = rgb[on].mean(0).astype(np.float32) / 255 if on.any() else np.full(3, 0.5, np.float32)
    at = rng.permutation(np.flatnonzero(hidden))[:COLOUR_FRAMES]
    a = arrays.to_signed(arrays.composite_on_white(rgb, on))
    draw: Key = (key[0], key[1], key[2], 0, 0)
    pipe = model.content
    assert pipe is not None
    latents = draw_latents(pipe, a, arrays.masks_to_signed(all_), draw, [draw], pipe.sampling(), lambda: None)
    raw = pipe.decode(next(iter(latents))[torch.from_numpy(at)]).permute(0, 2, 3, 1).numpy()
    colours = rgb[at].astype(np.float32) / 255
    pictures = match_visible(raw, colours, on[at], all_[at], float(model.detail or 0.0), overall)
    inputs, truths, counts = [], [], []
    for picture, t in zip(pictures, at.tolist(), strict=True):
        near = [view for view in others if abs(view.time - t) <= Album.REACH]
        image, seen, true = cut[t]
        found = fill(picture, image, seen, true, moments[t], near, overall)
        inputs.append(colour_input(image, seen, true, found, picture, overall, config.size))
        share = arrays.resize_masks_area(true[None], config.size)[0]
        masked = (boxes[t].crop(alone[t : t + 1])[0] * true[..., None]).astype(np.float32).transpose(2, 0, 1)
        truths.append(arrays.resize_float(np.ascontiguousarray(masked), config.size) / np.maximum(share, 0.1))
        counts.append(arrays.resize_masks_area((true & ~seen)[None], config.size)[0] >= 0.5)
    pad = [0] * (COLOUR_FRAMES - len(at))
    order = [*range(len(at)), *pad]
    return {
        "maps": pack_signed(np.stack(inputs))[order],
        "truth": torch.from_numpy(np.stack(truths).round().clip(0, 255).astype(np.uint8))[order],
        "hidden": pack_bits(np.stack(counts))[order],
        "weight": torch.tensor([1.0] * len(at) + [0.0] * len(pad)),
    }


MAKERS: dict[str, Make] = {"front": front_example, "finish": finish_example, "colours": colours_example}
