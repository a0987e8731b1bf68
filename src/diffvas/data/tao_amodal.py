"""TAO-Amodal: amodal boxes that may leave the frame, visible masks, and no amodal masks.

JSON of the Diffusion-VAS release: a list of {track_id, category_id, video_id, file_names, rles: [counts], height,
width, amodal_bboxes: [xywh]}. Originals: ``frames/SPLIT/SOURCE/VIDEO/...``, ``amodal_annotations/SPLIT.json``
(COCO-style, with ``amodal_bbox``) and BURST's visible masks in ``BURST_annotations/SPLIT/*.json``.

``base.on_canvas`` gives the larger canvas on which the paper predicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from diffvas.data.base import (
    F64,
    ObjectClip,
    ObjectClips,
    Progress,
    cut_windows,
    decode_rles,
    frame_number,
    read_images,
)
from diffvas.data.records import (
    Place,
    find_lists,
    index_list,
    lacking,
    no_name_twice,
    one_length,
    only_list,
    read_record,
)
from diffvas.metrics.box import check_boxes

KEYS = ("track_id", "category_id", "video_id", "file_names", "rles", "height", "width", "amodal_bboxes")
LENGTH, STRIDE = 25, 25
SPLITS = ("train", "validation", "test")
BURST_NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


# ---------------------------------------------------------------------------------------------------------------------
# JSON of the release


def find_json(path: Path) -> list[Path]:
    """The annotation files at ``path``: itself, or those in that folder."""
    return find_lists(path, ("rles", "amodal_bboxes"))


def open_json(path: str | Path, *, images: str | Path | None = None, progress: Progress | None = None) -> ObjectClips:
    """The sequences of an annotation file.

    A clip is called "VIDEO ID/TRACK ID/FIRST FRAME", and its frames by their files without folders.

    Args:
        path: the JSON, or a folder with one.
        images: the folder to which the file names are relative; the JSON's own by default.
        progress: called as ``progress("index", bytes read, bytes)``.

    Raises:
        ValueError: no such file, several of them in the folder, or broken JSON.
    """
    file = only_list(find_json(Path(path)), path, "TAO-Amodal", KEYS)
    entries, problems = index_list(file, _name, KEYS, progress)
    root = file.parent if images is None else Path(images)
    return ObjectClips("tao-amodal", path, entries, partial(_read_json, file, root), problems)


def _name(record: Mapping[str, Any]) -> str:
    return f"{record['video_id']}/{record['track_id']}/{PurePosixPath(str(record['file_names'][0])).name}"


@dataclass(frozen=True, eq=False)
class Head:
    """What a record is about: ``name`` "VIDEO ID/TRACK ID/FIRST FRAME", ``group`` the video id, ``frames`` without
    their folders, ``files`` with them, ``rles`` visible masks (None = not visible), ``boxes`` (T, 4) amodal ones."""

    name: str
    group: str
    frames: tuple[str, ...]
    files: tuple[str, ...]
    rles: tuple[dict[str, Any] | None, ...]
    boxes: F64


def read_head(record: Mapping[str, Any], where: str = "") -> Head:
    """A record of the release's form.

    Raises:
        ValueError: lists of other lengths, a frame that stands twice, or boxes that are none; ``where`` begins the
            message.
    """
    name = _name(record)
    where = where or name
    one_length(record, ("file_names", "rles", "amodal_bboxes"), where)
    files = tuple(str(file) for file in record["file_names"])
    frames = tuple(PurePosixPath(file).name for file in files)
    no_name_twice(frames, where)
    size = [record["height"], record["width"]]
    rles = tuple(None if counts is None else {"size": size, "counts": counts} for counts in record["rles"])
    boxes = check_boxes(f"{where}, amodal_bboxes", record["amodal_bboxes"])
    return Head(name, str(record["video_id"]), frames, files, rles, boxes)


def _read_json(file: Path, root: Path, place: Place) -> ObjectClip:
    record = read_record(file, place)
    return _clip(record, root, str(record["category_id"]))


def _clip(record: Mapping[str, Any], root: Path, family: str) -> ObjectClip:
    """A clip from a record of the release's form; masks that are None are empty."""
    head = read_head(record)
    files = tuple(str(root / file) for file in head.files)
    return ObjectClip(
        name=head.name,
        group=head.group,
        family=family,
        frames=head.frames,
        modal=decode_rles(f"{head.name}, rles", head.rles, [record["height"], record["width"]]),
        numbers=tuple(frame_number(file, i) for i, file in enumerate(head.files)),
        images=files,
        boxes=head.boxes,
        protocol="reference",
        readers={"frames": partial(read_images, files)},
    )


# ---------------------------------------------------------------------------------------------------------------------
# originals


def find_splits(path: Path) -> list[str]:
    """The splits of which there are original annotations below ``path``."""
    return [split for split in SPLITS if (path / "amodal_annotations" / f"{split}.json").is_file()]


