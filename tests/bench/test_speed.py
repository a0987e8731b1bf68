"""``diffvas speed``: the plain loop is a twin of the pipeline, and the table says what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffvas.bench import speed
from diffvas.bench.speed import Job, Setting, Watch
from diffvas.cli import main
from diffvas.diffusion.sampling import Sampling
from factories import FRAMES, HEIGHT, WIDTH, tiny_model

JOB = Job("random", "cpu", (HEIGHT, WIDTH), FRAMES)


@pytest.mark.parametrize("guidance", [1.5, 3.0])
def test_the_plain_loop_is_a_twin(guidance: float) -> None:
    pipe = tiny_model().amodal
    a, b = speed.clip_conditions(JOB)
    assert a.shape == b.shape == (FRAMES, 3, HEIGHT, WIDTH)
    results = []
    for loop in (speed.plain_loop, speed.our_loop):
        watch = Watch(torch.device("cpu"))
        results.append(loop(pipe, a, b, torch.Generator().manual_seed(3), Sampling(4, guidance=guidance), watch))
        assert set(watch.seconds) == {"encode", "denoise", "decode"} and min(watch.seconds.values()) > 0
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)


def test_settings_begin_with_the_twin() -> None:
    lines = speed.settings(torch.device("cpu"), 7, 2.0)
    assert lines[0].loop == "plain" and lines[0].dtype == "float32"
    equal = [line for line in lines if line.steps == 7]
    assert len(equal) >= 4 and all(line.guidance == 2.0 for line in equal)
    assert [line.steps for line in lines[-3:]] == [5, 3, 1]
    assert len({line.name for line in lines}) == len(lines)


def test_operations_are_counted_by_evaluation() -> None:
    pipe = tiny_model().amodal
    a, b = speed.clip_conditions(JOB)
    one, guided, part = (
        speed.count_tflop(pipe, a, b, s)
        for s in (
            Sampling(4, guidance=1.0),
            Sampling(4, guidance=2.0),
            Sampling(4, guidance=2.0, interval=(600.0, 800.0)),
        )
    )
    assert guided["denoise"] == pytest.approx(2 * one["denoise"])
    assert part["denoise"] == pytest.approx(1.25 * one["denoise"])
    assert guided["decode"] == one["decode"] > 0 and one["encode"] > 0


def fake(job: Job, setting: Setting, out: Path) -> dict[str, Any]:
    fast = 1.0 if setting.loop == "plain" else 4.0
    np.save(out, np.full((1, 3, 2, 2), 0.2 if setting.loop == "plain" else 0.8, np.float16))
    seconds = {"encode": 1 / fast, "denoise": 6 / fast, "decode": 1 / fast}
    return {
        "seconds": seconds,
        "first": 9.0,
        "peak_bytes": 2**30,
        "tflop": {"encode": 0.1, "denoise": 0.3, "decode": 0.1},
    }


def test_table_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(speed, "_in_own_process", fake)
    monkeypatch.setattr(speed, "measured_peak", lambda device, dtype: 0.25)
    words = ["speed", "--size", "32", "64", "--frames", "2", "--device", "cpu", "--json", str(tmp_path / "speed.json")]
    assert main.main(words) == 0
    report = json.loads((tmp_path / "speed.json").read_text())
    first, second = report["settings"][:2]
    assert (first["total"], first["ratio"], first["difference"], first["flipped"]) == (8.0, 1.0, 0.0, 0.0)
    assert (second["total"], second["ratio"], second["flipped"]) == (2.0, 4.0, 1.0)
    assert second["difference"] == pytest.approx(0.6, abs=1e-3)
    assert first["share_of_peak"] == pytest.approx(0.5 / 8 / 0.25)
    assert "4.00x" in capsys.readouterr().out


def test_a_setting_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "measured_peak", lambda device, dtype: 1.0)
    with pytest.raises(RuntimeError, match="setting 'x' failed: ValueError: model: expected one of tiny"):
        speed.compare(Job("no-such", "cpu", (32, 64), 2), [Setting("x")])


def test_bad_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {
        ("--guidance", "1"): "argument --guidance: expected another number than 1",
        ("--json", str(tmp_path)): "argument --json: expected a file",
        ("--size", "8", "64"): "argument --size: expected a whole number of 32 or more",
    }
    for words, message in table.items():
        assert main.main(["speed", *words]) == 2
        assert message in capsys.readouterr().err
