"""Who is who: a session per browser, its clips, its temporary files, and their end."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from diffvas.studio.clips import ClipWork
from diffvas.studio.opening import LimitError, Limits, size_words


def new_id() -> str:
    """A name that nobody can guess and that is safe in a path."""
    return secrets.token_hex(12)


@dataclass(eq=False)
class Session:
    """One browser: what it has opened. ``token`` is in its cookie and nowhere else."""

    token: str
    folder: Path
    clips: dict[str, ClipWork] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)


class Sessions:
    """All sessions. Files of all lie in one temporary folder, which :meth:`close` removes."""

    def __init__(self, limits: Limits, *, busy: Callable[[Session], bool] = lambda session: False) -> None:
        self.limits = limits
        self.root = Path(tempfile.mkdtemp(prefix="diffvas-studio-"))
        self._busy = busy
        self._lock = threading.Lock()
        self._all: dict[str, Session] = {}

    def make(self) -> Session:
        """A new session; where there are too many, the one unused for longest ends."""
        with self._lock:
            if len(self._all) >= self.limits.sessions:
                idle = [s for s in self._all.values() if not self._busy(s)] or list(self._all.values())
                self._end(min(idle, key=lambda s: (bool(s.clips), s.used)))
            session = Session(secrets.token_urlsafe(32), self.root / new_id())
            session.folder.mkdir(mode=0o700)
            self._all[session.token] = session
            return session

    def get(self, token: str | None) -> Session | None:
        """The session of a cookie, which counts as used now."""
        with self._lock:
            session = self._all.get(token or "")
            if session is not None:
                session.used = time.monotonic()
            return session

    def room_for(self, session: Session, bytes_: int = 0) -> None:
        """Raise LimitError where the session or the studio is full."""
        if len(session.clips) >= self.limits.clips:
            raise LimitError(f"expected at most {self.limits.clips} open clips, got one more; close one first")
        with self._lock:
            held = sum(clip.clip.frames_u8.nbytes for s in self._all.values() for clip in s.clips.values())
        if held + bytes_ > self.limits.memory:
            raise LimitError(
                f"expected at most {size_words(self.limits.memory)} of open clips in the studio, got more; close one"
            )

    def add(self, session: Session, work: ClipWork) -> None:
        """Give a session a clip; LimitError where there is no room."""
        self.room_for(session, work.clip.frames_u8.nbytes)
        session.clips[work.id] = work

    def sweep(self) -> int:
        """End sessions that nobody has used for longer than the limit and that have nothing to do; how many."""
        with self._lock:
            now = time.monotonic()
            old = [s for s in self._all.values() if now - s.used > self.limits.idle and not self._busy(s)]
            for session in old:
                self._end(session)
            return len(old)

    def _end(self, session: Session) -> None:
        self._all.pop(session.token, None)
        for clip in session.clips.values():
            clip.closed = True
        session.clips.clear()
        shutil.rmtree(session.folder, ignore_errors=True)

    def close(self) -> None:
        """End all sessions and remove the folder."""
        with self._lock:
            for session in list(self._all.values()):
                self._end(session)
        shutil.rmtree(self.root, ignore_errors=True)
