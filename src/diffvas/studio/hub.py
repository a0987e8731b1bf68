"""What all requests share: the studio itself, and how a request finds its session, clip, object and run.

Everything is looked up through the session of the cookie, so that an id of somebody else's is as good as none: 404.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from diffvas.studio.clips import ClipWork, Run, StudioObject
from diffvas.studio.jobs import Queue
from diffvas.studio.opening import Limits
from diffvas.studio.sessions import Session, Sessions
from diffvas.studio.work import Machine

KEPT = {"Cache-Control": "private, max-age=86400, immutable"}  # addresses of pictures change with what they show
FRESH = {"Cache-Control": "no-store"}


@dataclass(eq=False)
class Studio:
    """The whole: what all requests share.

    Attributes:
        offered: clips of the command line, which every session may open.
        cookie: its name; has the port in it, since cookies of one host are shared by all ports.
    """

    machine: Machine = field(default_factory=Machine)
    limits: Limits = field(default_factory=Limits)
    offered: Sequence[Path] = ()
    names: frozenset[str] = frozenset({"localhost"})
    cookie: str = "diffvas-studio"

    def __post_init__(self) -> None:
        self.queue = Queue()
        self.sessions = Sessions(self.limits, busy=lambda session: self.queue.busy(session.token))
        self._stop = threading.Event()
        threading.Thread(target=self._sweep, name="studio-sweeper", daemon=True).start()

    def _sweep(self) -> None:
        while not self._stop.wait(min(60.0, self.limits.idle)):
            self.sessions.sweep()

    def close(self) -> None:
        """Stop work, end sessions, remove their files."""
        self._stop.set()
        self.queue.close()
        self.sessions.close()


def current_studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def current_session(request: Request) -> Session:
    studio = current_studio(request)
    session = studio.sessions.get(request.cookies.get(studio.cookie))
    if session is None:
        raise HTTPException(401, "This session has ended; reload the page to begin a new one.")
    return session


CurrentStudio = Annotated[Studio, Depends(current_studio)]
CurrentSession = Annotated[Session, Depends(current_session)]


def _clip(clip_id: str, session: CurrentSession) -> ClipWork:
    work = session.clips.get(clip_id)
    if work is None:
        raise HTTPException(404, "There is no such clip in this session.")
    return work


CurrentClip = Annotated[ClipWork, Depends(_clip)]


def _object(object_id: int, work: CurrentClip) -> StudioObject:
    item = work.objects.get(object_id)
    if item is None:
        raise HTTPException(404, "There is no such object.")
    return item


def _run(run_id: str, work: CurrentClip) -> Run:
    run = work.runs.get(run_id)
    if run is None:
        raise HTTPException(404, "There is no such run.")
    return run


CurrentObject = Annotated[StudioObject, Depends(_object)]
CurrentRun = Annotated[Run, Depends(_run)]


def state_of(studio: Studio, session: Session, work: ClipWork) -> dict[str, Any]:
    """All about a clip, its jobs included."""
    # the jobs first: what a job that has ended here left behind is then surely in the state
    jobs = [job.as_dict(studio.queue.position(job)) for job in studio.queue.of(session.token, work.id)]
    return {**work.state(), "jobs": jobs}


def frame_number(work: ClipWork, t: int) -> int:
    """The frame, if the clip has it; 404 else."""
    if not 0 <= t < work.clip.num_frames:
        raise HTTPException(404, f"There is no frame {t}: the clip has {work.clip.num_frames}.")
    return t
