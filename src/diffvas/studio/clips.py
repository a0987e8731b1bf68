"""One open clip: its objects and what was clicked, the tracked masks, and the runs of completion."""

from __future__ import annotations

import secrets
import threading
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.exports import Result
from diffvas.perception.prompts import BoxPrompt, ObjectPrompts, PointPrompt
from diffvas.preview import object_colour
from diffvas.studio.opening import Opened
from diffvas.types import F32, Bool, Clip, ObjectTrack

MAX_OBJECTS, MAX_PROMPTS, MAX_NAME = 12, 200, 40

Click = PointPrompt | BoxPrompt


def clean_name(text: str, fallback: str) -> str:
    """A name to show: one printable line without anything that looks like a path."""
    text = unicodedata.normalize("NFC", text).replace("\\", "/").rsplit("/", 1)[-1]
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text[:MAX_NAME].strip(" .") or fallback


class PackedMasks:
    """(T, H, W) bool in an eighth of the memory."""

    def __init__(self, masks: Bool) -> None:
        self.shape = masks.shape
        self.areas = masks.sum((1, 2)).astype(int)
        self._bits = np.packbits(masks.reshape(len(masks), -1), axis=1)

    def frame(self, t: int) -> Bool:
        """(H, W) bool."""
        _, height, width = self.shape
        return np.unpackbits(self._bits[t], count=height * width).reshape(height, width).astype(bool)

    def all(self) -> Bool:
        """(T, H, W) bool."""
        return np.stack([self.frame(t) for t in range(self.shape[0])])


def unpacked(tracks: list[tuple[int, PackedMasks]]) -> list[ObjectTrack]:
    """Tracks as the library takes them."""
    return [ObjectTrack(number, masks.all()) for number, masks in tracks]


@dataclass(eq=False)
class StudioObject:
    """An object that somebody clicks: ``clicks`` in the order in which they came. Where it stands ``in_front`` it is
    not completed, and says in place of depth what hides the others."""

    id: int
    name: str
    clicks: list[Click] = field(default_factory=list)
    in_front: bool = False

    @property
    def starts(self) -> bool:
        """Whether there is more than negative points."""
        return any(isinstance(click, BoxPrompt) or click.positive for click in self.clicks)

    def prompts(self) -> ObjectPrompts:
        """What a tracker takes."""
        return ObjectPrompts(self.id, tuple(self.clicks), self.name)

    def first(self) -> int | None:
        """The first frame on which the object is shown."""
        shown = [c.frame for c in self.clicks if isinstance(c, BoxPrompt) or c.positive]
        return min(shown, default=None)


@dataclass(eq=False)
class Sample:
    """One drawn result, on disk as ``diffvas complete`` writes it. ``areas`` is (T,) per object, in pixels."""

    key: str
    folder: Path
    result: Result
    areas: dict[int, list[int]]


