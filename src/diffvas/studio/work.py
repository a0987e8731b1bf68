"""What the studio computes: the first mask at a click, tracking, completion with its samples, exports."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from diffvas.arrays import resize_u8
from diffvas.export import save_completion
from diffvas.exports import ExportOptions, export_result, read_result
from diffvas.perception.labels import save_masks
from diffvas.perception.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt
from diffvas.pipelines.uncertainty import expected_iou
from diffvas.studio.clips import ClipWork, Export, PackedMasks, Run, Sample, StudioObject, clean_name, unpacked
from diffvas.studio.jobs import Job
from diffvas.types import F32, Bool, Clip, Completion, ObjectCompletion, ObjectTrack

if TYPE_CHECKING:
    from diffvas.perception.tracking import Tracker
    from diffvas.pipelines.loading import CompletionModel

QUICK_SIDE = 640  # pixels of the long side at which the first mask is found
RESULT_FORMAT = "result"  # beside those of diffvas.exports: the run's own folder, preview included
MEAN = "mean"


@dataclass(eq=False)
class Machine:
    """The tracker and the model, loaded once, when first needed or ahead of it by :meth:`warm`."""

    model_name: str = "tiny"
    tracker_name: str = "auto"
    device: str = "auto"
    tracker_line: str = ""
    _tracker: Tracker | None = None
    _model: CompletionModel | None = None
    _locks: tuple[threading.Lock, threading.Lock] = field(default_factory=lambda: (threading.Lock(), threading.Lock()))
    _turn: Any = field(default_factory=threading.Lock)

    def tracker(self) -> Tracker:
        """The tracker of the command line."""
        with self._locks[0]:
            if self._tracker is None:
                tracking = importlib.import_module("diffvas.perception.tracking")
                self._tracker, self.tracker_line = tracking.load_tracker(self.tracker_name, self.device)
            assert self._tracker is not None
            return self._tracker

    def turn(self) -> Any:
        """A network serves one caller at a time; ``classic`` serves any number."""
        return contextlib.nullcontext() if "classic" in type(self.tracker()).__module__ else self._turn

    def model(self) -> CompletionModel:
        """The model of the command line."""
        with self._locks[1]:
            if self._model is None:
                loading = importlib.import_module("diffvas.pipelines.loading")
                self._model = loading.load_pipelines(self.model_name, self.device)
            assert self._model is not None
            return self._model

    def defaults(self) -> dict[str, Any] | None:
        """The model's own settings for the page; None until it is loaded."""
        if self._model is None:
            return None
        own = self._model.amodal.config.defaults
        return {"steps": own["steps"], "samples": own["samples"], "content": self._model.content is not None}

    def warm(self) -> None:
        """Load both, so that the first click need not wait. What fails here is said when it is needed."""
        for load in (self.tracker, self.model):
            with contextlib.suppress(Exception):
                load()


# ---------------------------------------------------------------------------------------------------------------------
# masks


def quick_mask(machine: Machine, work: ClipWork, item: StudioObject, t: int) -> Bool | None:
    """(H, W) bool: the object on frame ``t`` by its clicks there, at once; None where there are none.

    Where tracking has brought a mask to the frame, the clicks mend that one: the tracker gets the frame twice, first
    with the mask and then with the clicks.

    Raises:
        ValueError: nothing stands out there.
    """
    clicks = [click for click in item.clicks if click.frame == t]
    if not clicks:
        return None
    scale = min(1.0, QUICK_SIDE / max(work.clip.size))
    size = max(1, round(work.clip.height * scale)), max(1, round(work.clip.width * scale))
    frame = resize_u8(work.clip.frames_u8[t : t + 1], size)
    track = work.tracks.get(item.id)
    prior = None if track is None or item.first() == t else _shrunk(track.frame(t), size)
    before = [MaskPrompt(0, prior)] if prior is not None and prior.any() else []
    at = len(before)
    if not before and not any(isinstance(c, BoxPrompt) or c.positive for c in clicks):
        return None  # nothing here to take away from
    prompts = [ObjectPrompts(item.id, (*before, *(_moved(c, at, size, work.clip.size) for c in clicks)), item.name)]
    for other in list(work.objects.values()):
        mask = work.modal(other.id, t) if other.id != item.id and other.starts else None
        if mask is not None and (small := _shrunk(mask, size)).any():
            prompts.append(ObjectPrompts(other.id, (MaskPrompt(at, small),), other.name))
    clip = Clip(np.repeat(frame, at + 1, axis=0), work.clip.fps, work.name)
    with machine.turn():
        tracks = machine.tracker().track(clip, prompts)
    found = next(track for track in tracks if track.object_id == item.id).modal_masks[at]
    soft = cv2.resize(found.astype(np.float32), work.clip.size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft >= 0.5)


