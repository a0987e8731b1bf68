"""Videos of any length: the files of an undisturbed run whatever happens on the way, and what is said if not."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffvas.cli.console import StageProgress
from diffvas.cli.main import main
from diffvas.export import save_completion
from diffvas.pipelines import job as job_module
from diffvas.pipelines import partial as partial_module
from diffvas.pipelines.completion import complete
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline
from diffvas.pipelines.job import JobOptions, complete_video
from diffvas.pipelines.partial import partial_folder
from diffvas.types import Clip, ObjectTrack
from diffvas.video import read_clip, write_mp4
from factories import tiny_model
from pixel_nets import model_with_nets

if TYPE_CHECKING:
    from diffvas.pipelines.loading import CompletionModel

HEIGHT, WIDTH = 32, 64


def moving(frames: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """A textured video with two objects that move, (T, H, W, 3) uint8 and labels (T, H, W) uint8."""
    rng = np.random.default_rng(frames)
    ground = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = np.zeros((frames, height, width), np.uint8)
    for t in range(frames):
        x = (2 * t) % (width // 2)
        labels[t, height // 4 : height // 2, x : x + width // 4] = 1
        labels[t, height // 2 : -4, width // 2 - 8 : width // 2 + 4] = 2
    video = np.where((labels == 1)[..., None], np.uint8(220), ground)
    return np.where((labels == 2)[..., None], np.uint8(40), video), labels


def write_inputs(folder: Path, frames: int, **size: int) -> tuple[Path, Path]:
    video, labels = moving(frames, **size)
    for name, images in (("frames", video), ("masks", labels)):
        (folder / name).mkdir(parents=True)
        for t, image in enumerate(images):
            Image.fromarray(image).save(folder / name / f"{t:05d}.png")
    return folder / "frames", folder / "masks"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def run(source: Path, masks: Path, out: Path, **options: Any) -> job_module.Report:
    return complete_video(source, masks, out, model=tiny_model(), options=JobOptions(**options))


@pytest.mark.parametrize("model", [tiny_model, model_with_nets], ids=["stages", "with networks on pixels"])
@pytest.mark.parametrize(
    ("frames", "options"),
    [
        (5, {"samples": 3}),
        (5, {"samples": 1, "margin": 0.25}),
        (13, {"samples": 2, "model_fps": "all"}),
        (9, {"samples": 2, "output": "mean-shape"}),
        (23, {"samples": 3, "output": "best", "model_fps": 8.0}),
    ],
)
def test_the_same_as_in_memory(
    model: Callable[[], CompletionModel], frames: int, options: dict[str, Any], tmp_path: Path
) -> None:
    """The stream from files to files, against arrays in memory: byte for byte, all files."""
    source, masks = write_inputs(tmp_path, frames)
    how = JobOptions(shots="none", **options)
    report = complete_video(source, masks, tmp_path / "out", model=model(), options=how)
    _, labels = moving(frames)
    tracks = [ObjectTrack(i, labels == i) for i in (1, 2)]
    save_completion(complete(read_clip(source), tracks, model=model(), **options), tmp_path / "plain")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "plain")
    assert not partial_folder(tmp_path / "out").exists()
    assert (report.num_frames, report.ids, report.shots) == (frames, (1, 2), 1)


def test_depth_from_images_is_as_depth_in_memory(tmp_path: Path) -> None:
    source, masks = write_inputs(tmp_path, 23)
    depth = np.random.default_rng(0).integers(0, 65536, (23, HEIGHT, WIDTH)).astype(np.uint16)
    (tmp_path / "depth").mkdir()
    for t, image in enumerate(depth):
        Image.fromarray(image).save(tmp_path / "depth" / f"{t:05d}.png")
    np.save(tmp_path / "depth.npy", depth)
    for name in ("depth", "depth.npy"):
        complete_video(source, masks, tmp_path / f"out-{name}", model=tiny_model(), depth=str(tmp_path / name))
    tracks = [ObjectTrack(i, moving(23)[1] == i) for i in (1, 2)]
    save_completion(complete(read_clip(source), tracks, model=tiny_model(), depth=depth), tmp_path / "plain")
    assert files_of(tmp_path / "out-depth") == files_of(tmp_path / "plain") == files_of(tmp_path / "out-depth.npy")


# ---------------------------------------------------------------------------------------------------------------------
# stopped and resumed

KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from factories import tiny_model
from diffvas.pipelines.job import JobOptions, complete_video
stage, least = sys.argv[5], int(sys.argv[6])
def progress(name, done, total):
    if name == stage and done >= least:
        os.kill(os.getpid(), signal.SIGKILL)
complete_video(*sys.argv[2:5], model=tiny_model(), options=JobOptions(samples=2), progress=progress)
"""


