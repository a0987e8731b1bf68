"""Data sets of others in their true formats: every reader gives the same two objects back."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataset_files as files
from diffvas.data.base import ObjectClip
from diffvas.data.datasets import DATASETS, find_kind, open_objects
from diffvas.world.codec import encode_clip
from diffvas.world.exporters import export_dataset
from diffvas.world.shards import open_dataset, write_shard
from factories import FRAMES, HEIGHT, WIDTH, make_scene

SCENE = make_scene()
GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "reference_metrics"


def same(clip: ObjectClip, index: int, *, lossy: bool = False, truth: bool = True) -> None:
    """The clip is object ``index`` of the test scene."""
    np.testing.assert_array_equal(clip.modal, SCENE.modal_mask(index))
    if truth:
        np.testing.assert_array_equal(clip.amodal, SCENE.amodal_masks[index])
    else:
        assert clip.amodal is None
    frames = clip.frames_u8()
    assert frames is not None and frames.dtype == np.uint8
    if lossy:
        assert abs(frames.astype(int) - SCENE.frames_u8).mean() < 12
    else:
        np.testing.assert_array_equal(frames, SCENE.frames_u8)


def write_world(root: Path, name: str = "scene") -> Path:
    write_shard(root / "s.tar", [(name, encode_clip(make_scene(name)))])
    return root


def test_sailvos_json(tmp_path: Path) -> None:
    clips = open_objects(files.write_sailvos_json(tmp_path))
    assert clips.kind == "sailvos" and clips.names == ["street/7/100", "street/8/100"]
    for index, clip in enumerate(clips):
        same(clip, index)
    clip = clips.get("street/8/100")
    assert (clip.group, clip.family, clip.protocol) == ("street", "3", "reference")
    assert clip.frames[0] == "(100, 8)" and clip.numbers == tuple(range(FRAMES)) and clip.depth() is None
    assert open_objects(tmp_path).names == clips.names  # the folder that holds the file
    (tmp_path / "train.json").write_bytes((tmp_path / "val.json").read_bytes())
    with pytest.raises(ValueError, match="got several, name one: train.json, val.json"):
        open_objects(tmp_path)


def test_names_and_masks_are_those_of_the_bench(tmp_path: Path) -> None:
    from diffvas.bench.formats.sailvos import read_annotations
    from diffvas.bench.predictions import MaskTruth

    path = files.write_sailvos_json(tmp_path)
    for clip, truth in zip(open_objects(path), read_annotations(path), strict=True):
        assert clip.amodal is not None
        ours = MaskTruth.from_arrays(clip.name, clip.amodal, clip.modal, group=clip.group, frames=clip.frames)
        assert (ours.clip, ours.group, ours.frames) == (truth.clip, truth.group, truth.frames)
        assert ours.amodal == truth.amodal and ours.modal == truth.modal


def test_pictures_stored_as_png_and_elsewhere(tmp_path: Path) -> None:
    path = files.write_sailvos_json(tmp_path / "json", pictures=False)
    for t, frame in enumerate(SCENE.frames_u8):
        files.save(tmp_path / "rgb" / "street" / "images" / f"{t:06d}.png", frame)
    same(open_objects(path, images=tmp_path / "rgb")[0], 0)
    with pytest.raises(ValueError, match="found no file .*000000.bmp"):
        open_objects(path)[0].frames_u8()


@pytest.mark.parametrize("kind", ["sailvos", "tao_amodal"])
def test_files_of_the_reference(kind: str) -> None:
    if not GOLDEN.is_dir():
        pytest.skip("needs ../shared/golden/reference_metrics, which is not part of the repository")
    clips = open_objects(GOLDEN / f"{kind}_annotations.json")
    assert clips.kind == kind.replace("_", "-") and len(clips) == 8
    assert all(len(clip.frames) == 25 for clip in clips)
    assert clips[0].size == ((800, 1280) if kind == "sailvos" else (480, 640))


def test_sailvos_folders(tmp_path: Path) -> None:
    root = files.write_sailvos_folders(tmp_path, SCENE, start=3)
    clips = open_objects(root, length=FRAMES, cuts={})
    # the plate is out of the frame in none, the ball is never hidden as a whole
    assert clips.kind == "sailvos-folders" and clips.names == ["street/1/3", "street/2/3"]
    for index, clip in enumerate(clips):
        same(clip, index)
    assert clips[0].family == "ball" and clips[1].family == "plate" and clips[0].frames[0] == "000003"
    # cut into two shots, nothing is left of five frames; of two there is one window in each shot
    assert not len(open_objects(root, length=FRAMES, cuts={"street": [5]}))
    short = open_objects(root, length=2, stride=2, cuts={"street": [5]})
    assert [name for name in short.names if "/1/" in name] == ["street/1/3", "street/1/5"]


def test_a_missing_frame_ends_a_sequence(tmp_path: Path) -> None:
    root = files.write_sailvos_folders(tmp_path, SCENE)
    (root / "street" / "images" / "000002.bmp").unlink()
    clips = open_objects(root, length=2, stride=1, cuts={})
    assert [clip.numbers for clip in clips if clip.family == "ball"] == [(0, 1), (3, 4)]


def test_hidden_frames_only_on_request(tmp_path: Path) -> None:
    from dataclasses import replace

    ids = SCENE.instance_ids.copy()
    ids[2][ids[2] == 1] = 2  # the ball is hidden in the middle
    root = files.write_sailvos_folders(tmp_path, replace(SCENE, instance_ids=ids))
    assert open_objects(root, length=FRAMES, cuts={}).names == ["street/2/0"]
    clips = open_objects(root, length=FRAMES, cuts={}, hidden=True)
    assert clips.names == ["street/1/0", "street/2/0"] and not clips[0].modal[2].any()


def test_index_is_kept_and_used(tmp_path: Path) -> None:
    root = files.write_sailvos_folders(tmp_path / "set", SCENE)
    wanted = open_objects(root, length=FRAMES, cuts={}, index=tmp_path / "index").names
    kept = json.loads((tmp_path / "index" / "street.json").read_text())
    assert kept["seen"]["1"] == list(range(FRAMES))
    for file in (root / "street" / "visible").iterdir():  # would be an error if it were read again
        file.write_bytes(b"broken")
    assert open_objects(root, length=FRAMES, cuts={}, index=tmp_path / "index").names == wanted
    with pytest.raises(ValueError, match="which cannot be read"):
        open_objects(root, length=FRAMES, cuts={"street": [4]}, index=tmp_path / "index")


def test_shots_are_found_by_pyscenedetect(tmp_path: Path) -> None:
    pytest.importorskip("scenedetect", reason="needs PySceneDetect (scenedetect-headless)")
    from diffvas.data.sailvos import find_cuts

    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (4, 6, 3)).repeat(10, 0).repeat(10, 1).astype(np.uint8) for _ in range(2))
    paths = []
    for t in range(50):
        paths.append(tmp_path / f"{t:06d}.png")
        files.save(paths[-1], np.roll(first if t < 22 else second, t // 8, 1))
    assert find_cuts(paths) == [22]
    assert find_cuts(paths[:22]) == [] and find_cuts([]) == []


def test_without_pyscenedetect_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "scenedetect", None)
    root = files.write_sailvos_folders(tmp_path, SCENE)
    with pytest.raises(ValueError, match="pip install scenedetect-headless"):
        open_objects(root)


def test_tao_json(tmp_path: Path) -> None:
    for t, frame in enumerate(SCENE.frames_u8):
        files.save(tmp_path / "val" / "YFCC100M" / "v_1" / f"frame{30 * t:04d}.jpg", frame)
    path = files.write_json(tmp_path / "tao.json", [files.tao_record(SCENE), files.tao_record(SCENE, 1, 32)])
    clips = open_objects(path)
    assert clips.kind == "tao-amodal" and clips.names == ["50/31/frame0000.jpg", "50/32/frame0000.jpg"]
    same(clips[1], 1, lossy=True, truth=False)
    clip = clips[0]
    assert clip.boxes is not None and clip.boxes.tolist() == [files.BOX] * FRAMES
    assert clip.numbers == (0, 30, 60, 90, 120)
    # the ball's box is x 22 to 39, y 8 to 25; the amodal one x -6.5 to 33.5, y 3 to 28
    assert clip.visible()[0] == pytest.approx(11.5 * 17 / (17 * 17 + 40 * 25 - 11.5 * 17))


def test_tao_originals(tmp_path: Path) -> None:
    root = files.write_tao_originals(tmp_path)
    clips = open_objects(root, length=FRAMES)
    assert clips.kind == "tao-amodal-folders" and clips.names == ["50/30/frame0000.jpg"]  # 31 lacks a mask
    same(clips[0], 0, lossy=True, truth=False)
    assert clips[0].family == "ball" and clips[0].group == "50"
    both = open_objects(root, length=FRAMES, hidden=True)
    assert sorted(both.names) == ["50/30/frame0000.jpg", "50/31/frame0000.jpg"]
    np.testing.assert_array_equal(both.get("50/31/frame0000.jpg").modal[:-1], SCENE.modal_mask(1)[:-1])
    assert not both.get("50/31/frame0000.jpg").modal[-1].any()
    assert len(open_objects(root, length=2, stride=2)) == 4  # two of each track: 31's last window ends before
    with pytest.raises(ValueError, match="found no file|looked for"):
        open_objects(root, split="train")


def test_movi(tmp_path: Path) -> None:
    root = files.write_movi(tmp_path)
    clips = open_objects(root)
    assert clips.kind == "movi" and clips.names == ["test/12/0", "test/12/1"]
    for index, clip in enumerate(clips):
        same(clip, index)
    clip = clips[0]
    assert clip.family == "ball" and clip.protocol == "eoras" and clip.counted is not None
    assert clip.counted.tolist() == [True, True, False, True, True]
    depth = clip.depth()
    assert depth is not None and depth[SCENE.instance_ids == 2].min() == 1 and depth.min() == 0
    assert open_objects(root / "test").names == clips.names  # a subset alone
    with pytest.raises(ValueError, match=r"expected an instance_list.npy of train"):
        open_objects(root, split="train")


def test_movid_amodal(tmp_path: Path) -> None:
    clips = open_objects(files.write_movi(tmp_path, c2f=True), split="test")
    assert clips.kind == "movid-amodal" and clips.names == ["test/12/0", "test/12/1"]
    for index, clip in enumerate(clips):
        same(clip, index)
    assert clips[0].protocol == "c2f"


def test_tabe51(tmp_path: Path) -> None:
    root = files.write_tabe51(tmp_path)
    for path in (root, root / "TABE-51", root / "TABE-51" / "data", root / "TABE-51" / "data" / "ball_bounce"):
        clips = open_objects(path)
        assert clips.kind == "tabe51" and clips.names == ["ball_bounce"]
    same(clips[0], 0, lossy=True)
    assert clips[0].levels == ("none", "slight", "severe", "severe", "unknown")


def test_youtube_vis(tmp_path: Path) -> None:
    clips = open_objects(files.write_ytvis(tmp_path))
    assert clips.kind == "ytvis" and clips.names == ["v1/20", "v1/21"]
    for index, clip in enumerate(clips):
        same(clip, index, lossy=True)
    assert clips[0].family == "toy" and clips[0].numbers == (0, 5, 10, 15, 20) and clips[0].group == "v1"


def test_youtube_vis_without_truth(tmp_path: Path) -> None:
    clips = open_objects(files.write_ytvis(tmp_path, truth=False) / "modal.json")
    same(clips[1], 1, lossy=True, truth=False)
    assert np.isnan(clips[1].visible()).all()


def test_plain_folders(tmp_path: Path) -> None:
    root = files.write_folders(tmp_path)
    for path in (root, root / "toys"):
        clips = open_objects(path)
        assert clips.kind == "folders" and clips.names == ["toys/1", "toys/2"]
        for index, clip in enumerate(clips):
            same(clip, index, lossy=True)
    depth = clips[0].depth()
    assert depth is not None and depth.dtype == np.float32 and depth[SCENE.instance_ids == 2].min() == 1


def test_davis_layout(tmp_path: Path) -> None:
    clip = files.write_folders(tmp_path / "plain", truth=False) / "toys"
    for part, name in (("frames", "JPEGImages"), ("modal", "Annotations")):
        (tmp_path / "davis" / name / "480p").mkdir(parents=True)
        (clip / part).rename(tmp_path / "davis" / name / "480p" / "toys")
    clips = open_objects(tmp_path / "davis")
    assert clips.names == ["toys/1", "toys/2"]
    same(clips[1], 1, lossy=True, truth=False)


def test_world(tmp_path: Path) -> None:
    clips = open_objects(write_world(tmp_path))
    assert clips.kind == "world" and clips.names == ["scene/1", "scene/2"]
    for index, clip in enumerate(clips):
        same(clip, index)
        np.testing.assert_array_equal(clip.alone_u8(), SCENE.amodal_rgb_u8[index])
    depth = clips[0].depth()
    assert depth is not None and (depth.min(), depth.max()) == (0, 1)


def test_world_splits_and_mini_benchmark(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_world(tmp_path / split, f"scene-{split}")
    assert open_objects(tmp_path).names == [f"scene-{s}/{i}" for s in ("train", "test") for i in (1, 2)]
    assert open_objects(tmp_path, split="test").names == ["scene-test/1", "scene-test/2"]
    with pytest.raises(ValueError, match="split: expected one of train, test"):
        open_objects(tmp_path, split="val")
    listed = {"objects": [{"clip": "scene-test", "object": 2}, {"clip": "gone", "object": 1}], "digests": {}}
    files.write_json(tmp_path / "test" / "mini.json", listed)
    clips = open_objects(tmp_path / "test", tolerant=True)
    assert clips.names == ["scene-test/2"] and "clip 'gone'" in clips.problems[0]


@pytest.mark.parametrize("format_name", ["sailvos", "ytvis", "movi"])
def test_what_the_exporters_write(format_name: str, tmp_path: Path) -> None:
    write_world(tmp_path / "set")
    out = export_dataset(open_dataset(tmp_path / "set"), tmp_path / "out", format_name)
    clips = open_objects(out)
    assert clips.kind == format_name and len(clips) == 2
    for index, clip in enumerate(clips):
        same(clip, index)
    if format_name == "movi":
        other = open_objects(out, "movid-amodal")
        same(other[1], 1)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "world": write_world,
    "sailvos": files.write_sailvos_json,
    "movi": files.write_movi,
    "movid-amodal": lambda path: files.write_movi(path, c2f=True),
    "tao-amodal-folders": files.write_tao_originals,
    "tabe51": files.write_tabe51,
    "ytvis": files.write_ytvis,
    "folders": files.write_folders,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_layout_is_told_from_the_others(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    assert find_kind(tmp_path) == kind
    options = {"length": FRAMES} if "length" in DATASETS[kind].options else {}
    clips = open_objects(tmp_path, **options)
    again = pickle.loads(pickle.dumps(clips))  # for worker processes
    for clip, other in zip(clips, again, strict=True):
        assert clip.size == (HEIGHT, WIDTH) and clip.modal.shape[0] == FRAMES
        np.testing.assert_array_equal(clip.modal, other.modal)
        np.testing.assert_array_equal(clip.frames_u8(), other.frames_u8())


def test_unknown_layouts_say_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="a folder with notes.txt. Looked for: shards .* instance_list.npy"):
        open_objects(tmp_path)
    with pytest.raises(ValueError, match="got the file 'notes.txt'"):
        open_objects(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="found no"):
        open_objects(tmp_path / "nothing")
    with pytest.raises(ValueError, match="got 'tabe'; did you mean 'tabe51'"):
        open_objects(tmp_path, "tabe")
    with pytest.raises(ValueError, match="expected folders with frames and visible_masks"):
        open_objects(tmp_path, "tabe51")
    files.write_folders(tmp_path)
    with pytest.raises(ValueError, match=r"croop: expected one of the options of folders \(progress\)"):
        open_objects(tmp_path, croop=True)
    clips = open_objects(tmp_path)
    with pytest.raises(ValueError, match="got 'toys/3'; did you mean 'toys/"):
        clips.get("toys/3")
    assert "toys/1" in clips and "toys/3" not in clips
