"""MOVi-B and MOVi-D with amodal masks: EoRaS's build and C2F-Seg's (MOViD-Amodal), whole frames or their crops.

Per video, in ``SUBSET/VIDEO/``: ``rgba_full_00000.png``, ``segmentation_full_00000.png`` (visible, object + 1),
``segmentation_<object>_00000.png`` (whole, object + 1), ``depth_full_00000.tiff`` (metres), ``metadata.json``. What is
to be evaluated stands in ``SUBSET/instance_list.npy`` ("video-object", EoRaS) or in ``SUBSET_instance.txt``
("video_object_value", C2F-Seg).
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.data.base import Crop, ObjectClip, ObjectClips, crop_clip, read_images, read_labels
from diffvas.data.examples import relative_depth
from diffvas.types import F32, Bool
from diffvas.video import open_image

SUBSETS = ("train", "val", "test")
ENLARGE = 2.0
CROP_SIZES = {"eoras": (128, 128), "c2f": (256, 256)}
C2F_FRAMES = 24
_Entry = tuple[Path, int, int]  # a video's folder, the object, its value in the masks


def find_eoras(path: Path) -> list[Path]:
    """The subsets' folders with an ``instance_list.npy``: at ``path`` or right below."""
    return [p for p in [path, *(path / name for name in SUBSETS)] if (p / "instance_list.npy").is_file()]


def find_c2f(path: Path) -> list[Path]:
    """The ``SUBSET_instance.txt`` files at ``path``."""
    return [path / f"{name}_instance.txt" for name in SUBSETS if (path / f"{name}_instance.txt").is_file()]


def open_eoras(path: str | Path, *, split: str | None = None, crop: bool = False) -> ObjectClips:
    """The objects of EoRaS's build.

    Args:
        path: the data set, or one of its subsets.
        split: "train", "val" or "test"; None = all that are there.
        crop: every frame is cropped to twice the visible box and brought to 128 x 128, and frames in which the object
            is not visible are left out, as EoRaS does. Otherwise whole frames, all of them.

    Raises:
        ValueError: nothing of the kind there, or a list that cannot be read.
    """
    subsets = [p for p in find_eoras(Path(path)) if split is None or p.name == split]
    if not subsets:
        raise ValueError(f"path: expected an instance_list.npy of {split or 'a subset'}, got none in '{path}'")
    rows = [(subset, text, text.split("-")) for subset in subsets for text in _instance_list(subset)]
    entries, problems = _entries([(p, text, parts if len(parts) == 2 else []) for p, text, parts in rows])
    return ObjectClips("movi", path, entries, partial(_read, "eoras", crop), problems)


def open_c2f(path: str | Path, *, split: str | None = None, crop: bool = False) -> ObjectClips:
    """The objects of MOViD-Amodal; the first 24 frames, as C2F-Seg takes them.

    Args:
        path, split: as for ``open_eoras``.
        crop: every frame is cropped to twice the visible box, and all are brought to 256 x 256 by one scale. A frame in
            which the object is not visible is shown whole, and not counted.

    Raises:
        ValueError: nothing of the kind there.
    """
    lists = [p for p in find_c2f(Path(path)) if split is None or p.name == f"{split}_instance.txt"]
    if not lists:
        raise ValueError(f"path: expected a {split or 'SUBSET'}_instance.txt, got none in '{path}'")
    rows = [
        (file.with_name(file.name.removesuffix("_instance.txt")), line.strip(), line.strip().split("_"))
        for file in lists
        for line in file.read_text().splitlines()
        if line.strip()
    ]
    entries, problems = _entries([(p, text, parts if len(parts) == 3 else []) for p, text, parts in rows])
    return ObjectClips("movid-amodal", path, entries, partial(_read, "c2f", crop), problems)


def _instance_list(subset: Path) -> list[str]:
    file = subset / "instance_list.npy"
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"path: expected a list of 'video-object' texts, got '{file}' ({error})") from error
    return [str(text) for text in np.atleast_1d(found).tolist()]


def _entries(rows: list[tuple[Path, str, list[str]]]) -> tuple[list[tuple[str, _Entry]], list[str]]:
    """What is listed, by names "SUBSET/VIDEO/OBJECT", and what is wrong with the list."""
    entries: list[tuple[str, _Entry]] = []
    problems: list[str] = []
    there: dict[Path, bool] = {}
    for subset, text, parts in rows:
        if not parts or not all(part.isdecimal() for part in parts[1:]):
            problems.append(f"list of '{subset}': expected a video and the number of an object, got '{text}'")
            continue
        video, index = subset / parts[0], int(parts[1])
        if not there.setdefault(video, (video / "metadata.json").is_file()):
            problems.append(f"'{text}': expected a video, found no '{video / 'metadata.json'}'")
            continue
        value = int(parts[2]) if len(parts) == 3 else index + 1
        entries.append((f"{subset.name}/{parts[0]}/{index}", (video, index, value)))
    return entries, problems


