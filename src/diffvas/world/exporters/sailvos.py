"""SAIL-VOS sequences as the annotation files of Diffusion-VAS have them.

``annotations.json`` is a list with one entry per object: ``segmentation`` and ``visible_mask`` (a COCO RLE per frame,
amodal and modal), ``bbox`` (amodal, [x, y, width, height]), ``image_ids``, ``image_file_names``, ``obj_id``,
``category_id``. File names are relative to the folder and begin with ``images/``: the reference adds them to its root
as text, so give it the root with a slash at its end. ``categories.json`` names the categories.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from diffvas.export import encode_rle
from diffvas.world.clip import SceneClip
from diffvas.world.exporters.common import Categories, box_of, seen_objects, write_frames


def export(clips: Iterable[SceneClip], folder: Path, subset: str) -> None:
    """Write clips; ``subset`` plays no part."""
    entries, categories, images = [], Categories(), 0
    for clip in clips:
        names = write_frames(folder, clip)
        for index in seen_objects(clip):
            amodal, modal = clip.amodal_masks[index], clip.modal_mask(index)
            entries.append(
                {
                    "segmentation": [encode_rle(mask) for mask in amodal],
                    "visible_mask": [encode_rle(mask) for mask in modal],
                    "bbox": [box_of(mask) for mask in amodal],
                    "image_ids": list(range(images, images + len(names))),
                    "obj_id": index + 1,
                    "category_id": categories.of(clip, index),
                    "image_file_names": names,
                }
            )
        images += len(names)
    (folder / "annotations.json").write_text(json.dumps(entries))
    (folder / "categories.json").write_text(json.dumps(categories.table()))
