"""The finished mask: what stage 1 says, sharpened in pixels by a small network that also sees what it cannot hold.

A mask goes through the VAE at an eighth of its resolution. The round trip alone costs a fifth of the IoU of hidden
parts (``diffvas eval scenes --ceiling``): they are often thin, and their borders with what hides them are known. This
network gets the soft mask of stage 1, what is visible, what other frames say of the shape, what stands in front, and
where that is told from colours the colours themselves, and says for every pixel how likely it is of the object. When it
has said so of all frames, it is asked again, with what it said of this one and of the others (``carried.py``).
"""

from __future__ import annotations

import numpy as np
import torch

from diffvas.carried import LEAST
from diffvas.diffusion.pixel_net import PixelNet
from diffvas.shape_memory import SINGLY
from diffvas.types import F32, Bool

COLOURS = 3  # channels, told where there is no depth
# the last channels: what was said of this frame, and ``carried.carry`` of the others; 0 where nothing was said yet
AGAIN = 3
INPUTS = 7 + SINGLY + COLOURS + AGAIN  # see ``Seen.known``, the soft mask before and those after it
VISIBLE, ROOM, INSIDE = 1, 5, 6  # channels of yes and no: visible, room by depth, in the frame
BY_DEPTH, BY_COLOUR, UNTOLD = 0, 1, 2  # what tells of the things in front
HEARD = 0.02  # how many must say anything
LITTLE = 0.1  # of an object: where so much of it is visible, odds stay as they are; chosen as ``odds`` is, see the card


def finish(net: PixelNet, soft: F32, known: F32, mode: int, again: F32 | None = None) -> F32:
    """(N, h, w) float32 in [0, 1]: how likely each pixel is of the object.

    Args:
        soft: (N, h, w) float32 in [0, 1], masks of stage 1. known: (N, 18, h, w), see ``Seen.known``. mode: what tells
            of the things in front, one of the above. again: (N, ``AGAIN``, h, w), see :func:`what_was_said`; None
            where nothing was said yet.
    """
    if again is None:
        again = np.zeros((len(soft), AGAIN, *soft.shape[1:]), np.float32)
    seen = torch.from_numpy(np.concatenate([2 * soft[:, None] - 1, known, again], 1)).float()
    return net.likely_both_ways(seen, mode) if mode == BY_COLOUR else net.likely(seen, mode)


def what_was_said(said: F32, carried: F32) -> F32:
    """(N, ``AGAIN``, h, w) float32 in [-1, 1], for the network when it is asked again.

    Args:
        said: (N, h, w) float32 in [0, 1], its masks. carried: (N, 2, h, w), those of other frames, see ``carry``.
    """
    return np.concatenate([2 * said[:, None] - 1, carried], 1, dtype=np.float32)


def heed(said: F32, carried: F32, share: float) -> F32:
    """(N, h, w) float32 in [0, 1]: masks by the mean of their log-odds and those of other frames' masks, where there
    are any.

    Args:
        said, carried: see :func:`what_was_said`; one (1, 2, h, w) is for all of them. share: that the others have.
    """
    others = 2 * np.arctanh(carried[:, 0].clip(2 * LEAST - 1, 1 - 2 * LEAST))
    bounded = said.clip(LEAST, 1 - LEAST)
    odds = (1 - share) * np.log(bounded / (1 - bounded)) + share * others
    return np.asarray(np.where(carried[:, 1] > HEARD, 1 / (1 + np.exp(-odds)), said), np.float32)


def raise_odds(soft: F32, modal: Bool, odds: float) -> F32:
    """The same masks with better odds for every pixel the less of the object is visible.

    Where masks that are drawn reach an IoU of J, the one that is expected to reach most holds every pixel likelier than
    J / (1 + J). Masks are cut at one level, that of frames which show most of an object; where little is seen of it,
    its place is unsure and J is small.

    Args:
        soft: (K, h, w) float32 in [0, 1], samples of one frame. modal: (h, w) bool, what is visible.
        odds: what they are multiplied by where nothing is visible.
    """
    visible = float(modal.sum())
    share = visible / max(visible + float((soft.mean(0) * ~modal).sum()), 1.0)
    times = odds ** max(0.0, 1 - share / LITTLE)
    return np.asarray(times * soft / (1 + (times - 1) * soft), np.float32)
