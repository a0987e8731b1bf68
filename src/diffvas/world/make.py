"""Make data sets of scene clips, in several processes and resumable."""

from __future__ import annotations

import contextlib
import difflib
import json
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from diffvas import __version__
from diffvas.world.clip import SceneClip
from diffvas.world.codec import encode_clip
from diffvas.world.shards import BrokenShardError, Shard, write_shard
from diffvas.world.splits import clip_seed, find_split

Progress = Callable[[str, int, int], None]
Files = dict[str, bytes]

TRUTH = ("rgb", "content", "flow")
SETTINGS = "dataset.json"
_FORMAT = "diffvas-scenes-1"


@dataclass(frozen=True)
class Settings:
    """What a data set consists of; the same settings give the same clips, whatever the number of workers.

    Attributes:
        preset: a preset of ``sample_scene``, or "flat". seed: of the data set, 0 or more.
        split: of ``splits.SPLITS``, or None: all shapes, and seeds of their own. size: (height, width) in pixels.
        frames: T. truth: what there is beside ids, masks, depth and poses: of ``TRUTH``. per_shard: clips per file.
    """

    preset: str
    seed: int = 0
    split: str | None = None
    size: tuple[int, int] = (128, 256)
    frames: int = 25
    truth: tuple[str, ...] = TRUTH
    per_shard: int = 16

    def __post_init__(self) -> None:
        """Raise ValueError where nothing can be made of them."""
        names = presets()
        if self.preset not in names:
            near = difflib.get_close_matches(self.preset, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"preset: expected one of {', '.join(names)}, got {self.preset!r}{hint}")
        find_split(self.split)
        if self.seed < 0 or self.frames < 1 or self.per_shard < 1:
            raise ValueError(f"seed, frames, per_shard: expected 0, 1 and 1 or more, got {self}")
        if len(self.size) != 2 or min(self.size) < 8:
            raise ValueError(f"size: expected (height, width) of at least 8 pixels each, got {self.size!r}")
        if not set(self.truth) <= set(TRUTH):
            raise ValueError(f"truth: expected some of {', '.join(TRUTH)}, got {', '.join(self.truth)}")

    def name(self, index: int) -> str:
        """The name of a clip, for example ``"street-test-0000042"``."""
        return "-".join([self.preset, *([self.split] if self.split else []), f"{index:07d}"])


@dataclass
class MakeReport:
    """What ``make_clips`` did.

    Attributes:
        shards: all files of the data set, in order. clips: in the data set. made: of these, made just now, with
            ``objects`` objects and ``bytes`` bytes. remade: shards that were there but broken. wall: seconds.
        seconds: CPU seconds of all workers together, per stage: "sampling", "physics", "rendering", "writing".
    """

    shards: list[Path]
    clips: int
    made: int = 0
    objects: int = 0
    bytes: int = 0
    remade: list[Path] = field(default_factory=list)
    wall: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Rate, size and shares, to be printed; nothing where nothing was made."""
        if not self.made:
            return []
        cpu = max(sum(self.seconds.values()), 1e-9)
        shares = ", ".join(f"{stage} {100 * spent / cpu:.0f} %" for stage, spent in self.seconds.items())
        rate = f"{60 * self.objects / cpu:.0f} object clips a minute of CPU time on one core"
        size = f"{self.bytes / self.made / 1e6:.2f} MB a clip"
        return [
            f"made {self.made} clips with {self.objects} objects in {self.wall:.0f} s: {rate}, {size}",
            f"CPU time: {shares}",
        ]


def presets() -> list[str]:
    """The names that ``make_clips`` knows."""
    from diffvas.world.presets import PRESETS

    return [*PRESETS, "mixed", "demo", "flat"]


def make_clips(
    settings: Settings,
    clips: int,
    out: str | Path,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> MakeReport:
    """Render ``clips`` scenes into the folder ``out`` as tar shards (``shards``).

    Whole shards that are there already are kept, broken ones are made again: the same command resumes, and a larger
    ``clips`` extends the data set.

    Args:
        settings: what to make. clips: how many. workers: processes.
        progress: called as ``progress("clips", done, clips)``.

    Raises:
        ValueError: a bad argument, or ``out`` is not empty and holds something else than this data set.
        RuntimeError: MuJoCo or OpenGL is missing.
        OSError: a shard cannot be written, for example because the disk is full; what is whole stays.
    """
    for name, value in (("clips", clips), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name}: expected 1 or more, got {value}")
    started, out = time.perf_counter(), Path(out)
    _claim(out, settings, clips)
    ranges = [range(first, min(first + settings.per_shard, clips)) for first in range(0, clips, settings.per_shard)]
    report = MakeReport([out / f"shard-{k:05d}.tar" for k in range(len(ranges))], clips)
    missing = []
    for path, indices in zip(report.shards, ranges, strict=True):
        if not _is_whole(path, [settings.name(i) for i in indices], report):
            missing.append((path, indices))
    done = clips - sum(len(indices) for _, indices in missing)
    if progress:
        progress("clips", done, clips)
    with contextlib.closing(_results(settings, [i for _, indices in missing for i in indices], workers)) as results:
        for path, indices in missing:
            ready = []
            for index in indices:
                files, objects, seconds = next(results)
                ready.append((settings.name(index), files))
                report.made, report.objects = report.made + 1, report.objects + objects
                report.bytes += sum(map(len, files.values()))
                for stage, spent in seconds.items():
                    report.seconds[stage] = report.seconds.get(stage, 0.0) + spent
                done += 1
                if progress:
                    progress("clips", done, clips)
            began = time.process_time()
            _write(path, ready, done, clips)
            report.seconds["writing"] += time.process_time() - began
    report.wall = time.perf_counter() - started
    return report


def _write(path: Path, ready: Sequence[tuple[str, Files]], done: int, clips: int) -> None:
    try:
        write_shard(path, ready)
    except OSError as error:
        reason = f"cannot write '{path}' ({error.strerror or error}): {done - len(ready)} of {clips} clips are whole"
        raise OSError(f"{reason}; the same command goes on from there when there is room") from error


def _claim(out: Path, settings: Settings, clips: int) -> None:
    """Make ``out`` a data set of these settings, or see that it is one."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: expected a folder, got the file '{out}'")
    # another version may sample other scenes from the same seed
    wanted = json.loads(json.dumps({"format": _FORMAT, "version": __version__, **asdict(settings)}))
    path = out / SETTINGS
    if path.is_file():
        try:
            found = json.loads(path.read_text())
            there = found.pop("clips")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"out: expected the settings of a data set in '{path}', got something else") from error
        differ = [f"{k} is {found.get(k)!r}, not {v!r}" for k, v in wanted.items() if found.get(k) != v]
        if there > clips:
            differ.append(f"clips is {there}, not {clips}")
        if differ:
            raise ValueError(f"out: expected an empty folder, got another data set in '{out}': {'; '.join(differ)}")
    elif out.is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
        raise ValueError(f"out: expected an empty folder or a data set, got '{out}' with other files and no {SETTINGS}")
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(".shard-*.tmp"):  # of a process that was killed while writing
        left.unlink(missing_ok=True)
    beside = out / f".{SETTINGS}.{os.getpid()}.tmp"
    beside.write_text(json.dumps({**wanted, "clips": clips}, indent=1) + "\n")
    os.replace(beside, path)


