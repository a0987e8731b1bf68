"""How long and how fast to train: settings of the loop, read without torch."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
OPTIMIZERS = ("adamw", "adamw8bit")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all. lr: peak learning rate. warmup: steps of linear warm-up.
        decay: share of the steps, at the end, over which the rate falls to 2 % of its peak (cosine); 0 = constant.
        weight_decay, beta2, clip: AdamW's decay and second beta, and the largest gradient norm (0 = no clipping).
        optimizer: "adamw", or "adamw8bit" (bitsandbytes, CUDA).
        ema: decay of the averaged weights (0 = none), warmed up over the first steps.
        accumulate: parts that a process takes its share of a batch in, one after another.
        save_every: steps between checkpoints. log_every: steps between log lines.
        explode: stop when a log line's loss is this many times the lowest one so far; 0 = never.
        seed: of batches and noise. threads: torch threads, 0 = torch's choice.
        precision: "fp32", "bf16" or "fp16" (CUDA only); "auto" takes what the device computes fast.
        device: "cpu", "cuda" or "auto". compile: torch.compile. tensorboard: also log there.
    """

    steps: int = 1000
    lr: float = 3e-4
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.01
    beta2: float = 0.99
    clip: float = 1.0
    optimizer: str = "adamw"
    ema: float = 0.995
    accumulate: int = 1
    save_every: int = 100
    log_every: int = 20
    explode: float = 1000.0
    seed: int = 0
    threads: int = 0
    precision: str = "auto"
    device: str = "cpu"
    compile: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, where a number makes no sense."""
        for name, low in (("steps", 1), ("accumulate", 1), ("save_every", 1), ("log_every", 1), ("warmup", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: expected {low} or more, got {getattr(self, name)}")
        for name, high in (("lr", math.inf), ("decay", 1.0), ("ema", 1.0), ("beta2", 1.0), ("clip", math.inf)):
            if not 0 <= getattr(self, name) <= high or (name == "lr" and not self.lr):
                raise ValueError(f"{name}: expected a number from 0 to {high:g}, got {getattr(self, name)}")
        for name, choices in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS), ("device", DEVICES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")


def resolved(config: LoopConfig) -> LoopConfig:
    """The same with device and precision as this machine has them.

    Raises:
        ValueError: CUDA asked for and absent, or fp16 on a CPU.
    """
    import torch

    from diffvas.devices import has_bf16, pick_device

    device = pick_device(config.device).type
    precision = config.precision
    if precision == "auto" and device == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    elif precision == "auto":
        precision = "bf16" if has_bf16() else "fp32"
    if precision == "fp16" and device == "cpu":
        raise ValueError("precision: expected fp32 or bf16 on a CPU, got fp16")
    return replace(config, device=device, precision=precision)


def nearest(name: str, known: list[str]) -> str:
    """`` (did you mean 'x'?)`` where something near is known, else nothing."""
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean '{near[0]}'?)" if near else ""
