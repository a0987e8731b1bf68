"""Quaternions, real part first, as far as scenes need them."""

from __future__ import annotations

import numpy as np


def rotation(vector: np.ndarray) -> np.ndarray:
    """(4,) quaternion of a rotation vector (3,) in radians."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.array([1.0, 0.0, 0.0, 0.0])
    return np.concatenate([[np.cos(angle / 2)], np.sin(angle / 2) * np.asarray(vector) / angle])


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(4,) product of two quaternions: first turn by b, then by a."""
    return np.array([a[0] * b[0] - a[1:] @ b[1:], *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))])


def turned(quat: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) turned by a quaternion (4,)."""
    w, v = quat[0], quat[1:]
    return points + 2 * np.cross(v, np.cross(v, points) + w * points)


def from_axes(right: np.ndarray, up: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(4,) quaternion that turns x, y, z into three orthonormal axes (3,) of a right-handed frame."""
    m = np.stack([right, up, back], axis=1)
    w, x, y, z = candidates = np.array([m.trace(), *(2 * np.diagonal(m) - m.trace())])
    largest = int(np.argmax(candidates))  # divide by the largest component, which is never near nought
    if largest == 0:
        quat = np.array([1 + w, m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]])
    elif largest == 1:
        quat = np.array([m[2, 1] - m[1, 2], 1 + x, m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]])
    elif largest == 2:
        quat = np.array([m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 + y, m[1, 2] + m[2, 1]])
    else:
        quat = np.array([m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 + z])
    return quat / np.linalg.norm(quat)
