"""Masks that are finished once and again, frame after frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from diffvas.pipelines import sharpen as module
from diffvas.pipelines.loading import CompletionModel
from diffvas.pipelines.sharpen import sharpen
from diffvas.pipelines.sight import Seen
from diffvas.pipelines.windows import Window, most_inside
from diffvas.types import F32
from pixel_nets import model_with_nets

H, W, LENGTH, STEP = 32, 32, 6, 4
FRAMES = 14


def plan() -> list[Window]:
    """Three windows that overlap by two frames."""
    starts = (0, STEP, 2 * STEP)
    return [Window(k, np.arange(at, at + LENGTH), at, at + LENGTH) for k, at in enumerate(starts)]


def material() -> tuple[np.ndarray, F32]:
    rng = np.random.default_rng(0)
    modal = np.zeros((FRAMES, H, W), bool)
    modal[:, 8:24, 8:24] = True
    modal[4:6, :, 14:] = False
    return modal, rng.random((FRAMES, 2, H, W), np.float32)


def run(model: CompletionModel, first: int = 0) -> dict[int, F32]:
    modal, soft = material()
    seen = Seen(modal, None)
    windows = plan()
    views = {window.number: seen.at(window.frames) for window in windows}
    frames = ((t, soft[t]) for t in range(first, FRAMES))
    return dict(sharpen(model, windows, lambda window: views[window.number], frames))


def test_every_frame_once_and_in_order() -> None:
    for rounds in (1, 2, 3):
        done = run(replace(model_with_nets("finish"), rounds=rounds, frames=LENGTH))
        assert list(done) == list(range(FRAMES))
        assert all(maps.shape == (2, H, W) and 0 <= maps.min() and maps.max() <= 1 for maps in done.values())


def test_again_is_another_answer_by_what_was_said_of_the_whole_window(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(model_with_nets("finish"), frames=LENGTH)
    once, twice = run(replace(model, rounds=1)), run(model)
    thrice = run(replace(model, rounds=3))
    for one, other in ((once, twice), (twice, thrice)):
        assert min(float(np.abs(one[t] - other[t]).max()) for t in range(FRAMES)) > 1e-6
    carried: list[np.ndarray] = []
    real = module.carry

    def spy(said: F32, modal: np.ndarray, inside: np.ndarray | None, told: np.ndarray) -> F32:
        carried.append(told)
        return real(said, modal, inside, told)

    monkeypatch.setattr(module, "carry", spy)
    run(model)
    assert len(carried) == 6 and all(told.all() for told in carried), "twice for each window, when all of it is there"


def test_other_frames_are_heeded_but_where_colours_tell() -> None:
    model = replace(model_with_nets("finish"), frames=LENGTH)
    modal, soft = material()
    window = Window(0, np.arange(LENGTH), 0, LENGTH)
    front = np.full((LENGTH, H, W), 0.5, np.float32)
    for seen, heeds in ((Seen(modal[:LENGTH], None), True), (Seen(modal[:LENGTH], None, front=front), False)):
        alone, heeded = (
            dict(sharpen(replace(model, heed=share), [window], lambda _, s=seen: s, enumerate(soft[:LENGTH])))
            for share in (0.0, 0.5)
        )
        assert any(np.abs(alone[t] - heeded[t]).max() > 1e-4 for t in range(LENGTH)) == heeds
        once = dict(sharpen(replace(model, rounds=1), [window], lambda _, s=seen: s, enumerate(soft[:LENGTH])))
        assert np.abs(once[0] - alone[0]).max() > 1e-6


def test_nothing_is_read_ahead_of_the_window() -> None:
    """A frame comes out as soon as the window that it is most inside of has been answered."""
    model, windows, (modal, soft) = replace(model_with_nets("finish"), frames=LENGTH), plan(), material()
    read = -1

    def frames() -> Iterator[tuple[int, F32]]:
        nonlocal read
        for read in range(FRAMES):
            yield read, soft[read]

    views = {window.number: Seen(modal, None).at(window.frames) for window in windows}
    for frame, _ in sharpen(model, windows, lambda window: views[window.number], frames()):
        assert read == most_inside(windows, frame).stop - 1


def test_a_later_start_gives_the_same_from_its_window_on() -> None:
    model = replace(model_with_nets("finish"), frames=LENGTH)
    whole = run(model)
    later = run(model, first=STEP)
    windows = plan()
    for frame in range(STEP, FRAMES):
        if most_inside(windows, frame).start >= STEP:
            np.testing.assert_allclose(later[frame], whole[frame], atol=1e-6)


def test_without_a_network_the_votes_are_mixed_in() -> None:
    model = replace(model_with_nets("finish"), finish=None, votes=0.5, memory=True)
    modal, soft = material()
    done = run(model)
    assert all((maps[:, modal[t]] >= 0.5).all() for t, maps in done.items()), "half of it is known"
    np.testing.assert_array_equal(run(replace(model, votes=0.0))[3], soft[3])


@pytest.mark.parametrize("finish", [True, False])
def test_what_has_left_the_frame_is_left_alone(finish: bool) -> None:
    """It moves on to the right, and the frame ends in the middle of the picture."""
    modal = np.zeros((LENGTH, H, W), bool)
    modal[:, 8:24, 8:24] = True
    inside = np.ones_like(modal)
    modal[-1], inside[-1, :, 4:] = False, False
    model = replace(model_with_nets("finish"), memory=True, frames=LENGTH)
    model = model if finish else replace(model, finish=None)
    seen = Seen(modal, None, inside)
    assert seen.gone.tolist() == [False] * (LENGTH - 1) + [True]
    window = Window(0, np.arange(LENGTH), 0, LENGTH)
    frames = ((t, np.full((1, H, W), 0.7, np.float32)) for t in range(LENGTH))
    done = dict(sharpen(model, [window], lambda _: seen, frames))
    assert not done[LENGTH - 1].any() and done[0].any()
