"""One training loop for every model of the project: resumable, whole checkpoints, EMA, bf16 autocast.

Nothing random outlives a step: batch ``s`` and the noise of step ``s`` derive from (seed, s). A run that was killed
therefore continues exactly where its last checkpoint stood, by the same command.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

from diffvas.allocator import keep_freed_memory

Batch = dict[str, torch.Tensor]


class BatchSource(Protocol):
    """Batches by step number; the same number gives the same batch."""

    def __getitem__(self, step: int) -> Batch: ...


LossFunction = Callable[[Batch, torch.Generator], tuple[torch.Tensor, dict[str, float]]]


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all. lr: peak learning rate. warmup: steps of linear warm-up.
        decay: share of the steps, at the end, over which the rate falls to 2 % of its peak (cosine).
        weight_decay, clip: AdamW's decay, and the largest gradient norm.
        ema: decay of the averaged weights (0 = none), warmed up over the first steps.
        save_every: steps between checkpoints. log_every: steps between log lines.
        seed: of batches and noise. threads: torch threads, 0 = torch's choice. bf16: autocast to bfloat16.
    """

    steps: int = 1000
    lr: float = 3e-4
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.995
    save_every: int = 100
    log_every: int = 20
    seed: int = 0
    threads: int = 0
    bf16: bool = True
    device: str = "cpu"


class Ordered(torch.utils.data.Dataset):
    """Adapts a BatchSource to a DataLoader that starts at a given step."""

    def __init__(self, source: BatchSource, start: int, stop: int):
        self.source, self.start, self.stop = source, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        return self.source[self.start + index]


def rate_at(step: int, config: LoopConfig) -> float:
    """Learning rate of ``step``: linear warm-up, constant, cosine to 2 % of the peak."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    start = config.steps * (1 - config.decay)
    share = max(0.0, (step - start) / max(config.steps - start, 1))
    return config.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path`` and rename, so that a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    os.replace(temporary, path)


def save_checkpoint(
    out: Path, step: int, model: nn.Module, average: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> None:
    """One file with all that resuming needs; the one before it is kept as ``checkpoint.previous.pt``.

    The new file is whole before the old one is moved, so that a kill at any moment leaves a whole one.
    """
    path, temporary = out / "checkpoint.pt", out / ".checkpoint.pt.part"
    state = {"step": step, "model": model.state_dict(), "average": average, "optimiser": optimiser.state_dict()}
    torch.save(state, temporary)
    if path.exists():
        os.replace(path, out / "checkpoint.previous.pt")
    os.replace(temporary, path)


def load_checkpoint(out: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run of our own, or None. Read with ``weights_only``: no code is unpickled.

    Raises:
        ValueError: there are checkpoints, but none can be read; to start anew in silence would be a surprise.
    """
    paths = [out / name for name in ("checkpoint.pt", "checkpoint.previous.pt") if (out / name).exists()]
    for path in paths:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            print(f"{path} cannot be read ({' '.join(str(error).split())[:200]})", file=sys.stderr)
    if paths:
        raise ValueError(f"out: expected a checkpoint that can be read in {out}, got none; remove it to start anew")
    return None


