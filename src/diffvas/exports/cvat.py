"""Masks for CVAT, in two of its formats.

``cvat/annotations.xml``: "CVAT 1.1" of images; every object whole, also where objects overlap, as a mask of its own.
``group_id`` is the object's id, and ``occluded`` says that a part of it is hidden.

``cvat/segmentation_mask.zip``: "Segmentation mask 1.1" (Pascal VOC's layout). A pixel belongs to one object there: to
the one that is visible, else to the first one in the result's order; what is lost so is counted in export.json.

Both find their frames by name: ``frame_000000`` and so on, as CVAT calls the frames of a video; for a task made of
images the pattern of the images' own names is needed. The task needs a label of the category's name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np

from diffvas.exports import ExportOptions
from diffvas.exports.annotations import mask_box, zip_entry
from diffvas.exports.result import Layer, Result
from diffvas.types import U8, Bool

XML_NAME, ZIP_NAME = "annotations.xml", "segmentation_mask.zip"
MAX_OBJECTS = 255  # colours of Pascal VOC


def write(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """Write both files; the zip is left out where there are more objects than it has colours for."""
    names = options.frame_names(result.num_frames, "frame_%06d.png")
    with open(folder / XML_NAME, "w", encoding="utf-8") as file:
        for line in _xml(result, names, options.category, tick):
            file.write(line + "\n")
    about: dict[str, Any] = {"files": {"CVAT 1.1": [XML_NAME]}, "frames": [names[0], names[-1]]}
    if len(result.layers) > MAX_OBJECTS:
        about["note"] = f"no {ZIP_NAME}: it holds {MAX_OBJECTS} objects, and there are {len(result.layers)}"
        return about
    about["files"]["Segmentation mask 1.1"] = [ZIP_NAME]
    about["covered_pixels"] = _write_zip(result, folder / ZIP_NAME, names, options.category)
    return about


def _xml(result: Result, names: list[str], category: str, tick: Callable[[], None]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>"
    yield "  <version>1.1</version>"
    yield f"  <meta><task><name>{escape(result.name)}</name><size>{result.num_frames}</size><mode>annotation</mode>"
    yield f"    <labels><label><name>{escape(category)}</name><type>mask</type></label></labels></task></meta>"
    for t, name in enumerate(names):
        size = f'width="{result.width}" height="{result.height}"'
        yield f'  <image id="{t}" name={quoteattr(name)} {size}>'
        for layer in result.layers:
            yield from _xml_mask(layer, t, category)
            tick()
        yield "  </image>"
    yield "</annotations>"


def _xml_mask(layer: Layer, t: int, category: str) -> Iterator[str]:
    amodal = layer.amodal(t)
    left, top, width, height = mask_box(amodal)
    if not width:
        return
    hidden = layer.modal is not None and bool((amodal & ~layer.modal(t)).any())
    runs = ", ".join(str(run) for run in row_runs(amodal[top : top + height, left : left + width]))
    yield (
        f'    <mask label={quoteattr(category)} source="auto" occluded="{int(hidden)}" rle="{runs}" left="{left}" '
        f'top="{top}" width="{width}" height="{height}" z_order="0" group_id="{layer.object_id}"></mask>'
    )


def row_runs(mask: Bool) -> list[int]:
    """Run lengths of a mask (H, W) bool row by row, False first: [0, ...] where it begins with True."""
    flat = mask.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], borders, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def voc_colour(index: int) -> tuple[int, int, int]:
    """RGB of a label of Pascal VOC: the bits of its number dealt out to the channels, highest first."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= ((index >> channel) & 1) << (7 - bit)
        index >>= 3
    return channels[0], channels[1], channels[2]


def _write_zip(result: Result, path: Path, names: list[str], category: str) -> int:
    """Write the zip; returns how many pixels of masks other objects cover."""
    colours = np.array([voc_colour(i) for i in range(len(result.layers) + 1)], dtype=np.uint8)
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    covered = 0
    with zipfile.ZipFile(path, "w") as file:
        red, green, blue = voc_colour(1)
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", f"{category}:{red},{green},{blue}::"]
        file.writestr(zip_entry("labelmap.txt"), "\n".join(lines) + "\n")
        file.writestr(zip_entry("ImageSets/Segmentation/default.txt"), "\n".join(stems) + "\n")
        for t, stem in enumerate(stems):
            owners, lost = _owners(result, t)
            covered += lost
            for place, labels in (("SegmentationClass", np.minimum(owners, 1)), ("SegmentationObject", owners)):
                file.writestr(zip_entry(f"{place}/{stem}.png"), _encode(colours[labels]))
    return covered


def _owners(result: Result, t: int) -> tuple[U8, int]:
    """(H, W) uint8, 0 or 1 + the place of the object to which each pixel goes; how many pixels of masks that costs."""
    owners = np.zeros(result.size, dtype=np.uint8)
    masks = [layer.amodal(t) for layer in result.layers]
    for i, mask in enumerate(masks, start=1):
        owners[mask & (owners == 0)] = i
    for i, (layer, mask) in enumerate(zip(result.layers, masks, strict=True), start=1):
        if layer.modal is not None:
            owners[mask & layer.modal(t)] = i
    lost = sum(int((mask & (owners != i)).sum()) for i, mask in enumerate(masks, start=1))
    return owners, lost


def _encode(rgb: U8) -> bytes:
    ok, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not ok:
        raise OSError("cannot encode a picture as PNG")
    return data.tobytes()
