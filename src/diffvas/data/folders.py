"""Plain folders: ``CLIP/frames``, ``CLIP/modal`` and, where there is truth, ``CLIP/amodal`` (and ``CLIP/depth``).

Masks are what ``diffvas.masks`` reads: pictures of labels (DAVIS's palettes too), one folder per object id, or an .npz.
Whole objects overlap, so several of them need a folder each, or an .npz. Instead of a folder, ``modal.npz``,
``amodal.npz`` and ``depth.npz`` will do. ``masks`` may stand for ``modal``.

DAVIS's layout is read as well: ``JPEGImages/480p/CLIP``, ``Annotations/480p/CLIP`` and, with truth,
``Amodal/480p/CLIP``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvas.arrays import clean_depth, normalise_depth
from diffvas.data.base import ObjectClip, ObjectClips, Progress, frame_number, image_size, read_images
from diffvas.masks import read_masks
from diffvas.types import F32, Bool
from diffvas.video import list_images, read_depth

DAVIS = ("JPEGImages", "Annotations", "Amodal", "Depth")


@dataclass(frozen=True)
class Place:
    """Where the parts of a clip stand; None = there is none."""

    name: str
    frames: Path
    modal: Path
    amodal: Path | None
    depth: Path | None


def find_clips(path: Path) -> list[Place]:
    """The clips at ``path``: itself, or the folders right below it, or DAVIS's."""
    if not path.is_dir():
        return []
    if (path / DAVIS[0]).is_dir() and (path / DAVIS[1]).is_dir():
        return _davis(path)
    places = (_place(folder) for folder in [path, *sorted(p for p in path.iterdir() if p.is_dir())])
    return [place for place in places if place is not None]


def _place(folder: Path) -> Place | None:
    modal = _part(folder, "modal") or _part(folder, "masks")
    if modal is None or not (folder / "frames").is_dir():
        return None
    name = folder.resolve().name
    return Place(name, folder / "frames", modal, _part(folder, "amodal"), _part(folder, "depth"))


def _part(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / f"{name}.npz", folder / f"{name}.npy")
    return next((place for place in places if place.exists()), None)


def _davis(path: Path) -> list[Place]:
    roots = [path / name for name in DAVIS]
    if all((root / "480p").is_dir() for root in roots[:2]):
        roots = [root / "480p" for root in roots]
    frames, modal, amodal, depth = roots
    return [
        Place(video.name, video, modal / video.name, _part(amodal, video.name), _part(depth, video.name))
        for video in sorted(p for p in frames.iterdir() if p.is_dir())
    ]


def open_folders(path: str | Path, *, progress: Progress | None = None) -> ObjectClips:
    """The objects of all clips in plain folders; which there are is found out by reading the visible masks once.

    Args:
        path: a clip, a folder of clips, or a folder in DAVIS's layout.
        progress: called as ``progress("index", clips done, clips)``.

    Raises:
        ValueError: no such folders.
    """
    places = find_clips(Path(path))
    if not places:
        raise ValueError(f"path: expected clips with 'frames' and 'modal' in them, got none in '{path}'")
    entries: list[tuple[str, tuple[Place, int]]] = []
    problems: list[str] = []
    for done, place in enumerate(places, 1):
        try:
            ids = _object_ids(place)
        except (ValueError, OSError) as error:
            problems.append(f"{place.name}: {error}")
            ids = []
        entries += [(f"{place.name}/{number}", (place, number)) for number in ids]
        if progress:
            progress("index", done, len(places))
    return ObjectClips("folders", path, entries, _read, problems)


def _object_ids(place: Place) -> list[int]:
    if place.modal.is_dir():
        inner = [p.name for p in place.modal.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]
        if inner and all(name.isdecimal() and int(name) > 0 for name in inner):
            return sorted(map(int, inner))
    files = _frames(place)
    return sorted(_masks(place.modal, image_size(files[0]), len(files)))


def _frames(place: Place) -> list[Path]:
    files = list_images(place.frames)
    if not files:
        raise ValueError(f"expected pictures in '{place.frames}', got none")
    return files


def _masks(path: Path, size: tuple[int, int], count: int) -> dict[int, Bool]:
    return {track.object_id: track.modal_masks for track in read_masks(path, size, count)}


def _read(entry: tuple[Place, int]) -> ObjectClip:
    place, number = entry
    name = f"{place.name}/{number}"
    try:
        files = _frames(place)
        size = image_size(files[0])
        modal = _masks(place.modal, size, len(files))
        whole = None if place.amodal is None else _masks(place.amodal, size, len(files))
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}: {error}") from error
    for what, masks in (("modal", modal), ("amodal", whole)):
        if masks is not None and number not in masks:
            raise ValueError(f"{name}: expected object {number} in the {what} masks, got {sorted(masks)}")
    names = tuple(file.stem for file in files)
    readers: dict[str, Callable[[], NDArray[Any]]] = {"frames": partial(read_images, files)}
    if place.depth is not None:
        readers["depth"] = partial(_depth, place.depth, size, len(files))
    return ObjectClip(
        name=name,
        group=place.name,
        family="",
        frames=names,
        modal=modal[number],
        amodal=None if whole is None else whole[number],
        numbers=tuple(frame_number(n, t) for t, n in enumerate(names)),
        images=tuple(map(str, files)),
        readers=readers,
    )


def _depth(path: Path, size: tuple[int, int], count: int) -> F32:
    depth = read_depth(path, size, count)
    return normalise_depth(depth if np.isfinite(depth).all() else clean_depth(depth))
