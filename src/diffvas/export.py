"""Writing a completion to disk, all or nothing.

Layout (:mod:`diffvas.exports` reads it)::

    OUT/result.json                        version, model, settings, clip; per object and frame: areas, RLEs
    OUT/preview.mp4                        side by side: modal overlay | amodal overlay | content, if any
    OUT/<object id>/amodal_masks/00000.png 8-bit 0/255, source size
    OUT/<object id>/probability/00000.png  8-bit, share of the K samples (K > 1 only)
    OUT/<object id>/content/00000.png      RGBA, straight alpha, source size (not where only masks were asked for)

Everything goes to a hidden folder beside OUT, which gets its name when it is whole. Nothing in it depends on the time
of day or on how long a stage took, so that the same seed gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas import __version__
from diffvas.preview import (
    MAX_HEIGHT,
    MAX_WIDTH,
    compose_content,
    draw_overlay,
    object_colour,
    panel_size,
    preview_frames,
)
from diffvas.types import Bool, Completion, ObjectCompletion
from diffvas.video import frame_times, write_mp4

__all__ = [
    "MAX_HEIGHT",
    "MAX_WIDTH",
    "FolderKind",
    "are_even",
    "check_out_dir",
    "compose_content",
    "draw_overlay",
    "encode_rle",
    "frame_entry",
    "object_colour",
    "object_entry",
    "panel_size",
    "preview_frames",
    "replacing_folder",
    "result_dict",
    "result_entry",
    "save_completion",
    "take_place",
    "whole_file",
    "write_png",
]

RESULT_NAME = "result.json"
PREVIEW_NAME = "preview.mp4"
PICTURE_NAME = "picture.png"  # `diffvas demo` adds it; a second demo must not take it for a stranger's
FORMAT_NAME = "diffvas-completion"
DOUBTFUL = 0.75  # frames whose expected IoU is below this are worth checking
_PNG_COMPRESSION = 4  # cv2's 0 to 9; higher costs time and saves little on masks and photographs

Progress = Callable[[str, int, int], None]


def save_completion(
    completion: Completion,
    out_dir: str | Path,
    progress: Progress | None = None,
    *,
    source: str | Path | None = None,
) -> Path:
    """Write a completion's files; an earlier completion in the same place is replaced when the new one is whole.

    Args:
        completion: what to write.
        out_dir: the output folder; missing parents are made.
        progress: called as progress("write", frames done, frames in all).
        source: the video file that the clip was read from: the preview gets its sound, and shows every frame as long
            as it does. Silent and evenly paced where None.

    Returns:
        The output folder, as an absolute path.

    Raises:
        ValueError: ``out_dir`` is a file, or a folder with anything in it but an earlier completion.
        OSError: the files cannot be written; nothing is left behind.
    """
    with replacing_folder(out_dir) as temp:
        total = completion.clip.num_frames * (len(completion.objects) + 1)
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress("write", done, total)

        for obj in completion.objects:
            _write_object(obj, temp / str(obj.object_id), tick)
        _write_preview(completion, temp / PREVIEW_NAME, source, tick)
        text = json.dumps(result_dict(completion), indent=1, allow_nan=False)
        (temp / RESULT_NAME).write_text(text + "\n", encoding="utf-8")
    return Path(out_dir).resolve()


# ---------------------------------------------------------------------------------------------------------------------
# the place


@dataclass(frozen=True)
class FolderKind:
    """What an output folder of ours looks like, so that a stranger's is never replaced.

    Attributes:
        marker: the JSON file that says what the folder is, under "format".
        format_name: what it says there.
        files: the names of other files that may lie in it.
        is_ours: whether a folder in it, by its name, may be ours.
    """

    marker: str
    format_name: str
    files: frozenset[str]
    is_ours: Callable[[str], bool]


RESULT_FOLDER = FolderKind(RESULT_NAME, FORMAT_NAME, frozenset({PREVIEW_NAME, PICTURE_NAME}), str.isdecimal)


def check_out_dir(out_dir: str | Path, kind: FolderKind = RESULT_FOLDER) -> Path:
    """Say early whether an output can be put there, without touching anything.

    Returns:
        The place as an absolute path, links resolved.

    Raises:
        ValueError: a file, a place inside a file, a folder that may not be written, or a folder that holds anything
            but an earlier output of this kind: it would be lost.
    """
    place = Path(out_dir).resolve()
    if not place.name:
        raise ValueError(f"out_dir: expected a folder to make, got '{out_dir}'")
    ground = next(p for p in (place, *place.parents) if p.exists())
    if not ground.is_dir():
        where = "a file" if ground == place else f"a place inside the file '{ground}'"
        raise ValueError(f"out_dir: expected a folder, got '{out_dir}', which is {where}")
    parent = place.parent if ground == place else ground
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"out_dir: expected a folder that can be written, got '{out_dir}', whose parent cannot")
    if ground == place:
        _check_replaceable(place, out_dir, kind)
    return place


def _check_replaceable(place: Path, given: str | Path, kind: FolderKind) -> None:
    entries = sorted(p.name for p in place.iterdir())
    if not entries:
        return
    if not _is_marked(place / kind.marker, kind.format_name):
        raise ValueError(
            f"out_dir: expected a new or empty folder or an earlier output of diffvas, got '{given}', which holds "
            f"'{entries[0]}' and no {kind.marker} of ours"
        )
    ours = {kind.marker, *kind.files, ".DS_Store"}
    foreign = [name for name in entries if name not in ours and not ((place / name).is_dir() and kind.is_ours(name))]
    if foreign:
        raise ValueError(f"out_dir: expected nothing but an earlier output in '{given}', got '{foreign[0]}' beside it")


def _is_marked(path: Path, format_name: str) -> bool:
    """Whether a file is a marker of this program; any program may call a file so."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == format_name