def open_originals(
    path: str | Path, *, split: str | None = None, hidden: bool = False, length: int = LENGTH, stride: int = STRIDE
) -> ObjectClips:
    """Sequences of the original annotations: per track, runs of annotated frames of its video.

    Args:
        path: the folder with ``amodal_annotations``, ``BURST_annotations`` and ``frames``.
        split: "train", "validation" or "test"; None = the only one that is there.
        hidden: also take sequences in which the object is visible in one frame at least, instead of in all.
        length, stride: annotated frames of a sequence, and from the first of one to the first of the next.

    Raises:
        ValueError: no such files, several splits and none chosen, or broken JSON.
    """
    path = Path(path)
    there = find_splits(path)
    if split is None and len(there) != 1:
        raise ValueError(f"split: expected one of {', '.join(there) or SPLITS}, got none")
    split = split or there[0]
    masks = _burst_file(path, split)
    annotations = _load(path / "amodal_annotations" / f"{split}.json", ("images", "videos", "tracks", "annotations"))
    problems: list[str] = []
    try:
        visible = _visible_masks(_load(masks, ("sequences",)))
        categories = {row["id"]: str(row["name"]) for row in annotations.get("categories", ())}
        records = _tracks(annotations, visible, problems)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"path: expected annotations as TAO and BURST write them, got others ({error!r})") from error
    entries: list[tuple[str, dict[str, Any]]] = []
    for record in records:
        for window in cut_windows(len(record["file_names"]), length, stride):
            part = {key: value[window.start : window.stop] if isinstance(value, list) else value
                    for key, value in record.items()}  # fmt: skip
            seen = sum(counts is not None for counts in part["rles"])
            if None not in part["amodal_bboxes"] and (seen if hidden else seen == length):
                entries.append((_name(part), part))
    read = partial(_read_original, path / "frames", categories)
    return ObjectClips("tao-amodal-folders", path, entries, read, problems)


def _read_original(root: Path, categories: Mapping[int, str], record: Mapping[str, Any]) -> ObjectClip:
    category = record["category_id"]
    return _clip(record, root, categories.get(category, str(category)))


def _burst_file(path: Path, split: str) -> Path:
    looked = [
        path / "BURST_annotations" / folder / name
        for folder in BURST_NAMES.get(split, (split,))
        for name in (f"{folder}_visibility.json", "all_classes_visibility.json", f"{folder}.json", "all_classes.json")
    ]
    for file in looked:
        if file.is_file():
            return file
    raise ValueError(f"path: expected BURST's visible masks, looked for {', '.join(map(str, looked))}, got none")


def _load(file: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"path: expected annotations, found no file '{file}'") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: expected whole JSON in '{file}', got something else ({error})") from None
    if not isinstance(content, dict) or lacking(content, keys):
        raise ValueError(f"path: expected an object with {', '.join(keys)} in '{file}', got something else")
    return content


def _visible_masks(burst: Mapping[str, Any]) -> dict[str, dict[str, dict[int, str]]]:
    """{"SOURCE/VIDEO": {picture: {track, counted from 1 in its video: counts}}}"""
    out = {}
    for sequence in burst["sequences"]:
        frames = zip(sequence["annotated_image_paths"], sequence["segmentations"], strict=True)
        out[f"{sequence['dataset']}/{sequence['seq_name']}"] = {
            PurePosixPath(file).name: {int(track): mask["rle"] for track, mask in masks.items()}
            for file, masks in frames
        }
    return out


def _tracks(
    content: Mapping[str, Any], visible: Mapping[str, dict[str, dict[int, str]]], problems: list[str]
) -> list[dict[str, Any]]:
    """A record of the release's form per track, with all annotated frames of its video; None = no box or no mask."""
    images: dict[int, list[dict[str, Any]]] = {}
    for image in content["images"]:
        images.setdefault(image["video_id"], []).append(image)
    boxes: dict[int, dict[int, list[float]]] = {}
    for row in content["annotations"]:
        if row.get("amodal_bbox") is not None:
            frames = boxes.setdefault(row["track_id"], {})
            if row["image_id"] in frames:
                problems.append(f"track {row['track_id']}: expected one box per image, got two in {row['image_id']}")
            frames[row["image_id"]] = row["amodal_bbox"]
    names = {video["id"]: str(video["name"]) for video in content["videos"]}
    first: dict[int, int] = {}
    for track in content["tracks"]:
        first[track["video_id"]] = min(track["id"], first.get(track["video_id"], track["id"]))
    out = []
    for track in content["tracks"]:
        video = track["video_id"]
        rows = sorted(images.get(video, ()), key=lambda row: (row.get("frame_index", 0), row["file_name"]))
        # BURST leaves the split out of its names
        masks = visible.get("/".join(names.get(video, "").split("/")[-2:]))
        if masks is None or not rows:
            problems.append(f"video {video} ('{names.get(video)}'): expected pictures, and masks in BURST, got none")
            continue
        rows = [row for row in rows if PurePosixPath(row["file_name"]).name in masks]
        number = track["id"] - first[video] + 1  # BURST counts the tracks of a video from 1
        out.append({
            "track_id": track["id"],
            "category_id": track["category_id"],
            "video_id": video,
            "file_names": [row["file_name"] for row in rows],
            "rles": [masks[PurePosixPath(row["file_name"]).name].get(number) for row in rows],
            "height": rows[0]["height"] if rows else 0,
            "width": rows[0]["width"] if rows else 0,
            "amodal_bboxes": [boxes.get(track["id"], {}).get(row["id"]) for row in rows],
        })  # fmt: skip
    return out