@dataclass(eq=False)
class Run:
    """One completion: its samples come one by one; with several, ``mean`` follows, where most of them agree.

    Attributes:
        nearer: what stands in front of the objects; where there is none, ``asked["depth"]`` counts.
        confidence: per object (T,) in [0, 1]: the mean IoU of the mean's mask with the samples.
    """

    id: str
    number: int
    asked: dict[str, Any]
    objects: list[tuple[int, str]]
    tracks: list[tuple[int, PackedMasks]]
    track_version: int
    nearer: list[tuple[int, PackedMasks]] = field(default_factory=list)
    job: str = ""
    note: str = ""
    samples: dict[str, Sample] = field(default_factory=dict)
    confidence: dict[int, list[float]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(eq=False)
class Export:
    """A file that waits to be downloaded."""

    id: str
    file: Path
    name: str
    words: str


class ClipWork:
    """Everything about one open clip. ``lock`` guards what changes; long work is done outside it on copies."""

    def __init__(self, opened: Opened, folder: Path, shown_name: str) -> None:
        self.id = secrets.token_hex(12)
        self.clip: Clip = opened.clip
        self.source, self.depth = opened.source, opened.depth
        self.name = shown_name
        self.folder = folder / self.id
        self.folder.mkdir(mode=0o700)
        self.lock = threading.RLock()
        self.quick = threading.Lock()  # first masks of a clip are computed one at a time
        self.closed = False
        self.objects: dict[int, StudioObject] = {}
        self.tracks: dict[int, PackedMasks] = {}
        self.previews: dict[tuple[int, int], tuple[int, PackedMasks]] = {}
        self.version = 0  # of the clicks
        self.tracked_version = 0  # of the clicks that ``tracks`` was made from
        self.track_error = ""
        self.estimated_depth: tuple[F32 | None, str] | None = None
        self.runs: dict[str, Run] = {}
        self.exports: dict[str, Export] = {}
        self._states = 0
        self._objects_made = 0
        self._runs_made = 0

    # objects -----------------------------------------------------------------------------------------------------

    def add_object(self) -> StudioObject:
        """A new object without clicks."""
        with self.lock:
            if len(self.objects) >= MAX_OBJECTS:
                raise ValueError(f"expected at most {MAX_OBJECTS} objects, got one more")
            self._objects_made += 1
            item = StudioObject(self._objects_made, f"object {self._objects_made}")
            self.objects[item.id] = item
            return item

    def remove_object(self, object_id: int) -> None:
        """An object with all that belongs to it, but for finished runs."""
        with self.lock:
            had_clicks = bool(self.objects.pop(object_id).clicks)
            self._forget_masks(object_id)
            if had_clicks:
                self.version += 1
            self._settle_if_empty()

    def _settle_if_empty(self) -> None:
        if not any(item.starts for item in self.objects.values()):
            self.tracked_version = self.version  # there is nothing to track

    def _forget_masks(self, object_id: int) -> None:
        self.tracks.pop(object_id, None)
        for key in [key for key in self.previews if key[0] == object_id]:
            del self.previews[key]

    def changed(self, item: StudioObject) -> None:
        """An object's clicks have changed."""
        with self.lock:
            self.version += 1
            self.track_error = ""
            if not item.starts:
                item.clicks.clear()
                self._forget_masks(item.id)
            self._settle_if_empty()

    # masks -------------------------------------------------------------------------------------------------------

    def modal(self, object_id: int, t: int) -> Bool | None:
        """(H, W) bool: the mask of a frame as it is now, or None where there is none yet."""
        with self.lock:
            preview, track = self.previews.get((object_id, t)), self.tracks.get(object_id)
        if preview is not None:
            return preview[1].frame(0)
        return None if track is None else track.frame(t)

    def set_preview(self, object_id: int, t: int, mask: Bool) -> None:
        """The mask of one frame, until tracking has seen the click."""
        with self.lock:
            if object_id in self.objects:
                self.previews[object_id, t] = (self.version, PackedMasks(mask[None]))

    def set_tracks(self, tracks: list[ObjectTrack], version: int) -> None:
        """Tracked masks, made from the clicks of ``version``."""
        packed = {track.object_id: PackedMasks(track.modal_masks) for track in tracks}
        with self.lock:
            self.tracks = {number: masks for number, masks in packed.items() if number in self.objects}
            self.tracked_version = version
            self.previews = {key: value for key, value in self.previews.items() if value[0] > version}

    def tracked(self) -> list[tuple[int, PackedMasks]]:
        """What completion takes; ValueError where nothing is tracked, or not yet what was clicked last."""
        with self.lock:
            if not any(item.starts for item in self.objects.values()):
                raise ValueError("expected an object to complete, got none; click one first")
            if self.tracked_version != self.version:
                raise ValueError("expected tracked masks, but tracking has not ended; wait a moment")
            return [(item.id, self.tracks[item.id]) for item in self.objects.values() if item.id in self.tracks]

    # runs --------------------------------------------------------------------------------------------------------

    def new_run(self, asked: dict[str, Any]) -> Run:
        """A run that has not begun, of the masks as they are now; ValueError as :meth:`tracked`, or where all that is
        shown stands in front."""
        with self.lock:
            tracked = self.tracked()
            tracks = [(number, masks) for number, masks in tracked if not self.objects[number].in_front]
            nearer = [(number, masks) for number, masks in tracked if self.objects[number].in_front]
            if not tracks:
                raise ValueError("expected an object to complete, got only what stands in front; click what it hides")
            self._runs_made += 1
            names = [(number, self.objects[number].name) for number, _ in tracks]
            run = Run(secrets.token_hex(12), self._runs_made, asked, names, tracks, self.tracked_version, nearer)
            if nearer:
                run.note = "in front: " + ", ".join(self.objects[number].name for number, _ in nearer)
            self.runs[run.id] = run
            return run

    # for the page ------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """For the list of open clips."""
        clip = self.clip
        return {
            "id": self.id,
            "name": self.name,
            "width": clip.width,
            "height": clip.height,
            "frames": clip.num_frames,
            "fps": clip.fps,
        }

    def state(self) -> dict[str, Any]:
        """All that the page shows, but for pictures and jobs."""
        with self.lock:
            self._states += 1
            return {
                **self.summary(),
                "tick": self._states,  # so that the page knows which of two answers is the later one
                "exact_depth": self.depth is not None,
                "version": self.version,
                "tracked": self.tracked_version,
                "track_error": self.track_error,
                "objects": [self._object_state(item) for item in self.objects.values()],
                "runs": [run_state(run) for run in self.runs.values()],
                "exports": [
                    {"id": e.id, "name": e.name, "words": e.words, "bytes": e.file.stat().st_size}
                    for e in self.exports.values()
                    if e.file.exists()
                ],
            }

    def _object_state(self, item: StudioObject) -> dict[str, Any]:
        track = self.tracks.get(item.id)
        return {
            "id": item.id,
            "name": item.name,
            "in_front": item.in_front,
            "colour": "#{:02x}{:02x}{:02x}".format(*object_colour(item.id)),
            "clicks": [click_state(click) for click in item.clicks],
            "areas": None if track is None else [int(n) for n in track.areas],
            "previews": {t: version for (number, t), (version, _) in self.previews.items() if number == item.id},
        }


def click_state(click: Click) -> dict[str, Any]:
    """A click for the page."""
    if isinstance(click, BoxPrompt):
        return {"frame": click.frame, "box": [click.x0, click.y0, click.x1, click.y1]}
    return {"frame": click.frame, "x": click.x, "y": click.y, "positive": click.positive}


def run_state(run: Run) -> dict[str, Any]:
    """A run for the page."""
    return {
        "id": run.id,
        "number": run.number,
        "asked": run.asked,
        "objects": [
            {"id": number, "name": name, "colour": "#{:02x}{:02x}{:02x}".format(*object_colour(number))}
            for number, name in run.objects
        ],
        "track_version": run.track_version,
        "in_front": [number for number, _ in run.nearer],
        "job": run.job,
        "note": run.note,
        "samples": [{"key": sample.key, "areas": sample.areas} for sample in run.samples.values()],
        "confidence": run.confidence,
        "seconds": round(run.seconds, 1),
    }
