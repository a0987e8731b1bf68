"""Where the object is seen in other frames, with the camera's motion taken out: what stands there is behind it.

An object that walks past a wall covers it, and so shows that the wall is farther away than itself; what hides the
object is never covered by it. The camera's motion from frame to frame is a turn, a zoom and a shift that most corners
around the object agree on (Lucas-Kanade tracks, RANSAC), where there are such; else it is taken to stand still. Things
that move by themselves come where the object was, too: so this is a hint to ``front``, not a rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.focus import Box
from diffvas.types import F32, U8, Bool

REACH = 24  # frames before and after that count
CORNERS, APART, QUALITY = 200, 5, 0.005  # most corners of a picture, pixels between them, and the weakest of the best
LEAST = 8  # corners that must agree
CLOSE = 0.5  # pixels, corners that agree move alike to this
STANDS = 0.3  # share of the corners that must stay where they are for a camera that stands still
RIM = 4  # pixels around the object where corners may be its own

Map = NDArray[np.float64]  # (3, 3), homogeneous


def swept(rgb: U8, modal: Bool, shown: Bool, boxes: Sequence[Box]) -> F32:
    """(T, H, W) float32 in [0, 1]: where other frames show the object and this one something else.

    Args:
        rgb: (T, H, W, 3) uint8, in ``boxes``. modal: (T, H, W) bool. shown: (T, H, W) bool, what is in the frame.
        boxes: (T,), what the pictures show of the frames.
    """
    size = (rgb.shape[1], rgb.shape[2])
    inner = np.ones((3, 3), np.uint8)
    bodies = [
        cv2.erode(mask.astype(np.uint8) * 255, inner) for mask in modal
    ]  # outlines are a pixel off here and there
    out = np.zeros(modal.shape, np.uint8)
    places = _places(camera_steps(rgb, modal, shown, boxes))
    for t, place in enumerate(places):
        back = np.linalg.inv(place)
        for s in range(max(0, t - REACH), min(len(places), t + REACH + 1)):
            if s != t and bodies[s].any():
                laid = cv2.warpAffine(bodies[s], (back @ places[s])[:2], size[::-1], flags=cv2.INTER_LINEAR)
                np.maximum(out[t], laid, out=out[t])
    return np.where(modal, np.float32(0), out.astype(np.float32) / 255)


def camera_steps(rgb: U8, modal: Bool, shown: Bool, boxes: Sequence[Box]) -> list[Map]:
    """From each picture's pixels to those of the next one, as what does not move by itself goes."""
    size = (rgb.shape[1], rgb.shape[2])
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in rgb]
    in_frame = [_to_frame(box, size) for box in boxes]
    around = np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)
    steps = []
    for t in range(len(rgb) - 1):
        still = np.linalg.inv(in_frame[t + 1]) @ in_frame[t]  # a camera that does not move
        free = shown[t] & (cv2.dilate(modal[t].astype(np.uint8), around) == 0)
        corners = cv2.goodFeaturesToTrack(grey[t], CORNERS, QUALITY, APART, mask=free.astype(np.uint8) * 255)
        steps.append(_agree(grey[t], grey[t + 1], corners, still) @ still)
    return steps


def _agree(first: U8, then: U8, corners: F32 | None, still: Map) -> Map:
    """What most corners do beside ``still``; nothing where few agree."""
    if corners is None or len(corners) < LEAST:
        return np.eye(3)
    guess = cv2.transform(corners, still[:2]).astype(np.float32)
    found, known, _ = cv2.calcOpticalFlowPyrLK(
        first, then, corners, guess.copy(), winSize=(11, 11), maxLevel=2, flags=cv2.OPTFLOW_USE_INITIAL_FLOW
    )
    guess, found = guess[known[:, 0] > 0], found[known[:, 0] > 0]
    stay = np.linalg.norm(found - guess, axis=-1) < CLOSE
    if len(found) < LEAST or stay.mean() >= STANDS:
        return np.eye(3)  # small errors of frame after frame would add up
    cv2.setRNGSeed(0)  # the same answer every time
    moved, agree = cv2.estimateAffinePartial2D(guess, found, ransacReprojThreshold=CLOSE)
    if moved is None or agree.sum() < LEAST:
        return np.eye(3)
    return np.vstack([moved, [0.0, 0.0, 1.0]])


def _to_frame(box: Box, size: tuple[int, int]) -> Map:
    """From pixels of a picture of ``size`` to those of the frame that its box lies in."""
    down, right = box.size[0] / size[0], box.size[1] / size[1]
    return np.array([[right, 0, box.left + right / 2 - 0.5], [0, down, box.top + down / 2 - 0.5], [0, 0, 1.0]])


def _places(steps: Sequence[Map]) -> list[Map]:
    """From every picture's pixels to those of the first."""
    places = [np.eye(3)]
    for step in steps:
        places.append(places[-1] @ np.linalg.inv(step))
    return places
