"""How ``classic`` gets its first mask from a prompt: by GrabCut (Rother et al. 2004), click by click."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from diffvas.perception.classic_looks import NOWHERE, Appearance, Frame, disc, features_at, pick, scores_at
from diffvas.perception.prompts import BoxPrompt, FramePrompts
from diffvas.types import F32, U8, Bool

_FAINT = 0.02  # mean step of colour across an outline (1 = black to white) below which there is no object
_REACHES = (0.06, 0.12, 0.22, 0.4)  # how far a clicked object may reach, in long sides of the frame


def _grabcut(frame: Frame, labels: U8, rounds: int = 4) -> Bool:
    """GrabCut from a map of cv2.GC_* labels."""
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if not found.any() or found.all() or min(frame.size) < 3:
        return found
    cv2.setRNGSeed(0)  # its k-means draws from OpenCV's own generator
    labels = labels.copy()
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(frame.rgb, labels, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _tidy(mask: Bool, seeds: Bool | None) -> Bool:
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


def _contrast(frame: Frame, mask: Bool, limit: Bool) -> float:
    """How much of an object a mask looks: colours differ across its outline, which is its own, not the limit's."""
    kernel = disc(2)
    solid = mask.astype(np.uint8)
    inner = mask & ~(cv2.erode(solid, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0)
    outer = ~mask & (cv2.dilate(solid, kernel) > 0)
    if not inner.any() or not outer.any():
        return 0.0
    blur = (9, 9)
    weights = [cv2.blur(side.astype(np.float32), blur) for side in (inner, outer)]
    means = [
        cv2.blur(np.where(side[..., None], frame.lab, np.float32(0)), blur) / np.maximum(weight, 1e-6)[..., None]
        for side, weight in zip((inner, outer), weights, strict=True)
    ]
    edge = inner & (weights[1] > 0)
    if not edge.any():
        return 0.0
    step = np.minimum(np.linalg.norm(means[0] - means[1], axis=-1), 0.3)
    own = cv2.erode(limit.astype(np.uint8), disc(3), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    return float(np.where(own, step, 0.0)[edge].mean())


def _around(frame: Frame, yes: Bool, no: Bool, reaches: Sequence[float]) -> Bool:
    """The mask around one clicked spot: GrabCut with several reaches, of which the most object-like is taken.

    Empty where nothing stands out.
    """
    height, width = frame.size
    y, x = np.nonzero(yes)
    side = max(height, width)
    core = (cv2.dilate(yes.astype(np.uint8), disc(max(2, round(0.012 * side)))) > 0) & ~no
    best, most = np.zeros(frame.size, bool), _FAINT
    for reach in reaches:
        limit = np.zeros(frame.size, bool)
        top, left = max(0, int(y.min() - reach * side)), max(0, int(x.min() - reach * side))
        limit[top : int(y.max() + reach * side) + 1, left : int(x.max() + reach * side) + 1] = True
        if limit.all():
            limit[[0, -1]] = limit[:, [0, -1]] = False
        model = Appearance()
        _train_seeds(model, frame, core, (~limit) | no)
        likely = scores_at(model, frame, NOWHERE, limit) > 0
        labels = np.where(limit, np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD), cv2.GC_BGD).astype(np.uint8)
        labels[yes], labels[no] = cv2.GC_FGD, cv2.GC_BGD
        mask = _tidy(_grabcut(frame, labels), yes) & ~no
        score = _contrast(frame, mask, limit) * (1.0 - reach)  # of equals, the smaller: it is easily added to
        if score > most and mask.sum() > 2 * yes.sum():
            best, most = mask, score
    return best


def _clicked(frame: Frame, mask: Bool, clicks: Sequence[tuple[float, float, bool]], others: Bool) -> Bool:
    """A mask after clicks (x, y, positive), one by one: each that it contradicts adds or takes what is around it."""
    spots = [(discs([(x, y)], frame.size), positive) for x, y, positive in clicks]
    sides = {
        sign: discs([(x, y) for x, y, positive in clicks if positive == sign], frame.size) for sign in (True, False)
    }
    for (x, y, positive), (spot, _) in zip(clicks, spots, strict=True):
        if mask[min(int(y), frame.size[0] - 1), min(int(x), frame.size[1] - 1)] == positive:
            continue
        against = (sides[not positive] | others if positive else sides[True]) & ~spot
        piece = _around(frame, spot, against, _REACHES[:3] if mask.any() else _REACHES)
        mask = mask | piece if positive else mask & ~piece
    if not mask.any():
        return mask
    return (mask | sides[True]) & ~(sides[False] & ~sides[True])


def _train_seeds(model: Appearance, frame: Frame, inside: Bool, outside: Bool) -> None:
    where = [pick(np.flatnonzero(side), 3000) for side in (inside, outside)]
    labels = np.repeat([True, False], [len(part) for part in where])
    model.learn(features_at(frame, NOWHERE, np.concatenate(where)), labels, prompted=True)


def discs(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> Bool:
    canvas = np.zeros(size, np.uint8)
    for x, y in points:
        cv2.circle(canvas, (min(int(x), size[1] - 1), min(int(y), size[0] - 1)), max(1, max(size) // 160), 1, -1)
    return canvas > 0


def _ellipse(box: BoxPrompt, scale: tuple[float, float], size: tuple[int, int]) -> Bool:
    """(h, w) bool, the middle of a box: four fifths of its width and height, round."""
    y, x = np.mgrid[: size[0], : size[1]]
    across = (x + 0.5 - (box.x0 + box.x1) / 2 * scale[1]) / max(1.0, (box.x1 - box.x0) * scale[1])
    down = (y + 0.5 - (box.y0 + box.y1) / 2 * scale[0]) / max(1.0, (box.y1 - box.y0) * scale[0])
    return across**2 + down**2 < 0.4**2


def first_mask(
    frame: Frame, prompts: FramePrompts, scale: tuple[float, float], others: Bool, prior: F32 | None
) -> Bool:
    """What is visible of an object in a prompted frame.

    Args:
        frame: at working size (h, w). prompts: in pixels of the clip. scale: working pixels per pixel, (y, x).
        others: (h, w) bool, what prompts give to other objects. prior: (h, w) log odds of tracking, if there are any.
    """
    height, width = frame.size
    if prompts.mask is not None:
        share = cv2.resize(prompts.mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        return share >= min(0.5, float(share.max()))
    clicks = [(p.x * scale[1], p.y * scale[0], p.positive) for p in prompts.points]
    if prompts.box is None:
        mask = np.zeros(frame.size, bool) if prior is None else prior > 0
        return _clicked(frame, mask, sorted(clicks, key=lambda click: not click[2]), others)
    box = prompts.box
    limit = np.zeros(frame.size, bool)
    rows = slice(int(box.y0 * scale[0]), max(int(box.y0 * scale[0]) + 1, round(box.y1 * scale[0])))
    columns = slice(int(box.x0 * scale[1]), max(int(box.x0 * scale[1]) + 1, round(box.x1 * scale[1])))
    limit[rows, columns] = True
    model = Appearance()
    _train_seeds(model, frame, _ellipse(box, scale, frame.size), ~limit)
    likely = scores_at(model, frame, NOWHERE, limit) > -0.3
    labels = np.where(limit & ~others, np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD), cv2.GC_BGD).astype(np.uint8)
    for sign, label in ((True, cv2.GC_FGD), (False, cv2.GC_BGD)):
        labels[discs([(x, y) for x, y, positive in clicks if positive == sign], frame.size)] = label
    mask = _tidy(_grabcut(frame, labels), None)
    if mask.sum() < 0.05 * limit.sum():  # GrabCut may take all of it for background: the middle is the best guess left
        middle = (box.x0 + box.x1) / 2 * scale[1], (box.y0 + box.y1) / 2 * scale[0]
        mask = _around(frame, discs([middle], frame.size) & limit, ~limit, _REACHES)
    return _clicked(frame, mask & limit, clicks, others | ~limit)
