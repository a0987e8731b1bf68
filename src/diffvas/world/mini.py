"""The mini benchmark: about a hundred object clips over all levels of visibility, rebuilt anywhere in two minutes.

It is fixed by its settings, not shipped as data. ``mini.json`` in this package holds the checksums of its clips as its
maintainers made them; the same OpenGL driver gives the same bytes, another one may differ in single pixels at edges.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.world.clip import clip_digest
from diffvas.world.make import Progress, Settings, make_clips
from diffvas.world.shards import SceneSet, open_dataset
from diffvas.world.stats import LEVEL_NAMES, level_of, visible_fractions

SETTINGS = Settings("mixed", seed=2504, split="test", per_shard=8)
CLIPS, OBJECTS = 40, 100
LEAST_AREA, LEAST_FRAMES = 0.004, 3  # mean share of the frame; frames in which the object is seen at all
CHECKSUMS = Path(__file__).with_name("mini.json")
LIST = "mini.json"


@dataclass(frozen=True)
class MiniReport:
    """What ``make_mini`` made.

    Attributes:
        objects: the object clips, as in ``mini.json``: clip, object (id), level, visible (mean fraction).
        differing: names of clips that are not the published ones, bit for bit. same_driver: whether they were made
            with the same OpenGL driver and MuJoCo as the published ones.
    """

    objects: list[dict[str, Any]]
    differing: list[str]
    same_driver: bool


def make_mini(out: str | Path, *, workers: int = 1, progress: Progress | None = None) -> MiniReport:
    """Make the mini benchmark in a new or empty folder, or go on making it there.

    Beside the shards, ``mini.json`` lists the object clips to be evaluated, and every clip's checksum.

    Raises:
        ValueError, RuntimeError, OSError: as ``make_clips``.
    """
    make_clips(SETTINGS, CLIPS, out, workers=workers, progress=progress)
    scenes = open_dataset(out)
    digests = {}
    for index, clip in enumerate(scenes):
        digests[clip.name] = clip_digest(clip)
        if progress:
            progress("checksums", index + 1, len(scenes))
    chosen = choose_objects(scenes)
    made = {"renderer": renderer(), "objects": chosen, "digests": digests}
    beside = Path(out) / f".{LIST}.{os.getpid()}.tmp"
    beside.write_text(json.dumps(made, indent=1) + "\n")
    os.replace(beside, Path(out) / LIST)
    published = published_checksums()
    differing = [name for name, digest in digests.items() if published["digests"].get(name) != digest]
    return MiniReport(chosen, differing, published["renderer"] == made["renderer"])


def published_checksums() -> dict[str, Any]:
    """``renderer`` and ``digests`` of the published mini benchmark."""
    found: dict[str, Any] = json.loads(CHECKSUMS.read_text())
    return found


def renderer() -> str:
    """What the pixels depend on beside this package: OpenGL's driver and MuJoCo's version."""
    from diffvas.world.render import gl_driver

    return gl_driver()


def choose_objects(scenes: SceneSet, count: int = OBJECTS) -> list[dict[str, Any]]:
    """At most ``count`` object clips, as evenly over the levels of their mean visible fraction as there are any.

    An object qualifies that covers 0.4 % of the frame on average and is seen in three frames.
    """
    levels: dict[int, list[dict[str, Any]]] = {k: [] for k in range(len(LEVEL_NAMES))}
    for _, meta in scenes.metas():
        pixels = meta["size"][0] * meta["size"][1]
        for number, row in enumerate(visible_fractions(meta)):
            area, seen = np.mean(meta["areas"]["amodal"][number]), np.sum(np.nan_to_num(row) > 0)
            if area < LEAST_AREA * pixels or seen < LEAST_FRAMES:
                continue
            visible = float(np.nanmean(row))
            level = int(level_of(visible))
            entry = {"clip": meta["name"], "object": number + 1, "level": LEVEL_NAMES[level]}
            levels[level].append({**entry, "visible": round(visible, 4)})
    while sum(map(len, levels.values())) > count:
        fullest = max(levels.values(), key=len)
        fullest.pop(len(fullest) // 2)  # spread over the clips, and always the same
    chosen = [entry for entries in levels.values() for entry in entries]
    return sorted(chosen, key=lambda entry: (entry["clip"], entry["object"]))
