"""Training examples from scene clips: one object, its conditions as the pipelines see them, and the truth."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diffvas import arrays
from diffvas.data.augment import spoil_depth, spoil_mask
from diffvas.focus import Box, crop_each, extent, follow, whole_frames
from diffvas.types import Extent
from diffvas.world.clip import SceneClip
from diffvas.world.flat import flat_scene

Array = np.ndarray
FLAT_SIZE = (96, 192)  # flat scenes are drawn at this size and cropped to the object
WHOLE_FRAME = 0.04  # share of examples that show the whole frame
EXPAND = (1.6, 2.7)  # sides of the boxes in sides of what is visible; inference has 1.6
EXPAND_WHOLE = (1.45, 2.2)  # in sides of the whole object, where the boxes are planned around that
OFF_CENTRE = 0.06  # of the box's side, at most
HELD_OUT = 10  # per cent of the clips of a folder that are its "val" part

# a scene from a seed that is used for nothing else
SceneSource = Callable[[np.random.SeedSequence], SceneClip]


@dataclass(frozen=True)
class Example:
    """One object of one clip.

    Attributes:
        modal, amodal: (T, H, W) bool; ``modal`` may carry a tracker's faults, ``amodal`` is exact.
        depth: (T, H, W) float32 in [0, 1], 1 = near, normalised over the clip.
        frames_u8, alone_u8: (T, H, W, 3) uint8, what the camera sees, and the object alone on white.
        inside: (T, H, W) bool, what is in the frame.
    """

    modal: Array
    amodal: Array
    depth: Array
    frames_u8: Array
    alone_u8: Array
    inside: Array


def child_seed(entropy: list[int], child: int) -> np.random.SeedSequence:
    """The ``child``-th seed below ``entropy``: independent of the others and of ``SeedSequence(entropy)`` itself."""
    return np.random.SeedSequence(entropy, spawn_key=(child,))


def is_held_out(name: str) -> bool:
    """Whether a clip belongs to the held-out tenth of its folder: by its name alone, so adding clips moves none."""
    return zlib.crc32(name.encode()) % 100 < HELD_OUT


def open_scenes(
    source: str | Path, frames: int = 25, *, colour: bool = True, split: str = "all", size: tuple[int, int] = FLAT_SIZE
) -> SceneSource:
    """The scenes of a source, one for every seed.

    Args:
        source: "flat" (``frames`` frames of ``size``), or a data set of scene clips, see ``world.open_dataset``; of
            clips with more frames a stretch of so many.
        colour: False leaves RGB out where that saves time.
        split: "train" or "val" part of a folder by the clips' names, or "all"; the flat world has no end and no parts.

    Raises:
        ValueError: no such folder, or none of its clips in the part.
    """
    if str(source) == "flat":

        def draw(seed: np.random.SeedSequence) -> SceneClip:
            return flat_scene(seed.generate_state(4).tolist(), size, frames, colour=colour)

        return draw
    from diffvas.world.shards import open_dataset

    if not Path(source).exists():
        raise ValueError(f"source: expected 'flat' or a folder of scene clips, got '{source}'")
    try:
        clips = open_dataset(source)
    except ValueError as error:
        raise ValueError(f"source: {str(error).removeprefix('path: ')}") from error
    chosen = [k for k, name in enumerate(clips.names) if split == "all" or is_held_out(name) == (split == "val")]
    if not chosen:
        raise ValueError(f"source: expected clips in the {split} part of {source}, got none")
    parts = ("rgb", "content") if colour else ()

    def pick(seed: np.random.SeedSequence) -> SceneClip:
        rng = np.random.default_rng(seed)
        clip = clips.read(chosen[int(rng.integers(len(chosen)))], parts)
        spare = len(clip.instance_ids) - frames
        return clip if spare <= 0 else clip.stretch(int(rng.integers(spare + 1)), frames)

    return pick


def without_colour(scene: SceneClip) -> SceneClip:
    """The same clip with empty RGB arrays: stage 1 never looks at them, and cropping them is slow."""
    return replace(scene, frames_u8=scene.frames_u8[:0], amodal_rgb_u8=scene.amodal_rgb_u8[:, :0])


def relative_depth(depth: Array) -> Array:
    """Metric depth (T, H, W) as a depth network gives it: inverse, 1 = near, min-max over the clip, float32."""
    return arrays.normalise_depth(1.0 / np.maximum(depth, 1e-3))


def candidates(scene: SceneClip, least_area: float = 0.004) -> list[tuple[int, float]]:
    """Objects worth learning from, each with its mean visible fraction.

    An object needs an amodal area of ``least_area`` of the frame on average and three frames in which it is visible.
    """
    found = []
    pixels = scene.depth.shape[1] * scene.depth.shape[2]
    for i, amodal in enumerate(scene.amodal_masks):
        area = amodal.sum((1, 2))
        modal = scene.modal_mask(i).sum((1, 2))
        if area.mean() < least_area * pixels or (modal > 20).sum() < 3:
            continue
        present = area > 0
        found.append((i, float((modal[present] / area[present]).mean())))
    return found


def choose_object(scene: SceneClip, rng: np.random.Generator) -> int | None:
    """An object at random, those that are partly hidden four times as often as those in full view; None without any."""
    found = candidates(scene)
    if not found:
        return None
    weights = np.array([1.0 if 0.1 < visible < 0.93 else 0.25 for _, visible in found])
    return found[int(rng.choice(len(found), p=weights / weights.sum()))][0]


def random_boxes(modal: Array, size: tuple[int, int], rng: np.random.Generator) -> list[Box]:
    """Boxes that follow what is visible, of another width each time and a little off; now and then the whole frame."""
    frame = (modal.shape[1], modal.shape[2])
    if rng.random() < WHOLE_FRAME:
        return whole_frames(len(modal), frame)
    return _random_path([extent(mask) for mask in modal], frame, size, EXPAND, rng)


def random_boxes_around(
    extents: Sequence[Extent | None],
    shares: Sequence[float],
    frame: tuple[int, int],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> list[Box]:
    """The same around the whole object, as at inference.

    Args:
        extents, shares: (T,), of the whole object and what share of it is visible, see ``pipelines.aim``.
    """
    return _random_path(extents, frame, size, EXPAND_WHOLE, rng, shares)


def _random_path(
    extents: Sequence[Extent | None],
    frame: tuple[int, int],
    size: tuple[int, int],
    between: tuple[float, float],
    rng: np.random.Generator,
    shares: Sequence[float] | None = None,
) -> list[Box]:
    expand = float(np.exp(rng.uniform(*np.log(between))))
    boxes = follow(extents, frame, expand, aspect=size[1] / size[0], shares=shares)
    off = rng.uniform(-OFF_CENTRE, OFF_CENTRE, 2)
    steps = [(round(off[0] * box.size[0]), round(off[1] * box.size[1])) for box in boxes]
    return [Box(b.top + y, b.bottom + y, b.left + x, b.right + x) for b, (y, x) in zip(boxes, steps, strict=True)]


def make_example(
    scene: SceneClip, index: int, rng: np.random.Generator, *, size: tuple[int, int] | None = None, spoil: bool = True
) -> Example:
    """The example of object ``index``.

    Args:
        size: (height, width) that random boxes around the object are resized to; None keeps the frame as it is.
        spoil: conditions with the faults of real inputs, and half of the examples mirrored.
    """
    whole = Example(
        scene.modal_mask(index),
        scene.amodal_masks[index],
        scene.depth,
        scene.frames_u8,
        scene.amodal_rgb_u8[index],
        np.ones(scene.depth.shape, bool),
    )
    return finish_example(whole, rng, size=size, spoil=spoil)


def finish_example(
    whole: Example, rng: np.random.Generator, *, size: tuple[int, int] | None = None, spoil: bool = True
) -> Example:
    """Crop, resize and spoil an example at the clip's own size, whose ``depth`` is still a distance; see
    ``make_example``."""
    modal, amodal, distance = whole.modal, whole.amodal, whole.depth
    frames_u8, alone_u8, inside = whole.frames_u8, whole.alone_u8, whole.inside
    if size is not None:
        boxes = random_boxes(modal, size, rng)
        modal, amodal = (crop_each(boxes, m, size, arrays.resize_masks_area) >= 0.5 for m in (modal, amodal))
        amodal |= modal
        inside = crop_each(boxes, inside, size, arrays.resize_masks_area) >= 0.5
        distance = crop_each(boxes, distance, size, arrays.resize_float)
        if len(frames_u8):
            frames_u8, alone_u8 = (crop_each(boxes, f, size, arrays.resize_u8) for f in (frames_u8, alone_u8))
            alone_u8 = arrays.composite_on_white(alone_u8, amodal)
    depth = relative_depth(distance)
    if spoil:
        modal, depth = spoil_mask(modal, rng), spoil_depth(depth, rng)
    parts = (modal, amodal, depth, frames_u8, alone_u8, inside)
    if spoil and rng.random() < 0.5:
        parts = tuple(np.ascontiguousarray(p[:, :, ::-1]) for p in parts)  # type: ignore[assignment]
    return Example(*parts)
