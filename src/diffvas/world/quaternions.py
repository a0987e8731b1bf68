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
    aw, ax, ay, az = (float(v) for v in a)
    bw, bx, by, bz = (float(v) for v in b)
    return np.array(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ]
    )


def matrices(quats: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation matrices of quaternions (..., 4)."""
    w, x, y, z = np.moveaxis(np.asarray(quats, float), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def turned(quat: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) turned by a quaternion (4,)."""
    w, x, y, z = (float(v) for v in quat)  # plain numbers: this is called for every part of every figure
    if w == 1.0:
        return np.asarray(points, float)
    transposed = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
            [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
            [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return np.asarray(points) @ transposed


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
