"""Both stages on whole clips, with small random networks: sizes, lengths, seeds, and the camera's own pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import diffvas
from diffvas.diffusion.sampling import Sampling
from diffvas.focus import paste_each
from diffvas.pipelines import completion
from diffvas.pipelines.completion import complete
from diffvas.pipelines.pixels import cut_masks, trim_halo
from diffvas.pipelines.sight import Seen
from diffvas.types import Clip, Completion, ObjectTrack
from factories import FRAMES, make_scene, tiny_model

ONE_STEP = Sampling(steps=1, guidance=1.0)


def video(frames: int, height: int, width: int) -> tuple[Clip, np.ndarray]:
    """Noise, and the masks of a box that moves through it."""
    rng = np.random.default_rng(frames * height + width)
    masks = np.zeros((frames, height, width), bool)
    for t in range(frames):
        x = (t * 3) % (width // 2)
        masks[t, height // 4 : height // 4 * 3, x : x + width // 3] = True
    return Clip(rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)), masks


def run(clip: Clip, *masks: np.ndarray, **options: Any) -> Completion:
    tracks = [ObjectTrack(i + 1, m) for i, m in enumerate(masks)]
    return complete(clip, tracks, model=tiny_model(), **options)


def check(clip: Clip, result: Completion) -> None:
    """What holds for every completion, said here again without the types' own checks."""
    for done in result.objects:
        assert done.amodal_masks.shape == (clip.num_frames, *clip.size)
        assert not (done.modal_masks & ~done.amodal_masks).any()
        rgba = done.content_rgba
        np.testing.assert_array_equal(rgba[done.modal_masks][:, :3], clip.frames_u8[done.modal_masks])
        np.testing.assert_array_equal(rgba[..., 3], np.where(done.amodal_masks, 255, 0))
        assert not rgba[~done.amodal_masks].any(), "colours are left where nothing is"


def same(a: Completion, b: Completion, i: int = 0, j: int = 0) -> bool:
    first, second = a.objects[i], b.objects[j]
    assert first.object_id == second.object_id
    return np.array_equal(first.amodal_masks, second.amodal_masks) and np.array_equal(
        first.content_rgba, second.content_rgba
    )


@pytest.mark.parametrize(
    ("frames", "height", "width"),
    [(5, 32, 64), (3, 33, 51), (2, 75, 31), (1, 47, 90), (7, 20, 30), (2, 8, 120)],
)
def test_any_size_and_length(frames: int, height: int, width: int) -> None:
    clip, masks = video(frames, height, width)
    result = run(clip, masks)
    check(clip, result)
    assert result.objects[0].probability is None
    assert result.objects[0].amodal_masks.sum() > masks.sum(), "random networks hide nothing; is their output used?"


def test_sixty_frames_with_the_object_away_for_most() -> None:
    clip, masks = video(60, 16, 32)
    masks[5:50] = False
    calls: list[tuple[str, int, int]] = []
    result = run(clip, masks, progress=lambda *call: calls.append(call), model_fps="all")
    check(clip, result)
    windows = 15
    assert calls[:windows] == [("amodal", i + 1, windows) for i in range(windows)]
    assert calls[windows:] == [("content", i + 1, windows) for i in range(windows)]


def test_frames_without_the_object_are_normal() -> None:
    clip, masks = video(5, 32, 64)
    masks[[0, 3]] = False
    check(clip, run(clip, masks))


def test_an_object_smaller_than_a_pixel_of_the_model() -> None:
    clip, _ = video(2, 200, 400)
    masks = np.zeros((2, 200, 400), bool)
    masks[1, 60, 60] = True
    result = run(clip, masks)
    check(clip, result)
    assert result.objects[0].amodal_masks[1, 60, 60]


def test_the_same_whatever_the_other_objects() -> None:
    scene = make_scene()
    clip = Clip(scene.frames_u8)
    ball, plate = scene.modal_mask(0), scene.modal_mask(1)
    alone = run(clip, ball, samples=2)
    both = run(clip, ball, plate, samples=2)
    assert same(alone, both)
    assert np.array_equal(alone.objects[0].probability, both.objects[0].probability)  # type: ignore[arg-type]
    turned = complete(clip, [ObjectTrack(2, plate), ObjectTrack(1, ball)], model=tiny_model(), samples=2)
    assert [o.object_id for o in turned.objects] == [2, 1], "the order given is kept"
    assert same(turned, both, 0, 1) and same(turned, both, 1, 0)


def test_seeds() -> None:
    clip, masks = video(3, 32, 64)
    first = run(clip, masks, seed=5)
    assert same(first, run(clip, masks, seed=5))
    assert not same(first, run(clip, masks, seed=6))
    big = run(clip, masks, seed=2**63 - 1)
    check(clip, big)


