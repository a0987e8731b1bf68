"""The parts of long videos: boxes that follow, blending as windows come, frames that are seen, and what samples say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from diffvas.focus import Box
from diffvas.masks import MaskRuns
from diffvas.order import may_be_hidden
from diffvas.pipelines import sight
from diffvas.pipelines.completion import complete, make_desk
from diffvas.pipelines.desk import Estimate, every_frame
from diffvas.pipelines.drawing import Plan, decode_windows
from diffvas.pipelines.material import of_arrays
from diffvas.pipelines.shots import ShotFinder
from diffvas.pipelines.timeline import Motion, move, plan_timeline, shots_of
from diffvas.pipelines.uncertainty import Medoid, as_ranges, expected_iou, iou, mean_shape, sample_levels
from diffvas.pipelines.windows import Blend, Window, blend_windows, plan_runs, plan_windows, window_starts
from diffvas.types import Clip, Extent, ObjectTrack
from factories import tiny_model

# ---------------------------------------------------------------------------------------------------------------------
# windows


def around(extents: Sequence[Extent | None]) -> list[Box]:
    """Ten pixels around what is seen in a frame; nowhere where nothing is."""
    return [Box(0, 1, 0, 1) if e is None else Box(e[0] - 10, e[1] + 10, e[2] - 10, e[3] + 10) for e in extents]


def test_a_run_is_a_shot_and_its_boxes_follow_the_object() -> None:
    extents = [(50, 70, 10 + 4 * t, 30 + 4 * t) for t in range(100)]
    (run,) = plan_runs(extents, [(0, 100)], 25, around)
    assert (run.start, run.stop) == (0, 100)
    assert [w.number for w in run.windows] == list(range(len(window_starts(100, 25))))
    assert all(run.box(t) == Box(40, 80, 4 * t, 40 + 4 * t) for t in range(100))
    late = plan_runs(extents, [(0, 30), (30, 100)], 25, around)[1]
    assert late.box(30) == run.box(30) and late.box(99) == run.box(99)


def test_shots_without_the_object_have_no_windows_and_borrow_none() -> None:
    seen = (1, 5, 1, 5)
    extents = [seen] * 10 + [None] * 10 + [seen] * 10 + [None] * 10
    shots = [(0, 10), (10, 20), (20, 40)]
    runs = plan_runs(extents, shots, 5, around)
    assert [(run.start, run.stop) for run in runs] == [(0, 10), (20, 40)]
    numbers = [w.number for run in runs for w in run.windows]
    assert numbers == [0, 1, 2, *range(6, 11)], "the numbers that draws derive from count every shot's windows"
    for run in runs:
        for window in run.windows:
            assert all(run.start <= f < run.stop for f in window.frames), "a window never crosses a cut"
    last = runs[-1].windows[-1]
    assert last.frames[0] == 29 and last.start == 35, "the nearest frame with the object, of the same shot"


def as_windows(total: int, length: int) -> list[Window]:
    frames, starts = plan_windows(np.ones(total, bool), length), window_starts(total, length)
    return [Window(i, f, s, min(s + length, total)) for i, (f, s) in enumerate(zip(frames, starts, strict=True))]


@pytest.mark.parametrize(("total", "length"), [(1, 5), (5, 5), (6, 5), (17, 5), (60, 25), (9, 1)])
def test_blending_on_the_way_is_blending_in_the_end(total: int, length: int) -> None:
    windows = as_windows(total, length)
    rng = np.random.default_rng(0)
    values = [rng.random((len(w.frames), 3)).astype(np.float32) for w in windows]
    blend, out = Blend(0, total), []
    for i, (window, value) in enumerate(zip(windows, values, strict=True)):
        settled = windows[i + 1].start if i + 1 < len(windows) else total
        out += blend.add(window, torch.from_numpy(value)[None], settled)
        assert [frame for frame, _ in out] == list(range(settled))
    plain = blend_windows(total, [w.frames for w in windows], values)
    np.testing.assert_allclose(np.stack([v[0].numpy() for _, v in out]), plain, rtol=1e-5)


@pytest.mark.parametrize("first", range(17))
def test_decoding_begins_anywhere_with_the_same_frames(first: int) -> None:
    windows = as_windows(17, 5)
    drawn = {w.number: torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(w.number)) for w in windows}

    def decode(latents: torch.Tensor) -> np.ndarray:  # of which every frame depends on its whole chunk
        return (latents + latents.sum(1, keepdim=True)).numpy()

    whole = dict(decode_windows(windows, (0, 17), 4, lambda w: drawn[w.number], decode))
    later = dict(decode_windows(windows, (0, 17), 4, lambda w: drawn[w.number], decode, first))
    assert list(whole) == list(range(17)) and list(later) == list(range(first // 4 * 4, 17))
    assert all(np.array_equal(whole[t], maps) for t, maps in later.items())


# ---------------------------------------------------------------------------------------------------------------------
# time


def seen(count: int, fps: float, model_fps: float | str, cuts: tuple[int, ...] = ()) -> list[int]:
    return plan_timeline([t / fps for t in range(count)], cuts, model_fps, 25).at.tolist()


def test_which_frames_are_seen() -> None:
    assert seen(25, 30, "auto") == list(range(25)), "what fits one window is seen whole"
    assert seen(26, 30, "auto") == [*range(0, 25, 2), 25], "as few as fit one window"
    assert seen(2000, 25, "auto")[:3] == [0, 3, 6] and len(seen(2000, 25, "auto")) == 668
    assert seen(200, 8, "auto") == list(range(200)), "no fewer than 8 a second"
    assert seen(60, 30, "all") == list(range(60))
    assert seen(9, 24, 8.0) == [0, 3, 6, 8], "the last frame always"
    assert seen(3, 24, 1.0) == [0, 2] and seen(1, 24, 1.0) == [0] and seen(2, 24, 0.1) == [0, 1]
    assert seen(60, 24, 8.0, (10,)) == [0, 3, 6, 9, *range(10, 59, 3), 59]


def test_frames_are_chosen_by_time() -> None:
    times = [0, 0.01, 0.02, 0.03, 0.04, 0.5, 1.0, 1.5, 2.0]
    assert plan_timeline(times, [], 2.0, 5).at.tolist() == [0, 5, 6, 7, 8]
    assert plan_timeline([0.0] * 4, [], 2.0, 5).at.tolist() == [0, 1, 2, 3]
    line = plan_timeline(times, [], 2.0, 5)
    assert line.share(0, 2) == pytest.approx(0.04) and not line.every_frame


def test_shots() -> None:
    assert shots_of([3, 7], 9) == [(0, 3), (3, 7), (7, 9)] and shots_of([], 1) == [(0, 1)]
    for cuts in ([0], [9], [5, 5], [7, 3]):
        with pytest.raises(ValueError, match="cuts: expected ascending frame numbers from 1 to 8"):
            shots_of(cuts, 9)


def test_cuts_are_found() -> None:
    rng = np.random.default_rng(0)
    rooms = [np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((10, 10, 1))).astype(np.uint8) for _ in range(3)]
    finder = ShotFinder()
    for t in range(75):
        finder.add(np.roll(rooms[t // 25], t % 25 // 6, axis=1))
    assert finder.cuts() == [25, 50]
    assert ShotFinder().cuts() == []


def textured(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A textured square that moves 3 pixels a frame over a textured ground: (T, 90, 160, 3) uint8, masks."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(0, 90, (18, 32, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    thing = np.kron(rng.integers(120, 256, (8, 8, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    video, masks = np.stack([ground] * frames), np.zeros((frames, 90, 160), bool)
    for t in range(frames):
        masks[t, 20:60, 20 + 3 * t : 60 + 3 * t] = True
        video[t][masks[t]] = thing.reshape(-1, 3)
    return video, masks


def test_motion_follows_the_object_and_not_the_ground() -> None:
    motion = Motion((90, 160), [1, 2])
    for frame, mask in zip(*textured(6), strict=True):
        motion.add(frame, [mask, mask & False])
    paths = motion.paths()
    np.testing.assert_allclose(paths[1][-1], [15, 0], atol=1)
    assert not paths[2].any(), "what is not visible stays where it is"
    image = np.zeros((9, 16), np.float32)
    image[4, 8] = 1
    box = Box(0, 90, 0, 160)
    assert move(image, paths[2][-1] + [20, -10], box, box)[3, 10] == pytest.approx(1)


def test_what_a_box_shows_is_shown_by_another() -> None:
    image = np.zeros((10, 10), np.float32)
    image[2:4, 6:8] = 1  # rows 4 to 8 and columns 12 to 16 of the frame
    seen = Box(0, 20, 0, 20)
    same = move(image, np.zeros(2), seen, seen)
    assert same is image
    moved = move(image, np.array([4.0, 2.0]), seen, Box(2, 22, 4, 24))
    np.testing.assert_allclose(moved, image, atol=1e-6, err_msg="the box moves along")
    closer = move(image, np.zeros(2), seen, Box(0, 10, 10, 20))
    assert closer[4:8, 2:6].min() > 0.5 and closer.sum() == pytest.approx(16, rel=0.1), "twice as large"


def test_results_are_carried_to_the_frames_between() -> None:
    """What is said of two frames moves along with the object between them, and not across a cut."""
    video, masks = textured(9)
    material = of_arrays(Clip(video, 16.0), [ObjectTrack(1, masks)], None)
    model = tiny_model()
    plan = Plan.of(model, 1, 0)
    for cuts in ((), (4,)):
        timeline = plan_timeline(material.times, cuts, 4.0, 5)
        desk = make_desk(model, material, timeline, plan, None)
        size, box = desk.size, Box(0, 90, 0, 160)
        runs = [0, 0, 1, 1] if cuts else [0, 0, 0]

        def stream(
            first: int,
            at: np.ndarray = timeline.at,
            size: tuple[int, int] = size,
            runs: list[int] = runs,
            box: Box = box,
        ) -> Iterator[Estimate]:
            for position, t in enumerate(at):
                disc = np.zeros((90, 160), np.float32)
                disc[60:80, 20 + 3 * t : 60 + 3 * t] = 1  # below the square, hidden
                yield Estimate(position, runs[position], box, cv2.resize(disc, size[::-1])[None])

        said = dict(every_frame(desk, 1, stream, 0))
        assert list(said) == list(range(9))
        assert timeline.at.tolist() == ([0, 3, 4, 8] if cuts else [0, 4, 8])
        for t in (1, 2, 6, 7):
            there = said[t]
            assert there is not None
            found = there.box.paste(cv2.resize(there.maps[0], (160, 90))[None] > 0.5, (90, 160))[0]
            wanted = np.zeros((90, 160), bool)
            wanted[60:80, 20 + 3 * t : 60 + 3 * t] = True
            assert iou(found, wanted) > 0.8


def test_frames_that_the_model_sees_do_not_depend_on_those_between() -> None:
    video, masks = textured(9)
    model = replace(tiny_model(), recall=False)  # recall follows the object through the frames between
    result = complete(Clip(video, 16.0), masks, model=model, model_fps=8.0)
    assert result.settings["model_frames"] == 5
    plain = complete(Clip(video[::2], 8.0), masks[::2], model=model)
    assert np.array_equal(result.objects[0].amodal_masks[::2], plain.objects[0].amodal_masks)
    assert np.array_equal(result.objects[0].content_rgba[::2], plain.objects[0].content_rgba)


# ---------------------------------------------------------------------------------------------------------------------
# samples


def test_expected_iou_by_hand() -> None:
    a, b, c = np.zeros((3, 4), bool), np.zeros((3, 4), bool), np.zeros((3, 4), bool)
    a[0], b[0, :2], c[1] = True, True, True
    assert iou(a, b) == 0.5 and iou(a, c) == 0 and iou(a & c, c & b) == 1
    assert expected_iou(a, [a, b, c]) == pytest.approx(0.5)
    medoid = Medoid(3)
    medoid.add([a, b, c])
    assert medoid.best == 0
    medoid.add([c, b, b])
    assert medoid.best == 1


def test_samples_are_cut_at_levels_of_their_own() -> None:
    assert sample_levels(0.4, 3, spread=False) == [0.4] * 3
    np.testing.assert_allclose(sample_levels(0.4, 7, spread=True), [0.4, 0.2, 0.7, 0.1, 0.55, 0.3, 0.85])
    clip = Clip(np.zeros((3, 32, 64, 3), np.uint8))
    masks = np.zeros((3, 32, 64), bool)
    masks[:, 8:24, 20:44] = True
    model = replace(tiny_model(), content=None)
    alike, spread = (
        complete(clip, masks, model=replace(model, spread=spread), samples=3).objects[0] for spread in (False, True)
    )
    assert np.array_equal(alike.amodal_masks, spread.amodal_masks), "the consensus is cut at the threshold"
    assert not np.array_equal(alike.probability, spread.probability)
    assert model.levels(2) == [model.threshold] * 2 and replace(model, cut_at=0.125).threshold == 0.125


def test_mean_shape_lies_between() -> None:
    masks = []
    for left in (10, 14, 18):
        mask = np.zeros((40, 60), bool)
        mask[10:30, left : left + 20] = True
        masks.append(mask)
    assert iou(mean_shape(masks), masks[1]) > 0.94 and np.array_equal(mean_shape(masks)[20], masks[1][20])
    thin = [np.roll(np.eye(1, 40, 8, dtype=bool).repeat(30, 0), 6 * k, 1) for k in range(3)]
    assert not (np.mean(thin, 0) >= 0.5).any(), "a vote loses what is thin"
    nothing, all_of_it = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert not mean_shape([nothing, nothing]).any() and mean_shape([all_of_it]).all()
    assert np.array_equal(mean_shape([masks[0]] * 3), masks[0])


def test_ranges() -> None:
    assert as_ranges([]) == "" and as_ranges([4]) == "4" and as_ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"


def test_confidence_and_outputs() -> None:
    clip = Clip(np.random.default_rng(0).integers(0, 256, (5, 32, 64, 3), dtype=np.uint8))
    masks = np.zeros((5, 32, 64), bool)
    masks[:, 8:24, 20:44] = True
    masks_only = replace(tiny_model(), content=None)
    found = {name: complete(clip, masks, model=masks_only, samples=3, output=name) for name in ("consensus", "best")}
    for result in found.values():
        (done,) = result.objects
        assert done.confidence is not None and done.confidence.shape == (5,) and (done.confidence > 0).all()
    assert complete(clip, masks, model=replace(tiny_model(), content=None)).objects[0].confidence is None
    best = found["best"].objects[0]
    assert set(np.unique(best.probability[best.amodal_masks])) <= {np.float32(1 / 3), np.float32(2 / 3), np.float32(1)}


# ---------------------------------------------------------------------------------------------------------------------
# depth, other objects, the canvas


@pytest.mark.parametrize("size", [(40, 60), (300, 420)])
def test_depth_is_judged_as_on_whole_clips(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    depth = np.kron(rng.random((4, size[0] // 20, size[1] // 20)), np.ones((1, 20, 20))).astype(np.float32) * 9
    masks = np.zeros((4, *size), bool)
    masks[[0, 2, 3], 10:30, 15:45] = True
    material = of_arrays(Clip(np.zeros((4, *size, 3), np.uint8)), [ObjectTrack(1, masks)], depth)
    box = Box(0, size[0], 5, size[1] - 3)
    seen_of_it = sight.look(material, 1, range(4), [box] * 4, (16, 32), True)
    assert seen_of_it.order is not None
    room = np.stack([seen_of_it.order.room(t, depth[t], box) for t in range(4)])
    plain = box.crop(may_be_hidden(depth, masks))
    assert (room != plain).mean() < 1e-3 and 0.05 < plain.mean() < 0.95


def test_another_object_that_is_farther_hides_nothing() -> None:
    """For a model without a rule of its own, what is visible of others is judged by depth; the ground is not."""
    clip = Clip(np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), dtype=np.uint8))
    own, other = np.zeros((3, 32, 64), bool), np.zeros((3, 32, 64), bool)
    own[:, 8:24, 10:26], other[:, 4:28, 26:50] = True, True
    tracks = [ObjectTrack(1, own), ObjectTrack(2, other)]
    model = replace(tiny_model(), content=None)
    depth = np.full(own.shape, 1.0, np.float32)
    depth[own] = 5.0
    found = {}
    for name, far in (("behind", 2.0), ("in front", 9.0)):
        depth[other] = far
        found[name] = complete(clip, tracks, model=model, depth=depth).objects[0].amodal_masks
    assert not (found["behind"] & other).any() and (found["in front"] & other).any()
    assert (found["behind"] & ~own & ~other).any(), "the ground is left to the model"
    alone = complete(clip, tracks[:1], model=model, depth=depth).objects[0].amodal_masks
    assert (alone & other).any()


def test_a_margin_lets_objects_leave_the_frame() -> None:
    clip = Clip(np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), dtype=np.uint8), 12.0, "near")
    masks = np.zeros((3, 32, 64), bool)
    masks[:, 8:24, :16] = True
    depth = np.random.default_rng(1).random(masks.shape)
    result = complete(clip, masks, model=replace(tiny_model(), depth_rule=True), margin=0.25, depth=depth)
    assert result.clip.size == (48, 96)
    assert result.settings["frame"] == {"top": 8, "left": 16, "height": 32, "width": 64}
    inside = np.zeros((48, 96), bool)
    inside[8:40, 16:80] = True
    done = result.objects[0]
    assert np.array_equal(result.clip.frames_u8[:, inside], clip.frames_u8.reshape(3, -1, 3))
    assert np.array_equal(done.modal_masks[:, 8:40, 16:80], masks) and not done.modal_masks[:, ~inside].any()
    assert (done.amodal_masks & ~inside).any(), "random networks hide something everywhere"
    assert (done.content_rgba[..., 3] > 0)[done.amodal_masks].all()


def test_runs_of_masks() -> None:
    masks = np.zeros((3, 20, 30), bool)
    masks[1, 4:9, 6:17] = True
    runs = MaskRuns.of(4, masks)
    assert len(runs) == 3 and runs.size == (20, 30)
    assert all(np.array_equal(runs[t], masks[t]) and runs[t].dtype == bool for t in range(3))
    assert runs.extents == [None, (4, 9, 6, 17), None]
    with pytest.raises(ValueError, match="expected at least one visible pixel of object 4, got none"):
        MaskRuns.of(4, masks & False)


def test_votes_are_mixed_into_soft_masks() -> None:
    modal = np.zeros((4, 32, 32), bool)
    modal[:, 8:24, 8:24] = True
    modal[2, :, 16:] = False
    depth = np.zeros(modal.shape, np.float32)
    depth[2, :, 16:] = 1.0
    seen = sight.Seen(modal, depth)
    behind = np.zeros((32, 32), bool)
    behind[8:24, 16:24] = True
    nothing = np.zeros((1, 32, 32), np.float32)
    assert seen.with_votes(nothing, 2, 0.0) is nothing
    mixed = seen.with_votes(nothing, 2, 0.5)[0]
    assert (mixed[behind] > 0.4).all() and (mixed[modal[2]] == 0.5).all() and not mixed[:, 26:].any()
    white, grey = seen.condition(memory=False), seen.condition(memory=True)
    assert set(white.unique().tolist()) == {-1.0, 1.0}
    assert (grey[2, 0].numpy()[behind] > 0).all() and (grey[:, 0].numpy()[modal] == 1).all()
    part = seen.at(np.array([2, 0]))
    assert np.array_equal(part.modal, modal[[2, 0]]) and part.inside is None
    blank = sight.Seen(modal & False, depth)
    assert not blank.recalled.any()
