"""``diffvas studio`` as a process: where it listens, what it says, how it stops; and its files in the wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the `studio` extra (fastapi)")
pytest.importorskip("uvicorn", reason="needs the `studio` extra (uvicorn)")

from diffvas.cli import main
from studio.desk import video


def run(*argv: object) -> int:
    parser, module = main.verb_parser("studio")
    return int(module.run(parser.parse_args([str(word) for word in argv])))  # type: ignore[attr-defined]


def test_without_its_libraries_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "fastapi" else real(name, *rest)
    )
    with pytest.raises(
        ValueError, match=r"^the studio needs fastapi; install them with: pip install 'diffvas\[studio\]'$"
    ):
        run()


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="argument CLIP: expected an existing file"):
        run(tmp_path / "nowhere.mp4")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match=r"argument --port: expected an address to listen on, got 127.0.0.1:\d+ "):
            run("--port", taken.getsockname()[1])
    with pytest.raises(ValueError, match="argument --port"):
        run("--host", "203.0.113.9", "--port", "0")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_serves_and_stops_clean(tmp_path: Path, signum: int) -> None:
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "diffvas.cli.main", "studio", str(video(tmp_path / "a.mp4")), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [*command, "--tracker", "classic"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        found = re.fullmatch(r"studio: (http://127\.0\.0\.1:\d+/)  \(Ctrl-C stops it\)\n", process.stdout.readline())
        assert found
        with urllib.request.urlopen(found[1], timeout=60) as response:
            assert b"diffvas studio" in response.read()
        assert len(list((tmp_path / "tmp").glob("diffvas-studio-*/*"))) == 1
        process.send_signal(signum)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in said
    assert process.returncode == (0 if signum == signal.SIGINT else 143)
    assert not list((tmp_path / "tmp").glob("diffvas-studio-*"))


def test_static_files_are_part_of_the_package() -> None:
    from diffvas.studio.app import STATIC

    names = {path.name for path in STATIC.iterdir()}
    page = (STATIC / "index.html").read_text("utf-8")
    used = {"index.html"} | set(re.findall(r"/static/([\w.]+)", page))
    for script in STATIC.glob("*.js"):
        used |= set(re.findall(r'from "\./([\w.]+)"', script.read_text("utf-8")))
    assert used == names
