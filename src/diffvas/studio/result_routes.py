"""Requests about results: completion, its pictures, cancelling, exports."""

from __future__ import annotations

import shutil
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from diffvas.exports import ExportOptions, check_formats
from diffvas.studio import pictures
from diffvas.studio.clips import ClipWork
from diffvas.studio.hub import (
    FRESH,
    KEPT,
    CurrentClip,
    CurrentRun,
    CurrentSession,
    CurrentStudio,
    Studio,
    frame_number,
    state_of,
)
from diffvas.studio.jobs import Job
from diffvas.studio.sessions import Session
from diffvas.studio.work import RESULT_FORMAT, complete_clip, export_masks, export_run

MAX_SAMPLES, MAX_STEPS = 16, 100

router = APIRouter()


class RunIn(BaseModel):
    """How to complete."""

    samples: int = Field(1, ge=1, le=MAX_SAMPLES)
    steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    seed: int = Field(0, ge=0, le=2**53)
    depth: Literal["none", "auto", "exact"] = "none"
    content: bool = True


@router.post("/api/clips/{clip_id}/runs")
def add_run(asked: RunIn, work: CurrentClip, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """Complete all objects; results come sample by sample."""
    if any(job.kind == "complete" for job in _open_jobs(studio, session, work)):
        raise ValueError("a completion of this clip is under way; cancel it first")
    run = work.new_run(asked.model_dump())
    job = Job("complete", session.token, work.id, lambda job: complete_clip(studio.machine, work, run, job), run.id)
    run.job = job.id
    studio.queue.submit(job)
    return {**state_of(studio, session, work), "run": run.id}


def _open_jobs(studio: Studio, session: Session, work: ClipWork) -> list[Job]:
    return [job for job in studio.queue.of(session.token, work.id) if job.state in ("waiting", "running")]


@router.delete("/api/clips/{clip_id}/runs/{run_id}")
def remove_run(run: CurrentRun, work: CurrentClip, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """Throw a run away."""
    if any(job.subject == run.id for job in _open_jobs(studio, session, work)):
        raise ValueError("this run is in use; cancel or wait first")
    with work.lock:
        work.runs.pop(run.id, None)
    shutil.rmtree(work.folder / f"run-{run.id}", ignore_errors=True)
    return state_of(studio, session, work)


@router.get("/api/clips/{clip_id}/runs/{run_id}/{key}/{object_id}/{kind}/{t}")
def layer_picture(run: CurrentRun, work: CurrentClip, key: str, object_id: int, kind: str, t: int) -> Response:
    """A picture of a result: ``amodal``, ``modal``, ``content`` or ``probability`` of one sample and object."""
    t = frame_number(work, t)
    sample = run.samples.get(key)
    layer = next((x for x in sample.result.layers if x.object_id == object_id), None) if sample else None
    if layer is None:
        raise HTTPException(404, "There is no such result.")
    if kind == "amodal":
        data = pictures.mask_png(layer.amodal(t))
    elif kind == "modal" and layer.modal is not None:
        data = pictures.mask_png(layer.modal(t))
    elif kind == "content" and layer.content is not None:
        data = pictures.rgba_png(layer.content(t))
    elif kind == "probability" and layer.probability is not None:
        data = pictures.heat_png(layer.probability(t))
    else:
        raise HTTPException(404, "This result does not have that.")
    return Response(data, media_type="image/png", headers=KEPT)


@router.post("/api/jobs/{job_id}/cancel")
def cancel_job(job_id: str, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """Stop a job; what it has finished stays."""
    job = studio.queue.get(job_id, session.token)
    if job is None:
        raise HTTPException(404, "There is no such job.")
    studio.queue.cancel(job)
    return {"cancelled": job.id}


class ExportIn(BaseModel):
    """What to export."""

    run: str
    sample: str
    formats: list[str] = Field(max_length=32)
    alpha: str = "straight"
    category: str = Field("object", max_length=80)


@router.post("/api/clips/{clip_id}/exports")
def add_export(asked: ExportIn, work: CurrentClip, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """Write a sample as one zip file."""
    run = work.runs.get(asked.run)
    if run is None or asked.sample not in run.samples:
        raise HTTPException(404, "There is no such result.")
    formats = list(dict.fromkeys(asked.formats))
    if formats != [RESULT_FORMAT]:
        check_formats([name for name in formats if name != RESULT_FORMAT])
    options = ExportOptions(asked.alpha, asked.category)

    def write(job: Job) -> None:
        export_run(work, run, asked.sample, formats, options, job)

    studio.queue.submit(Job("export", session.token, work.id, write, run.id))
    return state_of(studio, session, work)


@router.post("/api/clips/{clip_id}/mask-exports")
def add_mask_export(work: CurrentClip, studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """Write the tracked masks as one zip file."""
    tracks = work.tracked()
    studio.queue.submit(Job("export", session.token, work.id, lambda job: export_masks(work, tracks, job)))
    return state_of(studio, session, work)


@router.get("/api/clips/{clip_id}/exports/{export_id}")
def download(export_id: str, work: CurrentClip) -> FileResponse:
    """The zip file."""
    export = work.exports.get(export_id)
    if export is None or not export.file.exists():
        raise HTTPException(404, "There is no such export.")
    return FileResponse(export.file, media_type="application/zip", filename=export.name, headers=FRESH)
