"""Procedural textures: two colours and a pattern become an RGB tile."""

from __future__ import annotations

import numpy as np

from diffvas.world.spec import Texture

TEXTURE_KINDS = (
    "flat",
    "checker",
    "gradient",
    "noise",
    "stripes",
    "spots",
    "bricks",
    "planks",
    "grass",
    "marble",
    "wood",
    "fabric",
    "plaid",
    "patches",
    "tiles",
    "clouds",
)


def paint(texture: Texture, side: int = 64) -> np.ndarray:
    """(side, side, 3) uint8 tile of a texture; most kinds tile without a seam.

    Raises:
        ValueError: an unknown kind.
    """
    if texture.kind not in TEXTURE_KINDS:
        raise ValueError(f"texture.kind: expected one of {TEXTURE_KINDS}, got {texture.kind!r}")
    first, second = (np.asarray(c) for c in texture.colours)
    if texture.kind == "flat":
        return np.full((side, side, 3), np.clip(255 * first + 0.5, 0, 255).astype(np.uint8))
    share = _pattern(texture, side)[..., None]
    return np.clip(255 * (first * (1 - share) + second * share) + 0.5, 0, 255).astype(np.uint8)


def _pattern(texture: Texture, side: int) -> np.ndarray:
    """(side, side) float64 in [0, 1]: how much of the second colour each texel has."""
    rng = np.random.default_rng(texture.seed)
    y, x = np.mgrid[0:side, 0:side] / side
    count = max(1, round(texture.scale))
    if texture.kind in _MATTER:
        return _MATTER[texture.kind](rng, x, y, count)
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


def _marble(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Thin veins where a bent wave passes through nought."""
    warp = smooth_noise(rng, len(x), 2.0 + count / 2)
    return np.clip(1.4 * np.abs(np.sin(np.pi * (count * (x + y) + 3 * warp))) ** 0.4 - 0.2, 0, 1)


def _wood(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Year rings, cut along the trunk."""
    warp = smooth_noise(rng, len(x), 1.5)
    grain = np.sin(2 * np.pi * (2 * count * x + 1.5 * warp + 0.3 * np.sin(2 * np.pi * y)))
    return np.clip(0.5 + 0.35 * grain + 0.3 * (rng.random(len(x))[None] - 0.5), 0, 1)


def _fabric(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """A weave of threads over uneven dye."""
    threads = np.sin(2 * np.pi * 4 * count * x) * np.sin(2 * np.pi * 4 * count * y)
    return np.clip(0.35 + 0.25 * threads + 0.4 * smooth_noise(rng, len(x), 3), 0, 1)


def _plaid(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Bands of two widths that cross."""
    wide, thin = rng.uniform(0.2, 0.6), rng.uniform(0.04, 0.15)
    bands = [0.45 * (v * count % 1 < wide) + 0.3 * ((v * count + 0.5) % 1 < thin) for v in (x, y)]
    return np.clip(bands[0] + bands[1], 0, 1)


def _patches(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Cells around random points, each of its own tone: stones, scales, camouflage, leaves."""
    points, coarse = rng.random((min(count * count + 2, 40), 2)), max(1, len(x) // 32)  # cells need no fine grid
    gap = np.abs(np.stack([x, y], -1)[::coarse, ::coarse, None] - points)
    nearest = np.square(np.minimum(gap, 1 - gap)).sum(-1).argmin(-1)
    tone = rng.random(len(points))[nearest]
    return tone.repeat(coarse, 0).repeat(coarse, 1)[: len(x), : len(x)]


def _tiles(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Square tiles of uneven tone with joints."""
    row, column = (np.floor(v * count).astype(int) % count for v in (y, x))
    tone = 0.5 * rng.random((count, count))[row, column]
    return np.where((x * count % 1 < 0.05) | (y * count % 1 < 0.05), 1.0, tone)


def _clouds(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Heaps of white on a sky that pales towards its lower edge."""
    heap = 0.6 * smooth_noise(rng, len(x), count) + 0.4 * smooth_noise(rng, len(x), 3 * count)
    return np.clip(0.45 * y + 2.2 * np.clip(heap - rng.uniform(0.4, 0.6), 0, 1), 0, 1)


_MATTER = {
    "marble": _marble,
    "wood": _wood,
    "fabric": _fabric,
    "plaid": _plaid,
    "patches": _patches,
    "tiles": _tiles,
    "clouds": _clouds,
}


def smooth_noise(rng: np.random.Generator, side: int, cells: float) -> np.ndarray:
    """(side, side) float64 in [0, 1]: white noise blurred to about ``cells`` blobs across, periodic."""
    frequency = np.fft.fftfreq(side) * side
    distance2 = frequency[:, None] ** 2 + frequency[None] ** 2
    spectrum = np.fft.fft2(rng.standard_normal((side, side))) * np.exp(-distance2 / (2 * cells**2))
    value = np.fft.ifft2(spectrum).real
    low, high = value.min(), value.max()
    return (value - low) / max(high - low, 1e-9)
