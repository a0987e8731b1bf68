"""``diffvas complete`` from prompts: which options go together, bad prompts, and the way from a click to saved masks.

Stage 1 and 2 are replaced by what keeps the tracks: they are not what is tested.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
from PIL import Image

from diffvas.cli import main
from diffvas.cli.prompting import add_object_arguments, check_objects, find_objects, find_runs
from diffvas.masks import MaskRuns, read_masks
from diffvas.metrics.mask import iou
from diffvas.pipelines import job
from diffvas.types import ObjectTrack
from diffvas.video import Footage, read_clip, scan_clip, write_mp4

T, H, W = 4, 64, 96


def truth(x: int, y: int) -> np.ndarray:
    """(T, H, W): a disc that moves right by 4 pixels a frame."""
    rows, columns = np.mgrid[:H, :W]
    return np.stack([np.hypot(columns - x - 4 * t, rows - y) < 11 for t in range(T)])


RED, BLUE = truth(20, 18), truth(30, 46)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a video of two discs, as the current directory; no hub and an empty cache of it."""
    frames = np.full((T, H, W, 3), (70, 130, 60), np.uint8)
    frames[RED], frames[BLUE] = (200, 40, 40), (40, 60, 200)
    write_mp4(tmp_path / "discs.mp4", list(frames), 8.0)
    Image.fromarray(RED[0]).save(tmp_path / "red.png")
    Image.fromarray(RED[0][:10]).save(tmp_path / "small.png")
    Image.fromarray(RED[0] & False).save(tmp_path / "black.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[ObjectTrack]]:
    """The tracks that reach the pipeline, call by call."""
    calls: list[list[ObjectTrack]] = []

    def run_job(
        footage: Footage, cuts: list[int], tracks: list[MaskRuns], depth: Any, model: Any, out: str, *more: Any
    ) -> job.Report:
        masks = [np.stack([runs[t] for t in range(footage.num_frames)]) for runs in tracks]
        calls.append([ObjectTrack(runs.object_id, mask) for runs, mask in zip(tracks, masks, strict=True)])
        ids = tuple(runs.object_id for runs in tracks)
        return job.Report(Path(out), footage.num_frames, ids, len(cuts) + 1, footage.num_frames)

    monkeypatch.setattr(job, "run_job", run_job)
    monkeypatch.setattr("diffvas.cli.complete.load_model", lambda args: None)
    return calls


def complete(*words: str) -> int:
    return main.main(["complete", "discs.mp4", "--out", "out", *words])


CLICK = ("--point", "0,20,18")


def test_options_keep_their_order() -> None:
    parser = argparse.ArgumentParser()
    add_object_arguments(parser)
    assert parser.parse_args([]).prompts is None
    line = ["--object", "a", "--point", "0,1,2,-", "--box=0,1,1,5,5", "--object", "b", "--text", "the cup"]
    assert parser.parse_args(line).prompts == [
        ("object", "a"), ("point", "0,1,2,-"), ("box", "0,1,1,5,5"), ("object", "b"), ("text", "the cup"),
    ]  # fmt: skip
    assert parser.parse_args(["--point", "0,1,2"]).prompts == [("point", "0,1,2")]  # nothing left of the line before


# ---------------------------------------------------------------------------------------------------------------------
# good requests


def test_one_click(work: Path, seen: list[list[ObjectTrack]], capsys: pytest.CaptureFixture[str]) -> None:
    assert complete(*CLICK, "--tracker", "classic") == 0
    (track,) = seen[0]
    assert track.object_id == 1 and min(iou(a, b) for a, b in zip(track.modal_masks, RED, strict=True)) > 0.85
    captured = capsys.readouterr()
    assert "tracker: classic (no weights): colour, texture, optical flow\n" in captured.err
    assert re.search(r"track: (\d+)/\1\n", captured.err) and "objects:" not in captured.err
    assert captured.out.startswith("out: 1 object, 4 frames")


def test_auto_says_why_it_is_classic(
    work: Path, seen: list[list[ObjectTrack]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete("--mask", "0,red.png") == 0
    np.testing.assert_array_equal(seen[0][0].modal_masks[0], RED[0])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tracker: ")]
    assert "classic (no weights)" in line and "(auto: 'facebook/sam2.1-hiera-small' is neither" in line


def test_named_objects_mended_masks(
    work: Path, seen: list[list[ObjectTrack]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two objects, a name that comes again, masks saved, changed in one frame, and read again."""
    words = ["--object", "red", *CLICK, "--object", "blue", "--box", "1,23,35,46,58", "--object", "red"]
    words += ["--point", "0,50,40,-", "--tracker", "classic", "--save-masks", "masks"]
    assert complete(*words) == 0
    assert "objects: 1 = red, 2 = blue\n" in capsys.readouterr().err
    red, blue = (track.modal_masks for track in seen[0])
    assert iou(blue[3], BLUE[3]) > 0.85 and not (red & blue).any()
    saved = read_masks("masks", (H, W), T)
    assert [track.object_id for track in saved] == [1, 2]
    np.testing.assert_array_equal([track.modal_masks for track in saved], [red, blue])
    about = json.loads(Path("masks/masks.json").read_text())
    assert about["format"] == "diffvas-masks" and about["prompts"][1] == "--point 0,20,18"
    assert Image.open("masks/00000.png").mode == "P"

    assert complete(*words) == 0  # the same again: replaced
    label = Image.open("masks/00002.png")
    label.paste(0, (0, 32, W, H))
    label.save("masks/00002.png")
    assert complete(*words) == 2  # but what was mended stays
    assert "--save-masks: expected a new folder, got 'masks', whose masks were changed" in capsys.readouterr().err
    assert main.main(["complete", "discs.mp4", "--out", "out", "--masks", "masks"]) == 0
    assert not seen[-1][1].modal_masks[2].any()
    np.testing.assert_array_equal(seen[-1][0].modal_masks, red)


def test_a_video_read_as_it_is_needed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The way of long videos: the same masks as runs, kept on the disk or not, and masks of every frame as before."""
    parser = argparse.ArgumentParser()
    add_object_arguments(parser)
    footage = scan_clip("discs.mp4")
    found = []
    for more in ([], ["--save-masks", "masks"]):
        args = parser.parse_args(
            ["--object", "red", *CLICK, "--tracker", "classic", *more],
            argparse.Namespace(input="discs.mp4", device="cpu"),
        )
        (runs,) = find_runs(args, check_objects(args, work / "out"), footage, lambda *_: None)
        assert runs.object_id == 1 and min(iou(runs[t], RED[t]) for t in range(T)) > 0.85
        found.append([runs[t] for t in range(T)])
        assert "objects: 1 = red\n" in capsys.readouterr().err
    np.testing.assert_array_equal(found[0], found[1])
    (saved,) = find_objects(parser.parse_args(["--masks", "masks"]), [], read_clip("discs.mp4"), lambda *_: None)
    (again,) = find_runs(parser.parse_args(["--masks", "masks"]), [], footage, lambda *_: None)
    np.testing.assert_array_equal(saved.modal_masks, found[0])
    np.testing.assert_array_equal([again[t] for t in range(T)], found[0])


# ---------------------------------------------------------------------------------------------------------------------
# bad ones: the words, and how the one line goes on after "diffvas complete: error: argument "

BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), r"--masks: expected masks of every frame .*or a prompt \(.*got neither"),
    "both": ((*CLICK, "--masks", "red.png"), r"--masks: expected masks or prompts, got both \(--point\)"),
    "tracker alone": (("--masks", "red.png", "--tracker", "classic"), "--tracker: expected prompts to track, got"),
    "saving alone": (("--masks", "red.png", "--save-masks", "m"), "--save-masks: expected prompts to track, got masks"),
    "object alone": (("--object", "cup"), "--object: expected at least one prompt of object 'cup', got none"),
    "object without": ((*CLICK, "--object", "b"), "--object: expected at least one prompt of object 'b', got none"),
    "no name": (("--object", " ", *CLICK), "--object: expected a name of 1 to 80 characters, got ' '"),
    "not a point": (("--point", "20,18"), r"--point: expected t,x,y or t,x,y,- .*got '20,18'"),
    "right of it": (("--point", "0,96,18"), "--point: expected x below 96 and y below 64, .*got 'point 0,96,18,.'"),
    "above it": (("--point", "0,20,-1"), "--point: expected x below 96 and y below 64, inside the frame"),
    "after the end": (("--point", "4,20,18"), "--point: expected a frame from 0 to 3 of the clip, got 'point 4"),
    "before it": (("--point=-1,20,18",), r"--point: expected t,x,y .*got '-1,20,18'"),
    "box after it": (("--box", "9,1,1,5,5"), "--box: expected a frame from 0 to 3 of the clip, got 'box 9"),
    "box outside": (("--box", "0,50,50,97,60"), "--box: expected a box inside the frame of 96 x 64 pixels"),
    "empty box": (("--box", "0,5,5,5,9"), "--box: expected x0 < x1 and y0 < y1, got an empty box"),
    "two boxes": (("--box", "0,1,1,5,5", "--box", "0,2,2,5,5"), "--box: expected one box on frame 0 of object '1'"),
    "mask after it": (("--mask", "7,red.png"), "--mask: expected a frame from 0 to 3 of the clip, got 'mask 7"),
    "mask size": (("--mask", "0,small.png"), "--mask: expected 96 x 64 pixels like the frames, got 96 x 10"),
    "black mask": (("--mask", "0,black.png"), "--mask: expected at least one pixel of the object, got none"),
    "no such mask": (("--mask", "0,absent.png"), "--mask: expected an image file, got no such file 'absent.png'"),
    "mask and point": (("--mask", "0,red.png", *CLICK), "--mask: expected a mask alone on frame 0 of object '1'"),
    "negative alone": (("--point", "0,20,18,-"), "--point: expected a positive point, a box or a mask of object '1'"),
    "nothing there": (("--point", "0,85,5"), "--point: expected an object under 'point 0,85,5,.', got nothing"),
    "text without": (("--text", "the disc"), "--text: a text prompt with no text model: 'facebook/sam3' is neither"),
    "text to classic": (("--text", "disc", "--tracker", "classic"), "--text: a text prompt .*'classic' takes no words"),
    "text to sam2": (("--text", "disc", "--tracker", "sam2"), "--text: a text prompt .* 'sam2' takes no words"),
    "text and point": (("--text", "disc", *CLICK), "--text: expected a text alone, got 2 prompts of object '1'"),
    "empty text": (("--text", " "), "--text: expected a few words, got"),
    "tracker": ((*CLICK, "--tracker", "clasic"), "--tracker: expected auto, classic, .*did you mean classic"),
    "no weights": ((*CLICK, "--tracker", "sam2"), "--tracker: 'facebook/sam2.1-hiera-small' .*use --tracker classic"),
    "no model": ((*CLICK, "--tracker", "."), r"--tracker: expected config.json and model.safetensors in '.*', got no"),
    "save in a file": ((*CLICK, "--save-masks", "red.png"), "--save-masks: expected a folder, got 'red.png', which is"),
    "save over others": ((*CLICK, "--save-masks", "mine"), "--save-masks: expected a new or empty folder"),
    "save over out": ((*CLICK, "--save-masks", "out"), "--save-masks: expected a folder apart from --out"),
    "save in out": ((*CLICK, "--save-masks", "out/m"), "--save-masks: expected a folder apart from --out"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input(name: str, work: Path, seen: list[list[ObjectTrack]], capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = BAD[name]
    (work / "mine").mkdir()
    Image.fromarray(RED[0]).save(work / "mine" / "00000.png")
    tracker = () if {"--tracker", "--masks"} & set(words) else ("--tracker", "auto")
    if name == "nothing there":
        tracker = ("--tracker", "classic")
    before = sorted(work.rglob("*"))
    assert complete(*words, *(tracker if words else ())) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and not seen and sorted(work.rglob("*")) == before
    assert captured.err.count("\n") == 1
    assert re.search(f"^diffvas complete: error: argument {expected}", captured.err), captured.err
