"""How ``classic`` gets its first mask from a prompt: click by click, or by GrabCut (Rother et al. 2004) in a box."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from diffvas.perception.classic_click import REACHES, Moment, around, grabcut, tidy
from diffvas.perception.classic_looks import NOWHERE, Appearance, Frame, features_at, pick, scores_at
from diffvas.perception.prompts import BoxPrompt, FramePrompts
from diffvas.types import F32, Bool


def _clicked(
    moment: Moment, frame: Frame, mask: Bool, clicks: Sequence[tuple[float, float, bool]], others: Bool
) -> Bool:
    """A mask after clicks (x, y, positive), one by one: each that it contradicts adds or takes what is around it."""
    spots = [(discs([(x, y)], frame.size), positive) for x, y, positive in clicks]
    sides = {
        sign: discs([(x, y) for x, y, positive in clicks if positive == sign], frame.size) for sign in (True, False)
    }
    for (x, y, positive), (spot, _) in zip(clicks, spots, strict=True):
        if mask[min(int(y), frame.size[0] - 1), min(int(x), frame.size[1] - 1)] == positive:
            continue
        against = (sides[not positive] | others if positive else sides[True]) & ~spot
        piece = around(moment, frame, spot, against, REACHES[:3] if mask.any() else REACHES)
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
    moment: Moment, frame: Frame, prompts: FramePrompts, scale: tuple[float, float], others: Bool, prior: F32 | None
) -> Bool:
    """What is visible of an object in a prompted frame.

    Args:
        moment, frame: the frame, for guesses and at working size (h, w). prompts: in pixels of the clip. scale: working
            pixels per pixel, (y, x).
        others: (h, w) bool, what prompts give to other objects. prior: (h, w) log odds of tracking, if there are any.
    """
    height, width = frame.size
    if prompts.mask is not None:
        share = cv2.resize(prompts.mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        return share >= min(0.5, float(share.max()))
    clicks = [(p.x * scale[1], p.y * scale[0], p.positive) for p in prompts.points]
    if prompts.box is None:
        mask = np.zeros(frame.size, bool) if prior is None else prior > 0
        return _clicked(moment, frame, mask, sorted(clicks, key=lambda click: not click[2]), others)
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
    mask = tidy(grabcut(frame.rgb, labels), None)
    if mask.sum() < 0.05 * limit.sum():  # GrabCut may take all of it for background: the middle is the best guess left
        middle = (box.x0 + box.x1) / 2 * scale[1], (box.y0 + box.y1) / 2 * scale[0]
        mask = around(moment, frame, discs([middle], frame.size) & limit, ~limit)
    return _clicked(moment, frame, mask & limit, clicks, others | ~limit)
