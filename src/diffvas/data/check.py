"""What is in a data set, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.data.base import ObjectClip, image_size
from diffvas.data.datasets import DATASETS, find_kind, open_objects
from diffvas.world.stats import LEVEL_NAMES, level_of

Progress = Callable[[str, int, int], None]


@dataclass
class DataReport:
    """What is in a data set.

    Attributes:
        kind: the layout. clips: groups (scenes, videos). objects, frames: object clips, and frames of all of them.
        sizes: how many objects there are per (height, width) of their masks.
        truth: "masks", "boxes", "some masks" (not for all objects) or "none".
        levels: per level of visibility how many of the objects' frames; ``absent`` those without the object.
        outside: frames in which visible pixels are not part of the whole object: a fault of the annotation, which
            real data sets have; not counted as a problem.
        pictures: how many picture files are named, and ``missing`` how many of them are not there.
        problems: what is wrong, a sentence each.
    """

    kind: str
    path: str
    clips: int = 0
    objects: int = 0
    frames: int = 0
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    truth: str = "none"
    levels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEVEL_NAMES, 0))
    absent: int = 0
    outside: int = 0
    pictures: int = 0
    missing: int = 0
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        sizes = {f"{height}x{width}": count for (height, width), count in self.sizes.items()}
        return {**self.__dict__, "sizes": sizes}


def check_objects(
    path: str | Path,
    kind: str | None = None,
    *,
    pixels: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> DataReport:
    """Read every object of a data set and say what is there and what is wrong.

    Looked at are the masks of every object (missing files, sizes, invalid run lengths), its frames (names that stand
    twice, numbers that do not ascend), names of objects that stand twice, and the pictures' headers (missing files,
    sizes). Pictures of a data set that has none at all, as annotation files that stand alone, are no problem.

    Args:
        path: a folder or an annotation file. kind, options: see ``open_objects``.
        pixels: also read pictures and depth as a whole, which takes much longer.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        FileNotFoundError: no such path.
        ValueError: an unknown layout, kind or option, or a file broken in such a way that nothing can be opened.
    """
    kind = kind or find_kind(path)
    if progress and kind in DATASETS and "progress" in DATASETS[kind].options:
        options["progress"] = progress
    clips = open_objects(path, kind, tolerant=True, **options)
    report = DataReport(kind, str(path), problems=list(clips.problems))
    pictures = _Pictures()
    groups: set[str] = set()
    kinds = {"masks": 0, "boxes": 0, "none": 0}
    for done, name in enumerate(clips.names, 1):
        try:
            clip = clips.get(name)
        except (ValueError, OSError) as error:
            report.problems.append(f"{name}: {_reason(error, name)}")
        else:
            groups.add(clip.group)
            kinds["masks" if clip.amodal is not None else "boxes" if clip.boxes is not None else "none"] += 1
            _count(clip, report)
            report.problems += _clip_problems(clip)
            pictures.look(clip)
            if pixels:
                report.problems += _pixel_problems(clip)
        if progress:
            progress("check", done, len(clips))
    report.clips, report.pictures, report.missing = len(groups), len(pictures.seen), len(pictures.missing)
    if pictures.missing and len(pictures.missing) < len(pictures.seen):
        report.problems += [f"expected a picture, found no file '{file}'" for file in sorted(pictures.missing)]
    report.problems += pictures.problems
    report.truth = _truth(kinds)
    if not len(clips) and not report.problems:
        report.problems.append("expected one object at least, got none")
    return report


def _reason(error: Exception, name: str) -> str:
    return str(error).removeprefix(f"{name}: ").removeprefix(f"{name}, ")


def _truth(kinds: dict[str, int]) -> str:
    there = [kind for kind, count in kinds.items() if count]
    if there == ["masks"] or there == ["boxes"]:
        return there[0]
    return "some masks" if "masks" in there else "some boxes" if "boxes" in there else "none"


def _count(clip: ObjectClip, report: DataReport) -> None:
    report.objects += 1
    report.frames += len(clip.frames)
    report.sizes[clip.size] = report.sizes.get(clip.size, 0) + 1
    if clip.amodal is None and clip.boxes is None:
        return
    visible = clip.visible()
    there = visible[np.isfinite(visible)]
    report.absent += len(visible) - len(there)
    for level in level_of(there):
        report.levels[LEVEL_NAMES[int(level)]] += 1
    if clip.amodal is not None:
        report.outside += int((clip.modal & ~clip.amodal).any((1, 2)).sum())


def _clip_problems(clip: ObjectClip) -> Iterator[str]:
    for (first, second), name in zip(pairwise(clip.numbers), clip.frames[1:], strict=False):
        if second <= first:
            yield f"{clip.name}: expected frames in order, got number {second} ('{name}') after {first}"
            break
    if not clip.modal.any():
        yield f"{clip.name}: expected the object to be visible in one frame at least, got no visible pixel"
    if clip.boxes is not None:
        flat = int((clip.boxes[:, 2:] <= 0).any(1).sum())
        if flat:
            yield f"{clip.name}: expected boxes with an area, got {flat} without"


def _pixel_problems(clip: ObjectClip) -> Iterator[str]:
    for read in (clip.frames_u8, clip.depth, clip.alone_u8):
        try:
            read()
        except (ValueError, OSError) as error:
            yield f"{clip.name}: {_reason(error, clip.name)}"


class _Pictures:
    """Looks at every picture once, by its header, though several objects name it."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.missing: set[str] = set()
        self.problems: list[str] = []

    def look(self, clip: ObjectClip) -> None:
        frame = clip.size if clip.crop is None else clip.crop.frame
        for file in clip.images:
            if file in self.seen:
                continue
            self.seen.add(file)
            if not Path(file).is_file():
                self.missing.add(file)
                continue
            try:
                size = image_size(file)
            except ValueError as error:
                self.problems.append(str(error).removeprefix("images: "))
                continue
            if size != frame:
                self.problems.append(
                    f"{clip.name}: expected pictures of {frame[1]} x {frame[0]} pixels like the masks, got {size[1]} x "
                    f"{size[0]} in '{file}'"
                )
