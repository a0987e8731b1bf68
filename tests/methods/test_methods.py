"""What every method in the registry keeps to, and what each of the simple ones computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffvas.methods import METHODS, find_method
from diffvas.methods.base import Budget, Method, ObjectInput, as_options, read_head
from diffvas.methods.convex import ConvexR, ConvexROptions, by_depth, by_hull, frame_order, hiders
from diffvas.metrics import strict_frames
from diffvas.metrics.box import mask_boxes
from diffvas.metrics.rle import encode_masks
from factories import make_scene, tiny_model
from method_cases import fit_tiny, new_method, object_input, write_vae


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vae(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module")
def fitted(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Method, Path]]:
    root = tmp_path_factory.mktemp("fitted")
    return {name: (fit_tiny(name, root / name, vae), root / name) for name in METHODS}


def part(clip: ObjectInput, name: str, frames: slice = slice(None), modal: np.ndarray | None = None) -> ObjectInput:
    """Some frames of a clip, perhaps with another visible mask."""
    kept = {key: getattr(clip, key)[frames] for key in ("depth", "frames_u8", "others")}
    return ObjectInput(name, clip.modal[frames] if modal is None else modal, **kept)


@pytest.mark.parametrize("name", METHODS)
def test_saved_and_loaded_it_says_the_same(name: str, fitted: dict, tmp_path: Path) -> None:
    method, folder = fitted[name]
    clip = object_input()
    first = method.predict(clip, seed=4)
    assert first.masks.dtype == np.bool_ and first.masks.shape == clip.modal.shape
    if first.probability is not None:
        assert first.probability.dtype == np.float32
        assert first.probability.min() >= 0 and first.probability.max() <= 1
        assert (first.masks == (first.probability >= 0.5)).all()
    method.save(tmp_path / "again")
    for place in (folder, tmp_path / "again"):
        other = find_method(name).load(place, "cpu")
        assert (other.predict(clip, seed=4).masks == first.masks).all()
        assert other.settings() == json.loads(json.dumps(other.settings()))
    assert read_head(folder, name)["method"] == name
    assert not list((tmp_path / "again").rglob("*.bin")) and not list((tmp_path / "again").rglob("*.pt"))


@pytest.mark.parametrize("name", METHODS)
def test_odd_clips(name: str, fitted: dict) -> None:
    method, _ = fitted[name]
    clip = object_input()
    one = method.predict(part(clip, "one frame", slice(1, 2)))
    assert one.masks.shape == (1, *clip.size)
    hidden = clip.modal.copy()
    hidden[1:4] = False
    assert method.predict(part(clip, "hidden in three frames", modal=hidden)).masks.shape == clip.modal.shape
    nothing = method.predict(part(clip, "never seen", modal=np.zeros_like(clip.modal)))
    assert not nothing.masks.any()
    left = np.zeros_like(clip.modal)
    left[0, :, :3] = True  # seen at the border once, then out of the frame
    assert method.predict(part(clip, "leaves", modal=left)).masks.shape == clip.modal.shape


@pytest.mark.parametrize("name", METHODS)
def test_long_clips_of_another_size(name: str, fitted: dict) -> None:
    method, _ = fitted[name]
    clip = object_input()
    times = np.arange(12) % 5
    tall = {key: getattr(clip, key)[times][:, :, 10:34] for key in ("modal", "depth", "frames_u8", "others")}
    assert method.predict(ObjectInput("long", **tall)).masks.shape == (12, 32, 24)


@pytest.mark.parametrize("name", METHODS)
def test_the_strict_score_adds_what_is_visible(name: str, fitted: dict) -> None:
    method, _ = fitted[name]
    scene, clip = make_scene(), object_input()
    masks = method.predict(clip).masks
    scores = [strict_frames(m, scene.amodal_masks[0], clip.modal) for m in (masks, masks | clip.modal)]
    assert (scores[0].iou == scores[1].iou).all()


@pytest.mark.parametrize("name", METHODS)
def test_needs_are_said(name: str, fitted: dict) -> None:
    method, _ = fitted[name]
    assert method.needs <= method.uses
    bare = ObjectInput("bare", object_input().modal)
    if method.needs:
        with pytest.raises(
            ValueError, match=f"clip: expected {', '.join(sorted(method.needs))} for {name}, got 'bare'"
        ):
            method.predict(bare)
    else:
        assert method.predict(bare).masks.shape == bare.modal.shape


def test_only_ours_draws_samples_and_seeds_come_from_the_name(fitted: dict) -> None:
    ours, _ = fitted["ours"]
    clip = object_input()
    both = ours.predict(clip, seed=1, samples=2)
    assert both.samples.shape == (2, *clip.modal.shape) and both.samples.dtype == np.bool_
    alone = ours.predict(clip, seed=1, samples=1)
    assert alone.samples is None and (alone.masks == both.samples[0]).all()  # the first of any number
    assert clip.seed(1) == object_input().seed(1) != object_input(name="scene/2").seed(1)
    assert clip.seed(1) != clip.seed(2)
    assert fitted["unet3d"][0].predict(clip, samples=3).samples is None
    low, high = (ours.predict(clip, seed=1, threshold=level).masks for level in (0.05, 0.95))
    assert (low | high == low).all() and low.sum() > high.sum()


def test_registry_and_heads(tmp_path: Path, fitted: dict) -> None:
    with pytest.raises(ValueError, match="got 'videomea' \\(did you mean 'videomae'\\?\\)"):
        find_method("videomea")
    with pytest.raises(ValueError, match="expected a fitted convex with method.json"):
        find_method("convex").load(tmp_path)
    with pytest.raises(ValueError, match="of convex in .* got diffvas-method 1 modal"):
        find_method("convex").load(fitted["modal"][1])
    (tmp_path / "method.json").write_text("[]")
    with pytest.raises(ValueError, match="expected a method in"):
        find_method("modal").load(tmp_path)
    with pytest.raises(ValueError, match="expected one of order, got 'ordr'"):
        as_options(ConvexROptions, {"ordr": "hull"})
    with pytest.raises(ValueError, match="order: expected one of hull, depth, got 'luck'"):
        as_options(ConvexROptions, {"order": "luck"})
    with pytest.raises(ValueError, match="depth: expected shape"):
        ObjectInput("x", np.zeros((2, 4, 4), bool), np.zeros((2, 4, 5), np.float32))
    for wrong in ({}, {"steps": 2, "seconds": 1.0}, {"steps": -1}):
        with pytest.raises(ValueError, match="budget: expected steps or seconds"):
            Budget(**wrong)


# ---------------------------------------------------------------------------------------------------------------------
# hulls


def hidden_corner() -> tuple[np.ndarray, np.ndarray]:
    """A square (object) whose lower right corner a second square covers; (modal, others), each (1, 12, 12)."""
    modal, others = np.zeros((1, 12, 12), bool), np.zeros((1, 12, 12), np.uint8)
    modal[0, 1:9, 1:9] = True
    others[0, 5:11, 5:11] = 2
    modal[others > 0] = False
    return modal, others


def test_hulls_keep_boxes() -> None:
    clips = [
        object_input(),
        object_input(index=1),
        ObjectInput("corner", hidden_corner()[0], others=hidden_corner()[1]),
    ]
    for clip in clips:
        boxes = [mask_boxes(encode_masks(new_method(n).predict(clip).masks)) for n in ("modal", "convex", "convexr")]
        assert (boxes[0] == boxes[1]).all() and (boxes[0] == boxes[2]).all()


def test_convexr_by_hand() -> None:
    modal, others = hidden_corner()
    hull = new_method("convex").predict(ObjectInput("a", modal)).masks
    added = hull & ~modal
    # the dent of the L: rows and columns 5 to 8, below the line from (5, 8) to (8, 5) included
    assert added.sum() == sum(1 for y in range(5, 9) for x in range(5, 9) if y + x <= 12)
    clip = ObjectInput("corner", modal, others=others)
    assert (new_method("convexr").predict(clip).masks == hull).all()  # all of it lies under the other square
    elsewhere = np.zeros_like(others)
    elsewhere[0, 5:11, 5:6] = 2  # only a strip of the square is an object, the rest is background
    expected = modal | (hull & (elsewhere > 0))
    assert (new_method("convexr").predict(ObjectInput("strip", modal, others=elsewhere)).masks == expected).all()
    front = ObjectInput("front", others > 0, others=modal.astype(np.uint8))
    assert (new_method("convexr").predict(front).masks == (others > 0)).all()


def test_order_by_depth_and_chains() -> None:
    modal, others = hidden_corner()
    near = np.where(others == 2, 0.9, 0.2).astype(np.float32)
    assert by_depth(others[0] == 2, modal[0], near[0]) > 0 > by_depth(modal[0], others[0] == 2, near[0])
    assert by_hull(others[0] == 2, modal[0]) > 0 > by_hull(modal[0], others[0] == 2)
    far = ObjectInput("far", modal, 1 - near, others=others)
    assert (ConvexR(ConvexROptions("depth")).predict(far).masks == modal).all()  # the square is behind: hides nothing
    with pytest.raises(ValueError, match="expected depth for convexr"):
        ConvexR(ConvexROptions("depth")).predict(ObjectInput("x", modal, others=others))
    apart = np.zeros((2, 5, 9), bool)
    apart[0, :, :3] = apart[1, :, 5:] = True
    assert not frame_order(apart, None, "hull").any()
    chain = np.zeros((4, 4), bool)
    chain[1, 0] = chain[2, 1] = chain[0, 2] = True  # 1 before 0, 2 before 1, and 0 before 2: a circle
    assert hiders(chain, 0) == [1, 2] and hiders(chain, 3) == []


@pytest.mark.parametrize("memory", [False, True])
def test_ours_is_what_complete_makes(memory: bool) -> None:
    from diffvas.methods.ours import Ours
    from diffvas.pipelines.completion import complete
    from diffvas.types import Clip

    method, clip = Ours(device="cpu"), object_input()
    method.model = replace(
        tiny_model(),
        content=None,
        focus=1.7,
        depth_rule=True,
        memory=memory,
        votes=0.5 * memory,
        halo=0.1,
        spread=memory,
    )
    answer = method.predict(clip, seed=5, samples=2)
    made = complete(
        Clip(clip.frames_u8, 8.0), clip.modal, model=method.model, depth=clip.depth, samples=2, seed=clip.seed(5)
    ).objects[0]
    assert (answer.masks == made.amodal_masks).all()
    assert np.allclose(answer.samples.mean(0), made.probability)
