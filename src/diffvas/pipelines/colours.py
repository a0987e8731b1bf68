"""The finished colours of the hidden part, touched up by a small network on pixels.

``recall.py`` weighs what the frame itself and the other frames show by errors that it can measure; this network has
learned from scenes whose hidden colours are known how far each is to be trusted, and mends shade and seams. What it
changes is smooth, so that it looks at few pixels and its changes are grown to the source's size.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from diffvas import arrays
from diffvas.diffusion.pixel_net import PixelNet
from diffvas.pipelines.recall import Recalled
from diffvas.types import F32, U8, Bool

INPUTS = 15


def colour_input(
    frame_u8: U8, modal: Bool, amodal: Bool, found: Recalled, painted: F32, overall: F32, size: tuple[int, int]
) -> F32:
    """(15, h, w) float32 in [-1, 1]: what the network sees of a frame.

    Args:
        frame_u8: (H, W, 3), what a box shows. modal, amodal: (H, W) bool. found: from ``recall.fill``, of that size.
        painted: (a, b, 3) float32 in [0, 1], what stage 2 painted, of any size. overall: (3,) the object's mean colour.
        size: (h, w) that the network looks at.
    """
    whole = amodal | modal
    stack = np.where(whole[..., None], found.as_one(), np.concatenate([np.tile(overall, 3), [0]]).astype(np.float32))
    camera = frame_u8[modal] / np.float32(255)
    for first in (0, 3, 6):
        stack[modal, first : first + 3] = camera
    maps = np.concatenate([stack, modal[..., None], whole[..., None]], -1, dtype=np.float32)
    small = arrays.resize_float(np.ascontiguousarray(maps.transpose(2, 0, 1)), size)
    own = arrays.resize_float(np.ascontiguousarray(painted.transpose(2, 0, 1)), size)
    return 2 * np.concatenate([small, own]) - 1


@torch.inference_mode()
def touch_up(
    net: PixelNet,
    frame_u8: U8,
    modal: Bool,
    amodal: Bool,
    found: Recalled,
    painted: F32,
    overall: F32,
    size: tuple[int, int],
) -> F32:
    """(H, W, 3) float32 in [0, 1]: the finished picture; arguments as for :func:`colour_input`."""
    x = torch.from_numpy(colour_input(frame_u8, modal, amodal, found, painted, overall, size))[None]
    change = net(x.to(net.unet.device), torch.zeros(1, device=net.unet.device))[0].cpu().numpy().transpose(1, 2, 0)
    grown = cv2.resize(change / 2, modal.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray((found.colours + grown).clip(0, 1), np.float32)
