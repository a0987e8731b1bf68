"""``diffvas train``: bad input in full, one walk through the steps with tiny settings, and what is shown meanwhile."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from diffvas.cli import main, train
from diffvas.train.log import report_lines
from diffvas.train.vae import tiny_vae


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: an empty folder, a file, and a folder with something else in it."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


BAD = {
    "no step": ("", "WHAT"),
    "unknown step": (
        "amodel --out x",
        "WHAT: expected a step or a recipe, see 'diffvas train presets', got 'amodel' (",
    ),
    "unknown option": (
        "amodal --out x --btch 3",
        "--btch: expected an option of 'diffvas train', got another (did you",
    ),
    "no out": ("vae", "--out: expected one with 'diffvas train vae', got none"),
    "no steps": ("vae --out x --steps 0", "--steps: expected a whole number of 1 or more, got '0'"),
    "steps in words": ("vae --out x --steps many", "--steps: expected a whole number of 1 or more, got 'many'"),
    "negative seed": ("vae --out x --seed -1", "--seed: expected a whole number of 0 or more, got '-1'"),
    "no rate": ("vae --out x --lr 0", "--lr: expected a number above 0, got '0'"),
    "rate is nan": ("vae --out x --lr nan", "--lr: expected a number above 0, got 'nan'"),
    "decay": ("vae --out x --decay 1.5", "--decay: expected a number of at least 0, at most 1, got '1.5'"),
    "save never": ("vae --out x --save-every 0", "--save-every: expected a whole number of 1 or more, got '0'"),
    "log never": ("vae --out x --log-every 0", "--log-every: expected a whole number of 1 or more, got '0'"),
    "device": ("vae --out x --device tpu", "--device"),
    "precision": ("vae --out x --precision half", "--precision: expected one of auto, fp32, bf16, fp16, got 'half'"),
    "half on a cpu": ("vae --out x --precision fp16", "--precision: expected fp32 or bf16 on a CPU, got fp16"),
    "finish without": ("finish --out x --data empty --start empty", "--vae: expected one with the preset 'finish'"),
    "two stages without": ("two-stage --out x --data empty", "--start: expected one with the preset 'two-stage'"),
    "conditions": ("amodal --out x --data empty --conditions depth", "--conditions: expected some of mask, depth, rgb"),
    "no such model": (
        "paper-content --out x --data empty --model no",
        "--model: expected an existing folder, got 'no'",
    ),
    "pairs of masks": ("encode --out x --vae empty --pairs", "--pairs: expected stage content with it, got amodal"),
    "out is a file": ("vae --out file", "--out: expected a folder, got 'file', where 'file' is a file"),
    "out below a file": ("vae --out file/a/b", "--out: expected a folder, got 'file/a/b', where 'file' is a file"),
    "no such scenes": ("vae --out x --scenes no", "--scenes: expected an existing folder, got 'no'"),
    "no data": ("amodal --out x", "--data: expected one with 'diffvas train amodal', got none"),
    "no such data": ("amodal --out x --data empty no", "--data: expected an existing folder, got 'no'"),
    "data is a file": ("content --out x --data file", "--data: expected an existing folder, got 'file'"),
    "data is empty": (
        "amodal --out x --data empty",
        "--data: expected a latent cache with shards in empty, found none",
    ),
    "weights": ("amodal --out x --data empty --weights 1 2", "--weights: expected 1 numbers of 0 or more"),
    "negative weight": ("amodal --out x --data empty --weights -1", "--weights"),
    "no weight": ("amodal --out x --data empty --weights 0", "--weights: expected 1 numbers of 0 or more, not all 0"),
    "batch": ("amodal --out x --data empty --batch 0", "--batch: expected a whole number of 1 or more, got '0'"),
    "spans": ("amodal --out x --data empty --spans 5 0", "--spans: expected a whole number of 1 or more, got '0'"),
    "no such start": ("amodal --out x --data empty --start no", "--start: expected an existing folder, got 'no'"),
    "no vae": ("encode --out x", "--vae: expected one with 'diffvas train encode', got none"),
    "no such vae": ("encode --out x --vae no", "--vae: expected an existing folder, got 'no'"),
    "vae is none": ("encode --out x --vae empty", "--vae: expected a folder with a saved VAE, got empty"),
    "sizes": ("encode --out x --vae empty --sizes 100x100", "--sizes: expected HEIGHTxWIDTH[,...], multiples of 32"),
    "no such source": ("encode --out x --vae empty --source no", "--source: expected 'flat' or an existing folder"),
    "shards": ("encode --out x --vae empty --shards 0", "--shards: expected a whole number of 1 or more, got '0'"),
    "no such content vae": (
        "bundle --out x --vae empty --content-vae no --amodal empty --content empty",
        "--content-vae: expected an existing folder, got 'no'",
    ),
    "examples for what": ("examples --out x", "--net: expected one with 'diffvas train examples', got none"),
    "no such net": ("pixels --out x --data empty --net nose", "--net"),
    "finish without a model": (
        "examples --net finish --out x",
        "--model: expected one with 'diffvas train examples', got none",
    ),
    "colours of no model": ("examples --net colours --out x", "--model: expected one with 'diffvas train examples'"),
    "no examples": ("pixels --net front --out x", "--data: expected one with 'diffvas train pixels', got none"),
    "examples of nothing": (
        "pixels --net front --data empty --out x",
        "--data: expected examples for front in empty, got none",
    ),
    "nets for no model": ("bundle --pixels empty --out x", "--model: expected one with 'diffvas train bundle'"),
    "no front": (
        "examples --net finish --model tiny --front empty --out x",
        "--front: expected a run of front, with its network in 'net', got 'empty'",
    ),
    "shapes for colours": (
        "examples --net colours --source shapes --out x",
        "--source: expected 'flat' or an existing folder, got 'shapes'",
    ),
    "scenes without shapes": (
        "examples --net finish --model tiny --source flat --scenes empty --out x",
        "--scenes: expected --source shapes with it, got 'flat'",
    ),
    "colours of shapes": (
        "examples --net finish --source shapes --front empty --out x",
        "--front: expected none with --source shapes, which has no colours, got 'empty'",
    ),
    "no nets": ("bundle --pixels empty --model tiny --out x", "--pixels: expected a run of one of front, finish"),
    "half a bundle": ("bundle --out x --vae empty --amodal empty", "--content: expected one with"),
    "bundle of nothing": ("bundle --out x --vae empty --amodal empty --content empty", "--vae: expected a folder with"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input(place: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    before = listing(place)
    assert main.main(["train", *arguments.split()]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("diffvas")]
    assert len(lines) == 1 and message in lines[0], captured.err
    assert captured.out == "" and "Traceback" not in captured.err
    assert listing(place) == before, "something was written"


def test_no_cuda(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main.main(["train", "vae", "--out", "x", "--device", "cuda"]) == 2
    assert "argument --device: expected a CUDA device" in capsys.readouterr().err
    assert not (place / "x").exists()


def test_from_scenes_to_a_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_vae().save_pretrained("vae")

    def run(text: str) -> tuple[int, str]:
        status = main.main(["train", *text.split()])
        return status, capsys.readouterr().err

    encode = "encode --vae vae --sizes 32x64 --frames 3 --shards 1 --per-shard 1"
    assert run(f"{encode} --out masks") == (0, "shards: 1/1\n")
    assert run(f"{encode} --out masks --seed 1")[0] == 2, "a cache with other settings"
    assert run(f"{encode} --out colours --stage content")[0] == 0
    for stage, data in (("amodal", "masks"), ("content", "colours")):
        fit = f"{stage} --data {data} --out {stage} --steps 1 --batch 1 --spans 3 --precision fp32"
        status, shown = run(fit)
        assert status == 0 and "step 1/1  loss " in shown
        assert (place / stage / "average.safetensors").exists()
    assert json.loads((place / "content" / "config.json").read_text())["preset"] == "content"
    status, shown = run("content --data masks --out x --batch 1")
    assert status == 2 and "argument --data: expected a cache of stage content, got masks of stage amodal" in shown
    status, shown = run("amodal --data masks --out x --batch 2")
    assert status == 2 and "argument --batch: expected at most 1, the clips of a shard of masks, got 2" in shown
    status, shown = run("amodal --data masks --out amodal --steps 2 --batch 1 --spans 3 --precision fp32")
    assert status == 2 and "argument --out: amodal holds a run with other settings (steps: 1 -> 2)" in shown
    finish = "finish --data masks --start amodal --vae vae --steps 1 --batch 1 --spans 3 --precision fp32"
    before = listing(place)
    assert main.main(["train", *finish.split(), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert '"preset": "finish"' in told and '"lr": 0.0001' in told and "M parameters train" in told
    assert "first batch: a (1, 3, 4, 4, 8)" in told and listing(place) == before
    assert run(f"{finish} --out finished")[0] == 0
    before = listing(place)
    assert main.main("train speed --data masks --vae vae --batch 1 --spans 3 --precision fp32".split()) == 0
    told = capsys.readouterr().out
    assert "train_cached" in told and "speed_up" in told and "MB a clip" in told and listing(place) == before
    status, shown = run("bundle --vae vae --amodal content --content content --out model")
    assert status == 2 and "argument --amodal: expected a training run of this stage" in shown
    status, shown = run("bundle --vae vae --amodal amodal --content content --out full")
    assert status == 2 and "argument --out: expected a new folder or a model to replace" in shown
    assert run("bundle --vae vae --amodal amodal --content content --out model")[0] == 0
    assert listing(place / "full") == ["thesis.txt"]
    assert run("examples --net front --sizes 32x32 --frames 3 --shards 1 --per-shard 1 --out front_data")[0] == 0
    pixels = "pixels --net front --data front_data --steps 1 --clips 1 --frames-each 1 --precision fp32 --out front"
    status, shown = run(pixels)
    assert status == 0 and "step 1/1  loss " in shown
    assert run("bundle --model model --pixels front --out with_front")[0] == 0
    assert (place / "with_front" / "amodal" / "front" / "config.json").exists()
    assert not (place / "model" / "amodal" / "front").exists()
    assert (place / "model" / "content" / "model_index.json").exists()


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            KeyboardInterrupt(),
            130,
            "diffvas train vae: stopped: interrupted; the same command goes on from what is saved",
        ),
        (FloatingPointError("the loss is nan at step 7"), 1, "diffvas train vae: error: the loss is nan at step 7"),
        (ValueError("out: taken"), 2, "diffvas train: error: argument --out: taken"),
        (ValueError("nothing: in particular"), 2, "diffvas train: error: nothing: in particular"),
    ],
)
def test_how_it_ends(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    message: str,
) -> None:
    def fail(args: Any) -> None:
        raise error

    monkeypatch.setattr(train, "train_vae", fail)
    assert main.main(["train", "vae", "--out", "x"]) == status
    assert capsys.readouterr().err == f"{message}\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", screen)
    with train.shown("amodal") as report:
        for done in range(5, 9):
            report(
                done, 8, {"step": done, "loss": 0.25, "lr": 1e-3, "seconds": 1.0, "left": 2.0} if done == 6 else None
            )
    text = screen.getvalue()
    assert "amodal" in text and "8/8" in text and "loss 0.25  lr 0.001" in text and "left" in text
    assert "seconds" not in text


def test_the_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", "presets"]) == 0
    told = capsys.readouterr().out
    assert "two-stage" in told and "add depth to a mask-only run" in told and "(--data, --start)" in told


def test_lines_elsewhere() -> None:
    with train.shown("amodal") as report:
        assert report is report_lines
