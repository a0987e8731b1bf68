"""Occlusion by design: occluders are placed, and objects shifted, until what is hidden is what the preset wants.

Each object of a scene gets a class of visibility from the preset's distribution. A cheap picture of the scene
(``visibility``) tells which objects miss theirs; for those, changes are proposed and kept where they help: something is
put in front, an occluder is taken away, an object is moved aside. A bounded number of proposals, 1 to 5 ms each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffvas.world.building import UP, Figure, about, bounds, vec
from diffvas.world.families import FAMILIES, pick_family
from diffvas.world.presets import COVERS, Preset
from diffvas.world.simulate import physics_paths
from diffvas.world.spec import Actor, Motion, SceneSpec
from diffvas.world.visibility import (
    CLASSES,
    LEAST_AREA,
    Layer,
    View,
    layer,
    view_of,
    visibility_class,
    visible_fractions,
)

Array = np.ndarray
PROPOSALS = 7  # per object, on average
LEAST_OBJECTS = 2
LEAN = np.array([0.08, -0.09, 0.03, -0.02])
"""Added to the wanted shares when goals are drawn, for what tries fail to reach: "unhidden" mostly ends as "partly" and

"heavily" as "vanishing", by about this much (measured on 250 clips of all presets, seeds of their own)."""


@dataclass
class Draft:
    """A scene in the making: objects and occluders with their layers in the cheap picture, and the wanted classes."""

    spec: SceneSpec
    view: View
    objects: list[Actor]
    screens: list[Actor]
    layers: list[Layer]
    front: list[Layer]
    goals: list[str]
    spare: tuple[str, Figure] | None = None  # an occluder that did not help where it was; making one costs most

    def draw(self, actor: Actor) -> Layer:
        """The layer of an actor that moves by formula."""
        step = self.spec.frame_seconds
        return layer(actor, self.view, step, step * max(1, self.spec.frames - 1))

    def costs(self, layers: Sequence[Layer], front: Sequence[Layer]) -> Array:
        """How far each object is from what is wanted of it; 0 where it is met."""
        visible, area = visible_fractions([*layers, *front], len(self.goals))
        return np.array([_cost(*one) for one in zip(self.goals, visible, area, strict=True)])


SAFE = {"unhidden": (0.99, 1.0), "partly": (0.62, 0.95), "heavily": (0.0, 0.57)}
"""``BOUNDS`` with a margin, as the cheap picture misses thin things and edges."""


def _cost(goal: str, visible: Array, area: Array) -> float:
    found = visibility_class(visible, area)
    present = area >= LEAST_AREA
    if found is None:
        return 2.0 - float(visible[present].max(initial=0.0))
    if goal == "vanishing":
        return 0.0 if found == goal else 0.15 + float(visible[present].min())
    mean, (low, high) = float(visible[present].mean()), SAFE[goal]
    miss = max(low - mean, mean - high, 0.0)
    risky = goal != "unhidden" and visible[present].min() < 0.08  # it may turn out to vanish
    return miss + 0.1 * (found != goal) + 0.1 * risky + 0.3 * (found == "vanishing")


def design(rng: np.random.Generator, spec: SceneSpec, preset: Preset, names: frozenset[str]) -> SceneSpec:
    """The scene with occluders, its objects hidden as the preset wants as nearly as a bounded number of tries can.

    Args:
        spec: objects and scenery without occluders. names: the families that occluders may be of.

    Raises:
        RuntimeError: things fall or fly by physics and MuJoCo is missing.
    """
    view = view_of(spec.camera, spec.size, spec.frames)
    paths = physics_paths(spec)
    step = spec.frame_seconds
    layers = [layer(a, view, step, step * max(1, spec.frames - 1), paths.get(k)) for k, a in enumerate(spec.objects)]
    draft = Draft(spec, view, list(spec.objects), [], layers, [], [])
    _set_goals(rng, draft, preset)
    costs = draft.costs(draft.layers, draft.front)
    for _ in range(PROPOSALS * len(draft.goals)):
        if not costs.any():
            break
        target = int(rng.choice(np.flatnonzero(costs)))
        layers, front, objects, screens = _propose(rng, draft, preset, names, target)
        if layers is draft.layers and front is draft.front:
            continue
        changed = draft.costs(layers, front)
        if changed.sum() < costs.sum() - 1e-9:
            draft.spare = None if len(screens) > len(draft.screens) else draft.spare
            draft.layers, draft.front, draft.objects, draft.screens, costs = layers, front, objects, screens, changed
    return _finish(draft, costs)


def _set_goals(rng: np.random.Generator, draft: Draft, preset: Preset) -> None:
    """Draw a class per object; the most hidden wanted goes to what is already hidden most, which saves work."""
    count = len(draft.objects)
    drawn = np.sort(rng.choice(len(CLASSES), size=count, p=np.add(preset.visible, LEAN)))[::-1]
    visible, area = visible_fractions(draft.layers, count)
    weight = area + 1e-9
    order = np.argsort((visible * weight).sum(1) / weight.sum(1) + rng.uniform(0, 0.05, count))
    goals = [""] * count
    for index, goal in zip(order, drawn, strict=True):
        goals[int(index)] = CLASSES[int(goal)]
    draft.goals = goals


def _finish(draft: Draft, costs: Array) -> SceneSpec:
    """The scene; objects that nobody could see become scenery, and so do some that missed their goal by far."""
    order = np.argsort(-costs)
    dropped = {
        int(k) for k in order[: max(0, len(order) - LEAST_OBJECTS)] if costs[k] >= (1.0 if len(order) < 4 else 0.2)
    }
    kept = [k for k in range(len(draft.objects)) if k not in dropped]
    notes = {**draft.spec.notes, "visibility": " ".join(draft.goals[k] for k in kept)}
    return replace(
        draft.spec,
        objects=tuple(draft.objects[k] for k in kept),
        props=(*draft.screens, *(draft.objects[k] for k in sorted(dropped)), *draft.spec.props),
        notes=notes,
    )


Change = tuple[list[Layer], list[Layer], list[Actor], list[Actor]]


def _propose(rng: np.random.Generator, draft: Draft, preset: Preset, names: frozenset[str], target: int) -> Change:
    """A change that may bring object ``target`` nearer to its goal; the same lists where none came to mind."""
    visible, area = visible_fractions([*draft.layers, *draft.front], len(draft.goals))
    found = visibility_class(visible[target], area[target])
    too_hidden = found is not None and CLASSES.index(found) > CLASSES.index(draft.goals[target])
    objects, screens = _hiders(draft, target)
    if too_hidden and screens and rng.random() < 0.5:
        gone = int(rng.choice(screens))
        return (
            draft.layers,
            [one for k, one in enumerate(draft.front) if k != gone],
            draft.objects,
            [one for k, one in enumerate(draft.screens) if k != gone],
        )
    if found is None or too_hidden:
        moved = _shifted(rng, draft, int(rng.choice([target, *objects])))
        if moved is None:
            return draft.layers, draft.front, draft.objects, draft.screens
        index, actor = moved
        layers, cast = list(draft.layers), list(draft.objects)
        layers[index], cast[index] = draft.draw(actor), actor
        return layers, draft.front, cast, draft.screens
    screen = _screen(rng, draft, preset, names, target)
    if screen is None:
        return draft.layers, draft.front, draft.objects, draft.screens
    return draft.layers, [*draft.front, draft.draw(screen)], draft.objects, [*draft.screens, screen]


def _hiders(draft: Draft, target: int) -> tuple[list[int], list[int]]:
    """The objects and the screens that hide some of an object at some moment."""
    own = draft.layers[target]

    def hides(other: Layer) -> bool:
        nearer = other.distance < own.distance
        return any(n and a & b for n, a, b in zip(nearer, other.bits, own.bits, strict=True))

    objects = [k for k, one in enumerate(draft.layers) if k != target and hides(one)]
    return objects, [k for k, one in enumerate(draft.front) if hides(one)]


def _shifted(rng: np.random.Generator, draft: Draft, index: int) -> tuple[int, Actor] | None:
    """The object somewhere else in its lane; None where physics moves it, or where others may lie on it."""
    actor, view = draft.objects[index], draft.view
    falling = any(one.motion.physics for one in draft.objects)
    if actor.motion.physics or (falling and actor.still) or actor.name.endswith(CARRIED):
        return None
    moment = int(rng.integers(len(view.frames)))
    width = view.size[1]
    box = draft.layers[index].box[moment]
    metres = draft.layers[index].distance[moment] / view.focal[moment]
    wish = rng.uniform(0.12, 0.88) * width - (box[0] + box[2]) / 2
    start = np.asarray(actor.motion.start) + view.axes[moment, 0] * [1, 1, 0] * wish * metres
    return index, replace(actor, motion=replace(actor.motion, start=vec(start)))


CARRIED = " carried"


def _screen(rng: np.random.Generator, draft: Draft, preset: Preset, names: frozenset[str], target: int) -> Actor | None:
    """Something before object ``target`` that may hide as much of it as wanted; None where the view leaves no room."""
    view, goal, one = draft.view, draft.goals[target], draft.layers[target]
    shown = one.area * (one.distance > 0.3)
    if not (shown >= LEAST_AREA).any():
        return None
    moment = int(rng.choice(len(shown), p=shown / shown.sum()))
    aim = _part_to_hide(rng, goal, one.box[moment])
    covers = COVERS if goal != "partly" or rng.random() < 0.35 else preset.screens
    name, (limbs, stuff) = draft.spare or _occluder(rng, covers, names)
    draft.spare = (name, (limbs, stuff)) if draft.spare is None else None  # each gets two tries
    family = FAMILIES[name]
    travel = np.ptp(one.box[:, :2] + one.box[:, 2:], axis=0).max() / 2
    travel /= max(float(one.box[moment, 2] - one.box[moment, 0]), 1.0)  # in widths of the object
    moving = rng.random() < (0.8 if goal == "vanishing" and travel < 0.8 else 0.25)
    low, high = bounds(limbs)
    extent = high - low
    yaw = float(rng.choice([0.0, np.pi]) + rng.normal() * 0.3)
    if not (moving and family.walks) and not family.faces:
        yaw = float(rng.uniform(0, 2 * np.pi))
    across = abs(np.cos(yaw)) * extent[0] + abs(np.sin(yaw)) * extent[1]
    grounded = preset.grounded and not (family.hangs or family.flies)
    place = _place(rng, draft, one.distance[moment], moment, aim, grounded)
    if place is None:
        return None
    spot, metres, tall = place
    scale = max((aim[2] - aim[0]) * metres / max(across, 1e-3), tall / extent[2])
    if scale * across > 0.8 * view.size[1] * metres or scale * extent[2] > 2.2 * view.size[0] * metres:
        return None
    foot = np.array([spot[0], spot[1], spot[2] - low[2] * scale])
    shift = np.array([np.cos(yaw), np.sin(yaw), 0]) * (low[0] + high[0]) / 2 * scale  # origins need not be central
    gait = 0.0 if family.walks else round(float(rng.uniform(0.4, 1.5)), 4)  # plants and flags move where they stand
    motion = Motion(vec(foot - shift), about(UP, yaw), gait_hz=gait)
    if moving:
        motion = _passing(rng, draft, motion, yaw, moment, scale * (across + 0.5) + (aim[2] - aim[0]) * metres, scale)
    return Actor(name, limbs, stuff, motion, round(float(scale), 4), solid=False)


def _occluder(
    rng: np.random.Generator, weights: tuple[tuple[str, float], ...], names: frozenset[str]
) -> tuple[str, Figure]:
    """The name and the shape of something to put in front."""
    name = pick_family(rng, weights, names)
    return name, FAMILIES[name].make(rng, str(rng.choice(["cross", "rest"])))


def _part_to_hide(rng: np.random.Generator, goal: str, box: Array) -> Array:
    """x0, y0, x1, y1 in pixels of the part of an object's box that shall be covered at the chosen moment."""
    x0, y0, x1, y1 = box
    wide, tall = x1 - x0, y1 - y0
    if goal == "vanishing":
        more = rng.uniform(0.08, 0.3, size=4) * [wide, tall, wide, tall]
        return box + more * [-1, -1, 1, 1]
    share = rng.uniform(0.15, 0.6) if goal == "partly" else rng.uniform(0.5, 0.95)
    way = rng.choice(3)
    if way == 0:  # from below
        return np.array([x0 - 0.1 * wide, y1 - share * tall, x1 + 0.1 * wide, y1])
    left = x0 if way == 1 else x1 - share * wide
    if rng.random() < 0.3:  # a band in the middle
        left = x0 + rng.uniform(0, 1 - share) * wide
    return np.array([left, y0 - 0.1 * tall, left + share * wide, y1])


