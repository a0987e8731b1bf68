"""The flat world: exact truth, the same clip from the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from diffvas.data import examples
from diffvas.world.clip import SceneClip
from diffvas.world.families import FAMILIES, allowed
from diffvas.world.flat import COVERS, HELD_OUT, TARGETS, draw, flat_scene, moving_layer, sample_actors
from diffvas.world.look import contact_sheet
from diffvas.world.outlines import OBJECTS, OCCLUDERS, Shape, sample_shape
from diffvas.world.sprites import Sprite, sprite

SEEDS = range(12)


def scene(seed: int, **options: bool) -> SceneClip:
    return flat_scene([seed, 5], (32, 64), 4, **options)


@pytest.mark.parametrize("seed", SEEDS)
def test_layers_agree(seed: int) -> None:
    """The nearest layer is what is seen, and every colour and depth is that of the layer that is seen."""
    clip = scene(seed)
    n = len(clip.amodal_masks)
    assert 2 <= n <= 6 and clip.amodal_masks.shape == (n, 4, 32, 64)
    assert clip.frames_u8.shape == (4, 32, 64, 3) and clip.amodal_rgb_u8.shape == (n, 4, 32, 64, 3)
    nearest = np.zeros((4, 32, 64), int)
    for i in range(n):
        nearest[clip.amodal_masks[i]] = i + 1  # later layers are nearer
        modal, amodal = clip.modal_mask(i), clip.amodal_masks[i]
        assert not (modal & ~amodal).any()
        np.testing.assert_array_equal(clip.frames_u8[modal], clip.amodal_rgb_u8[i][modal])
        assert (clip.amodal_rgb_u8[i][~amodal] == 255).all(), "white around the object alone"
        for t in range(4):
            assert len(np.unique(clip.depth[t][modal[t]])) <= 1
    np.testing.assert_array_equal(clip.instance_ids, nearest)
    assert clip.depth.min() > 0 and clip.depth.dtype == np.float32


def test_same_seed_same_clip() -> None:
    for a, b in zip(vars(scene(3)).values(), vars(scene(3)).values(), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(scene(3).instance_ids, scene(4).instance_ids)
    assert scene(3).name == "flat-3-5" and flat_scene(7, (32, 64), 2).seed == 7


@pytest.mark.parametrize("seed", SEEDS)
def test_without_colour_the_masks_are_the_same(seed: int) -> None:
    plain, colour = scene(seed, colour=False), scene(seed)
    np.testing.assert_array_equal(plain.instance_ids, colour.instance_ids)
    np.testing.assert_array_equal(plain.amodal_masks, colour.amodal_masks)
    assert plain.frames_u8.size == plain.amodal_rgb_u8.size == 0


def test_things_move_and_hide_one_another() -> None:
    clips = [scene(seed, colour=False) for seed in range(30)]
    assert any((c.amodal_masks[:, 0] != c.amodal_masks[:, -1]).any() for c in clips)
    hidden = [c.visible_fraction(0).min() for c in clips]
    assert np.mean(np.array(hidden) < 0.95) > 0.5


@pytest.mark.parametrize("family", sorted({*TARGETS, *COVERS}, key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_every_family_draws_something_finite(family: object) -> None:
    for seed in range(4):
        shape = sample_shape(np.random.default_rng(seed), {family: 1.0})
        parts = shape.polygons(0.3)
        points = np.concatenate([outline for outline, _ in parts])
        assert np.isfinite(points).all() and np.abs(points).max() < 4
        assert not all(hole for _, hole in parts)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_of_the_3d_world_makes_a_sprite(name: str) -> None:
    one = sprite(np.random.default_rng(1), frozenset({name}))
    points = np.concatenate([outline for outline, _ in one.polygons(0.5)])
    assert np.isfinite(points).all() and np.abs(points).max() < 3
    assert len(one.limbs) == len(one.polygons(0.0)) == len(one.polygons(1.0)) <= 255
    layer = moving_layer(np.random.default_rng(0), one, (64, 64), 3, 3.0, 0.8)
    mask, parts = draw(layer, 1, 3, (64, 64), True)
    assert parts is not None and parts.max() < len(layer.shades) and set(np.unique(mask)) <= {0, 1}


def test_sprites_walk() -> None:
    moved = 0
    for seed in range(6):
        one = sprite(np.random.default_rng(seed), frozenset({"person"}))
        moved += np.abs(one.corners[0] - one.corners[12]).max() > 0.02
    assert moved >= 3


def test_families_of_the_flat_world() -> None:
    assert {*OBJECTS} < {*TARGETS} and {*OCCLUDERS} < {*COVERS} and {*HELD_OUT} < {*TARGETS}
    for seed in range(10):
        for families in ("train", "heldout", "all"):
            actors = sample_actors(np.random.default_rng(seed), (32, 64), 3, families)
            assert 2 <= len(actors) <= 6
            assert any(isinstance(actor.shape, Shape | Sprite) for actor in actors)
        train, test = (flat_scene(seed, (32, 64), 2, colour=False, families=f) for f in ("train", "heldout"))
        assert train.instance_ids.shape == test.instance_ids.shape
    with pytest.raises(ValueError, match="families: expected one of .* got 'test'"):
        flat_scene(0, (32, 64), 2, families="test")


def test_held_out_shapes_are_not_drawn_for_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask which tables and names every layer of many scenes is drawn from."""
    import diffvas.world.flat as flat

    tables: list[set] = []
    names: list[frozenset[str]] = []
    shape, solid = flat.sample_shape, flat.sprite

    def outlines(rng: np.random.Generator, table: dict) -> Shape:
        tables.append(set(table))
        return shape(rng, table)

    def sprites(rng: np.random.Generator, some: frozenset[str]) -> Sprite:
        names.append(some)
        return solid(rng, some)

    monkeypatch.setattr(flat, "sample_shape", outlines)
    monkeypatch.setattr(flat, "sprite", sprites)
    for seed in range(6):
        flat_scene(seed, (32, 64), 2, families="train")
    assert tables and names and not any(table & HELD_OUT for table in tables)
    assert all(some == allowed("train") for some in names)