def _read(protocol: str, crop: bool, entry: _Entry) -> ObjectClip:
    video, index, value = entry
    name = f"{video.parent.name}/{video.name}/{index}"
    meta, instance = _metadata(video, index, name)
    count = min(meta["num_frames"], C2F_FRAMES) if protocol == "c2f" else meta["num_frames"]
    size = (meta["height"], meta["width"])
    boxes = {int(t): box for t, box in zip(instance["bbox_frames"], instance["bboxes"], strict=True) if int(t) < count}
    times = [t for t in range(count) if t in boxes] if crop and protocol == "eoras" else list(range(count))
    if not times:
        raise ValueError(f"{name}: expected one frame at least in which the object is visible, got none")
    files = tuple(str(video / f"rgba_full_{t:05d}.png") for t in times)
    clip = ObjectClip(
        name=name,
        group=f"{video.parent.name}/{video.name}",
        family=str(instance.get("category", "")),
        frames=tuple(f"{t:05d}" for t in times),
        modal=_masks(video, "full", times, value, size),
        amodal=_masks(video, str(index), times, value, size),
        numbers=tuple(times),
        images=files,
        counted=np.array([t in boxes for t in times]),
        protocol=protocol,
        readers={"frames": partial(read_images, files), "depth": partial(read_depth, video, tuple(times))},
    )
    if not crop:
        return clip
    # where the object is not visible C2F-Seg's own code takes the box of the true whole object, which nobody can know
    windows = [crop_window(boxes[t], size) if t in boxes else [0, size[0], 0, size[1]] for t in times]
    return crop_clip(clip, Crop(np.array(windows), size, CROP_SIZES[protocol], one_scale=protocol == "c2f"))


def _metadata(video: Path, index: int, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(``metadata``, the object's entry in ``instances``), each with what is needed of it."""
    try:
        content = json.loads((video / "metadata.json").read_text())
        meta, instances = content["metadata"], content["instances"]
        sizes = [meta[key] for key in ("num_frames", "height", "width")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{name}: expected a metadata.json with 'metadata' and 'instances' ({error!r})") from error
    if not all(type(n) is int and n > 0 for n in sizes):
        raise ValueError(f"{name}: expected num_frames, height and width of 1 or more, got {sizes}")
    if index >= len(instances) or not {"bboxes", "bbox_frames"} <= instances[index].keys():
        raise ValueError(f"{name}: expected object {index} with bboxes and bbox_frames, got {len(instances)} objects")
    if len(instances[index]["bboxes"]) != len(instances[index]["bbox_frames"]):
        raise ValueError(f"{name}: expected as many bboxes as bbox_frames, got others")
    return meta, instances[index]


def _masks(video: Path, which: str, times: list[int], value: int, size: tuple[int, int]) -> Bool:
    return np.stack([read_labels(video / f"segmentation_{which}_{t:05d}.png", size) == value for t in times])


def read_depth(video: Path, times: tuple[int, ...]) -> F32:
    """(T, H, W) float32 in [0, 1], 1 = near, of a video's metric depth; ValueError where a file is missing."""
    maps = []
    for t in times:
        file = video / f"depth_full_{t:05d}.tiff"
        if not file.is_file():
            raise ValueError(f"depth: expected metres, found no file '{file}'")
        metres = np.asarray(open_image(file), np.float32)
        maps.append(metres[..., 0] if metres.ndim == 3 else metres)
    return relative_depth(np.stack(maps))


def crop_window(box: tuple[float, ...] | list[float], size: tuple[int, int], enlarge: float = ENLARGE) -> list[int]:
    """[top, bottom, left, right] of the crop around a box, one past the last row and column.

    As EoRaS and C2F-Seg work it out, roundings included: the box in whole pixels, its centre rounded down, its sides
    enlarged and rounded down, clipped to the frame, and the last row and column taken in.

    Args:
        box: [ymin, xmin, ymax, xmax] in shares of the frame. size: (height, width) of the frame.
    """
    out = []
    for low, high, length in ((box[0], box[2], size[0]), (box[1], box[3], size[1])):
        first, last = int(length * low), int(length * high)
        centre, half = (first + last) // 2, int((last - first) * enlarge) // 2
        out += [max(0, centre - half), min(length, centre + half + 1)]
    return out
