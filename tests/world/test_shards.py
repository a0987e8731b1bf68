"""Shards and the files in them: nothing is lost, other libraries read them, what is broken is found and named."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffvas.world.clip import FLOW_STEP, SceneClip, canvas_padding, clip_areas, clip_digest
from diffvas.world.codec import decode_clip, encode_clip
from diffvas.world.shards import BrokenShardError, Shard, check_dataset, open_dataset, write_shard
from diffvas.world.storage import write_scene_clip
from factories import make_scene

T, H, W = 4, 9, 14


def random_clip(name: str = "a-0", count: int = 3, seed: int = 0) -> SceneClip:
    """A clip with all truth there is, of random numbers, sizes that are odd, and an object that is never there."""
    rng = np.random.default_rng(seed)
    top, left = canvas_padding((H, W))
    canvas = rng.random((count, T, H + 2 * top, W + 2 * left)) < 0.3
    canvas[-1] = False
    amodal = canvas[:, :, top : top + H, left : left + W].copy()
    ids = np.zeros((T, H, W), np.uint8)
    for index in range(count):
        ids[amodal[index]] = index + 1
    colours = rng.integers(0, 256, (count, T, H, W, 3)).astype(np.uint8)
    colours[~amodal] = 255
    flow = (rng.integers(-32767, 32768, (T - 1, H, W, 2)) * FLOW_STEP).astype(np.float32)
    flow[rng.random((T - 1, H, W)) < 0.2] = np.nan
    return SceneClip(
        rng.integers(0, 256, (T, H, W, 3)).astype(np.uint8),
        (rng.integers(0, 60001, (T, H, W)) / 1000).astype(np.float32),
        ids,
        amodal,
        colours,
        name,
        2**62,
        flow,
        canvas,
        rng.random((T, 3, 3)),
        rng.random((T, 4, 4)),
        rng.random((count, T, 4, 4)),
        rng.integers(0, 99, (T, count, count)).astype(np.int32),
        tuple(f"kind{i}" for i in range(count)),
    )


def files_of(clip: SceneClip) -> tuple[str, dict[str, bytes]]:
    return clip.name, encode_clip(clip)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    clips = [random_clip("a-0"), make_scene("a-1"), random_clip("a-2", 9, 5)]
    return write_shard(tmp_path / "set" / "shard-00000.tar", [files_of(clip) for clip in clips])


# The files of a clip


@pytest.mark.parametrize("count", [1, 8, 9, 17])
def test_a_clip_survives_byte_for_byte(count: int) -> None:
    clip = random_clip(count=count)
    files = encode_clip(clip, "{}")
    assert clip_digest(decode_clip(files)) == clip_digest(clip)
    assert encode_clip(clip, "{}") == files
    assert f"object{count}.png" not in files and files["scene.json"] == b"{}"


def test_clips_of_other_worlds_survive() -> None:
    plain = make_scene()
    odd_depth = replace(plain, depth=plain.depth + np.float32(1e-4))
    colourless = replace(plain, frames_u8=plain.frames_u8[:0], amodal_rgb_u8=plain.amodal_rgb_u8[:, :0])
    short = replace(random_clip(), flow=None)
    one = decode_clip(encode_clip(random_clip()), frames=slice(2, 3))
    for clip in (plain, odd_depth, colourless, short, one):
        assert clip_digest(decode_clip(encode_clip(clip))) == clip_digest(clip)
    assert "depth.npy" in encode_clip(odd_depth) and "rgb.png" not in encode_clip(colourless)


def test_the_files_are_what_the_documentation_says() -> None:
    clip = random_clip()
    files = encode_clip(clip)

    def picture(name: str) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(files[name], np.uint8), cv2.IMREAD_UNCHANGED)

    np.testing.assert_array_equal(picture("rgb.png")[..., ::-1], clip.frames_u8.reshape(T * H, W, 3))
    np.testing.assert_array_equal(picture("ids.png"), clip.instance_ids.reshape(T * H, W))
    np.testing.assert_allclose(picture("depth.png") / 1000, clip.depth.reshape(T * H, W), atol=1e-6)
    assert clip.canvas_masks is not None and clip.flow is not None
    masks = picture("masks.png").reshape(T, H + 4, W + 6)
    np.testing.assert_array_equal(masks >> 1 & 1, clip.canvas_masks[1])
    kitti = picture("flow.png")[..., ::-1].astype(float).reshape(T - 1, H, W, 3)
    known = kitti[..., 2] == 1
    np.testing.assert_array_equal((kitti[..., :2][known] - 2**15) / 64, clip.flow[known])
    assert np.isnan(clip.flow[~known]).all()
    meta = json.loads(files["meta.json"])
    top, left, height, width = meta["boxes"][0]
    alone = picture("object1.png")[..., [2, 1, 0, 3]].reshape(T, height, width, 4)
    inside = clip.amodal_masks[0][:, top : top + height, left : left + width]
    np.testing.assert_array_equal(alone[..., 3], np.where(inside, 255, 0))
    np.testing.assert_array_equal(alone[inside][:, :3], clip.amodal_rgb_u8[0][clip.amodal_masks[0]])
    assert meta["areas"] == clip_areas(clip) and meta["boxes"][2] is None
    assert meta["areas"]["modal"][1] == clip.modal_mask(1).sum((1, 2)).tolist()


def test_windows_and_parts() -> None:
    clip = random_clip()
    files = encode_clip(clip)
    window = decode_clip(files, ("flow",), slice(1, 3))
    assert clip.flow is not None and window.flow is not None and clip.object_poses is not None
    np.testing.assert_array_equal(window.flow, clip.flow[1:2])
    np.testing.assert_array_equal(window.amodal_masks, clip.amodal_masks[:, 1:3])
    np.testing.assert_array_equal(window.object_poses, clip.object_poses[:, 1:3])
    assert window.frames_u8.shape == (0, H, W, 3) and window.amodal_rgb_u8.shape == (3, 0, H, W, 3)
    assert decode_clip(files, ()).flow is None
    np.testing.assert_array_equal(decode_clip(files, frames=slice(-2, None)).depth, clip.depth[2:])
    for frames in (slice(4, 9), slice(0, 4, 2), slice(2, 2)):
        with pytest.raises(ValueError, match="frames: expected a slice of some of 4 frames in steps of 1"):
            decode_clip(files, frames=frames)
    with pytest.raises(ValueError, match="parts: expected some of .* got .'taste'"):
        decode_clip(files, ("taste",))


def test_files_that_do_not_fit_are_refused() -> None:
    files = encode_clip(random_clip())
    with pytest.raises(ValueError, match="files: expected those of a scene clip"):
        decode_clip({k: v for k, v in files.items() if k != "masks.png"})
    with pytest.raises(ValueError, match="picture: expected frames of"):
        decode_clip({**files, "ids.png": files["masks.png"]})
    with pytest.raises(ValueError, match="picture: expected .* got no PNG"):
        decode_clip({**files, "ids.png": b"GIF89a"})
    with pytest.raises(ValueError, match="expected format 2"):
        decode_clip({**files, "meta.json": b'{"format": 7}'})
    with pytest.raises(ValueError, match="in steps of 1/64"):
        encode_clip(replace(random_clip(), flow=np.full((T - 1, H, W, 2), 0.01, np.float32)))
    with pytest.raises(ValueError, match="at most 1000000 rows"):
        encode_clip(SceneClip(*_long(120_000), "long", 0))


def _long(time: int) -> tuple[np.ndarray, ...]:
    grid = (time, H, 1)
    return (
        np.zeros((0, *grid[1:], 3), np.uint8),
        np.ones(grid, np.float32),
        np.zeros(grid, np.uint8),
        np.zeros((1, *grid), bool),
        np.zeros((1, 0, *grid[1:], 3), np.uint8),
    )


# Shards


def test_a_shard_is_a_plain_tar(shard: Path) -> None:
    with tarfile.open(shard) as archive:
        names = archive.getnames()
        first = archive.extractfile("a-0.meta.json")
        assert first is not None and json.loads(first.read())["name"] == "a-0"
    assert names[0] == "__index__" and [n for n in names if n.endswith("meta.json")] == [
        "a-0.meta.json",
        "a-1.meta.json",
        "a-2.meta.json",
    ]
    again = write_shard(shard.with_name("again.tar"), [files_of(clip) for clip in open_dataset(shard)])
    assert again.read_bytes() == shard.read_bytes()
    assert sorted(p.name for p in shard.parent.iterdir()) == ["again.tar", "shard-00000.tar"]


def test_webdataset_reads_it(shard: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="needs webdataset (the dev extra)")
    samples = list(wds.WebDataset(str(shard), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["a-0", "a-1", "a-2"]
    for sample, clip in zip(samples, open_dataset(shard), strict=True):
        assert clip_digest(decode_clip(sample)) == clip_digest(clip)
    decoded = next(iter(wds.WebDataset(str(shard), shardshuffle=False).decode()))
    assert decoded["meta.json"]["objects"] == 3 and decoded["geometry.npz"]["intrinsics"].shape == (T, 3, 3)


def test_clips_are_read_at_random(shard: Path) -> None:
    scenes = open_dataset(shard.parent)
    assert scenes.names == ["a-0", "a-1", "a-2"] and len(scenes) == 3
    assert clip_digest(scenes[-1]) == clip_digest(random_clip("a-2", 9, 5)) == clip_digest(scenes[1:][1])
    assert scenes.read(1, ()).frames_u8.shape[0] == 0 and len(scenes.read(1, frames=slice(1, 3)).depth) == 2
    assert scenes.meta(2)["objects"] == 9 and scenes.scene(0) is None
    assert pickle.loads(pickle.dumps(scenes)).names == scenes.names
    with pytest.raises(IndexError):
        scenes[3]


def test_older_clips_are_read_the_same_way(tmp_path: Path) -> None:
    clip = make_scene("b-0")
    path = write_scene_clip(tmp_path / "b-0.npz", clip)
    for where in (tmp_path, path):
        scenes = open_dataset(where)
        assert scenes.names == ["b-0"] and clip_digest(scenes[0]) == clip_digest(clip)
    assert scenes.meta(0)["areas"] == clip_areas(clip) and scenes.scene(0) is None
    window = scenes.read(0, frames=slice(1, 3))
    np.testing.assert_array_equal(window.amodal_rgb_u8, clip.amodal_rgb_u8[:, 1:3])
    with pytest.raises(ValueError, match="frames: expected a slice"):
        scenes.read(0, frames=slice(9, 12))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"corrupt file '.*b-0\.npz'"):
        list(open_dataset(tmp_path))
    assert list(open_dataset(tmp_path, skip_broken=True)) == []


def test_every_broken_byte_is_found_and_named(shard: Path) -> None:
    whole, scenes = shard.read_bytes(), Shard(shard)
    ends = scenes.ends(1)
    start = len(whole) - 1024 - sum(512 + -(-len(d) // 512) * 512 for i in range(3) for d in scenes.files(i).values())
    places = {"header": 3, "index": 700, "first file": start + 600, "last file": len(whole) - 1024 - 512 + 5}
    for where, at in places.items():
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BrokenShardError, match=r"shard-00000\.tar"):
            list(open_dataset(shard.parent))
            pytest.fail(where)
    for at in (start + 3, len(whole) - 1030, len(whole) - 9):  # a header, what fills a block, the tar's end
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert [message.count("shard-00000.tar") for message in check_dataset(shard.parent)] == [1]
    for size in (0, 100, 5000, len(whole) - 1):
        shard.write_bytes(whole[:size])
        with pytest.raises(BrokenShardError, match=r"shard-00000\.tar"):
            open_dataset(shard.parent)
    shard.write_bytes(whole)
    assert check_dataset(shard.parent) == []
    assert "rgb.png" in ends


def test_what_is_broken_is_skipped_only_when_asked(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    at = data.index(b"a-1.ids.png") + 520
    data[at] ^= 255
    shard.write_bytes(data)
    (shard.parent / "shard-00001.tar").write_bytes(b"nothing")
    with pytest.raises(BrokenShardError, match="shard-00001"):
        open_dataset(shard.parent)
    scenes = open_dataset(shard.parent, skip_broken=True)
    assert [clip.name for clip in scenes] == ["a-0", "a-2"]
    assert len(scenes.broken) == 2 and "shard-00001" in scenes.broken[0] and "a-1.ids.png" in scenes.broken[1]
    assert [meta["name"] for _, meta in scenes.metas()] == ["a-0", "a-1", "a-2"]  # its pictures are not read
    with pytest.raises(BrokenShardError, match=r"a-1\.ids\.png"):
        scenes[1]


def test_other_tars_and_empty_places_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        info = tarfile.TarInfo("x.txt")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(BrokenShardError, match=r"other\.tar"):
        open_dataset(tmp_path)
    for nothing in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="path: expected a data set of scene clips"):
            open_dataset(nothing)


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a.b"], ["a/b"], [""]])
def test_names_that_webdataset_would_take_apart_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="clips: expected names"):
        write_shard(tmp_path / "x.tar", [(name, {"a.txt": b""}) for name in names])
    assert not list(tmp_path.iterdir())


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path / "x.tar", [("a", {"a.txt": b"abc"})])
    assert not list(tmp_path.iterdir())
