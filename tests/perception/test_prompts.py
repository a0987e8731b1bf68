"""Prompts: what the command line says, grouped and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffvas.perception.prompts import (
    BoxPrompt,
    MaskPrompt,
    ObjectPrompts,
    PointPrompt,
    TextPrompt,
    check_prompts,
    group_prompts,
    parse_box,
    parse_mask,
    parse_point,
    parse_text,
)
from diffvas.types import Clip

CLIP = Clip(np.zeros((25, 40, 60, 3), np.uint8))


def save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path)
    return path


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("0,1,2", PointPrompt(0, 1.0, 2.0)),
        ("3, 10.5 ,20,+", PointPrompt(3, 10.5, 20.0)),
        ("3,10,20,-", PointPrompt(3, 10.0, 20.0, False)),
    ],
)
def test_points(text: str, point: PointPrompt) -> None:
    assert parse_point(text) == point
    assert parse_point(str(point).removeprefix("point ")) == point


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "1,2,3,x", "-1,2,3", "1.5,2,3", "a,2,3", "1,nan,3", "1,inf,3"])
def test_points_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="^point: expected t,x,y or .* got "):
        parse_point(text)


def test_boxes() -> None:
    assert parse_box("2,0,1,10,11.5") == BoxPrompt(2, 0.0, 1.0, 10.0, 11.5)
    for text in ("2,0,1,10", "2,0,1,10,x", "x,0,1,10,11"):
        with pytest.raises(ValueError, match="^box: expected t,x0,y0,x1,y1 "):
            parse_box(text)
    for text in ("2,5,1,5,9", "2,5,9,8,1"):
        with pytest.raises(ValueError, match="^box: expected x0 < x1 and y0 < y1, got an empty box"):
            parse_box(text)


def test_masks_of_every_kind(tmp_path: Path) -> None:
    truth = np.zeros((4, 6), bool)
    truth[1:3, 2:5] = True
    level = np.where(truth, 255, 0).astype(np.uint8)
    palette = Image.fromarray(np.where(truth, 3, 0).astype(np.uint8), "L").convert("P")
    palette.putpalette([255, 255, 255] + [0, 0, 0] * 255)  # what is background is white here: the index counts
    palette.putdata(np.where(truth, 3, 0).ravel().tolist())
    palette.save(tmp_path / "palette.png")
    cut_out = np.dstack([np.full((4, 6, 3), 90, np.uint8), level])
    files = [
        save(tmp_path / "grey.png", level),
        save(tmp_path / "one.png", level, "1"),
        save(tmp_path / "id.png", (level // 255 * 7).astype(np.uint8)),
        save(tmp_path / "rgb.png", np.dstack([level, level * 0, level * 0])),
        save(tmp_path / "rgba.png", cut_out),
        tmp_path / "palette.png",
    ]
    for file in files:
        prompt = parse_mask(f"7,{file}")
        assert prompt.frame == 7, file
        np.testing.assert_array_equal(prompt.mask, truth, err_msg=str(file))


def test_soft_masks_are_cut_in_the_middle(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(4, 64)
    np.testing.assert_array_equal(parse_mask(f"0,{save(tmp_path / 'soft.png', ramp)}").mask, ramp >= 128)


def test_masks_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    cases = {
        "file.png": "expected t,FILE",
        "x,file.png": "expected t,FILE",
        f"0,{tmp_path / 'none.png'}": "no such file",
        f"0,{tmp_path / 'broken.png'}": "cannot be decoded",
        f"0,{save(tmp_path / 'black.png', np.zeros((4, 6), np.uint8))}": "at least one pixel",
    }
    for text, words in cases.items():
        with pytest.raises(ValueError, match=f"^mask: .*{words}"):
            parse_mask(text)


def test_grouping() -> None:
    words = [
        ("point", "0,1,1"),
        ("object", "cup"),
        ("point", "3,5,5"),
        ("object", "dog"),
        ("box", "2,0,0,9,9"),
        ("object", "cup"),
        ("point", "9,6,6,-"),
        ("object", "all of them"),
        ("text", "the  red cup"),
    ]
    first, cup, dog, told = group_prompts(words)
    assert [(item.object_id, item.name) for item in (first, cup, dog, told)] == [
        (1, "1"), (2, "cup"), (3, "dog"), (4, "all of them"),
    ]  # fmt: skip
    assert cup.prompts == (PointPrompt(3, 5.0, 5.0), PointPrompt(9, 6.0, 6.0, False))
    assert (told.text, dog.text) == ("the red cup", None)
    frames = cup.by_frame()
    assert list(frames) == [3, 9] and (frames[3].starts, frames[9].starts) == (True, False)


def test_grouping_refuses() -> None:
    with pytest.raises(ValueError, match="^object: expected at least one prompt of object 'cup', got none"):
        group_prompts([("object", "cup")])
    for name in ("", "  ", "x" * 81, "a\x07"):
        with pytest.raises(ValueError, match="^object: expected a name"):
            group_prompts([("object", name), ("point", "0,1,1")])
    many = [word for i in range(256) for word in (("object", f"o{i}"), ("point", "0,1,1"))]
    with pytest.raises(ValueError, match="^object: expected at most 255 objects, got 256"):
        group_prompts(many)


def test_an_objects_prompts_must_fit_together() -> None:
    mask = MaskPrompt(0, np.ones((40, 60), bool))
    box, point, not_it = BoxPrompt(0, 1, 1, 9, 9), PointPrompt(0, 3, 3), PointPrompt(0, 3, 3, False)
    for prompts, words in (
        ((), "at least one prompt"),
        ((not_it, PointPrompt(4, 1, 1, False)), "got only negative points"),
        ((box, box), "one box on frame 0"),
        ((mask, point), "a mask alone on frame 0"),
        ((TextPrompt("cup"), point), "a text alone"),
    ):
        with pytest.raises(ValueError, match=words):
            ObjectPrompts(1, prompts)
    assert ObjectPrompts(1, (box, not_it)).by_frame()[0].starts  # a box says enough; the point takes a part away
    with pytest.raises(ValueError, match="^text: expected a few words"):
        parse_text("  ")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (PointPrompt(25, 1, 1), "^point: expected a frame from 0 to 24 of the clip, got 'point 25,1,1,\\+'"),
        (BoxPrompt(99, 1, 1, 2, 2), "^box: expected a frame from 0 to 24"),
        (PointPrompt(0, 60, 1), "^point: expected x below 60 and y below 40, inside the frame"),
        (PointPrompt(0, 1, -0.5), "^point: expected x below"),
        (BoxPrompt(0, 1, 1, 60.5, 9), "^box: expected a box inside the frame of 60 x 40 pixels"),
        (MaskPrompt(0, np.ones((60, 40), bool), "m.png"), "^mask: expected 60 x 40 .* got 40 x 60 in 'm.png'"),
    ],
)
def test_prompts_outside(prompt: PointPrompt, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_prompts([ObjectPrompts(1, (prompt,))], CLIP)


def test_prompts_inside() -> None:
    edges = (PointPrompt(24, 59.9, 39.9), BoxPrompt(0, 0, 0, 60, 40), PointPrompt(0, 0, 0))
    check_prompts([ObjectPrompts(1, edges)], CLIP)
    with pytest.raises(ValueError, match="^object: expected at least one object"):
        check_prompts([], CLIP)
    with pytest.raises(ValueError, match="^object: expected distinct object ids"):
        check_prompts([ObjectPrompts(1, edges), ObjectPrompts(1, edges)], CLIP)
