"""Single scene clips on disk: one compressed ``.npz`` each, written beside its place and renamed when whole.

For data sets see ``shards``. This older format holds the first seven fields of a clip, and loses nothing of them. What
repeats is left out: an object's colours are stored as their difference from the frame where it is visible and from
white outside it, which is nought nearly everywhere; masks take a bit per pixel; a depth in whole millimetres is stored
as such.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from diffvas.world.clip import SceneClip

FORMAT = 1
LEVEL = 2  # np.savez_compressed's 6 takes three times as long, as long as the rendering, to save an eighth


def write_scene_clip(path: str | Path, clip: SceneClip) -> Path:
    """Write a clip to ``path`` (``.npz``); an interrupted write leaves nothing under that name.

    The truth beyond the first seven fields (flow, poses, canvas, ...) is left out; a shard keeps it.

    Raises:
        ValueError: the name does not end in ``.npz``.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path: expected a name that ends in .npz, got {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"format": FORMAT, "name": clip.name, "seed": int(clip.seed), "shape": list(clip.amodal_masks.shape)}
    stored = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "frames_u8": _along_rows(clip.frames_u8),
        "instance_ids": clip.instance_ids,
        "amodal_masks": np.packbits(clip.amodal_masks, axis=-1),
        "amodal_rgb_u8": clip.amodal_rgb_u8 - _expected(clip.frames_u8, clip.instance_ids, len(clip.amodal_masks)),
        "depth": _pack_depth(clip.depth),
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
            for name, array in stored.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def read_scene_clip(path: str | Path) -> SceneClip:
    """Read a clip that ``write_scene_clip`` wrote, byte for byte the same.

    Raises:
        ValueError: no such file, or a file that is not a whole scene clip; names it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path: expected a scene clip (.npz), found no file {str(path)!r}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(bytes(stored["header"]))
            if header["format"] != FORMAT:
                raise ValueError(f"format {header['format']}, expected {FORMAT}")
            count, time, height, width = header["shape"]
            ids = stored["instance_ids"]
            frames = np.cumsum(stored["frames_u8"], axis=2, dtype=np.uint8)
            masks = np.unpackbits(stored["amodal_masks"], axis=-1, count=width).astype(bool)
            depth = _unpack_depth(stored["depth"])
            colours = stored["amodal_rgb_u8"] + _expected(frames, ids, count)
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"path: expected a whole scene clip, got the corrupt file {str(path)!r} ({error})") from error
    grid = (time, height, width)
    if frames.shape != (*grid, 3) or ids.shape != grid or depth.shape != grid or masks.shape != (count, *grid):
        raise ValueError(f"path: expected a whole scene clip, got the corrupt file {str(path)!r} (shapes disagree)")
    return SceneClip(frames, depth, ids, masks, colours, header["name"], header["seed"])


def _along_rows(frames: np.ndarray) -> np.ndarray:
    """Each pixel minus its left neighbour, modulo 256: smooth surfaces become small numbers, which compress better."""
    change = frames.copy()
    change[:, :, 1:] -= frames[:, :, :-1]
    return change


def _expected(frames: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """(N, T, H, W, 3) uint8: the frame where an object is visible, white elsewhere."""
    return np.stack([np.where((ids == index + 1)[..., None], frames, np.uint8(255)) for index in range(count)])


def _pack_depth(depth: np.ndarray) -> np.ndarray:
    """Whole millimetres below 65.536 m as changes along the row, anything else as float32."""
    depth = np.asarray(depth, np.float32)
    whole = np.round(depth.astype(np.float64) * 1000)
    if not (np.isfinite(whole).all() and whole.min() >= 0 and whole.max() < 65536):
        return depth
    if not np.array_equal((whole / 1000).astype(np.float32), depth):
        return depth
    change = whole.astype(np.uint16)
    change[..., 1:] -= whole.astype(np.uint16)[..., :-1]
    return change


def _unpack_depth(stored: np.ndarray) -> np.ndarray:
    if stored.dtype == np.float32:
        return stored
    return (np.cumsum(stored, axis=-1, dtype=np.uint16) / 1000).astype(np.float32)
