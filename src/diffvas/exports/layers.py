"""One folder per object with all that is known of it, and a manifest that says what is what.

::

    layers/manifest.json
    layers/object_1/amodal/00000.png        and visible/, rgba/, probability/, as :mod:`diffvas.exports.png` writes them

A layer is the whole object: laid over the input it hides what stood in front of it. Which object is in front of which
is not part of a result, so "z" is null, and the order of the layers means nothing. There is no background plate either:
nothing was asked about what is behind all objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffvas import __version__
from diffvas.exports import ExportOptions
from diffvas.exports.annotations import mask_box
from diffvas.exports.png import PATTERN, layer_pictures, write_sequences
from diffvas.exports.result import Layer, Result

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = "diffvas-layers"


def write(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """Write the folders and the manifest."""
    entries = []
    for layer in result.layers:
        name = f"object_{layer.object_id}"
        pictures = layer_pictures(layer, options.alpha)
        write_sequences(pictures, {kind: folder / name / kind for kind in pictures}, result.num_frames, tick)
        files = {kind: f"{name}/{kind}/{PATTERN}" for kind in pictures}
        entries.append({"id": layer.object_id, "name": name, "z": None, "files": files, **_extent(layer, result)})
    manifest = {
        "format": MANIFEST_FORMAT,
        "version": __version__,
        "clip": result.clip_dict(),
        "first_frame": 0,
        "alpha": options.alpha,
        "colour": "sRGB, 8 bit",
        "masks": "0 or 255",
        "z_order": "unknown: a result does not say which object is in front",
        "layers": entries,
    }
    text = json.dumps(manifest, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")
    return {"files": {"manifest": [MANIFEST_NAME]}, "alpha": options.alpha, "colour": "sRGB, 8 bit"}


def _extent(layer: Layer, result: Result) -> dict[str, Any]:
    """In which frames the object is, and the box around all of it: [x, y, width, height], null if it is nowhere."""
    frames, boxes = [], []
    for t in range(result.num_frames):
        mask = layer.amodal(t)
        if mask.any():
            frames.append(t)
            boxes.append(mask_box(mask))
    if not boxes:
        return {"frames": [], "box": None}
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    return {"frames": frames, "box": [left, top, right - left, bottom - top]}
