"""What a person says stands in front: three layers of depth, alike in memory and in files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffvas.cli.main import main
from diffvas.pipelines.completion import complete
from diffvas.pipelines.depths import FAR, NEAR, OWN, layers, open_order
from diffvas.pipelines.job import JobOptions, complete_video
from diffvas.pipelines.material import ArrayTrack
from diffvas.types import Clip, ObjectTrack
from diffvas.video import read_clip, scan_clip
from factories import tiny_model

T, H, W = 12, 72, 128
BAR = slice(50, 66)  # columns of what stands in front


def scene() -> tuple[Clip, np.ndarray, np.ndarray, np.ndarray]:
    """A plain block that passes behind a bar: clip, what is visible, all of it, and the bar."""
    whole, bar = np.zeros((T, H, W), bool), np.zeros((T, H, W), bool)
    for t in range(T):
        whole[t, 20:50, 10 + 6 * t : 50 + 6 * t] = True
    bar[:, :, BAR] = True
    frames = np.random.default_rng(0).integers(90, 110, (T, H, W, 3)).astype(np.uint8)  # grey on grey tells nothing
    return Clip(frames, 8.0, "block"), whole & ~bar, whole, bar


def write(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for t, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{t:05d}.png")
    return folder


def test_three_layers() -> None:
    own, front = np.zeros((2, 200, 400), bool), np.zeros((2, 200, 400), bool)
    own[0, 50:100, 50:100], front[0, 50:100, 101:150] = True, True
    read = layers((200, 400), [ArrayTrack(own)], [ArrayTrack(front)])
    depth = read(0)
    assert depth.shape == (200, 400) and depth.dtype == np.float32
    assert (depth[own[0]] == OWN).all() and (depth[front[0]] == NEAR).all() and depth[0, 0] == FAR
    assert (depth[60:90, 100] == NEAR).all(), "masks that do not quite meet leave no gap"
    assert (depth[60:90, 150:] == FAR).all(), "and nothing is added elsewhere"
    assert (read(1) == FAR).all()
    itself = layers((200, 400), [ArrayTrack(own)], [ArrayTrack(own), ArrayTrack(front)])(0)
    assert (itself[own[0]] == NEAR).all(), "what is said to be in front is, also if it is an object"


def test_the_object_grows_behind_it_and_nowhere_else() -> None:
    clip, modal, whole, bar = scene()
    found = complete(clip, modal, model="tiny", in_front=bar).objects[0].amodal_masks
    hidden = whole & ~modal
    both = hidden.any((1, 2))
    share = (found & hidden).sum((1, 2))[both] / hidden.sum((1, 2))[both]
    assert share.mean() > 0.6, "most of what it hides is found"
    grown = np.zeros_like(bar)
    grown[:, :, BAR.start - 2 : BAR.stop + 2] = True
    assert not (found & ~modal & ~grown).any()
    nothing = complete(clip, modal, model="tiny", in_front=[]).objects[0].amodal_masks
    np.testing.assert_array_equal(nothing, modal, "where nothing stands in front nothing is hidden")


def test_files_and_memory_agree(tmp_path: Path) -> None:
    clip, modal, _, bar = scene()
    frames = write(tmp_path / "frames", clip.frames_u8)
    masks, front = write(tmp_path / "masks", modal), write(tmp_path / "front", bar)
    done = complete(read_clip(frames), modal, model=tiny_model(), in_front=[ObjectTrack(3, bar)])
    complete_video(
        frames, masks, tmp_path / "out", model=tiny_model(), in_front=front, options=JobOptions(shots="none")
    )
    for t, mask in enumerate(done.objects[0].amodal_masks):
        image = np.asarray(Image.open(tmp_path / "out" / "1" / "amodal_masks" / f"{t:05d}.png"))
        np.testing.assert_array_equal(image > 127, mask)
    written = json.loads((tmp_path / "out" / "result.json").read_text())["settings"]
    assert written["in_front"] is True and done.settings["in_front"] is True
    assert "in_front" not in complete(clip, modal, model=tiny_model(), depth=bar.astype(np.float32)).settings


def test_results_depend_on_what_it_shows(tmp_path: Path) -> None:
    clip, modal, _, bar = scene()
    footage = scan_clip(write(tmp_path / "frames", clip.frames_u8))
    keys = {open_order(tracks, [], footage).key for tracks in ([ObjectTrack(1, bar)], [ObjectTrack(1, modal)])}
    assert len(keys) == 2
    assert open_order([ObjectTrack(7, bar)], [], footage).key in keys, "what it is called does not matter"


def test_refused() -> None:
    clip, modal, _, bar = scene()
    with pytest.raises(ValueError, match="in_front: expected it or depth, got both"):
        complete(clip, modal, in_front=bar, depth=bar.astype(np.float32))
    with pytest.raises(ValueError, match=r"in_front: expected \(12, 72, 128\) frames, .*got \(11, 72, 128\)"):
        complete(clip, modal, in_front=bar[1:])
    with pytest.raises(ValueError, match="in_front: expected it or depth, got both"):
        complete_video("nowhere", "nothing", "out", in_front="front", depth="auto")


def test_the_command_line_refuses_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, modal, _, bar = scene()
    frames, masks = write(tmp_path / "frames", clip.frames_u8), write(tmp_path / "masks", modal)
    few = write(tmp_path / "few", bar[:2])
    table = {
        ("--in-front", str(few), "--depth", "auto"): "expected it or --depth, got both ('auto')",
        ("--in-front", str(few)): "expected 12 masks, one per frame, got 2",
        ("--in-front", str(tmp_path / "none")): "expected an existing file or folder, or numbers of objects of --masks",
    }
    for words, message in table.items():
        out = tmp_path / "out"
        assert main(["complete", str(frames), "--masks", str(masks), "--out", str(out), *words]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(error) == 1 and f"argument --in-front: {message}" in error[0], error
        assert not out.exists()