@contextlib.contextmanager
def replacing_folder(out_dir: str | Path, kind: FolderKind = RESULT_FOLDER) -> Iterator[Path]:
    """A new folder to write into, which takes ``out_dir``'s place when the block ends well and vanishes otherwise.

    Parents that had to be made vanish with it. The folder lies beside its place, since only within one file system
    can it be renamed in one step.
    """
    place = check_out_dir(out_dir, kind)
    made = [p for p in place.parents if not p.exists()]
    temp = place.with_name(f".{place.name}.partial-{os.getpid()}")
    try:
        temp.mkdir(parents=True)
        yield temp
        take_place(temp, out_dir, kind)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def take_place(temp: Path, out_dir: str | Path, kind: FolderKind = RESULT_FOLDER) -> Path:
    """Give a whole folder its name; what was there is gone when that is done, and stays as it is if it fails."""
    place = check_out_dir(out_dir, kind)  # it may have changed in the meantime
    old = place.with_name(f".{place.name}.replaced-{os.getpid()}")
    try:
        if place.exists() and any(place.iterdir()):
            place.rename(old)
        temp.rename(place)  # also takes the place of an empty folder
    except BaseException:
        # of two interrupts in a row, the second must not cost the earlier output
        if old.exists() and not place.exists():
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return place


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write a file under, which gets its own name when it is whole: half a file is never found there."""
    temp = path.with_name(f".{path.name}.half")
    try:
        yield temp
        os.replace(temp, path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


# ---------------------------------------------------------------------------------------------------------------------
# the files


def encode_rle(mask: Bool) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask (H, W) bool: {"size": [H, W], "counts": str}."""
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def result_dict(completion: Completion) -> dict[str, Any]:
    """The content of result.json. Seconds are left out: they differ from run to run."""
    clip = completion.clip
    about = {"name": clip.name, "height": clip.height, "width": clip.width, "fps": clip.fps}
    objects = []
    for obj in completion.objects:
        sure = obj.confidence
        frames = [
            frame_entry(t, modal, amodal, None if sure is None else float(sure[t]))
            for t, (modal, amodal) in enumerate(zip(obj.modal_masks, obj.amodal_masks, strict=True))
        ]
        objects.append(object_entry(obj.object_id, list(_pictures(obj)), frames))
    return result_entry(completion.settings, about | {"num_frames": clip.num_frames}, objects)


