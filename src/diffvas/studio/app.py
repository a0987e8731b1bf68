"""The web application: the page, the session, and errors as one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from diffvas import __version__
from diffvas.export import DOUBTFUL
from diffvas.exports import FORMATS
from diffvas.studio import clip_routes, object_routes, result_routes
from diffvas.studio.guard import Guard, known_names
from diffvas.studio.hub import FRESH, CurrentSession, CurrentStudio, Studio
from diffvas.studio.jobs import sentence
from diffvas.studio.opening import LimitError, size_words
from diffvas.studio.result_routes import MAX_SAMPLES, MAX_STEPS
from diffvas.studio.work import RESULT_FORMAT

STATIC = Path(__file__).parent / "static"

router = APIRouter()


@router.get("/", include_in_schema=False)
def page(request: Request, studio: CurrentStudio) -> HTMLResponse:
    """The page; makes a session where there is none."""
    response = HTMLResponse((STATIC / "index.html").read_text("utf-8"), headers=FRESH)
    if studio.sessions.get(request.cookies.get(studio.cookie)) is None:
        token = studio.sessions.make().token
        response.set_cookie(studio.cookie, token, httponly=True, samesite="strict", path="/")
    return response


@router.get("/api/session")
def session_state(studio: CurrentStudio, session: CurrentSession) -> dict[str, Any]:
    """What is open and what can be."""
    limits, machine = studio.limits, studio.machine
    return {
        "version": __version__,
        "clips": [work.summary() for work in session.clips.values()],
        "offered": clip_routes.offered_names(studio.offered),
        "limits": {
            "upload": limits.upload,
            "words": f"up to {size_words(limits.upload)}, {limits.frames} frames of "
            f"{limits.pixels / 1e6:.0f} megapixels",
        },
        "formats": [{"name": RESULT_FORMAT, "words": "what diffvas complete writes: PNGs, JSON, preview video"}]
        + [{"name": name, "words": words} for name, (_, words) in FORMATS.items()],
        "model": {"name": machine.model_name, "defaults": machine.defaults()},
        "tracker": machine.tracker_line,
        "doubtful": DOUBTFUL,
        "most": {"samples": MAX_SAMPLES, "steps": MAX_STEPS},
    }


def _fields(error: RequestValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    message = str(first["msg"])
    return f"{place[:1].upper()}{place[1:]}: {message[:1].lower()}{message[1:]}, got {str(first.get('input'))[:60]!r}."


def make_app(studio: Studio) -> FastAPI:
    """The application around a :class:`Studio`, which it closes when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            studio.close()

    app = FastAPI(title="diffvas studio", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.studio = studio
    for part in (router, clip_routes.router, object_routes.router, result_routes.router):
        app.include_router(part)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Guard, names=studio.names)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        text = error.detail if error.status_code != 404 or error.detail != "Not Found" else "There is nothing here."
        return JSONResponse({"error": text}, error.status_code, headers=FRESH)

    @app.exception_handler(RequestValidationError)
    async def field_error(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _fields(error)}, 422, headers=FRESH)

    @app.exception_handler(ValueError)
    async def value_error(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"error": sentence(error)}, 413 if isinstance(error, LimitError) else 400, headers=FRESH)

    @app.exception_handler(OSError)
    async def disk_error(request: Request, error: OSError) -> JSONResponse:
        return JSONResponse({"error": sentence(error)}, 507, headers=FRESH)

    return app


__all__ = ["Studio", "known_names", "make_app"]
