"""``diffvas complete --in-front NAMES``: some of the objects stand in front of the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffvas.cli import complete as command
from diffvas.cli.main import main
from factories import tiny_model

T, H, W = 6, 72, 128
BAR = slice(60, 78)
SEEN = "expected an existing file or folder"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A bright square that passes behind a dark bar; beside the frames a folder of labels: 1 the square, 2 the bar."""
    rng = np.random.default_rng(3)
    for name in ("frames", "labels"):
        (tmp_path / name).mkdir()
    for t in range(T):
        label = np.zeros((H, W), np.uint8)
        label[20:50, 20 + 9 * t : 50 + 9 * t] = 1
        label[:, BAR] = 2
        colours = np.array([[90, 120, 90], [230, 180, 40], [30, 30, 160]], np.float32)[label]
        noisy = colours + rng.normal(0, 4, colours.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "frames" / f"{t:05d}.png")
        Image.fromarray(label).save(tmp_path / "labels" / f"{t:05d}.png")
    return tmp_path


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_model", lambda args: tiny_model())


def complete(clip: Path, *words: str) -> int:
    return main(["complete", str(clip / "frames"), "--out", str(clip / "out"), "--shots", "none", *words])


def amodal(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) > 127 for p in sorted((folder / "1" / "amodal_masks").glob("*.png"))])


def test_numbers_of_masks_say_what_masks_of_it_say(clip: Path) -> None:
    assert complete(clip, "--masks", str(clip / "labels"), "--in-front", "2") == 0
    settings = json.loads((clip / "out" / "result.json").read_text())
    assert settings["settings"]["in_front"] is True
    named = amodal(clip / "out")
    assert not (clip / "out" / "2").exists(), "what stands in front is not completed"
    for name, number in (("square", 1), ("bar", 2)):
        (clip / name).mkdir()
        for path in sorted((clip / "labels").iterdir()):
            Image.fromarray(np.where(np.asarray(Image.open(path)) == number, 255, 0).astype(np.uint8)).save(
                clip / name / path.name
            )
    assert complete(clip, "--masks", str(clip / "square"), "--in-front", str(clip / "bar")) == 0
    np.testing.assert_array_equal(amodal(clip / "out"), named)


def test_prompted_objects_by_name(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = ["--object", "square", "--box", "0,20,20,50,50", "--object", "bar", "--box", "0,60,0,78,72"]
    assert complete(clip, *prompts, "--tracker", "classic", "--in-front", "bar") == 0
    assert "depth: in front is bar\n" in capsys.readouterr().err
    assert (clip / "out" / "1").is_dir() and not (clip / "out" / "2").exists()


def test_masks_of_the_object_and_prompts_of_what_hides_it(clip: Path) -> None:
    box = ("--object", "bar", "--box", "0,60,0,78,72")
    assert complete(clip, "--masks", str(clip / "labels"), *box, "--tracker", "classic", "--in-front", "bar") == 0
    assert (clip / "out" / "1").is_dir() and (clip / "out" / "2").is_dir(), "all objects of the masks are completed"
    settings = json.loads((clip / "out" / "result.json").read_text())["settings"]
    assert settings["in_front"] is True


BOTH = ("--object", "square", "--point", "0,30,30", "--object", "bar", "--point", "0,70,5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--masks", "labels", "--in-front", "nowhere"), f"{SEEN}, or numbers of objects of --masks, got no such path"),
        (("--masks", "labels", "--in-front", "7"), "expected numbers of objects (1, 2), got 7"),
        (("--masks", "labels", "--in-front", "1,2"), "expected an object beside these to complete, got all of them"),
        ((*BOTH, "--in-front", "bird"), f"{SEEN}, or names given by --object (square, bar), got 'bird'"),
        ((*BOTH, "--in-front", "bar, square"), "expected an object beside these to complete, got all of them"),
        ((*BOTH, "--in-front", ""), f"{SEEN}, or names given by --object (square, bar), got ''"),
        (
            ("--masks", "labels", *BOTH, "--in-front", "bar"),
            "expected beside --masks prompts of what stands in front alone, got 'square' too",
        ),
        (
            (*BOTH, "--object", "leaves", "--text", "leaves", "--in-front", "leaves"),
            "expected an object shown by points, boxes or a mask, got 'leaves'",
        ),
    ],
)
def test_refused(clip: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = tuple(str(clip / word) if word == "labels" else word for word in words)
    assert complete(clip, *words) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1 and f"argument --in-front: {said}" in error[0], error
    assert not (clip / "out").exists()