def test_killed_half_way_and_resumed(tmp_path: Path) -> None:
    """kill -9 between two windows, and between two frames of content: the same files as without."""
    source, masks = write_inputs(tmp_path, 20)
    run(source, masks, tmp_path / "whole", samples=2)
    out = tmp_path / "out"
    helpers = str(Path(__file__).parents[1])
    for stage, least in (("amodal", 5), ("write", 50)):
        words = [sys.executable, "-c", KILLED, helpers, str(source), str(masks), str(out), stage, str(least)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists() and partial_folder(out).is_dir()
    # what is done is usable: whole pictures under their final names
    masks_done = sorted((partial_folder(out) / "result" / "1" / "amodal_masks").glob("*.png"))
    assert len(masks_done) == 20 and np.asarray(Image.open(masks_done[0])).shape == (HEIGHT, WIDTH)
    steps: list[tuple[str, int, int]] = []
    complete_video(
        source, masks, out, model=tiny_model(), options=JobOptions(samples=2), progress=lambda *c: steps.append(c)
    )
    assert files_of(out) == files_of(tmp_path / "whole")
    assert not partial_folder(out).exists()
    for stage in ("amodal", "content", "write"):
        (*_, last) = [call for call in steps if call[0] == stage] or [("", 1, 1)]
        assert last[1] == last[2], "what an earlier process did counts"


class StopError(Exception):
    pass


def stop_after(stage: str, least: int) -> Any:
    def progress(name: str, done: int, total: int) -> None:
        if (name, done) >= (stage, least) and name == stage:
            raise StopError

    return progress


def test_resuming_computes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, masks = write_inputs(tmp_path, 30)
    calls = []
    before = DiffusionVASPipeline.denoise

    def counting(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(self)
        return before(self, *args, **kwargs)

    monkeypatch.setattr(DiffusionVASPipeline, "denoise", counting)
    run(source, masks, tmp_path / "whole")
    whole, calls[:] = len(calls), []
    with pytest.raises(StopError):
        complete_video(source, masks, tmp_path / "out", model=tiny_model(), progress=stop_after("content", 3))
    first, calls[:] = len(calls), []
    complete_video(source, masks, tmp_path / "out", model=tiny_model())
    # the window that was interrupted before it was on the shelf is drawn again
    assert whole <= first + len(calls) <= whole + 1
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize(("stage", "least"), [("amodal", 1), ("amodal", 3), ("content", 2), ("write", 20)])
def test_networks_on_pixels_resume_too(stage: str, least: int, tmp_path: Path) -> None:
    """Colours are read again for windows whose latents are there already."""
    source, masks = write_inputs(tmp_path, 20)
    complete_video(source, masks, tmp_path / "whole", model=model_with_nets())
    with pytest.raises(StopError):
        complete_video(source, masks, tmp_path / "out", model=model_with_nets(), progress=stop_after(stage, least))
    complete_video(source, masks, tmp_path / "out", model=model_with_nets())
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_ctrl_c_says_where_what_is_done_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, masks = write_inputs(tmp_path, 23)
    monkeypatch.setattr("diffvas.pipelines.loading.load_pipelines", lambda *names, **options: tiny_model())
    words = ["complete", str(source), "--masks", str(masks), "--out", str(tmp_path / "out"), "--samples", "2"]

    def interrupt(self: StageProgress, stage: str, done: int, total: int) -> None:
        if (stage, done) == ("write", 9):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "__call__", interrupt)
        assert main(words) == 130
    err = capsys.readouterr().err
    kept = tmp_path / ".out.partial" / "result"
    said = f"interrupted; what is done is in '{kept}', and the same command goes on from there"
    assert err == f"diffvas complete: stopped: {said}\n"
    assert len(list(kept.rglob("amodal_masks/*.png"))) == 9
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"going on with what is done in '{kept.parent}'\n")
    assert "out: 2 objects, 23 frames, 9 of them seen by the model, " in captured.out
    assert not kept.parent.exists() and (tmp_path / "out" / "preview.mp4").is_file()


