"""The 3-D world before it is rendered: specs, shapes, textures, motion, look, and the storage of single clips."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffvas.world.building import bounds
from diffvas.world.clip import SceneClip
from diffvas.world.families import FAMILIES, GROUPS, HELD_OUT, allowed
from diffvas.world.figures import POSES, person
from diffvas.world.grading import apply_look, look_table
from diffvas.world.meshes import build_mesh
from diffvas.world.occlusion import CARRIED
from diffvas.world.presets import COVERS, MIX, PRESETS
from diffvas.world.quaternions import from_axes, matrices, multiply, rotation, turned
from diffvas.world.scenes import sample_scene
from diffvas.world.simulate import camera_at, pose_at
from diffvas.world.spec import Camera, Look, Mesh, Motion, SceneSpec, Texture
from diffvas.world.stage import Stage
from diffvas.world.storage import read_scene_clip, write_scene_clip
from diffvas.world.textures import TEXTURE_KINDS, paint

SIZE, FRAMES = (32, 64), 3
ARRAYS = ("frames_u8", "depth", "instance_ids", "amodal_masks", "amodal_rgb_u8")


def scene(preset: str = "mixed", seed: int = 0, size: tuple[int, int] = SIZE, frames: int = FRAMES) -> SceneSpec:
    return sample_scene(preset, np.random.default_rng(seed), size, frames)


def same(a: SceneClip, b: SceneClip) -> bool:
    arrays = all(
        np.array_equal(getattr(a, k), getattr(b, k)) and getattr(a, k).dtype == getattr(b, k).dtype for k in ARRAYS
    )
    return arrays and (a.name, a.seed) == (b.name, b.seed)


def made_up_clip() -> SceneClip:
    rng = np.random.default_rng(0)
    shape = (2, 3, 8, 11)  # a width that does not fill its last byte
    ids = rng.integers(0, 3, size=shape[1:]).astype(np.uint8)
    masks = np.stack([ids == 1, ids == 2]) | (rng.random(shape) < 0.3)
    frames = rng.integers(0, 256, size=(*shape[1:], 3)).astype(np.uint8)
    colours = rng.integers(0, 256, size=(*shape, 3)).astype(np.uint8)
    return SceneClip(frames, rng.random(shape[1:]).astype(np.float32) * 9, ids, masks, colours, "made-up", 2**62)


# Specs


@pytest.mark.parametrize("preset", [*PRESETS, "mixed", "demo"])
def test_a_scene_survives_json(preset: str) -> None:
    for seed in range(2):
        spec = scene(preset, seed)
        assert SceneSpec.from_json(spec.to_json()) == spec


def test_the_same_generator_gives_the_same_scene_and_another_one_another() -> None:
    assert scene(seed=5) == scene(seed=5)
    assert scene(seed=5) != scene(seed=6)


def test_a_scene_has_two_to_eight_objects_and_some_have_nothing_in_front() -> None:
    specs = [scene(seed=seed) for seed in range(25)]
    counts = [len(spec.objects) for spec in specs]
    assert 2 <= min(counts) and max(counts) <= 8 and len(set(counts)) >= 3
    screens = [sum(not prop.solid for prop in spec.props) for spec in specs]
    assert min(screens) == 0 and max(screens) >= 2
    assert not any(actor.motion.physics for spec in specs for actor in spec.props if not actor.solid)


@pytest.mark.parametrize("preset", PRESETS)
def test_few_frames_and_odd_sizes_are_possible(preset: str) -> None:
    for size, frames in (((8, 8), 1), ((90, 31), 2)):
        spec = scene(preset, 1, size, frames)
        assert spec.frames == frames and spec.size == size and np.isfinite(spec.frame_seconds)


# Families


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_gives_a_finite_thing_that_stands_hangs_or_rolls(name: str) -> None:
    family = FAMILIES[name]
    for seed in range(4):
        way = ("rest", "cross", "fly", "carry")[seed]
        limbs, stuff = family.make(np.random.default_rng(seed), way)
        low, high = bounds(limbs)
        assert np.isfinite([low, high]).all() and (high - low > 0.005).all() and (high - low < 4).all()
        assert high[2] <= 0.05 if family.hangs else -0.6 <= low[2] <= 0.5
        if family.rolls:
            np.testing.assert_allclose((low + high)[[0, 2]], 0, atol=0.1)
        assert max(part.material for limb in limbs for part in limb.parts) < len(stuff)
        assert limbs[0].parent == -1
        assert all(limb.parent < index for index, limb in enumerate(limbs))
        for part in (part for limb in limbs for part in limb.parts if part.mesh):
            build_mesh(part.mesh)


@pytest.mark.parametrize("pose", sorted(POSES))
def test_people_stand_on_their_feet_in_every_pose(pose: str) -> None:
    for seed in range(6):
        low, high = bounds(person(np.random.default_rng(seed), pose)[0])
        assert (-0.75 < low[2] < -0.2) if pose == "ride" else (-0.2 < low[2] < 0.15)  # arms may hang below the feet
        assert 0.4 < high[2] - low[2] < 1.8


def test_presets_name_what_there_is() -> None:
    for preset in PRESETS.values():
        for weights in (preset.cast, preset.screens, preset.scenery, COVERS):
            assert {name for name, _ in weights} <= {*GROUPS, *FAMILIES}
        assert sum(preset.visible) == pytest.approx(1)
    assert {name for name, _ in MIX} == set(PRESETS)
    assert HELD_OUT < set(FAMILIES) and allowed("train") | allowed("heldout") == allowed("all") == set(FAMILIES)
    assert not allowed("train") & allowed("heldout")


def names_of(spec: SceneSpec, objects_only: bool = False) -> set[str]:
    actors = spec.objects if objects_only else (*spec.objects, *spec.props)
    return {actor.name.removesuffix(CARRIED) for actor in actors} - {"wall", "room"}


def test_held_out_families_are_held_out() -> None:
    seen: set[str] = set()
    for seed, preset in enumerate([*PRESETS, *PRESETS, "mixed", "mixed"]):
        train = sample_scene(preset, np.random.default_rng(seed), SIZE, FRAMES, "train")
        test = sample_scene(preset, np.random.default_rng(seed), SIZE, FRAMES, families="heldout")
        assert not names_of(train) & HELD_OUT
        assert names_of(test, objects_only=True) <= HELD_OUT
        seen |= names_of(test)
    assert seen - HELD_OUT, "occluders of held-out scenes are of any family"


def test_unknown_names_are_refused_with_the_nearest() -> None:
    for wrong, near in (("steet", "street"), ("table", "tabletop"), ("rooms", "room")):
        with pytest.raises(ValueError, match=rf"preset: expected one of .* got '{wrong}' \(did you mean '{near}'\?\)"):
            scene(wrong)
    with pytest.raises(ValueError, match=r"families: expected one of .*'heldout'.* got 'test'"):
        sample_scene("street", np.random.default_rng(0), SIZE, FRAMES, "test")
    with pytest.raises(ValueError, match="preset: expected one of .* got 'moon'"):
        scene("moon")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (4, 64)}, "size: expected"),
        ({"frames": 0}, "frames: expected 1 or more, got 0"),
        ({"objects": ()}, "objects: expected 1 to 254 actors, got 0"),
        ({"frame_seconds": 0.0}, "frame_seconds: expected more than 0"),
    ],
)
def test_a_scene_refuses_what_cannot_be_rendered(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(scene(), **changes)


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "x"}', "3"])
def test_json_that_is_no_scene_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"text|scene"):
        SceneSpec.from_json(text)


def test_an_unknown_path_is_refused() -> None:
    spec = scene()
    odd = replace(spec.objects[0], motion=replace(spec.objects[0].motion, path="wander"))
    with pytest.raises(ValueError, match=r"motion\.path .*wander"):
        replace(spec, objects=(odd,))


# Motion


def test_a_walker_on_a_bend_goes_where_it_looks() -> None:
    """A quarter of a circle in one second, at one metre a second: radius 2 / pi."""
    motion = Motion((1.0, 0.0, 0.0), velocity=(1.0, 0.0, 0.0), spin=(0.0, 0.0, np.pi / 2), path="arc")
    position, quat = pose_at(motion, 1.0, 1.0)
    np.testing.assert_allclose(position, [1 + 2 / np.pi, 2 / np.pi, 0], atol=1e-12)
    np.testing.assert_allclose(turned(quat, np.array([1.0, 0, 0])), [0, 1, 0], atol=1e-12)
    straight, _ = pose_at(replace(motion, spin=(0.0, 0.0, 0.0)), 1.0, 1.0)
    np.testing.assert_allclose(straight, [2, 0, 0])


def test_rolling_things_do_not_slide() -> None:
    rolled = 0
    for seed in range(24):
        for actor in scene("tabletop", seed).objects:
            motion = actor.motion
            if actor.name == "wheel" and not motion.physics and any(motion.velocity):
                contact = np.cross(motion.spin, [0, 0, -0.5 * actor.scale])  # velocity of the lowest point
                np.testing.assert_allclose(contact + motion.velocity, 0, atol=1e-3)
                rolled += 1
    assert rolled


def test_what_falls_starts_above_the_ground_and_clear_of_the_others() -> None:
    for seed in range(8):
        for actor in scene("tabletop", seed).objects:
            if actor.motion.physics:
                low, high = bounds(actor.limbs)
                corners = np.stack(np.meshgrid(*np.stack([low, high], 1)), -1).reshape(-1, 3) * actor.scale
                lowest = turned(np.asarray(actor.motion.quat), corners)[:, 2].min() + actor.motion.start[2]
                assert lowest > 0.015


def test_a_rolled_camera_turns_the_picture() -> None:
    camera = Camera((0.0, -5.0, 0.0), (0.0, 0.0, 0.0), (40.0, 40.0))
    for roll in (0.0, 0.3):
        _, quat, _ = camera_at(replace(camera, roll=roll), 0, 1)
        np.testing.assert_allclose(turned(quat, np.array([1.0, 0, 0])), [np.cos(roll), 0, np.sin(roll)], atol=1e-9)
        np.testing.assert_allclose(turned(quat, np.array([0, 0, 1.0])), [0, -1, 0], atol=1e-9)


# Look


def test_a_neutral_look_changes_nothing() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    assert apply_look(frames, replace(scene(), look=Look())) is frames


def test_a_look_is_the_same_table_for_every_pixel() -> None:
    """What was equal stays equal, so an object alone keeps the colours that it has in the frame."""
    look = Look(exposure=1.3, gamma=0.9, tint=(1.1, 1.0, 0.8))
    table = look_table(look)
    assert (np.diff(table.astype(int), axis=0) >= 0).all() and table.max() <= 255
    assert table[0].tolist() == [0, 0, 0]
    assert table[64, 1] == round(255 * (64 / 255) ** 0.9 * 1.3)  # 0.375, below the shoulder
    spec = replace(scene(), look=look)
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    graded = apply_look(frames, spec)
    assert graded.shape == frames.shape and graded.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(graded[..., channel], table[frames[..., channel], channel])
    np.testing.assert_array_equal(apply_look(frames[:, 1:, ::2], spec), graded[:, 1:, ::2])
    assert apply_look(frames[:0], spec).shape == (0, 4, 5, 3)
    with pytest.raises(ValueError, match="frames_u8: expected uint8"):
        apply_look(frames.astype(np.float32), spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exposure": 0.0}, "look.exposure: expected more than 0, got 0.0"),
        ({"gamma": -1.0}, "look.gamma: expected more than 0"),
        ({"tint": (1.0, 0.0, 1.0)}, "look.tint: expected more than 0"),
        ({"exposure": float("nan")}, "look.exposure"),
        ({"blur_frames": -1}, "look.blur_frames: expected 0 or more, got -1"),
    ],
)
def test_a_look_refuses_what_cannot_be_applied(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Look(**changes)


def test_a_scene_written_before_there_were_looks_is_read() -> None:
    old = json.loads(scene().to_json())
    del old["look"]
    for camera in (old["camera"],):
        del camera["roll"]
    for actor in (*old["objects"], *old["props"]):
        del actor["solid"]
    assert SceneSpec.from_json(json.dumps(old)).look == Look()


# Shapes, textures, turns


@pytest.mark.parametrize(
    "mesh",
    [
        Mesh("lathe", (0.3, 0.0, 0.5, 0.4, 0.1, 1.0)),
        Mesh("outline", (0.1, 0, 0, 1, 0, 1, 1, 0.5, 0.4, 0, 1)),
        Mesh("outline", (0.1, 0, 1, 0.5, 0.4, 1, 1, 1, 0, 0, 0)),
        Mesh("superquadric", (0.3, 0.4, 0.5, 0.3, 1.7)),
        Mesh("blob", (0.3, 0.4, 0.5, 0.5, 7)),
        Mesh("torus", (0.4, 0.1)),
        Mesh("polygon", (0.1, 0, 0, 1, 0, 1, 0.2, 0.2, 0.2, 0.2, 1, 0, 1)),
        Mesh("polygon", (0.1, 0, 1, 0.2, 1, 0.2, 0.2, 1, 0.2, 1, 0, 0, 0)),
        Mesh("plate", (0.1, 1, 1, 0.5, 0.5, -1, 1, -0.5, 0.5, -1, -1, -0.5, -0.5, 1, -1, 0.5, -0.5)),
        Mesh("plate", (0.1, 1, -1, 0.5, -0.5, -1, -1, -0.5, -0.5, -1, 1, -0.5, 0.5, 1, 1, 0.5, 0.5)),
        Mesh("loft", (1, 0, 0, 0, 0.1, 0.2, 0.3, 0, 0.5, 0.3, 0.1, 0.5, 0, 0.6, 0.1, 0.1)),
        Mesh("loft", (0, 0, 0, 0, 0.1, 0.2, 0, 1, 0, 0.3, 0.1)),
    ],
)
def test_meshes_are_closed_and_face_outwards(mesh: Mesh) -> None:
    vertices, faces = build_mesh(mesh)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)  # every edge is used once in each direction
    assert {tuple(e) for e in edges} == {tuple(e) for e in edges[:, ::-1]}
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() > 0  # six times the volume


def volume(mesh: Mesh) -> float:
    vertices, faces = build_mesh(mesh)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def test_volumes_by_hand() -> None:
    ell = Mesh("polygon", (0.5, 0, 0, 2, 0, 2, 1, 1, 1, 1, 3, 0, 3))  # 2 + 2 squares, 1 thick
    assert volume(ell) == pytest.approx(4.0)
    frame = Mesh("plate", (0.5, 2, 2, 1, 1, -2, 2, -1, 1, -2, -2, -1, -1, 2, -2, 1, -1))
    assert volume(frame) == pytest.approx(16 - 4)
    pipe = Mesh("loft", (0, 0, 0, 0, 0.5, 0.5, 0, 0, 2, 0.5, 0.5))  # a prism on a regular 12-gon: area 3 r^2
    assert volume(pipe) == pytest.approx(2 * 3 * 0.25)
    ball = Mesh("loft", (1, 0, 0, -0.01, 1, 1, 0, 0, 0.01, 1, 1))
    assert volume(ball) == pytest.approx(4.19, rel=0.2)


def test_meshes_are_shared_and_cannot_be_changed() -> None:
    mesh = Mesh("torus", (0.4, 0.1))
    assert build_mesh(mesh)[0] is build_mesh(Mesh("torus", (0.4, 0.1)))[0]
    with pytest.raises(ValueError, match="read-only"):
        build_mesh(mesh)[0][0] = 0


def test_a_bad_mesh_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mesh\.numbers: expected 11 or more"):
        build_mesh(Mesh("loft", (1.0, 0.0, 0.0, 0.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match=r"mesh\.kind"):
        build_mesh(Mesh("teapot", (1.0,)))
    with pytest.raises(ValueError, match=r"mesh\.numbers: expected 5 or more"):
        build_mesh(Mesh("blob", (1.0,)))


@pytest.mark.parametrize("kind", TEXTURE_KINDS)
def test_textures_are_tiles_between_their_two_colours(kind: str) -> None:
    tile = paint(Texture(kind, ((0.0, 0.2, 1.0), (1.0, 0.4, 0.0)), 3.0, 1), 32)
    assert tile.shape == (32, 32, 3) and tile.dtype == np.uint8
    assert tile[..., 1].min() >= 51 and tile[..., 1].max() <= 102
    assert np.array_equal(tile, paint(Texture(kind, ((0.0, 0.2, 1.0), (1.0, 0.4, 0.0)), 3.0, 1), 32))
    with pytest.raises(ValueError, match=r"texture\.kind"):
        paint(Texture("velvet", ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))))


def test_turns() -> None:
    quarter = rotation(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(turned(quarter, np.array([1.0, 0, 0])), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(turned(multiply(quarter, quarter), np.array([[1.0, 2, 3]])), [[-1, -2, 3]], atol=1e-12)
    for seed in range(8):
        quat = rotation(np.random.default_rng(seed).normal(size=3) * 2)
        np.testing.assert_allclose(matrices(quat) @ [1.0, 2, 3], turned(quat, np.array([1.0, 2, 3])), atol=1e-12)
        back = from_axes(*(turned(quat, axis) for axis in np.eye(3)))
        np.testing.assert_allclose(back * np.sign(back @ quat), quat, atol=1e-9)


def test_the_stage_measures_what_the_camera_sees() -> None:
    stage = Stage(reach=3.0, pitch=0.0, fov=2 * np.arctan(0.4), aspect=2.0, aim=1.2, duration=1.0)
    assert stage.height(0.0) == pytest.approx(2.4) and stage.half_width(0.0) == pytest.approx(2.4)
    assert stage.height(3.0) == pytest.approx(4.8) and stage.bottom(0.0) == pytest.approx(0.0)


# Storage


def test_a_clip_survives_storage_byte_for_byte(tmp_path: Path) -> None:
    clip = made_up_clip()
    whole_millimetres = replace(clip, depth=(np.round(clip.depth * 1000.0) / 1000).astype(np.float32))
    for one in (clip, whole_millimetres):
        assert same(read_scene_clip(write_scene_clip(tmp_path / "a" / "clip.npz", one)), one)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["clip.npz"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = write_scene_clip(tmp_path / "clip.npz", made_up_clip())
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"not a zip", content[:200] + b"\0" * 60 + content[260:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"corrupt file '.*clip\.npz'"):
            read_scene_clip(path)
    np.savez(path, header=np.frombuffer(b'{"format": 99}', np.uint8))
    with pytest.raises(ValueError, match="format 99, expected 1"):
        read_scene_clip(path)
    with pytest.raises(ValueError, match="found no file"):
        read_scene_clip(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        write_scene_clip(tmp_path / "clip.zip", made_up_clip())


def test_a_missing_opengl_library_says_what_to_install() -> None:
    program = (
        "import os, sys; os.environ['MUJOCO_GL'] = 'nonesuch'\n"
        "from diffvas.world.simulate import import_mujoco\n"
        "try: import_mujoco()\n"
        "except RuntimeError as error: sys.exit(str(error))\n"
    )
    pytest.importorskip("mujoco", reason="needs the `world` extra (mujoco)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "apt-get install libegl1 libgl1-mesa-dri" in done.stderr and len(done.stderr.splitlines()) == 1
