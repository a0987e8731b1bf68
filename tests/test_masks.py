"""Masks in every mode that people's tools write, and one sentence for what is no mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from diffvas.masks import read_masks

T, H, W = 3, 6, 8
SHARED_CLIPS = Path(__file__).parents[2] / "shared" / "clips"
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [7] * 12


def labels() -> np.ndarray:
    """(T, H, W) uint8 with objects 1 and 3; object 3 is hidden in frames 1 and 2."""
    out = np.zeros((T, H, W), np.uint8)
    out[:2, 1:3, 1:4] = 1
    out[0, 3:5, 2:7] = 3
    out[2, 0, 0] = 1
    return out


def save_all(folder: Path, make: Callable[[int], Image.Image], suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(T):
        make(t).save(folder / f"{t:05d}{suffix}")
    return folder


def read(path: Path) -> dict[int, np.ndarray]:
    return {track.object_id: track.modal_masks for track in read_masks(path, (H, W), T)}


def assert_tracks(tracks: dict[int, np.ndarray], expected: dict[int, np.ndarray]) -> None:
    assert list(tracks) == list(expected)
    for object_id, masks in expected.items():
        assert tracks[object_id].dtype == np.bool_
        assert np.array_equal(tracks[object_id], masks)


def palette_image(values: np.ndarray, palette: list[int] = PALETTE) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette(palette)
    return image


BINARY = {
    "1": lambda m: Image.fromarray(m),
    "L 255": lambda m: Image.fromarray(m.astype(np.uint8) * 255),
    "L 1": lambda m: Image.fromarray(m.astype(np.uint8)),
    "I;16": lambda m: Image.fromarray(m.astype(np.uint16) * 65535),
    "P": lambda m: palette_image(m.astype(np.uint8)),
    "RGB white": lambda m: Image.fromarray(np.dstack([m.astype(np.uint8) * 255] * 3)),
    "RGB green": lambda m: Image.fromarray(np.dstack([m * 0, m * 200, m * 0]).astype(np.uint8)),
    "RGBA opaque": lambda m: Image.fromarray(np.dstack([m * 255] * 3 + [m * 0 + 255]).astype(np.uint8)),
    "RGBA clear background": lambda m: Image.fromarray(np.dstack([m * 0 + 255] * 3 + [m * 255]).astype(np.uint8)),
    "RGBA black on clear": lambda m: Image.fromarray(np.dstack([m * 0] * 3 + [m * 255]).astype(np.uint8)),
    "LA": lambda m: Image.fromarray(np.dstack([m * 255, m * 255]).astype(np.uint8), mode="LA"),
}


@pytest.mark.parametrize("mode", list(BINARY))
def test_binary_masks_are_object_1(tmp_path: Path, mode: str) -> None:
    masks = labels() == 1
    save_all(tmp_path / "m", lambda t: BINARY[mode](masks[t]))
    assert_tracks(read(tmp_path / "m"), {1: masks})


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_values_are_ids(tmp_path: Path, suffix: str) -> None:
    ids = labels()
    save_all(tmp_path, lambda t: Image.fromarray(ids[t]), suffix)
    assert_tracks(read(tmp_path), {1: ids == 1, 3: ids == 3})


def test_one_grey_value_that_is_not_white_is_an_id(tmp_path: Path) -> None:
    save_all(tmp_path, lambda t: Image.fromarray((labels()[t] == 1).astype(np.uint8) * 7))
    assert list(read(tmp_path)) == [7]


def test_16_bit_ids(tmp_path: Path) -> None:
    ids = labels().astype(np.uint16) * 300
    save_all(tmp_path, lambda t: Image.fromarray(ids[t]))
    assert_tracks(read(tmp_path), {300: ids == 300, 900: ids == 900})


def test_palette_indices_are_ids(tmp_path: Path) -> None:
    ids = labels()
    save_all(tmp_path, lambda t: palette_image(ids[t]))
    assert_tracks(read(tmp_path), {1: ids == 1, 3: ids == 3})


def test_palettes_that_disagree_are_read_by_colour(tmp_path: Path) -> None:
    ids = labels()
    swapped = [0, 0, 0, 128, 128, 0, 0, 128, 0, 128, 0, 0] + [7] * 12  # 1 and 3 exchanged
    exchange = np.array([0, 3, 2, 1], np.uint8)
    save_all(tmp_path, lambda t: palette_image(ids[t]) if t else palette_image(exchange[ids[t]], swapped))
    assert_tracks(read(tmp_path), {1: ids == 1, 2: ids == 3})


def test_a_palette_with_black_elsewhere_is_read_by_colour(tmp_path: Path) -> None:
    # what quantising a black and white picture gives: index 0 is white, 1 is black
    masks = labels() == 1
    save_all(tmp_path, lambda t: palette_image((~masks[t]).astype(np.uint8), [255, 255, 255, 0, 0, 0]))
    assert_tracks(read(tmp_path), {1: masks})


def test_colours_are_numbered_by_value(tmp_path: Path) -> None:
    ids = labels()
    table = np.array([[0, 0, 0], [200, 10, 0], [0, 0, 0], [0, 10, 250]], np.uint8)
    save_all(tmp_path, lambda t: Image.fromarray(table[ids[t]]))
    assert_tracks(read(tmp_path), {1: ids == 3, 2: ids == 1})


def test_grey_rgb_is_read_as_grey(tmp_path: Path) -> None:
    ids = labels()
    save_all(tmp_path, lambda t: Image.fromarray(np.dstack([ids[t]] * 3)))
    assert_tracks(read(tmp_path), {1: ids == 1, 3: ids == 3})


def test_blank_frames_of_another_mode_change_nothing(tmp_path: Path) -> None:
    # image optimisers store an all-black frame as 1-bit
    ids = labels()
    ids[2] = 0
    save_all(tmp_path, lambda t: palette_image(ids[t]) if t < 2 else Image.new("1", (W, H)))
    assert_tracks(read(tmp_path), {1: ids == 1, 3: ids == 3})


def soft_disc() -> np.ndarray:
    disc = np.zeros((80, 80), np.uint8)
    cv2.circle(disc, (40, 40), 25, 255, -1)
    return cv2.GaussianBlur(disc, (0, 0), 3)


def test_soft_edges_are_one_object(tmp_path: Path) -> None:
    disc = soft_disc()
    assert len(np.unique(disc)) > 33
    for name, image in (("L", Image.fromarray(disc)), ("RGB", Image.fromarray(np.dstack([disc] * 3)))):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.png")
        (track,) = read_masks(tmp_path / name, (80, 80), 1)
        assert track.object_id == 1 and np.array_equal(track.modal_masks[0], disc >= 128)


def test_jpeg_masks_are_one_object(tmp_path: Path) -> None:
    masks = np.zeros((T, 64, 64), bool)
    masks[:, 20:40, 10:50] = True
    save_all(tmp_path, lambda t: Image.fromarray(masks[t].astype(np.uint8) * 255), ".jpg")
    (track,) = read_masks(tmp_path, (64, 64), T)
    assert track.object_id == 1 and np.array_equal(track.modal_masks, masks)


def test_a_cut_out_photo_is_its_alpha(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (40, 40, 4), dtype=np.uint8)
    photo[..., 3] = 0
    photo[5:20, 5:30, 3] = 255
    Image.fromarray(photo).save(tmp_path / "0.png")
    (track,) = read_masks(tmp_path, (40, 40), 1)
    assert track.object_id == 1 and np.array_equal(track.modal_masks[0], photo[..., 3] == 255)


@pytest.mark.parametrize("mode", list(BINARY))
def test_a_folder_per_object(tmp_path: Path, mode: str) -> None:
    ids = labels()
    for object_id in (10, 3, 1):
        present = ids == (1 if object_id == 10 else object_id)
        save_all(tmp_path / f"{object_id:03d}", lambda t, present=present: BINARY[mode](present[t]))
    assert_tracks(read(tmp_path), {1: ids == 1, 3: ids == 3, 10: ids == 1})


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_label_arrays(tmp_path: Path, dtype: type) -> None:
    ids = labels().astype(dtype)
    np.savez(tmp_path / "a.npz", masks=ids, other=np.zeros(2, int))
    np.savez_compressed(tmp_path / "b.npz", ids)
    np.save(tmp_path / "c.npy", ids)
    for name in ("a.npz", "b.npz", "c.npy"):
        assert_tracks(read(tmp_path / name), {1: ids == 1, 3: ids == 3})


def test_mask_arrays(tmp_path: Path) -> None:
    ids = labels()
    both = np.stack([ids == 3, ids == 1])
    np.savez(tmp_path / "one.npz", masks=ids == 1)
    np.savez(tmp_path / "white.npz", masks=(ids == 1).astype(np.uint8) * 255)
    np.savez(tmp_path / "white16.npz", masks=(ids == 1).astype(np.uint16) * 65535)
    np.savez(tmp_path / "two.npz", masks=both)
    np.savez(tmp_path / "two8.npz", masks=both.astype(np.uint8) * 255)
    np.savez(tmp_path / "keys.npz", **{"12": ids == 1, "5": (ids == 3).astype(np.uint8)})
    np.savez(tmp_path / "key.npz", **{"4": ids == 3})
    assert_tracks(read(tmp_path / "one.npz"), {1: ids == 1})
    assert_tracks(read(tmp_path / "white.npz"), {1: ids == 1})
    assert_tracks(read(tmp_path / "white16.npz"), {1: ids == 1})
    assert_tracks(read(tmp_path / "two.npz"), {1: ids == 3, 2: ids == 1})
    assert_tracks(read(tmp_path / "two8.npz"), {1: ids == 3, 2: ids == 1})
    assert_tracks(read(tmp_path / "keys.npz"), {5: ids == 3, 12: ids == 1})
    assert_tracks(read(tmp_path / "key.npz"), {4: ids == 3})


BAD_ARRAYS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "count": ({"masks": labels()[:2]}, "expected 3 masks, one per frame, got 2"),
    "size": ({"masks": labels()[:, :5]}, "expected masks of 8 x 6 pixels like the frames, got 8 x 5"),
    "axes": ({"masks": labels()[0]}, r"expected shape \(T, H, W\) or \(N, T, H, W\), got \(6, 8\)"),
    "float": ({"masks": labels() / 3}, "expected bool or whole-number arrays, got dtype float64"),
    "empty": ({"masks": labels() * 0}, "expected at least one mask pixel in .*, got none in 3 frames"),
    "none": ({}, "got an empty file"),
    "negative": ({"masks": -labels().astype(int)}, "expected object ids of 1 or more, got -3"),
    "hidden": ({"masks": np.stack([labels() == 1, labels() == 9])}, "at least one mask pixel of object 2"),
    "hidden key": ({"1": labels() == 1, "2": labels() == 9}, "at least one mask pixel of object 2"),
    "names": ({"cat": labels(), "dog": labels()}, "one .* array per object id .* got 'cat'"),
    "zero": ({"0": labels() == 1, "1": labels() == 3}, "one .* array per object id .* got '0'"),
    "key count": ({"1": labels()[:2] == 1, "2": labels() == 3}, "expected 3 masks, one per frame, got 2"),
    "objects": ({"masks": np.array([None])}, "cannot be read"),
}


@pytest.mark.parametrize("name", list(BAD_ARRAYS))
def test_bad_arrays(tmp_path: Path, name: str) -> None:
    arrays, message = BAD_ARRAYS[name]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=f"^masks: .*{message}"):
        read(tmp_path / "bad.npz")


def test_too_many_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "depth.npz", masks=np.arange(900).reshape(1, 30, 30))
    with pytest.raises(ValueError, match="expected at most 255 objects, got 899"):
        read_masks(tmp_path / "depth.npz", (30, 30), 1)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match="expected at most 255 objects, got 1[0-9]{3}"):
        read_masks(tmp_path, (40, 40), 1)


def test_bad_folders(tmp_path: Path) -> None:
    good = save_all(tmp_path / "good", lambda t: Image.fromarray(labels()[t]))
    with pytest.raises(FileNotFoundError, match="^masks: expected a folder of images or an .npz file, got no such"):
        read(tmp_path / "absent")
    with pytest.raises(ValueError, match="^masks: expected 4 masks, one per frame, got 3 in"):
        read_masks(good, (H, W), 4)
    with pytest.raises(ValueError, match=r"^masks: expected masks of 9 x 6 pixels.*got 8 x 6 in 'good/00000\.png'"):
        read_masks(good, (H, 9), T)
    with pytest.raises(ValueError, match="^masks: expected at least one mask pixel in .*black', got none in 3 images"):
        read(save_all(tmp_path / "black", lambda t: Image.new("L", (W, H))))
    with pytest.raises(ValueError, match="at least one mask pixel"):
        read(save_all(tmp_path / "clear", lambda t: Image.new("RGBA", (W, H), (255, 255, 255, 0))))
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match="expected 3 masks, one per frame, got 0"):
        read(tmp_path / "void")
    (good / "00001.png").write_bytes((good / "00001.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"^masks: expected a readable image, got '.*00001\.png'"):
        read(good)
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"^masks: expected a folder of images or an .npz or .npy file, got the file"):
        read(tmp_path / "file.png")


def test_bad_folders_of_folders(tmp_path: Path) -> None:
    save_all(tmp_path / "a" / "1", lambda t: Image.fromarray(labels()[t]))
    save_all(tmp_path / "a" / "horse", lambda t: Image.fromarray(labels()[t]))
    with pytest.raises(ValueError, match="expected folders named by object id .*, got 'horse'"):
        read(tmp_path / "a")
    save_all(tmp_path / "b" / "1", lambda t: Image.new("1", (W, H)))
    with pytest.raises(ValueError, match="expected at least one mask pixel in '.*1', got none"):
        read(tmp_path / "b")
    save_all(tmp_path / "c" / "1", lambda t: Image.fromarray(labels()[t]))
    save_all(tmp_path / "c", lambda t: Image.fromarray(labels()[t]))
    with pytest.raises(ValueError, match="either images or one folder per object"):
        read(tmp_path / "c")


@pytest.mark.parametrize("name", ["birdcage", "horse", "person"])
def test_real_masks(name: str) -> None:
    folder = SHARED_CLIPS / name
    if not folder.is_dir():
        pytest.skip("the shared clips are not beside this checkout")
    with Image.open(folder / "frames" / "00000.jpg") as image:
        width, height = image.size
    (track,) = read_masks(folder / "masks", (height, width), 25)
    assert track.object_id == 1 and 0.01 < track.modal_masks.mean() < 0.5
