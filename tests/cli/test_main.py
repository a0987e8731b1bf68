"""The command itself: versions, help, every verb, and progress on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import re
import struct
import subprocess
import sys
import termios
import time

import diffvas
from diffvas.cli import console, main


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diffvas.cli.main", *words], capture_output=True, text=True, check=False, timeout=120
    )


def test_version_and_help() -> None:
    assert run_command("--version").stdout == f"diffvas {diffvas.__version__}\n"
    for words in ((), ("--help",)):
        done = run_command(*words)
        assert done.returncode == 0 and "complete hidden objects in a video" in done.stdout
    done = run_command("complete", "--help")
    assert done.returncode == 0 and done.stderr == ""
    for word in ("INPUT", "--masks", "--out", "--model", "--depth", "--samples", "--steps", "--seed", "--device"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_every_verb_keeps_the_protocol() -> None:
    for verb in main.VERBS:
        if importlib.util.find_spec(f"diffvas.cli.{verb}") is None:
            continue
        parser, module = main.verb_parser(verb)
        assert parser.prog == f"diffvas {verb}"
        assert isinstance(module.HELP, str) and callable(module.run)  # type: ignore[attr-defined]


def test_progress_on_a_terminal() -> None:
    leader, follower = os.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(follower, "w") as terminal, console.StageProgress(terminal) as progress:
        for done in range(3):
            progress("masks", done, 2)
            time.sleep(0.01)
        progress("content", 0, 4)
        progress("write", 1234, 98765)
    parts = []
    # one read gives what one write put there; when all is read, Linux raises and macOS gives nothing
    with contextlib.suppress(OSError):
        while part := os.read(leader, 65536):
            parts.append(part)
    os.close(leader)
    shown = b"".join(parts).decode()
    assert "masks" in shown and "2/2" in shown and "content" in shown
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()[-3:]
    # the time gone, and the time left: none where a stage is done, unknown where it has hardly begun
    wanted = (r"2/2 +0:00:0\d 0:00:00 left", r"0/4 +0:00:0\d -:--:-- left", r"1234/98765 0:00:0\d .* left")
    for line, pattern in zip(last, wanted, strict=True):
        assert re.search(pattern, line) and len(line.rstrip()) <= 80
