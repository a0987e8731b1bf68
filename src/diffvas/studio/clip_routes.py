"""Requests about clips: opening, closing, their state and their frames."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from diffvas.studio import pictures
from diffvas.studio.clips import ClipWork, clean_name
from diffvas.studio.hub import KEPT, CurrentClip, CurrentSession, CurrentStudio, Studio, frame_number, state_of
from diffvas.studio.opening import LimitError, Opened, open_demo, open_path, size_words
from diffvas.studio.sessions import Session, new_id

router = APIRouter()


def offered_names(paths: Sequence[Path]) -> list[str]:
    """What the clips of the command line are called: with their folder where two have one name."""
    names = [clean_name(path.name, "clip") for path in paths]
    return [
        f"{clean_name(path.parent.name, 'clip')}/{name}" if names.count(name) > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]


def _add(studio: Studio, session: Session, name: str, open_it: Callable[[], Opened]) -> dict[str, Any]:
    studio.sessions.room_for(session)
    work = ClipWork(open_it(), session.folder, name)
    try:
        studio.sessions.add(session, work)
    except LimitError:
        shutil.rmtree(work.folder, ignore_errors=True)
        raise
    return state_of(studio, session, work)


@router.post("/api/clips/demo")
def add_demo(studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """Open the bundled clip."""
    return _add(studio, session, "Demo clip", open_demo)


@router.post("/api/clips/offered/{index}")
def add_offered(index: int, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """Open a clip of the command line, by its place there."""
    if not 0 <= index < len(studio.offered):
        raise HTTPException(404, "There is no such clip on the studio's command line.")
    path, name = studio.offered[index], offered_names(studio.offered)[index]
    return _add(studio, session, name, lambda: open_path(path, name, studio.limits, foreign=False))


@router.put("/api/clips")
async def add_upload(request: Request, studio: CurrentStudio, session: CurrentSession, name: str = "") -> JSONResponse:
    """Open a video that is the request's body. Its name is shown and used for nothing else."""
    limit = studio.limits.upload
    too_large = f"Expected a file of at most {size_words(limit)}, got a larger one."
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise HTTPException(413, too_large)
    studio.sessions.room_for(session)
    shown = clean_name(name, "video")
    file = session.folder / f"{new_id()}.upload"
    kept = False
    try:
        size = 0
        with file.open("xb") as out:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise HTTPException(413, too_large)
                await run_in_threadpool(out.write, chunk)
        if not size:
            raise ValueError(f"expected a video, got the empty file '{shown}'")

        def opened() -> Opened:
            return open_path(file, shown, studio.limits, foreign=True)

        state = await run_in_threadpool(_add, studio, session, shown, opened)
        kept = True
        return JSONResponse(state)
    finally:
        if not kept:
            file.unlink(missing_ok=True)


@router.get("/api/clips/{clip_id}")
def clip_state(work: CurrentClip, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """All about a clip, its jobs included."""
    return state_of(studio, session, work)


@router.delete("/api/clips/{clip_id}")
def close_clip(work: CurrentClip, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """Close a clip; its files go."""
    work.closed = True
    studio.queue.cancel_all(session.token, work.id)
    session.clips.pop(work.id, None)
    shutil.rmtree(work.folder, ignore_errors=True)
    if work.source is not None and work.source.parent == session.folder:
        work.source.unlink(missing_ok=True)
    return {"closed": work.id}


@router.get("/api/clips/{clip_id}/frames/{t}")
def frame(work: CurrentClip, t: int) -> Response:
    """A frame of the input."""
    return Response(pictures.jpeg(work.clip.frames_u8[frame_number(work, t)]), media_type="image/jpeg", headers=KEPT)


@router.get("/api/clips/{clip_id}/masks/{object_id}/{t}")
def modal_mask(work: CurrentClip, object_id: int, t: int) -> Response:
    """What is visible of an object, as far as it is known."""
    mask = work.modal(object_id, frame_number(work, t))
    if mask is None:
        raise HTTPException(404, "There is no mask yet.")
    return Response(pictures.mask_png(mask), media_type="image/png", headers=KEPT)
