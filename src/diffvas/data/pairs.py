"""Stage-2 pairs: objects in full view, hidden by the outlines of other objects (paper, section 3.3).

For training content completion one needs objects whose hidden colours are known. An object that is seen whole has no
hidden colours; hide it behind other objects' outlines, and it has. What the public code does wrong is mended here: a
pair that is not hidden enough is drawn again instead of used as it is, frames without the object count for nothing
instead of making the mean undefined, and outlines are moved and scaled instead of pasted where they were.
"""

from __future__ import annotations

import cv2
import numpy as np

from diffvas.data.examples import Example, candidates, finish_example
from diffvas.world.clip import SceneClip

Array = np.ndarray
WHOLE = 0.95  # mean visible share of an object that counts as seen whole
MOST, LEAST = 0.7, 0.15  # mean visible share of a pair: hidden enough, and still to be recognised
OVERLAYS, TRIES = 5, 20


def visible_share(modal: Array, amodal: Array) -> float:
    """Mean over the frames in which the object is present of visible area over whole area; 1 where it never is."""
    whole = amodal.sum((1, 2))
    present = whole > 0
    if not present.any():
        return 1.0
    return float((((modal & amodal).sum((1, 2)))[present] / whole[present]).mean())


def place_outline(outline: Array, target: Array, rng: np.random.Generator) -> Array:
    """An outline (T', H', W') bool moved and scaled so that it comes over a target (T, H, W), at some time at least.

    Its own motion and change of shape stay; it is played from a random moment, back and forth where it is shorter. Its
    size is 0.4 to 1.3 of the target's; in a random frame in which both are there its centre is put inside the target's
    box, and over the clip it drifts by up to the target's size.

    Returns:
        (T, H, W) bool; empty if one of the two is.
    """
    frames, height, width = target.shape
    there = np.flatnonzero(target.any((1, 2)))
    if not len(there) or not outline.any():
        return np.zeros_like(target)
    cycle = np.concatenate([np.arange(len(outline)), np.arange(len(outline))[-2:0:-1]])
    clip = outline[cycle[(int(rng.integers(len(cycle))) + np.arange(frames)) % len(cycle)]]
    both = [t for t in there if clip[t].any()]
    if not both:
        return np.zeros_like(target)
    t0 = int(both[int(rng.integers(len(both)))])
    (y0, y1), (x0, x1) = _extent(target[t0])
    (v0, v1), (u0, u1) = _extent(clip[t0])
    scale = float(rng.uniform(0.4, 1.3)) * max(y1 - y0, x1 - x0) / max(v1 - v0, u1 - u0)
    goal = np.array([rng.uniform(x0, x1), rng.uniform(y0, y1)])
    drift = rng.normal(0, 0.5, 2) * (x1 - x0, y1 - y0)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    middle = np.array([(u0 + u1) / 2, (v0 + v1) / 2])
    out = np.zeros_like(target)
    for t in range(frames):
        at = goal + drift * (t - t0) / max(frames - 1, 1)
        turn = np.array([[mirror * scale, 0.0], [0.0, scale]])
        matrix = np.column_stack([turn, at - turn @ middle])
        out[t] = cv2.warpAffine(clip[t].astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
    return out


def _extent(mask: Array) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) of a mask that is not empty; bottom and right are one past it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def occlude(
    modal: Array, outlines: list[Array], rng: np.random.Generator, most: float = MOST, least: float = LEAST
) -> Array | None:
    """What is left of a mask (T, H, W) behind random outlines, one after another until enough is hidden.

    Args:
        modal: the object seen whole. outlines: (T', H', W') bool, of any size.
        most, least: mean visible share wanted: at most, and at least.

    Returns:
        (T, H, W) bool; None where ``TRIES`` draws of up to ``OVERLAYS`` outlines do not come between ``least`` and
        ``most``.
    """
    usable = [outline for outline in outlines if outline.any()]
    for _ in range(TRIES if usable else 0):
        left = modal
        for _ in range(OVERLAYS):
            left = left & ~place_outline(usable[int(rng.integers(len(usable)))], modal, rng)
            share = visible_share(left, modal)
            if share <= most:
                if share >= least:
                    return left
                break
    return None


def make_pair(
    scene: SceneClip,
    other: SceneClip,
    rng: np.random.Generator,
    *,
    size: tuple[int, int] | None = None,
    spoil: bool = True,
) -> Example | None:
    """An object of ``scene`` that is seen whole, hidden behind outlines of ``other``'s objects.

    Args:
        size, spoil: see ``make_example``.

    Returns:
        None where no object is seen whole, or none could be hidden enough.
    """
    whole = [index for index, visible in candidates(scene) if visible >= WHOLE]
    if not whole:
        return None
    index = whole[int(rng.integers(len(whole)))]
    # what is seen is the truth here, not the amodal mask: a pair knows the colours of these pixels and of no others
    truth = scene.modal_mask(index)
    modal = occlude(truth, list(other.amodal_masks), rng)
    if modal is None:
        return None
    alone = np.where(truth[..., None], scene.frames_u8, np.uint8(255)).astype(np.uint8)
    example = Example(modal, truth, scene.depth, scene.frames_u8, alone, np.ones(modal.shape, bool))
    return finish_example(example, rng, size=size, spoil=spoil)
