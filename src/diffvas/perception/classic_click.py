"""What ``classic`` takes a click to mean: several guesses at the object, and a choice among them.

A guess is a GrabCut (Rother et al. 2004) within some reach of the click, begun from what looks like the clicked spot,
or looks and moves like it, and cut along borders of colour, or of colour and motion. Motion is the optical flow to
neighbouring frames, less the homography that most of the frame follows (the camera's). The choice is a weighted sum of
how a guess lies in the frame and among the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.perception.classic_looks import NOWHERE, Appearance, Frame, disc, features_at, flow, pick
from diffvas.types import F32, U8, Bool

REACHES = (0.06, 0.12, 0.22, 0.4)  # how far a clicked object may reach, in long sides of the frame
_SIDE = 240  # pixels of the long side at which guesses are made: GrabCut's time goes with the area
_FAR = 3  # frames back and on whose motion is looked at: slow things show there too
_FAINT = 0.02  # mean step of colour across an outline (1 = black to white) below which there is no object
_LEAST = 32  # pixels of the short side: DIS reads outside of smaller frames


class Moment:
    """A prompted frame at the size of guesses, and how its parts move, looked up when a click asks for it.

    Args:
        frame_at: (H, W, 3) uint8 of a frame's number. t: the prompted one. count: of all frames.
    """

    def __init__(self, frame_at: Callable[[int], U8], t: int, count: int) -> None:
        self._frame_at, self._t, self._count = frame_at, t, count
        self._looks: tuple[Frame, F32 | None] | None = None

    def looks(self) -> tuple[Frame, F32 | None]:
        """The frame (h, w), and (h, w, 2 or 4) of motion to one or two neighbours; None for the only frame."""
        if self._looks is None:
            rgb = self._frame_at(self._t)
            shrink = min(1.0, _SIDE / max(rgb.shape[:2]))
            size = max(_LEAST, round(rgb.shape[0] * shrink)), max(_LEAST, round(rgb.shape[1] * shrink))
            frame = Frame(rgb, size)
            near = {max(0, self._t - _FAR), min(self._count - 1, self._t + _FAR)} - {self._t}
            found = [own_motion(frame, Frame(self._frame_at(t), size)) for t in sorted(near)]
            self._looks = frame, np.concatenate(found, -1) if found else None
        return self._looks


def own_motion(frame: Frame, other: Frame) -> F32:
    """(h, w, 2) float32: which way, and by how much more than is usual in the frame, a pixel moves of its own.

    Its length is log(1 + pixels / usual); 0 for what follows the camera.
    """
    shift = flow(frame, other)
    height, width = frame.size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grid = np.stack([x, y], -1)
    every = max(4, round(float(np.sqrt(height * width / 3000))))
    some = np.s_[every // 2 :: every, every // 2 :: every]
    start = grid[some].reshape(-1, 2)
    cv2.setRNGSeed(0)
    camera, _ = cv2.findHomography(start, start + shift[some].reshape(-1, 2), cv2.RANSAC, 1.0)
    if camera is not None:
        shift = shift - (cv2.perspectiveTransform(grid.reshape(1, -1, 2), camera).reshape(height, width, 2) - grid)
    length = np.linalg.norm(shift, axis=-1, keepdims=True)
    usual = max(0.5, 1.5 * float(np.median(length)))
    own: F32 = (shift * np.log1p(length / usual) / np.maximum(length, 1e-6)).astype(np.float32)
    return own


def grabcut(picture: U8, labels: U8, rounds: int = 4) -> Bool:
    """GrabCut of a picture (h, w, 3) uint8 from a map of cv2.GC_* labels."""
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if not found.any() or found.all() or min(labels.shape) < 3:
        return found
    cv2.setRNGSeed(0)  # its k-means draws from OpenCV's own generator
    labels = labels.copy()
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(picture, labels, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))


def tidy(mask: Bool, seeds: Bool | None) -> Bool:
    """Without specks, pinholes, and (given seeds) parts that no seed touches."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc(1))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] > 0.02 * max(1, int(opened.sum()))
    if seeds is not None:
        hit = np.bincount(labels[seeds], minlength=count) > 0
        keep = hit if hit[1:].any() else keep
    keep[0] = False
    solid = keep[labels]
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~solid).astype(np.uint8), connectivity=4)
    holes = stats[:, cv2.CC_STAT_AREA] < 0.01 * max(1, int(solid.sum()))
    holes[0] = False
    return solid | holes[labels]


# ---------------------------------------------------------------------------------------------------------------------
# guesses


@dataclass(frozen=True, eq=False)
class _Guess:
    """A mask (h, w), and how it looks.

    contrast: mean step of colour across its outline, 0 where that is the box's that it had to stay in. own: share of
    the outline that is its own. depth: how deep the click lies in it, of its deepest pixel. border: share of the
    frame's border that it covers. area: share of the frame.
    """

    mask: Bool
    contrast: float
    own: float
    depth: float
    border: float
    area: float

    @classmethod
    def of(cls, frame: Frame, mask: Bool, limit: Bool, yes: Bool) -> _Guess:
        contrast, own = _outline(frame, mask, limit)
        depths = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        depth = float(depths[yes].max()) / max(1.0, float(depths.max()))
        border = float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
        return cls(mask, contrast, own, depth, border, float(mask.mean()))

    def worth(self, agreement: float) -> float:
        """About how well it fits (IoU); ``agreement`` is its mean IoU with all guesses.

        Ridge regression on 63 objects of 16 rendered clips, clicked anywhere in their middles, weights rounded; no
        real clip was used.
        """
        small = float(np.log(self.area + 1e-4)) ** 2
        return 0.5 * self.depth + 0.3 * agreement + 0.25 * self.own - 0.25 * self.border - 0.012 * small


