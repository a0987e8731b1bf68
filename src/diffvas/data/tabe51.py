"""TABE-51: real clips composited over each other, so that real silhouettes have a true hidden part.

Per video: ``frames/00000.jpg``, ``visible_masks/00000.png``, ``gt_masks/00000.png`` (above 0) and ``annos.json``,
{"occlusion": [{"level": ..., "amount": ...} per frame]}. The videos stand below ``TABE-51/data``.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.data.base import ObjectClip, ObjectClips, frame_number, image_size, read_images, read_labels
from diffvas.types import Bool
from diffvas.video import list_images

PARTS = ("frames", "visible_masks", "gt_masks")
LEVELS = ("severe", "slight", "none", "unknown")  # as TABE's code numbers them


def find_videos(path: Path) -> list[Path]:
    """The videos at ``path``: right below it, or below its ``data`` or ``TABE-51/data``; itself if it is one."""
    for root in (path, path / "data", path / "TABE-51" / "data"):
        if root.is_dir():
            found = [p for p in [root, *sorted(root.iterdir())] if all((p / part).is_dir() for part in PARTS[:2])]
            if found:
                return found
    return []


def open_tabe51(path: str | Path) -> ObjectClips:
    """The videos of TABE-51, or of another data set in its layout; without ``gt_masks`` there is no truth.

    Raises:
        ValueError: no videos there.
    """
    videos = find_videos(Path(path))
    if not videos:
        raise ValueError(f"path: expected folders with {' and '.join(PARTS[:2])} in them, got none in '{path}'")
    return ObjectClips("tabe51", path, [(video.name, video) for video in videos], _read)


def _read(video: Path) -> ObjectClip:
    files = list_images(video / "frames")
    if not files:
        raise ValueError(f"{video.name}: expected pictures in '{video / 'frames'}', got none")
    size = image_size(files[0])
    names = tuple(file.stem for file in files)
    return ObjectClip(
        name=video.name,
        group=video.name,
        family="",
        frames=names,
        modal=_masks(video / "visible_masks", names, size),
        amodal=_masks(video / "gt_masks", names, size) if (video / "gt_masks").is_dir() else None,
        numbers=tuple(frame_number(name, t) for t, name in enumerate(names)),
        images=tuple(map(str, files)),
        levels=_levels(video, len(files)),
        readers={"frames": partial(read_images, files)},
    )


def _masks(folder: Path, names: tuple[str, ...], size: tuple[int, int]) -> Bool:
    files = list_images(folder)
    if len(files) != len(names):
        raise ValueError(f"{folder.parent.name}: expected {len(names)} masks, one per picture, got {len(files)} in "
                         f"'{folder}'")  # fmt: skip
    return np.stack([read_labels(file, size) > 0 for file in files])


def _levels(video: Path, count: int) -> tuple[str, ...]:
    file = video / "annos.json"
    if not file.is_file():
        return ()
    try:
        rows = json.loads(file.read_bytes())["occlusion"]
        levels = tuple(_level(row["level"]) for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{video.name}: expected occlusion levels in '{file}', got others ({error})") from error
    if len(levels) != count:
        raise ValueError(f"{video.name}: expected {count} occlusion levels, one per picture, got {len(levels)}")
    return levels


def _level(value: Any) -> str:
    """TABE's numbers and names ("SEVERE_OCCLUSION", "NO_OCCLUSION", "NONE", ...) as one of ``LEVELS``."""
    text = "none" if value is None else str(value).lower()
    if text in ("3", "none"):
        return "unknown"
    starts = {"0": "severe", "1": "slight", "2": "none", "severe": "severe", "slight": "slight", "no": "none"}
    for start, level in starts.items():
        if text.startswith(start):
            return level
    raise ValueError(f"unknown level {value!r}")
