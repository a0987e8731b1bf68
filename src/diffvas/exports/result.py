"""The result of a completion as exporters see it: objects whose frames are read one at a time.

A result comes from the folder that ``diffvas complete`` writes or from a :class:`diffvas.types.Completion` in memory.
Two thousand frames of a folder need no more memory than one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diffvas import __version__
from diffvas.export import FORMAT_NAME, RESULT_NAME
from diffvas.types import F32, U8, Bool, Completion
from diffvas.video import open_image

MASKS, CONTENT, PROBABILITY = "amodal_masks", "content", "probability"
_MODES = {MASKS: "L", CONTENT: "RGBA", PROBABILITY: "L"}


@dataclass(frozen=True, eq=False)
class Layer:
    """One completed object. Frames are functions of their number, 0 to T - 1, so that nothing is read before its turn.

    Attributes:
        object_id: 1 or more.
        amodal: (H, W) bool, the whole object.
        modal: (H, W) bool, the visible part; None where the result does not hold it (written by an older version).
        content: (H, W, 4) uint8 RGBA, straight alpha, sRGB; None where only masks were asked for.
        probability: (H, W) float32 in [0, 1]; None with one sample.
    """

    object_id: int
    amodal: Callable[[int], Bool]
    modal: Callable[[int], Bool] | None = None
    content: Callable[[int], U8] | None = None
    probability: Callable[[int], F32] | None = None

    def rgba(self, frame: int) -> U8:
        """(H, W, 4) uint8, straight alpha: the content, or white where the object is if there is none."""
        if self.content is not None:
            return self.content(frame)
        mask = self.amodal(frame)
        rgba = np.full((*mask.shape, 4), 255, dtype=np.uint8)
        rgba[..., 3] = np.where(mask, 255, 0)
        return rgba


@dataclass(frozen=True, eq=False)
class Result:
    """A completed clip without its input frames, which a result does not hold.

    Attributes:
        name: the clip's. height, width: pixels. fps: frames per second. num_frames: T.
        layers: one per object, in the order of the result; nothing says which is in front.
        settings: what the result was made with. version: of the diffvas that made it.
    """

    name: str
    height: int
    width: int
    fps: float
    num_frames: int
    layers: tuple[Layer, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    version: str = __version__

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    def clip_dict(self) -> dict[str, Any]:
        """For the manifests: what the clip is."""
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "fps": self.fps,
            "num_frames": self.num_frames,
        }


def from_completion(completion: Completion) -> Result:
    """A completion in memory as a result; nothing is copied."""
    layers = [
        Layer(
            int(obj.object_id),
            obj.amodal_masks.__getitem__,
            obj.modal_masks.__getitem__,
            None if obj.content_rgba is None else obj.content_rgba.__getitem__,
            None if obj.probability is None else obj.probability.__getitem__,
        )
        for obj in completion.objects
    ]
    clip = completion.clip
    return Result(clip.name, *clip.size, clip.fps, clip.num_frames, tuple(layers), completion.settings)


def read_result(folder: str | Path) -> Result:
    """Open the folder that ``diffvas complete`` wrote.

    All files must be there; they are read when they are asked for. Masks come from the PNGs, so a mask that was
    corrected by hand is exported as it is now.

    Returns:
        The result. Its frames raise ValueError, naming the file, where a picture is damaged or of another size.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: not a result of diffvas, or pictures are missing (how many, and the first one's name).
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "no such path"
        error = ValueError if folder.exists() else FileNotFoundError
        raise error(f"result: expected the folder of a result, got {kind} '{folder}'")
    about = _read_json(folder)
    try:
        clip = about["clip"]
        result = Result(
            str(clip["name"]),
            _positive(clip["height"]),
            _positive(clip["width"]),
            float(clip["fps"]),
            _positive(clip["num_frames"]),
            (),
            dict(about.get("settings") or {}),
            str(about.get("version", "")),
        )
        layers = [_layer(folder, entry, result) for entry in about["objects"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"result: expected {RESULT_NAME} as diffvas writes it in '{folder}', got {error!r}") from error
    _check_complete(folder, about["objects"], result.num_frames)
    if len({layer.object_id for layer in layers}) != len(layers):
        raise ValueError(f"result: expected distinct object ids in '{folder}', got {[x.object_id for x in layers]}")
    return replace(result, layers=tuple(layers))


def _read_json(folder: Path) -> dict[str, Any]:
    path = folder / RESULT_NAME
    if not path.is_file():
        raise ValueError(f"result: expected the folder of a result, got '{folder}', which has no {RESULT_NAME}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"result: expected JSON in '{path}', which cannot be read ({error})") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT_NAME:
        raise ValueError(f"result: expected the {RESULT_NAME} of a result of diffvas, got another program's '{path}'")
    return about


def _positive(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"a number of 1 or more expected, not {value!r}")
    return value


def _folders(folder: Path, entry: dict[str, Any]) -> list[str]:
    """The kinds of pictures that an object has; results of older versions do not say, so what is there counts."""
    base = folder / str(_positive(entry["id"]))
    stated = entry.get("folders")
    if stated is None:
        return [MASKS, *(kind for kind in (CONTENT, PROBABILITY) if (base / kind).is_dir())]
    return [kind for kind in stated if kind in _MODES]


def _layer(folder: Path, entry: dict[str, Any], result: Result) -> Layer:
    kinds = _folders(folder, entry)
    base = folder / str(entry["id"])
    pictures = {kind: partial(_read_picture, base / kind, _MODES[kind], result.size) for kind in kinds}
    read_mask, read_probability = pictures[MASKS], pictures.get(PROBABILITY)
    runs = [frame.get("modal_rle") for frame in entry["frames"]]
    if len(runs) != result.num_frames:
        raise TypeError(f"{len(runs)} frames of object {entry['id']}, not {result.num_frames}")
    return Layer(
        entry["id"],
        lambda t: read_mask(t) >= 128,
        None if None in runs else lambda t: _decode_rle(runs[t], result.size),
        pictures.get(CONTENT),
        None if read_probability is None else lambda t: read_probability(t).astype(np.float32) / np.float32(255),
    )


def _read_picture(folder: Path, mode: str, size: tuple[int, int], frame: int) -> U8:
    path = folder / f"{frame:05d}.png"
    image = open_image(path)
    if (image.height, image.width) != size or image.mode != mode:
        raise ValueError(
            f"result: expected a picture of {size[1]} x {size[0]} pixels in mode {mode}, got {image.width} x "
            f"{image.height} in mode {image.mode} in '{path}'"
        )
    return np.asarray(image)


def _decode_rle(rle: dict[str, Any], size: tuple[int, int]) -> Bool:
    from pycocotools import mask as coco_mask

    mask = np.array(coco_mask.decode([rle])[:, :, 0], dtype=bool)
    if mask.shape != size:
        raise ValueError(f"result: expected modal_rle of size {list(size)} in {RESULT_NAME}, got {list(mask.shape)}")
    return mask


def _check_complete(folder: Path, entries: list[dict[str, Any]], num_frames: int) -> None:
    missing = []
    for entry in entries:
        for kind in _folders(folder, entry):
            place = folder / str(entry["id"]) / kind
            there = {path.name for path in place.iterdir()} if place.is_dir() else set()
            names = (f"{t:05d}.png" for t in range(num_frames))
            missing += [f"{entry['id']}/{kind}/{name}" for name in names if name not in there]
    if missing:
        raise ValueError(f"result: expected a complete result, got '{folder}' without {_words(missing)}")


def _words(names: list[str], shown: int = 3) -> str:
    """The first names, and how many more."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more files" if more > 0 else "")
