"""Scenes and the examples made of them: seeds of their own, a held-out part, spoiled conditions, exact truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffvas.data import examples
from diffvas.data.examples import child_seed, is_held_out, make_example, open_scenes, without_colour
from diffvas.world.flat import flat_scene
from diffvas.world.storage import write_scene_clip
from factories import make_scene


def test_children_of_a_seed_are_strangers() -> None:
    parent = np.random.default_rng([3, 1]).random(50)
    draws = [np.random.default_rng(child_seed([3, 1], k)).random(50) for k in range(3)]
    assert np.array_equal(draws[0], np.random.default_rng(child_seed([3, 1], 0)).random(50))
    together = np.concatenate([parent, *draws])
    assert len(np.unique(together)) == len(together)


def test_the_flat_world_has_no_end() -> None:
    scenes = open_scenes("flat", 3, colour=False, size=(32, 64))
    first, second = scenes(child_seed([1], 0)), scenes(child_seed([1], 1))
    assert first.depth.shape == (3, 32, 64) and not np.array_equal(first.instance_ids, second.instance_ids)
    assert np.array_equal(first.instance_ids, scenes(child_seed([1], 0)).instance_ids)


def test_a_folder_and_its_parts(tmp_path: Path) -> None:
    names = [f"clip-{k}" for k in range(40)]
    held = {name for name in names if is_held_out(name)}
    assert 0 < len(held) < 12
    for name in names:
        write_scene_clip(tmp_path / f"{name}.npz", make_scene(name))
    drawn = {
        split: {open_scenes(tmp_path, split=split)(child_seed([k], 0)).name for k in range(120)}
        for split in ("train", "val", "all")
    }
    assert drawn["val"] == held and not drawn["train"] & held and drawn["all"] & held and drawn["all"] - held
    for name in held:
        (tmp_path / f"{name}.npz").unlink()
    with pytest.raises(ValueError, match="source: expected clips in the val part of .*, got none"):
        open_scenes(tmp_path, split="val")
    with pytest.raises(ValueError, match="source: expected 'flat' or a folder of scene clips, got 'nowhere'"):
        open_scenes("nowhere")


def test_a_stretch_of_a_longer_clip(tmp_path: Path) -> None:
    scene = flat_scene([3], (32, 64), 6)
    write_scene_clip(tmp_path / "clip-0.npz", scene)
    starts = set()
    for seed in range(30):
        clip = open_scenes(tmp_path, 4)(child_seed([seed], 0))
        (start,) = [t for t in range(3) if np.array_equal(clip.depth, scene.depth[t : t + 4])]
        assert np.array_equal(clip.amodal_masks, scene.amodal_masks[:, start : start + 4])
        assert np.array_equal(clip.frames_u8, scene.frames_u8[start : start + 4])
        starts.add(start)
    assert starts == {0, 1, 2}
    whole = open_scenes(tmp_path, 6)(child_seed([0], 0)), open_scenes(tmp_path, 25)(child_seed([0], 0))
    assert all(np.array_equal(clip.depth, scene.depth) for clip in whole)


def test_truth_is_never_spoiled() -> None:
    scene = make_scene()
    exact = make_example(scene, 0, np.random.default_rng(0), spoil=False)
    assert np.array_equal(exact.modal, scene.modal_mask(0)) and np.array_equal(exact.amodal, scene.amodal_masks[0])
    mirrored = 0
    for seed in range(40):
        example = make_example(scene, 0, np.random.default_rng(seed))
        flip = not np.array_equal(example.amodal, exact.amodal)
        mirrored += flip
        assert np.array_equal(example.amodal, exact.amodal[:, :, ::-1] if flip else exact.amodal)
        assert np.array_equal(example.alone_u8, exact.alone_u8[:, :, ::-1] if flip else exact.alone_u8)
    assert 10 < mirrored < 30


def test_cropped_examples_hold_the_object() -> None:
    scene = make_scene()
    for seed in range(20):
        example = make_example(scene, 0, np.random.default_rng(seed), size=(32, 48), spoil=False)
        assert example.amodal.shape == (5, 32, 48) and example.depth.shape == (5, 32, 48)
        assert not (example.modal & ~example.amodal).any() and example.amodal.any()
    assert make_example(without_colour(scene), 0, np.random.default_rng(0), size=(32, 48)).frames_u8.size == 0


def test_only_objects_worth_learning_from() -> None:
    scene = make_scene()
    found = dict(examples.candidates(scene))
    assert found.keys() == {0, 1} and found[1] == 1.0 and 0.3 < found[0] < 0.95
    assert examples.candidates(scene, least_area=0.9) == []
