"""Every shape family by name: how to make one, what group it belongs to, how it can move, and which are held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffvas.world import animals, figures, household, plants, shapes, vehicles
from diffvas.world.building import Figure

FAMILY_SETS = ("train", "heldout", "all")
HELD_OUT = frozenset(
    {
        "giraffe",
        "elephant",
        "camel",
        "beast",
        "penguin",
        "butterfly",
        "bicycle",
        "helicopter",
        "boat",
        "chair",
        "goblet",
        "teapot",
        "instrument",
        "star",
        "cactus",
        "balloon",
    }
)
"""Families that no training scene shows, neither as an object nor as an occluder: the test of unseen shapes."""


@dataclass(frozen=True)
class Family:
    """A family of shapes.

    Attributes:
        make: from a generator and a way of moving (see ``presets``) to limbs and materials.
        group: what presets call it by. weight: how often, among its group.
        walks: feet or wheels on the ground, front along the path. flies: may be in the air on its own.
        rolls: round, origin in the middle. hangs: origin at its upper, fixed end. faces: is flat, shows its side.
    """

    make: Callable[[np.random.Generator, str], Figure]
    group: str
    weight: float = 1.0
    walks: bool = False
    flies: bool = False
    rolls: bool = False
    hangs: bool = False
    faces: bool = False


WALKING = ("cross", "return", "toward", "stop", "arc")


def _still(make: Callable[[np.random.Generator], Figure]) -> Callable[[np.random.Generator, str], Figure]:
    return lambda rng, way: make(rng)


def _person(rng: np.random.Generator, way: str) -> Figure:
    if way == "carry":
        return figures.person(rng, "carry")
    return figures.person(rng, str(rng.choice(figures.MOVING if way in WALKING else figures.RESTING)))


def _animal(species: str) -> Callable[[np.random.Generator, str], Figure]:
    def make(rng: np.random.Generator, way: str) -> Figure:
        moving = ("walk", "walk", "trot", "gallop")
        resting = ("stand", "graze", "stand", "sit", "walk", "gallop")
        return animals.quadruped(rng, species, str(rng.choice(moving if way in WALKING else resting)))

    return make


def _families() -> dict[str, Family]:
    table = {
        "person": Family(_person, "person", 12, walks=True),
        "pusher": Family(_still(figures.walker_with_wheels), "person", 1, walks=True),
        "lying": Family(_still(figures.fallen), "person", 0.6),
        "rider": Family(_still(figures.rider), "rider", 1, walks=True),
        "bird": Family(lambda rng, way: animals.bird(rng, way == "fly"), "bird", 3, walks=True, flies=True),
        "butterfly": Family(_still(animals.butterfly), "bird", 0.6, flies=True),
        "beast": Family(_still(animals.biped_beast), "animal", 0.8, walks=True),
        "penguin": Family(lambda rng, way: animals.biped_beast(rng, penguin=True), "animal", 0.6, walks=True),
        "fish": Family(_still(animals.fish), "creature", 1, flies=True),
        "snake": Family(_still(animals.snake), "creature", 0.7, walks=True),
        "crawler": Family(_still(animals.crawler), "creature", 1, walks=True),
        "car": Family(_still(vehicles.car), "vehicle", 3, walks=True),
        "motorbike": Family(_still(vehicles.motorbike), "rider", 1, walks=True),
        "bicycle": Family(_still(vehicles.bicycle), "rider", 1.5, walks=True),
        "cart": Family(_still(vehicles.cart), "vehicle", 1, walks=True),
        "digger": Family(_still(vehicles.digger), "vehicle", 0.8, walks=True),
        "boat": Family(_still(vehicles.boat), "vehicle", 0.7, walks=True),
        "plane": Family(_still(vehicles.plane), "craft", 1, flies=True),
        "helicopter": Family(_still(vehicles.helicopter), "craft", 0.8, flies=True),
        "wheel": Family(_still(shapes.wheel), "round", 1, rolls=True),
        "hanging": Family(_still(plants.hanging), "hanging", 1, hangs=True),
    }
    species = {"horse": 1.2, "dog": 1.5, "hound": 0.7, "cat": 1.2, "cow": 1, "sheep": 0.8, "pig": 0.8, "deer": 0.8}
    species |= {"goat": 0.6, "bear": 0.8, "lion": 0.6, "rabbit": 0.6, "giraffe": 1, "elephant": 1, "camel": 0.8}
    table |= {name: Family(_animal(name), "animal", weight, walks=True) for name, weight in species.items()}
    still = {
        "body": (shapes.simple, shapes.solid, shapes.outline, shapes.stack, shapes.star, household.letter),
        "vessel": (household.vessel, household.cup, household.goblet, household.teapot),
        "small": (household.fruit, household.tool, household.bag, household.books, household.plush,
                  household.instrument, household.device),
        "furniture": (shapes.chair, shapes.stool, shapes.sofa, shapes.table, shapes.shelf, shapes.cabinet, shapes.lamp),
        "plant": (plants.tree, plants.bush, plants.flower, plants.cactus),
        "soft": (plants.rope, plants.flag, plants.hose, plants.balloon),
        "screen": (shapes.post, shapes.board, shapes.fence, shapes.lattice, shapes.arch, shapes.hole, shapes.crate,
                   plants.curtain, shapes.gate),
        "site": (shapes.tent, shapes.statue),
    }  # fmt: skip
    flat = {"outline", "star", "letter", "board", "fence", "lattice", "arch", "hole", "curtain", "gate", "tool"}
    for group, makers in still.items():
        for make in makers:
            table[make.__name__] = Family(_still(make), group, faces=make.__name__ in flat)
    return table


FAMILIES = _families()
GROUPS = tuple(sorted({family.group for family in FAMILIES.values()}))


def allowed(families: str) -> frozenset[str]:
    """The names of the families of a set: "train", "heldout" or "all".

    Raises:
        ValueError: another set.
    """
    if families not in FAMILY_SETS:
        raise ValueError(f"families: expected one of {FAMILY_SETS}, got {families!r}")
    every = frozenset(FAMILIES)
    return {"train": every - HELD_OUT, "heldout": HELD_OUT, "all": every}[families]


def pick_family(rng: np.random.Generator, weights: tuple[tuple[str, float], ...], names: frozenset[str]) -> str:
    """A family among ``names``: first one of the weighted groups (or families) that has any of them, then one of it."""
    choices = [(key, weight, _members(key, names)) for key, weight in weights]
    choices = [choice for choice in choices if choice[2]]
    if not choices:  # a preset none of whose groups is held out
        choices = [("any", 1.0, sorted(names))]
    shares = np.array([weight for _, weight, _ in choices])
    members = choices[int(rng.choice(len(choices), p=shares / shares.sum()))][2]
    inner = np.array([FAMILIES[name].weight for name in members])
    return members[int(rng.choice(len(members), p=inner / inner.sum()))]


def _members(key: str, names: frozenset[str]) -> list[str]:
    if key in FAMILIES:
        return [key] if key in names else []
    return [name for name, family in FAMILIES.items() if family.group == key and name in names]
