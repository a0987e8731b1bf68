"""``diffvas complete``: bad input in full, the happy path, and what happens when something fails on the way.

The pipeline is replaced by a small one wherever it is not what is tested.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffvas
from diffvas import export
from diffvas.cli import main
from diffvas.types import Clip, Completion, ObjectCompletion, ObjectTrack
from diffvas.video import read_clip, write_mp4

T, H, W = 4, 48, 64
DRAWING = ("samples", "steps", "sampler", "guidance", "interval", "evaluated", "seed")
SHARED_CLIPS = Path(__file__).parents[3] / "shared" / "clips"


def fake_complete(clip: Clip, tracks: list[ObjectTrack], **settings: Any) -> Completion:
    """Every object grows by one pixel to the right; the new pixels are grey."""
    progress = settings.pop("progress")
    depth = settings.pop("depth")
    objects = []
    for i, track in enumerate(tracks):
        amodal = track.modal_masks.copy()
        amodal[:, :, 1:] |= track.modal_masks[:, :, :-1]
        content = np.zeros((*amodal.shape, 4), np.uint8)
        content[amodal] = (128, 128, 128, 255)
        content[track.modal_masks, :3] = clip.frames_u8[track.modal_masks]
        objects.append(ObjectCompletion(track.object_id, track.modal_masks, amodal, None, content))
        progress("masks", i + 1, len(tracks))
    settings["model"] = str(settings["model"])
    settings["depth"] = None if depth is None else [float(depth.min()), float(depth.max())]
    return Completion(clip, tuple(objects), settings, {"masks": 0.5})


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The pipeline's module, replaced; it counts its calls."""
    module = ModuleType("diffvas.pipelines.job")
    module.calls = 0  # type: ignore[attr-defined]

    def complete(*args: Any, **kwargs: Any) -> Completion:
        module.calls += 1  # type: ignore[attr-defined]
        return fake_complete(*args, **kwargs)

    def run_job(footage: Any, cuts: Any, runs: Any, depth: Any, model: Any, out: Any, options: Any, *told: Any) -> Any:
        tracks = [ObjectTrack(r.object_id, np.stack([r[t] for t in range(len(r))])) for r in runs]
        given = None if depth.read is None else np.stack([depth.read(t) for t in range(footage.num_frames)])
        module.options = options  # type: ignore[attr-defined]
        asked = {name: getattr(options, name) for name in DRAWING}
        done = module.complete(  # type: ignore[attr-defined]
            read_clip(footage.path), tracks, model=model, depth=given, progress=told[0], **asked
        )
        export.save_completion(done, out, told[0], source=footage.path)
        counts = {"num_frames": footage.num_frames, "model_frames": footage.num_frames, "shots": len(cuts) + 1}
        ids = [track.object_id for track in tracks]
        return SimpleNamespace(ids=ids, check={1: [0, 1, 3]}, seconds=done.seconds, **counts)

    module.complete, module.run_job = complete, run_job  # type: ignore[attr-defined]
    module.JobOptions = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diffvas.pipelines.job", module)
    loading = ModuleType("diffvas.pipelines.loading")
    module.loaded = []  # type: ignore[attr-defined]

    def load_pipelines(name: str, device: str, **options: Any) -> str:
        module.loaded.append({"device": device, **options})  # type: ignore[attr-defined]
        return name

    loading.load_pipelines, loading.OFFICIAL = load_pipelines, ("owner/one",)  # type: ignore[attr-defined]
    loading.OFFICIAL_LICENCE = "some licence"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diffvas.pipelines.loading", loading)
    return module


def make_frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (T, H, W, 3), dtype=np.uint8)


def make_labels() -> np.ndarray:
    labels = np.zeros((T, H, W), np.uint8)
    labels[:-1, 10:20, 10:30] = 1
    labels[:, 25:40, 5:20] = 2
    return labels


