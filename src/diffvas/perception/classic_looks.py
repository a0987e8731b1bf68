"""What ``classic`` knows of a frame: its colours and textures, its edges, its motion from the frame before, and how to
tell an object from the rest by what it looks like."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.types import F32, U8, Bool

F64 = NDArray[np.float64]

NOWHERE = np.zeros((2, 3))  # the pose that leaves places out
_FOURIER = 256  # random features
_RECENT = 0.2  # what was tracked weighs this much of what was prompted


# ---------------------------------------------------------------------------------------------------------------------
# what is known of a frame


def _box(x: F32, radius: int) -> F32:
    return cv2.boxFilter(x, -1, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)


class Guide:
    """A guided filter with a colour guide; what does not depend on the input is computed once per frame."""

    def __init__(self, guide: F32, radius: int, eps: float) -> None:
        self.guide, self.radius = guide, radius
        self.mean = _box(guide, radius)
        pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
        raw = _box(np.stack([guide[..., i] * guide[..., j] for i, j in pairs[:3]], -1), radius)
        raw2 = _box(np.stack([guide[..., i] * guide[..., j] for i, j in pairs[3:]], -1), radius)
        cov = {}
        for k, (i, j) in enumerate(pairs):
            values = raw[..., k] if k < 3 else raw2[..., k - 3]
            cov[i, j] = values - self.mean[..., i] * self.mean[..., j] + (eps if i == j else 0.0)
        a, b, c, d, e, f = (cov[p] for p in pairs)
        minors = d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b
        det = a * minors[0] + b * minors[1] + c * minors[2]
        self.inverse = [minor / det for minor in minors]  # 00 01 02 11 12 22

    def coefficients(self, x: F32) -> F32:
        """(h, w, 4): the filtered ``x`` is the first three times the guide, plus the last."""
        mean = _box(x, self.radius)
        cov = _box(self.guide * x[..., None], self.radius) - self.mean * mean[..., None]
        i00, i01, i02, i11, i12, i22 = self.inverse
        c0, c1, c2 = cov[..., 0], cov[..., 1], cov[..., 2]
        slope = np.stack(
            [i00 * c0 + i01 * c1 + i02 * c2, i01 * c0 + i11 * c1 + i12 * c2, i02 * c0 + i12 * c1 + i22 * c2], -1
        )
        offset = mean - (slope * self.mean).sum(-1)
        return _box(np.concatenate([slope, offset[..., None]], -1), self.radius)

    def __call__(self, x: F32) -> F32:
        k = self.coefficients(x)
        return (k[..., :3] * self.guide).sum(-1) + k[..., 3]


class Frame:
    """A frame at working size, and what is computed of it when first needed."""

    def __init__(self, rgb_u8: U8, size: tuple[int, int]) -> None:
        height, width = size
        shrinks = height < rgb_u8.shape[0]
        self.rgb: U8 = cv2.resize(
            rgb_u8, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        self.size = size

    @cached_property
    def lab(self) -> F32:
        lab: F32 = cv2.cvtColor(self.rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / np.float32(100)
        return lab

    @cached_property
    def grey(self) -> U8:
        return cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY)

    @cached_property
    def guide(self) -> Guide:
        return Guide(self.lab, radius=max(2, round(max(self.size) / 120)), eps=2e-4)

    @cached_property
    def features(self) -> F32:
        """(h, w, 11) float32: Lab sharp, and blurred twice; how rough lightness is."""
        scale = max(self.size) / 480
        fine, coarse = (cv2.GaussianBlur(self.lab, (0, 0), s * scale) for s in (2.0, 6.0))
        light = self.lab[..., 0]
        rough = []
        for s in (1.5, 5.0):
            mean, square = (
                cv2.GaussianBlur(light, (0, 0), s * scale),
                cv2.GaussianBlur(light * light, (0, 0), s * scale),
            )
            rough.append(np.sqrt(np.maximum(square - mean * mean, 0)))
        colour = np.array([1.0, 1.6, 1.6], np.float32)
        parts = [self.lab * colour * 4.0, fine * colour * 4.0, coarse * colour * 3.0, np.stack(rough, -1) * 6.0]
        return np.concatenate(parts, -1)


# ---------------------------------------------------------------------------------------------------------------------
# appearance


_RNG = np.random.default_rng(20240607)
_WAVES = _RNG.standard_normal((13, _FOURIER)).astype(np.float32)
_PHASES = _RNG.uniform(0, 2 * np.pi, _FOURIER).astype(np.float32)
_WAVES = np.concatenate([_WAVES, _RNG.standard_normal((4, _FOURIER)).astype(np.float32)])  # of motion, where known
_PLACE = 1.2  # weight of the place in the object among the features


def _fourier(x: F32) -> F32:
    """(n, 13 or more) to (n, D)."""
    waves: F32 = np.cos(x @ _WAVES[: x.shape[1]] + _PHASES)
    return waves * np.float32(np.sqrt(2.0 / _FOURIER))


@dataclass
class Appearance:
    """Ridge regression of +1 (object) and -1 (not); sums from prompts are kept, those of later frames fade."""

    fixed: list[F64] = field(default_factory=lambda: [np.zeros((_FOURIER, _FOURIER)), np.zeros(_FOURIER)])
    recent: list[F64] = field(default_factory=lambda: [np.zeros((_FOURIER, _FOURIER)), np.zeros(_FOURIER)])
    weights: F32 | None = None

    def learn(self, x: F32, labels: Bool, *, prompted: bool) -> None:
        """Add pixels: (n, 13 to 17) features and (n,) labels; the two classes get equal weight."""
        count = int(labels.sum())
        if count == 0 or count == len(labels):
            return
        phi = _fourier(x)
        weight = np.where(labels, 0.5 / count, 0.5 / (len(labels) - count)).astype(np.float32)
        gram = (phi * weight[:, None]).T @ phi
        target = (phi * weight[:, None]).T @ np.where(labels, 1.0, -1.0).astype(np.float32)
        sums = self.fixed if prompted else self.recent
        keep = 1.0 if prompted else 0.8
        sums[0], sums[1] = sums[0] * keep + gram, sums[1] * keep + target
        self.weights = None

    def score(self, x: F32) -> F32:
        """(n,) about -1 to 1."""
        if self.fixed[0].trace() == 0:  # of one class alone nothing was learnt
            return np.zeros(len(x), np.float32)
        if self.weights is None:
            recent = self.recent[0].trace()
            share = _RECENT * self.fixed[0].trace() / recent if recent > 0 else 0.0
            gram, target = self.fixed[0] + share * self.recent[0], self.fixed[1] + share * self.recent[1]
            ridge = 1e-3 * gram.trace() / _FOURIER * np.eye(_FOURIER)
            self.weights = np.linalg.solve(gram + ridge, target).astype(np.float32)
        return np.concatenate([_fourier(part) @ self.weights for part in np.array_split(x, len(x) // 8192 + 1)])


# ---------------------------------------------------------------------------------------------------------------------
# flow


def flow(source: Frame, target: Frame) -> F32:
    """(h, w, 2) float32: where each pixel of ``source`` is in ``target``, minus its own place."""
    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return engine.calc(source.grey, target.grey, None)


@dataclass(frozen=True, eq=False)
class Motion:
    """From a frame to its neighbour: ``source`` (h, w, 2), the place each pixel came from, and how far to trust it."""

    source: F32
    trust: F32

    @classmethod
    def between(cls, old: Frame, new: Frame) -> Motion:
        back, forth = flow(new, old), flow(old, new)
        height, width = new.size
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
        source = grid + back
        error = back + carry(forth, source)
        length = np.linalg.norm(back, axis=-1)
        trust = np.exp(-np.square(np.linalg.norm(error, axis=-1) / (1.0 + 0.1 * length)))
        change = np.linalg.norm(cv2.GaussianBlur(carry(old.lab, source) - new.lab, (0, 0), 1.0), axis=-1)
        trust = trust * np.exp(-np.square(change / 0.15))
        outside = (source < -0.5).any(-1) | (source[..., 0] > width - 0.5) | (source[..., 1] > height - 0.5)
        return cls(source, np.where(outside, 0.0, trust).astype(np.float32))


def carry(values: F32, source: F32) -> F32:
    return cv2.remap(values, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


# ---------------------------------------------------------------------------------------------------------------------
# pixels of a frame as an object's model sees them


def features_at(frame: Frame, pose: F64, where: NDArray[Any]) -> F32:
    """(n, 13): features of the pixels whose flat indices are given, with their place in the object."""
    width = frame.size[1]
    x, y = where % width, where // width
    place = np.clip(np.stack([x, y, np.ones_like(x)], -1) @ pose.T, -3.0, 3.0).astype(np.float32) * _PLACE
    flat = frame.features.reshape(-1, frame.features.shape[-1])[where]
    return np.concatenate([flat, place], -1)


def pick(where: NDArray[Any], count: int) -> NDArray[Any]:
    """At most ``count`` of them, evenly."""
    if len(where) <= count:
        return where
    return where[np.linspace(0, len(where) - 1, count).astype(np.int64)]


def disc(radius: int) -> U8:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def scores_at(model: Appearance, frame: Frame, pose: F64, region: Bool) -> F32:
    """(h, w) appearance in -1.3 to 1.3, -1 outside the region."""
    scores = np.full(frame.size, -1.0, np.float32)
    where = np.flatnonzero(region)
    if len(where):
        scores.reshape(-1)[where] = np.clip(model.score(features_at(frame, pose, where)), -1.3, 1.3)
    return scores
