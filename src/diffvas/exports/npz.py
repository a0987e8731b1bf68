"""NumPy arrays: ``npz/1.npz`` has what is known of object 1.

``object_id``, ``fps``; ``amodal_masks`` and ``modal_masks`` (T, H, W) bool; ``content_rgba`` (T, H, W, 4) uint8,
straight alpha; ``probability`` (T, H, W) float32, in steps of 1/255 where the result came from a folder. What the
result does not hold is not there. Frames are written one by one: no more than one is in memory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from diffvas.exports import ExportOptions
from diffvas.exports.annotations import zip_entry
from diffvas.exports.result import Result


def write(result: Result, folder: Path, options: ExportOptions, tick: Callable[[], None]) -> dict[str, Any]:
    """Write one file per object; no option plays a part."""
    shape = (result.num_frames, *result.size)
    for layer in result.layers:
        with zipfile.ZipFile(folder / f"{layer.object_id}.npz", "w") as file:
            _add(file, "object_id", (), np.int64, [np.array(layer.object_id)])
            _add(file, "fps", (), np.float64, [np.array(result.fps)])
            _add(file, "amodal_masks", shape, np.bool_, _ticking(layer.amodal, result.num_frames, tick))
            if layer.modal is not None:
                _add(file, "modal_masks", shape, np.bool_, map(layer.modal, range(result.num_frames)))
            if layer.content is not None:
                _add(file, "content_rgba", (*shape, 4), np.uint8, map(layer.content, range(result.num_frames)))
            if layer.probability is not None:
                _add(file, "probability", shape, np.float32, map(layer.probability, range(result.num_frames)))
    return {"files": {"arrays": [f"{layer.object_id}.npz" for layer in result.layers]}, "alpha": "straight"}


def _ticking(frame: Callable[[int], Any], count: int, tick: Callable[[], None]) -> Iterable[Any]:
    for t in range(count):
        yield frame(t)
        tick()


def _add(
    file: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: DTypeLike, pieces: Iterable[NDArray[Any]]
) -> None:
    """Add an array of which ``pieces`` are the parts along its first axis, in order."""
    kind = np.dtype(dtype)
    with file.open(zip_entry(f"{name}.npy"), "w", force_zip64=True) as entry:
        header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(entry, header)
        for piece in pieces:
            entry.write(np.ascontiguousarray(piece, dtype=kind).tobytes())
