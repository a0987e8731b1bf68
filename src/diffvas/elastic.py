"""Elastic registration of masks: a smooth field of shifts lays one over another where both are known.

A turn and a shift leave limbs that swing, and what turns in depth, a few pixels beside each other. Here every place may
shift by itself, as the outlines around it ask, and what is hidden shifts with what is seen near it. Least squares in
windows (Lucas and Kanade 1981) in which each pixel counts as surely as both frames know of it (normalised convolution,
Knutsson and Westin 1993), from coarse to fine.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn import functional as F

# chosen on scenes of the validation split by the score of the votes alone (``shape_memory``), which with depth
# ``diffvas eval scenes`` prints. All lengths are pixels of the grid.
GRID = 48  # pixels of the longer side at which shifts are sought
PLAN = ((1.5, 8.0, 3), (0.5, 3.0, 8))  # how far masks are blurred, how far a window reaches (sigmas), and how often
SMOOTH = 2.0  # of the field after every step (sigma)
STIFF = 0.005  # least curvature of the error in a window: where nothing tells, nothing shifts
PULL = 0.1  # back to the rigid fit, of that
FARTHEST = 4.0  # that a place may shift
SURE = 3  # power at which a pixel counts by how sure both frames are of it
LITTLE = 0.01  # of a window that is known: below, nothing is


def bend(
    seen: torch.Tensor, unseen: torch.Tensor, there: torch.Tensor, absent: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of one frame as they lie over others when they are bent to fit.

    Args:
        seen, unseen: (N, h, w) float32 in [0, 1], where the object is and where it is not, laid rigidly over N frames.
        there, absent: (N, h, w), the same of these N frames as they see it; 0 in both is not known.

    Returns:
        ``seen`` and ``unseen``, bent.
    """
    bent = warp(torch.stack([seen, unseen], 1), shifts(seen, unseen, there, absent))
    return bent[:, 0], bent[:, 1]


def shifts(seen: torch.Tensor, unseen: torch.Tensor, there: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
    """(N, 2, h, w): from where (x, y) each place takes what is laid over it, in pixels; see :func:`bend`."""
    height, width = seen.shape[1:]
    shrink = max(1.0, max(height, width) / GRID)
    size = max(2, round(height / shrink)), max(2, round(width / shrink))
    field = find_field(*(F.interpolate(x[:, None], size, mode="area")[:, 0] for x in (seen, unseen, there, absent)))
    full = F.interpolate(field, (height, width), mode="bilinear", align_corners=False)
    return full * torch.tensor([width / size[1], height / size[0]])[:, None, None]


def find_field(seen: torch.Tensor, unseen: torch.Tensor, there: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
    """(N, 2, h, w): :func:`shifts` of masks that are at the grid's size already."""
    one, other = seen + unseen, there + absent
    field = torch.zeros(len(seen), 2, *seen.shape[1:])
    whole = blur(torch.ones(seen.shape[1:]), SMOOTH)
    for blurred, window, times in PLAN:
        source, target = (
            blur(yes - no, blurred) / (blur(known, blurred) + LITTLE)
            for yes, no, known in ((seen, unseen, one), (there, absent, other))
        )
        for _ in range(times):
            now, known = warp(torch.stack([source, one], 1), field).unbind(1)
            counts, error = (known * other) ** SURE, target - now
            down, right = torch.gradient(now, dim=(1, 2))
            terms = (right * right, right * down, down * down, right * error, down * error)
            xx, xy, yy, x, y = blur(torch.stack([counts * term for term in terms]), window)
            xx, yy = xx + STIFF, yy + STIFF
            x, y = (b - STIFF * PULL * field[:, axis] for axis, b in enumerate((x, y)))
            step = torch.stack([yy * x - xy * y, xx * y - xy * x], 1) / (xx * yy - xy * xy)[:, None]
            field = blur(field + step, SMOOTH) / whole
            field *= (FARTHEST / torch.hypot(field[:, 0], field[:, 1]).clamp(min=FARTHEST))[:, None]
    return field


def warp(images: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w): images, likewise, seen through a field (N, 2, h, w) of shifts (x, y); 0 beyond their borders."""
    height, width = images.shape[2:]
    x = torch.arange(width) + field[:, 0]
    y = torch.arange(height)[:, None] + field[:, 1]
    at = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], -1)
    return F.grid_sample(images, at, mode="bilinear", padding_mode="zeros", align_corners=True)


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """(..., h, w) blurred by a Gaussian, 0 beyond the borders; as products with matrices, since images are small."""
    return _gaussian(images.shape[-2], sigma) @ images @ _gaussian(images.shape[-1], sigma)


@lru_cache
def _gaussian(count: int, sigma: float) -> torch.Tensor:
    """(count, count): row i is a Gaussian about i, cut at its borders; a whole one adds up to 1."""
    reach = int(2.5 * sigma + 1)
    at = torch.arange(count)
    far = (at[:, None] - at).abs()
    kernel = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    return torch.exp(-far.square() / (2 * sigma**2)) * (far <= reach) / kernel.sum()
