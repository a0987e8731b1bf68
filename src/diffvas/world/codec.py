"""A scene clip as named files: lossless PNGs, a JSON and an ``.npz``, which other libraries read too.

All frames of a clip stand one below the other in one picture. The files, by the end of their names:

=================  ===================================================================================================
``meta.json``      name, seed, sizes, kinds of objects, areas per object and frame, where the objects' pictures belong
``rgb.png``        (T H, W) 8-bit RGB
``ids.png``        (T H, W) 8-bit, 0 = background, i + 1 = object i
``depth.png``      (T H, W) 16-bit, millimetres (``depth.npy``, float32, where they are not whole or 65.536 m or more)
``masks.png``      (P T CH, CW) 8-bit, bit b of plane p = amodal mask of object 8 p + b, P = ceil(N / 8); CH x CW is the
                   canvas where the clip has one (``meta.json``: ``canvas`` = its rows and columns per side), else H x W
``flow.png``       ((T - 1) H, W) 16-bit as in KITTI: red, green = 2^15 + 64 x pixels right, down; blue = 1 where known
``object<i>.png``  (T h, w) 8-bit RGBA, straight alpha, the object with id i alone in ``meta.json``'s ``boxes[i - 1]`` =
                   [top, left, h, w]; no such file where it never enters the frame
``geometry.npz``   ``intrinsics``, ``camera_poses``, ``object_poses``, ``in_front`` as in ``SceneClip``
``scene.json``     the scene's specification, ``SceneSpec.from_json``
=================  ===================================================================================================

``rgb.png``, ``object<i>.png`` and ``flow.png`` may have been left out when the data set was made.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import cv2
import numpy as np

from diffvas.world.clip import FLOW_STEP, SceneClip, canvas_padding, clip_areas

Array = np.ndarray
FORMAT = 2  # 1 is the older .npz
PARTS = ("rgb", "content", "flow")  # what a reader can leave out
MOST_ROWS = 1_000_000  # of a PNG, by libpng's default
# zlib's level 3 takes twice as long to save a tenth; choosing the best filter for each row takes half as long again
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
_GEOMETRY = ("intrinsics", "camera_poses", "object_poses", "in_front")


def encode_clip(clip: SceneClip, scene: str | None = None) -> dict[str, bytes]:
    """A clip's files, by the end of their names; the same clip gives the same bytes.

    Args:
        clip: white outside the amodal masks, as every ``SceneClip``.
        scene: the JSON of its specification.

    Raises:
        ValueError: a clip with too many pixel rows for a PNG, or with flow that is not in steps of 1/64 pixel.
    """
    count, time, height, width = clip.amodal_masks.shape
    masks = clip.amodal_masks if clip.canvas_masks is None else clip.canvas_masks
    planes = -(-count // 8)
    if planes * time * masks.shape[2] > MOST_ROWS:
        raise ValueError(f"clip: expected at most {MOST_ROWS} rows in all, got {time} frames of {height}x{width}")
    boxes = [_box(mask) for mask in clip.amodal_masks]
    meta: dict[str, Any] = {
        "format": FORMAT,
        "name": clip.name,
        "seed": int(clip.seed),
        "objects": count,
        "frames": time,
        "size": [height, width],
        "canvas": None if clip.canvas_masks is None else list(canvas_padding((height, width))),
        "kinds": None if clip.kinds is None else list(clip.kinds),
        "areas": clip_areas(clip),
        "boxes": boxes,
        "parts": [name for name, there in _parts(clip).items() if there],
    }
    files = {"meta.json": json.dumps(meta, separators=(",", ":")).encode()}
    files["ids.png"] = _png(clip.instance_ids)
    bits = np.zeros((planes, *masks.shape[1:]), np.uint8)
    for index, mask in enumerate(masks):
        bits[index // 8] |= mask.view(np.uint8) << np.uint8(index % 8)
    files["masks.png"] = _png(bits)
    _encode_depth(clip.depth, files)
    if "rgb" in meta["parts"]:
        files["rgb.png"] = _png(clip.frames_u8)
    if "content" in meta["parts"]:
        for index, box in enumerate(boxes):
            if box is not None:
                files[f"object{index + 1}.png"] = _png(_cut_out(clip, index, box))
    if clip.flow is not None and time > 1:
        files["flow.png"] = _png(_kitti(clip.flow))
    geometry = {name: getattr(clip, name) for name in _GEOMETRY if getattr(clip, name) is not None}
    if geometry:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **geometry)
        files["geometry.npz"] = buffer.getvalue()
    if scene is not None:
        files["scene.json"] = scene.encode()
    return files


def decode_clip(
    files: Mapping[str, Any], parts: Collection[str] | None = None, frames: slice | None = None
) -> SceneClip:
    """A clip from its files; a sample of WebDataset (before any ``decode``) is such a mapping.

    Args:
        files: as from ``encode_clip``; other keys don't matter.
        parts: of ``PARTS``: which of them to read if they are there; None for all. Leaving some out is faster.
        frames: which frames, for example ``slice(5, 17)``; None for all.

    Raises:
        ValueError: unknown parts, no frames, or files that are missing or do not fit together.
    """
    wanted = set(PARTS if parts is None else parts)
    if not wanted <= set(PARTS):
        raise ValueError(f"parts: expected some of {PARTS}, got {sorted(wanted - set(PARTS))}")
    try:
        return _decode(files, wanted, slice(None) if frames is None else frames)
    except (KeyError, TypeError, IndexError, EOFError, OSError, zlib.error, zipfile.BadZipFile, cv2.error) as error:
        raise ValueError(f"files: expected those of a scene clip, got something else ({error!r})") from error


def _decode(files: Mapping[str, Any], wanted: set[str], frames: slice) -> SceneClip:
    meta = read_meta(files)
    count, time, (height, width) = meta["objects"], meta["frames"], meta["size"]
    chosen = range(time)[frames]
    if not chosen or chosen.step != 1:
        raise ValueError(f"frames: expected a slice of some of {time} frames in steps of 1, got {frames}")
    there = wanted & set(meta["parts"])
    pad = meta["canvas"]
    canvas_size = (height, width) if pad is None else (height + 2 * pad[0], width + 2 * pad[1])
    bits = _picture(files["masks.png"], (-(-count // 8), time, *canvas_size))[:, frames]
    masks = np.stack([bits[i // 8] & np.uint8(1 << i % 8) for i in range(count)]).astype(bool)
    top, left = (0, 0) if pad is None else pad
    inside = masks[:, :, top : top + height, left : left + width]
    rgb = np.empty((0, height, width, 3), np.uint8)
    if "rgb" in there:
        rgb = _picture(files["rgb.png"], (time, height, width, 3))[frames]
    colours = np.full((count, len(chosen) if "content" in there else 0, height, width, 3), 255, np.uint8)
    for index, box in enumerate(meta["boxes"] if "content" in there else ()):
        if box is not None:
            _paste(colours[index], _picture(files[f"object{index + 1}.png"], (time, *box[2:], 4))[frames], box)
    flow = None
    if "flow" in there:
        flow = np.empty((0, height, width, 2), np.float32)
        if time > 1:
            flow = _from_kitti(_picture(files["flow.png"], (time - 1, height, width, 3))[chosen[0] : chosen[-1]])
    kinds = meta["kinds"]
    return SceneClip(
        frames_u8=rgb,
        depth=_decode_depth(files, (time, height, width))[frames],
        instance_ids=_picture(files["ids.png"], (time, height, width))[frames],
        amodal_masks=inside if pad is None else inside.copy(),
        amodal_rgb_u8=colours,
        name=meta["name"],
        seed=meta["seed"],
        flow=flow,
        canvas_masks=None if pad is None else masks,
        kinds=None if kinds is None else tuple(kinds),
        **_decode_geometry(files.get("geometry.npz"), frames),
    )


def read_meta(files: Mapping[str, Any]) -> dict[str, Any]:
    """``meta.json`` of a clip's files; ValueError where it is of another format."""
    meta = json.loads(files["meta.json"])
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"meta.json: expected format {FORMAT}, got {str(meta)[:60]}")
    return meta


