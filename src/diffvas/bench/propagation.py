"""The content baseline of flow-guided video inpainting: pixels carried along optical flow to where they are hidden."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from diffvas.metrics import mean_colour_fill

Array = np.ndarray
SCALES = (2.0, 8.0, 32.0)  # pixels over which the flow of what is visible is spread, the next where the one before ends


def propagate(rgb: Array, modal: Array, amodal: Array) -> Array:
    """(T, H, W, 3) uint8: the hidden part with the object's pixels of the nearest frames before and after.

    Flow (DIS, Kroeger et al. 2016) is known where the object is visible and spread over its hidden part; a hidden pixel
    is followed along it, frame by frame, until it is visible. Of two that are found so, before and after, the nearer
    one counts more; where nothing is found, the mean visible colour is left.

    Args:
        rgb: (T, H, W, 3) uint8. modal, amodal: (T, H, W) bool, visible in one frame at least.
    """
    out = mean_colour_fill(rgb, modal)
    hidden = amodal & ~modal
    total = np.zeros((*modal.shape, 1), np.float32)
    colours = np.zeros(rgb.shape, np.float32)
    for step in (1, -1):
        carried, age = _carry(rgb[::step], modal[::step], hidden[::step])
        weight = np.where(np.isfinite(age), 1 / age, 0)[::step, ..., None]
        colours += weight * carried[::step]
        total += weight
    found = hidden & (total[..., 0] > 0)
    out[found] = (colours[found] / total[found]).round().clip(0, 255).astype(np.uint8)
    return out


def _carry(rgb: Array, modal: Array, hidden: Array) -> tuple[Array, Array]:
    """Colours (T, H, W, 3) of hidden pixels from frames before, and how many frames ago that was, inf where never."""
    height, width = modal.shape[1:]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    flows: Any = cv2  # its stubs lack the class
    dis = flows.DISOpticalFlow_create(flows.DISOPTICAL_FLOW_PRESET_MEDIUM)
    carried, age = np.zeros(rgb.shape, np.float32), np.full(modal.shape, np.inf, np.float32)
    before = cv2.cvtColor(rgb[0], cv2.COLOR_RGB2GRAY)
    for t in range(1, len(rgb)):
        grey = cv2.cvtColor(rgb[t], cv2.COLOR_RGB2GRAY)
        if hidden[t].any():
            there = grid + _spread(dis.calc(grey, before, None), modal[t])
            # what was visible in the frame before, or had been carried there
            source = np.where(modal[t - 1][..., None], rgb[t - 1].astype(np.float32), carried[t - 1])
            since = np.where(modal[t - 1], 1.0, age[t - 1] + 1).astype(np.float32)
            known = np.isfinite(since).astype(np.float32)
            share = cv2.remap(known, there, None, cv2.INTER_LINEAR)
            picked = cv2.remap(source * known[..., None], there, None, cv2.INTER_LINEAR)
            ages = cv2.remap(np.where(known > 0, since, 0).astype(np.float32), there, None, cv2.INTER_LINEAR)
            use = hidden[t] & (share > 0.5)
            carried[t][use] = picked[use] / share[use][:, None]
            age[t][use] = ages[use] / share[use]
        before = grey
    return carried, age


def _spread(flow: Array, modal: Array) -> Array:
    """(H, W, 2): flow where the object is visible, and spread over its surroundings; none where nothing is visible."""
    seen = modal.astype(np.float32)
    total, out, weight = np.full(modal.shape, 1e-12, np.float32), np.zeros_like(flow), 1.0
    for scale in SCALES:
        out += weight * cv2.GaussianBlur(flow * seen[..., None], (0, 0), scale)
        total += weight * cv2.GaussianBlur(seen, (0, 0), scale)
        weight *= 1e-3
    return np.where(modal[..., None], flow, out / total[..., None]).astype(np.float32)
