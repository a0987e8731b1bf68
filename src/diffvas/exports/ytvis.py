"""YouTube-VIS JSON, twice: ``amodal.json`` has whole objects, ``visible.json`` what is seen of them.

Ids are the same in both. A frame without any of the object is null, as in YouTube-VIS; an object that is in no frame at
all is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffvas.export import encode_rle
from diffvas.exports import ExportOptions
from diffvas.exports.annotations import category_table, mask_box, write_compact_json
from diffvas.exports.result import Result
from diffvas.types import Bool


def write(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """Write amodal.json and, where the result holds visible masks, visible.json."""
    names = options.frame_names(result.num_frames, result.name.replace("%", "%%").replace("/", "_") + "/%05d.jpg")
    kinds = ["amodal"] + ["visible"] * all(layer.modal is not None for layer in result.layers)
    annotations: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    size = {"width": result.width, "height": result.height, "length": result.num_frames}
    for layer in result.layers:
        tracks: dict[str, _Track] = {kind: _Track() for kind in kinds}
        for t in range(result.num_frames):
            tracks["amodal"].add(layer.amodal(t))
            if "visible" in tracks and layer.modal is not None:
                tracks["visible"].add(layer.modal(t))
            tick()
        for kind, track in tracks.items():
            if any(track.areas):
                common = {"id": layer.object_id, "video_id": 1, "category_id": 1, "iscrowd": 0, **size}
                annotations[kind].append({**common, **vars(track)})
    for kind in kinds:
        content = {
            "info": {"description": f"{result.name}: {kind} masks", "version": result.version},
            "videos": [{"id": 1, **size, "file_names": names, "name": result.name}],
            "categories": category_table(options.category),
            "annotations": annotations[kind],
        }
        write_compact_json(folder / f"{kind}.json", content)
    return {"files": {kind: [f"{kind}.json"] for kind in kinds}, "frames": [names[0], names[-1]]}


class _Track:
    """The per-frame lists of an annotation."""

    def __init__(self) -> None:
        self.segmentations: list[dict[str, Any] | None] = []
        self.bboxes: list[list[int] | None] = []
        self.areas: list[int | None] = []

    def add(self, mask: Bool) -> None:
        there = bool(mask.any())
        self.segmentations.append(encode_rle(mask) if there else None)
        self.bboxes.append(mask_box(mask) if there else None)
        self.areas.append(int(mask.sum()) if there else None)
