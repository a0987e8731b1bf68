"""Completing a video file of any length: read, drawn and written frame by frame, and resumable.

While it runs, ``.OUT.partial`` lies beside OUT. In it, ``result/`` has OUT's layout and grows frame by frame; ``work/``
has the latents of finished windows. Killed at any moment, the same call goes on, and gives the files of a run that
nobody disturbed. Two runs of it may differ only where a GPU's sums do.
"""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from diffvas import __version__
from diffvas.export import (
    PREVIEW_NAME,
    RESULT_NAME,
    are_even,
    check_out_dir,
    frame_entry,
    object_entry,
    result_entry,
    whole_file,
)
from diffvas.masks import MaskRuns, read_mask_runs
from diffvas.pipelines.amodal import object_masks
from diffvas.pipelines.completion import check_margin, check_number, check_options, make_desk, settings_of
from diffvas.pipelines.content import object_content
from diffvas.pipelines.depths import DepthSource, open_depth, open_order, stamp
from diffvas.pipelines.desk import Desk
from diffvas.pipelines.drawing import Plan, Progress, Shelf
from diffvas.pipelines.loading import CompletionModel, load_pipelines
from diffvas.pipelines.material import Material
from diffvas.pipelines.partial import Partial, open_partial
from diffvas.pipelines.shots import SHOTS, scan
from diffvas.pipelines.timeline import Timeline, plan_timeline
from diffvas.preview import Shown, preview_frame
from diffvas.types import U8, Bool, ObjectTrack
from diffvas.video import Footage, open_image, write_mp4

MASKS, PROBABILITY, CONTENT = "amodal_masks", "probability", "content"
MAX_SIDE = 65535  # of a PNG that cv2 writes, and of what any viewer opens


