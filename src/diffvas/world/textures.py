"""Procedural textures: two colours and a pattern become an RGB tile."""

from __future__ import annotations

import numpy as np

from diffvas.world.spec import Texture

TEXTURE_KINDS = ("flat", "checker", "gradient", "noise", "stripes", "spots", "bricks", "planks", "grass")


def paint(texture: Texture, side: int = 64) -> np.ndarray:
    """(side, side, 3) uint8 tile of a texture; it tiles without a seam except for the gradient.

    Raises:
        ValueError: an unknown kind.
    """
    if texture.kind not in TEXTURE_KINDS:
        raise ValueError(f"texture.kind: expected one of {TEXTURE_KINDS}, got {texture.kind!r}")
    share = _pattern(texture, side)[..., None]
    first, second = (np.asarray(c) for c in texture.colours)
    return np.clip(255 * (first * (1 - share) + second * share) + 0.5, 0, 255).astype(np.uint8)


def _pattern(texture: Texture, side: int) -> np.ndarray:
    """(side, side) float64 in [0, 1]: how much of the second colour each texel has."""
    rng = np.random.default_rng(texture.seed)
    y, x = np.mgrid[0:side, 0:side] / side
    count = max(1, round(texture.scale))
    if texture.kind == "flat":
        return np.zeros((side, side))
    if texture.kind == "gradient":
        return y
    if texture.kind == "checker":
        return ((np.floor(x * 2 * count) + np.floor(y * 2 * count)) % 2).astype(np.float64)
    if texture.kind == "stripes":
        return (np.sin(2 * np.pi * (count * x + rng.integers(0, 3) * y)) > rng.uniform(-0.5, 0.5)).astype(np.float64)
    if texture.kind == "spots":
        return (smooth_noise(rng, side, 2.0 * count) > rng.uniform(0.5, 0.65)).astype(np.float64)
    if texture.kind == "bricks":
        row = np.floor(y * 2 * count)
        joint = (np.abs(y * 2 * count % 1 - 0.5) > 0.4) | (np.abs((x * count + row / 2) % 1 - 0.5) > 0.45)
        return np.where(joint, 1.0, 0.35 * smooth_noise(rng, side, 12))
    if texture.kind == "planks":
        tone = rng.uniform(0, 0.6, size=count)[np.floor(x * count).astype(int) % count]
        return np.where(x * count % 1 < 0.06, 1.0, tone + 0.4 * smooth_noise(rng, side, 16))
    if texture.kind == "grass":
        return 0.5 * smooth_noise(rng, side, 24) + 0.5 * rng.random((side, side))
    return sum(w * smooth_noise(rng, side, count * f) for w, f in ((0.55, 1), (0.3, 2.5), (0.15, 6)))


def smooth_noise(rng: np.random.Generator, side: int, cells: float) -> np.ndarray:
    """(side, side) float64 in [0, 1]: white noise blurred to about ``cells`` blobs across, periodic."""
    frequency = np.fft.fftfreq(side) * side
    distance2 = frequency[:, None] ** 2 + frequency[None] ** 2
    spectrum = np.fft.fft2(rng.standard_normal((side, side))) * np.exp(-distance2 / (2 * cells**2))
    value = np.fft.ifft2(spectrum).real
    low, high = value.min(), value.max()
    return (value - low) / max(high - low, 1e-9)
