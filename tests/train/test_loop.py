"""The training loop: the same result however often it is killed, and whole files at any time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffvas.train import checkpoints, log, loop
from diffvas.train.loop import Batch, LoopConfig, Objective, resolved, train

SRC = Path(__file__).parents[2] / "src"
CONFIG = LoopConfig(steps=4, lr=0.01, warmup=2, save_every=1, log_every=2, seed=3, precision="fp32")


class Numbers:
    """A batch of random numbers for each step."""

    def __getitem__(self, step: int) -> Batch:
        return {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(step))}


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def draw(batch: Batch, generator: torch.Generator) -> Batch:
    return {**batch, "noise": torch.randn(batch["x"].shape, generator=generator)}


def loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    numbers = {"mean": batch["x"].mean().item()} if batch["x"].mean() > 0 else {}
    return ((model(batch["x"] + batch["noise"]) - batch["x"]) ** 2).mean(), numbers


OBJECTIVE = Objective(loss, draw)


def quiet(done: int, total: int, line: dict[str, Any] | None) -> None:
    pass


def go(out: Path, config: LoopConfig = CONFIG, stop: int | None = None, **options: Any) -> dict[str, torch.Tensor]:
    """A run, interrupted after ``stop`` steps if given, before the checkpoint of that step."""

    def report(done: int, total: int, line: dict[str, Any] | None) -> None:
        assert total == config.steps
        if done == stop:
            raise KeyboardInterrupt

    return train(network(), Numbers(), OBJECTIVE, config, out, report=report, **options)


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
        state = checkpoints.load_checkpoint(out)
        assert state is not None and state["step"] == 2
    assert "cannot be read" in capsys.readouterr().err
    assert equal(go(out), straight)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from test_loop import CONFIG, go

save, count = torch.save, 0

def half(state, file):
    global count
    count += 1
    if count == 3:
        file.write(b"half of a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, file)

torch.save = half
go(Path(sys.argv[1]))
"""


def test_killed_while_writing_a_checkpoint(tmp_path: Path) -> None:
    """kill -9 in the middle of the third checkpoint: the same command goes on from the second."""
    straight = go(tmp_path / "straight")
    out = tmp_path / "killed"
    path = os.pathsep.join([str(SRC), str(Path(__file__).parent)])
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], env={**os.environ, "PYTHONPATH": path}, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert (out / ".checkpoint.pt.part").exists() and checkpoint(out)["step"] == 2
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
    assert calls == [0, 3]
    go(tmp_path, config, every=lambda step, _: calls.append(step))
    assert calls == [0, 3, 3, 4], "after resuming, what follows a checkpoint is done again"


def broken_at(step: int, factor: float) -> Objective:
    """The usual loss, times ``factor`` in one step."""
    first = Numbers()[step]["x"][0, 0]

    def wrong(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        value, _ = loss(model, batch)
        return value * (factor if (batch["x"] == first).any() else 1.0), {}

    return Objective(wrong, draw)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, factor: float) -> None:
    message = rf"not finite \({factor}\) at step 2; the last good checkpoint is .*checkpoint.pt, step 2"
    with pytest.raises(FloatingPointError, match=message):
        train(network(), Numbers(), broken_at(2, factor), CONFIG, tmp_path, report=quiet)
    assert checkpoint(tmp_path)["step"] == 2
    with pytest.raises(FloatingPointError, match="there is no checkpoint yet"):
        train(network(), Numbers(), broken_at(0, factor), CONFIG, tmp_path / "first", report=quiet)


def test_gradients_that_are_no_numbers_change_nothing(tmp_path: Path) -> None:
    def root(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        return torch.sqrt((model(batch["x"]) * 0).sum().abs()), {}  # 0, but its gradient is 0 / 0

    with pytest.raises(FloatingPointError, match=r"not finite \(0.0\) at step 0"):
        train(network(), Numbers(), Objective(root), CONFIG, tmp_path, report=quiet)


def test_a_loss_that_explodes_stops_the_run(tmp_path: Path) -> None:
    config = replace(CONFIG, log_every=1, explode=50.0)
    with pytest.raises(FloatingPointError, match=r"the loss exploded to .* by step 3; the last good .* step 2"):
        train(network(), Numbers(), broken_at(2, 1e4), config, tmp_path, report=quiet)
    assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3]
    train(network(), Numbers(), broken_at(2, 1e4), replace(config, explode=0.0), tmp_path / "never", report=quiet)


def plain_network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_changes_rounding_only(tmp_path: Path, parts: int) -> None:
    config = replace(CONFIG, steps=6)
    states = [
        train(plain_network(), Numbers(), OBJECTIVE, replace(config, accumulate=n), tmp_path / str(n), report=quiet)
        for n in (1, parts)
    ]
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-5, atol=1e-6)
    one, many = (lines(tmp_path / str(n)) for n in (1, parts))
    assert [row["loss"] for row in many] == pytest.approx([row["loss"] for row in one], rel=1e-5)


