"""What stands in front of an object, told from colour alone: for clips without depth.

A small network looks at the frame and at four others, at where the object is visible in them, and at what other frames
say of its shape; it gives the probability that something at least as near as the object is seen at a pixel, which is
what ``order.may_be_hidden`` reads off a depth map. Everything that depth is used for is then done with it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from diffvas.diffusion.pixel_net import PixelNet
from diffvas.types import F32, U8, Bool

AWAY = (4, 10)  # frames before and after that are looked at too
INPUTS = 4 * (1 + 2 * len(AWAY)) + 2
LEVEL = 0.5  # from which a pixel is taken to be in front
CHUNK = 32  # frames at a time


def front_input(
    rgb: U8, modal: Bool, recalled: F32, inside: Bool, at: NDArray[np.integer] | None = None
) -> torch.Tensor:
    """(N, 22, h, w) float32 in [-1, 1]: what the network sees of each frame.

    Args:
        rgb: (T, h, w, 3) uint8, in boxes that follow the object. modal: (T, h, w) bool, what is visible.
        recalled: (T, h, w) float32 in [0, 1], what other frames say of the shape (``shape_memory.in_grey``) with
            nothing known of what is in front. inside: (T, h, w) bool, what is in the frame.
        at: (N,) frame numbers; None = all.
    """
    here = np.arange(len(rgb)) if at is None else at
    aways = [0, *(sign * away for away in AWAY for sign in (-1, 1))]
    looks = [np.clip(here + away, 0, len(rgb) - 1) for away in aways]
    parts = [np.concatenate([rgb[t].transpose(0, 3, 1, 2) / np.float32(255), modal[t, None]], 1) for t in looks]
    parts.insert(3, np.stack([recalled[here], inside[here]], 1))
    return torch.from_numpy(2 * np.concatenate(parts, 1, dtype=np.float32) - 1)


@torch.inference_mode()
def in_front(net: PixelNet, rgb: U8, modal: Bool, recalled: F32, inside: Bool) -> F32:
    """(T, h, w) float32 in [0, 1], how likely something at least as near as the object is seen; see ``front_input``."""
    x = front_input(rgb, modal, recalled, inside).to(net.unet.device)
    parts = [net(part, torch.zeros(len(part), device=x.device)) for part in x.split(CHUNK)]
    return np.asarray(torch.sigmoid(torch.cat(parts)[:, 0]).cpu().numpy(), np.float32)


def pseudo_depth(front: F32, modal: Bool) -> F32:
    """(T, h, w) float32 in [0, 1], 1 = near: three layers, the object in the middle, as the networks know depth."""
    return np.asarray(np.where(modal, 0.5, front), np.float32)