def write_images(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for t, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{t:05d}.png")
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with a good clip, good masks, good depth, and everything bad."""
    root = tmp_path / "in"
    write_images(root / "frames", make_frames())
    write_images(root / "masks", make_labels())
    np.savez(root / "masks.npz", masks=make_labels())
    np.savez(root / "depth.npz", depth=np.linspace(0, 9, T * H * W).reshape(T, H, W))
    write_images(root / "few_masks", make_labels()[:2])
    write_images(root / "small_masks", make_labels()[:, :40])
    write_images(root / "black_masks", make_labels() * 0)
    write_images(root / "cut_masks", make_labels())
    (root / "cut_masks" / "00002.png").write_bytes((root / "masks" / "00002.png").read_bytes()[:30])
    write_images(root / "cut_frames", make_frames())
    (root / "cut_frames" / "00001.png").write_bytes((root / "frames" / "00001.png").read_bytes()[:900])
    write_images(root / "mixed_frames", make_frames())
    Image.new("RGB", (W, H + 2)).save(root / "mixed_frames" / "00003.png")
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("no video\n" * 99)
    write_mp4(root / "whole.mp4", [np.roll(make_frames()[0], t, 1) for t in range(30)], 25.0)
    video = (root / "whole.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(video[: len(video) // 2])
    holes = np.zeros((T, H, W))
    holes[1, 2, 3] = np.nan
    np.savez(root / "holes.npz", depth=holes)
    np.savez(root / "flat.npz", depth=np.zeros((H, W)))
    (root / "taken.txt").write_text("mine")
    (root / "full").mkdir()
    (root / "full" / "thesis.txt").write_text("mine")
    return root


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


# name: (the arguments that differ from a good request, how the line goes on after "diffvas complete: error: ")
BAD: dict[str, tuple[dict[str, str], str]] = {
    "no such video": ({"INPUT": "absent.mp4"}, "argument INPUT: expected an existing .*got no such path '.*absent"),
    "text": ({"INPUT": "notes.txt"}, "argument INPUT: expected a video file, got .*notes.txt'"),
    "truncated": ({"INPUT": "cut.mp4"}, "argument INPUT: expected .*got .*cut.mp4"),
    "no frames": ({"INPUT": "empty"}, "argument INPUT: expected images .*got no frames"),
    "cut frame": ({"INPUT": "cut_frames"}, r"argument INPUT: expected a readable image, got .*00001\.png"),
    "sizes": ({"INPUT": "mixed_frames"}, "argument INPUT: expected images of one size, got 64 x 48 .* 64 x 50"),
    "no such masks": ({"--masks": "absent"}, "argument --masks: expected an existing .*got no such path"),
    "mask count": ({"--masks": "few_masks"}, "argument --masks: expected 4 masks, one per frame, got 2"),
    "mask size": ({"--masks": "small_masks"}, "argument --masks: expected masks of 64 x 48 pixels .*got 64 x 40"),
    "no mask pixel": ({"--masks": "black_masks"}, "argument --masks: expected at least one mask pixel .*got none"),
    "no masks": ({"--masks": "empty"}, "argument --masks: expected 4 masks, one per frame, got 0"),
    "cut mask": ({"--masks": "cut_masks"}, r"argument --masks: expected a readable image, got .*00002\.png"),
    "mask file": ({"--masks": "notes.txt"}, "argument --masks: expected a folder .*got the file"),
    "out is a file": ({"--out": "taken.txt"}, "argument --out: expected a folder, got .*which is a file"),
    "out in a file": ({"--out": "taken.txt/out"}, "argument --out: expected a folder, got .*inside the file"),
    "out is full": ({"--out": "full"}, "argument --out: expected a new or empty folder .*thesis.txt"),
    "out is input": ({"--out": "frames"}, "argument --out: expected "),
    "out holds input": ({"--out": "."}, "argument --out: expected "),
    "steps 0": ({"--steps": "0"}, "argument --steps: expected a whole number of 1 or more, got '0'"),
    "steps x": ({"--steps": "many"}, "argument --steps: expected a whole number of 1 or more, got 'many'"),
    "samples 0": ({"--samples": "0"}, "argument --samples: expected a whole number of 1 or more, got '0'"),
    "samples -1": ({"--samples": "-1"}, "argument --samples: expected a whole number of 1 or more, got '-1'"),
    "seed": ({"--seed": "-1"}, "argument --seed: expected a whole number from 0 to [0-9]+, got '-1'"),
    "device": ({"--device": "tpu"}, "argument --device: expected one of auto, cpu, cuda, got 'tpu'"),
    "model": ({"--model": "huge"}, "argument --model: expected tiny, official, a folder .*got 'huge'"),
    "model path": ({"--model": "./a/b"}, "argument --model: expected tiny, official, a folder .*got './a/b'"),
    "no such depth": ({"--depth": "absent.npz"}, "argument --depth: .*absent.npz"),
    "depth shape": ({"--depth": "flat.npz"}, r"argument --depth: expected shape .* = \(4, 48, 64\).*got \(48, 64\)"),
    "guidance": ({"--guidance": "-1"}, "argument --guidance: expected a number of 0 or more, got '-1'"),
    "sampler": ({"--sampler": "heun"}, "argument --sampler: expected one of euler, ays, dpm.., got 'heun'"),
    "depth count": ({"--depth": "few_masks"}, "argument --depth: expected 4 images, one per frame, got 2"),
    "output": ({"--output": "first"}, "argument --output: expected one of consensus, best, mean-shape, got 'first'"),
    "shots": ({"--shots": "3"}, "argument --shots: expected one of auto, none, got '3'"),
    "model fps": ({"--model-fps": "0"}, "argument --model-fps: expected auto, all or a number above 0, got '0'"),
    "margin": ({"--margin": "0.7"}, "argument --margin: expected a number from 0 to 0.5, got '0.7'"),
    "depth colour": ({"--depth": "frames"}, "argument --depth: expected grey .*got mode RGB"),
}
PATHS = ("INPUT", "--masks", "--out", "--depth")


def request(root: Path, **changes: str) -> list[str]:
    """The command line of a good request with some arguments changed; paths are inside ``root``."""
    values = {"INPUT": "frames", "--masks": "masks", "--out": "../out", **changes}
    words = ["complete"]
    for name, value in values.items():
        path = str(root / value) if name in PATHS and value != "none" else value
        words += [path] if name == "INPUT" else [name, path]
    return words


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input(
    name: str, inputs: Path, pipeline: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    changes, expected = BAD[name]
    before = snapshot(tmp_path)
    assert main.main(request(inputs, **changes)) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert_matches(f"^diffvas complete: error: {expected}", captured.err)
    assert snapshot(tmp_path) == before
    assert pipeline.calls == 0  # type: ignore[attr-defined]


def test_bad_noise_levels(inputs: Path, pipeline: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    table = {
        ("40", "0.05"): "expected LOW and HIGH, LOW first, got 40 0.05",
        ("-1", "2"): "expected a number of 0 or more, got '-1'",
        ("0", "inf"): "expected a number of 0 or more, got 'inf'",
        ("1",): "expected 2 arguments",
    }
    for option in ("--guidance-interval", "--evaluated"):
        for levels, expected in table.items():
            assert main.main([*request(inputs), option, *levels]) == 2
            assert capsys.readouterr().err == f"diffvas complete: error: argument {option}: {expected}\n"
    assert pipeline.calls == 0  # type: ignore[attr-defined]


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), f"expected {pattern!r}, got {text!r}"


def test_missing_and_unknown_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    table = {
        ("complete",): "the following arguments are required: INPUT, --out",
        ("complete", "a", "--masks", "b", "--out", "c", "--speed", "9"): "unrecognized arguments: --speed 9",
        ("complete", "a", "--masks"): "argument --masks: expected one argument",
    }
    for words, message in table.items():
        assert main.main(words) == 2
        assert capsys.readouterr().err == f"diffvas complete: error: {message}\n"
    assert main.main(["compleat"]) == 2
    pattern = "^diffvas: error: argument VERB: expected one of .*complete.*, got 'compleat'\n$"
    assert_matches(pattern, capsys.readouterr().err)


def test_cuda_where_there_is_none(inputs: Path, pipeline: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert main.main(request(inputs, **{"--device": "cuda"})) == 2
    assert_matches("argument --device: expected a device of this machine, got 'cuda'", capsys.readouterr().err)


# ---------------------------------------------------------------------------------------------------------------------
# good requests


@pytest.mark.parametrize("masks", ["masks", "masks.npz"])
def test_good_request(
    masks: str, inputs: Path, pipeline: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    numbers = {"--samples": "3", "--steps": "5", "--seed": "7"}
    assert main.main(request(inputs, **{"--masks": masks, "--depth": "depth.npz"}, **numbers)) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    drawn = dict.fromkeys(DRAWING) | {"samples": 3, "steps": 5, "seed": 7}
    assert result["settings"] == {"model": "tiny", "depth": [0.0, 9.0], **drawn}
    assert [obj["id"] for obj in result["objects"]] == [1, 2]
    assert result["clip"]["num_frames"] == T
    captured = capsys.readouterr()
    first, second = captured.out.splitlines()
    assert_matches(r"out: 2 objects, 4 frames, [0-9.]+ s in all, masks 0\.5 s$", first)
    assert second == "worth checking, for the samples disagree: object 1, frames 0-1, 3"
    assert captured.err.splitlines() == [f"depth: {inputs / 'depth.npz'}", "masks: 2/2", "write: 12/12"]


def test_defaults_are_left_to_the_model(inputs: Path, pipeline: ModuleType, tmp_path: Path) -> None:
    assert main.main(request(inputs, **{"--depth": "none"})) == 0
    settings = json.loads((tmp_path / "out" / "result.json").read_text())["settings"]
    assert settings == {"model": "tiny", "depth": None, **dict.fromkeys(DRAWING), "seed": 0}
    (loaded,) = pipeline.loaded  # type: ignore[attr-defined]
    where = {"device": "auto", "dtype": "auto", "offload": "none", "compiled": False}
    assert loaded == {"behaviour": "default", "content": True, **where}


def test_how_to_sample_and_where(inputs: Path, pipeline: ModuleType, tmp_path: Path) -> None:
    words = ["--only-masks", "--compile", "--guidance-interval", "0.1", "30", "--evaluated", "0.05", "40", "--restart"]
    words += ["--output", "best", "--shots", "none", "--model-fps", "6", "--margin", "0.25"]
    options = {"--sampler": "dpm++", "--guidance": "2", "--behaviour": "faithful", "--dtype": "float32"}
    assert main.main(request(inputs, **options) + words) == 0
    settings = json.loads((tmp_path / "out" / "result.json").read_text())["settings"]
    assert (settings["sampler"], settings["guidance"], settings["interval"]) == ("dpm++", 2.0, [0.1, 30.0])
    assert settings["evaluated"] == [0.05, 40.0]
    given = pipeline.options  # type: ignore[attr-defined]
    assert (given.output, given.shots, given.model_fps) == ("best", "none", 6.0)
    assert (given.margin, given.restart) == (0.25, True)
    (loaded,) = pipeline.loaded  # type: ignore[attr-defined]
    assert loaded["behaviour"] == "faithful" and loaded["dtype"] == "float32"
    assert loaded["compiled"] is True and loaded["content"] is False


def test_gaps_in_depth_are_filled_and_counted(
    inputs: Path, pipeline: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(request(inputs, **{"--depth": "holes.npz"})) == 0
    assert_matches("1 of 12288 values unknown, filled from the nearest known", capsys.readouterr().err)


def test_licences_are_told(inputs: Path, pipeline: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(request(inputs, **{"--model": "official"})) == 0
    assert "model: owner/one (some licence)\n" in capsys.readouterr().err


def test_the_same_request_replaces_its_output(inputs: Path, pipeline: ModuleType, tmp_path: Path) -> None:
    assert main.main(request(inputs)) == 0
    first = snapshot(tmp_path)
    assert main.main(request(inputs)) == 0
    assert snapshot(tmp_path) == first


@pytest.mark.weights
def test_end_to_end_with_the_bundled_model(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = Path(diffvas.__file__).parent / "weights" / "tiny"
    if not any(weights.rglob("*.safetensors")):
        pytest.skip("the bundled weights are not in this checkout")
    words = request(inputs, **{"--samples": "2", "--steps": "1", "--device": "cpu"})
    assert main.main(words) == 0, capsys.readouterr().err
    out = tmp_path / "out"
    first = snapshot(out)
    assert json.loads(first["result.json"])["settings"]["samples"] == 2
    frames, labels = make_frames(), make_labels()
    for object_id in (1, 2):
        for t in range(T):
            content = np.asarray(Image.open(out / str(object_id) / "content" / f"{t:05d}.png"))
            amodal = np.asarray(Image.open(out / str(object_id) / "amodal_masks" / f"{t:05d}.png"))
            seen = labels[t] == object_id
            assert (amodal[seen] == 255).all()
            assert np.array_equal(content[seen][:, :3], frames[t][seen])
            assert np.array_equal(content[..., 3], amodal)
        assert len(list((out / str(object_id) / "probability").iterdir())) == T
    # the same seed gives the same files, whatever the number of other objects
    np.savez(inputs / "one.npz", **{"2": labels == 2})
    assert main.main([*words[:3], str(inputs / "one.npz"), *words[4:]]) == 0
    alone = snapshot(out)
    assert {name: data for name, data in alone.items() if name.startswith("2/")} == {
        name: data for name, data in first.items() if name.startswith("2/")
    }


@pytest.mark.parametrize("name", ["birdcage", "horse", "person"])
def test_real_clips_are_read(name: str, pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = SHARED_CLIPS / name
    if not folder.is_dir():
        pytest.skip("the shared clips are not beside this checkout")
    seen: list[tuple[int, ...]] = []

    def stop_here(clip: Clip, tracks: list[ObjectTrack], **settings: Any) -> Completion:
        seen.extend([clip.frames_u8.shape, *(track.modal_masks.shape for track in tracks)])
        raise ValueError("clip: far enough")

    monkeypatch.setattr(pipeline, "complete", stop_here)
    words = ["complete", str(folder / "frames"), "--masks", str(folder / "masks"), "--out", str(tmp_path / "out")]
    assert main.main(words) == 2
    assert len(seen) == 2 and seen[0][0] == 25 and seen[0][:3] == seen[1]


# ---------------------------------------------------------------------------------------------------------------------
# failures on the way


def raising(error: BaseException) -> Callable[..., Completion]:
    def complete(*args: Any, **kwargs: Any) -> Completion:
        kwargs["progress"]("masks", 0, 2)
        raise error

    return complete


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("model: expected a folder\nof ours, got 'x/y'"), 2, "error: model: expected a folder of ours, got"),
        (FileNotFoundError("no weights in 'x'"), 2, "error: no weights in 'x'"),
        (OSError(28, "No space left on device"), 1, r"error: \[Errno 28\] No space left on device"),
        (MemoryError(), 1, "error: out of memory"),
        (OutOfMemoryError("CUDA out of memory"), 1, "error: CUDA out of memory"),
        (KeyboardInterrupt(), 130, "stopped: interrupted, nothing written"),
    ],
)
def test_failures_are_one_line(
    error: BaseException,
    status: int,
    line: str,
    inputs: Path,
    pipeline: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    before = snapshot(tmp_path)
    monkeypatch.setattr(pipeline, "complete", raising(error))
    assert main.main(request(inputs)) == status
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert_matches(f"^diffvas complete: {line}", err)
    assert snapshot(tmp_path) == before


def test_bugs_keep_their_traceback(inputs: Path, pipeline: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "complete", raising(KeyError("bug")))
    with pytest.raises(KeyError):
        main.main(request(inputs))
    monkeypatch.setenv("DIFFVAS_DEBUG", "1")
    monkeypatch.setattr(pipeline, "complete", raising(ValueError("asked for")))
    with pytest.raises(ValueError, match="asked for"):
        main.main(request(inputs))


@pytest.mark.parametrize(("error", "status"), [(OSError(28, "No space left on device"), 1), (KeyboardInterrupt(), 130)])
def test_failures_while_writing_leave_nothing(
    error: BaseException,
    status: int,
    inputs: Path,
    pipeline: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    before = snapshot(tmp_path)

    def full_disk(path: Path, image: np.ndarray) -> None:
        path.write_bytes(b"half a picture")
        raise error

    monkeypatch.setattr(export, "write_png", full_disk)
    assert main.main(request(inputs)) == status
    assert snapshot(tmp_path) == before


WAITING = """
import signal, sys, time, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from diffvas.cli import main
module = types.ModuleType("diffvas.pipelines.job")
def run_job(*args):
    args[7]("masks", 1, 1)
    time.sleep(120)
module.run_job, module.JobOptions = run_job, types.SimpleNamespace
sys.modules["diffvas.pipelines.job"] = module
loading = types.ModuleType("diffvas.pipelines.loading")
loading.load_pipelines, loading.OFFICIAL = (lambda name, device, **options: name), ()
sys.modules["diffvas.pipelines.loading"] = loading
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(number: signal.Signals, status: int, inputs: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    words = [sys.executable, "-c", WAITING, *request(inputs)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "masks: 1/1\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err and err.count("\n") <= 1
    assert snapshot(tmp_path) == before


# ---------------------------------------------------------------------------------------------------------------------
# the command itself


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diffvas.cli.main", *words], capture_output=True, text=True, check=False, timeout=120
    )


def test_help_and_bad_requests_do_not_load_torch(inputs: Path) -> None:
    code = (
        "import sys; from diffvas.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    bad_masks = request(inputs, **{"--masks": "few_masks"})
    for words in (["--help"], ["complete", "--help"], bad_masks):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_exit_status_of_the_process(inputs: Path) -> None:
    done = run_command(*request(inputs, **{"--masks": "black_masks"}))
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
