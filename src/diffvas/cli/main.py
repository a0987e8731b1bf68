"""``diffvas``: find the verb, parse its arguments, run it, and turn errors into one line and an exit status."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from diffvas import __version__
from diffvas.cli.console import UsageError, fail

# one line each, here and not in the verbs' modules, so that the overview imports none of them
VERBS = {
    "complete": "complete hidden objects in a video",
    "demo": "run on the bundled clip and compare with its ground truth",
    "convert": "write a released checkpoint, or SVD to train from, as a clean model folder",
    "train": "train a model on rendered scenes",
    "ablate": "train and score the rows of a table of the paper",
    "world": "render scenes with exact ground truth",
    "eval": "measure models on held-out clips",
    "bench": "fit and run methods, score them under a named protocol, report, ask people",
    "data": "what is in a data set, and what is wrong with it",
    "export": "a result in the formats that other tools read",
    "studio": "a web page to click objects, complete them, compare and export",
    "speed": "time a model on this machine, setting by setting",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are exceptions, to be printed as one line like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=100)


def verb_parser(verb: str) -> tuple[argparse.ArgumentParser, object]:
    """The parser of a verb and its module, which is imported here."""
    module = importlib.import_module(f"diffvas.cli.{verb}")
    parser = Parser(prog=f"diffvas {verb}", description=module.HELP, formatter_class=_formatter, allow_abbrev=False)
    module.configure(parser)
    return parser, module


def _installed_verbs() -> dict[str, str]:
    """The verbs whose modules exist; finding a module does not run it."""
    return {verb: text for verb, text in VERBS.items() if importlib.util.find_spec(f"diffvas.cli.{verb}")}


def overview() -> str:
    """What ``diffvas --help`` prints."""
    lines = [f"diffvas {__version__}: whole objects in video, where the camera saw only parts of them", ""]
    lines += ["usage: diffvas VERB ...", "       diffvas VERB --help", "       diffvas --version", "", "verbs:"]
    lines += [f"  {verb:<10}{text}" for verb, text in _installed_verbs().items()]
    return "\n".join(lines)


def dispatch(argv: Sequence[str]) -> int:
    """Run the verb; errors come out as exceptions."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"diffvas {__version__}")
        return 0
    verbs = _installed_verbs()
    if argv[0] not in verbs:
        raise UsageError(f"argument VERB: expected one of {', '.join(verbs)}, got '{argv[0]}'")
    parser, module = verb_parser(argv[0])
    args = parser.parse_args(argv[1:])
    return int(module.run(args))  # type: ignore[attr-defined]


@contextlib.contextmanager
def _terminated_cleanly() -> Iterator[None]:
    """Make SIGTERM unwind the stack, as Ctrl-C does, so that half-written folders are removed."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signum)

    try:
        previous = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _is_out_of_memory(error: BaseException) -> bool:
    """MemoryError, or torch's, which is told by name: torch may not have been imported."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``diffvas`` command.

    Returns:
        The exit status; see :mod:`diffvas.cli`. With DIFFVAS_DEBUG=1 in the environment, errors keep their traceback.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    prog = "diffvas " + argv[0] if argv and argv[0] in VERBS else "diffvas"
    try:
        with _terminated_cleanly():
            return dispatch(argv)
    except KeyboardInterrupt:
        return fail("interrupted, nothing written", prog, status=130, kind="stopped")
    except BrokenPipeError:
        # the reader of our output has left (diffvas ... | head); Python would complain again when it flushes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("DIFFVAS_DEBUG"):
            raise
        return fail(str(error), prog, status=2)
    except Exception as error:
        if os.environ.get("DIFFVAS_DEBUG") or not (isinstance(error, OSError) or _is_out_of_memory(error)):
            raise
        return fail(str(error) or "out of memory", prog, status=1)


if __name__ == "__main__":
    sys.exit(main())
