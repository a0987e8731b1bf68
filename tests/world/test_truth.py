"""What is said to be true of a rendered clip is true: by hand-computed scenes, and by other ways to the same thing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffvas.world.clip import SceneClip, canvas_padding, clip_digest
from diffvas.world.flow import Moment, forward_flow, poses
from diffvas.world.presets import PRESETS
from diffvas.world.scenes import sample_scene
from diffvas.world.spec import Actor, Camera, Light, Limb, Look, Material, Motion, Part, SceneSpec, Texture

CHECKSUMS = Path(__file__).with_name("checksums.json")
SIZE, FRAMES = (32, 64), 3
FOCAL = 16 / np.tan(np.deg2rad(20))  # of a lens of 40 degrees on 32 rows


def material(kind: str = "noise", seed: int = 1) -> Material:
    return Material(Texture(kind, ((0.9, 0.2, 0.1), (0.1, 0.3, 0.8)), 6.0, seed))


def thing(name: str, kind: str, size: tuple, motion: Motion) -> Actor:
    return Actor(name, (Limb(-1, (0.0, 0.0, 0.0), (Part(kind, size),)),), (material(seed=len(name)),), motion)


def still_life(**changes: object) -> SceneSpec:
    """A ball of radius 0.5 at 5 m, a plate of 0.8 x 1.2 m at 3 m to its left, seen from 1 m above the ground."""
    ball = thing("ball", "sphere", (0.5, 0, 0), Motion((0.0, 0.0, 1.0)))
    plate = thing("plate", "box", (0.4, 0.01, 0.6), Motion((-0.3, -2.0, 1.0)))
    spec = SceneSpec(
        name="still-life",
        seed=0,
        size=SIZE,
        frames=FRAMES,
        frame_seconds=0.1,
        objects=(ball, plate),
        props=(),
        camera=Camera((0.0, -5.0, 1.0), (0.0, 0.0, 1.0), (40.0, 40.0)),
        lights=(Light((0.3, 0.6, -0.8), (0.6, 0.6, 0.6)),),
        ambient=0.4,
        ground=material(),
        sky=Texture("gradient", ((0.3, 0.5, 0.9), (0.9, 0.9, 1.0))),
    )
    return replace(spec, **changes)


def moved(spec: SceneSpec, index: int, **motion: object) -> SceneSpec:
    objects = list(spec.objects)
    objects[index] = replace(objects[index], motion=replace(objects[index].motion, **motion))
    return replace(spec, objects=tuple(objects))


# Clips


def test_a_stretch_has_all_that_the_clip_has() -> None:
    rng, (h, w), frames, count = np.random.default_rng(0), SIZE, 5, 2
    shapes = {
        "frames_u8": (frames, h, w, 3),
        "depth": (frames, h, w),
        "instance_ids": (frames, h, w),
        "amodal_masks": (count, frames, h, w),
        "amodal_rgb_u8": (count, frames, h, w, 3),
        "flow": (frames - 1, h, w, 2),
        "canvas_masks": (count, frames, h, w),
        "intrinsics": (frames, 3, 3),
        "camera_poses": (frames, 4, 4),
        "object_poses": (count, frames, 4, 4),
        "in_front": (frames, count, count),
    }
    clip = SceneClip(**{k: rng.random(shape) for k, shape in shapes.items()}, name="clip", seed=3, kinds=("a", "b"))
    cut = clip.stretch(1, 3)
    for name, shape in shapes.items():
        part, whole = getattr(cut, name), getattr(clip, name)
        axis = 1 if shape[0] == count else 0
        np.testing.assert_array_equal(part, np.take(whole, range(1, 3 if name == "flow" else 4), axis))
    assert (cut.name, cut.seed, cut.kinds) == ("clip", 3, ("a", "b"))
    assert clip_digest(clip.stretch(0, 5)) == clip_digest(clip) and clip.stretch(2, 1).flow.shape == (0, h, w, 2)
    plain = replace(clip, **dict.fromkeys(("flow", "canvas_masks", "intrinsics", "camera_poses", "in_front")))
    assert plain.stretch(4, 1).flow is None
    for start, many in ((0, 6), (-1, 2), (5, 1), (2, 0)):
        with pytest.raises(ValueError, match="count: expected frames within the clip's 5, got"):
            clip.stretch(start, many)


# Flow without a renderer


def moment(position: tuple = (0.0, 0.0, 0.0), bodies: list[tuple] | None = None, turn: float = 0.0) -> Moment:
    k = np.array([[100.0, 0, 4], [0, 100, 3], [0, 0, 1]])
    c, s = np.cos(turn), np.sin(turn)
    camera = poses(np.array(position), np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]))
    places = np.array([(0.0, 0, 0), *(bodies or [])])
    return Moment(k, camera, poses(places, np.broadcast_to(np.eye(3), (len(places), 3, 3))))


def test_flow_by_hand() -> None:
    depth, world = np.full((6, 8), 5.0), np.zeros((6, 8), int)
    assert (forward_flow(depth, world, moment(), moment()) == 0).all()
    aside = forward_flow(depth, world, moment(), moment((0.1, 0.0, 0.0)))  # the camera goes right, things go left
    np.testing.assert_array_equal(aside, np.broadcast_to([-2.0, 0.0], (6, 8, 2)))  # 100 * 0.1 / 5
    body = forward_flow(depth, world + 1, moment(bodies=[(0, 0, 0)]), moment(bodies=[(0.0, 0.05, 0.0)]))
    np.testing.assert_array_equal(body, np.broadcast_to([0.0, 1.0], (6, 8, 2)))
    nearer = forward_flow(depth, world, moment(), moment((0.0, 0.0, 2.5)))  # half as far: twice as far from the middle
    np.testing.assert_array_equal(nearer[:, :, 0], np.broadcast_to(np.arange(8) + 0.5 - 4, (6, 8)))
    np.testing.assert_array_equal(nearer[:, :, 1].T, np.broadcast_to(np.arange(6) + 0.5 - 3, (8, 6)))


def test_the_sky_only_turns_and_what_goes_behind_the_camera_is_unknown() -> None:
    depth, sky = np.full((6, 8), 60.0), np.full((6, 8), -1)
    assert (forward_flow(depth, sky, moment(), moment((3.0, 1.0, 9.0))) == 0).all()
    turned = forward_flow(depth, sky, moment(), moment(turn=0.1))
    assert turned[3, 4, 0] == pytest.approx(-100 * np.tan(0.1), abs=0.3)
    behind = forward_flow(np.full((6, 8), 2.0), np.zeros((6, 8), int), moment(), moment((0.0, 0.0, 3.0)))
    assert np.isnan(behind).all()
    far = forward_flow(np.full((6, 8), 0.1), np.zeros((6, 8), int), moment(), moment((0.6, 0.0, 0.0)))
    assert np.isnan(far).all()  # 600 pixels


def test_derived_truth_needs_what_it_is_derived_from() -> None:
    clip = SceneClip(*(np.zeros((1, 8, 8), np.uint8),) * 5, "bare", 0)
    with pytest.raises(ValueError, match="canvas_masks: expected .* got 'bare' without"):
        clip.out_of_frame(0)
    with pytest.raises(ValueError, match="in_front: expected .* got 'bare' without"):
        clip.hides(0, 1)


# Rendered


@pytest.fixture(scope="session")
def render(rendering: None) -> Callable[..., SceneClip]:
    from diffvas.world.render import render_scene

    return render_scene


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_layers_agree_in_every_preset(preset: str, render: Callable[..., SceneClip]) -> None:
    for seed in (3, 4):
        clip = render(replace(sample_scene(preset, np.random.default_rng(seed), SIZE, FRAMES), shadows=False))
        count, pad = len(clip.amodal_masks), canvas_padding(SIZE)
        assert clip.frames_u8.shape == (FRAMES, *SIZE, 3) and clip.amodal_rgb_u8.shape == (count, FRAMES, *SIZE, 3)
        assert clip.canvas_masks is not None and clip.canvas_masks.shape == (count, FRAMES, 48, 96)
        assert clip.flow is not None and clip.flow.shape == (FRAMES - 1, *SIZE, 2)
        assert clip.depth.dtype == np.float32 and 0 < clip.depth.min() and clip.depth.max() <= 60
        assert clip.instance_ids.max() <= count and clip.kinds is not None and len(clip.kinds) == count
        middle = clip.canvas_masks[:, :, pad[0] : -pad[0], pad[1] : -pad[1]]
        np.testing.assert_array_equal(middle, clip.amodal_masks)
        covered = clip.instance_ids == 0
        for index in range(count):
            modal, amodal = clip.modal_mask(index), clip.amodal_masks[index]
            covered = covered | modal
            assert not (modal & ~amodal).any()
            assert (clip.amodal_rgb_u8[index][~amodal] == 255).all()
            if not clip_is_blurred(preset, seed):
                np.testing.assert_array_equal(clip.amodal_rgb_u8[index][modal], clip.frames_u8[modal])
        assert covered.all()


def clip_is_blurred(preset: str, seed: int) -> bool:
    return bool(sample_scene(preset, np.random.default_rng(seed), SIZE, FRAMES).look.blur_frames)


def test_each_object_alone_is_what_the_renderer_draws_of_it_on_the_whole_canvas(
    render: Callable[..., SceneClip],
) -> None:
    """Neither the boxes that are drawn, nor the reuse of what rests, nor the two lenses lose or add anything."""
    from diffvas.world.render import _Box, _Painter
    from diffvas.world.simulate import build_world

    cut = moved(still_life(), 1, start=(-2.0, -2.0, 1.0), velocity=(-2.0, 0.0, 0.0))  # leaves to the left
    for spec in (cut, *(sample_scene(p, np.random.default_rng(7), SIZE, FRAMES) for p in sorted(PRESETS))):
        clip = render(spec)
        painter = _Painter(spec, build_world(spec))
        try:
            for frame in range(FRAMES):
                painter.pose(frame)
                for index in range(len(spec.objects)):
                    _, depth = painter.draw(painter.world.owner == index, False, False, _Box(-8, -16, 40, 80))
                    assert clip.canvas_masks is not None
                    differ = clip.canvas_masks[index, frame] != (depth > 0)
                    assert differ.sum() <= 1 + 0.01 * (depth > 0).sum()  # edges, where the other lens rounds otherwise
        finally:
            painter.close()
    clip = render(cut)
    outside = clip.out_of_frame(1)
    assert outside[0] < outside[1] and clip.out_of_frame(0).max() == 0


def test_a_frame_of_the_canvas_s_size_shows_the_canvas(render: Callable[..., SceneClip]) -> None:
    spec = moved(still_life(), 1, start=(-2.0, -2.0, 1.0))
    wide = np.rad2deg(2 * np.arctan(1.5 * np.tan(np.deg2rad(20))))
    larger = render(replace(spec, size=(48, 96), camera=replace(spec.camera, fov=(wide, wide))))
    np.testing.assert_array_equal(render(spec).canvas_masks, larger.amodal_masks)


def test_depth_poses_and_camera_by_hand(render: Callable[..., SceneClip]) -> None:
    clip = render(still_life())
    ray = np.array([2.5 / FOCAL, 0.5 / FOCAL, 1.0])  # through the centre of the pixel, to the ball's surface
    surface = (5 - np.sqrt(25 - ray @ ray * (25 - 0.25))) / (ray @ ray)
    assert clip.depth[0, 16, 34] == pytest.approx(surface, abs=0.01)
    assert clip.depth[0, 16, 25] == pytest.approx(2.99, abs=0.002)  # the plate's front
    assert clip.intrinsics is not None and clip.camera_poses is not None and clip.object_poses is not None
    np.testing.assert_allclose(clip.intrinsics[1], [[FOCAL, 0, 32], [0, FOCAL, 16], [0, 0, 1]], rtol=1e-9)
    np.testing.assert_allclose(clip.camera_poses[0][:3, 3], [0, -5, 1], atol=1e-9)
    np.testing.assert_allclose(clip.camera_poses[0][:3, :3] @ [0, 0, 1], [0, 1, 0], atol=1e-9)  # looks along y
    np.testing.assert_allclose(clip.camera_poses[0][:3, :3] @ [0, 1, 0], [0, 0, -1], atol=1e-9)
    for index in range(2):
        place = np.linalg.inv(clip.camera_poses[0]) @ clip.object_poses[index, 0, :, 3]
        x, y, z = clip.intrinsics[0] @ place[:3]
        rows, columns = np.nonzero(clip.amodal_masks[index, 0])
        assert (x / z, y / z) == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5), abs=0.3)


def test_who_hides_whom(render: Callable[..., SceneClip]) -> None:
    clip = render(still_life())
    shared = (clip.amodal_masks[0] & clip.amodal_masks[1]).sum((1, 2))
    assert clip.in_front is not None and shared.min() > 10
    np.testing.assert_array_equal(clip.in_front[:, 1, 0], shared)
    np.testing.assert_array_equal(clip.in_front[:, 0, 1], 0)
    assert clip.hides(1, 0).all() and not clip.hides(0, 1).any()
    np.testing.assert_array_equal(clip.modal_mask(0), clip.amodal_masks[0] & ~clip.amodal_masks[1])
    assert clip.visible_fraction(1).min() == 1 and 0 < clip.visible_fraction(0).max() < 1


def test_flow_of_a_moving_ball_before_what_rests(render: Callable[..., SceneClip]) -> None:
    clip = render(moved(still_life(), 0, velocity=(1.0, 0.0, 0.5)))
    assert clip.flow is not None
    ball = clip.modal_mask(0)[0]
    assert (clip.flow[0][~ball] == 0).all()
    expected = FOCAL / clip.depth[0][ball] * 0.1  # 0.1 m to the right and 0.05 m up in a frame
    np.testing.assert_allclose(clip.flow[0][ball][:, 0], expected, atol=0.02)
    np.testing.assert_allclose(clip.flow[0][ball][:, 1], -expected / 2, atol=0.02)


def test_flow_under_a_moving_camera(render: Callable[..., SceneClip]) -> None:
    clip = render(still_life(camera=replace(still_life().camera, travel=(0.4, 0.0, 0.0))))  # 0.2 m a frame
    assert clip.flow is not None
    near = clip.depth[0] < 59
    np.testing.assert_allclose(clip.flow[0][near][:, 0], -FOCAL / clip.depth[0][near] * 0.2, atol=0.02)
    assert np.abs(clip.flow[0][..., 1]).max() <= 1 / 64
    assert (clip.flow[0][:12, :8] == 0).all() and (clip.depth[:, :12, :8] == 60).all()  # the sky


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_flow_leads_to_the_same_thing(preset: str, render: Callable[..., SceneClip]) -> None:
    """Follow the flow of every pixel: there the same object is seen, or something nearer hides it."""
    follow, moved_colour, still_colour = [], [], []
    for seed in (1, 2, 3):
        spec = replace(sample_scene(preset, np.random.default_rng(seed), (64, 128), 4), look=Look(), shadows=False)
        clip = render(spec)
        assert clip.flow is not None
        for t in range(3):
            y, x = np.mgrid[:64, :128]
            known = np.isfinite(clip.flow[t]).all(-1)
            land = np.nan_to_num(clip.flow[t])
            u, v = np.floor(x + 0.5 + land[..., 0]).astype(int), np.floor(y + 0.5 + land[..., 1]).astype(int)
            ids, box = clip.instance_ids[t], np.ones((3, 3), np.uint8)
            known &= cv2.dilate(ids, box) == cv2.erode(ids, box)  # edges may be a pixel off
            inside = known & (u >= 0) & (u < 128) & (v >= 0) & (v < 64) & (clip.depth[t] < 59)
            u, v = u.clip(0, 127), v.clip(0, 63)
            same = clip.instance_ids[t + 1][v, u] == clip.instance_ids[t]
            hidden = clip.depth[t + 1][v, u] < 1.1 * clip.depth[t]  # a point may recede while something hides it
            follow.append((same | hidden)[inside])
            both = inside & same & (np.abs(clip.depth[t + 1][v, u] - clip.depth[t]) < 0.05 * clip.depth[t])
            far = both & (np.abs(land).max(-1) > 1)
            first, there = clip.frames_u8[t].astype(int), clip.frames_u8[t + 1].astype(int)
            moved_colour.append(np.abs(first - there[v, u])[far])
            still_colour.append(np.abs(first - there)[far])
    assert np.concatenate(follow).mean() > 0.985
    moved_by, not_moved = np.concatenate(moved_colour), np.concatenate(still_colour)
    assert len(moved_by) < 300 or moved_by.mean() < 0.7 * not_moved.mean()


def test_shadows_darken_the_frame_only(render: Callable[..., SceneClip]) -> None:
    spec = still_life(lights=(Light((0.5, 0.6, -0.6), (0.6, 0.6, 0.6)),))
    plain, shaded = render(spec), render(replace(spec, shadows=True))
    np.testing.assert_array_equal(plain.amodal_masks, shaded.amodal_masks)
    np.testing.assert_array_equal(plain.depth, shaded.depth)
    for index in range(2):
        modal = shaded.modal_mask(index)
        change = shaded.frames_u8[modal].astype(int) - shaded.amodal_rgb_u8[index][modal]
        assert change.max() <= 3  # where nothing is shaded, each light is rounded apart
        assert (change >= -3).all(-1).mean() > 0.5


def test_blur_and_look_change_colours_only(render: Callable[..., SceneClip]) -> None:
    spec = moved(still_life(), 0, velocity=(2.0, 0.0, 0.0))
    plain, blurred = render(spec), render(replace(spec, look=Look(blur_frames=4)))
    np.testing.assert_array_equal(plain.instance_ids, blurred.instance_ids)
    np.testing.assert_array_equal(plain.amodal_rgb_u8, blurred.amodal_rgb_u8)
    differ = np.any(np.abs(plain.frames_u8.astype(int) - blurred.frames_u8) > 3, -1)
    assert differ.any((1, 2)).all()
    assert not differ[:, :, :20].any() and not differ[:, :, 50:].any()  # the ball is nowhere near
    dark = render(replace(spec, look=Look(exposure=0.5)))
    np.testing.assert_array_equal(plain.depth, dark.depth)
    assert dark.frames_u8.mean() < 0.7 * plain.frames_u8.mean()
    modal = dark.modal_mask(0)
    np.testing.assert_array_equal(dark.frames_u8[modal], dark.amodal_rgb_u8[0][modal])
    assert (dark.amodal_rgb_u8[~dark.amodal_masks] == 255).all()


@pytest.mark.parametrize("truth", [(), ("rgb",), ("content",), ("flow",)])
def test_less_truth_is_the_same_truth(truth: tuple[str, ...], render: Callable[..., SceneClip]) -> None:
    spec = sample_scene("street", np.random.default_rng(5), SIZE, FRAMES)
    whole, part = render(spec), render(spec, truth)
    for name in ("depth", "instance_ids", "amodal_masks", "canvas_masks", "in_front", "object_poses"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(part, name))
    assert len(part.frames_u8) == (FRAMES if "rgb" in truth else 0)
    assert part.amodal_rgb_u8.shape[1] == (FRAMES if "content" in truth else 0)
    if "content" in truth:
        np.testing.assert_array_equal(whole.amodal_rgb_u8, part.amodal_rgb_u8)
    assert (part.flow is not None) == ("flow" in truth)
    with pytest.raises(ValueError, match="truth: expected some of .* got .'smell'"):
        render(spec, ("smell",))


def test_one_frame_has_no_flow(render: Callable[..., SceneClip]) -> None:
    clip = render(still_life(frames=1))
    assert clip.flow is not None and clip.flow.shape == (0, *SIZE, 2)


def test_the_same_spec_gives_the_same_bytes(render: Callable[..., SceneClip]) -> None:
    spec = sample_scene("tabletop", np.random.default_rng(2), SIZE, FRAMES)
    first = clip_digest(render(spec))
    render(still_life())
    assert clip_digest(render(SceneSpec.from_json(spec.to_json()))) == first


def processor() -> str:
    """Vendor, family and model: the renderer compiles its shaders for the processor, and rounds as that does."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    return " ".join(told.get(name, "?") for name in ("vendor_id", "cpu family", "model"))


