"""The presets: who is in a scene, how things move, where the camera looks from, and how hidden things shall be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Weights = tuple[tuple[str, float], ...]

PHYSICS = ("drop", "throw", "slide")
COVERS: Weights = (
    ("board", 2),
    ("crate", 2),
    ("bush", 2),
    ("tree", 1.5),
    ("cabinet", 1),
    ("sofa", 0.7),
    ("tent", 0.7),
    ("site", 0.5),
    ("body", 1),
    ("person", 2),
    ("vehicle", 1),
    ("animal", 1),
    ("shelf", 0.5),
    ("curtain", 0.5),
    ("table", 0.5),
    ("vessel", 0.4),
)
"""What is fit to hide a thing altogether: groups or families, mostly without gaps."""


@dataclass(frozen=True)
class Preset:
    """A family of scenes.

    Attributes:
        cast, ways: how often each group of shapes and each way of moving occurs among the objects.
        pitch: the camera's downward angle in radians. aim: height of the point it looks at, as a share of ``VIEW``.
        visible: the wanted shares of object clips that are unhidden, partly hidden (60 to 97 % visible on average),
            heavily hidden, and vanishing (hidden altogether for a while); see ``visibility.visibility_class``.
        screens: occluders with gaps or thin ones, besides ``COVERS``. scenery: what stands far behind.
        grounded: occluders stand on the ground; else they may float. indoors: how often there is a room around.
    """

    cast: Weights
    ways: Weights
    pitch: tuple[float, float]
    aim: tuple[float, float]
    visible: tuple[float, float, float, float] = (0.22, 0.42, 0.22, 0.14)
    screens: Weights = (("screen", 6), ("plant", 2), ("furniture", 1), ("body", 1), ("soft", 1), ("person", 1.5))
    scenery: Weights = (("plant", 4), ("screen", 3), ("site", 2), ("furniture", 1), ("vehicle", 1))
    grounded: bool = True
    indoors: float = 0.0


PRESETS = {
    "street": Preset(
        cast=(
            ("person", 6),
            ("animal", 2),
            ("rider", 2.5),
            ("vehicle", 2.5),
            ("bird", 0.7),
            ("small", 0.5),
            ("round", 0.5),
            ("soft", 0.3),
            ("furniture", 0.3),
        ),
        ways=(("cross", 5), ("return", 1.2), ("stop", 1), ("toward", 1), ("arc", 1.2), ("rest", 2), ("carry", 0.7)),
        pitch=(0.0, 0.25),
        aim=(0.32, 0.46),
    ),
    "field": Preset(
        cast=(("animal", 7), ("bird", 1.5), ("creature", 1.5), ("person", 1), ("rider", 1), ("plant", 0.5)),
        ways=(("cross", 4), ("return", 1.2), ("stop", 1.2), ("toward", 1), ("arc", 1.5), ("rest", 3)),
        pitch=(0.0, 0.35),
        aim=(0.28, 0.44),
        screens=(("plant", 6), ("screen", 3), ("animal", 1.5), ("person", 0.7)),
        scenery=(("plant", 6), ("site", 1), ("animal", 1), ("fence", 1)),
    ),
    "tabletop": Preset(
        cast=(
            ("body", 3),
            ("vessel", 3),
            ("small", 4),
            ("round", 1.5),
            ("soft", 0.7),
            ("furniture", 1),
            ("vehicle", 1),
            ("animal", 0.7),
            ("creature", 0.6),
            ("person", 0.3),
        ),
        ways=(("drop", 2.5), ("throw", 2.5), ("slide", 2.5), ("rest", 3), ("spin", 0.7), ("cross", 0.7), ("roll", 1)),
        pitch=(0.2, 0.65),
        aim=(0.12, 0.3),
        screens=(("screen", 3), ("vessel", 2), ("small", 3), ("body", 2), ("plant", 1), ("soft", 1)),
        indoors=0.5,
    ),
    "room": Preset(
        cast=(
            ("person", 5),
            ("furniture", 3.5),
            ("vessel", 1),
            ("small", 1.5),
            ("animal", 1.5),
            ("round", 0.5),
            ("soft", 0.5),
            ("plant", 0.5),
        ),
        ways=(
            ("cross", 3),
            ("return", 1),
            ("stop", 1),
            ("rest", 4),
            ("spin", 0.7),
            ("sway", 0.6),
            ("toward", 0.7),
            ("arc", 1),
            ("carry", 1.2),
        ),
        pitch=(0.05, 0.4),
        aim=(0.28, 0.42),
        screens=(("furniture", 5), ("screen", 3), ("plant", 1.5), ("person", 2), ("small", 0.7)),
        scenery=(("furniture", 5), ("plant", 1), ("screen", 1)),
        indoors=0.85,
    ),
    "air": Preset(
        cast=(
            ("bird", 4),
            ("craft", 3),
            ("creature", 2),
            ("hanging", 1.5),
            ("body", 2),
            ("vessel", 0.7),
            ("small", 1.5),
            ("soft", 0.7),
            ("round", 0.5),
        ),
        ways=(("fly", 5), ("sway", 1.5), ("spin", 1.5), ("return", 1)),
        pitch=(-0.15, 0.3),
        aim=(0.4, 0.6),
        screens=(("screen", 3), ("plant", 3), ("body", 1), ("craft", 1), ("bird", 1), ("hanging", 1)),
        grounded=False,
    ),
}
MIX = (("street", 0.32), ("field", 0.16), ("tabletop", 0.22), ("room", 0.2), ("air", 0.1))


def pick(rng: np.random.Generator, weights: Weights) -> str:
    """One of the names, with chances in proportion to their weights."""
    shares = np.array([w for _, w in weights])
    return weights[int(rng.choice(len(weights), p=shares / shares.sum()))][0]