def test_generators_are_all_different() -> None:
    keys = [(s, o, g, w, k) for s in (0, 1) for o in (1, 2) for g in range(4) for w in (0, 1) for k in (0, 1)]
    seeds = {completion.window_generator(*key).initial_seed() for key in keys}
    assert len(seeds) == len(keys)
    again = completion.window_generator(0, 1, 0, 0, 0)
    assert again.initial_seed() == completion.window_generator(0, 1, 0, 0, 0).initial_seed() < 2**63


def test_probability_is_the_share_of_samples() -> None:
    scene = make_scene()
    clip, modal = Clip(scene.frames_u8), scene.modal_mask(0)
    done = run(clip, modal, samples=3).objects[0]
    assert done.probability is not None
    seen = Seen(modal, None)
    soft = completion.amodal_frames(tiny_model(), seen, 1, samples=3, sampling=ONE_STEP, seed=0, tick=lambda: None)
    expected = ((soft >= 0.5) | modal).mean(0)
    np.testing.assert_allclose(done.probability, expected, atol=1e-6)
    assert len(np.unique(done.probability)) == 4
    np.testing.assert_array_equal(done.amodal_masks, (soft.mean(0) >= 0.5) | modal)


def test_a_sample_does_not_depend_on_how_many_there_are() -> None:
    modal = make_scene().modal_mask(0)
    seen = Seen(modal, None)
    one, three = (
        completion.amodal_frames(tiny_model(), seen, 1, samples=k, sampling=ONE_STEP, seed=0, tick=lambda: None)
        for k in (1, 3)
    )
    assert one.shape == (1, FRAMES, *modal.shape[1:]) and one.dtype == np.float32
    assert np.array_equal(one[0], three[0])
    assert not np.array_equal(three[0], three[1])


def test_depth() -> None:
    scene = make_scene()
    clip, modal = Clip(scene.frames_u8), scene.modal_mask(0)
    depth = 1 / scene.depth
    given = run(clip, modal, depth=depth)
    assert given.settings["depth"] is True
    assert same(given, run(clip, modal, depth=depth.astype(np.float64) * 8 + 2)), "the unit of depth made a difference"
    without = run(clip, modal)
    assert without.settings["depth"] is False and not same(given, without)
    check(clip, run(clip, modal, depth=np.full(modal.shape, 3, np.int16)))


def test_depth_that_overshoots_when_resized() -> None:
    """Weights of area resizing may add up to a little more than 1."""
    clip, masks = video(1, 719, 1283)
    depth = np.ones((1, 719, 1283))
    depth[0, :100] = 0
    check(clip, run(clip, masks, depth=depth))


def test_focus() -> None:
    """With a focus, the models see a box around the object, and nothing is found outside of it."""
    clip, masks = video(3, 90, 130)
    masks[:, :, 60:] = False
    masks[:, 50:] = False
    model = replace(tiny_model(), focus=1.5, recall=False)  # recall follows the object by the flow of whole frames
    boxes = model.look_at(masks)
    assert all(box.size[0] < 90 and box.size[1] < 130 for box in boxes)
    result = complete(clip, masks, model=model, samples=2, depth=np.random.default_rng(0).random(masks.shape))
    check(clip, result)
    done = result.objects[0]
    outside = ~paste_each(boxes, [np.ones(box.size, bool) for box in boxes], clip.size)
    assert done.probability is not None and not done.probability[outside].any()
    assert not done.amodal_masks[outside].any()
    # what lies outside of the box has no say
    other = clip.frames_u8.copy()
    other[outside] = 0
    assert same(
        result, complete(Clip(other), masks, model=model, samples=2, depth=np.random.default_rng(0).random(masks.shape))
    )


def test_settings_and_seconds() -> None:
    clip, masks = video(2, 32, 64)
    result = run(clip, masks, samples=2, steps=3, seed=9)
    assert json.loads(json.dumps(result.settings)) == {
        "model": "random",
        "behaviour": "default",
        "samples": 2,
        "output": "consensus",
        "seed": 9,
        "amodal": {"steps": 3, "sampler": "euler", "guidance": 1.0},
        "content": {"steps": 3, "sampler": "euler", "guidance": 1.0},
        "depth": False,
        "device": "cpu",
        "dtype": "float32",
    }
    assert set(result.seconds) == {"amodal", "content"}, "nothing was loaded here"
    assert diffvas.complete is complete


def test_masks_of_one_object_will_do() -> None:
    clip, masks = video(2, 32, 64)
    result = complete(clip, masks, model=tiny_model())
    assert [o.object_id for o in result.objects] == [1]
    assert same(result, run(clip, masks))
    assert same(result, complete(clip, masks.astype(np.uint8) * 255, model=tiny_model()))


CLIP, MASKS = video(2, 32, 64)
TRACK = ObjectTrack(1, MASKS)


