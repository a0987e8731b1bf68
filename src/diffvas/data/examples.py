"""Training examples from scene clips: one object, its conditions as the pipelines see them, and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from diffvas import arrays
from diffvas.focus import Box, fit_aspect, focus_box
from diffvas.world.clip import SceneClip

Array = np.ndarray


@dataclass(frozen=True)
class Example:
    """One object of one clip.

    Attributes:
        modal, amodal: (T, H, W) bool; ``modal`` may carry a tracker's faults, ``amodal`` is exact.
        depth: (T, H, W) float32 in [0, 1], 1 = near, normalised over the clip.
        frames_u8, alone_u8: (T, H, W, 3) uint8, what the camera sees, and the object alone on white.
    """

    modal: Array
    amodal: Array
    depth: Array
    frames_u8: Array
    alone_u8: Array


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


def spoil_mask(modal: Array, rng: np.random.Generator) -> Array:
    """A modal mask (T, H, W) with faults as trackers make them: a border moved by a pixel, lost frames."""
    out = modal.copy()
    if rng.random() < 0.25:
        grow = rng.random() < 0.4
        kernel = np.ones((3, 3) if rng.random() < 0.5 else (2, 2), np.uint8)
        change = cv2.dilate if grow else cv2.erode
        for t in range(len(out)):
            out[t] = change(out[t].astype(np.uint8), kernel).astype(bool)
    if rng.random() < 0.08:
        at = int(rng.integers(0, len(out)))
        out[at : at + int(rng.integers(1, 3))] = False
    return out if out.any() else modal


def spoil_depth(depth: Array, rng: np.random.Generator) -> Array:
    """Relative depth (T, H, W) in [0, 1] with faults of depth networks: blur, another response curve, flicker."""
    out = depth
    if rng.random() < 0.6:
        blur = float(rng.uniform(0.5, 3.0))
        out = np.stack([cv2.GaussianBlur(d, (0, 0), blur) for d in out])
    if rng.random() < 0.5:
        out = out ** float(np.exp(rng.normal(0, 0.4)))
    if rng.random() < 0.3:
        out = out + rng.normal(0, 0.02, (len(out), 1, 1))
    return arrays.normalise_depth(out.astype(np.float32))


def random_box(modal: Array, size: tuple[int, int], rng: np.random.Generator) -> Box:
    """A focus box as inference takes it, of another width each time; now and then the whole frame."""
    height, width = modal.shape[1:]
    if rng.random() < 0.15:
        box = Box(0, height, 0, width)
    else:
        box = focus_box(modal, expand=float(rng.uniform(1.35, 2.4)))
    return fit_aspect(box, size[1] / size[0], (height, width))


def make_example(
    scene: SceneClip, index: int, rng: np.random.Generator, *, size: tuple[int, int] | None = None, spoil: bool = True
) -> Example:
    """The example of object ``index``.

    Args:
        size: (height, width) that a random focus box around the object is resized to; None keeps the frame as it is.
        spoil: conditions with the faults of real inputs, and half of the examples mirrored.
    """
    modal, amodal, distance = scene.modal_mask(index), scene.amodal_masks[index], scene.depth
    frames_u8, alone_u8 = scene.frames_u8, scene.amodal_rgb_u8[index]
    if size is not None:
        box = random_box(modal, size, rng)
        modal, amodal = (arrays.resize_masks_area(box.crop(m), size) >= 0.5 for m in (modal, amodal))
        amodal |= modal
        distance = arrays.resize_float(np.ascontiguousarray(box.crop(distance)), size)
        if len(frames_u8):
            frames_u8 = arrays.resize_u8(np.ascontiguousarray(box.crop(frames_u8)), size)
            alone_u8 = arrays.resize_u8(np.ascontiguousarray(box.crop(alone_u8)), size)
            alone_u8 = arrays.composite_on_white(alone_u8, amodal)
    depth = relative_depth(distance)
    if spoil:
        modal, depth = spoil_mask(modal, rng), spoil_depth(depth, rng)
    parts = (modal, amodal, depth, frames_u8, alone_u8)
    if spoil and rng.random() < 0.5:
        parts = tuple(np.ascontiguousarray(p[:, :, ::-1]) for p in parts)  # type: ignore[assignment]
    return Example(*parts)
