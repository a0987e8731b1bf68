"""SAIL-VOS: the sequences of the Diffusion-VAS release (one JSON), and the original folders, cut into such sequences.

JSON: a list of {segmentation, visible_mask: [RLE], bbox, image_ids, obj_id, category_id, image_file_names}.
Folders: ``VIDEO/images/000000.bmp``, ``VIDEO/visible/000000.npy`` (H, W) object ids,
``VIDEO/<4 digits><label>/000000.png`` the whole object, above 0. An object is visible where the ids are its digits.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.data.base import (
    ObjectClip,
    ObjectClips,
    Progress,
    cut_windows,
    decode_rles,
    frame_number,
    read_images,
    read_labels,
)
from diffvas.data.records import Place, find_lists, index_list, no_name_twice, one_length, only_list, read_record
from diffvas.types import Bool
from diffvas.video import open_image

KEYS = ("segmentation", "visible_mask", "bbox", "image_ids", "obj_id", "category_id", "image_file_names")
LENGTH, STRIDE = 25, 25
THRESHOLD, DETECTOR_WIDTH = 27.0, 256  # PySceneDetect's own defaults
_OBJECT = re.compile(r"(\d{4})(.*)")


# ---------------------------------------------------------------------------------------------------------------------
# JSON of the release


def find_json(path: Path) -> list[Path]:
    """The annotation files at ``path``: itself, or those in that folder."""
    return find_lists(path, ("visible_mask", "segmentation"))


def open_json(path: str | Path, *, images: str | Path | None = None, progress: Progress | None = None) -> ObjectClips:
    """The sequences of an annotation file.

    A clip is called "SCENE/OBJECT/FIRST IMAGE ID" and its frames "(image_id, obj_id)", as in prediction files.

    Args:
        path: the JSON, or a folder with one.
        images: the folder to which the file names are relative; the JSON's own by default. Pictures that were stored
            as .png instead of .bmp are found too.
        progress: called as ``progress("index", bytes read, bytes)``.

    Raises:
        ValueError: no such file, several of them in the folder, or broken JSON.
    """
    file = only_list(find_json(Path(path)), path, "SAIL-VOS", KEYS)
    entries, problems = index_list(file, lambda record: _names(record)[1], KEYS, progress)
    root = file.parent if images is None else Path(images)
    return ObjectClips("sailvos", path, entries, partial(_read_json, file, root, _categories(file)), problems)


@dataclass(frozen=True)
class Head:
    """What a record is about: ``name`` "SCENE/OBJECT/FIRST IMAGE ID", ``frames`` "(image_id, obj_id)" as predictions
    are called, ``images`` their files."""

    name: str
    scene: str
    frames: tuple[str, ...]
    images: tuple[str, ...]


def read_head(record: Mapping[str, Any], where: str = "") -> Head:
    """The head of a record, whose lists have one entry per frame.

    Raises:
        ValueError: lists of other lengths, or an image that stands twice; ``where`` begins the message.
    """
    scene, name = _names(record)
    where = where or name
    lists = ("segmentation", "visible_mask", "image_ids", "image_file_names", "bbox")
    one_length(record, [key for key in lists if key != "bbox" or key in record], where)  # scoring needs no boxes
    frames = tuple(f"({image}, {record['obj_id']})" for image in record["image_ids"])
    no_name_twice(frames, where)
    return Head(name, scene, frames, tuple(str(image) for image in record["image_file_names"]))


def _names(record: Mapping[str, Any]) -> tuple[str, str]:
    """The scene and the clip of a record."""
    folder = PurePosixPath(str(record["image_file_names"][0])).parent
    scene = str(folder.parent if folder.name == "images" else folder)
    return scene, f"{scene}/{record['obj_id']}/{record['image_ids'][0]}"


def _categories(file: Path) -> dict[int, str]:
    """Names of categories, where a ``categories.json`` stands beside."""
    table = file.with_name("categories.json")
    return {row["id"]: str(row["name"]) for row in json.loads(table.read_text())} if table.is_file() else {}


def _read_json(file: Path, root: Path, categories: Mapping[int, str], place: Place) -> ObjectClip:
    record = read_record(file, place)
    head = read_head(record)
    modal = decode_rles(f"{head.name}, visible_mask", record["visible_mask"])
    amodal = decode_rles(f"{head.name}, segmentation", record["segmentation"], modal.shape[1:])
    files = tuple(_picture(root, image) for image in head.images)
    category = record["category_id"]
    return ObjectClip(
        name=head.name,
        group=head.scene,
        family=categories.get(category, str(category)),
        frames=head.frames,
        modal=modal,
        amodal=amodal,
        numbers=tuple(frame_number(name, i) for i, name in enumerate(head.images)),
        images=files,
        protocol="reference",
        readers={"frames": partial(read_images, files)},
    )


def _picture(root: Path, name: str) -> str:
    place = root / name
    other = place.with_suffix(".png")
    return str(other if place.suffix == ".bmp" and not place.is_file() and other.is_file() else place)


# ---------------------------------------------------------------------------------------------------------------------
# original folders


def video_folders(path: Path) -> list[Path]:
    """The videos below ``path``, or itself: folders with ``images`` and ``visible``."""
    if not path.is_dir():
        return []
    return [p for p in [path, *sorted(path.iterdir())] if (p / "images").is_dir() and (p / "visible").is_dir()]


def open_folders(
    path: str | Path,
    *,
    index: str | Path | None = None,
    cuts: Mapping[str, Sequence[int]] | None = None,
    hidden: bool = False,
    length: int = LENGTH,
    stride: int = STRIDE,
    progress: Progress | None = None,
) -> ObjectClips:
    """Sequences of the original folders, as the paper cuts them: within one shot, whole, per object.

    The reference's sequences hold no frame in which the object is fully hidden, nor do these unless ``hidden``. Small
    and unoccluded objects stay in: a model has to learn when not to complete.

    Args:
        path: a folder of videos, or one video.
        index: a folder in which what was found is kept, a file per video, because finding shots and visible objects
            reads every file once; a later call goes on there. None = keep nothing.
        cuts: per video the numbers of the frames with which a new shot begins; without it PySceneDetect finds them.
        hidden: also take windows in which the object is seen in one frame at least, instead of in all.
        length, stride: frames of a sequence, and from the first of one to the first of the next.
        progress: called as ``progress("index", videos done, videos)``.

    Raises:
        ValueError: no such folders; no ``cuts`` and no PySceneDetect; a broken file.
    """
    videos = video_folders(Path(path))
    if not videos:
        raise ValueError(f"path: expected folders with 'images' and 'visible' in them, got none in '{path}'")
    if cuts is None:
        _detector()  # say so now and not after the first video
    entries: list[tuple[str, tuple[Path, str, tuple[int, ...]]]] = []
    problems: list[str] = []
    for done, video in enumerate(videos, 1):
        given = None if cuts is None else list(cuts.get(video.name, ()))
        try:
            found = _index_video(video, None if index is None else Path(index), given)
        except ValueError as error:
            problems.append(f"{video.name}: {error}")
            continue
        problems += found["problems"]
        for folder, numbers in _sequences(video, found, hidden, length, stride):
            entries.append((f"{video.name}/{int(folder[:4])}/{numbers[0]}", (video, folder, numbers)))
        if progress:
            progress("index", done, len(videos))
    return ObjectClips("sailvos-folders", path, entries, _read_folders, problems)


def _index_video(video: Path, index: Path | None, cuts: list[int] | None) -> dict[str, Any]:
    """What is in a video: ``frames``, ``cuts``, ``seen`` {id: frames with visible pixels}, ``problems``; from ``index``
    where it was found before."""
    images = {frame_number(p.name, -1): p for p in sorted((video / "images").iterdir())
              if p.suffix in (".bmp", ".png", ".jpg")}  # fmt: skip
    frames = sorted(images)
    stamp = {"version": 1, "frames": frames, "cuts_given": cuts}
    kept = None if index is None else index / f"{video.name}.json"
    if kept is not None and kept.is_file():
        found = json.loads(kept.read_text())
        if found.get("stamp") == stamp:
            return found
    seen: dict[int, list[int]] = {}
    problems = []
    for number in frames:
        try:
            ids = _ids(video / "visible" / f"{number:06d}.npy")
        except ValueError as error:
            problems.append(str(error))
            continue
        for value in _values(ids):
            seen.setdefault(value, []).append(number)
    if cuts is None:
        cuts = [frames[k] for k in find_cuts([images[n] for n in frames])]
    found = {"stamp": stamp, "frames": frames, "cuts": cuts, "problems": problems}
    found["seen"] = {str(value): numbers for value, numbers in seen.items()}
    if kept is not None and not problems:  # what is mended is to be read again
        kept.parent.mkdir(parents=True, exist_ok=True)
        beside = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
        beside.write_text(json.dumps(found))
        os.replace(beside, kept)
    return found


def _values(ids: NDArray[Any]) -> list[int]:
    """The different ids of a frame; counting is twenty times as fast as sorting."""
    if ids.dtype.kind in "iu" and ids.size and 0 <= ids.min() and ids.max() < 1 << 16:
        return np.flatnonzero(np.bincount(ids.reshape(-1))).tolist()
    return [int(value) for value in np.unique(ids)]


def _sequences(
    video: Path, found: dict[str, Any], hidden: bool, length: int, stride: int
) -> list[tuple[str, tuple[int, ...]]]:
    """(object's folder, frame numbers) of every sequence of a video, by time."""
    cuts = set(found["cuts"])
    shots: list[list[int]] = []
    for number in found["frames"]:
        if not shots or number in cuts or number != shots[-1][-1] + 1:
            shots.append([])
        shots[-1].append(number)
    masks = {
        folder.name: {frame_number(p.name, -1) for p in folder.glob("*.png")}
        for folder in sorted(video.iterdir())
        if folder.is_dir() and _OBJECT.fullmatch(folder.name)
    }
    visible = {folder: set(found["seen"].get(str(int(folder[:4])), ())) for folder in masks}
    out = []
    for shot in shots:
        for window in cut_windows(len(shot), length, stride):
            numbers = shot[window.start : window.stop]
            for folder, there in masks.items():
                seen = visible[folder].intersection(numbers)
                if there.issuperset(numbers) and (seen if hidden else len(seen) == length):
                    out.append((folder, tuple(numbers)))
    return out


def _read_folders(entry: tuple[Path, str, tuple[int, ...]]) -> ObjectClip:
    video, folder, numbers = entry
    found = _OBJECT.fullmatch(folder)
    assert found
    value = int(found[1])
    modal = np.stack([_ids(video / "visible" / f"{n:06d}.npy") == value for n in numbers])
    size = (modal.shape[1], modal.shape[2])
    amodal: Bool = np.stack([read_labels(video / folder / f"{n:06d}.png", size) > 0 for n in numbers])
    files = tuple(_picture(video / "images", f"{n:06d}.bmp") for n in numbers)
    return ObjectClip(
        name=f"{video.name}/{value}/{numbers[0]}",
        group=video.name,
        family=found[2].strip("_- "),
        frames=tuple(f"{n:06d}" for n in numbers),
        modal=modal,
        amodal=amodal,
        numbers=numbers,
        images=files,
        protocol="reference",
        readers={"frames": partial(read_images, files)},
    )


def _ids(file: Path) -> NDArray[Any]:
    """(H, W) object ids; ValueError where the file is missing, broken, or holds Python objects."""
    try:
        ids = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"visible: expected object ids, found no file '{file}'") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"visible: expected object ids, got '{file}', which cannot be read ({error})") from error
    if not isinstance(ids, np.ndarray) or ids.ndim != 2:
        raise ValueError(f"visible: expected (H, W) object ids, got {getattr(ids, 'shape', '?')} in '{file}'")
    return ids


