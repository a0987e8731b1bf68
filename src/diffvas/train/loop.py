"""One training loop for every model of the project: resumable, whole checkpoints, EMA, bf16 autocast.

Nothing random outlives a step: batch ``s`` and the noise of step ``s`` derive from (seed, s). A run that was killed
therefore continues exactly where its last checkpoint stood, by the same command.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
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


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside ``path`` and rename, so that a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    os.replace(temporary, path)


def save_checkpoint(
    out: Path, step: int, model: nn.Module, average: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> None:
    """One file with all that resuming needs; the one before it is kept as ``checkpoint.previous.pt``."""
    path = out / "checkpoint.pt"
    if path.exists():
        os.replace(path, out / "checkpoint.previous.pt")
    state = {"step": step, "model": model.state_dict(), "average": average, "optimiser": optimiser.state_dict()}
    write_whole(path, lambda p: torch.save(state, p))


def load_checkpoint(out: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run of our own, or None. Read with ``weights_only``: no code is unpickled."""
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        path = out / name
        if not path.exists():
            continue
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError) as error:
            print(f"{path} cannot be read ({error}); trying the one before it")
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
    write_whole(path, lambda p: p.write_text(json.dumps(config, indent=1)))  # type: ignore[arg-type, return-value]


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
) -> dict[str, torch.Tensor]:
    """Train ``model`` and return its averaged weights (the plain ones where ``config.ema`` is 0).

    Args:
        model: one module that holds all that trains (frozen parts may be in it too).
        source: batches by step number.
        loss_function: (batch, generator) -> (loss, numbers to log); the generator is seeded by (seed, step).
        out: folder of the run: ``config.json``, ``log.jsonl``, ``checkpoint.pt``.
        parameters: what trains; all parameters that require a gradient by default.
        every: called as (step, averaged weights) after each checkpoint.

    Raises:
        ValueError: ``out`` holds a run with other settings. FloatingPointError: the loss is not finite.
    """
    keep_freed_memory()
    check_same_config(out, {**asdict(config), **(extra_config or {})})
    if config.threads:
        torch.set_num_threads(config.threads)
    trained = list(parameters) if parameters is not None else [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    start = 0
    state = load_checkpoint(out)
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average, start = state["average"], state["step"]
    loader = DataLoader(Ordered(source, start, config.steps), batch_size=None, num_workers=1, prefetch_factor=4)  # type: ignore[arg-type]
    began, log = time.time(), (out / "log.jsonl").open("a", buffering=1)
    recent: list[float] = []
    for step, batch in enumerate(loader, start):
        batch = {k: v.to(config.device) for k, v in batch.items()}
        generator = torch.Generator(config.device).manual_seed((config.seed * 1_000_003 + step) % (2**63))
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, config)
        with torch.autocast(config.device, torch.bfloat16, enabled=config.bf16):
            loss, numbers = loss_function(batch, generator)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"loss is {loss.item()} at step {step}; the last good checkpoint is {out / 'checkpoint.pt'}"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, config.clip)
        optimiser.step()
        keep = min(config.ema, (1 + step) / (10 + step)) if config.ema else 0.0
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if value.is_floating_point():
                    average[key].lerp_(value, 1 - keep)
                else:
                    average[key].copy_(value)
        recent.append(loss.item())
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            line = {
                "step": done,
                "loss": sum(recent) / len(recent),
                "lr": rate_at(step, config),
                "seconds": round(time.time() - began, 1),
                **numbers,
            }
            log.write(json.dumps(line) + "\n")
            left = (time.time() - began) / (done - start) * (config.steps - done)
            print(
                f"step {done}/{config.steps}  loss {line['loss']:.4f}  {numbers}  {left / 60:.1f} min left", flush=True
            )
            recent.clear()
        if done % config.save_every == 0 or done == config.steps:
            save_checkpoint(out, done, model, average, optimiser)
            if every is not None:
                every(done, average)
    log.close()
    return average
