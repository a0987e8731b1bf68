"""Tiny data sets in the true formats of others, written by hand: two objects in five frames of 32 x 64 pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffvas.metrics.rle import encode_masks
from diffvas.world.clip import SceneClip
from factories import FRAMES, HEIGHT, WIDTH, make_scene

BOX = [-6.5, 3.0, 40.0, 25.0]  # leaves the frame on the left


def save(path: Path, picture: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **options)


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def sailvos_records(scene: SceneClip, folder: str = "street", first: int = 100) -> list[dict[str, Any]]:
    """Records as in diffusion_vas_sailvos_val.json."""
    return [
        {
            "segmentation": encode_masks(scene.amodal_masks[index]),
            "visible_mask": encode_masks(scene.modal_mask(index)),
            "bbox": [[0, 0, 1, 1]] * FRAMES,
            "image_ids": list(range(first, first + FRAMES)),
            "obj_id": 7 + index,
            "category_id": 3,
            "image_file_names": [f"{folder}/images/{t:06d}.bmp" for t in range(FRAMES)],
        }
        for index in range(2)
    ]


def write_sailvos_json(root: Path, pictures: bool = True) -> Path:
    scene = make_scene()
    if pictures:
        for t, frame in enumerate(scene.frames_u8):
            save(root / "street" / "images" / f"{t:06d}.bmp", frame)
    return write_json(root / "val.json", sailvos_records(scene))


def write_sailvos_folders(root: Path, scene: SceneClip, start: int = 0, video: str = "street") -> Path:
    """VIDEO/images, visible, 0001ball and 0002_plate."""
    for t in range(len(scene.frames_u8)):
        number = f"{start + t:06d}"
        save(root / video / "images" / f"{number}.bmp", scene.frames_u8[t])
        (root / video / "visible").mkdir(exist_ok=True)
        np.save(root / video / "visible" / f"{number}.npy", scene.instance_ids[t].astype(np.int64))
        for index, name in enumerate(("0001ball", "0002_plate")):
            if scene.amodal_masks[index, t].any():
                save(root / video / name / f"{number}.png", scene.amodal_masks[index, t].astype(np.uint8) * 255)
    return root


def tao_record(scene: SceneClip, index: int = 0, track: int = 31) -> dict[str, Any]:
    """A record as in diffusion_vas_tao_amodal_val.json."""
    return {
        "track_id": track,
        "category_id": 5,
        "video_id": 50,
        "file_names": [f"val/YFCC100M/v_1/frame{30 * t:04d}.jpg" for t in range(FRAMES)],
        "rles": [mask["counts"] for mask in encode_masks(scene.modal_mask(index))],
        "height": HEIGHT,
        "width": WIDTH,
        "amodal_bboxes": [BOX] * FRAMES,
    }


def write_tao_originals(root: Path) -> Path:
    """Tracks 30 (the ball, in all frames) and 31 (the plate, with a box but no mask in the last frame)."""
    scene = make_scene()
    names = [f"validation/YFCC100M/v_1/frame{30 * t:04d}.jpg" for t in range(FRAMES)]
    for name, frame in zip(names, scene.frames_u8, strict=True):
        save(root / "frames" / name, frame)
    size = {"height": HEIGHT, "width": WIDTH}
    images = [
        {"id": 900 + t, "video_id": 50, "file_name": n, "frame_index": 30 * t, **size} for t, n in enumerate(names)
    ]
    annotations = [
        {"id": 10 * track + t, "image_id": 900 + t, "track_id": track, "video_id": 50, "category_id": 5,
         "bbox": [1, 1, 2, 2], "amodal_bbox": BOX, "amodal_is_uncertain": False, "visibility": 0.5}
        for track in (30, 31) for t in range(FRAMES)
    ]  # fmt: skip
    content = {
        "info": {}, "licenses": [], "images": images[::-1], "annotations": annotations,
        "videos": [{"id": 50, "name": "validation/YFCC100M/v_1", **size}],
        "tracks": [{"id": track, "video_id": 50, "category_id": 5} for track in (31, 30)],
        "categories": [{"id": 5, "name": "ball"}],
    }  # fmt: skip
    write_json(root / "amodal_annotations" / "validation.json", content)
    masks = [encode_masks(scene.modal_mask(index)) for index in range(2)]
    segmentations = [
        {str(i + 1): {"rle": masks[i][t]["counts"], "is_gt": True} for i in range(2) if (i, t) != (1, FRAMES - 1)}
        for t in range(FRAMES)
    ]
    sequence = {
        "id": 0, "seq_name": "v_1", "dataset": "YFCC100M", "fps": 30, **size,
        "annotated_image_paths": [Path(name).name for name in names],
        "all_image_paths": [], "segmentations": segmentations, "track_category_ids": {"1": 5, "2": 5},
    }  # fmt: skip
    burst = {"sequences": [sequence], "categories": [], "split": "val"}
    write_json(root / "BURST_annotations" / "val" / "all_classes_visibility.json", burst)
    return root


def write_movi(root: Path, c2f: bool = False) -> Path:
    """One video; object 0 (the ball) is not visible in frame 2, whatever its masks say."""
    scene = make_scene()
    video = root / "test" / "12"
    for t in range(FRAMES):
        alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
        save(video / f"rgba_full_{t:05d}.png", np.concatenate([scene.frames_u8[t], alpha], -1))
        labels = Image.fromarray(scene.instance_ids[t]).convert("P")  # Kubric writes palette pictures
        labels.putdata(scene.instance_ids[t].reshape(-1).tolist())
        labels.save(video / f"segmentation_full_{t:05d}.png")
        save(video / f"depth_full_{t:05d}.tiff", scene.depth[t])
        for index in range(2):
            save(
                video / f"segmentation_{index}_{t:05d}.png", scene.amodal_masks[index, t].astype(np.uint8) * (index + 1)
            )
    boxes = [[0.25, 0.25, 0.75, 0.5]] * FRAMES
    times = list(range(FRAMES))
    instances = [
        {"category": "ball", "bboxes": boxes[:-1], "bbox_frames": [0, 1, 3, 4]},
        {"category": "plate", "bboxes": boxes, "bbox_frames": times},
    ]
    meta = {"num_frames": FRAMES, "height": HEIGHT, "width": WIDTH}
    write_json(video / "metadata.json", {"metadata": meta, "camera": {}, "instances": instances})
    if c2f:
        (root / "test_instance.txt").write_text("12_0_1\n12_1_2\n")
    else:
        np.save(root / "test" / "instance_list.npy", np.array(["12-0", "12-1"]))
    return root


def write_tabe51(root: Path) -> Path:
    scene = make_scene()
    for t in range(FRAMES):
        video = root / "TABE-51" / "data" / "ball_bounce"
        save(video / "frames" / f"{t:05d}.jpg", scene.frames_u8[t])
        save(video / "visible_masks" / f"{t:05d}.png", scene.modal_mask(0)[t].astype(np.uint8) * 255)
        save(video / "gt_masks" / f"{t:05d}.png", scene.amodal_masks[0, t].astype(np.uint8))
    levels = ["NO_OCCLUSION", "SLIGHT_OCCLUSION", 0, "severe", None]
    write_json(video / "annos.json", {"occlusion": [{"level": level, "amount": 0.1} for level in levels]})
    return root


def write_ytvis(root: Path, truth: bool = True) -> Path:
    """Run lengths as YouTube-VIS has them: not compressed, and null where the object is not there."""
    scene = make_scene()
    names = [f"v1/{5 * t:05d}.jpg" for t in range(FRAMES)]
    for name, frame in zip(names, scene.frames_u8, strict=True):
        save(root / "JPEGImages" / name, frame)
    videos = [{"id": 4, "height": HEIGHT, "width": WIDTH, "length": FRAMES, "file_names": names}]
    kinds = {"modal": scene.modal_mask, "amodal": lambda index: scene.amodal_masks[index]}
    for kind, masks in kinds.items():
        annotations = [
            {"id": 20 + i, "video_id": 4, "category_id": 2, "iscrowd": 0,
             "segmentations": [uncompressed(mask) if mask.any() else None for mask in masks(i)]}
            for i in range(2)
        ]  # fmt: skip
        categories = [{"id": 2, "name": "toy"}]
        if truth or kind == "modal":
            content = {"info": {}, "videos": videos, "categories": categories, "annotations": annotations}
            write_json(root / f"{kind}.json", content)
    return root


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([[0], edges, [mask.size]])
    return {"size": list(mask.shape), "counts": np.diff(ends).tolist()}


def write_folders(root: Path, truth: bool = True) -> Path:
    """Visible masks as DAVIS's palette pictures, whole ones in a folder per object, depth in an .npz."""
    scene = make_scene()
    clip = root / "toys"
    for t in range(FRAMES):
        save(clip / "frames" / f"frame{t}.jpg", scene.frames_u8[t])
        labels = Image.new("P", (WIDTH, HEIGHT))
        labels.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        labels.putdata(scene.instance_ids[t].reshape(-1).tolist())
        (clip / "modal").mkdir(exist_ok=True)
        labels.save(clip / "modal" / f"frame{t}.png")
        for index in range(2 if truth else 0):
            save(clip / "amodal" / str(index + 1) / f"{t}.png", scene.amodal_masks[index, t].astype(np.uint8) * 255)
    np.savez(clip / "depth.npz", depth=1 / scene.depth)
    return root
