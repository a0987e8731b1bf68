"""Data sets of scenes: the same from any number of workers, resumed, extended, repaired, and never mixed up."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffvas.world import make as module
from diffvas.world.clip import clip_digest
from diffvas.world.make import Settings, make_clips, make_one, scene_of
from diffvas.world.mini import SETTINGS as MINI
from diffvas.world.mini import choose_objects, published_checksums
from diffvas.world.shards import open_dataset
from diffvas.world.spec import SceneSpec
from diffvas.world.splits import SPLITS, clip_seed

FLAT = Settings("flat", seed=5, size=(16, 24), frames=2, per_shard=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# Settings, seeds, splits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "tabeltop"}, "preset: expected one of .* got 'tabeltop'; did you mean 'tabletop'"),
        ({"preset": "qqq"}, "preset: expected one of .* got 'qqq'$"),
        ({"split": "tset"}, "split: expected one of train, val, test, test-heldout-shapes, got 'tset'"),
        ({"seed": -1}, "seed, frames, per_shard: expected 0, 1 and 1 or more"),
        ({"frames": 0}, "seed, frames, per_shard"),
        ({"size": (4, 64)}, "size: expected"),
        ({"truth": ("rgb", "sound")}, "truth: expected some of rgb, content, flow"),
    ],
)
def test_settings_that_make_nothing_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(FLAT, **changes)


def test_seeds_never_change_and_splits_share_none() -> None:
    # published data sets depend on these numbers
    assert clip_seed(3, 0) == 6233904063939786893
    assert clip_seed(3, 0, "test") == 8053047280485620712
    seeds = [clip_seed(seed, index, split) for seed in range(3) for index in range(50) for split in (None, *SPLITS)]
    assert len(set(seeds)) == len(seeds) and 0 <= min(seeds) and max(seeds) < 2**63
    assert {name: split.families for name, split in SPLITS.items()} == {
        "train": "train",
        "val": "train",
        "test": "train",
        "test-heldout-shapes": "heldout",
    }


def test_splits_are_made_of_other_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffvas.world import scenes

    asked = []

    def sample(preset: str, rng: np.random.Generator, size: tuple, frames: int, families: str = "all") -> SceneSpec:
        asked.append(families)
        return original(preset, rng, size, frames, families=families)

    original = scenes.sample_scene
    monkeypatch.setattr(scenes, "sample_scene", sample)
    for split in (None, "train", "test-heldout-shapes"):
        settings = Settings("street", split=split, size=(32, 64), frames=2)
        spec = scene_of(settings, 7)
        assert spec.seed == clip_seed(0, 7, split)
        assert spec.name == ("street-0000007" if split is None else f"street-{split}-0000007")
    assert asked == ["all", "train", "heldout"]


# Folders; the flat world needs no renderer


def test_bad_counts_and_places_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for arguments in ({"clips": 0}, {"clips": 1, "workers": 0}):
        with pytest.raises(ValueError, match="expected 1 or more, got 0"):
            make_clips(FLAT, out=tmp_path / "out", **arguments)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="out: expected a folder, got the file"):
        make_clips(FLAT, 1, tmp_path / "file")
    with pytest.raises(ValueError, match=r"out: expected an empty folder or a data set, .* no dataset\.json"):
        make_clips(FLAT, 1, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = make_clips(FLAT, 5, tmp_path / "one", progress=lambda *call: calls.append(call))
    assert calls == [("clips", done, 5) for done in range(6)]
    make_clips(FLAT, 5, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert [path.name for path in report.shards] == [f"shard-0000{k}.tar" for k in range(3)]
    assert (report.made, report.clips) == (5, 5) and report.objects >= 10 and report.bytes > 1000
    assert set(report.seconds) == {"sampling", "physics", "rendering", "writing"}
    rate, shares = report.lines()
    assert "object clips a minute of CPU time on one core" in rate and "rendering" in shares
    assert open_dataset(tmp_path / "one").names == [f"flat-000000{k}" for k in range(5)]


def test_the_same_command_resumes_repairs_and_extends(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    make_clips(FLAT, 6, whole)
    make_clips(FLAT, 3, out)  # its second shard is half full
    stamp = (out / "shard-00000.tar").stat().st_mtime_ns
    (out / ".shard-00001.tar.99.tmp").write_bytes(b"left by a process that was killed")
    report = make_clips(FLAT, 6, out)
    assert report.made == 4 and report.remade == [] and contents(out) == contents(whole)
    assert (out / "shard-00000.tar").stat().st_mtime_ns == stamp
    again = make_clips(FLAT, 6, out)
    assert again.made == 0 and again.lines() == []
    for k, broken in enumerate((b"", (out / "shard-00001.tar").read_bytes()[:-7])):
        (out / f"shard-0000{k}.tar").write_bytes(broken)
    data = bytearray((out / "shard-00002.tar").read_bytes())
    data[len(data) - 3000] ^= 1
    (out / "shard-00002.tar").write_bytes(data)
    report = make_clips(FLAT, 6, out)
    assert report.remade == report.shards and contents(out) == contents(whole)


def test_another_data_set_is_never_mixed_in(tmp_path: Path) -> None:
    make_clips(FLAT, 3, tmp_path)
    before = contents(tmp_path)
    for settings, clips, message in (
        (replace(FLAT, seed=6), 3, "seed is 5, not 6"),
        (replace(FLAT, split="val", frames=3), 3, "split is None, not 'val'; frames is 2, not 3"),
        (replace(FLAT, truth=()), 3, "truth is "),
        (FLAT, 2, "clips is 3, not 2"),
    ):
        with pytest.raises(ValueError, match=f"got another data set .*: {message}"):
            make_clips(settings, clips, tmp_path)
    assert contents(tmp_path) == before
    older = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**older, "version": "0.0.1"}))
    with pytest.raises(ValueError, match=r"version is '0\.0\.1', not"):
        make_clips(FLAT, 3, tmp_path)
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"out: expected the settings of a data set in '.*dataset\.json'"):
        make_clips(FLAT, 3, tmp_path)


def test_a_full_disk_stops_clean_and_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = module.write_shard, []

    def filling(path: Path, clips: list) -> Path:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        return real(path, clips)

    monkeypatch.setattr(module, "write_shard", filling)
    with pytest.raises(OSError, match=r"shard-00001\.tar' \(No space left on device\): 2 of 5 clips are"):
        make_clips(FLAT, 5, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["dataset.json", "shard-00000.tar"]
    monkeypatch.setattr(module, "write_shard", real)
    assert make_clips(FLAT, 5, tmp_path / "out").made == 3
    make_clips(FLAT, 5, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_an_interrupt_keeps_what_is_whole(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_clips(FLAT, 5, tmp_path, progress=stop, workers=2)
    assert sorted(contents(tmp_path)) == ["dataset.json", "shard-00000.tar"]
    assert make_clips(FLAT, 5, tmp_path).made == 3


def test_flat_clips_without_colours(tmp_path: Path) -> None:
    make_clips(replace(FLAT, truth=()), 1, tmp_path / "plain")
    make_clips(FLAT, 1, tmp_path / "colour")
    plain, colour = (open_dataset(tmp_path / name)[0] for name in ("plain", "colour"))
    assert plain.frames_u8.size == plain.amodal_rgb_u8.size == 0 and colour.frames_u8.any()
    np.testing.assert_array_equal(plain.amodal_masks, colour.amodal_masks)
    assert (plain.name, plain.seed) == ("flat-0000000", clip_seed(5, 0))
    make_clips(replace(FLAT, split="test-heldout-shapes"), 1, tmp_path / "other")
    assert open_dataset(tmp_path / "other").names == ["flat-test-heldout-shapes-0000000"]


# Rendered


@pytest.mark.usefixtures("rendering")
def test_rendered_data_sets_do_not_depend_on_workers(tmp_path: Path) -> None:
    settings = Settings("mixed", seed=7, size=(32, 64), frames=2, per_shard=2, split="val")
    make_clips(settings, 3, tmp_path / "one")
    make_clips(settings, 3, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    scenes = open_dataset(tmp_path / "one")
    from diffvas.world.render import render_scene

    text = scenes.scene(2)
    assert text is not None
    spec = SceneSpec.from_json(text)
    assert spec == scene_of(settings, 2)  # the scene is data: it is kept, and gives the same clip again
    assert clip_digest(render_scene(spec)) == clip_digest(scenes[2])


@pytest.mark.usefixtures("rendering")
def test_the_mini_benchmark_is_what_was_published() -> None:
    """Its first clip, byte for byte; `diffvas world mini` compares all of them."""
    from diffvas.world.codec import decode_clip
    from diffvas.world.render import gl_driver

    published = published_checksums()
    if published["renderer"] != gl_driver():
        pytest.skip(f"the checksums are those of {published['renderer']}, and this is {gl_driver()}")
    assert len(published["digests"]) == 40
    clip = decode_clip(make_one(MINI, 0)[0])
    assert clip_digest(clip) == published["digests"][clip.name]


def test_object_clips_are_chosen_evenly(tmp_path: Path) -> None:
    make_clips(replace(FLAT, size=(32, 64), frames=4), 12, tmp_path)
    scenes = open_dataset(tmp_path)
    everything, few = choose_objects(scenes, 10**6), choose_objects(scenes, 10)
    assert len(few) == 10 < len(everything) and all(entry in everything for entry in few)
    counts = {level: sum(e["level"] == level for e in few) for level in {e["level"] for e in everything}}
    available = {level: sum(e["level"] == level for e in everything) for level in counts}
    assert all(counts[a] >= counts[b] - 1 or counts[a] == available[a] for a in counts for b in counts)
    clip = scenes[scenes.names.index(few[0]["clip"])]
    index = few[0]["object"] - 1
    there = clip.amodal_masks[index].sum((1, 2)) >= 1.024
    assert few[0]["visible"] == pytest.approx(clip.visible_fraction(index)[there].mean(), abs=1e-4)
    assert json.loads(json.dumps(few)) == few
