"""Object clips, crops, the canvas, and JSON files that are read record by record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dataset_files as files
from diffvas.data import records
from diffvas.data.base import (
    Crop,
    ObjectClip,
    ObjectClips,
    crop_clip,
    cut_windows,
    decode_rles,
    frame_number,
    image_size,
    on_canvas,
    read_images,
    read_labels,
)
from diffvas.data.datasets import open_objects
from diffvas.data.movi import crop_window
from diffvas.metrics.box import boxes_from_canvas, mask_boxes
from diffvas.metrics.rle import encode_masks
from factories import FRAMES, HEIGHT, WIDTH, make_scene

SCENE = make_scene()


def clip(**changes: object) -> ObjectClip:
    values = {"name": "a", "group": "g", "family": "", "frames": tuple("abcde"), "modal": SCENE.modal_mask(0)}
    return ObjectClip(**(values | {"amodal": SCENE.amodal_masks[0]} | changes))  # type: ignore[arg-type]


def test_what_a_clip_refuses() -> None:
    with pytest.raises(ValueError, match="a: expected every frame once, got 'a' twice"):
        clip(frames=tuple("aabcd"))
    with pytest.raises(ValueError, match=r"expected modal masks \(T, H, W\) bool of 5 frames, got uint8"):
        clip(modal=SCENE.modal_mask(0).astype(np.uint8))
    with pytest.raises(ValueError, match="of 4 frames"):
        clip(frames=tuple("abcd"))
    with pytest.raises(ValueError, match=r"expected amodal masks \(5, 32, 64\) bool like the modal ones"):
        clip(amodal=SCENE.amodal_masks[0][:4])
    with pytest.raises(ValueError, match="expected 5 numbers, one per frame, got 1"):
        clip(numbers=(1,))
    with pytest.raises(ValueError, match="expected 5 boxes"):
        clip(boxes=np.zeros((0, 4)))
    wrong = clip(readers={"frames": lambda: np.zeros((5, 8, 8, 3), np.uint8)})
    with pytest.raises(
        ValueError, match=r"expected frames of shape \(5, 32, 64, 3\) like the masks, got \(5, 8, 8, 3\)"
    ):
        wrong.frames_u8()


def test_visible_share_by_hand() -> None:
    modal, amodal = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    amodal[0, :2, :2], modal[0, 0, 0] = True, True  # a quarter
    amodal[1, :2, :2] = True  # hidden
    amodal[2, 0, 0], modal[2, 0, 0], modal[2, 3, 3] = True, True, True  # a visible pixel outside does not count
    shares = clip(frames=tuple("abcd"), modal=modal, amodal=amodal).visible()
    assert shares[:3].tolist() == [0.25, 0, 1] and np.isnan(shares[3])
    boxes = np.array([[0, 0, 2, 2.0]] * 4)
    assert clip(frames=tuple("abcd"), modal=modal, amodal=None, boxes=boxes).visible()[:2].tolist() == [0.25, 0]
    assert np.isnan(clip(amodal=None).visible()).all()


def test_names_that_stand_twice_are_a_problem() -> None:
    clips = ObjectClips("kind", "there", [("a", 1), ("b", 2), ("a", 3)], lambda entry: clip(name=str(entry)))
    assert clips.names == ["a", "b"] and clips[0].name == "1" and [c.name for c in clips[:5]] == ["1", "2"]
    assert clips[-1].name == "2" and len(clips) == 2
    with pytest.raises(ValueError, match="path: expected every object once, got 'a' a second time"):
        clips.raise_problems()
    with pytest.raises(IndexError):
        clips[2]


def test_whatever_a_reader_stumbles_over_names_the_object() -> None:
    clips = ObjectClips("kind", "there", [("a", {})], lambda entry: entry["missing"])
    with pytest.raises(ValueError, match=r"a: expected whole files of kind, got others \(KeyError\('missing'\)\)"):
        clips[0]


def test_the_canvas_of_tao() -> None:
    readers = {"frames": lambda: SCENE.frames_u8, "depth": lambda: np.full((5, 32, 64), 0.5, np.float32)}
    boxes = np.array([files.BOX] * FRAMES)
    large = on_canvas(clip(readers=readers, boxes=boxes))
    assert large.padding == (8, 16) and large.size == (48, 96)
    assert large.modal.sum() == SCENE.modal_mask(0).sum() and large.modal[0, 24, 46]  # (16, 30) of the frame
    frames, depth = large.frames_u8(), large.depth()
    assert frames is not None and depth is not None
    np.testing.assert_array_equal(frames[:, 8:-8, 16:-16], SCENE.frames_u8)
    assert not frames[:, :8].any() and (depth[:, :, :16] == 1).all() and (depth[:, 8:-8, 16:-16] == 0.5).all()
    assert large.boxes is boxes
    assert large.amodal is not None
    modal = mask_boxes(encode_masks(SCENE.modal_mask(0)))
    found = boxes_from_canvas(encode_masks(large.amodal), (HEIGHT, WIDTH), modal)
    np.testing.assert_array_equal(found, mask_boxes(encode_masks(SCENE.amodal_masks[0])))
    with pytest.raises(ValueError, match="expected whole frames, got 'a', which is cropped or on a canvas"):
        on_canvas(large)


def test_crop_windows_by_hand() -> None:
    # rows 8 to 24 and columns 16 to 32, doubled about (16, 24): rows 0 to 32, columns 8 to 40, the last one taken in
    assert crop_window([0.25, 0.25, 0.75, 0.5], (32, 64)) == [0, 32, 8, 41]
    # odd sides are rounded down, the frame's corner clips
    assert crop_window([0, 0, 3 / 32, 5 / 64], (32, 64)) == [0, 5, 0, 8]
    assert crop_window([31 / 32, 63 / 64, 1, 1], (32, 64)) == [30, 32, 62, 64]


def test_a_crop_is_undone() -> None:
    windows = np.array([[4, 28, 10, 58]] * FRAMES)  # 24 x 48, to 48 x 96: twice as large
    cropped = crop_clip(clip(readers={"frames": lambda: SCENE.frames_u8}), Crop(windows, (HEIGHT, WIDTH), (48, 96)))
    assert cropped.size == (48, 96) and cropped.crop is not None
    assert cropped.modal.sum() == 4 * SCENE.modal_mask(0)[:, 4:28, 10:58].sum()
    inside = np.zeros_like(SCENE.modal_mask(0))
    inside[:, 4:28, 10:58] = SCENE.modal_mask(0)[:, 4:28, 10:58]
    np.testing.assert_array_equal(cropped.crop.undo(cropped.modal), inside)
    frames = cropped.frames_u8()
    assert frames is not None and frames.shape == (FRAMES, 48, 96, 3)


def test_crops_of_one_scale() -> None:
    masks = np.ones((2, 16, 16), bool)
    crop = Crop(np.array([[0, 16, 0, 8], [4, 8, 2, 6]]), (16, 16), (32, 32), one_scale=True)
    cropped = crop.apply(masks)
    assert cropped[0].all()
    assert cropped[1].sum() == 8 * 16 and cropped[1, :8, :16].all()  # 4 rows of 16 and 4 columns of 8
    back = crop.undo(cropped)
    assert back[0].sum() == 128 and back[1].sum() == 16 and back[1, 4:8, 2:6].all()
    depth = crop.apply(np.ones((2, 16, 16), np.float32))
    assert depth.dtype == np.float32 and depth[1, 20, 20] == 0


def test_movi_cropped(tmp_path: Path) -> None:
    clips = open_objects(files.write_movi(tmp_path), crop=True)
    ball, plate = clips
    assert ball.size == (128, 128) and ball.numbers == (0, 1, 3, 4) and plate.numbers == (0, 1, 2, 3, 4)
    assert ball.crop is not None and ball.crop.windows[0].tolist() == [0, 32, 8, 41]
    inside = np.zeros_like(SCENE.amodal_masks[0])
    inside[:, :, 8:41] = SCENE.amodal_masks[0][:, :, 8:41]
    assert ball.amodal is not None
    np.testing.assert_array_equal(ball.crop.undo(ball.amodal), inside[[0, 1, 3, 4]])
    frames, depth = ball.frames_u8(), ball.depth()
    assert frames is not None and frames.shape == (4, 128, 128, 3) and depth is not None


def test_movid_amodal_cropped(tmp_path: Path) -> None:
    ball = open_objects(files.write_movi(tmp_path, c2f=True), crop=True)[0]
    assert ball.size == (256, 256) and ball.counted is not None and ball.crop is not None
    assert ball.counted.tolist() == [True, True, False, True, True] and ball.numbers == (0, 1, 2, 3, 4)
    assert ball.crop.windows[2].tolist() == [0, 32, 0, 64] and ball.crop.windows[1].tolist() == [0, 32, 8, 41]
    np.testing.assert_array_equal(ball.crop.undo(ball.modal)[2], SCENE.modal_mask(0)[2])
    assert not ball.modal[1][:, 140:].any()  # 33 of 64 columns at the clip's one scale


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_records_in_chunks_of_any_size(chunk: int, tmp_path: Path) -> None:
    wanted = [{"a": "}{][,\\"}, {"b": [1, 2.5, None]}, {}, {"c": "München"}]
    for text in (json.dumps(wanted), json.dumps(wanted, indent=1, ensure_ascii=False)):
        path = tmp_path / "list.json"
        path.write_text(text, encoding="utf-8")
        found = list(records.scan_records(path, chunk))
        assert [record for _, record in found] == wanted
        assert [records.read_record(path, place) for place, _ in found] == wanted


def test_broken_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    for text, message in (
        ('[{"a": 1}, {"b": 2', "expected whole JSON in '.*list.json', got .* at 18"),
        ('[{"a": 1}', "expected whole JSON"),
        ('{"a": 1}', "expected a JSON list of objects"),
        ('[{"a": 1}, 3]', "expected a list of objects in .*, got '3]'"),
        ("", "expected a JSON list"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            list(records.scan_records(path))
    path.write_text("[]")
    assert list(records.scan_records(path)) == [] and records.first_record(path) == {}
    path.write_text('[{"a": 1}]')
    with pytest.raises(ValueError, match="has changed at 3"):
        records.read_record(path, (3, 6))


def test_run_lengths_of_a_clip() -> None:
    mask = np.zeros((1, 3, 4), bool)
    mask[0, 1, 2] = True
    rle = encode_masks(mask)[0]
    assert decode_rles("here", [None, rle]).sum((1, 2)).tolist() == [0, 1]
    assert decode_rles("here", [None], (3, 4)).shape == (1, 3, 4)
    with pytest.raises(ValueError, match="here: expected a mask in one frame at least"):
        decode_rles("here", [None])
    with pytest.raises(ValueError, match="here, frame 1: expected a mask of 3 x 4 "):
        decode_rles("here", [rle, encode_masks(np.ones((1, 2, 2), bool))[0]])
    with pytest.raises(ValueError, match="here, frame 0: expected runs that add up to"):
        decode_rles("here", [{"size": [3, 4], "counts": "1"}])


def test_pictures_and_labels(tmp_path: Path) -> None:
    files.save(tmp_path / "a.png", np.zeros((4, 6, 3), np.uint8))
    files.save(tmp_path / "b.png", np.zeros((4, 5, 3), np.uint8))
    (tmp_path / "c.png").write_bytes(b"nothing")
    assert image_size(tmp_path / "a.png") == (4, 6)
    with pytest.raises(ValueError, match="expected 6 x 4 pixels like .*a.png', got 5 x 4 in .*b.png"):
        read_images([tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(ValueError, match="expected a readable picture, got .*c.png"):
        image_size(tmp_path / "c.png")
    with pytest.raises(ValueError, match="found no file"):
        image_size(tmp_path / "d.png")
    with pytest.raises(ValueError, match="at least one picture"):
        read_images([])
    with pytest.raises(ValueError, match="expected 6 x 4 pixels, got 5 x 4 in .*b.png"):
        read_labels(tmp_path / "b.png", (4, 6))
    with pytest.raises(ValueError, match="found no file"):
        read_labels(tmp_path / "d.png")


def test_numbers_and_windows() -> None:
    assert frame_number("val/x2/frame0391.jpg", 7) == 391 and frame_number("frame.jpg", 7) == 7
    assert frame_number("clip_12_left.png", 7) == 12
    assert [list(w) for w in cut_windows(7, 3, 2)] == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert cut_windows(2, 3, 1) == [] and cut_windows(3, 3, 25) == [range(3)]
