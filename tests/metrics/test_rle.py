"""Run-length masks against pycocotools, and what is refused before pycocotools sees it."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from diffvas.metrics import rle as runs


def random_mask(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 70, 2)
    return rng.random((height, width)) < rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_pycocotools_and_pixels(seed: int) -> None:
    mask = random_mask(seed)
    rle = runs.check_rle("mask", runs.encode(mask), mask.shape)
    np.testing.assert_array_equal(runs.decode(rle), mask)
    np.testing.assert_array_equal(coco.decode(rle), mask)
    again = coco.frPyObjects({"size": rle["size"], "counts": runs.run_lengths(rle["counts"]).tolist()}, *rle["size"])
    assert again["counts"].decode() == rle["counts"]
    rows, cols = np.nonzero(mask)
    box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1] if len(rows) else [0, 0, 0, 0]
    np.testing.assert_array_equal(runs.box(rle), box)
    window = (slice(mask.shape[0] // 3, mask.shape[0] - 1), slice(mask.shape[1] // 4, mask.shape[1]))
    np.testing.assert_array_equal(runs.decode(rle, *window), mask[window])


def test_long_runs_and_differences_that_go_down() -> None:
    mask = np.zeros((900, 1300), bool)
    mask[5:7, 3] = mask[200:880, 700:1200] = mask[-1, -1] = True
    rle = runs.encode(mask)
    np.testing.assert_array_equal(runs.decode(rle), mask)
    assert runs.run_lengths(rle["counts"]).sum() == mask.size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": "04"}, "add up to 2 x 3 = 6"),
        ({"counts": "6P"}, "breaks off"),
        ({"counts": "6\x07"}, "outside their code"),
        ({"counts": "6é"}, "outside their code"),
        ({"counts": "oooooooooooo6"}, "more than 50 bits"),
        ({"counts": "2O6"}, "a negative run"),
        ({"counts": None}, "expected counts as text or a list"),
        ({"counts": [2, "2", 2]}, "a negative run"),
        ({"counts": [2, 3]}, "add up to 2 x 3 = 6 pixels, got 5"),
        ({"size": [2, 0]}, "two whole numbers of 1 or more"),
        ({"size": [2, 4]}, "expected a mask of 2 x 3 .height x width., got 2 x 4"),
        ({"size": "2x3"}, "expected a size"),
    ],
)
def test_broken_masks_are_refused_by_name(change: dict, message: str) -> None:
    good = {"size": [2, 3], "counts": "213"}
    runs.check_rle("good", {"size": [2, 3], "counts": "222"}, (2, 3))
    with pytest.raises(ValueError, match=f"frame 7: .*{message}"):
        runs.check_rle("frame 7", good | change, (2, 3))


def test_what_is_no_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="x: expected a run-length mask with 'size' and 'counts', got list"):
        runs.check_rle("x", [1, 2])
    with pytest.raises(ValueError, match="one size"):
        runs.union(runs.empty((2, 3)), runs.empty((3, 2)))
    with pytest.raises(ValueError, match="add up to 2 x 3"):
        runs.decode({"size": [2, 3], "counts": "2"})


def test_lists_of_runs_become_compressed() -> None:
    rle = runs.check_rle("x", {"size": [2, 3], "counts": [1, 2, 3]})
    np.testing.assert_array_equal(runs.decode(rle).T.ravel(), [0, 1, 1, 0, 0, 0])


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    mask = np.array([[1, 0, 0, 1]], bool)
    np.testing.assert_array_equal(runs.decode(runs.resize_nearest(runs.encode(mask), (2, 2))), [[0, 1], [0, 1]])
    np.testing.assert_array_equal(
        runs.decode(runs.resize_nearest(runs.encode(mask), (1, 8)))[0], [1, 1, 0, 0, 0, 0, 1, 1]
    )
