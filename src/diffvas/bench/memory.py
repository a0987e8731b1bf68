"""Memory over time of ``complete_video`` for videos of several lengths: ``python -m diffvas.bench.memory``.

A synthetic video (a disc that passes behind a post) and its masks are written frame by frame, completed in a process of
their own, and that process's resident memory is read from outside four times a second. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffvas.export import write_png
from diffvas.types import U8, Bool
from diffvas.video import write_mp4

MB = 1024.0  # of what Linux counts in kB
_JOB = "import sys; from diffvas.pipelines.job import complete_video; complete_video(*sys.argv[1:4], model=sys.argv[4])"


@dataclass(frozen=True)
class Curve:
    """Resident memory of one run.

    Attributes:
        frames: of the video. seconds, megabytes: when it was read, and what it was. peak: megabytes, as the system
            counted it.
    """

    frames: int
    seconds: list[float]
    megabytes: list[float]
    peak: float

    def line(self, points: int = 10) -> str:
        """The curve in words: memory at even steps of the run, and the peak."""
        at = np.linspace(0, len(self.megabytes) - 1, points).round().astype(int)
        steps = " ".join(f"{self.megabytes[i]:.0f}" for i in at)
        return f"{self.frames} frames, {self.seconds[-1]:.0f} s: {steps}; peak {self.peak:.0f} MB"


def scene(frames: int, size: tuple[int, int]) -> Iterator[tuple[U8, Bool]]:
    """Frames (H, W, 3) uint8, and where the disc is visible, (H, W) bool."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    ground = np.stack([(x * 3) % 160, (y * 2) % 120, (x + y) % 90], -1).astype(np.uint8)
    post = abs(x - width // 2) < width // 16
    for t in range(frames):
        centre = width * (0.5 + 0.35 * np.sin(t / 20))
        disc = np.hypot(x - centre, y - height / 2) < height / 4
        frame = np.where(disc[..., None], np.array([220, 90, 60], np.uint8), ground)
        yield np.where(post[..., None], np.uint8(40), frame), disc & ~post


def write_scene(folder: Path, frames: int, size: tuple[int, int]) -> tuple[Path, Path]:
    """``video.mp4`` and ``masks/`` in a folder, in the memory of one frame."""
    masks = folder / "masks"
    masks.mkdir(parents=True)

    def writing() -> Iterator[U8]:
        for t, (frame, mask) in enumerate(scene(frames, size)):
            write_png(masks / f"{t:05d}.png", mask.astype(np.uint8))
            yield frame

    write_mp4(folder / "video.mp4", writing(), 25.0)
    return folder / "video.mp4", masks


def measure(frames: int, size: tuple[int, int], model: str = "tiny") -> Curve:
    """Complete a video of this length and size (height, width), both even, and watch."""
    with tempfile.TemporaryDirectory(prefix="diffvas-memory-") as temp:
        video, masks = write_scene(Path(temp) / "in", frames, size)
        began = time.perf_counter()
        words = [sys.executable, "-c", _JOB, str(video), str(masks), str(Path(temp) / "out"), model]
        seconds, megabytes, peak = [], [], 0.0
        with subprocess.Popen(words) as job:
            while job.poll() is None:
                now, most = _resident(job.pid)
                if now:
                    seconds.append(time.perf_counter() - began)
                    megabytes.append(now)
                    peak = max(peak, most)
                time.sleep(0.25)
        if job.returncode:
            raise OSError(f"the job on {frames} frames ended with exit status {job.returncode}")
    return Curve(frames, seconds, megabytes, peak)


def _resident(process: int) -> tuple[float, float]:
    """Megabytes now, and the most so far."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0, 0.0
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return float(values.get("VmRSS", 0)) / MB, float(values.get("VmHWM", 0)) / MB


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for every length."""
    parser = argparse.ArgumentParser(prog="python -m diffvas.bench.memory", description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=[96, 160])
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args(argv)
    for frames in args.frames:
        print(measure(frames, (args.size[0], args.size[1]), args.model).line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