def _outline(frame: Frame, mask: Bool, limit: Bool) -> tuple[float, float]:
    """``contrast`` and ``own`` of a guess."""
    kernel = disc(2)
    solid = mask.astype(np.uint8)
    inner = mask & ~(cv2.erode(solid, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0)
    outer = ~mask & (cv2.dilate(solid, kernel) > 0)
    blur = (9, 9)
    weights = [cv2.blur(side.astype(np.float32), blur) for side in (inner, outer)]
    edge = inner & (weights[1] > 0)
    if not edge.any():
        return 0.0, 0.0
    means = [
        cv2.blur(np.where(side[..., None], frame.lab, np.float32(0)), blur) / np.maximum(weight, 1e-6)[..., None]
        for side, weight in zip((inner, outer), weights, strict=True)
    ]
    step = np.minimum(np.linalg.norm(means[0] - means[1], axis=-1), 0.3)
    own = cv2.erode(limit.astype(np.uint8), disc(3), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    return float(np.where(own, step, 0.0)[edge].mean()), float(own[edge].mean())


def _likely(frame: Frame, motion: F32 | None, core: Bool, outside: Bool, limit: Bool) -> Bool:
    """Which pixels within the limit look (and move) more like the core than like what is outside."""

    width = frame.size[1]

    def features(where: NDArray[np.int64]) -> F32:
        looks = features_at(frame, NOWHERE, where)
        return looks if motion is None else np.concatenate([looks, motion[where // width, where % width]], 1)

    model = Appearance()
    sides = [pick(np.flatnonzero(core), 3000), pick(np.flatnonzero(outside), 3000)]
    labels = np.repeat([True, False], [len(side) for side in sides])
    model.learn(features(np.concatenate(sides)), labels, prompted=True)
    likely = np.zeros(frame.size, bool)
    where = np.flatnonzero(limit)
    likely.reshape(-1)[where] = model.score(features(where)) > 0
    return likely


def _limit(yes: Bool, reach: float) -> Bool:
    """The box around a clicked spot; never the whole frame, of which something must be background."""
    y, x = np.nonzero(yes)
    far = reach * max(yes.shape)
    limit = np.zeros(yes.shape, bool)
    top, left = max(0, int(y.min() - far)), max(0, int(x.min() - far))
    limit[top : int(y.max() + far) + 1, left : int(x.max() + far) + 1] = True
    if limit.all():
        limit[[0, -1]] = limit[:, [0, -1]] = False
    return limit


def _picture(frame: Frame, motion: F32) -> U8:
    """(h, w, 3) uint8 of lightness, colour and motion, for GrabCut, which knows three channels."""
    colour = 128 + 150 * (frame.lab[..., 1] + frame.lab[..., 2])
    length = 60 * np.linalg.norm(motion, axis=-1) / np.sqrt(motion.shape[-1] / 2)
    channels = [frame.rgb.mean(-1), np.clip(colour, 0, 255), np.clip(length, 0, 255)]
    return np.dstack(channels).astype(np.uint8)


def _guesses(frame: Frame, motion: F32 | None, yes: Bool, no: Bool, reaches: Sequence[float]) -> list[_Guess]:
    core = (cv2.dilate(yes.astype(np.uint8), disc(max(2, round(0.012 * max(frame.size))))) > 0) & ~no
    ways: list[tuple[F32 | None, list[U8]]] = [(None, [frame.rgb])]
    if motion is not None:
        ways.append((motion, [frame.rgb, _picture(frame, motion)]))
    found = []
    for reach in reaches:
        limit = _limit(yes, reach)
        for moves, pictures in ways:
            likely = _likely(frame, moves, core, ~limit | no, limit)
            labels = np.where(limit, np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD), cv2.GC_BGD).astype(np.uint8)
            labels[yes], labels[no] = cv2.GC_FGD, cv2.GC_BGD
            masks = [tidy(grabcut(picture, labels), yes) & ~no for picture in pictures]
            found += [_Guess.of(frame, mask, limit, yes) for mask in masks if mask.sum() > 2 * yes.sum()]
    return [guess for guess in found if guess.contrast > _FAINT]


def around(moment: Moment, frame: Frame, yes: Bool, no: Bool, reaches: Sequence[float] = REACHES) -> Bool:
    """The object around a clicked spot, as far as can be guessed.

    Args:
        moment: the frame's surroundings in time. frame: the same at working size (h, w). yes: (h, w) bool, the spot.
        no: (h, w) bool, what the object does not hold. reaches: which of :data:`REACHES` to try.

    Returns:
        (h, w) bool; empty where nothing stands out.
    """
    small = moment.looks()[0].size
    spot = _resized(yes, small) > 0
    guesses = _guesses(*moment.looks(), spot, (_resized(no, small) >= 0.5) & ~spot, reaches)
    if not guesses:
        return np.zeros(frame.size, bool)
    flat = np.stack([guess.mask.ravel() for guess in guesses]).astype(np.float32)
    shared = flat @ flat.T
    areas = flat.sum(1)
    agreement = (shared / (areas[:, None] + areas - shared)).mean(1)
    best = max(zip(guesses, agreement.tolist(), strict=True), key=lambda pair: pair[0].worth(pair[1]))[0].mask
    if small != frame.size:
        best = frame.guide(2 * _resized(best, frame.size) - 1) > 0  # along the edges of the larger frame
        best = tidy(best, yes)
    return best & ~no


def _resized(mask: Bool, size: tuple[int, int]) -> F32:
    """(h, w) float32 in [0, 1]: how much of each pixel of another size is in the mask."""
    way = cv2.INTER_AREA if size[0] < mask.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(mask.astype(np.float32), size[::-1], interpolation=way)
