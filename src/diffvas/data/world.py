"""Rendered scenes: what ``diffvas world make`` and ``diffvas world mini`` wrote, or a folder of splits."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvas.data.base import ObjectClip, ObjectClips
from diffvas.data.examples import relative_depth
from diffvas.world.clip import SceneClip
from diffvas.world.mini import LIST
from diffvas.world.shards import INDEX, SceneSet, open_dataset
from diffvas.world.splits import SPLITS
from diffvas.world.stats import level_of, visible_fractions

# what is worth asking of a method, as in ``examples.candidates``: area of the frame on average, frames with more than
# SEEN_PIXELS visible
LEAST_AREA, LEAST_FRAMES, SEEN_PIXELS = 0.004, 3, 20
_Entry = tuple[int, int, int]  # which data set, clip, object


def _has_clips(path: Path) -> bool:
    files = [path] if path.is_file() else [*path.glob("*.tar"), *path.glob("*.npz")] if path.is_dir() else []
    return any(_holds_scenes(file) for file in files if not file.name.startswith("."))


def _holds_scenes(file: Path) -> bool:
    """Whether a .tar or .npz is one of ours: others stand in folders of data sets too."""
    if file.suffix == ".tar":
        with file.open("rb") as opened:
            return opened.read(len(INDEX)) == INDEX.encode()
    if file.suffix != ".npz" or not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return {"header.npy", "instance_ids.npy"} <= set(archive.namelist())


def find_scenes(path: Path) -> list[Path]:
    """The data sets of scenes at ``path``: itself, or the folders below it that have the names of splits."""
    if _has_clips(path):
        return [path]
    return [path / name for name in SPLITS if _has_clips(path / name)]


def open_world(path: str | Path, *, split: str | None = None, everything: bool = False) -> ObjectClips:
    """The objects of rendered scenes.

    Objects are taken that cover 0.4 % of the frame on average and are seen in three frames; of the mini benchmark those
    in its list.

    Args:
        path: shards (.tar) or older clips (.npz), one such file, or a folder with splits.
        split: one of the splits' folders; None = all that are there.
        everything: take every object that is seen at all.

    Raises:
        ValueError: no scenes, no such split, or a broken list.
    """
    places = find_scenes(Path(path))
    if split is not None:
        chosen = [place for place in places if place.name == split]
        if not chosen:
            raise ValueError(f"split: expected one of {', '.join(p.name for p in places)} in '{path}', got '{split}'")
        places = chosen
    if not places:
        raise ValueError(f"path: expected scenes (.tar or .npz), or folders {', '.join(SPLITS)}, got none in '{path}'")
    sets = [_Scenes(place) for place in places]
    problems: list[str] = []
    entries: list[tuple[str, _Entry]] = []
    for number, place in enumerate(places):
        scenes = sets[number].scenes
        listed = None if everything else _listed(place, scenes, problems)
        for index, meta in scenes.metas():
            for one in range(meta["objects"]):
                wanted = (meta["name"], one + 1) in listed if listed is not None else _worth(meta, one, everything)
                if wanted:
                    entries.append((f"{meta['name']}/{one + 1}", (number, index, one)))
        problems += scenes.broken
    return ObjectClips("world", path, entries, partial(_read, sets), problems)


def _listed(place: Path, scenes: SceneSet, problems: list[str]) -> set[tuple[str, int]] | None:
    """The objects in the mini benchmark's list; None where there is no list."""
    file = place / LIST
    if not file.is_file():
        return None
    try:
        listed = {(str(row["clip"]), int(row["object"])) for row in json.loads(file.read_text())["objects"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"path: expected a list of objects in '{file}', got something else ({error!r})") from error
    names = set(scenes.names)
    gone = sorted({name for name, _ in listed} - names)
    problems += [f"'{file}': expected the clip '{name}', got none" for name in gone]
    return listed


def _worth(meta: dict[str, Any], index: int, everything: bool) -> bool:
    seen, whole = (np.asarray(meta["areas"][what][index]) for what in ("modal", "amodal"))
    if everything:
        return bool(seen.any())
    pixels = meta["size"][0] * meta["size"][1]
    return bool(whole.mean() >= LEAST_AREA * pixels and (seen > SEEN_PIXELS).sum() >= LEAST_FRAMES)


class _Scenes:
    """A data set of scenes that keeps the one read last: the objects of a scene are asked for one after another."""

    def __init__(self, place: Path) -> None:
        self.scenes = open_dataset(place, skip_broken=True)
        self._last: tuple[tuple[int, tuple[str, ...]], SceneClip] | None = None

    def read(self, index: int, parts: tuple[str, ...] = ()) -> SceneClip:
        """Scene ``index`` with ``parts``, or with more if those are there already."""
        if self._last is None or self._last[0][0] != index or not set(parts) <= set(self._last[0][1]):
            kept = self._last[0][1] if self._last is not None and self._last[0][0] == index else ()
            wanted = tuple(dict.fromkeys((*kept, *parts)))
            self._last = (index, wanted), self.scenes.read(index, wanted)
        return self._last[1]


def _read(sets: list[_Scenes], entry: _Entry) -> ObjectClip:
    number, index, one = entry
    scenes = sets[number]
    scene = scenes.read(index)
    time = len(scene.depth)
    has = scene_parts(scenes.scenes, index) | ({"intrinsics"} if scene.intrinsics is not None else set())
    readers: dict[str, Callable[[], NDArray[Any]]] = {what: partial(_part, scenes, index, one, what) for what in has}
    return ObjectClip(
        name=f"{scene.name}/{one + 1}",
        group=scene.name,
        family=scene.kinds[one] if scene.kinds else "",
        frames=tuple(f"{t:05d}" for t in range(time)),
        modal=scene.modal_mask(one),
        amodal=scene.amodal_masks[one],
        numbers=tuple(range(time)),
        readers=readers,
    )


def scene_parts(scenes: SceneSet, index: int) -> set[str]:
    """Which of "frames", "depth", "alone", "others", "flow" a clip has; older clips have all but flow."""
    parts = scenes.meta(index).get("parts", ["rgb", "content"])
    named = (("frames", "rgb"), ("alone", "content"), ("flow", "flow"))
    return {"depth", "others"} | {what for what, part in named if part in parts}


def _part(scenes: _Scenes, index: int, one: int, what: str) -> NDArray[Any]:
    if what == "frames":
        return scenes.read(index, ("rgb",)).frames_u8
    if what == "alone":
        return scenes.scenes.read(index, ("content",)).amodal_rgb_u8[one]
    if what == "depth":
        return relative_depth(scenes.read(index).depth)
    if what == "others":
        ids = scenes.read(index).instance_ids
        return np.where(ids == one + 1, 0, ids).astype(np.uint8)
    value = getattr(scenes.read(index, ("flow",) if what == "flow" else ()), what)
    assert value is not None  # the clip says that it has it
    return value


def spread_scenes(path: Path, names: Sequence[str], limit: int) -> list[str]:
    """At most ``limit`` of the objects ``names``, in their order, as evenly over the levels of visibility as can be."""
    wanted, levels = set(names), dict[str, int]()
    for place in find_scenes(path):
        for _, meta in open_dataset(place, skip_broken=True).metas():
            for number, row in enumerate(visible_fractions(meta), 1):
                if (name := f"{meta['name']}/{number}") in wanted:
                    levels[name] = int(level_of(float(np.nanmean(row))))
    by_level: dict[int, list[str]] = {}
    for name in names:
        by_level.setdefault(levels[name], []).append(name)
    while sum(map(len, by_level.values())) > limit:
        fullest = max(by_level.values(), key=len)
        fullest.pop(len(fullest) // 2)  # spread over the clips, and always the same
    chosen = {name for some in by_level.values() for name in some}
    return [name for name in names if name in chosen]