def _is_whole(path: Path, names: list[str], report: MakeReport) -> bool:
    """Whether a shard is there, has these clips, and every byte of it is right."""
    if not path.exists():
        return False
    try:
        shard = Shard(path)
        if shard.names != names:  # the last one of a data set that is now extended
            return False
        shard.check()
    except BrokenShardError:
        report.remade.append(path)
        return False
    return True


Result = tuple[Files, int, dict[str, float]]


def _results(settings: Settings, indices: list[int], workers: int) -> Generator[Result, None, None]:
    """The clips in order, made here or in processes of their own.

    Those are started afresh, since an OpenGL context does not survive a fork; only a few clips are made ahead, so that
    memory does not grow.
    """
    if workers == 1 or len(indices) < 2:
        for index in indices:
            yield make_one(settings, index)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(indices)), mp_context=context, initializer=_ignore_interrupts)
    waiting: deque[Future[Result]] = deque()
    try:
        rest = iter(indices)
        for index in rest:
            waiting.append(pool.submit(make_one, settings, index))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes; the one that the user sees deals with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_one(settings: Settings, index: int) -> Result:
    """Sample, render and encode a clip: its files, the number of its objects, CPU seconds per stage."""
    seed, name = clip_seed(settings.seed, index, settings.split), settings.name(index)
    clock = [time.process_time()]
    if settings.preset == "flat":
        clock += clock * 2
        clip, text = replace(_flat(settings, seed), name=name, seed=seed), None
        clock.append(time.process_time())
    else:
        from diffvas.world.render import render_world
        from diffvas.world.simulate import build_world

        spec = scene_of(settings, index)
        text = spec.to_json()
        clock.append(time.process_time())
        world = build_world(spec)
        clock.append(time.process_time())
        clip = render_world(spec, world, settings.truth)
        clock.append(time.process_time())
    files = encode_clip(clip, text)
    clock.append(time.process_time())
    stages = ("sampling", "physics", "rendering", "writing")
    return files, len(clip.amodal_masks), dict(zip(stages, np.diff(clock).tolist(), strict=True))


def scene_of(settings: Settings, index: int) -> Any:
    """The specification (``SceneSpec``) of clip ``index`` of a data set."""
    from diffvas.world.scenes import sample_scene

    own = clip_seed(settings.seed, index, settings.split)
    families = find_split(settings.split).families
    spec = sample_scene(settings.preset, np.random.default_rng(own), settings.size, settings.frames, families=families)
    return replace(spec, name=settings.name(index), seed=own)


def _flat(settings: Settings, seed: int) -> SceneClip:
    """A clip of the flat world, its depth in whole thousandths, which are stored in a quarter of the space."""
    from diffvas.world.flat import flat_scene

    colour, families = bool({"rgb", "content"} & set(settings.truth)), find_split(settings.split).families
    clip = flat_scene(seed, settings.size, settings.frames, colour=colour, families=families)
    depth = (np.round(clip.depth.astype(np.float64) * 1000) / 1000).astype(np.float32)
    return replace(clip, depth=depth)
