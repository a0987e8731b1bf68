"""What stands in front, finished masks and finished colours: what the networks are given, and when they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from diffvas.focus import whole_frames
from diffvas.pipelines import amodal, completion, content, sharpen, sight
from diffvas.pipelines.colours import INPUTS as COLOUR_INPUTS
from diffvas.pipelines.colours import colour_input, touch_up
from diffvas.pipelines.completion import complete
from diffvas.pipelines.finish import AGAIN, BY_COLOUR, BY_DEPTH, INPUTS, UNTOLD, finish, heed, raise_odds, what_was_said
from diffvas.pipelines.front import (
    AWAY,
    FASTEST,
    SIDEWAYS,
    STEP_AWAY,
    front_input,
    in_front,
    middle,
    motion,
    pseudo_depth,
    wide_size,
)
from diffvas.pipelines.front import INPUTS as INPUTS_FRONT
from diffvas.pipelines.loading import load_pixel_nets
from diffvas.pipelines.recall import Recalled
from diffvas.pipelines.sight import Seen, tell_front
from diffvas.types import Clip, ObjectTrack
from factories import FRAMES, make_scene
from pixel_nets import model_with_nets, random_nets

T, H, W = 12, 16, 16


def moving() -> tuple[np.ndarray, np.ndarray]:
    """Noise, and a square that a bar hides a part of in some frames."""
    rng = np.random.default_rng(0)
    modal = np.zeros((T, H, W), bool)
    modal[:, 4:12, 4:12] = True
    modal[5:8, :, 8:] = False
    return rng.integers(0, 256, (T, H, W, 3), dtype=np.uint8), modal


def test_what_front_sees() -> None:
    rgb, modal = moving()
    recalled, inside = modal.astype(np.float32) * 0.5, np.ones_like(modal)
    passed = np.where(modal, 0, np.linspace(0, 1, W, dtype=np.float32))
    x = front_input(rgb, modal, recalled, inside, passed).numpy()
    assert x.shape == (T, 27, H, W) and x.dtype == np.float32 and -1 <= x.min() and x.max() <= 1
    colours = rgb.transpose(0, 3, 1, 2) / 127.5 - 1
    places = {0: 0, 4: -AWAY[0], 8: AWAY[0], 14: -AWAY[1], 18: AWAY[1]}
    for t in (0, 6, T - 1):
        for first, away in places.items():
            then = min(max(t + away, 0), T - 1)
            np.testing.assert_allclose(x[t, first : first + 3], colours[then], atol=1e-6)
            np.testing.assert_array_equal(x[t, first + 3] > 0, modal[then])
    np.testing.assert_allclose(x[:, 12], 2 * recalled - 1)
    assert (x[:, 13] == 1).all()
    np.testing.assert_allclose(x[:, 26], 2 * passed - 1)
    some = front_input(rgb, modal, recalled, inside, passed, np.array([6, 2])).numpy()
    np.testing.assert_array_equal(some, x[[6, 2]])


def test_front_sees_a_rim_and_speaks_of_the_middle() -> None:
    rgb, modal = moving()
    size = wide_size((H, W))
    assert size == (H + 16, W + 16) and wide_size((96, 96)) == (144, 144) and wide_size((64, 128)) == (96, 192)
    wide, shown = np.zeros((T, *size, 3), np.uint8), np.zeros((T, *size), bool)
    middle(wide, (H, W))[:] = rgb
    middle(shown, (H, W))[:] = True
    boxes = whole_frames(T, size)
    x = front_input(wide, modal, modal.astype(np.float32), shown, np.zeros(shown.shape, np.float32)).numpy()
    assert x.shape == (T, 27, *size)
    np.testing.assert_array_equal(x[:, 3, 8:-8, 8:-8] > 0, modal)
    assert (x[:, [3, 12, 13], :8] == -1).all() and (x[:, [3, 12, 13], :, -8:] == -1).all()
    net, recalled = random_nets()["front"], modal.astype(np.float32)
    told = in_front(net, wide, modal, recalled, shown, boxes)
    assert told.shape == modal.shape
    bright = wide.copy()
    bright[:, :4] = 255
    assert np.abs(in_front(net, bright, modal, recalled, shown, boxes) - told).max() > 1e-5


def test_front_sees_what_moves_against_the_object() -> None:
    """The object keeps its place in the boxes, a wall passes in front of it by three pixels a frame."""
    rng = np.random.default_rng(0)
    size, at = (48, 64), np.array([0, 4, T - 1])
    still, wall = (cv2.GaussianBlur(rng.random((48, 160)), (0, 0), 2) for _ in range(2))
    rgb, modal = np.zeros((T, *size, 3), np.uint8), np.zeros((T, *size), bool)
    for t in range(T):
        picture = still[:, :64].copy()
        picture[24:] = wall[24:, 60 - 3 * t : 124 - 3 * t]
        rgb[t] = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)[..., None]
        modal[t, 8:24, 16:48] = True
    flow = motion(rgb, modal, at)
    assert flow.shape == (3, 4, *size) and flow.dtype == np.float32 and np.abs(flow).max() <= 1
    assert not flow[0, :2].any() and not flow[2, 2:].any(), "there is nothing before the first frame, after the last"
    shift = 3 * STEP_AWAY / FASTEST
    below, on = flow[1, :, 32:44, 16:48].mean((1, 2)), flow[1, :, 10:20, 20:44].mean((1, 2))
    np.testing.assert_allclose(below, [-shift, 0, shift, 0], atol=0.05)
    np.testing.assert_allclose(on, 0, atol=0.05)
    turned = motion(np.ascontiguousarray(rgb[:, :, ::-1]), np.ascontiguousarray(modal[:, :, ::-1]), at)[..., ::-1]
    for channel in range(4):
        sign = -1 if 22 + channel in SIDEWAYS else 1
        np.testing.assert_allclose(turned[1, channel, 32:44, 16:48], sign * flow[1, channel, 32:44, 16:48], atol=0.1)


def test_front_is_a_probability_and_takes_the_place_of_depth() -> None:
    rgb, modal = moving()
    seen = Seen(modal, None)
    told = tell_front(random_nets()["front"], seen, rgb, np.ones_like(modal), whole_frames(T, (H, W)))
    assert told.front is not None and told.front.shape == modal.shape
    assert 0 <= told.front.min() and told.front.max() <= 1 and np.ptp(told.front) > 0
    assert (seen.told, told.told, Seen(modal, np.zeros(modal.shape, np.float32)).told) == (UNTOLD, BY_COLOUR, BY_DEPTH)
    assert seen.free is None and told.free is told.front, "how likely it is goes into the memory, no yes or no"
    assert seen.nearness is None and told.nearness is not None and told.nearness.shape == (T, 3, H, W)
    layers = pseudo_depth(told.front, modal)
    assert (layers[modal] == 0.5).all() and np.array_equal(layers[~modal], told.front[~modal])
    again = in_front(random_nets()["front"], rgb, modal, seen.recalled, np.ones_like(modal), whole_frames(T, (H, W)))
    np.testing.assert_array_equal(again, told.front)
    colours = told.known[:, -3:].transpose(0, 2, 3, 1)
    np.testing.assert_allclose((colours + 1) * 127.5, rgb, atol=1e-3, err_msg="what finish sees beside it")
    some = told.at(np.array([3, 1]))
    np.testing.assert_array_equal(some.known[:, -3:], told.known[[3, 1], -3:])


def test_what_is_beyond_the_camera_may_hide_anything() -> None:
    _, modal = moving()
    beyond = np.zeros_like(modal)
    beyond[:, :2] = True
    told = Seen(modal, None, None, beyond, np.zeros(modal.shape, np.float32))
    assert told.free is not None and np.array_equal(told.free, beyond)
    assert (told.known[:, 4] == np.where(beyond, 1, -1)).all()


def test_what_finish_sees() -> None:
    _, modal = moving()
    depth = np.zeros(modal.shape, np.float32)
    depth[modal] = 0.5
    depth[5:8, :, 8:] = 1.0
    known = Seen(modal, depth).known
    assert known.shape == (T, INPUTS - 1 - AGAIN, H, W) and known.dtype == np.float32 and np.abs(known).max() <= 1
    np.testing.assert_array_equal(known[:, 0] > 0, modal)
    hidden = np.zeros((H, W), bool)
    hidden[5:11, 9:11] = True
    assert (known[6, 1][hidden] > 0.5).all(), "other frames have seen the object there"
    assert (known[6, 3][hidden] > 0.5).all(), "and so has the best of them"
    assert (known[6, 4, :, 8:] == 1).all() and (known[6, 6, :, 9:] == 1).all(), "nearer things are seen there"
    assert (known[0, 4, :2] == -1).all() and (known[0, 6, :2] < 0).all(), "and there is the background"
    untold = Seen(modal, None).known
    assert (untold[:, 4] == 1).all() and not untold[:, 6].any() and not untold[:, -3:].any()
    nothing = Seen(modal & False, depth).known
    assert np.isfinite(nothing).all()


def test_finished_masks_depend_on_all_that_is_known() -> None:
    _, modal = moving()
    net, known = random_nets()["finish"], Seen(modal, None).known[:3]
    soft = np.random.default_rng(0).random((3, H, W)).astype(np.float32)
    done = finish(net, soft, known, UNTOLD)
    assert done.shape == (3, H, W) and 0 <= done.min() and done.max() <= 1
    for other in (finish(net, soft * 0, known, UNTOLD), finish(net, soft, -known, UNTOLD), finish(net, soft, known, 0)):
        assert np.abs(other - done).max() > 1e-5
    nothing = np.zeros((3, AGAIN, H, W), np.float32)
    np.testing.assert_array_equal(finish(net, soft, known, UNTOLD, nothing), done)
    for channel in range(AGAIN):
        again = nothing.copy()
        again[:, channel] = 1
        assert np.abs(finish(net, soft, known, UNTOLD, again) - done).max() > 1e-5


def test_what_was_said_is_told_in_order() -> None:
    rng = np.random.default_rng(0)
    said, carried = rng.random((3, H, W), np.float32), rng.random((3, 2, H, W), np.float32)
    again = what_was_said(said, carried)
    assert again.shape == (3, AGAIN, H, W) and again.dtype == np.float32
    np.testing.assert_allclose(again[:, 0], 2 * said - 1)
    np.testing.assert_array_equal(again[:, 1:], carried)


def test_what_others_say_is_heeded_where_they_say_anything() -> None:
    said = np.full((2, H, W), 0.5, np.float32)
    carried = np.zeros((2, 2, H, W), np.float32)
    carried[0, 0], carried[0, 1] = 0.8, 0.5  # 9 to 1, by as many as one
    done = heed(said, carried, 0.5)
    np.testing.assert_allclose(done[0], 0.75, rtol=1e-5, err_msg="the mean of log-odds: 3 to 1")
    np.testing.assert_array_equal(done[1], said[1], "nobody says anything")
    np.testing.assert_allclose(heed(said, carried, 1.0)[0], 0.9, rtol=1e-5)
    np.testing.assert_allclose(heed(said, carried, 0.0), said, atol=1e-6)
    carried[0, 0] = 1.0
    sure = heed(said * 0, carried, 0.5)
    assert np.isfinite(sure).all() and abs(sure[0, 0, 0] - 0.5) < 1e-4, (
        "who is sure of opposite things meets in the middle"
    )


def test_odds_are_raised_where_little_is_visible() -> None:
    soft = np.linspace(0.01, 0.99, H * W, dtype=np.float32).reshape(1, H, W)
    little, some = np.zeros((2, H, W), bool)
    little[0, : W // 2], some[: H // 4] = True, True
    hidden = raise_odds(soft, little & False, 4.5)
    np.testing.assert_allclose(hidden / (1 - hidden), 4.5 * soft / (1 - soft), rtol=1e-3)
    raised = raise_odds(soft, little, 4.5)
    assert (soft < raised).all() and (raised < hidden).all(), "the less is visible, the more"
    np.testing.assert_array_equal(raise_odds(soft, some, 4.5), soft, "nothing where enough is")
    samples = raise_odds(np.concatenate([soft, soft / 2]), little, 4.5)
    assert samples.shape == (2, H, W) and (samples[1] > soft[0] / 2).all()
    sure = np.stack([soft[0] > 0.5]).astype(np.float32)
    np.testing.assert_array_equal(raise_odds(sure, little & False, 4.5), sure, "what is sure stays so")


@pytest.mark.parametrize("mode", [BY_DEPTH, BY_COLOUR])
def test_without_depth_left_and_right_are_the_same(mode: int) -> None:
    """The mirror image is finished to the mirror image, which no network of random weights does by itself."""
    net = random_nets()["finish"]
    rng = np.random.default_rng(0)
    soft = rng.random((2, H, W)).astype(np.float32)
    known = rng.uniform(-1, 1, (2, INPUTS - 1 - AGAIN, H, W)).astype(np.float32)
    mirrored = finish(net, soft[..., ::-1].copy(), known[..., ::-1].copy(), mode)[..., ::-1]
    difference = float(np.abs(finish(net, soft, known, mode) - mirrored).max())
    assert (difference < 1e-5) == (mode == BY_COLOUR), difference


def test_front_looks_both_ways() -> None:
    """Channels of motion to the side change their sign in the mirror."""
    net, x = random_nets()["front"], torch.rand(2, INPUTS_FRONT, 64, 64) * 2 - 1
    mirrored = x.flip(-1)
    mirrored[:, SIDEWAYS] *= -1
    before = x.clone()
    once, again = (net.likely_both_ways(one, 0, SIDEWAYS) for one in (x, mirrored))
    np.testing.assert_allclose(once, again[..., ::-1], atol=1e-5)
    assert torch.equal(x, before) and np.abs(once - net.likely(x, 0)).max() > 1e-4


def clip_and_masks(frames: int) -> tuple[Clip, np.ndarray]:
    scene = make_scene()
    times = np.minimum(np.arange(frames) * FRAMES // frames, FRAMES - 1)
    return Clip(scene.frames_u8[times]), scene.modal_mask(0)[times]


@pytest.mark.parametrize("depth", [False, True])
def test_one_clip_and_a_stream_of_it_give_the_same(depth: bool) -> None:
    """What the bench does in memory is what ``complete`` does frame by frame."""
    model = replace(model_with_nets("front", "finish"), sure=0.65)  # random networks say about a half everywhere
    clip, modal = clip_and_masks(FRAMES)
    near = np.random.default_rng(0).random(modal.shape).astype(np.float32) if depth else None
    plan = completion.Plan.of(model, 1, 0)
    seen = completion.as_seen(model, model.look_at(modal), modal, near, clip.frames_u8)
    assert seen.told == (BY_DEPTH if depth else BY_COLOUR)
    soft = completion.soft_masks(model, seen, 1, plan, completion.Meter(None, 1, plan))[0]
    material = completion.of_arrays(clip, [ObjectTrack(1, modal)], near)
    timeline = completion.plan_timeline(material.times, (), "all", model.frames)
    desk = completion.make_desk(model, material, timeline, plan, None)
    streamed = np.stack([estimate.maps[0] for estimate in amodal.soft_masks(desk, 1)])
    assert (np.abs(streamed - soft) > 1e-3).mean() < 0.01  # a part may be on either side of being sure by rounding
    raw = completion.soft_masks(replace(model, sure=None), seen, 1, plan, completion.Meter(None, 1, plan))[0]
    assert (np.abs(raw - soft).max() > 0.1) == (not depth)


@pytest.mark.parametrize("depth", [False, True])
def test_a_resumed_job_settles_as_one_that_was_never_stopped(depth: bool) -> None:
    model = replace(model_with_nets("front", "finish"), sure=0.65)
    clip, modal = clip_and_masks(4 * FRAMES)
    near = np.random.default_rng(0).random(modal.shape).astype(np.float32) if depth else None
    material = completion.of_arrays(clip, [ObjectTrack(1, modal)], near)
    timeline = completion.plan_timeline(material.times, (), "all", model.frames)

    def found(first: int) -> dict[int, np.ndarray]:
        plan = completion.Plan.of(model, 1, 0)
        desk = completion.make_desk(model, material, timeline, plan, None)
        return {estimate.position: estimate.maps[0] for estimate in amodal.soft_masks(desk, 1, first)}

    whole = found(0)
    for first in (1, 2 * FRAMES, 4 * FRAMES - 1):
        later = found(first)
        for position in range(first, 4 * FRAMES):
            np.testing.assert_allclose(later[position], whole[position], atol=1e-6)


@pytest.mark.parametrize("hidden", [False, True])
def test_frames_are_read_twice_only_where_windows_borrow(hidden: bool) -> None:
    """A window in which the object is never seen borrows frames from before and after."""
    model = model_with_nets("front", "finish")
    frames = 12 * model.frames
    clip, modal = clip_and_masks(frames)
    modal[:] = modal[0]
    modal[2:-2] &= not hidden
    material = completion.of_arrays(clip, [ObjectTrack(1, modal)], None)
    read: list[int] = []

    def frames_of(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        for number in numbers:
            read.append(number)
            yield clip.frames_u8[number]

    counted = replace(material, frames=frames_of)
    timeline = completion.plan_timeline(counted.times, (), "all", model.frames)
    plan = replace(completion.Plan.of(model, 1, 0), content=None)
    desk = completion.make_desk(model, counted, timeline, plan, None)
    assert len(list(amodal.soft_masks(desk, 1))) == frames
    desk.glance  # noqa: B018
    assert max(read.count(number) for number in range(frames)) == (2 if hidden else 1)


@pytest.mark.parametrize("frames", [3, FRAMES, 4 * FRAMES])
def test_any_length_in_windows(frames: int) -> None:
    clip, modal = clip_and_masks(frames)
    result = complete(clip, modal, model=model_with_nets(), samples=2)
    done = result.objects[0]
    assert done.amodal_masks.shape == modal.shape and not (modal & ~done.amodal_masks).any()
    assert done.content_rgba is not None
    np.testing.assert_array_equal(done.content_rgba[modal][:, :3], clip.frames_u8[modal])


def test_who_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """``front`` is asked where there is no depth, ``finish`` always, ``colours`` where there is content."""
    asked: list[str] = []
    for module, name in ((sight, "in_front"), (sharpen, "finish"), (content, "touch_up")):
        real = getattr(module, name)

        def spy(*args: Any, _real: Any = real, _name: str = name) -> Any:
            asked.append(_name)
            return _real(*args)

        monkeypatch.setattr(module, name, spy)
    clip, modal = clip_and_masks(FRAMES)
    complete(clip, modal, model=model_with_nets())
    assert set(asked) == {"in_front", "finish", "touch_up"}
    asked.clear()
    depth = np.random.default_rng(0).random(modal.shape).astype(np.float32)
    complete(clip, modal, model=replace(model_with_nets(), content=None), depth=depth)
    assert set(asked) == {"finish"}


def test_masks_alone_read_colours_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, modal = clip_and_masks(3 * FRAMES)
    done = [
        complete(Clip(f), modal, model=replace(model_with_nets(), content=None))
        for f in (clip.frames_u8, 255 - clip.frames_u8)
    ]
    assert not np.array_equal(done[0].objects[0].amodal_masks, done[1].objects[0].amodal_masks)


def found_of(size: tuple[int, int]) -> Recalled:
    rng = np.random.default_rng(1)
    return Recalled.of_one(rng.random((*size, 10)).astype(np.float32))


def test_what_colours_sees_and_changes() -> None:
    size = (20, 24)
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    amodal_mask, modal = np.zeros(size, bool), np.zeros(size, bool)
    amodal_mask[4:16, 4:20] = True
    modal[4:16, 4:10] = True
    overall, painted = np.full(3, 0.25, np.float32), np.zeros((8, 8, 3), np.float32)
    found = found_of(size)
    x = colour_input(frame, modal, amodal_mask, found, painted, overall, size)
    assert x.shape == (COLOUR_INPUTS, *size)
    camera = frame.transpose(2, 0, 1) / 127.5 - 1
    for first in (0, 3, 6):
        np.testing.assert_allclose(x[first : first + 3][:, modal], camera[:, modal], atol=1e-5)
        np.testing.assert_allclose(x[first : first + 3][:, ~amodal_mask], -0.5, atol=1e-5)
    hidden = amodal_mask & ~modal
    np.testing.assert_allclose(x[:3][:, hidden], 2 * found.colours[hidden].T - 1, atol=1e-5)
    np.testing.assert_array_equal(x[10:12] > 0, np.stack([modal, amodal_mask]))
    assert (x[12:] == -1).all()
    done = touch_up(random_nets()["colours"], frame, modal, amodal_mask, found, painted, overall, (16, 16))
    assert done.shape == (*size, 3) and 0 <= done.min() and done.max() <= 1
    assert np.abs(done - found.colours).max() > 1e-4


def test_networks_that_lie_beside_a_stage(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    assert load_pixel_nets(tmp_path, "amodal", cpu, torch.float32) == {}
    random_nets()["finish"].unet.save_pretrained(tmp_path / "finish")
    (net,) = load_pixel_nets(tmp_path, "amodal", cpu, torch.float32).values()
    assert net.inputs == INPUTS
    random_nets()["finish"].unet.save_pretrained(tmp_path / "front")
    older = load_pixel_nets(tmp_path, "amodal", cpu, torch.float16)["front"]
    assert older.inputs == INPUTS_FRONT and older.unet.dtype == torch.float16 and not older.training, "widened"
    random_nets()["front"].unet.save_pretrained(tmp_path / "finish")
    with pytest.raises(ValueError, match=r"model: expected at most 22 channels to go into .*finish, got 27"):
        load_pixel_nets(tmp_path, "amodal", cpu, torch.float32)
    random_nets()["finish"].unet.save_pretrained(tmp_path / "finish")
    (tmp_path / "front" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"model: .*front cannot be loaded"):
        load_pixel_nets(tmp_path, "amodal", cpu, torch.float32)