def test_checksums(render: Callable[..., SceneClip]) -> None:
    """One clip per preset, byte for byte, on renderers and processors that are known; DIFFVAS_RECORD=1 records those of
    this machine after a wanted change."""
    from diffvas.world.flat import flat_scene
    from diffvas.world.render import gl_driver

    found = {p: clip_digest(render(sample_scene(p, np.random.default_rng(11), SIZE, FRAMES))) for p in sorted(PRESETS)}
    found["demo"] = clip_digest(render(sample_scene("demo", np.random.default_rng(11), SIZE, FRAMES)))
    found["flat"] = clip_digest(flat_scene(11, SIZE, FRAMES))
    here = {"renderer": gl_driver(), "processor": processor()}
    recorded = json.loads(CHECKSUMS.read_text())
    if os.environ.get("DIFFVAS_RECORD"):
        others = [one for one in recorded if {name: one[name] for name in here} != here]
        recorded = [*others, {**here, "digests": found}]
        CHECKSUMS.write_text(json.dumps(recorded, indent=1) + "\n")
    known = [one for one in recorded if one["renderer"] == here["renderer"]]
    if any(one["digests"] == found for one in known):
        return
    own = [one for one in known if one["processor"] == here["processor"]]
    if not own:
        pytest.skip(f"no checksums are recorded for {here['renderer']} on the processor {here['processor']}")
    assert found == own[0]["digests"]
