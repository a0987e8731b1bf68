"""The splits of a data set: from one seed, scenes that no other split has, and shapes that training never sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """What a split is made of.

    Attributes:
        number: goes into the seeds of its clips; never changes, or published data sets could not be made again.
        families: which families of shapes its scenes use: "train", "heldout" or "all".
    """

    number: int
    families: str


SPLITS = {
    "train": Split(1, "train"),
    "val": Split(2, "train"),
    "test": Split(3, "train"),
    "test-heldout-shapes": Split(4, "heldout"),
}
_WHOLE = Split(0, "all")  # a data set without splits


def find_split(name: str | None) -> Split:
    """A split by its name; None is a data set without splits, with all shapes.

    Raises:
        ValueError: an unknown name.
    """
    if name is None:
        return _WHOLE
    if name not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {name!r}")
    return SPLITS[name]


def clip_seed(seed: int, index: int, split: str | None = None) -> int:
    """The seed of clip ``index`` of a data set: depends on these alone, not on workers or order; below 2^63."""
    number = find_split(split).number
    entropy = [seed, index, number] if number else [seed, index]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
