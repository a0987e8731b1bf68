"""Finished masks of other frames, carried to each one: label propagation along elastic registration.

Every frame is finished by itself, by what other frames show of the object (``shape_memory.py``). Where none shows a
part, each makes a guess of its own, and guesses of neighbours differ. So once all frames have said what the whole
object may be, these masks are laid over each other as visible ones were. They hold more of it, fit better, and what
most of them agree on is more likely than what one says.
"""

from __future__ import annotations

import numpy as np
import torch

from diffvas import elastic
from diffvas.shape_memory import find_fits, fit_of_known, lay
from diffvas.types import F32, Bool

# two or three values of each were tried on validation scenes, by the mIoU_occ of the mean of what a frame and the
# others say; little depends on them
PACE = 8.0  # frames after which a mask counts a third
TRUST = 5.0  # how fast it loses weight where masks do not fit
LEAST = 1e-3  # odds of a pixel never count for more than those of this chance, or of one less it


def carry(soft: F32, modal: Bool, inside: Bool | None, told: Bool | None = None) -> F32:
    """(T, 2, h, w) float32: what other frames' masks say of each frame's pixels, from -1 (not of the object) to 1 (of
    it), by the mean of their odds; and how many say so, in [0, 1), one that fits and is near being a half.

    Args:
        soft: (T, h, w) float32 in [0, 1], how likely each pixel is of the object, in boxes that follow it.
        modal: (T, h, w) bool, what is visible. inside: (T, h, w) bool, what is in the frame; None = all of it.
        told: (T,) bool, frames whose masks are known; None = all.
    """
    whole = np.maximum(soft, modal).astype(np.float32)
    seen = np.ones_like(whole) if inside is None else inside.astype(np.float32)
    seen = seen if told is None else seen * told[:, None, None]
    there, absent = ((2 * p - 1).clip(0, 1) * seen for p in (whole, 1 - whole))
    bounded = whole.clip(LEAST, 1 - LEAST)
    images = np.stack([np.log(bounded / (1 - bounded)) * seen, seen, there, absent], -1)
    odds, known = np.zeros_like(whole), np.zeros_like(whole)
    for source, fits in find_fits(there, absent).items():
        at = [target for target in fits if target != source]
        if not at:
            continue
        over = torch.from_numpy(np.stack([lay(images[source], fits[target]) for target in at])).permute(0, 3, 1, 2)
        yes, no = torch.from_numpy(there[at]), torch.from_numpy(absent[at])
        over = elastic.warp(over, elastic.shifts(over[:, 2], over[:, 3], yes, no))
        iou = fit_of_known(over[:, 2], over[:, 3], yes, no)
        weight = torch.exp(-torch.tensor(np.abs(np.array(at) - source)) / PACE + TRUST * (iou - 1))[:, None, None]
        odds[at] += (weight * over[:, 0]).numpy()
        known[at] += (weight * over[:, 1]).numpy()
    says = np.tanh(odds / (2 * known + 1e-6))  # of mean odds x, 2 sigmoid(x) - 1
    return np.stack([says, known / (known + 1)], 1).astype(np.float32)
