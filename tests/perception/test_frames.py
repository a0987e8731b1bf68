"""Clips that are read as they are needed, and masks that are written as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffvas.masks import read_masks
from diffvas.perception import labels, tracking
from diffvas.perception.classic import ClassicTracker
from diffvas.perception.frames import LazyClip
from diffvas.perception.prompts import BoxPrompt, ObjectPrompts, PointPrompt, Prompt
from diffvas.types import U8, Clip, ObjectTrack

COUNT = 30


class Reel:
    """What can only be read forwards; counts what is read."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames, self.read, self.starts = frames, 0, 0

    def __call__(self, numbers: Sequence[int]) -> Iterator[U8]:
        self.starts += 1
        for number in numbers:
            self.read += 1
            if number < len(self.frames):
                yield self.frames[number]


def reel(count: int = COUNT) -> Reel:
    return Reel(np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8))


@pytest.mark.parametrize("order", ["forwards", "backwards", "there and back", "jumps"])
def test_frames_in_any_order(order: str) -> None:
    film = reel()
    clip = LazyClip(film, COUNT, (4, 6), keep=5)
    assert (clip.num_frames, clip.size, clip.height, clip.width) == (COUNT, (4, 6), 4, 6)
    forth, back = list(range(COUNT)), list(range(COUNT - 1, -1, -1))
    jumps = np.random.default_rng(0).integers(0, COUNT, 60).tolist()
    orders = {"forwards": forth, "backwards": back, "there and back": forth + back, "jumps": jumps}
    for number in orders[order]:
        assert (clip.frames_u8[number] == number).all()
        assert len(clip._held) <= 5
    if order == "forwards":
        assert film.starts == 1 and film.read == COUNT
    if order == "there and back":  # five at a time, each read once
        assert film.starts <= 1 + COUNT // 5 and film.read <= 2 * COUNT


def test_a_few_steps_back_and_on_cost_nothing() -> None:
    film = reel()
    clip = LazyClip(film, COUNT, (4, 6), keep=5)
    for number in (0, 1, 2, 3, 1, 2, 3, 4, 8, 6, 9):
        assert (clip[number] == number).all()
    assert film.starts == 1 and film.read == 10
    with pytest.raises(IndexError):
        clip[COUNT]
    with pytest.raises(IndexError):
        clip[-1]
    with pytest.raises(ValueError, match="^clip: expected 12 frames, got none after 9"):
        LazyClip(reel(10), 12, (4, 6))[10]


def scene() -> tuple[Clip, list[ObjectPrompts]]:
    rng = np.random.default_rng(1)
    frames = np.repeat(rng.integers(90, 110, (1, 40, 64, 3), dtype=np.uint8), 12, 0)
    for t in range(12):
        frames[t, 5:17, 8 + 2 * t : 22 + 2 * t] = (200, 40, 40)
        frames[t, 22:36, 40 - 2 * t : 54 - 2 * t] = (40, 60, 200)
    given: list[tuple[Prompt, ...]] = [(PointPrompt(4, 22, 10),), (BoxPrompt(7, 25, 21, 41, 37),)]
    return Clip(frames), [ObjectPrompts(number, prompts) for number, prompts in zip((3, 1), given, strict=True)]


def test_a_lazy_clip_is_tracked_like_a_whole_one() -> None:
    clip, prompts = scene()
    film = Reel(clip.frames_u8)
    tracks, line = tracking.track_prompts(clip, prompts, "classic")
    ids, frames, lines = tracking.stream_prompts(LazyClip(film, clip.num_frames, clip.size, keep=4), prompts, "classic")
    assert film.read == 0  # nothing is done before a mask is asked for
    masks = np.stack(list(frames), 1)
    assert ids == [1, 3] == [track.object_id for track in tracks] and lines == line
    np.testing.assert_array_equal(masks, [track.modal_masks for track in tracks])
    with pytest.raises(ValueError, match="^point: expected a frame from 0 to 11"):  # but what is wrong shows at once
        tracking.stream_prompts(clip, [ObjectPrompts(1, (PointPrompt(12, 1, 1),))], "classic")


def test_what_is_held_for_a_frame_is_small() -> None:
    clip, prompts = scene()
    from diffvas.perception import classic

    packed: list[int] = []
    walk = classic._Walk(clip, prompts, None)
    for objects in (walk._sweep(walk.forward_order, walk.first, [{}, {}]),):
        packed += [len(item) for frames in objects for item in frames.values()]
    assert max(packed) < 0.5 * walk.size[0] * walk.size[1]
    logits = np.linspace(-4, 4, 40 * 64, dtype=np.float32).reshape(40, 64)
    back = classic._unpack(classic._pack(logits), (40, 64)) * (4 / 127)
    assert abs(back - logits).max() <= 4 / 127 / 2 + 1e-6


# ---------------------------------------------------------------------------------------------------------------------
# label images


def tracks_of(*numbers: int) -> list[ObjectTrack]:
    masks = np.zeros((len(numbers), 3, 8, 9), bool)
    for k in range(len(numbers)):
        masks[k, k % 3, k, 2:5] = True
    return [ObjectTrack(number, mask) for number, mask in zip(numbers, masks, strict=True)]


def test_masks_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = tracks_of(1, 7, 255)
    place = labels.save_masks(written, tmp_path / "deep" / "masks", {"by": "hand"})
    assert place == tmp_path / "deep" / "masks"
    assert sorted(p.name for p in place.iterdir()) == ["00000.png", "00001.png", "00002.png", "masks.json"]
    image = Image.open(place / "00001.png")
    assert image.mode == "P" and image.getpalette()[:3] == [0, 0, 0]  # type: ignore[index]
    for one, other in zip(read_masks(place, (8, 9), 3), written, strict=True):
        assert one.object_id == other.object_id
        np.testing.assert_array_equal(one.modal_masks, other.modal_masks)


def test_masks_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^ids: expected 1 to 255"):
        labels.save_masks(tracks_of(1, 256), tmp_path / "out")
    with pytest.raises(ValueError, match="^tracks: expected one or more of one shape"):
        labels.save_masks([], tmp_path / "out")

    def broken() -> Iterator[np.ndarray]:
        yield np.ones((1, 8, 9), bool)
        raise ValueError("object: nothing there")

    with pytest.raises(ValueError, match="nothing there"):
        labels.write_masks([1], broken(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_only_untouched_masks_are_replaced(tmp_path: Path) -> None:
    place = labels.save_masks(tracks_of(1, 2), tmp_path / "out")
    labels.save_masks(tracks_of(1), place)
    assert len(read_masks(place, (8, 9), 3)) == 1
    (place / "00001.png").unlink()
    with pytest.raises(ValueError, match="^out_dir: expected a new folder, got .* whose masks were changed"):
        labels.check_masks_dir(place)
    (tmp_path / "photos").mkdir()
    Image.new("L", (3, 3)).save(tmp_path / "photos" / "00000.png")
    with pytest.raises(ValueError, match="^out_dir: expected a new or empty folder"):
        labels.save_masks(tracks_of(1), tmp_path / "photos")
    assert (tmp_path / "photos" / "00000.png").is_file()


def test_the_tracker_says_at_the_end_what_was_never_seen() -> None:
    clip, prompts = scene()
    hidden = [prompts[0], ObjectPrompts(2, prompts[0].prompts)]  # the same point twice: one of them is left nothing
    stream = ClassicTracker().stream(clip, hidden)
    with pytest.raises(ValueError, match="^object: expected something visible of object|^point: expected an object"):
        for _ in stream:
            pass