def check_same_config(out: Path, config: dict[str, Any]) -> None:
    """Save the resolved settings with the run, or list how they differ from those it was started with.

    Raises:
        ValueError: the run in ``out`` was started with other settings.
    """
    path = out / "config.json"
    if path.exists():
        old = json.loads(path.read_text())
        new = json.loads(json.dumps(config))
        changed = [f"{k}: {old.get(k)} -> {new.get(k)}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
        if changed:
            raise ValueError(f"out: {out} holds a run with other settings ({'; '.join(changed)}); use another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda p: p.write_text(json.dumps(config, indent=1)))


Report = Callable[[int, int, dict[str, Any] | None], None]


def report_lines(done: int, total: int, line: dict[str, Any] | None) -> None:
    """The plain report of a run: one line on stderr whenever there are numbers to show."""
    if line is not None:
        numbers = "  ".join(f"{k} {v:.4g}" for k, v in line.items() if k not in ("step", "seconds", "left"))
        print(f"step {done}/{total}  {numbers}  {line['left'] / 60:.1f} min left", file=sys.stderr, flush=True)


class Log:
    """``log.jsonl`` of a run: the mean of each number since the line before, every ``log_every`` steps.

    Lines past the step from which a run resumes are dropped, since those steps are taken again.
    """

    def __init__(self, out: Path, start: int, config: LoopConfig):
        self.path, self.start, self.config = out / "log.jsonl", start, config
        kept = [line for line in self._read() if line["step"] <= start]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(self.path, lambda p: p.write_text(text))
        self.before = float(kept[-1]["seconds"]) if kept else 0.0
        self.began = time.monotonic()
        self.recent: dict[str, list[float]] = {}

    def _read(self) -> list[dict[str, Any]]:
        lines = []
        for text in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue  # the run was killed while it wrote this one
        return lines

    def add(self, done: int, numbers: dict[str, float]) -> dict[str, Any] | None:
        """Take the numbers of one step; the line written, with ``left`` (seconds to go), when it is time for one."""
        for name, value in numbers.items():
            self.recent.setdefault(name, []).append(value)
        if done % self.config.log_every and done != self.config.steps:
            return None
        means = {name: sum(values) / len(values) for name, values in self.recent.items()}
        took = time.monotonic() - self.began
        line = {"step": done, **means, "lr": rate_at(done - 1, self.config), "seconds": round(self.before + took, 1)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.recent.clear()
        return {**line, "left": took / (done - self.start) * (self.config.steps - done)}


def resume(out: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], int]:
    """Put the last checkpoint of ``out``, if there is one, into model and optimiser.

    Returns:
        The averaged weights, on the model's device, and how many steps are done.
    """
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    state = load_checkpoint(out)
    if state is None:
        return average, 0
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return {k: state["average"][k].to(v.device) for k, v in average.items()}, int(state["step"])


@torch.no_grad()
def update_average(average: dict[str, torch.Tensor], model: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the model's by ``1 - keep``; what is no float is copied."""
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - keep)
        else:
            average[key].copy_(value)


def ignore_interrupt(worker: int) -> None:
    """In the process that makes batches: Ctrl-C is for the one that trains, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def interrupt_between_steps() -> Iterator[Callable[[], bool]]:
    """Ctrl-C inside takes effect where the loop asks for it: no step, no batch and no file is cut in half.

    Yields a function that says whether Ctrl-C was pressed. Pressed twice, it interrupts at once, as always.
    """
    pressed = False

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    # only the main thread may set handlers, and who is told to ignore Ctrl-C goes on ignoring it
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def batches(source: BatchSource, start: int, config: LoopConfig) -> DataLoader[Batch]:
    """The batches of the steps from ``start`` on, made ahead in a process of its own."""
    steps = Ordered(source, start, config.steps)
    return DataLoader(steps, batch_size=None, num_workers=1, prefetch_factor=4, worker_init_fn=ignore_interrupt)


def take_step(
    loss_function: LossFunction,
    batch: Batch,
    step: int,
    config: LoopConfig,
    optimiser: torch.optim.Optimizer,
) -> dict[str, float]:
    """One optimiser step on the parameters that ``optimiser`` holds; the loss and what else there is to log.

    Raises:
        FloatingPointError: the loss is not finite; nothing has changed.
    """
    batch = {k: v.to(config.device) for k, v in batch.items()}
    generator = torch.Generator(config.device).manual_seed((config.seed * 1_000_003 + step) % (2**63))
    for group in optimiser.param_groups:
        group["lr"] = rate_at(step, config)
    with torch.autocast(config.device, torch.bfloat16, enabled=config.bf16):
        loss, numbers = loss_function(batch, generator)
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()} at step {step}; the last checkpoint is as it was")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], config.clip)
    optimiser.step()
    return {"loss": loss.item(), **numbers}


def train(
    model: nn.Module,
    source: BatchSource,
    loss_function: LossFunction,
    config: LoopConfig,
    out: Path,
    *,
    extra_config: dict[str, Any] | None = None,
    parameters: Sequence[nn.Parameter] | None = None,
    every: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
    report: Report = report_lines,
) -> dict[str, torch.Tensor]:
    """Train ``model`` and return its averaged weights (the plain ones where ``config.ema`` is 0).

    Args:
        model: one module that holds all that trains (frozen parts may be in it too).
        source: batches by step number.
        loss_function: (batch, generator) -> (loss, numbers to log); the generator is seeded by (seed, step).
        out: folder of the run: ``config.json``, ``log.jsonl``, ``checkpoint.pt``.
        parameters: what trains; all parameters that require a gradient by default.
        every: called as (step, averaged weights) after each checkpoint, and once when a run resumes, since it may
            have been killed between the two.
        report: called after each step as (steps done, of all, the log line or None).

    Raises:
        ValueError: ``out`` holds a run with other settings, or checkpoints of which none can be read.
        FloatingPointError: the loss is not finite.
        KeyboardInterrupt: Ctrl-C was pressed; the step was finished and a checkpoint written first.
    """
    check_same_config(out, {**asdict(config), **(extra_config or {})})
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)
    trained = list(parameters) if parameters is not None else [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    average, start = resume(out, model, optimiser)
    if start and every is not None:
        every(start, average)
    log = Log(out, start, config)
    with interrupt_between_steps() as interrupted:
        for step, batch in enumerate(batches(source, start, config), start):
            numbers = take_step(loss_function, batch, step, config, optimiser)
            update_average(average, model, min(config.ema, (1 + step) / (10 + step)) if config.ema else 0.0)
            done = step + 1
            report(done, config.steps, log.add(done, numbers))
            if done % config.save_every == 0 or done == config.steps or interrupted():
                save_checkpoint(out, done, model, average, optimiser)
                if every is not None:
                    every(done, average)
            if interrupted():
                raise KeyboardInterrupt
    return average
