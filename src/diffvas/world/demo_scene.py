"""The hand-made scene of the demo clip: a horse walks behind bales, a post and a passer-by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffvas.world import animals, figures, shapes
from diffvas.world.building import UP, Figure, about, bone, bounds, box, plain, rigid, shaped, vec
from diffvas.world.spec import Actor, Camera, Light, Material, Motion, SceneSpec, Texture, Vec3

FRAME_SECONDS = 0.08


def _pattern(kind: str, first: Vec3, second: Vec3, scale: float, seed: int = 1) -> Material:
    return Material(Texture(kind, (first, second), scale, seed), 0.1, 0.2)


def _stand(name: str, figure: Figure, scale: float, x: float, y: float, yaw: float = 0.0) -> Actor:
    """Put a figure on the ground, where it stays."""
    limbs, stuff = figure
    return Actor(name, limbs, stuff, Motion(vec((x, y, -bounds(limbs)[0][2] * scale)), about(UP, yaw)), scale)


def _walk(actor: Actor, across: float, gait_hz: float) -> Actor:
    """Let it walk ``across`` metres along the frame during the 25 frames."""
    velocity = vec((across / (24 * FRAME_SECONDS), 0, 0))
    motion = replace(
        actor.motion, velocity=velocity, gait_hz=gait_hz, wave=(0.0, 0.0, 0.012), wave_hz=round(2 * gait_hz, 4)
    )
    return replace(actor, motion=motion)


def _horse() -> Actor:
    limbs, _ = animals.quadruped(np.random.default_rng(4), "horse", "walk")
    coat = _pattern("spots", (0.62, 0.33, 0.14), (0.96, 0.9, 0.8), 1.2, 5)
    stuff = (coat, plain((0.16, 0.09, 0.06)), plain((0.12, 0.1, 0.1)))
    return _walk(_stand("horse", (limbs, stuff), 1.0, -1.35, 0.0), 2.6, 1.25)


def _woman() -> Actor:
    limbs, _ = figures.person(np.random.default_rng(5), "walk")
    stuff = (
        _pattern("stripes", (0.85, 0.16, 0.18), (0.95, 0.9, 0.85), 3),
        plain((0.15, 0.22, 0.45)),
        plain((0.85, 0.62, 0.48)),
        plain((0.25, 0.13, 0.07)),
        plain((0.1, 0.08, 0.08)),
    )
    return _walk(_stand("person", (limbs, stuff), 1.12, 1.55, -0.75, np.pi), -2.3, 1.2)


def _dog() -> Actor:
    limbs, _ = animals.quadruped(np.random.default_rng(11), "dog", "trot")
    stuff = (plain((0.93, 0.88, 0.78)), plain((0.55, 0.35, 0.2)), plain((0.2, 0.15, 0.12)))
    return _walk(_stand("dog", (limbs, stuff), 0.62, 2.1, -0.45, np.pi), -2.3, 2.2)


def _bale(x: float, y: float, yaw: float) -> Actor:
    straw = _pattern("planks", (0.86, 0.7, 0.32), (0.68, 0.5, 0.2), 7, 3)
    figure = (rigid([box((0.78, 0.45, 0.4), (0, 0, 0.2)), box((0.7, 0.4, 0.34), (0.03, 0.02, 0.57))]), (straw,))
    return _stand("bale", figure, 1.0, x, y, yaw)


def _props() -> tuple[Actor, ...]:
    bark, wood = _pattern("noise", (0.35, 0.24, 0.15), (0.2, 0.13, 0.08), 6), plain((0.92, 0.9, 0.86))
    trunk = rigid([bone((0, 0, 0), (0.04, 0, 3.2), 0.13, 0, "cylinder")]), (bark,)
    rails = [box((0.09, 0.07, 0.62), (x, 0, 0.31)) for x in np.arange(-4.5, 4.6, 0.75)]
    rails += [box((9.4, 0.04, 0.08), (0, 0.02, z)) for z in (0.25, 0.5)]
    leaves = _pattern("noise", (0.16, 0.36, 0.13), (0.36, 0.55, 0.2), 5)
    crowns = [
        shaped("blob", (0.7, 0.7, 0.62, 0.5, k), (0.45 * k - 0.5, 0.1 * k, 1.55 + 0.2 * (k % 2))) for k in range(3)
    ]
    tree = rigid([*crowns, bone((0, 0, 0), (0, 0, 1.4), 0.09, 1)]), (leaves, bark)
    house = (
        rigid(
            [
                box((2.6, 1.6, 1.5), (0, 0, 0.75), 0),
                shaped("outline", (0.95, -1.55, 1.5, 1.55, 1.5, 1.1, 2.3, -1.1, 2.3), (0, 0, 0), 1),
                box((0.45, 0.1, 0.95), (0.4, -0.8, 0.48), 2),
                box((0.5, 0.1, 0.45), (-0.6, -0.8, 0.85), 2),
            ]
        ),
        (
            plain((0.88, 0.8, 0.68)),
            _pattern("bricks", (0.62, 0.24, 0.17), (0.4, 0.15, 0.12), 4),
            plain((0.3, 0.42, 0.5)),
        ),
    )
    return (
        _bale(0.2, -0.62, 0.12),
        _stand("trunk", trunk, 1.0, -0.85, -0.85),
        _stand("fence", (rigid(rails), (wood,)), 1.0, 0.0, 1.3),
        _stand("tree", tree, 1.25, -2.6, 3.2),
        _stand("tree", tree, 1.5, 3.3, 5.0, 1.2),
        _stand("house", house, 1.0, 1.0, 5.5, -0.25),
        _stand("bush", (shapes.solid(np.random.default_rng(3))[0], (leaves,)), 0.9, -0.6, 3.4),
    )


def demo_scene(size: tuple[int, int], frames: int) -> SceneSpec:
    """The demo scene, always the same; object 0 (id 1) is the horse, which the demo completes.

    Made for (256, 448) pixels and 25 frames; with fewer frames it ends earlier.
    """
    return SceneSpec(
        name="demo",
        seed=0,
        size=size,
        frames=frames,
        frame_seconds=FRAME_SECONDS,
        objects=(_horse(), _woman(), _dog()),
        props=_props(),
        camera=Camera((0.15, -6.2, 1.35), (0.0, 0.0, 0.72), (24.0, 24.0), travel=(0.12, 0.0, 0.0)),
        lights=(
            Light((0.55, 0.5, -0.9), (0.85, 0.8, 0.7), 0.15),
            Light((-0.6, 0.6, -0.5), (0.15, 0.18, 0.25), 0.0),
        ),
        ambient=0.42,
        ground=Material(Texture("grass", ((0.32, 0.45, 0.2), (0.47, 0.58, 0.28)), 8.0, 2), 0.0, 0.0),
        sky=Texture("gradient", ((0.42, 0.62, 0.88), (0.86, 0.92, 0.96)), 1.0, 0),
        ground_repeat=0.35,
        shadows=True,
        notes={"preset": "demo", "target": "1"},
    )
