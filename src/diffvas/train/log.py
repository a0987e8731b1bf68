"""What a run says of itself: ``log.jsonl``, TensorBoard where asked for, plain lines."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffvas.train.checkpoints import write_whole

Report = Callable[[int, int, dict[str, Any] | None], None]
BESIDES = ("step", "seconds", "left", "rate")  # of a line: what is no measured number


def report_lines(done: int, total: int, line: dict[str, Any] | None) -> None:
    """The plain report of a run: one line on stderr whenever there are numbers to show."""
    if line is not None:
        numbers = "  ".join(f"{k} {v:.4g}" for k, v in line.items() if k not in BESIDES)
        print(f"step {done}/{total}  {numbers}  {line['left'] / 60:.1f} min left", file=sys.stderr, flush=True)


def open_tensorboard(out: Path) -> Any:
    """A TensorBoard writer on ``out/tensorboard``.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard: expected the tensorboard package, got none; pip install tensorboard") from error
    return SummaryWriter(out / "tensorboard")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``log.jsonl``; one that was being written when the run was killed is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


class Log:
    """``log.jsonl`` of a run: the mean of each number since the line before, every ``every`` steps.

    Lines past the step from which a run resumes are dropped, since those steps are taken again.

    Args:
        out: folder of the run. start: the step from which it goes on. total, every: steps in all, and between lines.
        writes: False in all processes of a run but the first: they count along and write nothing.
        tensorboard: also write there.
    """

    def __init__(self, out: Path, start: int, total: int, every: int, writes: bool = True, tensorboard: bool = False):
        self.path, self.start, self.total, self.every, self.writes = out / "log.jsonl", start, total, every, writes
        kept = [line for line in read_lines(self.path) if line["step"] <= start]
        if writes:
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_whole(self.path, lambda p: p.write_text(text))
        self.board = open_tensorboard(out) if writes and tensorboard else None
        self.before = float(kept[-1]["seconds"]) if kept else 0.0
        self.lowest = min((line["loss"] for line in kept if "loss" in line), default=math.inf)
        self.began = time.monotonic()
        self.recent: dict[str, list[float]] = {}

    def is_due(self, done: int) -> bool:
        """Whether a line is written after ``done`` steps."""
        return done % self.every == 0 or done == self.total

    def add(self, numbers: dict[str, float]) -> None:
        """Take the numbers of one step."""
        for name, value in numbers.items():
            self.recent.setdefault(name, []).append(value)

    def write(self, done: int, recent: dict[str, list[float]], lr: float) -> dict[str, Any]:
        """Write a line of the means of ``recent``, and return it with ``left`` (seconds to go) and ``rate`` (steps a
        second)."""
        means = {name: sum(values) / len(values) for name, values in recent.items()}
        took = time.monotonic() - self.began
        line = {"step": done, **means, "lr": lr, "seconds": round(self.before + took, 1)}
        if self.writes:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in line.items():
                if name not in BESIDES:
                    self.board.add_scalar(name, value, done)
            self.board.flush()
        self.recent = {}
        rate = (done - self.start) / max(took, 1e-9)
        return {**line, "left": (self.total - done) / rate, "rate": rate}

    def exploded(self, loss: float, factor: float) -> bool:
        """Whether the mean loss of a line is ``factor`` times the lowest line's so far (0 = never)."""
        limit, self.lowest = factor * self.lowest, min(self.lowest, loss)
        return factor > 0 and loss > limit
