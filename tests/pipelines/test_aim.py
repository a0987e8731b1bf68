"""Boxes that follow the whole object: planned around what is visible, then around what other frames know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffvas.focus import Box, extent, follow
from diffvas.pipelines import amodal, completion, sight
from diffvas.pipelines import desk as desk_module
from diffvas.pipelines.aim import whole_extents
from diffvas.pipelines.drawing import Shelf
from diffvas.pipelines.job import JobOptions, complete_video
from diffvas.pipelines.loading import CompletionModel
from diffvas.pipelines.material import ArrayTrack, Material
from diffvas.types import Bool, Clip, ObjectTrack
from factories import tiny_model
from pixel_nets import model_with_nets

T, H, W = 15, 96, 160


def passing_a_wall() -> tuple[Bool, Bool, np.ndarray]:
    """A block that walks to the right, with a leap behind a wall, of which a sliver is seen in two frames, nothing in
    one: its whole and its visible masks, and depth."""
    whole = np.zeros((T, H, W), bool)
    for t in range(T):
        left = 10 + 6 * t + (7 if 6 <= t <= 8 else 0)
        whole[t, 30:66, left : left + 30] = True
    wall = np.zeros((T, H, W), bool)
    wall[6:9, :, 40:150] = True
    wall[6, :, 45:61] = wall[8, :, 87:103] = False  # slits that show its left and its right edge
    modal = whole & ~wall
    return modal, whole, np.where(wall, 1.0, np.where(whole, 0.5, 0.0)).astype(np.float32)


def aiming(*nets: str) -> CompletionModel:
    model = model_with_nets(*nets) if nets else tiny_model()
    return replace(model, memory=True, focus=1.6, frames=T)


def off(boxes: Sequence[Box], whole: Bool) -> np.ndarray:
    """How far the middles of boxes are from those of the whole object, in pixels."""
    found = []
    for box, mask in zip(boxes, whole, strict=True):
        e = extent(mask)
        assert e is not None
        away = (box.top + box.bottom - e[0] - e[1]) / 2, (box.left + box.right - e[2] - e[3]) / 2
        found.append(np.hypot(*away))
    return np.array(found)


def test_where_a_sliver_is_seen_the_box_is_around_the_whole() -> None:
    modal, whole, depth = passing_a_wall()
    model = aiming()
    first, then = model.look_at(modal), completion.look_at(model, modal, depth)
    before, after = off(first, whole), off(then, whole)
    assert before[[6, 8]].min() > 4, "the first look should miss it, or this tests nothing"
    assert after[[6, 8]].max() < 0.75 * before[[6, 8]].min() and after[7] < before[7]


def test_extents_hold_what_is_visible_and_go_beyond_the_frame() -> None:
    modal, whole, depth = passing_a_wall()
    whole, modal, depth = (x[:, 30:, 12:] for x in (whole, modal, depth))  # cut off above, and in the first frames
    size = (modal.shape[1], modal.shape[2])
    visible = [extent(mask) for mask in modal]
    boxes = follow(visible, size, 1.6)
    seen = completion.as_seen(aiming(), boxes, modal, depth)
    found, shares = whole_extents(seen, boxes, visible)
    assert shares[7] == 0 and 0 < shares[6] < 0.6 < shares[3] <= 1
    for here, there, mask in zip(found, visible, modal, strict=True):
        assert (here is None) == (there is None) == (not mask.any())
        if here is not None and there is not None:
            assert here[0] <= there[0] and there[1] <= here[1] and here[2] <= there[2] and there[3] <= here[3]
    first = found[0]
    assert first is not None and visible[0] is not None
    assert first[0] >= -2 and -4 <= first[2] <= 0 == visible[0][2]  # no frame shows what is cut off above
    sliver, true = found[6], extent(whole[6])
    assert sliver is not None and true is not None
    assert np.abs(np.subtract(sliver, true)).max() <= 3 < np.abs(np.subtract(visible[6], true)).max()


def test_nothing_seen_is_nothing_found() -> None:
    model = aiming()
    nothing = np.zeros((T, H, W), bool)
    depth = np.zeros((T, H, W), np.float32)
    assert completion.look_at(model, nothing, depth) == [Box(0, H, 0, W)] * T
    seen = completion.as_seen(model, [Box(0, H, 0, W)] * T, nothing, depth)
    assert whole_extents(seen, [Box(0, H, 0, W)] * T, [None] * T) == ([None] * T, [0.0] * T)


def test_who_does_not_aim() -> None:
    modal, _, depth = passing_a_wall()
    for model in (tiny_model(), replace(tiny_model(), focus=1.6), replace(tiny_model(), memory=True)):
        assert completion.look_at(model, modal, depth) == model.look_at(modal)


def desk_of(model: CompletionModel, material: Material, **more: Any) -> completion.Desk:
    timeline = completion.plan_timeline(material.times, (), "all", model.frames)
    plan = replace(completion.Plan.of(model, 1, 0), content=None)
    return completion.make_desk(model, material, timeline, plan, more.pop("progress", None), **more)


def colourful(modal: Bool) -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (*modal.shape, 3), dtype=np.uint8)
    return Clip(frames)


@pytest.mark.parametrize("by_depth", [False, True])
def test_windows_see_what_a_whole_clip_sees_and_no_frame_is_read_thrice(by_depth: bool) -> None:
    modal, _, depth = passing_a_wall()
    clip, model = colourful(modal), aiming("front", "finish")
    boxes = completion.look_at(model, modal, depth if by_depth else None, clip.frames_u8)
    assert (boxes != model.look_at(modal)) or not by_depth  # random networks see no wall
    read: list[int] = []

    def frames(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        for number in numbers:
            read.append(number)
            yield clip.frames_u8[number]

    known = depth.__getitem__ if by_depth else None
    material = Material("", 1.0, clip.size, range(T), {1: ArrayTrack(modal)}, frames, known)
    desk = desk_of(model, material)
    estimates = list(amodal.soft_masks(desk, 1))
    assert [estimate.box for estimate in estimates] == boxes
    assert [read.count(t) for t in range(T)] == [0 if by_depth else 2] * T  # once to aim, once to draw


def test_windows_without_the_object_borrow_no_place() -> None:
    """A long way in which nothing is seen: its windows are not asked, and the path goes through."""
    modal, _, depth = passing_a_wall()
    modal, depth = (np.concatenate([x, x[::-1], x]) for x in (modal, depth))
    modal[13:33] = False
    model = replace(aiming("front", "finish"), frames=5)
    told: list[tuple[str, int, int]] = []
    material = completion.of_arrays(colourful(modal), [ObjectTrack(1, modal)], None)
    desk = desk_of(model, material, progress=lambda *call: told.append(call))
    boxes = [estimate.box for estimate in amodal.soft_masks(desk, 1)]
    assert len(boxes) == len(modal)
    windows = len(desk.runs[1][0].windows)
    assert [call for call in told if call[0] == "look"] == [("look", n + 1, windows) for n in range(windows)]
    for box, mask in zip(boxes, modal, strict=True):
        e = extent(mask)
        if e is not None:
            assert box.top <= e[0] and e[1] <= box.bottom and box.left <= e[2] and e[3] <= box.right


def test_a_resumed_job_does_not_look_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = sight.in_front

    def spy(*args: Any) -> Any:
        asked.append(1)
        return real(*args)

    monkeypatch.setattr(sight, "in_front", spy)
    modal, _, _ = passing_a_wall()
    material = completion.of_arrays(colourful(modal), [ObjectTrack(1, modal)], None)
    told: list[tuple[str, int, int]] = []
    first = desk_of(aiming("front", "finish"), material, shelf=Shelf(tmp_path)).runs
    assert asked
    assert len(list(tmp_path.glob("look-1-*.npy"))) == 1
    asked.clear()
    again = desk_of(aiming("front", "finish"), material, shelf=Shelf(tmp_path), progress=lambda *c: told.append(c)).runs
    assert not asked and told == [("look", 1, 1)]
    assert [run.boxes for run in again[1]] == [run.boxes for run in first[1]]


class StopError(Exception):
    pass


@pytest.mark.parametrize(("stage", "least"), [("look", 1), ("look", 3), ("amodal", 2), ("content", 2)])
def test_a_job_that_was_stopped_repeats_no_look(
    stage: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on window by window, and its files are those of a job that nobody stopped."""
    modal, _, _ = passing_a_wall()
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(colourful(modal).frames_u8):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{t:05d}.png")
    model = replace(model_with_nets(), memory=True, focus=1.6)
    looks: list[int] = []
    real = desk_module.whole_extents

    def counting(*args: Any) -> Any:
        looks.append(1)
        return real(*args)

    def stop(name: str, done: int, total: int) -> None:
        if name == stage and done >= least:
            raise StopError

    def work(name: str, progress: Any = None) -> dict[str, bytes]:
        tracks = [ObjectTrack(1, modal)]
        options = JobOptions(model_fps="all")
        complete_video(tmp_path / "clip", tracks, tmp_path / name, model=model, options=options, progress=progress)
        files = sorted((tmp_path / name).rglob("*"))
        return {str(f.relative_to(tmp_path / name)): f.read_bytes() for f in files if f.is_file()}

    monkeypatch.setattr(desk_module, "whole_extents", counting)
    expected = work("whole")
    whole, looks[:] = len(looks), []
    assert whole > 3
    with pytest.raises(StopError):
        work("out", stop)
    assert work("out") == expected and len(looks) == whole
