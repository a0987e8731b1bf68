"""Requests about objects: clicks, the mask that they show at once, and the tracking that follows."""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from diffvas.perception.prompts import BoxPrompt, PointPrompt
from diffvas.studio.clips import MAX_PROMPTS, ClipWork, StudioObject, clean_name
from diffvas.studio.hub import CurrentClip, CurrentObject, CurrentSession, CurrentStudio, Studio, state_of
from diffvas.studio.jobs import Job
from diffvas.studio.sessions import Session
from diffvas.studio.work import quick_mask, track_clip

router = APIRouter()


class ObjectChange(BaseModel):
    """A new name, or whether it stands in front of the others; what is left out stays."""

    name: str | None = Field(None, max_length=400)
    in_front: bool | None = None


class ClickIn(BaseModel):
    """A click in pixels of the clip: a point, or a box [x0, y0, x1, y1]."""

    frame: int
    x: float = 0.0
    y: float = 0.0
    positive: bool = True
    box: tuple[float, float, float, float] | None = None


@router.post("/api/clips/{clip_id}/objects")
def add_object(work: CurrentClip, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """One more object."""
    work.add_object()
    return state_of(studio, session, work)


@router.patch("/api/clips/{clip_id}/objects/{object_id}")
def change_object(
    item: CurrentObject, wanted: ObjectChange, work: CurrentClip, studio: CurrentStudio, session: CurrentSession
) -> dict[str, Any]:
    """Call an object something else, or say that it stands in front of the others."""
    with work.lock:
        if wanted.name is not None:
            item.name = clean_name(wanted.name, f"object {item.id}")
        if wanted.in_front is not None:
            item.in_front = wanted.in_front
    return state_of(studio, session, work)


@router.delete("/api/clips/{clip_id}/objects/{object_id}")
def remove_object(
    item: CurrentObject, work: CurrentClip, studio: CurrentStudio, session: CurrentSession
) -> dict[str, Any]:
    """Take an object away; the others are tracked anew."""
    work.remove_object(item.id)
    _track(studio, session, work)
    return state_of(studio, session, work)


@router.post("/api/clips/{clip_id}/objects/{object_id}/clicks")
def add_click(
    item: CurrentObject, click: ClickIn, work: CurrentClip, studio: CurrentStudio, session: CurrentSession
) -> dict[str, Any]:
    """Show (part of) the object: its mask on this frame at once, then tracking in the queue."""
    prompt = _prompt(work, click)
    with work.lock:
        if len(item.clicks) >= MAX_PROMPTS:
            raise ValueError(f"expected at most {MAX_PROMPTS} clicks, got one more")
        if isinstance(prompt, PointPrompt) and not prompt.positive and not item.starts:
            raise ValueError("click the object itself first; then take away what does not belong to it")
        if isinstance(prompt, BoxPrompt):
            item.clicks[:] = [c for c in item.clicks if not (isinstance(c, BoxPrompt) and c.frame == prompt.frame)]
        item.clicks.append(prompt)
        work.changed(item)
    # a tracking that runs would be of older clicks, and take the time of this one
    studio.queue.cancel_all(session.token, work.id, "track")
    try:
        _show(studio, work, item, prompt.frame)
    except ValueError as error:
        with work.lock:
            if prompt in item.clicks:
                item.clicks.remove(prompt)
                work.changed(item)
        _track(studio, session, work)
        if "nothing that stands out" in str(error):
            raise ValueError(
                "nothing stands out there; click elsewhere on the object, or drag a box around it"
            ) from error
        raise
    _track(studio, session, work)
    return state_of(studio, session, work)


def _prompt(work: ClipWork, click: ClickIn) -> PointPrompt | BoxPrompt:
    width, height = work.clip.width, work.clip.height
    if not 0 <= click.frame < work.clip.num_frames:
        raise ValueError(f"expected a frame from 0 to {work.clip.num_frames - 1}, got {click.frame}")
    if click.box is None:
        if not (0 <= click.x < width and 0 <= click.y < height):
            raise ValueError(f"expected a point inside the frame of {width} x {height}, got {click.x:g}, {click.y:g}")
        return PointPrompt(click.frame, click.x, click.y, click.positive)
    x0, y0, x1, y1 = click.box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"expected a box inside the frame of {width} x {height}, got {x0:g}, {y0:g}, {x1:g}, {y1:g}")
    return BoxPrompt(click.frame, x0, y0, x1, y1)


@router.delete("/api/clips/{clip_id}/objects/{object_id}/clicks/{index}")
def remove_click(
    index: int, item: CurrentObject, work: CurrentClip, studio: CurrentStudio, session: CurrentSession
) -> dict[str, Any]:
    """Take a click back."""
    with work.lock:
        if not 0 <= index < len(item.clicks):
            raise HTTPException(404, "There is no such click.")
        removed = item.clicks.pop(index)
        work.changed(item)
    studio.queue.cancel_all(session.token, work.id, "track")
    if item.clicks:
        with contextlib.suppress(ValueError):  # what is left shows nothing here: tracking will say so
            _show(studio, work, item, removed.frame)
    _track(studio, session, work)
    return state_of(studio, session, work)


def _show(studio: Studio, work: ClipWork, item: StudioObject, t: int) -> None:
    with work.quick:
        mask = quick_mask(studio.machine, work, item, t)
    if mask is None:
        with work.lock:
            work.previews.pop((item.id, t), None)
    else:
        work.set_preview(item.id, t, mask)


def _track(studio: Studio, session: Session, work: ClipWork) -> None:
    """Track what is clicked now; a tracking of older clicks is given up."""
    studio.queue.cancel_all(session.token, work.id, "track")
    if work.tracked_version != work.version and any(item.starts for item in work.objects.values()):
        studio.queue.submit(Job("track", session.token, work.id, lambda job: track_clip(studio.machine, work, job)))