def result_entry(settings: dict[str, Any], clip: dict[str, Any], objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of result.json from its parts."""
    model = settings.get("model")
    head = {"format": FORMAT_NAME, "version": __version__, "model": model, "settings": settings}
    return head | {"clip": clip, "objects": objects}


def object_entry(object_id: int, folders: list[str], frames: list[dict[str, Any]]) -> dict[str, Any]:
    """An object in result.json; ``check`` lists the frames that a person should look at, where several samples tell."""
    entry: dict[str, Any] = {"id": int(object_id), "folders": folders}
    if any("confidence" in frame for frame in frames):
        doubtful = (f for f in frames if f.get("confidence") is not None and f["confidence"] < DOUBTFUL)
        entry["check"] = [frame["frame"] for frame in doubtful]
    return entry | {"frames": frames}


def frame_entry(t: int, modal: Bool, amodal: Bool, confidence: float | None = None) -> dict[str, Any]:
    """One frame of an object in result.json.

    Args:
        modal, amodal: (H, W) bool. confidence: NaN where nothing was drawn, None with one sample.
    """
    modal_area, amodal_area = int(modal.sum()), int(amodal.sum())
    entry = {
        "frame": t,
        "modal_area": modal_area,
        "amodal_area": amodal_area,
        # an object that is nowhere is neither visible nor hidden
        "visible_fraction": modal_area / amodal_area if amodal_area else None,
    }
    if confidence is not None:
        entry["confidence"] = round(confidence, 4) if confidence == confidence else None
    return entry | {"rle": encode_rle(amodal), "modal_rle": encode_rle(modal)}


def _pictures(obj: ObjectCompletion) -> dict[str, NDArray[Any]]:
    """The arrays that are written as pictures, by the names of their folders."""
    given = {"amodal_masks": obj.amodal_masks, "content": obj.content_rgba, "probability": obj.probability}
    return {name: array for name, array in given.items() if array is not None}


def write_png(path: Path, image: NDArray[Any]) -> None:
    """Write (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA uint8, or (H, W) uint16, as PNG.

    Raises:
        OSError: the file cannot be written. (cv2.imwrite would only return False, so the bytes are written here.)
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])
    if not ok:
        raise OSError(f"cannot encode '{path}' as PNG")
    path.write_bytes(data.tobytes())


def _write_object(obj: ObjectCompletion, folder: Path, tick: Callable[[], None]) -> None:
    for kind in _pictures(obj):
        (folder / kind).mkdir(parents=True)
    for t in range(obj.num_frames):
        name = f"{t:05d}.png"
        write_png(folder / "amodal_masks" / name, obj.amodal_masks[t].astype(np.uint8) * np.uint8(255))
        if obj.content_rgba is not None:
            write_png(folder / "content" / name, obj.content_rgba[t])
        if obj.probability is not None:
            write_png(folder / "probability" / name, np.round(obj.probability[t] * 255.0).astype(np.uint8))
        tick()


def _write_preview(completion: Completion, path: Path, source: str | Path | None, tick: Callable[[], None]) -> None:
    def ticking() -> Iterator[NDArray[np.uint8]]:
        for frame in preview_frames(completion):
            yield frame
            tick()

    clip = completion.clip
    if source is None or Path(source).is_dir():
        write_mp4(path, ticking(), clip.fps)
        return
    times = frame_times(source)
    own = len(times) == clip.num_frames and not are_even(times, clip.fps)
    write_mp4(path, ticking(), clip.fps, times=times if own else None, sound_of=source)


def are_even(times: list[float], fps: float) -> bool:
    """Whether frames come at a constant rate, give or take the milliseconds to which some containers round."""
    return all(abs(time - t / fps) < 0.002 for t, time in enumerate(times))
