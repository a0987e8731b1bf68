"""What a click is taken to mean: motion against the camera's, guesses, and the choice among them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from diffvas.metrics.mask import iou
from diffvas.perception.classic_click import REACHES, Moment, _Guess, _limit, around, own_motion
from diffvas.perception.classic_looks import Frame

H, W = 96, 160


def noise(seed: int, colour: tuple[int, int, int], size: tuple[int, int]) -> np.ndarray:
    rough = np.random.default_rng(seed).normal(0, 25, (size[0] // 3, size[1] // 3, 3)).astype(np.float32)
    return np.clip(cv2.resize(rough, size[::-1]) + np.array(colour), 0, 255).astype(np.uint8)


def panned(shift: tuple[int, int] = (3, 0), pan: int = 2, count: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """A box, its upper half reddish and its lower half greyish, that moves by ``shift`` while the camera pans."""
    wide = noise(0, (120, 120, 120), (H, W + pan * count))
    upper, lower = noise(1, (150, 110, 110), (20, 44)), noise(2, (120, 120, 120), (20, 44))
    frames, masks = [], np.zeros((count, H, W), bool)
    for t in range(count):
        frame = wide[:, pan * t : pan * t + W].copy()
        y, x = 28 + shift[1] * t, 30 + shift[0] * t
        frame[y : y + 20, x : x + 44], frame[y + 20 : y + 40, x : x + 44] = upper, lower
        masks[t, y : y + 40, x : x + 44] = True
        frames.append(frame)
    return np.stack(frames), masks


def spot(x: int, y: int) -> np.ndarray:
    found = np.zeros((H, W), bool)
    found[y - 1 : y + 2, x - 1 : x + 2] = True
    return found


def clicked(frames: np.ndarray, t: int, x: int, y: int, no: np.ndarray | None = None) -> np.ndarray:
    moment = Moment(frames.__getitem__, t, len(frames))
    return around(moment, Frame(frames[t], (H, W)), spot(x, y), np.zeros((H, W), bool) if no is None else no)


def test_what_follows_the_camera_does_not_move() -> None:
    frames, masks = panned()
    motion = own_motion(Frame(frames[4], (H, W)), Frame(frames[5], (H, W)))
    length = np.linalg.norm(motion, axis=-1)
    inside = cv2.erode(masks[4].astype(np.uint8), np.ones((9, 9))) > 0
    outside = cv2.dilate(masks[4].astype(np.uint8), np.ones((25, 25))) == 0
    outside[:, -12:] = False  # what leaves the frame
    assert np.median(length[outside]) < 0.15 < 1.0 < np.median(length[inside])
    assert np.median(motion[inside][:, 0]) > 1.0 > abs(np.median(motion[inside][:, 1]))  # to the right


def test_motion_shows_what_colours_hide() -> None:
    """The lower half looks like the background; only its motion says that it belongs to the upper one."""
    frames, masks = panned()
    moving = clicked(frames, 4, 62, 46)
    assert iou(moving, masks[4]) > 0.7
    still = clicked(np.repeat(frames[4:5], 9, 0), 4, 62, 46)
    alone = clicked(frames[4:5], 0, 62, 46)
    np.testing.assert_array_equal(still, alone)  # a frame without neighbours, and one whose neighbours say nothing
    assert iou(still, masks[4]) < iou(moving, masks[4])


def test_what_is_refused_is_left_out() -> None:
    frames, _ = panned()
    no = np.zeros((H, W), bool)
    no[48:68, 42:86] = True
    found = clicked(frames, 4, 62, 38, no)
    assert found.any() and not (found & no).any()


def test_nothing_stands_out_of_one_colour() -> None:
    assert not clicked(np.full((3, H, W, 3), 90, np.uint8), 1, 80, 40).any()


def test_the_frames_around_are_read_only_when_asked_for() -> None:
    frames, _ = panned()
    asked: list[int] = []

    def frame_at(t: int) -> np.ndarray:
        asked.append(t)
        return frames[t]

    moment = Moment(frame_at, 1, len(frames))
    assert asked == []
    _, motion = moment.looks()
    assert asked == [1, 0, 4]  # there is none three before
    assert motion is not None and motion.shape == (H, W, 4)
    moment.looks()
    assert len(asked) == 3
    first = Moment(frame_at, 0, len(frames)).looks()[1]
    assert first is not None and first.shape == (H, W, 2) and Moment(frame_at, 0, 1).looks()[1] is None


def test_limits_never_are_the_whole_frame() -> None:
    for reach in REACHES:
        limit = _limit(spot(80, 48), reach)
        assert limit[48, 80] and not limit.all()
    assert _limit(np.ones((5, 5), bool), 0.4).sum() == 9


@pytest.mark.parametrize(
    ("change", "better"),
    [({"depth": 1.0}, True), ({"own": 0.2}, False), ({"border": 0.5}, False), ({"area": 0.001}, False)],
)
def test_what_makes_a_guess_good(change: dict[str, float], better: bool) -> None:
    usual = {"contrast": 0.1, "own": 0.9, "depth": 0.7, "border": 0.0, "area": 0.05}
    plain, changed = (_Guess(np.ones((2, 2), bool), **values) for values in (usual, usual | change))
    assert (changed.worth(0.5) > plain.worth(0.5)) is better
    assert plain.worth(0.6) > plain.worth(0.5)


def test_a_guess_is_described_by_its_outline() -> None:
    rgb = np.zeros((60, 80, 3), np.uint8)
    rgb[20:40, 30:50] = 255
    frame = Frame(rgb, (60, 80))
    mask = rgb[..., 0] > 0
    click = np.zeros((60, 80), bool)
    click[30, 40] = True
    whole = _Guess.of(frame, mask, np.ones((60, 80), bool), click)
    assert whole.contrast > 0.25 and whole.own == 1.0 and whole.border == 0.0
    assert whole.area == pytest.approx(400 / 4800) and whole.depth > 0.85
    clipped = _Guess.of(frame, mask, mask, click)  # it fills the box it was given: none of the outline is its own
    assert clipped.own == 0.0 and clipped.contrast == 0.0
    corner = np.zeros((60, 80), bool)
    corner[21, 31] = True
    assert _Guess.of(frame, mask, np.ones((60, 80), bool), corner).depth < 0.3