def _place(
    rng: np.random.Generator, draft: Draft, distance: float, moment: int, aim: Array, grounded: bool
) -> tuple[Array, float, float] | None:
    """Foot (3,), metres per pixel and height in metres of something that covers ``aim`` from nearer than ``distance``.

    On the ground where that can be; else it floats, as what a hand holds into the picture does.
    """
    view = draft.view
    for _ in range(4):
        depth = distance * rng.uniform(0.45, 0.93)
        metres = depth / view.focal[moment]
        top = view.place(moment, ((aim[0] + aim[2]) / 2, aim[1]), depth)
        if depth < 0.25:
            continue
        if not grounded:
            bottom = view.place(moment, ((aim[0] + aim[2]) / 2, aim[3]), depth)
            return bottom, metres, (aim[3] - aim[1]) * metres
        if top[2] > 0.25 * (aim[3] - aim[1]) * metres:
            return np.array([top[0], top[1], 0.0]), metres, float(top[2])
    return None


def _passing(
    rng: np.random.Generator, draft: Draft, motion: Motion, yaw: float, moment: int, least: float, scale: float
) -> Motion:
    """The motion of something that is at its place at ``moment`` and goes by along its front."""
    spec = draft.spec
    clip = spec.frame_seconds * max(1, spec.frames - 1)
    time = float(draft.view.frames[moment]) * spec.frame_seconds
    velocity = np.array([np.cos(yaw), np.sin(yaw), 0.0]) * least * rng.uniform(1.0, 2.2) / clip
    if abs(velocity[0]) < abs(velocity[1]):  # across the picture, whatever the front does
        velocity = np.array([np.sign(velocity[0] or 1.0) * np.linalg.norm(velocity), 0.0, 0.0])
    gait = min(float(np.linalg.norm(velocity)) / scale, 7.0 / clip)
    start = np.asarray(motion.start) - velocity * time
    return replace(motion, start=vec(start), velocity=vec(velocity), gait_hz=round(gait, 4))