def test_scenes_hold_all_degrees_of_hiding() -> None:
    """Without any design: about a third unhidden, a third partly, a fifth heavily hidden, a tenth vanishing."""
    from diffvas.world.visibility import CLASSES, visibility_class

    found = []
    for seed in range(60):
        clip = flat_scene([seed, 2], (32, 64), 25, colour=False)
        for index, amodal in enumerate(clip.amodal_masks):
            found.append(visibility_class(clip.visible_fraction(index), amodal.mean((1, 2))))
    shares = [found.count(name) / len(found) for name in CLASSES]
    assert shares == pytest.approx([0.32, 0.37, 0.18, 0.12], abs=0.08)


@pytest.mark.parametrize("colour", [True, False])
def test_cropped_examples_keep_what_is_true(colour: bool) -> None:
    for seed in range(6):
        clip = flat_scene([seed], (48, 96), 3, colour=colour)
        example = examples.make_example(clip, 0, np.random.default_rng(seed), size=(32, 64), spoil=False)
        assert example.modal.shape == example.amodal.shape == example.depth.shape == (3, 32, 64)
        assert not (example.modal & ~example.amodal).any()
        assert 0 <= example.depth.min() and example.depth.max() <= 1
        if colour:
            assert example.frames_u8.shape == example.alone_u8.shape == (3, 32, 64, 3)
            assert (example.alone_u8[~example.amodal] == 255).all(), "white around the object"


def test_examples() -> None:
    for seed in range(8):
        clip = scene(seed)
        index = examples.choose_object(clip, np.random.default_rng(seed))
        if index is None:
            continue
        plain = examples.make_example(clip, index, np.random.default_rng(seed), spoil=False)
        np.testing.assert_array_equal(plain.modal, clip.modal_mask(index))
        np.testing.assert_array_equal(plain.amodal, clip.amodal_masks[index])
        assert plain.depth.min() == 0 and plain.depth.max() == 1
        assert plain.depth[clip.depth == clip.depth.min()].min() == 1, "1 is near"
        spoiled = examples.make_example(clip, index, np.random.default_rng(seed))
        again = examples.make_example(clip, index, np.random.default_rng(seed))
        assert all(np.array_equal(a, b) for a, b in zip(vars(spoiled).values(), vars(again).values(), strict=True))
        assert spoiled.modal.any() and 0 <= spoiled.depth.min() and spoiled.depth.max() <= 1


def test_contact_sheet() -> None:
    sheet = contact_sheet([scene(0), scene(1)], columns=3)
    assert sheet.shape == (2 * 32, 6 * 64, 3) and sheet.dtype == np.uint8
    with pytest.raises(ValueError, match="scenes: expected one frame size"):
        contact_sheet([scene(0), flat_scene(0, (32, 32), 2)])
