"""The families of scenes: who is in them, how things move in them, and where the camera looks from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffvas.world import figures, shapes
from diffvas.world.figures import Figure

Weights = tuple[tuple[str, float], ...]

MAKERS: dict[str, Callable[[np.random.Generator], Figure]] = {
    "person": figures.person,
    "quadruped": figures.quadruped,
    "bird": figures.bird,
    "rider": figures.rider,
    "simple": shapes.simple,
    "solid": shapes.solid,
    "outline": shapes.outline,
    "vessel": shapes.vessel,
    "stack": shapes.stack,
    "chair": shapes.chair,
    "table": shapes.table,
    "lamp": shapes.lamp,
    "car": shapes.car,
    "bicycle": shapes.bicycle,
    "tree": shapes.tree,
    "post": shapes.post,
    "board": shapes.board,
    "fence": shapes.fence,
    "arch": shapes.arch,
}
WALKERS = ("person", "quadruped", "rider", "bicycle", "car")
PHYSICS = ("drop", "throw", "slide")


@dataclass(frozen=True)
class Preset:
    """A family of scenes: how often each kind of actor and of motion occurs, and the camera's downward angle."""

    cast: Weights
    ways: Weights
    pitch: tuple[float, float]
    aim: tuple[float, float]  # height of the point looked at, as a share of VIEW
    screens: Weights = (
        ("post", 2),
        ("board", 3),
        ("fence", 1.5),
        ("arch", 1),
        ("tree", 1),
        ("stack", 1),
        ("outline", 1.5),
        ("solid", 1),
        ("car", 0.5),
        ("table", 0.5),
        ("person", 1),
    )
    scenery: Weights = (("tree", 2), ("board", 2), ("post", 1), ("fence", 1), ("lamp", 1), ("stack", 1), ("car", 0.5))


PRESETS = {
    "street": Preset(
        cast=(
            ("person", 5),
            ("quadruped", 4),
            ("rider", 1),
            ("bicycle", 1.5),
            ("car", 1.5),
            ("bird", 1.5),
            ("chair", 0.5),
            ("stack", 0.5),
            ("vessel", 0.5),
        ),
        ways=(("cross", 5), ("return", 1.2), ("stop", 1), ("toward", 1), ("rest", 2), ("spin", 0.7)),
        pitch=(0.0, 0.2),
        aim=(0.32, 0.46),
    ),
    "tabletop": Preset(
        cast=(
            ("simple", 2),
            ("solid", 2),
            ("outline", 2),
            ("vessel", 3),
            ("stack", 2),
            ("chair", 1),
            ("lamp", 0.7),
            ("car", 1),
            ("quadruped", 1),
            ("bird", 0.5),
            ("person", 0.5),
        ),
        ways=(("drop", 3), ("throw", 3), ("slide", 3), ("rest", 2), ("spin", 0.5), ("cross", 0.7)),
        pitch=(0.2, 0.65),
        aim=(0.12, 0.3),
    ),
    "room": Preset(
        cast=(
            ("person", 4),
            ("chair", 2.5),
            ("table", 1.5),
            ("lamp", 1),
            ("vessel", 1),
            ("quadruped", 1.5),
            ("stack", 1),
            ("bird", 0.5),
        ),
        ways=(("cross", 3), ("return", 1), ("stop", 1), ("rest", 3), ("spin", 1), ("sway", 1), ("toward", 0.7)),
        pitch=(0.05, 0.4),
        aim=(0.28, 0.42),
    ),
    "air": Preset(
        cast=(
            ("outline", 3),
            ("bird", 3),
            ("solid", 2),
            ("simple", 1),
            ("stack", 2),
            ("vessel", 1),
            ("quadruped", 1),
            ("person", 1),
            ("chair", 1),
        ),
        ways=(("fly", 5), ("sway", 2), ("spin", 2), ("return", 1)),
        pitch=(-0.1, 0.3),
        aim=(0.4, 0.6),
    ),
}
MIX = (("street", 0.42), ("tabletop", 0.26), ("room", 0.18), ("air", 0.14))


def pick(rng: np.random.Generator, weights: Weights) -> str:
    """One of the names, with chances in proportion to their weights."""
    shares = np.array([w for _, w in weights])
    return weights[int(rng.choice(len(weights), p=shares / shares.sum()))][0]
