"""What the verbs show: one-line errors, and progress.

Everything but a verb's result goes to stderr. rich is imported when the first progress is shown.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class UsageError(ValueError):
    """The request is wrong: the message names the argument, what was expected and what came; exit status 2."""


def fail(message: str, prog: str = "diffvas", status: int = 1, kind: str = "error") -> int:
    """Print one line to stderr and return the exit status."""
    line = " ".join(message.split())
    print(f"{prog}: {kind}: {line}", file=sys.stderr)
    return status


@contextlib.contextmanager
def blame(argument: str) -> Iterator[None]:
    """Turn what reading an argument's value raises into a :class:`UsageError` that names the argument.

    The library's messages begin with the name of a parameter ("masks: expected ..."), which the user never typed.
    """
    try:
        yield
    except UsageError:
        raise
    except (ValueError, OSError) as error:
        message = re.sub(r"^\w+: ", "", str(error))
        if isinstance(error, OSError) and error.strerror:
            message = f"expected a readable path, got '{error.filename}' ({error.strerror})"
        raise UsageError(f"argument {argument}: {message}") from error


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number of ``low`` or more, and of ``high`` or less if given."""
    wanted = f"a whole number of {low} or more" if high is None else f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got '{text}'")
        return value

    return parse


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """``128x256,160x192`` -> ((128, 256), (160, 192))."""
    try:
        pairs = tuple((int(a), int(b)) for a, b in (item.split("x") for item in text.split(",")))
    except ValueError:
        pairs = ()
    if not pairs or any(a < 32 or b < 32 or a % 32 or b % 32 for a, b in pairs):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH[,...], multiples of 32, got {text!r}")
    return pairs


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number from ``low`` to ``high``; ``above``: more than ``low``."""
    wanted = f"a number {'above' if above else 'of at least'} {low:g}" + (
        f", at most {high:g}" if high < math.inf else ""
    )

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high) or (above and value == low):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got '{text}'")
        return value

    return parse


def not_negative(text: str) -> float:
    """An argparse type: a finite number of 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more, got '{text}'")
    return value


def one_of(*choices: str) -> Callable[[str], str]:
    """An argparse type: one of some words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(choices)}, got '{text}'")
        return text

    return parse


class StageProgress:
    """Shows stages as they go: bars on a terminal, one line per finished stage elsewhere.

    The instance is what the library calls: ``progress(stage, done, total)``. Use it as a context manager, so that the
    terminal is left in order whatever happens.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._finished: set[str] = set()

    def __enter__(self) -> StageProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._stream.isatty():
            self._show_bar(stage, done, total)
        elif done >= total and stage not in self._finished:
            self._finished.add(stage)
            print(f"{stage}: {done}/{total}", file=self._stream, flush=True)

    def _show_bar(self, stage: str, done: int, total: int) -> None:
        if self._bars is None:
            self._bars = _make_bars(self._stream)
            self._bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)


def _make_bars(stream: TextIO) -> Progress:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description:<14}"),
        progress.BarColumn(bar_width=24),  # the line fits 80 columns
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("left"),
        console=Console(file=stream),
    )
