"""Examples of shapes alone: true to what depth says, one like the pipelines' own, and of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffvas.focus import extent
from diffvas.order import may_be_hidden
from diffvas.pipelines.finish import AGAIN, BY_DEPTH, COLOURS, INPUTS, UNTOLD
from diffvas.train import shape_material
from diffvas.train.pixel_material import MAKERS
from diffvas.train.pixels import RECIPES, SHAPES, ExampleConfig, PreparedFrames, prepare, unpack_bits
from diffvas.train.shape_material import CANVAS, LEAST_HIDDEN, MOMENTS, TALL, TALLER, shape_example, shape_moments
from diffvas.world.clip import SceneClip
from diffvas.world.flat import flat_scene
from pixel_nets import random_nets

SIZE = (48, 64)
T, H, W = 5, 32, 48


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """No faults of real inputs, and something hidden every time."""
    for name in ("spoil_mask", "spoil_depth"):
        monkeypatch.setattr(shape_material, name, lambda stack, rng: stack)
    monkeypatch.setattr(shape_material, "PLAIN", 0.0)


def test_what_is_hidden_is_behind_something(exact: None) -> None:
    told, away = [], []
    for seed in range(30):
        modal, amodal, depth, inside = shape_moments(SIZE, np.random.default_rng(seed))
        assert modal.shape == amodal.shape == depth.shape == inside.shape == (MOMENTS, *SIZE)
        assert depth.dtype == np.float32 and depth.min() == 0 and depth.max() == 1
        assert not (modal & ~amodal).any() and not (amodal & ~inside).any()
        hidden = amodal & ~modal
        assert hidden[0].sum() >= LEAST_HIDDEN and modal[0].any()
        told.append(may_be_hidden(depth, modal)[hidden].mean())
        away.append(may_be_hidden(depth, modal)[~amodal].mean())
    assert np.mean(told) > 0.97, "nearly all of what is hidden could be, by depth"
    assert np.mean(away) < 0.75, "which does not hold everywhere"


def test_other_moments_show_hardly_more(exact: None) -> None:
    """In most examples the greater part of what is hidden is seen at no other moment."""
    unseen = []
    for seed in range(40):
        modal, amodal, *_ = shape_moments(SIZE, np.random.default_rng(seed))
        hidden = amodal[0] & ~modal[0]
        unseen.append((hidden & ~modal[1:].any(0)).sum() / hidden.sum())
    assert np.mean(np.array(unseen) > 0.5) > 0.5


@pytest.mark.parametrize(("by_depth", "mode"), [(1.0, BY_DEPTH), (0.0, UNTOLD)])
def test_examples_are_those_of_the_pipelines(by_depth: float, mode: int) -> None:
    one, again, other = (shape_example(SIZE, 3, by_depth, [5, 0, k]) for k in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["maps"], other["maps"]) and one["mode"].tolist() == [mode]
    assert one["maps"].shape == (3, INPUTS - COLOURS - AGAIN, *SIZE) and one["maps"].dtype == torch.uint8
    modal, amodal = unpack_bits(one["modal"]), unpack_bits(one["amodal"])
    assert modal.shape == amodal.shape == (3, *SIZE) and not (modal & ~amodal).any()
    np.testing.assert_array_equal(one["maps"][:, 1].numpy() > 127, modal)


def test_they_are_prepared_and_drawn_like_others(tmp_path: Path) -> None:
    config = ExampleConfig("finish", SHAPES, (32, 32), shards=1, per_shard=2, seed=4)
    prepare(config, MAKERS["finish"], tmp_path)
    recipe = RECIPES["finish"]
    batch = PreparedFrames([tmp_path], [], 2, 3, 0, recipe.look, vary=recipe.vary)[0]
    assert batch["x"].shape == (6, INPUTS, 32, 32) and set(batch["mode"].tolist()) <= {BY_DEPTH, UNTOLD}
    loss, _ = recipe.loss(random_nets()["finish"], batch)
    assert torch.isfinite(loss)


def rendered(seed: int, **changes: object) -> SceneClip:
    """A scene of one bar that stands behind a wall, half of it, and partly beyond the frame."""
    masks = np.zeros((1, T, H + 16, W + 24), bool)
    masks[0, :, 4:40, 20:32] = True
    scene = flat_scene([seed], (H, W), T, colour=False)
    ids = np.zeros((T, H, W), np.uint8)
    inner = masks[:, :, 8:-8, 12:-12]
    ids[inner[0]] = 1
    ids[:, 20:] = 0
    changes = {"instance_ids": ids, "amodal_masks": inner, "canvas_masks": masks} | changes
    return replace(scene, **changes)  # type: ignore[arg-type]


def test_objects_of_scenes_are_whole_and_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []

    def scenes(seed: np.random.SeedSequence) -> SceneClip:
        read.append(tuple(seed.generate_state(2).tolist()))
        return rendered(1)

    draw = shape_material._SceneObjects(scenes, [1, 2])
    sizes = []
    for k in range(2 * shape_material.USES):
        drawn = draw([0, 2, 2, 24], np.random.default_rng(k))
        assert drawn.shape == (4, CANVAS, CANVAS) and drawn.dtype == bool
        top, bottom, left, right = extent(drawn[0]) or (0, 0, 0, 0)
        assert abs(top + bottom - CANVAS) <= 2 and abs(left + right - CANVAS) <= 2
        assert abs((bottom - top) / (right - left) - 36 / 12) < 0.4, "all of it, behind the wall and beyond the frame"
        sizes.append((bottom - top) / TALL)
    assert len(set(read)) == len(read) == 2, "a scene is read for some objects"
    assert min(sizes) > TALLER[0] - 0.1 and max(sizes) < TALLER[1] + 0.1 and len(set(sizes)) > 2

    monkeypatch.setattr(shape_material, "_scenes", lambda folder: scenes)
    one, again, flat = (shape_example(SIZE, 3, 1.0, [5, 0, 1], scenes=folder) for folder in ("some", "some", ""))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert one["maps"].shape == flat["maps"].shape and not torch.equal(one["amodal"], flat["amodal"])


def test_scenes_that_will_not_do(tmp_path: Path) -> None:
    cut = np.ones((1, T, H + 16, W + 24), bool)  # goes on beyond the canvas: nobody knows its shape
    draw = shape_material._SceneObjects(lambda seed: rendered(1, canvas_masks=cut), [1])
    assert not draw([0, 1, 2, 3], np.random.default_rng(0)).any()
    with pytest.raises(
        ValueError, match="scenes: expected objects that are all in the picture, got none in 1000 tries"
    ):
        shape_moments(SIZE, np.random.default_rng(0), draw)
    draw = shape_material._SceneObjects(lambda seed: rendered(1, canvas_masks=None), [1])
    with pytest.raises(ValueError, match="scenes: expected clips with masks beyond the frame, got .* without"):
        draw([0, 1, 2, 3], np.random.default_rng(0))
    nothing = np.zeros((1, T, H, W), bool)
    draw = shape_material._SceneObjects(lambda seed: rendered(1, amodal_masks=nothing), [1])
    with pytest.raises(ValueError, match="scenes: no object to draw in 100 scenes"):
        draw([0, 1, 2, 3], np.random.default_rng(0))
    with pytest.raises(ValueError, match="scenes: expected 'flat' or a folder of scene clips"):
        shape_example(SIZE, 1, 1.0, [1], scenes=str(tmp_path / "nowhere"))
