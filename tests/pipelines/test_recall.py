"""Colours from other frames: carried exactly where the object moves rigidly, doubted where frames disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffvas.pipelines import recall
from diffvas.pipelines.recall import MOST_PIXELS, Moment, View, fill, gather, look, place, spread_colours

H, W = 40, 60
GREY = np.full((H, W, 3), 0.5, np.float32)
OVERALL = np.array([0.5, 0.5, 0.5], np.float32)


def view(time: int, x: int, *, hidden_below: int | None = None, shade: float = 0.0, seed: int = 0) -> View:
    """A textured square of 20 pixels at column ``x``, hidden from row ``hidden_below`` on by something white."""
    amodal = np.zeros((H, W), bool)
    amodal[10:30, x : x + 20] = True
    texture = np.random.default_rng(seed).uniform(0.2, 0.8, (5, 5, 3)).astype(np.float32).repeat(4, 0).repeat(4, 1)
    rgb = np.zeros((H, W, 3), np.float32)
    rgb[10:30, x : x + 20] = texture + shade
    modal = amodal.copy()
    if hidden_below is not None:
        modal[hidden_below:] = False
        rgb[hidden_below:] = 1.0
    return View(time, rgb, modal, amodal)


def alone(x: int) -> np.ndarray:
    return view(0, x).rgb


def error(found: np.ndarray, true: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(found - true)[where].mean())


def test_what_another_frame_shows_is_carried_over() -> None:
    now, other = view(0, 5, hidden_below=18), view(1, 30)
    hidden = now.amodal & ~now.modal
    without = gather(now, [], GREY, OVERALL).colours
    found = gather(now, [now, other], GREY, OVERALL).colours
    assert error(found, alone(5), hidden) < 0.02 < 0.1 < error(without, alone(5), hidden)
    np.testing.assert_array_equal(found[~hidden], GREY[~hidden])


def test_nothing_of_what_hides_it_runs_in() -> None:
    """White stands in front of every frame: no other colour than the object's may come."""
    views = [view(t, 5 + 3 * t, hidden_below=16 + t) for t in range(4)]
    found = gather(views[0], views, GREY, OVERALL).colours
    hidden = views[0].amodal & ~views[0].modal
    assert found[hidden].max() < 0.85


def test_frames_that_disagree_are_doubted() -> None:
    now, hidden = view(0, 5, hidden_below=20), view(0, 5, hidden_below=20).amodal & ~view(0, 5, hidden_below=20).modal
    right, wrong = view(1, 20), view(1, 20, seed=7)
    both = gather(now, [right, wrong], GREY, OVERALL).colours
    assert error(both, alone(5), hidden) < 0.3 * error(gather(now, [wrong], GREY, OVERALL).colours, alone(5), hidden)


def test_nearer_frames_count_more() -> None:
    now = view(0, 5, hidden_below=20)
    hidden = now.amodal & ~now.modal
    light, dark = view(2, 20, shade=0.1), view(60, 20, shade=-0.1)
    found = gather(now, [light, dark], GREY, OVERALL).colours
    assert (found - alone(5))[hidden].mean() > 0.04


def test_a_frame_without_the_object_in_view() -> None:
    """Fully hidden: other frames if there are any, else what was painted."""
    now = view(3, 5, hidden_below=0)
    assert not now.modal.any()
    np.testing.assert_allclose(gather(now, [now, view(4, 5, hidden_below=0)], GREY, OVERALL).colours, GREY, atol=1e-6)
    assert error(gather(now, [view(4, 25)], GREY, OVERALL).colours, alone(5), now.amodal) < 0.12


def test_an_object_of_another_size_is_scaled() -> None:
    now = view(0, 5, hidden_below=18)
    small = np.zeros((H, W), bool)
    small[5:15, 40:50] = True
    rgb = np.zeros((H, W, 3), np.float32)
    rgb[5:15, 40:50] = alone(5)[10:30:2, 5:25:2]
    found = gather(now, [View(1, rgb, small, small)], GREY, OVERALL).colours
    hidden = now.amodal & ~now.modal
    assert error(found, alone(5), hidden) < 0.7 * error(gather(now, [], GREY, OVERALL).colours, alone(5), hidden)


