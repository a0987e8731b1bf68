"""The data types refuse what does not fit, in words that name the field, the expected and the given."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import diffvas
from diffvas.types import Clip, Completion, ObjectCompletion, ObjectTrack

T, H, W = 3, 4, 6


def make_clip() -> Clip:
    rng = np.random.default_rng(0)
    return Clip(rng.integers(0, 256, (T, H, W, 3), dtype=np.uint8))


def make_object(clip: Clip, object_id: int = 1, **changes: object) -> ObjectCompletion:
    modal = np.zeros((T, H, W), dtype=bool)
    modal[:, 1:3, 1:3] = True
    amodal = modal.copy()
    amodal[:, 1:3, 1:5] = True
    content = np.zeros((T, H, W, 4), dtype=np.uint8)
    content[amodal] = (9, 9, 9, 255)
    content[modal, :3] = clip.frames_u8[modal]
    fields = {"modal_masks": modal, "amodal_masks": amodal, "probability": None, "content_rgba": content}
    return ObjectCompletion(object_id, **{**fields, **changes})  # type: ignore[arg-type]


def test_clip_tells_its_size() -> None:
    clip = make_clip()
    assert (clip.num_frames, clip.height, clip.width, clip.size) == (T, H, W, (H, W))
    assert (clip.fps, clip.name) == (25.0, "clip")


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((T, H, W), np.uint8),
        np.zeros((T, H, W, 4), np.uint8),
        np.zeros((T, H, W, 3), np.float32),
        np.zeros((0, H, W, 3), np.uint8),
        np.zeros((T, 0, W, 3), np.uint8),
        [[1]],
    ],
)
def test_clip_refuses_other_frames(frames: object) -> None:
    with pytest.raises(ValueError, match=r"^frames_u8: expected a uint8 array of shape \(T, H, W, 3\).*got "):
        Clip(frames)  # type: ignore[arg-type]


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_clip_refuses_fps(fps: float) -> None:
    with pytest.raises(ValueError, match="^fps: expected a finite number above 0"):
        Clip(make_clip().frames_u8, fps=fps)


def test_types_are_frozen() -> None:
    with pytest.raises(AttributeError):
        make_clip().fps = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("object_id", [0, -1, True, 1.5, "1", None])
def test_track_refuses_ids(object_id: object) -> None:
    with pytest.raises(ValueError, match="^object_id: expected a whole number of 1 or more"):
        ObjectTrack(object_id, np.ones((T, H, W), bool))  # type: ignore[arg-type]


def test_track_allows_hidden_frames_but_not_a_hidden_clip() -> None:
    masks = np.zeros((T, H, W), bool)
    masks[1, 0, 0] = True
    track = ObjectTrack(np.int64(7), masks)  # type: ignore[arg-type]
    assert (track.num_frames, track.size) == (T, (H, W))
    with pytest.raises(ValueError, match="at least one visible pixel of object 7, got none in 3 frames"):
        ObjectTrack(7, np.zeros((T, H, W), bool))
    with pytest.raises(ValueError, match="^modal_masks: expected a bool array"):
        ObjectTrack(7, np.ones((T, H, W), np.uint8))  # type: ignore[arg-type]


def test_object_completion_refuses_what_disagrees() -> None:
    clip = make_clip()
    good = make_object(clip)
    bad_content = good.content_rgba.copy()
    bad_content[0, 1, 1, 3] = 254
    table: list[tuple[dict[str, object], str]] = [
        ({"amodal_masks": good.amodal_masks[:2]}, "^amodal_masks: expected .*like modal_masks"),
        ({"amodal_masks": np.zeros((T, H, W), bool)}, "^amodal_masks: expected to contain the modal masks, got 12"),
        ({"probability": np.full((T, H, W), 1.5, np.float32)}, r"^probability: expected values in \[0, 1\]"),
        ({"probability": np.full((T, H, W), np.nan, np.float32)}, r"^probability: expected values in \[0, 1\]"),
        ({"probability": np.zeros((T, H, W), np.float64)}, "^probability: expected a float32 array"),
        ({"content_rgba": bad_content}, "^content_rgba: expected alpha 255 on the amodal mask, got 1 pixels"),
        ({"content_rgba": good.content_rgba[..., :3]}, "^content_rgba: expected a uint8 array"),
    ]
    for changes, message in table:
        with pytest.raises(ValueError, match=message):
            make_object(clip, **changes)


def test_completion_checks_objects_against_the_clip() -> None:
    clip = make_clip()
    Completion(clip, (make_object(clip, 1), make_object(clip, 2)))
    with pytest.raises(ValueError, match=r"distinct object ids, got \[1, 1\]"):
        Completion(clip, (make_object(clip), make_object(clip)))
    changed = make_object(clip).content_rgba.copy()
    changed[0, 1, 1, 0] ^= 1
    with pytest.raises(ValueError, match="visible pixels identical to the clip's, got 1 changed"):
        Completion(clip, (make_object(clip, content_rgba=changed),))
    with pytest.raises(ValueError, match="expected masks of shape"):
        Completion(Clip(clip.frames_u8[:2]), (make_object(clip),))


def test_public_names_are_lazy() -> None:
    code = "import sys, diffvas; assert 'torch' not in sys.modules and 'cv2' not in sys.modules; print(diffvas.Clip)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "diffvas.types.Clip" in done.stdout
    assert set(diffvas.__all__) <= set(dir(diffvas))
    assert set(diffvas._HOME_OF) == set(diffvas.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = diffvas.nonsense
