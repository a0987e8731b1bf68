"""The faults of real inputs: masks as trackers make them, depth as networks estimate it, time as it was filmed.

Exact masks and depth exist in rendered scenes only. A model that saw nothing else trusts every pixel of them; these
functions spoil conditions, never truth. All are pure: (clip, generator) -> clip of the same shape.
"""

from __future__ import annotations

import cv2
import numpy as np

from diffvas import arrays

Array = np.ndarray


def spoil_mask(modal: Array, rng: np.random.Generator) -> Array:
    """A modal mask (T, H, W) bool with some of a tracker's faults, often none; never emptied altogether.

    Borders: moved by a pixel (25 %) or ragged (15 %). Holes and crumbs (10 %). Frames: lost (8 %), late (6 %).
    """
    out = modal
    if rng.random() < 0.25:
        out = move_border(out, rng)
    if rng.random() < 0.15:
        out = ragged_border(out, rng)
    if rng.random() < 0.10:
        out = punch_holes(out, rng)
    if rng.random() < 0.08:
        out = lose_frames(out, rng)
    if rng.random() < 0.06:
        out = delay_frames(out, rng)
    return out if out.any() else modal


def move_border(modal: Array, rng: np.random.Generator) -> Array:
    """The mask a pixel or half a pixel wider or narrower, alike in all frames."""
    kernel = np.ones((3, 3) if rng.random() < 0.5 else (2, 2), np.uint8)
    change = cv2.dilate if rng.random() < 0.4 else cv2.erode
    return np.stack([change(m.astype(np.uint8), kernel).astype(bool) for m in modal])


def ragged_border(modal: Array, rng: np.random.Generator) -> Array:
    """The border pushed in and out by a few per cent of the object's size, differently in every frame.

    The mask's softened edge is cut at a level that wanders along it; how far it wanders is drawn once for a clip.
    """
    area = modal.sum((1, 2)).max(initial=0)
    reach = max(1.0, float(np.sqrt(area)) * float(rng.uniform(0.01, 0.05)))
    coarse = max(2, round(reach * float(rng.uniform(1.0, 3.0))))
    height, width = modal.shape[1:]
    strength = float(rng.uniform(0.15, 0.4))
    out = np.zeros_like(modal)
    for t, mask in enumerate(modal):
        noise = rng.normal(0, 1, (height // coarse + 2, width // coarse + 2)).astype(np.float32)
        level = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), reach)
        out[t] = soft > np.clip(0.5 + strength * level, 0.1, 0.9)
    return out


def punch_holes(modal: Array, rng: np.random.Generator) -> Array:
    """One to three holes inside the object and crumbs beside it, for a few frames each."""
    out = modal.copy()
    frames = len(modal)
    for _ in range(int(rng.integers(1, 4))):
        t = int(rng.integers(frames))
        on = np.argwhere(modal[t])
        if not len(on):
            continue
        radius = max(1, round(float(np.sqrt(len(on))) * float(rng.uniform(0.04, 0.15))))
        y, x = on[int(rng.integers(len(on)))]
        fill = rng.random() < 0.3
        if fill:  # a crumb: beside the object
            y, x = (int(v) + int(rng.integers(-4, 5)) * radius for v in (y, x))
        for k in range(t, min(frames, t + int(rng.integers(1, 6)))):
            disc = np.zeros(modal.shape[1:], np.uint8)
            cv2.circle(disc, (int(x), int(y)), radius, 1, -1)
            out[k] = out[k] | disc.astype(bool) if fill else out[k] & ~disc.astype(bool)
    return out


def lose_frames(modal: Array, rng: np.random.Generator) -> Array:
    """One or two consecutive frames without a mask."""
    out = modal.copy()
    at = int(rng.integers(len(out)))
    out[at : at + int(rng.integers(1, 3))] = False
    return out


def delay_frames(modal: Array, rng: np.random.Generator) -> Array:
    """From some frame on, for a while, the mask of one or two frames before."""
    frames, late = len(modal), int(rng.integers(1, 3))
    start = int(rng.integers(frames))
    stop = min(frames, start + int(rng.integers(2, 9)))
    at = np.arange(frames)
    at[start:stop] = np.maximum(at[start:stop] - late, 0)
    return modal[at].copy()


def spoil_depth(depth: Array, rng: np.random.Generator) -> Array:
    """Relative depth (T, H, W) float32 in [0, 1] with some of a depth network's faults.

    Blur (60 %), another response curve (50 %), flicker (30 %), a slow warp (15 %), flattened (10 %: detail lost and the
    range squeezed from one end), frames dropped (5 %: the one before again).
    """
    out = depth
    if rng.random() < 0.6:
        blur = float(rng.uniform(0.5, 3.0))
        out = np.stack([cv2.GaussianBlur(d, (0, 0), blur) for d in out])
    if rng.random() < 0.5:
        out = out ** float(np.exp(rng.normal(0, 0.4)))
    if rng.random() < 0.3:
        out = out + rng.normal(0, 0.02, (len(out), 1, 1))
    if rng.random() < 0.15:
        out = warp_depth(out, rng)
    if rng.random() < 0.10:
        out = flatten_depth(out, rng)
    if rng.random() < 0.05:
        out = out[np.maximum(np.arange(len(out)) - (rng.random(len(out)) < 0.25), 0)]
    return arrays.normalise_depth(out.astype(np.float32))


def warp_depth(depth: Array, rng: np.random.Generator) -> Array:
    """A smooth field added that hardly changes over the clip: regions too near or too far, as networks have them."""
    height, width = depth.shape[1:]
    fields = rng.normal(0, float(rng.uniform(0.02, 0.08)), (2, 3, 4)).astype(np.float32)
    first, last = (cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in fields)
    share = np.linspace(0, 1, len(depth), dtype=np.float32)[:, None, None]
    return depth + first + share * (last - first) * 0.5


def flatten_depth(depth: Array, rng: np.random.Generator) -> Array:
    """Fine steps lost: a strong blur mixed in, and what is far squeezed together."""
    blur = max(1.0, 0.05 * max(depth.shape[1:]))
    smooth = np.stack([cv2.GaussianBlur(np.float32(d), (0, 0), blur) for d in depth])
    mixed = depth + float(rng.uniform(0.4, 0.9)) * (smooth - depth)
    floor = float(rng.uniform(0.0, 0.4))
    return np.maximum(mixed, floor)


def pick_times(frames: int, span: int, rng: np.random.Generator) -> Array:
    """(span,) frame numbers of a clip of ``frames``: a part of it at some speed, half of them backwards.

    Normal speed mostly; double or triple where the clip is long enough for it (30 %); a low frame rate, every frame
    shown twice (5 %), or a moment of standstill (5 %). ``span`` is cut to ``frames``.
    """
    span = min(span, frames)
    steps = np.ones(span - 1, int)
    kind = rng.random()
    fastest = (frames - 1) // max(span - 1, 1)
    if kind < 0.3 and fastest >= 2 and span > 1:
        steps[:] = int(rng.integers(2, min(fastest, 3) + 1))
    elif kind >= 0.95:
        steps[::2] = 0
    elif kind >= 0.90 and span > 3:
        pause = int(rng.integers(1, span // 2))
        at = int(rng.integers(0, span - pause))
        steps[at : at + pause] = 0
    times = np.concatenate([[0], np.cumsum(steps)])
    times = times + int(rng.integers(0, frames - times[-1]))
    return times[::-1].copy() if rng.random() < 0.5 else times