@pytest.mark.parametrize(
    ("tracks", "options", "message"),
    [
        ([], {}, "tracks: expected at least one object, got none"),
        ([TRACK, TRACK], {}, r"tracks: expected every object id once, got \[1, 1\]"),
        ([ObjectTrack(1, MASKS[:1])], {}, r"masks: expected \(2, 32, 64\) .* got \(1, 32, 64\) for object 1"),
        ([ObjectTrack(1, MASKS[:, :16])], {}, r"masks: expected \(2, 32, 64\) .* got \(2, 16, 64\)"),
        (MASKS[0], {}, r"tracks: expected masks \(T, H, W\) of one object, got an array of shape \(32, 64\)"),
        (MASKS * np.arange(1, 3)[:, None, None], {}, "tracks: expected masks of one object .* several labels"),
        (MASKS & False, {}, "expected at least one visible pixel"),
        ([TRACK], {"depth": np.ones((2, 32, 63))}, r"depth: expected \(2, 32, 64\) .* got \(2, 32, 63\)"),
        ([TRACK], {"depth": np.full(MASKS.shape, np.nan)}, "depth: expected at least one finite value"),
        ([TRACK], {"sampler": "heun"}, r"sampler: expected one of euler, ays, dpm\+\+, got 'heun'"),
        ([TRACK], {"guidance": -1.0}, "guidance: expected a number of 0 or more, got -1.0"),
        ([TRACK], {"samples": 0}, "samples: expected a whole number of at least 1, got 0"),
        ([TRACK], {"samples": 1.5}, "samples: expected a whole number of at least 1, got 1.5"),
        ([TRACK], {"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ([TRACK], {"steps": True}, "steps: expected a whole number of at least 1, got True"),
        ([TRACK], {"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        (
            [TRACK],
            {"model": "huge"},
            "model: expected one of tiny, official, a folder or a hub id like owner/name, got 'huge'",
        ),
        ([TRACK], {"model": "huge", "device": "tpu"}, "device: expected auto, cpu or cuda, got 'tpu'"),
    ],
)
def test_bad_inputs(tracks: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete(CLIP, tracks, **{"model": tiny_model(), **options})


def test_colours_meet_at_the_border_of_the_visible_part() -> None:
    modal = np.zeros((2, 32, 64), bool)
    modal[0, :, :32] = True
    amodal = np.ones((2, 32, 64), bool)
    generated = np.full((2, 32, 64, 3), 0.2, np.float32)
    camera = np.full((2, 32, 64, 3), 0.6, np.float32)
    camera[:, :, 24:32] = 0.8
    matched = completion.match_visible(generated, camera, modal, amodal, 0.15)
    assert matched[0, 16, 34, 0] == pytest.approx(0.8, abs=0.06)  # just outside: no seam
    mean = camera[modal].mean()
    assert matched[0, 16, 63, 0] == pytest.approx(mean, abs=0.03)  # far away: the object's mean colour
    np.testing.assert_allclose(matched[1], mean, atol=1e-3)  # so too in a frame where nothing is visible
    generated[1, 16, 32] = 0.9
    detailed = completion.match_visible(generated, camera, modal, amodal, 0.15)
    assert detailed[1, 16, 32, 0] > mean + 0.1  # what the model draws comes on top
    np.testing.assert_array_equal(completion.match_visible(generated, camera, modal & False, amodal, 0.15), generated)


def test_a_rim_is_doubt_and_a_part_is_not() -> None:
    modal = np.zeros((1, 100, 100), bool)
    modal[0, 20:60, 20:40] = modal[0, 20:60, 44:70] = True  # with a gap of 4, a pole in front
    whole = np.zeros_like(modal)
    whole[0, 18:62, 18:72] = True  # a rim of 2
    whole[0, 60:80, 30:50] = True  # a leg
    trimmed = trim_halo(whole, modal, 0.05)[0]
    assert trimmed[modal[0]].all() and trimmed[22:58, 40:44].all() and trimmed[64:77, 33:47].all()
    assert not trimmed[18, 20:70].any() and not trimmed[25:40, 71].any()
    assert np.array_equal(trim_halo(modal, modal, 0.05), modal)
    soft = whole.astype(np.float32)
    assert np.array_equal(cut_masks(soft, 0.5, modal, None, halo=0.05)[0], trimmed)
    room = np.ones_like(modal)
    assert np.array_equal(cut_masks(soft, 0.5, modal, room, halo=0.05), whole | modal), "with depth it is known"


def test_crumbs_are_dropped() -> None:
    modal, whole = np.zeros((2, 50, 50), bool), np.zeros((2, 50, 50), bool)
    modal[0, 10:30, 10:30] = whole[0, 10:34, 10:30] = True
    whole[0, 40:42, 40:42] = whole[0, 2:22, 35:45] = modal[0, 45, 5] = True
    clean = cut_masks(whole.astype(np.float32), 0.5, modal, np.ones_like(modal))
    assert not clean[0, 40:42, 40:42].any(), "a speck"
    assert clean[0, 10:34, 10:30].all() and clean[0, 2:22, 35:45].all() and clean[0, 45, 5], (
        "parts, and what is visible"
    )
    assert not clean[1].any()
