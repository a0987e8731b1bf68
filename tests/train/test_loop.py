"""The training loop: the same result however often it is killed, and whole files at any time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffvas.train import loop
from diffvas.train.loop import Batch, LoopConfig, train

SRC = Path(__file__).parents[2] / "src"
CONFIG = LoopConfig(steps=4, lr=0.01, warmup=2, save_every=1, log_every=2, seed=3, bf16=False)


class Numbers:
    """A batch of random numbers for each step."""

    def __getitem__(self, step: int) -> Batch:
        return {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(step))}


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def loss_of(model: nn.Module) -> Callable[[Batch, torch.Generator], tuple[torch.Tensor, dict[str, float]]]:
    def loss(batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        noise = torch.randn(batch["x"].shape, generator=generator)
        numbers = {"mean": batch["x"].mean().item()} if batch["x"].mean() > 0 else {}
        return ((model(batch["x"] + noise) - batch["x"]) ** 2).mean(), numbers

    return loss


def go(out: Path, config: LoopConfig = CONFIG, stop: int | None = None, **options: Any) -> dict[str, torch.Tensor]:
    """A run, interrupted after ``stop`` steps if given, before the checkpoint of that step."""

    def report(done: int, total: int, line: dict[str, Any] | None) -> None:
        assert total == config.steps
        if done == stop:
            raise KeyboardInterrupt

    model = network()
    return train(model, Numbers(), loss_of(model), config, out, report=report, **options)


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def checkpoint(out: Path) -> dict[str, Any]:
    return torch.load(out / "checkpoint.pt", weights_only=True)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    straight = go(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "killed", stop=3)
    assert checkpoint(tmp_path / "killed")["step"] == 2
    assert equal(go(tmp_path / "killed"), straight)
    a, b = (checkpoint(tmp_path / name) for name in ("straight", "killed"))
    assert equal(a["model"], b["model"]) and equal(a["average"], b["average"])
    for key, moments in a["optimiser"]["state"].items():
        assert equal(moments, b["optimiser"]["state"][key])
    # the log is that of one run, whatever was written before the kill
    drop = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]  # noqa: E731
    assert drop(lines(tmp_path / "straight")) == drop(lines(tmp_path / "killed"))


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    first = go(tmp_path)
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert equal(go(tmp_path, stop=1), first)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before


def test_a_cut_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    straight = go(tmp_path / "straight")
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        go(out, stop=4)
    whole = (out / "checkpoint.pt").read_bytes()
    for size in (len(whole) // 2, 10, 0):
        (out / "checkpoint.pt").write_bytes(whole[:size])
        state = loop.load_checkpoint(out)
        assert state is not None and state["step"] == 2
    assert "cannot be read" in capsys.readouterr().err
    assert equal(go(out), straight)


def test_killed_while_writing_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = go(tmp_path / "straight")
    out, save, count = tmp_path / "killed", torch.save, 0

    def half(state: Any, path: Path) -> None:
        nonlocal count
        count += 1
        save(state, path)
        if count == 3:
            path.write_bytes(path.read_bytes()[:100])
            raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        go(out)
    assert checkpoint(out)["step"] == 2
    assert equal(go(out), straight)


def test_no_readable_checkpoint_is_an_error(tmp_path: Path) -> None:
    go(tmp_path)
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (tmp_path / name).write_bytes(b"gone")
    with pytest.raises(ValueError, match="out: expected a checkpoint that can be read"):
        go(tmp_path)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    go(tmp_path, extra_config={"data": ["a"]})
    with pytest.raises(ValueError, match=r"out: .* holds a run with other settings \(lr: 0.01 -> 0.02\)"):
        go(tmp_path, replace(CONFIG, lr=0.02), extra_config={"data": ["a"]})
    with pytest.raises(ValueError, match="data: "):
        go(tmp_path, extra_config={"data": ["b"]})


def test_log_has_means_of_what_there_is(tmp_path: Path) -> None:
    go(tmp_path, replace(CONFIG, steps=5, log_every=2))
    rows = lines(tmp_path)
    assert [row["step"] for row in rows] == [2, 4, 5]
    means = [Numbers()[step]["x"].mean().item() for step in range(5)]
    for row, part in zip(rows, (means[:2], means[2:4], means[4:]), strict=True):
        above = [m for m in part if m > 0]
        assert row.get("mean") == (pytest.approx(sum(above) / len(above)) if above else None)
        assert math.isfinite(row["loss"]) and row["seconds"] >= 0


def test_half_a_log_line_does_not_matter(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, stop=3)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    go(tmp_path)
    assert [row["step"] for row in lines(tmp_path)] == [2, 4]


def test_each_checkpoint_is_announced(tmp_path: Path) -> None:
    calls: list[int] = []
    config = replace(CONFIG, save_every=3)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, config, stop=4, every=lambda step, _: calls.append(step))
    assert calls == [3]
    go(tmp_path, config, every=lambda step, _: calls.append(step))
    assert calls == [3, 3, 4], "after resuming, what follows a checkpoint is done again"


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    model = network()

    def loss(batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        broken = float("nan") if batch["x"][0, 0] == Numbers()[2]["x"][0, 0] else 1.0
        return model(batch["x"]).mean() * broken, {}

    with pytest.raises(FloatingPointError, match="the loss is nan at step 2"):
        train(model, Numbers(), loss, CONFIG, tmp_path, report=lambda *_: None)
    assert checkpoint(tmp_path)["step"] == 2


def test_average(tmp_path: Path) -> None:
    plain = go(tmp_path / "plain", replace(CONFIG, ema=0.0))
    assert equal(plain, checkpoint(tmp_path / "plain")["model"])
    model, average = nn.Linear(1, 1), {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}
    with torch.no_grad():
        model.weight.fill_(2.0)
    loop.update_average(average, model, 0.75)
    assert average["weight"].item() == pytest.approx(0.5)


def test_rate() -> None:
    config = LoopConfig(steps=100, lr=1.0, warmup=10, decay=0.5)
    rates = [loop.rate_at(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == rates[50] == pytest.approx(1.0)
    assert rates[75] == pytest.approx(0.02 + 0.98 / 2) and rates[100] == pytest.approx(0.02)
    assert loop.rate_at(0, replace(config, warmup=0)) == 1.0
    assert loop.rate_at(99, replace(config, decay=0.0)) == pytest.approx(1.0)


def test_only_the_named_parameters_train(tmp_path: Path) -> None:
    model = network()
    frozen = model[0].weight.detach().clone()  # type: ignore[index,union-attr]
    train(
        model,
        Numbers(),
        loss_of(model),
        CONFIG,
        tmp_path,
        parameters=list(model[2].parameters()),  # type: ignore[index,union-attr]
        report=lambda *_: None,
    )
    assert torch.equal(model[0].weight, frozen)  # type: ignore[index,union-attr]
    assert not torch.equal(model[2].weight, network()[2].weight)  # type: ignore[index,union-attr]


def test_write_whole_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    loop.write_whole(path, lambda p: p.write_text("old"))

    def fail(p: Path) -> None:
        p.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        loop.write_whole(path, fail)
    assert path.read_text() == "old"


def test_plain_report(capsys: pytest.CaptureFixture[str]) -> None:
    loop.report_lines(7, 10, None)
    loop.report_lines(8, 10, {"step": 8, "loss": 0.123456, "lr": 1e-3, "seconds": 9.0, "left": 90.0})
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "step 8/10  loss 0.1235  lr 0.001  1.5 min left\n"


ENDLESS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pathlib import Path
import torch
from diffvas.train.loop import LoopConfig, train

class Source:
    def __getitem__(self, step):
        return {"x": torch.ones(1)}

model = torch.nn.Linear(1, 1)
config = LoopConfig(steps=10**6, save_every=500, log_every=100, bf16=False)
try:
    train(model, Source(), lambda b, g: (model(b["x"]).sum(), {}), config, Path(sys.argv[1]))
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def loop_log(out: Path) -> list[dict[str, float]]:
    path = out / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_ctrl_c_leaves_a_whole_checkpoint_and_no_traceback(tmp_path: Path) -> None:
    """A terminal sends it to all processes of the run, the one that makes batches too."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    try:
        until = time.monotonic() + 120
        while len(loop_log(tmp_path)) < 2 and time.monotonic() < until:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out == "stopped\n"
    assert [line for line in err.splitlines() if not line.startswith("step ")] == []
    state = loop.load_checkpoint(tmp_path)
    assert state is not None and state["step"] >= 200
    assert loop_log(tmp_path)[-1]["step"] <= state["step"], "the checkpoint holds every step that was taken"
