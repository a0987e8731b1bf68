"""The 3-D world: specs, meshes and textures without OpenGL; exact truth, storage and data sets with it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffvas.world.building import bounds
from diffvas.world.clip import SceneClip
from diffvas.world.meshes import build_mesh
from diffvas.world.presets import MAKERS, PRESETS
from diffvas.world.quaternions import from_axes, multiply, rotation, turned
from diffvas.world.scenes import sample_scene
from diffvas.world.spec import Light, Mesh, Motion, SceneSpec, Texture
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
    for seed in range(3):
        spec = scene(preset, seed)
        assert SceneSpec.from_json(spec.to_json()) == spec


def test_the_same_generator_gives_the_same_scene_and_another_one_another() -> None:
    assert scene(seed=5) == scene(seed=5)
    assert scene(seed=5) != scene(seed=6)


def test_a_scene_has_three_to_five_objects() -> None:
    assert {len(scene(seed=seed).objects) for seed in range(20)} == {3, 4, 5}


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_every_maker_gives_a_finite_thing_that_stands_on_the_ground(kind: str) -> None:
    for seed in range(5):
        limbs, stuff = MAKERS[kind](np.random.default_rng(seed))
        low, high = bounds(limbs)
        assert np.isfinite([low, high]).all() and (high - low > 0.01).all() and (high - low < 4).all()
        assert -0.35 < low[2] < 0.5
        assert max(part.material for limb in limbs for part in limb.parts) < len(stuff)


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


def test_an_unknown_path_and_an_unknown_preset_are_refused() -> None:
    spec = scene()
    odd = replace(spec.objects[0], motion=replace(spec.objects[0].motion, path="wander"))
    with pytest.raises(ValueError, match=r"motion\.path .*wander"):
        replace(spec, objects=(odd,))
    with pytest.raises(ValueError, match="preset: expected one of .* got 'moon'"):
        scene("moon")


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
    ],
)
def test_meshes_are_closed_and_face_outwards(mesh: Mesh) -> None:
    vertices, faces = build_mesh(mesh)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)  # every edge is used once in each direction
    assert {tuple(e) for e in edges} == {tuple(e) for e in edges[:, ::-1]}
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() > 0  # six times the volume


def test_a_bad_mesh_is_refused() -> None:
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
        paint(Texture("plaid", ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))))


def test_turns() -> None:
    quarter = rotation(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(turned(quarter, np.array([1.0, 0, 0])), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(turned(multiply(quarter, quarter), np.array([[1.0, 2, 3]])), [[-1, -2, 3]], atol=1e-12)
    for seed in range(8):
        quat = rotation(np.random.default_rng(seed).normal(size=3) * 2)
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": 0}, "clips: expected 1 or more, got 0"),
        ({"workers": 0}, "workers: expected 1 or more"),
        ({"seed": -1}, "seed: expected 0 or more"),
        ({"preset": "moon"}, "preset: expected one of"),
        ({"size": (2, 2)}, "size: expected"),
    ],
)
def test_make_clips_refuses_bad_arguments_and_writes_nothing(tmp_path: Path, changes: dict, message: str) -> None:
    from diffvas.world.make import make_clips

    arguments = {"preset": "mixed", "clips": 1, "seed": 0, "out": tmp_path / "out", **changes}
    with pytest.raises(ValueError, match=message):
        make_clips(**arguments)
    assert not (tmp_path / "out").exists()


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


# Rendering


@pytest.mark.usefixtures("rendering")
class TestRendering:
    def test_the_truth_is_exact(self) -> None:
        from diffvas.world.render import render_scene

        hidden = 0
        for preset in PRESETS:
            clip = render_scene(scene(preset, 3))
            count = len(clip.amodal_masks)
            assert clip.frames_u8.shape == (FRAMES, *SIZE, 3) and clip.amodal_rgb_u8.shape == (count, FRAMES, *SIZE, 3)
            assert clip.depth.dtype == np.float32 and 0 < clip.depth.min() and clip.depth.max() <= 60
            assert len(np.unique(clip.frames_u8.reshape(-1, 3), axis=0)) > 50
            for index in range(count):
                modal, amodal = clip.modal_mask(index), clip.amodal_masks[index]
                assert not (modal & ~amodal).any()
                assert np.array_equal(clip.amodal_rgb_u8[index][modal], clip.frames_u8[modal])
                assert (clip.amodal_rgb_u8[index][~amodal] == 255).all()
                hidden += int((amodal & ~modal).sum())
        assert hidden > 100

    def test_layers_put_together_are_what_the_renderer_draws_at_once(self) -> None:
        from diffvas.world.render import _Painter, render_scene
        from diffvas.world.simulate import build_world

        for preset in ("street", "tabletop"):
            spec = scene(preset, 1, (64, 128))
            clip = render_scene(spec)
            painter = _Painter(spec, build_world(spec))
            painter.pose(2)
            at_once, _ = painter.draw(np.ones(len(painter.world.owner), bool), sky=True, shadows=False)
            painter.close()
            assert np.mean(np.any(at_once != clip.frames_u8[2], axis=-1)) < 1e-3  # ties where surfaces touch

    def test_the_same_spec_gives_the_same_bytes(self) -> None:
        from diffvas.world.render import render_scene

        spec = scene("tabletop", 2)
        first = render_scene(spec)
        render_scene(scene("street", 3))
        assert same(first, render_scene(SceneSpec.from_json(spec.to_json())))

    def test_depth_is_in_metres(self) -> None:
        from diffvas.world.render import render_scene

        spec = scene("street", 0)
        ball = shapes_ball(spec)
        clip = render_scene(ball)
        row, column = SIZE[0] // 2, SIZE[1] // 2
        assert clip.instance_ids[0, row, column] == 1
        assert clip.depth[0, row, column] == pytest.approx(4.5, abs=0.02)

    def test_shadows_darken_the_frame_only(self) -> None:
        from diffvas.world.render import render_scene

        spec = shapes_ball(scene("street", 0), height=0.5)
        plain, shaded = (render_scene(replace(spec, shadows=on)) for on in (False, True))
        assert np.array_equal(plain.amodal_masks, shaded.amodal_masks)
        assert np.array_equal(plain.depth, shaded.depth)
        change = shaded.frames_u8.astype(int) - plain.frames_u8
        assert change.max() <= 3  # each light is drawn and rounded apart
        assert change.min() < -20

    def test_data_sets_resume_and_do_not_depend_on_workers(self, tmp_path: Path) -> None:
        from diffvas.world.make import make_clips

        calls: list[tuple[str, int, int]] = []
        one = make_clips("mixed", 3, 7, tmp_path / "one", size=SIZE, frames=2, progress=lambda *a: calls.append(a))
        assert calls == [("clips", done, 3) for done in range(4)]
        two = make_clips("mixed", 3, 7, tmp_path / "two", size=SIZE, frames=2, workers=2)
        assert [path.name for path in one] == [path.name for path in two]
        assert all(same(read_scene_clip(a), read_scene_clip(b)) for a, b in zip(one, two, strict=True))
        before = one[0].stat().st_mtime_ns
        one[1].unlink()
        make_clips("mixed", 3, 7, tmp_path / "one", size=SIZE, frames=2)
        assert one[0].stat().st_mtime_ns == before and same(read_scene_clip(one[1]), read_scene_clip(two[1]))


def shapes_ball(spec: SceneSpec, height: float = 1.0) -> SceneSpec:
    """The scene with nothing but a ball of radius 0.5 in front of a camera at 5 m."""
    from diffvas.world.building import ball, plain, rigid
    from diffvas.world.spec import Actor, Camera

    motion = Motion((0.0, 0.0, height))
    actor = Actor("ball", rigid([ball(0.5, (0, 0, 0))]), (plain((0.8, 0.2, 0.2)),), motion)
    camera = Camera((0.0, -5.0, height), (0.0, 0.0, height), (40.0, 40.0))
    return replace(
        spec, objects=(actor,), props=(), camera=camera, lights=(Light((0.0, 0.5, -0.8), (0.6, 0.6, 0.6)),), frames=1
    )