def _shrunk(mask: Bool, size: tuple[int, int]) -> Bool:
    return np.asarray(cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) >= 0.5)


def _moved(
    click: PointPrompt | BoxPrompt, t: int, size: tuple[int, int], full: tuple[int, int]
) -> PointPrompt | BoxPrompt:
    """The click on frame ``t`` of a smaller clip."""
    y, x = size[0] / full[0], size[1] / full[1]
    if isinstance(click, BoxPrompt):
        return BoxPrompt(t, click.x0 * x, click.y0 * y, min(size[1], click.x1 * x), min(size[0], click.y1 * y))
    return PointPrompt(t, min(click.x * x, size[1] - 1e-3), min(click.y * y, size[0] - 1e-3), click.positive)


def track_clip(machine: Machine, work: ClipWork, job: Job) -> None:
    """Track all objects that are shown through the clip."""
    with work.lock:
        version = work.version
        prompts = [item.prompts() for item in work.objects.values() if item.starts]
    if not prompts:
        return
    job.check("loading the tracker")
    tracker = machine.tracker()
    job.check("tracking")
    try:
        with machine.turn():
            tracks = tracker.track(
                work.clip, prompts, lambda _, done, total: job.tell("tracking", done / max(1, total))
            )
    except ValueError as error:
        with work.lock:
            work.track_error = str(error)
        raise
    job.check()
    work.set_tracks(tracks, version)


# ---------------------------------------------------------------------------------------------------------------------
# completion


class _Meter:
    """Turns the stages of K completions into one fraction."""

    def __init__(self, job: Job, samples: int, stages: Sequence[str]) -> None:
        self.job, self.samples, self.stages = job, samples, list(stages)
        self.sample = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        words = {"look": "looking", "amodal": "whole masks", "content": "hidden content", "write": "writing"}
        at = f"sample {self.sample + 1} of {self.samples}: " if self.samples > 1 else ""
        if stage not in self.stages:
            self.job.check(f"{words.get(stage, stage)}")
            return
        share = (self.stages.index(stage) + done / max(1, total)) / len(self.stages)
        self.job.tell(at + words.get(stage, stage), (self.sample + share) / self.samples)


def complete_clip(machine: Machine, work: ClipWork, run: Run, job: Job) -> None:
    """Draw the samples one after another; each can be looked at as soon as it is there. Cancelling keeps them."""
    began = time.monotonic()
    tracks = unpacked(run.tracks)
    asked = run.asked
    job.check("loading the model")
    model = machine.model()
    if not asked["content"]:
        model = dataclasses.replace(model, content=None)
    stages = ["amodal", *(["content"] if model.content is not None else []), "write"]
    meter = _Meter(job, asked["samples"], stages)
    nearer = unpacked(run.nearer) or None
    depth = None
    if nearer is None:
        depth, run.note = _depth(machine, work, asked["depth"], meter)
    completion_module = importlib.import_module("diffvas.pipelines.completion")
    place = work.folder / f"run-{run.id}"
    try:
        for k in range(asked["samples"]):
            meter.sample = k
            job.check(f"sample {k + 1} of {asked['samples']}" if asked["samples"] > 1 else "drawing")
            completion = completion_module.complete(
                work.clip,
                tracks,
                model=dataclasses.replace(model, cut_at=model.levels(asked["samples"])[k]),
                depth=depth,
                in_front=nearer,
                samples=1,
                steps=asked["steps"],
                seed=asked["seed"] + k,
                progress=meter,
            )
            _keep(work, run, str(k + 1), completion, place, meter)
            run.seconds = time.monotonic() - began
    finally:
        if len(run.samples) > 1 and not work.closed:
            _add_mean(work, run, tracks, place)
        run.seconds = time.monotonic() - began


def _depth(machine: Machine, work: ClipWork, asked: str, meter: _Meter) -> tuple[F32 | None, str]:
    if asked == "none":
        return None, ""
    if asked == "exact":
        if work.depth is None:
            raise ValueError("depth: expected a clip with exact depth, got one without; estimate it or go without")
        return work.depth, "depth: the scene's own"
    if work.estimated_depth is None:
        meter.job.check("estimating depth")
        module = importlib.import_module("diffvas.perception.depth")
        work.estimated_depth = module.resolve_depth("auto", work.clip, device=machine.device, progress=meter)
    return work.estimated_depth


def _keep(work: ClipWork, run: Run, key: str, completion: Completion, place: Path, progress: Any) -> None:
    folder = place / key
    save_completion(completion, folder, progress, source=work.source)
    areas = {obj.object_id: [int(n) for n in obj.amodal_masks.sum((1, 2))] for obj in completion.objects}
    with work.lock:
        run.samples[key] = Sample(key, folder, read_result(folder), areas)