def test_other_settings_are_refused_until_asked_to_restart(tmp_path: Path) -> None:
    source, masks = write_inputs(tmp_path, 23)
    with pytest.raises(StopError):
        complete_video(source, masks, tmp_path / "out", model=tiny_model(), progress=stop_after("write", 12))
    with pytest.raises(ValueError, match=r"expected the settings of the unfinished job .* \(seed: 0, now 1\)"):
        run(source, masks, tmp_path / "out", seed=1)
    report = run(source, masks, tmp_path / "out", seed=1, restart=True)
    assert json.loads((report.place / "result.json").read_text())["settings"]["seed"] == 1


def test_other_masks_are_refused(tmp_path: Path) -> None:
    source, masks = write_inputs(tmp_path, 23)
    with pytest.raises(StopError):
        complete_video(source, masks, tmp_path / "out", model=tiny_model(), progress=stop_after("write", 12))
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(masks / "00003.png")
    with pytest.raises(ValueError, match="unfinished job .*1: "):
        run(source, masks, tmp_path / "out")


def test_nothing_is_left_where_nothing_was_done(tmp_path: Path) -> None:
    source, masks = write_inputs(tmp_path, 5)
    with pytest.raises(StopError):
        complete_video(source, masks, tmp_path / "new" / "out", model=tiny_model(), progress=stop_after("amodal", 1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frames", "masks"]


def test_two_at_one_place(tmp_path: Path) -> None:
    with partial_module.open_partial(tmp_path / "out", {}) as part:
        part.write(1, "amodal_masks", 0, np.zeros((2, 2), np.uint8))
        with (
            pytest.raises(ValueError, match="expected no other process at work in"),
            partial_module.open_partial(tmp_path / "out", {}),
        ):
            pass


def test_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    folder = partial_folder(tmp_path / "out") / "result" / "1"
    folder.mkdir(parents=True)
    (folder / "mine.png").write_bytes(b"mine")
    with (
        pytest.raises(ValueError, match=r"without work/job\.json; move it away"),
        partial_module.open_partial(tmp_path / "out", {}),
    ):
        pass
    assert (folder / "mine.png").read_bytes() == b"mine"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, masks = write_inputs(tmp_path, 23)
    run(source, masks, tmp_path / "whole")
    real, written = partial_module.write_png, []

    def filling(path: Path, image: np.ndarray) -> None:
        written.append(path)
        if len(written) == 30:
            path.write_bytes(b"half a picture")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, image)

    monkeypatch.setattr(partial_module, "write_png", filling)
    with pytest.raises(OSError, match="no space is left for .*out'; what is done is kept beside it: make room"):
        run(source, masks, tmp_path / "out")
    kept = [p for p in partial_folder(tmp_path / "out").rglob("*.png")]
    assert len(kept) == 29 and not list(partial_folder(tmp_path / "out").rglob("*.half"))
    run(source, masks, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


# ---------------------------------------------------------------------------------------------------------------------
# how samples are drawn


def test_noise_levels_reach_the_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both intervals are in the sampling of both stages and in result.json."""
    source, masks = write_inputs(tmp_path, 5)
    before, drawn = DiffusionVASPipeline.denoise, []

    def recording(self: Any, conditions: Any, generators: Any, sampling: Any, *args: Any) -> torch.Tensor:
        drawn.append(sampling)
        return before(self, conditions, generators, sampling, *args)

    monkeypatch.setattr(DiffusionVASPipeline, "denoise", recording)
    options: dict[str, Any] = {"steps": 8, "guidance": 1.5, "interval": (0.1, 30.0), "evaluated": (0.05, math.inf)}
    report = run(source, masks, tmp_path / "out", **options)
    assert len(drawn) == 4, "two objects, two stages"
    assert {(s.interval, s.evaluated) for s in drawn} == {((0.1, 30.0), (0.05, math.inf))}
    settings = json.loads((report.place / "result.json").read_text())["settings"]
    for stage in ("amodal", "content"):
        assert (settings[stage]["interval"], settings[stage]["evaluated"]) == ([0.1, 30.0], [0.05, None])
    _, labels = moving(5)
    tracks = [ObjectTrack(i, labels == i) for i in (1, 2)]
    save_completion(complete(read_clip(source), tracks, model=tiny_model(), **options), tmp_path / "plain")
    assert files_of(report.place) == files_of(tmp_path / "plain")


def test_noise_levels_that_are_all_change_nothing(tmp_path: Path) -> None:
    video, labels = moving(5)
    settings, masks = [], []
    for evaluated in (None, (0.0, math.inf), (5.0, 40.0)):
        given = complete(
            Clip(video), labels == 1, model=tiny_model(), samples=2, steps=4, evaluated=evaluated, margin=0.25
        )
        settings.append(given.settings["amodal"])
        masks.append(given.objects[0].probability)
    assert settings[0] == settings[1] and "evaluated" not in settings[0]
    assert settings[2]["evaluated"] == [5.0, 40.0]
    assert np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[0], masks[2])


@pytest.mark.parametrize("name", ["interval", "evaluated"])
@pytest.mark.parametrize("levels", [(2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0,)])
def test_bad_noise_levels(name: str, levels: tuple[float, ...]) -> None:
    sentence = rf"^{name}: expected \(low, high\) sigmas with 0 <= low <= high, got "
    with pytest.raises(ValueError, match=sentence):
        JobOptions(**{name: levels})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=sentence):
        complete(Clip(moving(2)[0]), moving(2)[1] == 1, model=tiny_model(), **{name: levels})  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------
# a GPU without memory


def test_out_of_memory_goes_on_with_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, masks = write_inputs(tmp_path, 5)
    run(source, masks, tmp_path / "whole", samples=2)
    before, failures = DiffusionVASPipeline.denoise, [1]

    def failing(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        result = before(self, *args, **kwargs)
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result

    monkeypatch.setattr(DiffusionVASPipeline, "denoise", failing)
    model = tiny_model()
    monkeypatch.setattr(model.amodal, "fast", model.amodal.fast)
    said: list[str] = []
    calls: list[tuple[str, int, int]] = []
    complete_video(
        source,
        masks,
        tmp_path / "out",
        model=model,
        options=JobOptions(samples=2),
        notify=said.append,
        progress=lambda *call: calls.append(call),
    )
    assert said == ["the GPU's memory is full: going on with one sample and one image at a time, which is slower"]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert [c for c in calls if c[0] == "amodal"][-1] == ("amodal", 4, 4), "the failed attempt counts no steps"


def test_decoding_in_smaller_chunks_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffvas.pipelines.drawing import Guard

    pipe = tiny_model().amodal
    monkeypatch.setattr(pipe, "fast", pipe.fast)
    monkeypatch.setitem(pipe.config.defaults, "decode_chunk", 8)
    said: list[str] = []
    seen = []

    def work() -> int:
        seen.append(pipe.config.defaults["decode_chunk"])
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        Guard(said.append)(pipe, work)
    assert seen == [8, 8, 4, 2, 1] and len(said) == 4
    assert "4 of 8 frames decoded at a time, which can change the results a little" in said[1]


# ---------------------------------------------------------------------------------------------------------------------
# shots, times, bad input


def test_no_window_crosses_a_cut(tmp_path: Path) -> None:
    """Two shots; the first object is in the first one alone, and nothing of it is invented in the other."""
    video, labels = moving(48)
    video[24:] = 255 - video[24:, ::-1] // 3
    labels[24:] = 0
    labels[24:, 4:12, 40:60] = 2
    for name, images in (("frames", video), ("masks", labels)):
        (tmp_path / name).mkdir()
        for t, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{t:05d}.png")
    report = run(tmp_path / "frames", tmp_path / "masks", tmp_path / "out", samples=2)
    assert report.shots == 2
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["settings"]["shots"] == [0, 24]
    first = result["objects"][0]["frames"]
    assert sum(f["amodal_area"] > f["modal_area"] for f in first[:24]) > 4
    assert all(f["amodal_area"] == 0 and f["confidence"] is None for f in first[24:])
    # what is in the second shot has no say in the first one
    for t in range(24, 48):
        Image.fromarray(video[t] // 2 + 60).save(tmp_path / "frames" / f"{t:05d}.png")
    run(tmp_path / "frames", tmp_path / "masks", tmp_path / "other", samples=2)
    for t in range(24):
        name = f"1/content/{t:05d}.png"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert run(tmp_path / "frames", tmp_path / "masks", tmp_path / "one", shots="none").shots == 1


def test_video_files_with_times_of_their_own(tmp_path: Path) -> None:
    video, labels = moving(30)
    times = [t / 25 + (0.4 if t > 10 else 0) for t in range(30)]
    write_mp4(tmp_path / "clip.mp4", video, 25.0, times=times)
    np.savez(tmp_path / "masks.npz", masks=labels)
    report = run(tmp_path / "clip.mp4", tmp_path / "masks.npz", tmp_path / "out")
    assert report.num_frames == 30 and 5 < report.model_frames < 30
    preview = read_clip(report.place / "preview.mp4")
    assert preview.num_frames == 30
    for t in range(30):
        amodal = np.asarray(Image.open(report.place / "1" / "amodal_masks" / f"{t:05d}.png"))
        assert (amodal[labels[t] == 1] == 255).all(), "visible pixels are kept in every frame"


def test_a_video_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    video, labels = moving(60)
    write_mp4(tmp_path / "clip.mp4", video, 25.0)
    data = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    np.savez(tmp_path / "masks.npz", masks=labels)
    with pytest.raises(ValueError, match="expected"):
        run(tmp_path / "cut.mp4", tmp_path / "masks.npz", tmp_path / "out")
    assert not partial_folder(tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(17, 16001), (33, 51), (1, 1)])
def test_odd_and_very_wide(size: tuple[int, int], tmp_path: Path) -> None:
    frames, masks = tmp_path / "frames", tmp_path / "masks"
    for folder in (frames, masks):
        folder.mkdir()
    for t in range(3):
        Image.fromarray(np.full((*size, 3), 90 + t, np.uint8)).save(frames / f"{t}.png")
        Image.fromarray(np.ones(size, np.uint8)).save(masks / f"{t}.png")
    report = run(frames, masks, tmp_path / "out")
    assert np.asarray(Image.open(report.place / "1" / "content" / "00002.png")).shape == (*size, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": "some"}, "shots: expected one of auto, none, got 'some'"),
        ({"model_fps": 0}, "model_fps: expected auto, all or a number above 0, got 0"),
        ({"model_fps": "fast"}, "model_fps: expected auto, all or a number above 0, got 'fast'"),
        ({"margin": 0.6}, r"margin: expected a number from 0 to 0\.5, got 0\.6"),
        ({"margin": -0.1}, "margin: expected a number from 0"),
        ({"output": "first"}, "output: expected one of consensus, best, mean-shape, got 'first'"),
        ({"samples": 0}, "samples: expected a whole number of at least 1, got 0"),
        ({"sampler": "heun"}, "sampler: expected one of"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JobOptions(**options)


def test_interrupted_writes_leave_no_half_files(tmp_path: Path) -> None:
    from diffvas.export import whole_file

    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as temp:
        temp.write_bytes(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
