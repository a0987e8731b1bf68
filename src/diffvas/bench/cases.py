"""Cases: one object of one clip with its exact truth, from rendered scenes; see ``overlay`` for real silhouettes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffvas.data.examples import candidates, relative_depth
from diffvas.metrics.mask import HIDDEN_SHARE
from diffvas.pipelines.depths import layer_stack
from diffvas.world.clip import SceneClip

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """One object of one clip.

    Attributes:
        name: unique among the cases of one evaluation; seeds derive from it, so that no order changes results.
        group: what intervals resample: cases of one scene are alike. family: rows of the breakdown, "" = none.
        modal, amodal: (T, H, W) bool, ``amodal`` is exact. depth: (T, H, W) float32 in [0, 1], 1 = near.
        frames_u8, alone_u8: (T, H, W, 3) uint8, what the camera sees and the object alone on white; None where the
            truth has no colours.
        covered: (T, H, W) bool, where shapes were laid over real pictures; None for others. What else may hide the
            object in these nobody knows.
    """

    name: str
    group: str
    family: str
    modal: Array
    amodal: Array
    depth: Array
    frames_u8: Array | None = None
    alone_u8: Array | None = None
    covered: Array | None = None

    @property
    def counted(self) -> Array:
        """(T,) bool: frames in which enough is hidden to count in mIoU_occ."""
        return hides_enough(self.modal, self.amodal)

    def depth_told(self, kind: str) -> Array | None:
        """(T, H, W) float32, larger = nearer, or None.

        Args:
            kind: "given", "in-front": made of where the shapes are, as ``complete --in-front`` does it, or "none".
        """
        if kind != "in-front":
            return self.depth if kind == "given" else None
        if self.covered is None:
            raise ValueError("in-front: expected a case with shapes laid over it, got one without")
        return layer_stack([self.modal], [self.covered])

    def seed(self, seed: int) -> int:
        """The seed of this case in an evaluation with ``seed``."""
        return int(named_rng(seed, self.name).integers(2**31))


def named_rng(seed: int, name: str, *more: int) -> np.random.Generator:
    """Randomness that depends on a seed and a name alone, not on what was done before."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode()), *more]))


def hides_enough(modal: Array, amodal: Array) -> Array:
    """(T,) bool: at least 0.05 % of the frame's pixels are of the object but not visible (the ``strict`` rule)."""
    pixels = amodal.shape[1] * amodal.shape[2]
    return (amodal & ~modal).sum((1, 2)) >= HIDDEN_SHARE * pixels


def pool_groups(values: Sequence[Array], groups: Sequence[str]) -> list[Array]:
    """The values (N_i,) of every case, joined by the cases' groups: what a bootstrap interval resamples."""
    return [
        np.concatenate([v for v, g in zip(values, groups, strict=True) if g == group])
        for group in dict.fromkeys(groups)
    ]


def scene_cases(scene: SceneClip, count: int = 2, *, seed: int = 0, unoccluded: bool = False) -> list[Case]:
    """At most ``count`` objects of a scene, drawn by ``seed`` and the scene's name.

    Args:
        scene: a clip with truth.
        count: objects to take; all that qualify are as likely.
        seed: of the draw.
        unoccluded: take objects that are never hidden (a method can only do harm there) instead of those with hidden
            area in at least one frame.
    """
    fitting = []
    for index, _ in candidates(scene):
        hidden = hides_enough(scene.modal_mask(index), scene.amodal_masks[index])
        if hidden.any() != unoccluded:
            fitting.append(index)
    order = named_rng(seed, scene.name).permutation(len(fitting))[:count]
    depth = relative_depth(scene.depth)
    return [
        Case(
            name=f"{scene.name}/{index + 1}",
            group=scene.name,
            family="",
            modal=scene.modal_mask(index),
            amodal=scene.amodal_masks[index],
            depth=depth,
            frames_u8=scene.frames_u8,
            alone_u8=scene.amodal_rgb_u8[index],
        )
        for index in sorted(fitting[k] for k in order)
    ]
