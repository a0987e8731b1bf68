"""The folder of an unfinished job: what is done lies in it, and the same command goes on from there."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffvas.export import check_out_dir, take_place, whole_file, write_png
from diffvas.types import F32

try:
    import fcntl
except ImportError:  # Windows, where two jobs at one place are not noticed
    fcntl = None  # type: ignore[assignment]

import numpy as np

JOB_NAME, JOB_FORMAT = "job.json", "diffvas-job"
RESULT, WORK = "result", "work"


def partial_folder(out_dir: str | Path) -> Path:
    """Where a job for this output keeps what is done: beside it, since only there can it be renamed in one step."""
    place = Path(out_dir).resolve()
    return place.with_name(f".{place.name}.partial")


class Partial:
    """A job's folder while it is worked on; see :func:`open_partial`.

    Attributes:
        result: what OUT will be, in its layout. work: what goes when the job is done.
    """

    def __init__(self, out_dir: str | Path) -> None:
        self._out = out_dir
        self.folder = partial_folder(out_dir)
        self.result, self.work = self.folder / RESULT, self.folder / WORK

    def path(self, object_id: int, kind: str, frame: int) -> Path:
        """A picture's place."""
        return self.result / str(object_id) / kind / f"{frame:05d}.png"

    def write(self, object_id: int, kind: str, frame: int, image: np.ndarray) -> None:
        """Write a picture, whole or not at all."""
        path = self.path(object_id, kind, frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temp:
            write_png(temp, image)

    def count(self, object_id: int, kind: str) -> int:
        """How many frames are done, without a gap."""
        folder = self.result / str(object_id) / kind
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return next(t for t in range(len(names) + 1) if f"{t:05d}.png" not in names)

    def numbers(self, name: str, total: int) -> Numbers:
        """A float for every frame."""
        return Numbers(self.work / f"{name}.f32", total)

    @property
    def begun(self) -> bool:
        """Whether there is anything that would have to be done again."""
        return any(self.result.rglob("*.png")) or any(self.work.rglob("*.npy"))

    def finish(self) -> Path:
        """Give the result its name, and let go of the rest."""
        place = take_place(self.result, self._out)
        shutil.rmtree(self.folder, ignore_errors=True)
        return place


class Numbers:
    """Floats in a file, each written when it is known; NaN where it is not."""

    def __init__(self, path: Path, total: int) -> None:
        self._path = path
        if not path.is_file() or path.stat().st_size != 4 * total:
            with whole_file(path) as temp:
                temp.write_bytes(np.full(total, np.nan, np.float32).tobytes())

    def __setitem__(self, frame: int, value: float) -> None:
        with open(self._path, "r+b") as file:
            file.seek(4 * frame)
            file.write(np.float32(value).tobytes())

    def read(self) -> F32:
        return np.fromfile(self._path, np.float32)


@contextlib.contextmanager
def open_partial(out_dir: str | Path, key: dict[str, Any], restart: bool = False) -> Iterator[Partial]:
    """Begin a job, or go on with one.

    What is done stays where it is when the block ends by an error or an interrupt; where nothing is done yet, nothing
    is left.

    Args:
        key: all that the result depends on, JSON-able. restart: throw away what is there.

    Raises:
        ValueError: what lies there belongs to a job with another key (the first difference is named), or another
            process works on it.
    """
    place = check_out_dir(out_dir)
    made = [p for p in place.parents if not p.exists()]
    part = Partial(out_dir)
    if restart and part.folder.exists():
        shutil.rmtree(part.folder)
    _compare(part, key)
    with contextlib.ExitStack() as stack:
        for folder in (part.result, part.work):
            folder.mkdir(parents=True, exist_ok=True)
        _lock(part, stack)
        try:
            if not (part.work / JOB_NAME).is_file():
                with whole_file(part.work / JOB_NAME) as temp:
                    temp.write_text(json.dumps({"format": JOB_FORMAT, "key": key}, indent=1) + "\n", encoding="utf-8")
            yield part
        finally:
            if part.folder.exists() and not part.begun:
                shutil.rmtree(part.folder, ignore_errors=True)
                for parent in made:
                    with contextlib.suppress(OSError):
                        parent.rmdir()


def _compare(part: Partial, key: dict[str, Any]) -> None:
    if not part.folder.exists() or not any(part.folder.rglob("*")):
        return
    try:
        job = json.loads((part.work / JOB_NAME).read_text(encoding="utf-8"))
        before = job["key"] if job["format"] == JOB_FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        before = None
    if before is None:
        if part.begun:
            raise ValueError(
                f"out_dir: expected '{part.folder}' to hold an unfinished job, got a folder without {WORK}/{JOB_NAME}; "
                "move it away"
            )
        return
    difference = _difference(before, json.loads(json.dumps(key)))
    if difference:
        raise ValueError(
            f"out_dir: expected the settings of the unfinished job in '{part.folder}', got others ({difference}); give "
            "its own command to go on, or --restart to begin anew"
        )


def _difference(old: Any, new: Any, name: str = "") -> str:
    """The first difference of two nested dicts in words, or nothing."""
    if isinstance(old, dict) and isinstance(new, dict):
        parts = (_difference(old.get(k), new.get(k), k) for k in [*old, *(k for k in new if k not in old)])
        return next((part for part in parts if part), "")
    return "" if old == new else f"{name}: {old}, now {new}"


def _lock(part: Partial, stack: contextlib.ExitStack) -> None:
    if fcntl is None:
        return
    file = stack.enter_context(open(part.work / "lock", "wb"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ValueError(f"out_dir: expected no other process at work in '{part.folder}', got one") from error
