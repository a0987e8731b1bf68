"""Make data sets of scene clips, in several processes and resumable."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffvas.world.storage import write_scene_clip

Progress = Callable[[str, int, int], None]


def clip_seed(seed: int, index: int) -> int:
    """The seed of clip ``index`` of a data set: depends on these two only, not on workers or order."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def make_clips(
    preset: str,
    clips: int,
    seed: int,
    out: str | Path,
    *,
    workers: int = 1,
    size: tuple[int, int] = (128, 256),
    frames: int = 25,
    progress: Progress | None = None,
) -> list[Path]:
    """Render ``clips`` scenes of a preset into the folder ``out`` as ``<preset>-<index>.npz``.

    Files that are already there are kept, so the same command resumes; ``out`` is for one preset and seed. The clips do
    not depend on ``workers``.

    Args:
        preset: a preset of ``sample_scene``.
        clips: how many; clip ``index`` has its own seed, ``clip_seed(seed, index)``.
        seed: of the data set, 0 or more.
        size: (height, width) in pixels.
        progress: called as ``progress("clips", done, clips)``.

    Returns:
        The paths of all clips, in order.

    Raises:
        ValueError: a bad argument, or ``out`` is a file.
        RuntimeError: MuJoCo or OpenGL is missing.
    """
    for name, value, least in (("clips", clips, 1), ("workers", workers, 1), ("seed", seed, 0), ("frames", frames, 1)):
        if value < least:
            raise ValueError(f"{name}: expected {least} or more, got {value}")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder, got the file {str(out)!r}")
    from diffvas.world.scenes import sample_scene

    sample_scene(preset, np.random.default_rng(0), size, frames)  # complain about arguments before anything is written
    paths = [out / f"{preset}-{index:07d}.npz" for index in range(clips)]
    jobs = [(preset, seed, index, path, size, frames) for index, path in enumerate(paths) if not path.exists()]
    done = clips - len(jobs)
    if progress:
        progress("clips", done, clips)
    for _ in _results(jobs, workers):
        done += 1
        if progress:
            progress("clips", done, clips)
    return paths


Job = tuple[str, int, int, Path, tuple[int, int], int]


def _results(jobs: list[Job], workers: int) -> Iterator[Path]:
    """Run the jobs, here or in processes of their own (started afresh: an OpenGL context does not survive a fork)."""
    if workers == 1 or len(jobs) < 2:
        yield from map(make_one, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        yield from pool.imap_unordered(make_one, jobs)


def make_one(job: Job) -> Path:
    """Sample, render and write one clip."""
    from diffvas.world.render import render_scene
    from diffvas.world.scenes import sample_scene

    preset, seed, index, path, size, frames = job
    own = clip_seed(seed, index)
    spec = sample_scene(preset, np.random.default_rng(own), size, frames)
    return write_scene_clip(path, render_scene(replace(spec, name=path.stem, seed=own)))
