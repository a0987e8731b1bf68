"""What the studio's tests share: a small clip, a tracker and a model that take no time, a visitor at a desk."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from diffvas.perception.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt
from diffvas.studio.app import Studio, make_app
from diffvas.studio.work import Machine
from diffvas.types import Bool, Clip, ObjectTrack
from diffvas.video import write_mp4
from factories import make_scene, tiny_model

BALL = {"frame": 0, "x": 30, "y": 16}  # on the ball of factories.make_scene
HEADERS = {"x-diffvas-studio": "1"}


class ColourTracker:
    """What has the colour of a clicked pixel is the object; boxes are taken whole, masks as they come."""

    description = "by colour"

    def __init__(self, on_clip: Callable[[Clip], None] = lambda clip: None) -> None:
        self.on_clip = on_clip

    def track(self, clip: Clip, prompts: Sequence[ObjectPrompts], progress: Any = None) -> list[ObjectTrack]:
        self.on_clip(clip)
        masks = [self._mask(clip, item) for item in prompts]
        for t in range(clip.num_frames):
            if progress is not None:
                progress("track", t + 1, clip.num_frames)
        return [ObjectTrack(item.object_id, mask) for item, mask in zip(prompts, masks, strict=True)]

    def _mask(self, clip: Clip, item: ObjectPrompts) -> Bool:
        mask = np.zeros(clip.frames_u8.shape[:3], bool)
        for prompt in item.prompts:
            if isinstance(prompt, PointPrompt):
                red = clip.frames_u8[..., 0].astype(int)
                green = clip.frames_u8[..., 1].astype(int)
                pixel = clip.frames_u8[prompt.frame, int(prompt.y), int(prompt.x)].astype(int)
                same = (abs(red - pixel[0]) < 20) & (abs(green - pixel[1]) < 20)
                if pixel[0] == pixel[1]:
                    raise ValueError(f"point: expected an object under '{prompt}', got nothing that stands out there")
                mask = mask | same if prompt.positive else mask & ~same
            elif isinstance(prompt, BoxPrompt):
                mask[:, int(prompt.y0) : int(prompt.y1), int(prompt.x0) : int(prompt.x1)] = True
            elif isinstance(prompt, MaskPrompt):
                mask |= prompt.mask
        return mask


class _Machine(Machine):
    """Its tracker serves any number at a time, as classic does."""

    def turn(self) -> Any:
        return contextlib.nullcontext()


def machine(tracker: Any = None) -> Machine:
    """A machine that needs no loading."""
    return _Machine("random", "by colour", tracker_line="tracker: by colour", _tracker=tracker or ColourTracker(),
                   _model=tiny_model())  # fmt: skip


def video(path: Path, frames: int = 5) -> Path:
    """The scene of the factories as a video file."""
    scene = make_scene()
    stack = np.concatenate([scene.frames_u8] * (frames // len(scene.frames_u8) + 1))[:frames]
    write_mp4(path, iter(stack), 8.0)
    return path


class Desk:
    """A visitor of the studio, with the requests that the page makes."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.client = TestClient(make_app(studio), base_url="http://localhost", headers=HEADERS)
        assert self.client.get("/").status_code == 200

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """A request that must succeed; its JSON."""
        response = self.client.request(method, path, **options)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def refused(self, method: str, path: str, status: int, **options: Any) -> str:
        """A request that must be refused; the sentence."""
        response = self.client.request(method, path, **options)
        assert response.status_code == status, response.text
        text = str(response.json()["error"])
        assert text[0].isupper() and text.endswith((".", "!", "?")) and "\n" not in text, text
        return text

    def open(self) -> str:
        """The small clip, opened; the address of its part of the API."""
        state = self.ask("POST", "/api/clips/offered/0")
        return f"/api/clips/{state['id']}"

    def click(self, clip: str, number: int = 1, **click: Any) -> dict[str, Any]:
        """A click on an object, which is made if it is not there."""
        state = self.ask("GET", clip)
        if number not in [item["id"] for item in state["objects"]]:
            self.ask("POST", f"{clip}/objects")
        return self.ask("POST", f"{clip}/objects/{number}/clicks", json={**BALL, **click})

    def settled(self, clip: str, patience: float = 60) -> dict[str, Any]:
        """The clip's state when nothing of it runs or waits any more."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            state = self.ask("GET", clip)
            if all(job["state"] in ("done", "failed", "cancelled") for job in state["jobs"]):
                return state
            time.sleep(0.02)
        raise AssertionError(f"still busy: {state['jobs']}")

    def tracked(self) -> str:
        """A clip with one tracked object."""
        clip = self.open()
        self.click(clip)
        self.settled(clip)
        return clip

    def completed(self, **asked: Any) -> tuple[str, dict[str, Any]]:
        """A clip with a finished run, and the run."""
        clip = self.tracked()
        self.ask("POST", f"{clip}/runs", json=asked)
        state = self.settled(clip)
        assert state["jobs"][-1]["state"] == "done", state["jobs"]
        return clip, state["runs"][-1]