def _add_mean(work: ClipWork, run: Run, tracks: Sequence[ObjectTrack], place: Path) -> None:
    """Where at least half of the samples agree, in the mean of their colours; and how far they agree with it."""
    objects = tuple(_mean_object(work.clip, track, run, k) for k, track in enumerate(tracks))
    settings = {"samples": len(run.samples), "seed": run.asked["seed"], "rule": "at least half of the samples"}
    _keep(work, run, MEAN, Completion(work.clip, objects, settings), place, None)


def _mean_object(clip: Clip, track: ObjectTrack, run: Run, index: int) -> ObjectCompletion:
    layers = [sample.result.layers[index] for key, sample in run.samples.items() if key != MEAN]
    modal = track.modal_masks
    probability = np.zeros(modal.shape, np.float32)
    rgba = np.zeros((*modal.shape, 4), np.uint8) if layers[0].content is not None else None
    confidence = np.ones(len(modal), np.float32)
    for t in range(clip.num_frames):
        masks = np.stack([layer.amodal(t) for layer in layers])
        probability[t] = masks.mean(0, dtype=np.float32)
        confidence[t] = expected_iou(modal[t] | (probability[t] >= 0.5), masks)
        if rgba is not None:
            colours = np.stack([layer.rgba(t)[..., :3] for layer in layers]).astype(np.float32)
            mean = (colours * masks[..., None]).sum(0) / np.maximum(masks.sum(0), 1)[..., None]
            rgba[t, ..., :3] = np.where((probability[t] >= 0.5)[..., None], mean.round(), 0)
            rgba[t, ..., :3][modal[t]] = clip.frames_u8[t][modal[t]]
    amodal = modal | (probability >= 0.5)
    if rgba is not None:
        rgba[..., 3] = amodal * np.uint8(255)
    confidence = confidence.clip(0, 1)
    run.confidence[track.object_id] = [round(float(value), 4) for value in confidence]
    return ObjectCompletion(track.object_id, modal, amodal, probability.clip(0, 1), rgba, confidence)


# ---------------------------------------------------------------------------------------------------------------------
# exports


def export_run(work: ClipWork, run: Run, key: str, formats: Sequence[str], options: ExportOptions, job: Job) -> None:
    """Write a sample in other tools' formats and put it in one zip file to download."""
    sample = run.samples[key]
    others = [name for name in formats if name != RESULT_FORMAT]
    place = work.folder / f"export-{secrets.token_hex(12)}"
    name = f"{_ascii(work.name)}-run{run.number}-{'mean' if key == MEAN else f'sample{key}'}.zip"
    file = work.folder / f"{secrets.token_hex(12)}.zip"
    try:
        if others:
            export_result(sample.folder, others, place, options, _by_format(job, others))
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _pack(archive, place, "", job)
            if RESULT_FORMAT in formats:
                _pack(archive, sample.folder, RESULT_FORMAT, job)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
    words = f"{', '.join(formats)} of run {run.number}, {'mean' if key == MEAN else f'sample {key}'}"
    _offer(work, Export(secrets.token_hex(12), file, name, words))


def export_masks(work: ClipWork, packed: list[tuple[int, PackedMasks]], job: Job) -> None:
    """The tracked masks as label images in a zip file, as ``diffvas complete --masks`` reads them."""
    tracks = unpacked(packed)
    place = work.folder / f"export-{secrets.token_hex(12)}"
    file = work.folder / f"{secrets.token_hex(12)}.zip"
    job.check("writing masks")
    try:
        save_masks(tracks, place)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _pack(archive, place, "masks", job)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
    _offer(work, Export(secrets.token_hex(12), file, f"{_ascii(work.name)}-visible-masks.zip", "visible masks"))


def _offer(work: ClipWork, export: Export) -> None:
    """Keep a file for download; of more than five, the oldest goes."""
    with work.lock:
        work.exports[export.id] = export
        for old in list(work.exports)[:-5]:
            work.exports.pop(old).file.unlink(missing_ok=True)


def _by_format(job: Job, formats: Sequence[str]) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        at = formats.index(stage) if stage in formats else 0
        job.tell(f"writing {stage}", 0.95 * (at + done / max(1, total)) / len(formats))

    return progress


def _pack(archive: zipfile.ZipFile, folder: Path, under: str, job: Job) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            job.check("packing")
            archive.write(path, Path(under) / path.relative_to(folder))


def _ascii(name: str) -> str:
    stem = clean_name(name, "clip").rsplit(".", 1)[0]
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in stem).strip("-") or "clip"


__all__ = ["MEAN", "RESULT_FORMAT", "Machine", "PackedMasks", "complete_clip", "export_run", "quick_mask", "track_clip"]
