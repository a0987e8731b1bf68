"""The latent cache: the same bytes from the same settings, and batches cut alike in all their parts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffvas.data.examples import make_example
from diffvas.train import cache, step
from diffvas.train.cache import CacheConfig, CachedClips, build_cache, check_caches, fingerprint, fixed_clips
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import tiny_denoiser
from diffvas.train.step import unpack
from diffvas.train.vae import tiny_vae
from diffvas.world.storage import write_scene_clip
from factories import FRAMES, HEIGHT, WIDTH, make_scene
from train_factories import write_cache

CONFIG = CacheConfig("amodal", "flat", ((HEIGHT, WIDTH),), shards=2, per_shard=2, frames=3, seed=4)


@pytest.fixture(scope="module")
def vae() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_vae()


@pytest.fixture(scope="module")
def built(vae: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("caches") / "amodal"
    build_cache(CONFIG, vae, out)  # type: ignore[arg-type]
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_what_a_shard_holds(built: Path) -> None:
    assert sorted(files(built)) == ["cache.json", "shard-00000.safetensors", "shard-00001.safetensors"]
    shard = load_file(built / "shard-00000.safetensors")
    size = cache.TOWER_SIZE
    assert {name: (tuple(x.shape), x.dtype) for name, x in shard.items()} == {
        "a": ((2, 3, 4, 4, 8), torch.float16),
        "b": ((2, 3, 4, 4, 8), torch.float16),
        "target": ((2, 3, 4, 4, 8), torch.float16),
        "pixels": ((2, 3, 1, size, size), torch.uint8),
        "sigma": ((2,), torch.float32),
        "amodal": ((2, 3, 32, 8), torch.uint8),
        "modal": ((2, 3, 32, 8), torch.uint8),
    }
    assert 0.005 < shard["sigma"].min() and shard["sigma"].max() < 0.5
    assert len(shard["sigma"].unique()) == 2


def test_a_killed_build_ends_as_one_that_was_not(built: Path, vae: torch.nn.Module, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    out = tmp_path / "again"
    build_cache(CONFIG, vae, out, progress=lambda n, total: calls.append((n, total)))  # type: ignore[arg-type]
    assert files(out) == files(built)
    assert calls == [(1, 2), (2, 2)]
    first = (out / "shard-00000.safetensors").stat().st_mtime_ns
    (out / "shard-00001.safetensors").unlink()
    build_cache(CONFIG, vae, out)  # type: ignore[arg-type]
    assert files(out) == files(built)
    assert (out / "shard-00000.safetensors").stat().st_mtime_ns == first


def test_second_stage_from_a_folder_of_scenes(vae: torch.nn.Module, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    write_scene_clip(scenes / "scene.npz", make_scene())
    config = replace(CONFIG, stage="content", source=str(scenes), shards=1, frames=FRAMES)
    build_cache(config, vae, tmp_path / "out")  # type: ignore[arg-type]
    shard = load_file(tmp_path / "out" / "shard-00000.safetensors")
    assert shard["pixels"].shape[:3] == (2, FRAMES, 3) and shard["a"].shape == (2, FRAMES, 4, 4, 8)
    build_cache(replace(config, stage="amodal"), vae, tmp_path / "masks")  # type: ignore[arg-type]


def test_masks_with_a_memory(vae: torch.nn.Module, tmp_path: Path) -> None:
    """Told twice, with and without depth; what is told without it takes the other's place where depth is dropped."""
    build_cache(replace(CONFIG, memory=True, shards=1), vae, tmp_path / "out")  # type: ignore[arg-type]
    shard = load_file(tmp_path / "out" / "shard-00000.safetensors")
    assert shard["a_blind"].shape == shard["a"].shape and shard["pixels_blind"].shape == shard["pixels"].shape
    assert not torch.equal(shard["a"], shard["a_blind"])
    for conditions, drop in ((("mask", "depth"), 0.0), (("mask", "depth"), 1.0), (("mask",), 0.0)):
        config = DenoiserConfig(conditions=conditions, drop_b=drop)
        batch = step.draw(shard, torch.Generator().manual_seed(0), config)
        assert not any(name.endswith("_blind") for name in batch)
        for name in ("a", "pixels"):
            wanted = shard[name] if drop == 0 and len(conditions) == 2 else shard[name + "_blind"]
            assert torch.equal(batch[name], wanted)
    with pytest.raises(ValueError, match="memory: expected stage amodal with it, got content"):
        replace(CONFIG, memory=True, stage="content")


