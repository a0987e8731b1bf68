"""COCO JSON: one image per frame, one annotation per object and frame.

``segmentation`` is the whole object, ``visible_segmentation`` what is seen of it, both compressed RLE with iscrowd 0,
which pycocotools reads; ``track_id`` is the object's id. A frame without any of the object has no annotation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffvas.export import encode_rle
from diffvas.exports import ExportOptions
from diffvas.exports.annotations import category_table, mask_box, write_compact_json
from diffvas.exports.result import Layer, Result

FILE_NAME = "annotations.json"


def write(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """Write annotations.json."""
    names = options.frame_names(result.num_frames, "%05d.jpg")
    images = [
        {"id": t + 1, "file_name": name, "width": result.width, "height": result.height, "frame": t, "video_id": 1}
        for t, name in enumerate(names)
    ]
    annotations: list[dict[str, Any]] = []
    for layer in result.layers:
        for t in range(result.num_frames):
            found = _annotation(layer, t)
            if found is not None:
                annotations.append({"id": len(annotations) + 1, **found})
            tick()
    content = {
        "info": {"description": f"{result.name}: whole objects", "version": result.version},
        "images": images,
        "annotations": annotations,
        "categories": category_table(options.category),
    }
    write_compact_json(folder / FILE_NAME, content)
    return {"files": {"annotations": [FILE_NAME]}, "frames": [names[0], names[-1]]}


def _annotation(layer: Layer, t: int) -> dict[str, Any] | None:
    amodal = layer.amodal(t)
    if not amodal.any():
        return None
    annotation: dict[str, Any] = {
        "image_id": t + 1,
        "category_id": 1,
        "track_id": layer.object_id,
        "iscrowd": 0,
        "segmentation": encode_rle(amodal),
        "area": int(amodal.sum()),
        "bbox": mask_box(amodal),
    }
    if layer.modal is not None:
        modal = layer.modal(t)
        annotation["visible_segmentation"] = encode_rle(modal)
        annotation["visible_area"] = int(modal.sum())
    return annotation
