"""YouTube-VIS annotations, twice: ``modal.json`` has the visible masks, ``amodal.json`` the whole ones.

Videos, categories and annotation ids are the same in both; a frame without any of the object is null, as in
YouTube-VIS. ``file_names`` are relative to the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffvas.export import encode_rle
from diffvas.world.clip import SceneClip
from diffvas.world.exporters.common import Array, Categories, box_of, seen_objects, write_frames


def export(clips: Iterable[SceneClip], folder: Path, subset: str) -> None:
    """Write clips; ``subset`` plays no part."""
    videos: list[dict[str, Any]] = []
    annotations: dict[str, list[dict[str, Any]]] = {"modal": [], "amodal": []}
    categories = Categories()
    for number, clip in enumerate(clips, 1):
        time, height, width = clip.depth.shape
        size = {"height": height, "width": width, "length": time}
        videos.append({"id": number, **size, "file_names": write_frames(folder, clip), "name": clip.name})
        for index in seen_objects(clip):
            common = {
                "id": len(annotations["modal"]) + 1,
                "video_id": number,
                "category_id": categories.of(clip, index),
                "iscrowd": 0,
                **size,
            }
            for kind, masks in (("modal", clip.modal_mask(index)), ("amodal", clip.amodal_masks[index])):
                annotations[kind].append({**common, **_tracks(masks)})
    for kind, found in annotations.items():
        content = {
            "info": {"description": f"synthetic scenes, {kind} masks"},
            "videos": videos,
            "categories": categories.table(),
            "annotations": found,
        }
        (folder / f"{kind}.json").write_text(json.dumps(content))


def _tracks(masks: Array) -> dict[str, list[Any]]:
    there = [bool(mask.any()) for mask in masks]
    return {
        "segmentations": [encode_rle(mask) if on else None for mask, on in zip(masks, there, strict=True)],
        "bboxes": [box_of(mask) if on else None for mask, on in zip(masks, there, strict=True)],
        "areas": [int(mask.sum()) if on else None for mask, on in zip(masks, there, strict=True)],
    }
