"""PNG sequences, sorted by kind and then by object.

::

    png/amodal/1/00000.png        8-bit grey, 0 or 255: the whole object
    png/visible/1/00000.png       the same: its visible part
    png/rgba/1/00000.png          8-bit RGBA, sRGB; straight alpha unless told otherwise
    png/probability/1/00000.png   16-bit grey, 65535 = certain

``diffvas complete --masks png/visible`` and ``read_masks`` read these folders of masks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.export import write_png
from diffvas.exports import ExportOptions
from diffvas.exports.colour import with_alpha
from diffvas.exports.result import Layer, Result
from diffvas.types import Bool

PATTERN = "%05d.png"
Picture = Callable[[int], Any]


def write(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """Write every object's pictures; the module's text says which."""
    files: dict[str, list[str]] = {}
    for layer in result.layers:
        pictures = layer_pictures(layer, options.alpha)
        for kind in pictures:
            files.setdefault(kind, []).append(f"{kind}/{layer.object_id}/{PATTERN}")
        places = {kind: folder / kind / str(layer.object_id) for kind in pictures}
        write_sequences(pictures, places, result.num_frames, tick)
    return {"files": files, "alpha": options.alpha, "colour": "sRGB, 8 bit"}


def layer_pictures(layer: Layer, alpha: str) -> dict[str, Picture]:
    """What of an object can be written as pictures: functions from a frame's number to an image, by kind."""
    modal, probability = layer.modal, layer.probability
    pictures: dict[str, Picture] = {"amodal": lambda t: _grey(layer.amodal(t))}
    if modal is not None:
        pictures["visible"] = lambda t: _grey(modal(t))
    if layer.content is not None:
        pictures["rgba"] = lambda t: with_alpha(layer.rgba(t), alpha)
    if probability is not None:
        pictures["probability"] = lambda t: np.round(probability(t) * 65535.0).astype(np.uint16)
    return pictures


def write_sequences(
    pictures: dict[str, Picture], places: dict[str, Path], num_frames: int, tick: Callable[[], None]
) -> None:
    """Write T images of each kind into the folder of its own, which is made."""
    for place in places.values():
        place.mkdir(parents=True)
    for t in range(num_frames):
        for kind, picture in pictures.items():
            write_png(places[kind] / (PATTERN % t), picture(t))
        tick()


def _grey(mask: Bool) -> Any:
    return mask.astype(np.uint8) * np.uint8(255)
