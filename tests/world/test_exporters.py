"""Data sets in the formats of others, each read back by other means than it was written with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from diffvas.world.clip import SceneClip
from diffvas.world.codec import encode_clip
from diffvas.world.exporters import export_dataset
from diffvas.world.shards import SceneSet, open_dataset, write_shard
from factories import FRAMES, HEIGHT, WIDTH, make_scene


def full_scene(name: str) -> SceneClip:
    """The test scene with flow, cameras, poses, kinds, and a third object that is never seen."""
    scene = make_scene(name)
    rng = np.random.default_rng(3)
    flow = (rng.integers(-640, 640, (FRAMES - 1, HEIGHT, WIDTH, 2)) / 64).astype(np.float32)
    flow[0, 0, 0] = np.nan
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    poses = np.zeros((3, FRAMES, 4, 4))
    poses[..., :3, :3], poses[..., :3, 3], poses[..., 3, 3] = turn, (1, 2, 3), 1
    nowhere = np.zeros((1, FRAMES, HEIGHT, WIDTH), bool)
    return replace(
        scene,
        amodal_masks=np.concatenate([scene.amodal_masks, nowhere]),
        amodal_rgb_u8=np.concatenate([scene.amodal_rgb_u8, np.full((1, *scene.frames_u8.shape), 255, np.uint8)]),
        flow=flow,
        intrinsics=np.tile(np.array([[50.0, 0, 32], [0, 50, 16], [0, 0, 1]]), (FRAMES, 1, 1)),
        camera_poses=poses[0],
        object_poses=poses,
        kinds=("ball", "plate", "ball"),
    )


@pytest.fixture
def scenes(tmp_path: Path) -> SceneSet:
    clips = [full_scene("first"), full_scene("second")]
    write_shard(tmp_path / "set" / "s.tar", [(clip.name, encode_clip(clip)) for clip in clips])
    return open_dataset(tmp_path / "set")


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, path
    return picture if picture.ndim == 2 else picture[..., [2, 1, 0, 3][: picture.shape[-1]]]


def test_sailvos(scenes: SceneSet, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    out = export_dataset(scenes, tmp_path / "out", "sailvos", progress=lambda *call: calls.append(call))
    assert calls == [("export", 1, 2), ("export", 2, 2)]
    entries = json.loads((out / "annotations.json").read_text())
    assert [(e["obj_id"], e["image_ids"][0]) for e in entries] == [(1, 0), (2, 0), (1, FRAMES), (2, FRAMES)]
    scene = scenes[1]
    ball = entries[2]
    assert set(ball) == {"segmentation", "visible_mask", "bbox", "image_ids", "obj_id", "category_id",
                         "image_file_names"}  # fmt: skip
    np.testing.assert_array_equal(coco_mask.decode(ball["segmentation"]).transpose(2, 0, 1), scene.amodal_masks[0])
    np.testing.assert_array_equal(coco_mask.decode(ball["visible_mask"]).transpose(2, 0, 1), scene.modal_mask(0))
    assert ball["bbox"] == coco_mask.toBbox(ball["segmentation"]).tolist()
    root = f"{out}/"  # the reference adds names to its root as text
    for name, frame in zip(ball["image_file_names"], scene.frames_u8, strict=True):
        np.testing.assert_array_equal(read(Path(root + name)), frame)
    categories = {c["id"]: c["name"] for c in json.loads((out / "categories.json").read_text())}
    assert [categories[e["category_id"]] for e in entries] == ["ball", "plate"] * 2


def test_the_reference_s_own_files_have_the_same_keys(scenes: SceneSet, tmp_path: Path) -> None:
    golden = Path(__file__).parents[3] / "shared" / "golden" / "reference_metrics" / "sailvos_annotations.json"
    if not golden.is_file():
        pytest.skip("needs ../shared/golden/reference_metrics, which is not part of the repository")
    theirs = json.loads(golden.read_text())[0]
    out = export_dataset(scenes, tmp_path / "out", "sailvos")
    ours = json.loads((out / "annotations.json").read_text())[0]
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        assert type(ours[key]) is type(value)
        if isinstance(value, list):
            assert type(ours[key][0]) is type(value[0])
    assert set(ours["segmentation"][0]) == set(theirs["segmentation"][0])


def test_youtube_vis(scenes: SceneSet, tmp_path: Path) -> None:
    out = export_dataset(scenes, tmp_path / "out", "ytvis")
    for kind in ("modal", "amodal"):
        content = json.loads((out / f"{kind}.json").read_text())
        assert [video["length"] for video in content["videos"]] == [FRAMES, FRAMES]
        assert [c["name"] for c in content["categories"]] == ["ball", "plate"]
        assert [(a["id"], a["video_id"], a["category_id"]) for a in content["annotations"]] == [
            (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2)]  # fmt: skip
        for annotation in content["annotations"]:
            video = content["videos"][annotation["video_id"] - 1]
            scene = scenes[annotation["video_id"] - 1]
            index = (annotation["id"] - 1) % 2
            truth = scene.modal_mask(index) if kind == "modal" else scene.amodal_masks[index]
            for t in range(FRAMES):
                rle = annotation["segmentations"][t]
                if not truth[t].any():
                    assert rle is annotation["bboxes"][t] is annotation["areas"][t] is None
                    continue
                np.testing.assert_array_equal(coco_mask.decode(rle), truth[t])
                assert annotation["areas"][t] == truth[t].sum()
                assert annotation["bboxes"][t] == coco_mask.toBbox(rle).tolist()
            np.testing.assert_array_equal(read(out / video["file_names"][3]), scene.frames_u8[3])


def test_an_empty_frame_is_null(tmp_path: Path) -> None:
    scene = make_scene("gone")
    masks, ids = scene.amodal_masks.copy(), scene.instance_ids.copy()
    masks[0, 2], ids[2] = False, np.where(scene.instance_ids[2] == 1, 0, ids[2])
    colours = np.where(masks[..., None], scene.amodal_rgb_u8, np.uint8(255))
    clip = replace(scene, amodal_masks=masks, instance_ids=ids, amodal_rgb_u8=colours)
    write_shard(tmp_path / "s.tar", [("gone", encode_clip(clip))])
    out = export_dataset(open_dataset(tmp_path / "s.tar"), tmp_path / "out", "ytvis")
    tracks = json.loads((out / "amodal.json").read_text())["annotations"][0]
    assert [rle is None for rle in tracks["segmentations"]] == [False, False, True, False, False]


def test_movi(scenes: SceneSet, tmp_path: Path) -> None:
    out = export_dataset(scenes, tmp_path / "out", "movi", subset="train")
    assert np.load(out / "train" / "instance_list.npy").tolist() == ["0-0", "0-1", "1-0", "1-1"]
    assert (out / "train_instance.txt").read_text().split() == ["0_0_1", "0_1_2", "1_0_1", "1_1_2"]
    assert f"1_0_{FRAMES - 1}" in (out / "train_frame_list.txt").read_text().split()
    for number in range(2):
        scene, place = scenes[number], out / "train" / str(number)
        metadata = json.loads((place / "metadata.json").read_text())
        assert metadata["metadata"]["num_frames"] == FRAMES and metadata["metadata"]["resolution"] == [HEIGHT, WIDTH]
        ranges = json.loads((place / "data_ranges.json").read_text())
        low, high = ranges["forward_flow"]["min"], ranges["forward_flow"]["max"]
        assert scene.flow is not None
        for t in range(FRAMES):
            rgba = read(place / f"rgba_full_{t:05d}.png")
            np.testing.assert_array_equal(rgba[..., :3], scene.frames_u8[t])
            assert (rgba[..., 3] == 255).all()
            np.testing.assert_array_equal(read(place / f"segmentation_full_{t:05d}.png"), scene.instance_ids[t])
            np.testing.assert_array_equal(read(place / f"depth_full_{t:05d}.tiff"), scene.depth[t])
            for index in range(3):
                whole = read(place / f"segmentation_{index}_{t:05d}.png")
                np.testing.assert_array_equal(whole, scene.amodal_masks[index, t] * (index + 1))
            flow = read(place / f"forward_flow_full_{t:05d}.png").astype(float) / 65535 * (high - low) + low
            expected = np.nan_to_num(scene.flow[t]) if t < FRAMES - 1 else np.zeros((HEIGHT, WIDTH, 2))
            np.testing.assert_allclose(flow[..., :2], expected[..., ::-1], atol=(high - low) / 65535)
        ball, plate, nowhere = metadata["instances"]
        assert (ball["category"], plate["category"]) == ("ball", "plate") and nowhere["bbox_frames"] == []
        for frame, (top, left, bottom, right) in zip(ball["bbox_frames"], ball["bboxes"], strict=True):
            rows, columns = np.nonzero(scene.modal_mask(0)[frame])
            assert (top, bottom) == pytest.approx((rows.min() / HEIGHT, (rows.max() + 1) / HEIGHT))
            assert (left, right) == pytest.approx((columns.min() / WIDTH, (columns.max() + 1) / WIDTH))
        assert ball["positions"][0] == [1, 2, 3]
        half = np.sqrt(0.5)
        np.testing.assert_allclose(ball["quaternions"][0], [half, 0, 0, half], atol=1e-9)  # a quarter turn about z
        camera = metadata["camera"]
        assert camera["K"][0][0] == [50, 0, 32] and camera["positions"][0] == [1, 2, 3]
        np.testing.assert_allclose(np.array(camera["R"][0]) @ [0, 1, 0], [1, 0, 0], atol=1e-9)


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(scenes: SceneSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format_name: expected one of sailvos, ytvis, movi, got 'coco'"):
        export_dataset(scenes, tmp_path / "out", "coco")
    with pytest.raises(ValueError, match="subset: expected 'train' or 'test', got 'val'"):
        export_dataset(scenes, tmp_path / "out", "movi", subset="val")
    with pytest.raises(ValueError, match="out: expected a new or empty folder"):
        export_dataset(scenes, tmp_path, "ytvis")
    scene = make_scene("plain")
    write_shard(tmp_path / "bare" / "s.tar", [("plain", encode_clip(replace(scene, frames_u8=scene.frames_u8[:0])))])
    with pytest.raises(ValueError, match="scenes: expected clips with colours, got 'plain' without"):
        export_dataset(open_dataset(tmp_path / "bare"), tmp_path / "out", "ytvis")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare", "set"]