def test_bad_caches(built: Path, vae: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="out: .* holds a cache with other settings"):
        build_cache(replace(CONFIG, seed=5), vae, built)  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="source: "):
        build_cache(replace(CONFIG, source=str(tmp_path / "empty")), vae, tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists(), "something was written"


def test_images_of_the_stages() -> None:
    scene = make_scene()
    example = make_example(scene, 0, np.random.default_rng(0), spoil=False)
    modal, depth, amodal = cache.stage_images("amodal", example)
    assert torch.equal(modal[:, 0] > 0, torch.from_numpy(scene.modal_mask(0)))
    assert torch.equal(amodal[:, 2] > 0, torch.from_numpy(scene.amodal_masks[0]))
    nearest = scene.depth == scene.depth.min()
    assert (depth.numpy()[:, 0][nearest] == 1).all() and depth.min() == -1
    visible, mask, alone = cache.stage_images("content", example)
    assert torch.equal(mask, amodal)
    outside = torch.from_numpy(~scene.modal_mask(0))
    assert (visible.movedim(1, -1)[outside] == 1).all(), "white around the visible part"
    assert (alone.movedim(1, -1)[torch.from_numpy(~scene.amodal_masks[0])] == 1).all()
    seen = torch.from_numpy(scene.modal_mask(0))
    assert torch.equal(visible.movedim(1, -1)[seen], alone.movedim(1, -1)[seen])
    for image in (modal, depth, amodal, visible, alone):
        assert image.shape == (FRAMES, 3, HEIGHT, WIDTH) and -1 <= image.min() and image.max() <= 1


def test_stage_two_from_pairs_and_one_stage_from_all(vae: torch.nn.Module, tmp_path: Path) -> None:
    """Objects in full view hidden behind others' outlines; and the visible RGB with depth for the end-to-end model."""
    pairs = replace(CONFIG, stage="content", shards=1, pairs=True)
    build_cache(pairs, vae, tmp_path / "pairs")  # type: ignore[arg-type]
    shard = load_file(tmp_path / "pairs" / "shard-00000.safetensors")
    modal, amodal = (unpack(shard[name]) for name in ("modal", "amodal"))
    assert (modal.sum((1, 2, 3)) < 0.9 * amodal.sum((1, 2, 3))).all(), "nothing is hidden"
    build_cache(replace(CONFIG, stage="end-to-end", shards=1), vae, tmp_path / "one")  # type: ignore[arg-type]
    assert load_file(tmp_path / "one" / "shard-00000.safetensors")["pixels"].shape[2] == 3
    build_cache(replace(CONFIG, rgb=True, shards=1), vae, tmp_path / "rgb")  # type: ignore[arg-type]
    assert load_file(tmp_path / "rgb" / "shard-00000.safetensors")["rgb"].shape == (2, 3, 4, 4, 8)


def test_tokens_of_a_tower_that_stays(vae: torch.nn.Module, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = tiny_denoiser().tower.eval()
    build_cache(replace(CONFIG, shards=1), vae, tmp_path / "c", tower=tower)  # type: ignore[arg-type]
    shard = load_file(tmp_path / "c" / "shard-00000.safetensors")
    assert shard["tokens"].shape == (2, 3, 128) and "pixels" not in shard
    with pytest.raises(ValueError, match=r"holds a cache with other settings \(tokens: True -> False\)"):
        build_cache(replace(CONFIG, shards=1), vae, tmp_path / "c")  # type: ignore[arg-type]


def test_fingerprint_is_the_encoders(vae: torch.nn.Module, built: Path) -> None:
    assert fingerprint(vae) == json.loads((built / "cache.json").read_text())["vae"]  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        twin, other = tiny_vae(), tiny_vae()
    assert fingerprint(twin) == fingerprint(tiny_vae_like(twin).half()) != fingerprint(other)  # type: ignore[arg-type]
    with torch.no_grad():
        twin.decoder.conv_out.bias += 1
    assert fingerprint(twin) == fingerprint(vae)  # type: ignore[arg-type]


def tiny_vae_like(vae: torch.nn.Module) -> torch.nn.Module:
    twin = tiny_vae()
    twin.load_state_dict(vae.state_dict())
    return twin


def test_caches_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_cache(tmp_path / "one", {"stage": "amodal", "vae": "1234"})
    two = write_cache(tmp_path / "two", {"stage": "amodal", "vae": "abcd"})
    old = write_cache(tmp_path / "old", {"stage": "amodal"})
    bare = write_cache(tmp_path / "bare")
    check_caches([one], "amodal", ("a", "b"))
    assert capsys.readouterr().err == ""
    check_caches([one, old, bare], "amodal", ("a", "b"))
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == 2 and "old does not say which VAE made it" in warned[0]
    with pytest.raises(ValueError, match=r"data: expected latents of one VAE, got several \(.*one 1234, .*two abcd\)"):
        check_caches([one, two], "amodal", ("a",))
    with pytest.raises(ValueError, match="data: expected latents of one VAE, got several .vae "):
        check_caches([one], "amodal", ("a",), tiny_vae())
    with pytest.raises(ValueError, match="data: expected a cache of stage content, got .* of stage amodal"):
        check_caches([one], "content", ("a",))
    with pytest.raises(ValueError, match="data: expected a cache with a, rgb, .*one has no rgb"):
        check_caches([one], "amodal", ("a", "rgb"))
    (one / "shard-00000.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="data: expected a whole shard, got the corrupt file"):
        check_caches([one], "amodal", ("a",))


def test_fixed_clips_are_always_the_same_ones(tmp_path: Path) -> None:
    folders = [counting_cache(tmp_path / "one", clips=3), counting_cache(tmp_path / "two", clips=4)]
    clips = list(fixed_clips(folders, 3))
    assert [clip["a"][0, 0, 0].item() for clip in clips] == [0, 0, 300]
    assert all(clip["a"].shape == (1, 9, 2) for clip in clips)
    assert len(list(fixed_clips(folders, 99))) == 7


def counting_cache(folder: Path, clips: int = 3, frames: int = 9) -> Path:
    """A cache in which every number says its clip and frame: 100 * clip + frame."""
    folder.mkdir()
    number = (100 * torch.arange(clips)[:, None] + torch.arange(frames)).to(torch.int32)
    parts = {name: number[:, :, None].repeat(1, 1, 2) for name in ("a", "b", "target", "pixels", "amodal", "modal")}
    save_file({**parts, "sigma": torch.arange(clips).float()}, folder / "shard-00000.safetensors")
    return folder


def test_batches_are_cut_alike(tmp_path: Path) -> None:
    source = CachedClips([counting_cache(tmp_path / "c")], [1.0], 2, [3, 4], seed=0)
    spans, strides = set(), set()
    for number in range(300):
        batch = source[number]
        clip, frame = batch["a"][:, :, 0] // 100, batch["a"][:, :, 0] % 100
        assert all(torch.equal(batch[name], batch["a"]) for name in ("b", "target", "pixels", "amodal", "modal"))
        assert (clip == batch["sigma"].int()[:, None]).all() and len(set(clip[:, 0].tolist())) == 2
        strides |= set(frame.diff(dim=1).flatten().tolist())
        assert frame.diff(dim=1).sign().unique().numel() <= 2, "time goes one way"
        spans.add(frame.shape[1])
        assert all(torch.equal(batch[name], source[number][name]) for name in batch)
    assert spans == {3, 4}
    assert strides == {-3, -2, -1, 0, 1, 2, 3}


def test_more_frames_are_asked_than_there_are(tmp_path: Path) -> None:
    source = CachedClips([counting_cache(tmp_path / "c", frames=4)], [1.0], 3, [25], seed=0)
    assert source[0]["a"].shape == (3, 4, 2)


def test_more_clips_are_asked_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch: expected at most 3, the clips of a shard of .*, got 4"):
        CachedClips([counting_cache(tmp_path / "c")], [], 4, [3], seed=0)


def test_weights_say_how_often(tmp_path: Path) -> None:
    folders = [counting_cache(tmp_path / "few", frames=2), counting_cache(tmp_path / "many", frames=5)]
    source = CachedClips(folders, [1.0, 3.0], 1, [5], seed=0)
    share = np.mean([source[step]["a"].shape[1] == 5 for step in range(200)])
    assert share == pytest.approx(0.75, abs=0.1)
    assert {CachedClips(folders, [0, 1], 1, [5], seed=0)[step]["a"].shape[1] for step in range(20)} == {5}


@pytest.mark.parametrize(
    ("weights", "batch", "spans", "message"),
    [
        ([1.0, 1.0], 1, [3], r"weights: expected 1 numbers of 0 or more, not all 0, got \[1.0, 1.0\]"),
        ([-1.0], 1, [3], "weights: expected"),
        ([0.0], 1, [3], "weights: expected"),
        ([1.0], 0, [3], "batch, spans: expected 1 or more, got batch 0"),
        ([1.0], 1, [3, 0], "batch, spans: expected 1 or more"),
        ([1.0], 1, [], "batch, spans: expected 1 or more"),
    ],
)
def test_bad_batches(tmp_path: Path, weights: list[float], batch: int, spans: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CachedClips([counting_cache(tmp_path / "c")], weights, batch, spans, 0)


def test_a_folder_without_shards(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data: expected a latent cache with shards"):
        CachedClips([tmp_path], [1.0], 1, [3], 0)
