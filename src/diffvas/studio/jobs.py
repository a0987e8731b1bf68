"""One queue, one worker: long work waits its turn, tells how far it is and how long it takes, and can be stopped."""

from __future__ import annotations

import secrets
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ENDED = ("done", "failed", "cancelled")


class Cancelled(Exception):  # noqa: N818 - not an error
    """Raised inside a job that was asked to stop, where it next tells its progress."""


@dataclass(eq=False)
class Job:
    """One piece of work.

    Attributes:
        kind: track, complete or export. owner: the token of its session. clip: the id of its clip.
        work: does it; calls :meth:`tell` as it goes. weights: share of the whole that each stage takes.
        state: waiting, running, done, failed or cancelled.
    """

    kind: str
    owner: str
    clip: str
    work: Callable[[Job], Any]
    subject: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    state: str = "waiting"
    stage: str = ""
    fraction: float = 0.0
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    _counting: float | None = None
    _ended: float | None = None

    def tell(self, stage: str, fraction: float) -> None:
        """How far the job is, from 0 to 1; raises :class:`Cancelled` where somebody asked it to stop."""
        if self.stop.is_set():
            raise Cancelled
        if self._counting is None:
            self._counting = time.monotonic()
        self.stage, self.fraction = stage, min(1.0, max(self.fraction, fraction))

    def check(self, stage: str = "") -> None:
        """Only look whether to stop; a new stage may be named."""
        if self.stop.is_set():
            raise Cancelled
        self.stage = stage or self.stage

    @property
    def left(self) -> float | None:
        """Seconds left, by the pace so far; None where there is none yet."""
        if self.state != "running" or self._counting is None or self.fraction < 0.03:
            return None
        spent = time.monotonic() - self._counting
        return None if spent < 0.7 else spent * (1 - self.fraction) / self.fraction

    def as_dict(self, position: int) -> dict[str, Any]:
        """For the page. ``position``: how many jobs run or wait before it."""
        left = self.left
        return {
            "id": self.id,
            "kind": self.kind,
            "subject": self.subject,
            "state": "stopping" if self.state == "running" and self.stop.is_set() else self.state,
            "stage": self.stage,
            "fraction": round(self.fraction, 4),
            "left": None if left is None else round(left, 1),
            "position": position,
            "error": self.error,
        }


def sentence(error: BaseException) -> str:
    """What went wrong, as one sentence for the page: without the argument's name that the library puts first."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "There is not enough memory for this; use a smaller or shorter clip, or fewer objects."
    if isinstance(error, OSError) and error.strerror:
        return f"The studio cannot write its files ({error.strerror})."
    text = " ".join(str(error).split()) or type(error).__name__
    head, colon, rest = text.partition(": ")
    if colon and head.replace("_", "").isalpha() and head.islower():
        text = rest
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


class Queue:
    """Jobs in the order in which they came; a thread of its own does them one by one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._recent: dict[str, Job] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="studio-worker", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job:
        """Put a job at the end of the queue."""
        with self._changed:
            self._waiting.append(job)
            self._recent[job.id] = job
            self._forget()
            self._changed.notify_all()
        return job

    def cancel(self, job: Job) -> None:
        """Take a waiting job out of the queue, or ask a running one to stop."""
        with self._changed:
            job.stop.set()
            if job in self._waiting:
                self._waiting.remove(job)
                self._end(job, "cancelled")
            self._changed.notify_all()

    def get(self, job_id: str, owner: str) -> Job | None:
        """A job by its id, if it belongs to this session."""
        job = self._recent.get(job_id)
        return job if job is not None and job.owner == owner else None

    def position(self, job: Job) -> int:
        """How many jobs run or wait before this one."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def of(self, owner: str, clip: str | None = None) -> list[Job]:
        """A session's jobs, oldest first, ended ones of the last minutes included."""
        with self._changed:
            return [j for j in self._recent.values() if j.owner == owner and clip in (None, j.clip)]

    def busy(self, owner: str) -> bool:
        """Whether anything of a session runs or waits."""
        return any(job.state not in ENDED for job in self.of(owner))

    def cancel_all(self, owner: str | None = None, clip: str | None = None, kind: str | None = None) -> None:
        """Cancel what fits and has not ended."""
        with self._changed:
            jobs = [j for j in self._recent.values() if j.state not in ENDED]
        for job in jobs:
            if owner in (None, job.owner) and clip in (None, job.clip) and kind in (None, job.kind):
                self.cancel(job)

    def close(self, patience: float = 5.0) -> None:
        """Stop everything; waits a little for the running job, whose thread does not keep the process alive."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.cancel_all()
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._running = self._waiting.pop(0)
                job.state = "running"
            state, error = "done", ""
            try:
                job.work(job)
            except Cancelled:
                state = "cancelled"
            except (ValueError, OSError, MemoryError, RuntimeError) as problem:
                state, error = "failed", sentence(problem)
                if not isinstance(problem, ValueError):
                    traceback.print_exc()
            except Exception as problem:  # a fault of ours: the page gets a sentence, the terminal the traceback
                state, error = "failed", f"The studio failed ({type(problem).__name__}); its terminal says where."
                traceback.print_exc()
            with self._changed:
                job.error = error
                self._running = None
                self._end(job, state)

    def _end(self, job: Job, state: str) -> None:
        job.state, job._ended = state, time.monotonic()
        job.work = _nothing  # lets go of what it held

    def _forget(self) -> None:
        now = time.monotonic()
        for key, job in list(self._recent.items()):
            if job._ended is not None and now - job._ended > 120:
                del self._recent[key]


def _nothing(job: Job) -> None:
    return None
