"""What other frames show of an object: its own pixels, carried to where something hides it.

A network has to invent what the rest of the clip has often shown. Here every hidden pixel gets a mean of three kinds of
estimates, each weighted by one over its expected squared error:

- the visible colours of the same frame, spread over the hidden part: the error grows with the distance to what is seen;
- the same place of the object in other frames, found by centre and extent of the whole object's masks, which the first
  stage gives, or by how far the object has moved, as it is or bent until the outlines of both masks meet; whichever
  agrees best where both frames show the object: there the error is measured too, nearby if possible;
- what the network painted, which is all there is where no frame shows anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas import arrays
from diffvas.focus import Box, extent
from diffvas.types import F32, U8, Bool

# colours are in [0, 1]; all numbers chosen on scenes of the training and validation splits (``bench/content.py`` scores
# the whole)
SCALES = (2.0, 6.0, 18.0, 54.0)  # pixels over which visible colours are spread, the next where the one before is empty
FADE = 1e-2  # weight of each scale beside the one before
NEAR_ERROR, ERROR_PER_PIXEL, FAR = 12 / 255, 5 / 255, 20.0  # expected error of spread colours, up to a distance
FLOOR = 2 / 255  # least expected error of another frame's pixels
HALF = 15 / 255  # error of colours from other frames that makes their weight a half
UNKNOWN_ERROR = 40 / 255  # expected error where no pixel is visible in both frames
MOST_PIXELS = 2**15  # of a view; larger objects are seen smaller
LEAST_COMMON = 12  # pixels that both frames must show for an error to be measured
EDGE, EDGE_WEIGHT = 0.02, 0.05  # border of a mask in shares of its view's size, where it is doubted, and how much
NEARBY = 4.0  # pixels around which a measured error counts
PACE = 12.0  # frames after which another frame counts a third
DEEP = 4.0  # pixels on either side of an outline that pull it towards another
MARGIN = 12  # pixels around a view in which outlines may move
MOST_SIDE = 96  # pixels of a view's longer side at which they are moved
CALM = 1.0  # pixels over which bends are smoothed


@dataclass(frozen=True, eq=False)
class View:
    """One frame of the object.

    Attributes:
        time: in frames. rgb: (h, w, 3) float32 in [0, 1]. modal, amodal: (h, w) bool, what is visible and the whole.
            Views of one object may have any sizes.
        corner: (x, y) of its upper left corner in the clip's pixels. scale: its pixels per pixel of the clip.
        path: (x, y) in the clip's pixels, where the object has moved since some frame that is the same for all views.
    """

    time: float
    rgb: F32
    modal: Bool
    amodal: Bool
    corner: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    path: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def place(self) -> tuple[float, float, float, float] | None:
        """:func:`place` of the whole object; kept, for a view meets many others."""
        return place(self.amodal)

    @cached_property
    def depth(self) -> U8:
        """:func:`depth_inside` of the whole object, at ``MOST_SIDE`` pixels or less."""
        return depth_inside(self.amodal)

    @cached_property
    def inside(self) -> F32:
        """:func:`inside` of what is visible."""
        return inside(self.modal)


@dataclass(frozen=True)
class Moment:
    """When and where a view is taken.

    Attributes:
        time: in frames. path: see ``View``. origin: (x, y) in the clip's pixels of the upper left corner of the images
            that are looked at.
    """

    time: float
    path: tuple[float, float] = (0.0, 0.0)
    origin: tuple[int, int] = (0, 0)


def look(frame_u8: U8, modal: Bool, amodal: Bool, moment: Moment) -> tuple[View, Box] | None:
    """The object in one frame, cut out and made small enough, and where it was cut out; None where it is not.

    Args:
        frame_u8: (H, W, 3); modal, amodal: (H, W) bool.
    """
    whole = amodal | modal
    around = extent(whole)
    if around is None:
        return None
    box = Box(*around)
    scale = min(1.0, (MOST_PIXELS / (box.size[0] * box.size[1])) ** 0.5)
    size = (max(1, round(box.size[0] * scale)), max(1, round(box.size[1] * scale)))
    rgb = arrays.resize_u8(np.ascontiguousarray(box.crop(frame_u8[None])), size)[0].astype(np.float32) / 255
    seen, on = (arrays.resize_masks_area(box.crop(mask[None]), size)[0] >= 0.5 for mask in (modal, whole))
    corner = (moment.origin[0] + box.left, moment.origin[1] + box.top)
    return View(moment.time, rgb, seen, on | seen, corner, size[1] / box.size[1], moment.path), box


@dataclass(frozen=True, eq=False)
class Recalled:
    """What is known of an object's hidden colours in a frame; elsewhere, and where nothing is known, what was painted.

    Attributes:
        colours: (h, w, 3) float32 in [0, 1], the mean of all. own: the same from the frame itself alone. carried: from
            other frames alone. weight: (h, w) float32 in [0, 1), how sure these are: a half at an error of ``HALF``.
    """

    colours: F32
    own: F32
    carried: F32
    weight: F32

    def as_one(self) -> F32:
        """(h, w, 10) float32."""
        return np.concatenate([self.colours, self.own, self.carried, self.weight[..., None]], -1)

    @classmethod
    def of_one(cls, stack: F32) -> Recalled:
        """From (h, w, 10)."""
        return cls(stack[..., :3], stack[..., 3:6], stack[..., 6:9], stack[..., 9])


def fill(
    picture: F32, frame_u8: U8, modal: Bool, amodal: Bool, moment: Moment, others: Sequence[View], overall: F32
) -> Recalled:
    """A painted picture with what other frames show of the object in its hidden part, all of a frame's size.

    Args:
        picture: (h, w, 3) float32 in [0, 1], what was painted, of all of the frame at any size.
        frame_u8: (H, W, 3); modal, amodal: (H, W) bool. others, overall: see :func:`gather`.
    """
    grown = np.asarray(cv2.resize(picture, amodal.shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1), np.float32)
    everything = Recalled(grown, grown, grown, np.zeros(amodal.shape, np.float32)).as_one()
    seen = look(frame_u8, modal, amodal, moment) if (amodal & ~modal).any() else None
    if seen is None:
        return Recalled.of_one(everything)
    view, box = seen
    painted = np.ascontiguousarray(box.crop(grown[None])[0])
    small = cv2.resize(painted, view.modal.shape[::-1], interpolation=cv2.INTER_AREA)
    filled = gather(view, others, np.asarray(small, np.float32), overall).as_one()
    if filled.shape[:2] != painted.shape[:2]:  # seen smaller: the whole view is taken, for its borders are mixed
        filled = cv2.resize(filled, box.size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    part = box.crop((amodal & ~modal)[None])[0]
    everything[box.top : box.bottom, box.left : box.right][part] = filled[part]
    return Recalled.of_one(everything)


def place(amodal: Bool) -> tuple[float, float, float, float] | None:
    """Centre (x, y) and extent (x, y) in pixels, as standard deviations; None for less than four pixels."""
    ys, xs = np.nonzero(amodal)
    if len(ys) < 4:
        return None
    return float(xs.mean()), float(ys.mean()), float(np.hypot(xs.std(), 0.5)), float(np.hypot(ys.std(), 0.5))


def spread_colours(rgb: F32, modal: Bool, overall: F32) -> F32:
    """(h, w, 3): the visible colours of a frame wherever nothing is visible; ``overall`` (3,) where nothing is near."""
    seen = modal.astype(np.float32)
    total = np.full(seen.shape, 1e-9, np.float32)
    colours = total[..., None] * overall
    weight = 1.0
    for scale in SCALES:
        colours = colours + weight * cv2.GaussianBlur(rgb * seen[..., None], (0, 0), scale)
        total = total + weight * cv2.GaussianBlur(seen, (0, 0), scale)
        weight *= FADE
    return np.asarray(colours / total[..., None], np.float32)


def gather(view: View, others: Sequence[View], generated: F32, overall: F32) -> Recalled:
    """The object's colours in its hidden part; elsewhere ``generated``.

    Args:
        view: the frame to be filled. others: frames of the same object; one of the same time is passed over.
        generated: (h, w, 3) float32 in [0, 1], what the network painted.
        overall: (3,) mean colour of what is visible of the object, in [0, 1].
    """
    hidden, where = view.amodal & ~view.modal, view.place
    out = Recalled(generated, generated, generated, np.zeros(hidden.shape, np.float32)).as_one()
    if where is None or not hidden.any():
        return Recalled.of_one(out)
    ys, xs = np.nonzero(view.amodal)
    rows, columns = slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1)
    near = View(view.time, view.rgb[rows, columns], view.modal[rows, columns], view.amodal[rows, columns])
    start = np.array([columns.start, rows.start], np.float64)
    own, own_weight = _own(near, generated[rows, columns], overall)
    colours, weights = np.zeros_like(own), np.zeros_like(own_weight)
    for other in others:
        if other.time == view.time or not other.modal.any():
            continue
        found = [_carry(near, other, at) for at in _ways(view, near, where, other, start)]
        carried = min((f for f in found if f is not None), key=lambda f: f[2], default=None)
        if carried is not None:
            colours += carried[1][..., None] * carried[0]
            weights += carried[1]
    part = hidden[rows, columns]
    mean = (own + colours) / (own_weight + weights)[..., None]
    own = own / own_weight[..., None]
    brought = np.where(weights[..., None] > 0, colours / np.maximum(weights, 1e-9)[..., None], own)
    found_all = Recalled(mean, own, brought, weights / (weights + 1 / HALF**2))
    out[rows, columns][part] = found_all.as_one()[part]
    return Recalled.of_one(out)


def _ways(
    view: View, near: View, where: tuple[float, float, float, float], other: View, start: NDArray[np.float64]
) -> Iterator[tuple[F32, F32]]:
    """Where each pixel of ``near`` may be in ``other``, (h, w) float32 x and y: by the whole object's place, and by how
    far it has moved; each as it is and bent.

    Args:
        near: the part of ``view`` that begins at ``start`` (x, y). where: :func:`place` of ``view``.
    """

    def matrix(scale: NDArray[np.float64], offset: NDArray[np.float64]) -> F32:
        return np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]], np.float32)

    ways = []
    there = other.place
    if there is not None:
        scale = np.array(there[2:]) / where[2:]
        ways.append(matrix(scale, np.array(there[:2]) + scale * (start - where[:2])))
    scale = np.full(2, other.scale / view.scale)
    moved = np.subtract(view.corner, other.corner) + np.subtract(other.path, view.path)
    ways.append(matrix(scale, scale * start + other.scale * moved))
    rows, columns = np.mgrid[: near.amodal.shape[0], : near.amodal.shape[1]].astype(np.float32)
    flow = _bend(near, other, ways[0])
    for way, x, y in [(way, columns, rows) for way in ways] + [(ways[0], columns + flow[..., 0], rows + flow[..., 1])]:
        yield way[0, 0] * x + way[0, 2], way[1, 1] * y + way[1, 2]


def _own(near: View, generated: F32, overall: F32) -> tuple[F32, F32]:
    """Weighted colours and their weights from the frame itself: spread colours near what is visible."""
    if not near.modal.any():
        error = np.full(near.modal.shape, NEAR_ERROR + ERROR_PER_PIXEL * FAR, np.float32)
        weight = np.asarray(1 / np.square(error), np.float32)
        return np.asarray(weight[..., None] * generated, np.float32), weight
    away = cv2.distanceTransform((~near.modal).astype(np.uint8), cv2.DIST_L2, 3)
    weight = (1 / np.square(NEAR_ERROR + ERROR_PER_PIXEL * np.minimum(away, FAR))).astype(np.float32)
    return np.asarray(weight[..., None] * spread_colours(near.rgb, near.modal, overall), np.float32), weight


def _carry(near: View, other: View, at: tuple[F32, F32]) -> tuple[F32, F32, float] | None:
    """Another frame's visible colours, their weights at this frame's pixels, and their mean error where both show the
    object; None where it has nothing of what is hidden here.

    Args:
        at: where each pixel of ``near`` is in ``other``.
    """

    def bring(image: F32) -> F32:
        return np.asarray(cv2.remap(image, *at, cv2.INTER_LINEAR), np.float32)

    seen = other.modal.astype(np.float32)
    share = bring(seen)
    there = share > 0.5
    if not (there & near.amodal & ~near.modal).any():
        return None
    carried = bring(other.rgb * seen[..., None]) / np.maximum(share, 0.5)[..., None]
    both = there & near.modal
    error: F32 | float = UNKNOWN_ERROR
    mean = UNKNOWN_ERROR
    if both.sum() >= LEAST_COMMON:
        apart = np.abs(carried - near.rgb).mean(-1) * both
        mean = float(apart.sum() / both.sum())
        around = cv2.GaussianBlur(both.astype(np.float32), (0, 0), NEARBY)
        error = (cv2.GaussianBlur(apart.astype(np.float32), (0, 0), NEARBY) + 0.02 * mean) / (around + 0.02)
    pace = np.exp(-abs(other.time - near.time) / PACE)
    weight = np.asarray(pace / (np.square(error) + FLOOR**2) * there * bring(other.inside), np.float32)
    return np.asarray(carried, np.float32), weight, mean


def _bend(near: View, other: View, matrix: F32) -> F32:
    """(h, w, 2) float32, x and y: how far each pixel of ``near`` moves for the outlines to meet, before the matrix is
    applied: the optical flow (Kroeger et al. 2016) between the depths inside both masks. So limbs that have swung find
    each other."""
    size = (near.amodal.shape[1], near.amodal.shape[0])
    there = other.amodal.astype(np.float32)
    laid = cv2.warpAffine(there, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 0.5
    flow = _flow().calc(near.depth, depth_inside(laid), None)
    flow = cv2.GaussianBlur(flow[MARGIN:-MARGIN, MARGIN:-MARGIN], (0, 0), CALM)
    return np.asarray(cv2.resize(flow, size) * np.divide(size, flow.shape[1::-1]), np.float32)


@cache
def _flow() -> cv2.DISOpticalFlow:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    flow.setVariationalRefinementIterations(0)
    return flow


def depth_inside(mask: Bool) -> U8:
    """(h, w) uint8, ``MARGIN`` larger on each side: how far a pixel is inside a mask (more than 128) or outside of it
    (less), up to ``DEEP`` pixels, with the longer side shrunk to ``MOST_SIDE``."""
    shrink = max(1.0, max(mask.shape) / MOST_SIDE)
    small = (max(1, round(mask.shape[0] / shrink)), max(1, round(mask.shape[1] / shrink)))
    inner = np.pad(arrays.resize_masks_area(mask[None], small)[0] > 0.5, MARGIN).astype(np.uint8)
    away = cv2.distanceTransform(inner, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - inner, cv2.DIST_L2, 3)
    return np.asarray(128 + away.clip(-DEEP, DEEP) * (127 / DEEP), np.uint8)


def inside(modal: Bool) -> F32:
    """(h, w): how sure it is that a visible pixel is the object's alone: less near borders, which masks of real video
    miss by a little. In a small view the border is less than a pixel wide, and all count alike."""
    away = cv2.distanceTransform(np.pad(modal, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    width = max(EDGE * modal.size**0.5 - 1, 0.5)
    return np.asarray(np.clip((away - 0.5) / width, EDGE_WEIGHT, 1), np.float32)
