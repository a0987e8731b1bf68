"""Depth of a video of any length: from images one at a time, estimated frame by frame and kept in files, or made of
what a person says stands in front."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from diffvas import arrays, video
from diffvas.export import whole_file
from diffvas.masks import MaskRuns, read_mask_runs
from diffvas.model_files import AbsentError
from diffvas.perception import depth as perception
from diffvas.pipelines.material import ArrayTrack, Track
from diffvas.types import F32, Bool, Clip, ObjectTrack
from diffvas.video import Footage

if TYPE_CHECKING:
    import torch

KEPT_SIDE = 640  # pixels of the longer side at which estimated depth, which is smooth, is kept
CHUNK = 8  # frames per call of the network

Progress = Callable[[str, int, int], None]
DepthAt = Callable[[int], F32]  # a frame's depth (H, W) float32, finite, larger = nearer


@dataclass(frozen=True, eq=False)
class DepthSource:
    """Where a video's depth comes from; :func:`open_depth` makes it.

    Attributes:
        description: one line for the user. key: what results depend on. read: gives a frame's depth, where it exists
            already. estimator: the network, where it does not. said: whether it is a person's word, :func:`open_order`.
    """

    description: str
    key: str = "none"
    read: DepthAt | None = None
    estimator: perception.DepthEstimator | None = None
    said: bool = False

    def prepare(
        self, footage: Footage, frames: Sequence[int], folder: Path, progress: Progress | None = None
    ) -> DepthAt | None:
        """Depth for these frames, which ascend; estimated ones lie in ``folder``, and those there are not made again.

        They are kept in half precision at ``KEPT_SIDE`` pixels or less.
        """
        if self.estimator is None:
            return self.read
        folder.mkdir(parents=True, exist_ok=True)
        missing = [t for t in frames if not _file(folder, t).is_file()]
        shrink = max(1.0, max(footage.size) / KEPT_SIDE)
        size = (max(1, round(footage.size[0] / shrink)), max(1, round(footage.size[1] / shrink)))
        pictures = footage.frames(missing)
        for start in range(0, len(missing), CHUNK):
            part = missing[start : start + CHUNK]
            depth = self.estimator(np.stack([next(pictures) for _ in part]))
            for t, values in zip(part, arrays.resize_float(depth, size), strict=True):
                with whole_file(_file(folder, t)) as temp, open(temp, "wb") as file:
                    np.save(file, values.astype(np.float16), allow_pickle=False)
            if progress is not None:
                progress("depth", start + len(part), len(missing))

        def read(frame: int) -> F32:
            values = np.load(_file(folder, frame), allow_pickle=False).astype(np.float32)
            return arrays.resize_float(values[None], footage.size)[0]

        return read


def _file(folder: Path, frame: int) -> Path:
    return folder / f"{frame:05d}.npy"


def open_depth(text: str, footage: Footage, *, device: str | torch.device = "auto") -> DepthSource:
    """What ``--depth`` asks for; see ``perception.depth.resolve_depth``, whose words these are.

    A folder of images is read frame by frame, arrays in a file are read whole, networks are loaded and not yet run.

    Raises:
        ValueError: nothing of all that, or it cannot be read.
    """
    if text == "none":
        return DepthSource("depth: none")
    path = Path(text)
    if text not in ("auto", *perception.DEPTH_MODELS) and path.exists() and not (path / "config.json").is_file():
        if path.is_dir():
            return DepthSource(
                f"depth: {path}", _stamp(path), video.open_depth_folder(path, footage.size, footage.num_frames)
            )
        shape: Any = SimpleNamespace(size=footage.size, num_frames=footage.num_frames)
        stack, line = perception.resolve_depth(text, cast(Clip, shape))
        assert stack is not None
        return DepthSource(line, _stamp(path), stack.__getitem__)
    try:
        estimator = perception.load_depth_model("small" if text == "auto" else text, device)
    except AbsentError as error:
        if text != "auto":
            raise
        return DepthSource(f"depth: none (auto: {error.reason}; give --depth FOLDER, or a model id)")
    auto = "auto: " if text == "auto" else ""
    return DepthSource(f"depth: {auto}{estimator.description}", estimator.description, None, estimator)


# depth of three layers, for those who say what stands in front
FAR, OWN, NEAR = 0.0, 0.5, 1.0
# of the frame's longer side: what is as near as that to an object and to what is in front of it lies in a gap between
# their masks, which seldom meet to the pixel
SLACK = 0.005


def open_order(
    in_front: str | Path | Sequence[ObjectTrack | MaskRuns], tracks: Sequence[MaskRuns], footage: Footage
) -> DepthSource:
    """Depth of three layers from a person's word: what stands in front, the objects, and all else behind them.

    Args:
        in_front: masks of it, what ``masks.read_masks`` takes, or tracks; together they are one layer.
        tracks: the objects.

    Raises:
        FileNotFoundError, ValueError: masks that cannot be read, or do not fit the clip.
    """
    if isinstance(in_front, str | Path):
        nearer = read_mask_runs(in_front, footage.size, footage.num_frames)
        line = f"depth: in front is what {in_front} shows"
    else:
        nearer = [
            track if isinstance(track, MaskRuns) else MaskRuns.of(track.object_id, track.modal_masks)
            for track in in_front
        ]
        line = "depth: in front is what masks show"
    for track in nearer:
        check_fit("in_front", (len(track), *track.size), (footage.num_frames, *footage.size))
    key = hashlib.sha256(b"\0".join(run for track in nearer for run in track.runs)).hexdigest()[:16]
    return DepthSource(line, f"in front: {key}", layers(footage.size, tracks, nearer), said=True)


def layers(size: tuple[int, int], tracks: Sequence[Track], nearer: Sequence[Track]) -> DepthAt:
    """Gives a frame's depth (H, W) float32: ``NEAR`` where something stands in front, and in narrow gaps between that
    and an object; ``OWN`` where an object is visible; ``FAR`` elsewhere."""
    reach = max(1, round(SLACK * max(size)))
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))

    def read(frame: int) -> F32:
        front, own = (_any(some, frame, size) for some in (nearer, tracks))
        near_front, near_own = (cv2.dilate(mask.astype(np.uint8), around) > 0 for mask in (front, own))
        return np.select([front, own, near_front & near_own], [NEAR, OWN, NEAR], FAR).astype(np.float32)

    return read


def layer_stack(objects: Sequence[Bool], nearer: Sequence[Bool]) -> F32:
    """(T, H, W) float32: :func:`layers` of masks (T, H, W) in memory, of one object or more."""
    count, *size = objects[0].shape
    tracks, front = ([ArrayTrack(masks) for masks in some] for some in (objects, nearer))
    read = layers((size[0], size[1]), tracks, front)
    return np.stack([read(t) for t in range(count)])


def _any(tracks: Sequence[Track], frame: int, size: tuple[int, int]) -> Bool:
    return np.any([np.zeros(size, bool), *(track[frame] for track in tracks)], 0)


def check_fit(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ValueError unless masks or depth (T, H, W) are as many and as large as the clip's frames."""
    if got != expected:
        raise ValueError(f"{name}: expected {expected} frames, height, width like the clip, got {got}")


def _stamp(path: Path) -> str:
    return f"{path.resolve()} {stamp(path)}"


def stamp(path: Path) -> str:
    """A digest of the names, sizes and times of a file, or of the files of a folder: another after any change."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        state = file.stat()
        found.update(f"{file.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return found.hexdigest()[:16]