def _parts(clip: SceneClip) -> dict[str, bool]:
    return {"rgb": len(clip.frames_u8) > 0, "content": clip.amodal_rgb_u8.shape[1] > 0, "flow": clip.flow is not None}


def _png(frames: Array) -> bytes:
    """(..., H, W) or (..., H, W, 3 or 4), the channels in RGB(A) order, as one tall picture."""
    colour = frames.shape[-1] in (3, 4) and frames.ndim > 3
    flat = frames.reshape(-1, *frames.shape[-2 if colour else -1 :])
    if colour:
        flat = cv2.cvtColor(flat, cv2.COLOR_RGBA2BGRA if flat.shape[-1] == 4 else cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", flat, _PNG)
    return data.tobytes()


def _picture(data: bytes, shape: tuple[int, ...]) -> Array:
    """The frames of a tall picture; ValueError where it has other dimensions."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.size != np.prod(shape):
        found = "no PNG" if picture is None else f"a PNG of {picture.shape}"
        raise ValueError(f"picture: expected frames of {shape}, got {found}")
    if picture.ndim == 3:
        code = cv2.COLOR_BGRA2RGBA if picture.shape[-1] == 4 else cv2.COLOR_BGR2RGB
        cv2.cvtColor(picture, code, dst=picture)
    return picture.reshape(shape)


def _box(mask: Array) -> list[int] | None:
    """[top, left, height, width] around all frames of a mask (T, H, W), None where it is empty."""
    ever = np.asarray(mask.any(axis=0))
    rows, columns = np.flatnonzero(ever.any(1)), np.flatnonzero(ever.any(0))
    if not rows.size:
        return None
    top, left = int(rows[0]), int(columns[0])
    return [top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left]


def _cut_out(clip: SceneClip, index: int, box: list[int]) -> Array:
    """(T, h, w, 4) RGBA of an object alone, nought where it is not."""
    top, left, height, width = box
    at = np.s_[:, top : top + height, left : left + width]
    alpha = np.where(clip.amodal_masks[index][at], np.uint8(255), np.uint8(0))
    return np.concatenate([clip.amodal_rgb_u8[index][at] & alpha[..., None], alpha[..., None]], -1)


def _paste(frames: Array, picture: Array, box: list[int]) -> None:
    """Put an RGBA cut-out on white frames (T, H, W, 3), in place."""
    top, left, height, width = box
    outside = ~picture[..., 3:]  # 255 outside, 0 inside
    frames[:, top : top + height, left : left + width] = picture[..., :3] | outside


def _encode_depth(depth: Array, files: dict[str, bytes]) -> None:
    depth = np.asarray(depth, np.float32)
    whole = np.round(depth.astype(np.float64) * 1000)
    if np.isfinite(whole).all() and whole.min() >= 0 and whole.max() < 65536:
        if np.array_equal((whole / 1000).astype(np.float32), depth):
            files["depth.png"] = _png(whole.astype(np.uint16))
            return
    buffer = io.BytesIO()
    np.save(buffer, depth, allow_pickle=False)
    files["depth.npy"] = buffer.getvalue()


def _decode_depth(files: Mapping[str, Any], shape: tuple[int, ...]) -> Array:
    if "depth.npy" in files:
        return np.load(io.BytesIO(files["depth.npy"]), allow_pickle=False).reshape(shape)
    return (_picture(files["depth.png"], shape) / 1000).astype(np.float32)


def _kitti(flow: Array) -> Array:
    """(T, H, W, 3) uint16 of a flow in steps of 1/64 pixel."""
    known = np.isfinite(flow).all(-1, keepdims=True)
    steps = np.where(known, flow, 0) * np.float32(1 / FLOW_STEP)  # exact: a power of two
    picture = np.empty((*flow.shape[:-1], 3), np.uint16)
    picture[..., :2] = (steps + np.float32(2**15)) * known
    picture[..., 2:] = known
    if not np.array_equal(_from_kitti(picture), flow, equal_nan=True):
        raise ValueError("flow: expected less than 512 pixels in steps of 1/64, got others")
    return picture


def _from_kitti(picture: Array) -> Array:
    flow = (picture[..., :2].astype(np.float32) - 2**15) * np.float32(FLOW_STEP)
    flow[picture[..., 2] == 0] = np.nan
    return flow


def _decode_geometry(data: bytes | None, frames: slice) -> dict[str, Array]:
    if data is None:
        return {}
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        found = {name: stored[name] for name in _GEOMETRY if name in stored.files}
    return {name: value[:, frames] if name == "object_poses" else value[frames] for name, value in found.items()}