def find_cuts(images: Sequence[Path], threshold: float = THRESHOLD) -> list[int]:
    """Positions of the pictures with which a new shot begins (the first is none), by PySceneDetect's ContentDetector.

    Pictures are shrunk to about 256 columns, and cuts less than 15 frames apart are one, as its command line does.

    Raises:
        ValueError: PySceneDetect is not installed, or a picture is broken.
    """
    detector, timecode = _detector(threshold)
    found: list[int] = []
    for number, file in enumerate(images):
        frame = np.asarray(open_image(file).convert("RGB"))[..., ::-1]
        factor = max(1.0, frame.shape[1] / DETECTOR_WIDTH)
        small = (max(1, round(frame.shape[1] / factor)), max(1, round(frame.shape[0] / factor)))
        frame = cv2.resize(frame, small, interpolation=cv2.INTER_LINEAR)
        found += [cut.frame_num for cut in detector.process_frame(timecode(number, 8.0), frame)]
    last = timecode(max(len(images) - 1, 0), 8.0)
    found += [cut.frame_num for cut in detector.post_process(last)]
    return sorted(set(found) - {0})


def _detector(threshold: float = THRESHOLD) -> tuple[Any, Any]:
    """PySceneDetect's detector and its time code; ValueError where it is not installed."""
    try:
        from scenedetect import ContentDetector, FrameTimecode
    except ImportError as error:
        raise ValueError(
            "cuts: expected PySceneDetect to find shots (pip install scenedetect-headless), or the cuts themselves, "
            "got neither"
        ) from error
    return ContentDetector(threshold=threshold), FrameTimecode