def test_a_batch_that_cannot_be_shared_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch: expected a multiple of 3 \(processes x accumulate\)"):
        train(network(), Numbers(), OBJECTIVE, replace(CONFIG, accumulate=3), tmp_path, report=quiet)


PARALLEL = """
import sys
from dataclasses import replace
from pathlib import Path
from diffvas.train.loop import train
from test_loop import CONFIG, OBJECTIVE, Numbers, plain_network, quiet

train(plain_network(), Numbers(), OBJECTIVE, replace(CONFIG, steps=6), Path(sys.argv[1]), report=quiet)
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Two gloo processes, each with half of every batch: the loss curve of one process, to rounding."""
    train(plain_network(), Numbers(), OBJECTIVE, replace(CONFIG, steps=6), tmp_path / "one", report=quiet)
    script = tmp_path / "run.py"
    script.write_text(PARALLEL)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1"]
    launch += [
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_port=0",
        str(script),
        str(tmp_path / "two"),
    ]
    path = os.pathsep.join([str(SRC), str(Path(__file__).parent)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (lines(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in two] == [2, 4, 6]
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-5)
    a, b = (checkpoint(tmp_path / name)["average"] for name in ("one", "two"))
    for key in a:
        torch.testing.assert_close(b[key], a[key], rtol=1e-5, atol=1e-6)


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("bitsandbytes", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match="optimizer: adamw8bit needs the bitsandbytes package"):
        go(tmp_path / "a", replace(CONFIG, optimizer="adamw8bit"))
    with pytest.raises(ValueError, match="tensorboard: expected the tensorboard package, got none"):
        go(tmp_path / "b", replace(CONFIG, tensorboard=True))


def test_compiled_blocks_keep_their_names() -> None:
    model = network()
    names = list(model.state_dict())
    loop.compile_blocks(model)
    assert list(model.state_dict()) == names and model._compiled_call_impl is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("lr", 0.0), ("lr", -1.0), ("decay", 1.5), ("ema", -0.1), ("accumulate", 0), ("precision", "half")],
)
def test_settings_that_make_no_sense(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected "):
        replace(CONFIG, **{field: value})


def test_precision_is_resolved() -> None:
    assert resolved(CONFIG).precision == "fp32"
    assert resolved(replace(CONFIG, precision="auto")).precision in ("fp32", "bf16")
    with pytest.raises(ValueError, match="precision: expected fp32 or bf16 on a CPU, got fp16"):
        resolved(replace(CONFIG, precision="fp16"))


def test_what_may_differ_when_a_run_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, stop=3)
    go(tmp_path, replace(CONFIG, save_every=2, log_every=1, threads=1))
    assert json.loads((tmp_path / "config.json").read_text())["save_every"] == 2
    assert checkpoints.differences({"a": {"b": 1, "old": 2}, "seed": 1}, {"a": {"b": 3, "new": 0}, "seed": 1}) == [
        "a.b: 1 -> 3"
    ]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, stop=3)
    with pytest.raises(ValueError, match="out: expected a checkpoint of this model"):
        train(plain_network(), Numbers(), OBJECTIVE, CONFIG, tmp_path, report=quiet)


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


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    model = network()
    model[0].requires_grad_(False)  # type: ignore[index]
    frozen = model[0].weight.detach().clone()  # type: ignore[index,union-attr]
    state = train(model, Numbers(), OBJECTIVE, CONFIG, tmp_path, report=quiet)
    assert torch.equal(state["0.weight"], frozen) and state.keys() == model.state_dict().keys()
    assert not torch.equal(state["2.weight"], network()[2].weight)  # type: ignore[index,union-attr]
    assert "0.weight" not in checkpoint(tmp_path)["model"], "what does not train need not be saved"
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="model: expected parameters that require a gradient, got none"):
        train(model, Numbers(), OBJECTIVE, CONFIG, tmp_path / "none", report=quiet)


def test_write_whole_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    checkpoints.write_whole(path, lambda p: p.write_text("old"))

    def fail(p: Path) -> None:
        p.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        checkpoints.write_whole(path, fail)
    assert path.read_text() == "old"


def test_plain_report(capsys: pytest.CaptureFixture[str]) -> None:
    log.report_lines(7, 10, None)
    log.report_lines(8, 10, {"step": 8, "loss": 0.123456, "lr": 1e-3, "seconds": 9.0, "left": 90.0})
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "step 8/10  loss 0.1235  lr 0.001  1.5 min left\n"


ENDLESS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from pathlib import Path
import torch
from diffvas.train.loop import LoopConfig, Objective, train

class Source:
    def __getitem__(self, step):
        return {"x": torch.ones(1)}

model = torch.nn.Linear(1, 1)
config = LoopConfig(steps=10**6, save_every=500, log_every=100, precision="fp32")
try:
    train(model, Source(), Objective(lambda m, b: (m(b["x"]).sum() ** 2, {})), config, Path(sys.argv[1]))
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
    state = checkpoints.load_checkpoint(tmp_path)
    assert state is not None and state["step"] >= 200
    assert loop_log(tmp_path)[-1]["step"] <= state["step"], "the checkpoint holds every step that was taken"