def test_a_path_helps_where_the_whole_masks_are_wrong() -> None:
    """A mask that is far too large moves its centre and extent; how far the object has moved is still known."""
    right, other = view(0, 5, hidden_below=18), view(1, 30)
    spoilt = right.amodal.copy()
    spoilt[30:38, 0:40] = True
    now = View(0, right.rgb, right.modal, spoilt)
    hidden = right.amodal & ~right.modal
    lost, found = (
        gather(now, [replace(other, path=path)], GREY, OVERALL).colours for path in ((0.0, 0.0), (25.0, 0.0))
    )
    assert error(found, alone(5), hidden) < 0.02 < 0.06 < error(lost, alone(5), hidden)


def limb(time: int, lean: int, *, hidden_below: int | None = None) -> View:
    """A body with a limb of stripes, which leans: its foot stands ``lean`` pixels to the right of its hip."""
    amodal, rgb = np.zeros((H, W), bool), np.full((H, W, 3), 0.5, np.float32)
    amodal[2:14, 5:50] = True
    for y in range(14, 38):
        x = 20 + round(lean * (y - 14) / 24)
        amodal[y, x : x + 8] = True
        rgb[y, x : x + 8] = np.linspace(0.1, 0.9, 8)[:, None]
    modal = amodal.copy()
    if hidden_below is not None:
        modal[hidden_below:] = False
        rgb[hidden_below:] = 1.0
    return View(time, rgb, modal, amodal)


def test_a_limb_that_has_swung_is_bent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now, other, truth = limb(0, 0, hidden_below=20), limb(1, 8), limb(0, 0).rgb
    hidden = now.amodal & ~now.modal
    bent = error(gather(now, [other], GREY, OVERALL).colours, truth, hidden)
    monkeypatch.setattr(recall, "_bend", lambda near, other, matrix: np.zeros((*near.amodal.shape, 2), np.float32))
    stiff = error(gather(now, [other], GREY, OVERALL).colours, truth, hidden)
    assert bent < 0.5 * stiff


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 3), (40, 1)])
def test_objects_of_any_shape_can_be_bent(size: tuple[int, int]) -> None:
    """All of a small view may be inside: no outline to follow, and no numbers that are none."""
    rgb = np.full((*size, 3), 0.25, np.float32)
    whole = np.ones(size, bool)
    modal = whole.copy()
    modal[-1, -1] = False
    grey = np.full((*size, 3), 0.5, np.float32)
    found = gather(View(0, rgb, modal, whole), [View(1, rgb, whole, whole)], grey, OVERALL)
    assert np.isfinite(found.as_one()).all()


def test_views_of_other_scales_and_corners() -> None:
    frame = (alone(5) * 255).astype(np.uint8)
    whole = view(0, 5).amodal
    modal = whole.copy()
    modal[18:] = False
    big = [np.kron(image, np.ones((16, 16, 1), image.dtype)) for image in (frame, whole[..., None], modal[..., None])]
    now, box = look(big[0], big[2][..., 0], big[1][..., 0], Moment(0.0, (0.0, 0.0), (100, 0))) or pytest.fail("nothing")
    assert now.modal.size <= MOST_PIXELS and now.corner == (180, 160) == (100 + box.left, box.top)
    shifted, _ = look(big[0], big[1][..., 0], big[1][..., 0], Moment(1.0, (-100.0, 0.0))) or pytest.fail("nothing")
    grey = np.full((*now.modal.shape, 3), 0.5, np.float32)
    truth, hidden = shifted.rgb, now.amodal & ~now.modal
    assert error(gather(now, [shifted], grey, OVERALL).colours, truth, hidden) < 0.03
    picture = fill(GREY, big[0], big[2][..., 0], big[1][..., 0], Moment(0.0), [shifted], OVERALL).colours
    assert picture.shape == big[0].shape
    part = big[1][..., 0] & ~big[2][..., 0]
    assert error(picture, big[0] / np.float32(255), part) < 0.05


@pytest.mark.parametrize("pixels", [0, 3])
def test_too_small_for_a_place(pixels: int) -> None:
    amodal = np.zeros((H, W), bool)
    amodal[4, 4 : 4 + pixels] = True
    now = View(0, GREY * 0.2, amodal & False, amodal)
    assert place(amodal) is None
    np.testing.assert_array_equal(gather(now, [view(1, 5)], GREY, OVERALL).colours, GREY)


def test_colours_spread_from_what_is_seen_alone() -> None:
    now = view(0, 5, hidden_below=20)
    spread = spread_colours(now.rgb, now.modal, OVERALL)
    np.testing.assert_allclose(spread[12, 15], now.rgb[12, 15], atol=0.12)
    assert spread.max() < 0.85  # white is in front, and not the object's
    np.testing.assert_allclose(spread_colours(now.rgb, now.modal & False, OVERALL), GREY, atol=1e-5)
