"""Frames of prepared examples turned, stretched, zoomed and moved a little: more frames than anyone prepares.

Every channel and the truth go together, so what the network has to find stays what it is.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

SHARE = 0.8  # of the frames; the others stay to the pixel what the pipelines make
TURN = math.radians(8)
ZOOM, STRETCH = 0.15, 0.08  # of the logarithms of the size, and of height against width
SHIFT = 0.06  # of the sides


def random_warps(count: int, rng: np.random.Generator) -> torch.Tensor:
    """(count, 2, 3) float32 affine maps from where pixels go to where they come from, in units of half a side."""
    turn, zoom, stretch = (rng.uniform(-most, most, count) for most in (TURN, ZOOM, STRETCH))
    shift = rng.uniform(-2 * SHIFT, 2 * SHIFT, (count, 2))
    stays = rng.random(count) >= SHARE
    turn[stays], zoom[stays], stretch[stays], shift[stays] = 0, 0, 0, 0
    wide, high = np.exp(zoom + stretch / 2), np.exp(zoom - stretch / 2)
    rows = [
        np.stack([wide * np.cos(turn), -high * np.sin(turn), shift[:, 0]], 1),
        np.stack([wide * np.sin(turn), high * np.cos(turn), shift[:, 1]], 1),
    ]
    return torch.from_numpy(np.stack(rows, 1).astype(np.float32))


def warp(pictures: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w): pictures drawn anew, bilinearly; beyond their borders they go on as they are there."""
    grid = F.affine_grid(maps, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def within(size: tuple[int, int], maps: torch.Tensor) -> torch.Tensor:
    """(N, h, w) bool: which pixels come from within the picture."""
    grid = F.affine_grid(maps, [len(maps), 1, *size], align_corners=False)
    return (grid.abs() <= 1).all(-1)
