"""The tracker without weights, on clips whose truth is drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from diffvas.metrics.mask import iou
from diffvas.perception.classic import ClassicTracker
from diffvas.perception.classic_looks import Appearance, Frame, Guide, Motion
from diffvas.perception.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt, TextPrompt
from diffvas.types import Clip

SIZE = (72, 120)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "clips"


def texture(seed: int, colour: tuple[int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    rough = np.random.default_rng(seed).normal(0, 18, (size[0] // 4, size[1] // 4, 1)).astype(np.float32)
    return np.clip(cv2.resize(rough, size[::-1])[..., None] + np.array(colour), 0, 255).astype(np.uint8)


def drawn(centres: list[tuple[float, float]], radius: int = 13) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([np.hypot(x - cx, y - cy) < radius for cx, cy in centres])


def scene(count: int = 8, step: float = 4.0, bar: bool = False) -> tuple[Clip, np.ndarray]:
    """A red disc that moves right over green, behind a blue bar if asked for; and where it is seen."""
    disc = drawn([(20 + step * t, 36 + 0.5 * t) for t in range(count)])
    frames = np.repeat(texture(0, (70, 130, 60))[None], count, 0)
    skin = texture(1, (190, 60, 50), (SIZE[0], 400))
    for t in range(count):
        shifted = skin[:, 200 - round(step * t) : 200 - round(step * t) + SIZE[1]]  # its texture moves with it
        frames[t][disc[t]] = shifted[disc[t]]
    if bar:
        frames[:, :, 50:80] = texture(2, (40, 60, 170))[:, 50:80]
        disc[:, :, 50:80] = False
    return Clip(frames, 10.0, "disc"), disc


def follow(clip: Clip, *objects: tuple) -> list[np.ndarray]:
    tracks = ClassicTracker().track(clip, [ObjectPrompts(i, given) for i, given in enumerate(objects, start=1)])
    assert [track.object_id for track in tracks] == list(range(1, len(objects) + 1))
    return [track.modal_masks for track in tracks]


@pytest.mark.parametrize("kind", ["point", "box", "mask"])
def test_follows_both_ways_from_a_prompt(kind: str) -> None:
    clip, truth = scene()
    prompt = {
        "point": PointPrompt(3, 34, 40),
        "box": BoxPrompt(3, 17, 22, 48, 53),
        "mask": MaskPrompt(3, truth[3]),
    }[kind]
    (found,) = follow(clip, (prompt,))
    assert found.shape == truth.shape and found.dtype == np.bool_
    assert min(iou(a, b) for a, b in zip(found, truth, strict=True)) > 0.9
    if kind == "mask":
        np.testing.assert_array_equal(found[3], truth[3])


def test_repeats_itself() -> None:
    clip, _ = scene(5)
    first, again = (follow(clip, (PointPrompt(0, 20, 36),))[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_comes_back_after_full_occlusion() -> None:
    clip, truth = scene(17, 5.0, bar=True)
    hidden = ~truth.any((1, 2))
    assert hidden.sum() >= 1 and truth[0].any() and truth[-1].any()
    (found,) = follow(clip, (MaskPrompt(0, truth[0]),))
    assert not found[hidden].any()
    assert iou(found[-1], truth[-1]) > 0.8 and iou(found[3], truth[3]) > 0.8


def test_objects_compete_and_may_begin_late() -> None:
    clip, disc = scene(8)
    frames = clip.frames_u8.copy()
    # a yellow disc that appears in frame 4, touching the path of the red one, and passes in front of it
    other = drawn([(110 - 7 * t, 44) for t in range(8)])
    other[:4] = False
    for t in range(8):
        frames[t][other[t]] = texture(3, (210, 190, 40))[other[t]]
    seen = disc & ~other
    found, late = follow(Clip(frames), (PointPrompt(0, 20, 36),), (PointPrompt(6, 72, 48),))
    assert not (found & late).any()
    assert min(iou(a, b) for a, b in zip(found, seen, strict=True)) > 0.85
    assert min(iou(a, b) for a, b in zip(late[4:], other[4:], strict=True)) > 0.85
    assert late[:3].sum() < 0.1 * other[4].sum()


def test_clicks_add_and_take_away() -> None:
    clip, truth = scene(4)
    frames = clip.frames_u8.copy()
    half = truth & (np.arange(SIZE[1])[None, None] > np.array([20 + 4 * t for t in range(4)])[:, None, None])
    for t in range(4):
        frames[t][half[t]] = texture(5, (60, 70, 190))[half[t]]  # a disc, half red, half blue
    clip = Clip(frames)
    red, whole = PointPrompt(0, 13, 36), (PointPrompt(0, 13, 36), PointPrompt(0, 27, 36))
    assert iou(follow(clip, (red,))[0][0], truth[0] & ~half[0]) > 0.85
    assert iou(follow(clip, whole)[0][0], truth[0]) > 0.85
    # a later frame corrects what was tracked, and what lies between and behind
    corrected = follow(clip, (MaskPrompt(0, truth[0]), PointPrompt(2, 36, 37, False)))[0]
    assert iou(corrected[2], truth[2] & ~half[2]) > 0.8 and iou(corrected[3], truth[3] & ~half[3]) > 0.8
    assert iou(corrected[0], truth[0]) == 1.0
    regained = follow(clip, (MaskPrompt(0, truth[0] & ~half[0]), PointPrompt(2, 36, 37)))[0]
    assert iou(regained[2], truth[2]) > 0.8


def test_no_object_there() -> None:
    clip = Clip(np.full((3, *SIZE, 3), 128, np.uint8))
    with pytest.raises(ValueError, match="^point: expected an object under 'point 1,60,30,\\+', got nothing"):
        follow(clip, (PointPrompt(1, 60, 30),))
    with pytest.raises(ValueError, match="^box: expected an object under 'box 0,10,10,40,40', got nothing"):
        follow(clip, (BoxPrompt(0, 10, 10, 40, 40),))


def test_refuses() -> None:
    clip, truth = scene(2)
    with pytest.raises(ValueError, match="^text: a text prompt with no text model"):
        follow(clip, (TextPrompt("the disc"),))
    with pytest.raises(ValueError, match="^point: expected a frame from 0 to 1"):
        follow(clip, (PointPrompt(2, 1, 1),))
    with pytest.raises(ValueError, match="^object: expected something visible of object '2'"):
        follow(clip, (MaskPrompt(0, truth[0]),), (MaskPrompt(0, truth[0]),))  # all of it is taken


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (9, 7)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    (found,) = follow(Clip(frames), (MaskPrompt(1, mask),))
    np.testing.assert_array_equal(found[1], mask)


def test_large_frames_are_tracked_small_and_cut_sharp() -> None:
    clip, truth = scene(3)
    big = Clip(np.stack([cv2.resize(f, (960, 576), interpolation=cv2.INTER_CUBIC) for f in clip.frames_u8]))
    wanted = np.stack([cv2.resize(m.astype(np.float32), (960, 576)) > 0.5 for m in truth])
    (found,) = follow(big, (MaskPrompt(0, wanted[0]),))
    assert min(iou(a, b) for a, b in zip(found, wanted, strict=True)) > 0.97


def test_progress_reaches_its_total() -> None:
    clip, truth = scene(5)
    calls: list[tuple[str, int, int]] = []
    ClassicTracker().track(clip, [ObjectPrompts(1, (MaskPrompt(2, truth[2]),))], lambda *call: calls.append(call))
    assert [done for _, done, _ in calls] == list(range(1, len(calls) + 1))
    assert {(name, total) for name, _, total in calls} == {("track", len(calls))}


def test_the_guided_filter_is_the_plain_one() -> None:
    """Against a pixel-by-pixel solution of the local linear model (He et al. 2013, equations 19 to 21)."""
    rng = np.random.default_rng(0)
    guide, x = rng.random((9, 8, 3)).astype(np.float32), rng.random((9, 8)).astype(np.float32)
    radius, eps = 1, 0.01
    pad = ((radius, radius), (radius, radius))
    wide_g, wide_x = np.pad(guide, (*pad, (0, 0)), "symmetric"), np.pad(x, pad, "symmetric")
    k = np.zeros((9, 8, 4))
    for i in range(9):
        for j in range(8):
            g = wide_g[i : i + 3, j : j + 3].reshape(-1, 3).astype(float)
            v = wide_x[i : i + 3, j : j + 3].ravel().astype(float)
            slope = np.linalg.solve(np.cov(g.T, bias=True) + eps * np.eye(3), ((g - g.mean(0)).T @ (v - v.mean())) / 9)
            k[i, j] = [*slope, v.mean() - slope @ g.mean(0)]
    k = cv2.boxFilter(k, -1, (3, 3), borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(Guide(guide, radius, eps)(x), (k[..., :3] * guide).sum(-1) + k[..., 3], atol=2e-3)


def test_motion_knows_a_shift_and_mistrusts_what_left() -> None:
    wide = texture(7, (120, 120, 120), (SIZE[0], SIZE[1] + 8))
    old, new = Frame(wide[:, :-8], SIZE), Frame(wide[:, 8:], SIZE)  # everything moves 8 to the left
    motion = Motion.between(old, new)
    inner = np.s_[10:-10, 20:-24]
    assert abs(np.median((motion.source[..., 0] - np.arange(SIZE[1]))[inner]) - 8) < 0.5
    assert motion.trust[inner].mean() > 0.8 > 0.2 > motion.trust[:, -5:].mean()


def test_appearance_tells_what_it_learnt() -> None:
    rng = np.random.default_rng(0)
    red, green = rng.normal(1, 0.2, (50, 13)).astype(np.float32), rng.normal(-1, 0.2, (400, 13)).astype(np.float32)
    model = Appearance()
    model.learn(np.concatenate([red, green]), np.arange(450) < 50, prompted=True)
    assert model.score(red).min() > 0.5 and model.score(green).max() < -0.5


@pytest.mark.slow
def test_real_clip_from_a_point() -> None:
    folder = SHARED / "birdcage"
    if not folder.is_dir():
        pytest.skip("the shared clips are not beside the repository")
    frames = np.stack([np.asarray(Image.open(f).convert("RGB")) for f in sorted((folder / "frames").iterdir())])
    truth = np.stack([np.asarray(Image.open(f).convert("L")) > 0 for f in sorted((folder / "masks").iterdir())])
    (found,) = follow(Clip(frames), (PointPrompt(9, 279, 276),))
    assert np.mean([iou(a, b) for a, b in zip(found, truth, strict=True)]) > 0.65
