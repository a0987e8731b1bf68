"""The layout of the MOVi builds with amodal masks: EoRaS's, and what C2F-Seg's loader adds to it.

``<subset>/instance_list.npy`` holds "video-object" strings, ``<subset>_instance.txt`` "video_object_value" lines and
``<subset>_frame_list.txt`` "video_object_frame" lines. Per video, in ``<subset>/<number>/`` and per frame:

- ``rgba_full_00000.png``; ``segmentation_full_00000.png``: visible, object + 1; ``segmentation_<object>_00000.png``:
  whole, object + 1; ``depth_full_00000.tiff``: float32 metres;
- ``forward_flow_full_00000.png``: 16-bit, red and green = rows and columns moved, from the least to the largest value
  in ``data_ranges.json``; unknown flow and that of the last frame, which has none, is 0. There is no backward flow;
- ``metadata.json``: ``metadata`` (num_frames, height, width, video_name); ``camera`` (per frame: K in pixels, R from
  world to camera with OpenCV's axes, and Kubric's positions and quaternions, w first, looking along -z); ``instances``
  (visible boxes [ymin, xmin, ymax, xmax] in shares of the frame, and the frames they belong to; visibility; poses).

Objects count from 0. C2F-Seg reads the first 24 frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.world.clip import SceneClip
from diffvas.world.exporters.common import Array, box_of, seen_objects, write_picture
from diffvas.world.quaternions import from_axes


def export(clips: Iterable[SceneClip], folder: Path, subset: str) -> None:
    """Write clips as the videos 0, 1, ... of a subset."""
    instances: list[tuple[int, int]] = []
    frames: list[str] = []
    for number, clip in enumerate(clips):
        place = folder / subset / str(number)
        place.mkdir(parents=True)
        _pictures(clip, place)
        ranges = {"depth": {"min": float(clip.depth.min()), "max": float(clip.depth.max())}}
        if clip.flow is not None:
            ranges["forward_flow"] = _flow(clip.flow, place)
        (place / "data_ranges.json").write_text(json.dumps(ranges))
        (place / "metadata.json").write_text(json.dumps(_metadata(clip)))
        for index in seen_objects(clip):
            instances.append((number, index))
            frames += [f"{number}_{index}_{t}" for t in np.flatnonzero(clip.amodal_masks[index].any((1, 2)))]
    np.save(folder / subset / "instance_list.npy", np.array([f"{video}-{index}" for video, index in instances]))
    lines = [f"{video}_{index}_{index + 1}" for video, index in instances]
    (folder / f"{subset}_instance.txt").write_text("\n".join(lines) + "\n")
    (folder / f"{subset}_frame_list.txt").write_text("\n".join(frames) + "\n")


def _pictures(clip: SceneClip, place: Path) -> None:
    opaque = np.full((*clip.depth.shape[1:], 1), 255, np.uint8)
    for frame, picture in enumerate(clip.frames_u8):
        write_picture(place / f"rgba_full_{frame:05d}.png", np.concatenate([picture, opaque], -1))
        write_picture(place / f"segmentation_full_{frame:05d}.png", clip.instance_ids[frame])
        write_picture(place / f"depth_full_{frame:05d}.tiff", clip.depth[frame])
        for index, masks in enumerate(clip.amodal_masks):
            whole = masks[frame].astype(np.uint8) * np.uint8(index + 1)
            write_picture(place / f"segmentation_{index}_{frame:05d}.png", whole)


def _flow(flow: Array, place: Path) -> dict[str, float]:
    """Write the flow of all frames (T - 1, H, W, 2); returns its range."""
    known = np.nan_to_num(flow[..., ::-1], nan=0.0)  # rows first, as Kubric
    known = np.concatenate([known, np.zeros((1, *flow.shape[1:]), flow.dtype)])
    low, high = float(known.min()), float(known.max())
    scaled = np.round((known - low) / max(high - low, 1e-9) * 65535).astype(np.uint16)
    for frame, picture in enumerate(scaled):
        padded = np.concatenate([picture, np.zeros_like(picture[..., :1])], -1)
        write_picture(place / f"forward_flow_full_{frame:05d}.png", padded)
    return {"min": low, "max": high}


def _poses(matrices: Array) -> dict[str, Any]:
    """Positions and quaternions of (T, 4, 4) poses."""
    return {
        "positions": matrices[:, :3, 3].tolist(),
        "quaternions": [from_axes(*pose[:3, :3].T).tolist() for pose in matrices],
    }


def _metadata(clip: SceneClip) -> dict[str, Any]:
    time, height, width = clip.depth.shape
    instances = []
    for index in range(len(clip.amodal_masks)):
        modal = clip.modal_mask(index)
        seen = np.flatnonzero(modal.any((1, 2))).tolist()
        boxes = [box_of(modal[frame]) for frame in seen]
        instance: dict[str, Any] = {
            "category": clip.kinds[index] if clip.kinds else "object",
            "bboxes": [[y / height, x / width, (y + h) / height, (x + w) / width] for x, y, w, h in boxes],
            "bbox_frames": seen,
            "visibility": modal.sum((1, 2)).tolist(),
        }
        if clip.object_poses is not None:
            instance.update(_poses(clip.object_poses[index]))
        instances.append(instance)
    camera: dict[str, Any] = {}
    if clip.camera_poses is not None and clip.intrinsics is not None:
        camera = {
            "K": clip.intrinsics.tolist(),
            "R": clip.camera_poses[:, :3, :3].transpose(0, 2, 1).tolist(),
            **_poses(clip.camera_poses @ np.diag([1.0, -1.0, -1.0, 1.0])),
        }
    return {
        "metadata": {
            "video_name": clip.name,
            "seed": clip.seed,
            "num_frames": time,
            "num_instances": len(instances),
            "height": height,
            "width": width,
            "resolution": [height, width],
        },
        "camera": camera,
        "instances": instances,
    }