@dataclass(frozen=True)
class Report:
    """What a job did.

    Attributes:
        place: the output. num_frames, ids: of the clip. shots: how many. model_frames: how many the networks saw.
        check: by object, the frames worth checking; empty with one sample. seconds: per stage, of this process.
    """

    place: Path
    num_frames: int
    ids: tuple[int, ...]
    shots: int
    model_frames: int
    check: dict[int, list[int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class JobOptions:
    """How to complete, beyond the model; see ``completion.complete`` for the names they share.

    Attributes:
        shots: "auto" finds cuts with PySceneDetect, "none" takes the video for one shot.
        restart: throw away an unfinished job at the same place.

    Raises:
        ValueError: names the option, what was expected and what came.
    """

    samples: int | None = None
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    interval: tuple[float, float] | None = None
    evaluated: tuple[float, float] | None = None
    seed: int = 0
    output: str = "consensus"
    shots: str = "auto"
    model_fps: float | str = "auto"
    margin: float = 0.0
    restart: bool = False

    def __post_init__(self) -> None:
        if self.shots not in SHOTS:
            raise ValueError(f"shots: expected one of {', '.join(SHOTS)}, got {self.shots!r}")
        check_margin(self.margin)
        check_options(self.samples, self.seed, self.output, self.model_fps, **self.drawing())

    def drawing(self) -> dict[str, Any]:
        """What ``diffusion.sampling.Sampling`` takes, None where it is left to the model."""
        names = ("steps", "sampler", "guidance", "interval", "evaluated")
        return {name: getattr(self, name) for name in names}


def complete_video(
    source: str | Path,
    masks: str | Path | Sequence[ObjectTrack],
    out_dir: str | Path,
    *,
    model: str | Path | CompletionModel = "tiny",
    depth: str = "none",
    in_front: str | Path | Sequence[ObjectTrack] | None = None,
    device: str = "auto",
    options: JobOptions | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Report:
    """Complete the objects of a video file or a folder of images, and write them as ``diffvas complete`` does.

    Args:
        source: what ``video.read_clip`` takes. masks: what ``masks.read_masks`` takes, or tracks in memory.
        out_dir: the folder to write; see the module's text for what lies beside it meanwhile.
        model, device: see ``load_pipelines``. depth: see ``perception.depth.resolve_depth``. in_front: in place of
            depth, masks of what stands in front of the objects, in the forms of ``masks``; see ``depths.open_order``.
        progress: called as (stage, done, of all): "depth", "look", "amodal", "content", "write".
        notify: called with a sentence where something is done otherwise than asked for; warnings where None.

    Raises:
        FileNotFoundError, ValueError: input that cannot be read or does not fit together, options, or an unfinished
            job with other settings at the same place.
        OSError: files cannot be written, or the disk is full; what is done is kept.
    """
    options = options or JobOptions()
    check_out_dir(out_dir)
    if in_front is not None and depth != "none":
        raise ValueError(f"in_front: expected it or depth, got both ({depth!r})")
    footage, cuts = scan(source, options.shots)
    if isinstance(masks, str | Path):
        tracks = read_mask_runs(masks, footage.size, footage.num_frames)
    else:
        tracks = [MaskRuns.of(track.object_id, track.modal_masks) for track in masks]
    if in_front is None:
        known = open_depth(depth, footage, device=device)
    else:
        known = open_order(in_front, tracks, footage)
    if not isinstance(model, CompletionModel):
        model = load_pipelines(model, device)
    return run_job(footage, cuts, tracks, known, model, out_dir, options, progress, notify)


def run_job(
    footage: Footage,
    cuts: Sequence[int],
    tracks: Sequence[MaskRuns],
    depth: DepthSource,
    model: CompletionModel,
    out_dir: str | Path,
    options: JobOptions,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Report:
    """:func:`complete_video` once everything is opened."""
    _check_tracks(tracks, footage)
    plan = Plan.of(model, options.samples, options.seed, **options.drawing())
    fps = "all" if model.behaviour == "faithful" and options.model_fps == "auto" else options.model_fps
    timeline = plan_timeline(footage.times, cuts, fps, model.frames)
    key = _key(footage, tracks, depth, model, plan, timeline, options)
    with _room_on_disk(out_dir), open_partial(out_dir, key, options.restart) as part:
        material = Material(
            footage.name,
            footage.fps,
            footage.size,
            footage.times,
            {track.object_id: track for track in tracks},
            footage.frames,
            depth.prepare(footage, timeline.at.tolist(), part.work / "depth", progress),
            float(options.margin),
            depth.said,
        )
        if max(material.size) > MAX_SIDE:
            raise ValueError(f"margin: expected a canvas of at most {MAX_SIDE} pixels a side, got {max(material.size)}")
        shelf = Shelf(part.work)
        desk = make_desk(model, material, timeline, plan, progress, output=options.output, shelf=shelf, notify=notify)
        check = _Writer(desk, part, footage, progress).run()
        place = part.finish()
    return Report(
        place,
        footage.num_frames,
        tuple(material.tracks),
        len(timeline.shots),
        len(timeline.at),
        check,
        desk.meter.seconds,
    )


def _check_tracks(tracks: Sequence[MaskRuns], footage: Footage) -> None:
    if not tracks:
        raise ValueError("tracks: expected at least one object, got none")
    ids = [track.object_id for track in tracks]
    if len(set(ids)) != len(ids):
        raise ValueError(f"tracks: expected every object id once, got {ids}")
    for track in tracks:
        check_number("object_id", track.object_id, 1)
        if (len(track), track.size) != (footage.num_frames, footage.size):
            raise ValueError(
                f"masks: expected {(footage.num_frames, *footage.size)} frames, height, width like the clip, got "
                f"{(len(track), *track.size)} for object {track.object_id}"
            )


def _key(
    footage: Footage,
    tracks: Sequence[MaskRuns],
    depth: DepthSource,
    model: CompletionModel,
    plan: Plan,
    timeline: Timeline,
    options: JobOptions,
) -> dict[str, Any]:
    """All that the files depend on."""
    objects = {}
    for track in tracks:
        objects[str(track.object_id)] = hashlib.sha256(b"\0".join(track.runs)).hexdigest()[:16]
    return {
        "version": __version__,
        "input": str(footage.path.resolve()),
        "input's state": stamp(footage.path),
        "masks": objects,
        "depth": depth.key,
        "model": model.name,
        "model's state": stamp(Path(model.name)) if Path(model.name).exists() else "",
        "behaviour": model.behaviour,
        "content": model.content is not None,
        "device": str(model.device),
        "dtype": str(model.amodal.unet.dtype),
        **plan.settings(),
        "output": options.output,
        "margin": float(options.margin),
        "model_fps": options.model_fps,
        "shots": [int(timeline.at[start]) for start, _ in timeline.shots],
        "frames": hashlib.sha256(timeline.at.tobytes()).hexdigest()[:16],
    }


class _room_on_disk:  # noqa: N801, a context manager that reads like a function
    """Turn a full disk into one sentence that says what is left."""

    def __init__(self, out_dir: str | Path) -> None:
        self._out = out_dir

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        full = (errno.ENOSPC, errno.EDQUOT)
        if isinstance(error, OSError) and error.errno in full:
            raise OSError(
                f"no space is left for '{self._out}'; what is done is kept beside it: make room, and the same command "
                "goes on"
            ) from error


class _Writer:
    """Turns the streams of both stages into files, beginning where the files end."""

    def __init__(self, desk: Desk, part: Partial, footage: Footage, progress: Progress | None) -> None:
        self._desk, self._part, self._footage, self._progress = desk, part, footage, progress
        stages = 1 if desk.plan.content is None else 2
        self._total = desk.material.num_frames * (len(desk.material.tracks) * stages + 1)
        self._done = 0

    def run(self) -> dict[int, list[int]]:
        """Write everything; gives the frames worth checking."""
        for object_id in self._desk.material.tracks:
            self._write_masks(object_id)
        if self._desk.plan.content is not None:
            for object_id in self._desk.material.tracks:
                self._write_content(object_id)
        return self._write_summary()

    def _tick(self, count: int = 1) -> None:
        self._done += count
        if self._progress is not None and count:
            self._progress("write", self._done, self._total)

    def _is_done(self, stage: str, object_id: int, first: int) -> bool:
        """Whether an earlier process has written all frames of a stage; its windows count then."""
        if first < self._desk.material.num_frames:
            return False
        for run in self._desk.runs[object_id]:
            for window in run.windows:
                self._desk.count(stage, object_id, window)
        return True

    def _write_masks(self, object_id: int) -> None:
        desk, part = self._desk, self._part
        first = part.count(object_id, MASKS)
        self._tick(first)
        if self._is_done("amodal", object_id, first):
            return
        sure = part.numbers(f"confidence-{object_id}", desk.material.num_frames)
        with desk.meter.timed("amodal"):
            for found in object_masks(desk, object_id, first):
                if found.confidence is not None:
                    sure[found.frame] = found.confidence
                if found.probability is not None:
                    grey = np.round(found.probability * 255.0).astype(np.uint8)
                    part.write(object_id, PROBABILITY, found.frame, grey)
                # last, for it says that the frame is done
                part.write(object_id, MASKS, found.frame, found.amodal.astype(np.uint8) * np.uint8(255))
                self._tick()

    def _amodal(self, object_id: int, frame: int) -> Bool:
        image = np.asarray(open_image(self._part.path(object_id, MASKS, frame)))
        return np.asarray(image >= 128) | self._desk.material.modal(object_id, frame)

    def _write_content(self, object_id: int) -> None:
        desk, part = self._desk, self._part
        first = part.count(object_id, CONTENT)
        self._tick(first)
        if self._is_done("content", object_id, first):
            return
        with desk.meter.timed("content"):
            for frame, rgba in object_content(desk, object_id, lambda t: self._amodal(object_id, t), first):
                part.write(object_id, CONTENT, frame, rgba)
                self._tick()

    def _write_summary(self) -> dict[int, list[int]]:
        """The preview and result.json, in one pass over what was written."""
        desk, part, footage, material = self._desk, self._part, self._footage, self._desk.material
        began = time.perf_counter()
        ids, content = list(material.tracks), desk.plan.content is not None
        entries: dict[int, list[dict[str, Any]]] = {i: [] for i in ids}
        sure = {i: part.numbers(f"confidence-{i}", material.num_frames).read() for i in ids}

        def frames() -> Iterator[U8]:
            for t, frame in enumerate(material.rgb(range(material.num_frames))):
                objects = []
                for i in ids:
                    modal, amodal = material.modal(i, t), self._amodal(i, t)
                    rgba = _read_rgba(part.path(i, CONTENT, t)) if content else None
                    objects.append(Shown(i, modal, amodal, rgba))
                    confidence = float(sure[i][t]) if desk.plan.samples > 1 else None
                    entries[i].append(frame_entry(t, modal, amodal, confidence))
                yield preview_frame(frame, objects, content)
                self._tick()

        sound = None if footage.path.is_dir() else footage.path
        own = sound is not None and not are_even(list(footage.times), footage.fps)
        with whole_file(part.result / PREVIEW_NAME) as temp:
            write_mp4(temp, frames(), footage.fps, times=footage.times if own else None, sound_of=sound)
        kinds = [MASKS, *([CONTENT] if content else []), *([PROBABILITY] if desk.plan.samples > 1 else [])]
        objects = [object_entry(i, kinds, entries[i]) for i in ids]
        clip = {"name": material.name, "height": material.size[0], "width": material.size[1], "fps": material.fps}
        about = result_entry(settings_of(desk), clip | {"num_frames": material.num_frames}, objects)
        with whole_file(part.result / RESULT_NAME) as temp:
            temp.write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        desk.meter.seconds["preview"] = time.perf_counter() - began
        return {entry["id"]: entry.get("check", []) for entry in objects}


def _read_rgba(path: Path) -> U8:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), np.uint8)
