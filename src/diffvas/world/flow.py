"""Optical flow from poses and depth: exact, because every visible point is on a rigid geom whose motion is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffvas.world.clip import FLOW_LIMIT, FLOW_STEP

Array = np.ndarray
NEAREST = 1e-3  # metres; a point nearer to the camera plane, or behind it, has no pixel


@dataclass(frozen=True)
class Moment:
    """Where everything is in a frame.

    Attributes:
        intrinsics: (3, 3), K in pixels. camera: (4, 4), camera (OpenCV axes) to world. bodies: (B, 4, 4), to world;
            body 0 is the world, which does not move.
    """

    intrinsics: Array
    camera: Array
    bodies: Array


def poses(positions: Array, matrices: Array) -> Array:
    """(..., 4, 4) from positions (..., 3) and rotations (..., 3, 3)."""
    out = np.zeros((*positions.shape[:-1], 4, 4))
    out[..., :3, :3], out[..., :3, 3], out[..., 3, 3] = matrices, positions, 1
    return out


def forward_flow(depth: Array, bodies: Array, now: Moment, then: Moment) -> Array:
    """How far each visible point moves in the picture from one moment to another.

    Args:
        depth: (H, W) metres along the camera axis. bodies: (H, W) int, what is seen there; -1 is the sky, which is
            infinitely far away. now, then: the two moments; swap them in time for the backward flow.

    Returns:
        (H, W, 2) float32, pixels right and down, in steps of 1/64; NaN where the point leaves the view backwards or
        goes 512 pixels or farther.
    """
    height, width = depth.shape
    still = (now.bodies == then.bodies).all((1, 2))  # what rests moves as the world does
    numbers = np.append(np.where(still, 0, np.arange(len(still))), -1) + 1
    labels = numbers[bodies.reshape(-1)].astype(np.uint16)
    order = np.argsort(labels, kind="stable")  # a body's pixels side by side: the sky's, what rests, and the others
    ends = np.cumsum(np.bincount(labels, minlength=2))
    rested = np.array_equal(now.camera, then.camera) and np.array_equal(now.intrinsics, then.intrinsics)
    first = int(ends[1]) if rested else 0  # sky and world move only if the camera does
    order, ends = order[first:], ends - first
    y, x = np.divmod(order, width)
    rays, flat = np.stack([x + 0.5, y + 0.5, np.ones(len(order))], -1), depth.reshape(-1, 1)[order].astype(np.float64)
    landed = np.empty_like(rays)
    back, towards = np.linalg.inv(then.camera), np.linalg.inv(now.intrinsics)
    for label in np.flatnonzero(np.diff(ends, prepend=-first)):
        part = slice(max(0, ends[label - 1]) if label else 0, max(0, ends[label]))
        body = label - 1
        motion = then.bodies[body] @ np.linalg.inv(now.bodies[body]) if body > 0 else np.eye(4)
        move = back @ motion @ now.camera
        turned = rays[part] @ (then.intrinsics @ move[:3, :3] @ towards).T
        # only directions matter at infinity
        landed[part] = turned if body < 0 else turned * flat[part] + then.intrinsics @ move[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        flow = np.round((landed[:, :2] / landed[:, 2:] - rays[:, :2]) / FLOW_STEP) * FLOW_STEP
        lost = (landed[:, 2] < NEAREST) | ~(np.abs(flow) < FLOW_LIMIT).all(1)
    flow[lost] = np.nan
    out = np.zeros((height * width, 2), np.float32)
    out[order] = flow + 0.0  # no negative zeros
    return out.reshape(height, width, 2)
