"""Truths and predictions: what is scored, and how both stand on disk.

A prediction holds the method's answer per frame (``masks``), all K samples where it drew several, and probabilities
where it has them, all at the truth's own size. Frames have names, so that a missing one is noticed and a shifted one
cannot pass for another.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from diffvas.bench.storage import ClipFolder, read_json
from diffvas.metrics import rle as runs
from diffvas.metrics.box import box_iou, check_boxes
from diffvas.metrics.probability import check_probabilities
from diffvas.metrics.rle import Rle

Bool = NDArray[np.bool_]
U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MaskTruth:
    """One object of one clip, with its true masks.

    Attributes:
        clip: id, unique in the data set. group: clips of one group (objects of one scene) are resampled together.
        frames: T names, unique in the clip. amodal, modal: T checked run-length masks of one size.
        images: T image files, to draw examples on; relative ones to a folder given later. Empty = none.
    """

    clip: str
    group: str
    frames: tuple[str, ...]
    amodal: list[Rle]
    modal: list[Rle]
    images: tuple[str, ...] = ()

    @property
    def size(self) -> list[int]:
        """[height, width]"""
        return list(self.amodal[0]["size"])

    @classmethod
    def from_arrays(
        cls,
        clip: str,
        amodal: Bool,
        modal: Bool,
        *,
        group: str = "",
        frames: Sequence[str] = (),
        images: Sequence[str] = (),
    ) -> MaskTruth:
        """From (T, H, W) bool masks; frames are called 00000, 00001, ... unless they have names."""
        names = _frame_names(frames, len(amodal))
        _check_stack("amodal", amodal, amodal.shape)
        _check_stack("modal", modal, amodal.shape)
        return cls(clip, group or clip, names, runs.encode_masks(amodal), runs.encode_masks(modal), tuple(images))


@dataclass(frozen=True, eq=False)
class BoxTruth:
    """One object of one clip with its true boxes, where nobody has drawn its whole masks.

    Attributes:
        clip, group, frames: as ``MaskTruth``. amodal, modal: (T, 4) float64 boxes (x, y, width, height) in pixels of
            the frame; amodal ones may leave it. size: (height, width) of the frame.
    """

    clip: str
    group: str
    frames: tuple[str, ...]
    amodal: F64
    modal: F64
    size: tuple[int, int]

    @property
    def visibility(self) -> float:
        """Mean IoU of modal and amodal box, by which the reference sorts clips into ranges."""
        return float(box_iou(self.amodal, self.modal).mean())


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method says of one object of one clip.

    Attributes:
        clip: id of the truth. frames: names. masks: one run-length mask per frame, the method's answer.
        samples: K lists of one mask per frame; empty where the method has one answer only.
        probability: (T, H, W) uint8, 255 = certain; None where the method has none.
        seconds: the method took; nan = unknown. peak_bytes: of memory; None = unknown.
    """

    clip: str
    frames: tuple[str, ...]
    masks: list[Rle]
    samples: tuple[list[Rle], ...] = ()
    probability: U8 | None = None
    seconds: float = float("nan")
    peak_bytes: int | None = None

    @classmethod
    def from_arrays(
        cls,
        clip: str,
        masks: Bool,
        *,
        frames: Sequence[str] = (),
        samples: Bool | None = None,
        probability: NDArray[Any] | None = None,
        seconds: float = float("nan"),
        peak_bytes: int | None = None,
    ) -> Prediction:
        """From arrays: masks (T, H, W) bool, samples (K, T, H, W) bool, probability (T, H, W) float in [0, 1].

        Raises:
            ValueError: wrong shapes or types, NaN among the probabilities, a name that stands twice.
        """
        _check_stack("masks", masks, masks.shape)
        for sample in () if samples is None else samples:
            _check_stack("samples", sample, masks.shape)
        levels = None
        if probability is not None:
            levels = np.rint(check_probabilities("probability", probability) * 255).astype(np.uint8)
            if levels.shape != masks.shape:
                raise ValueError(f"probability: expected shape {masks.shape} like masks, got {levels.shape}")
        drawn = () if samples is None else tuple(runs.encode_masks(sample) for sample in samples)
        names = _frame_names(frames, len(masks))
        return cls(clip, names, runs.encode_masks(masks), drawn, levels, seconds, peak_bytes)


def _check_stack(name: str, masks: Bool, shape: tuple[int, ...]) -> None:
    if masks.dtype != np.bool_ or masks.ndim != 3 or 0 in masks.shape or masks.shape != shape:
        wanted = f"{shape}" if len(shape) == 3 else "(T, H, W)"
        raise ValueError(f"{name}: expected a bool array of shape {wanted}, got {masks.dtype} {masks.shape}")


def _frame_names(frames: Sequence[str], count: int) -> tuple[str, ...]:
    names = tuple(frames) or tuple(f"{t:05d}" for t in range(count))
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"frames: expected {count} names, all different, got {len(names)}, {len(set(names))} different"
        )
    return names


# ---------------------------------------------------------------------------------------------------------------------
# on disk


class TruthFolder:
    """Truths on disk, see :mod:`diffvas.bench.storage`: ``amodal`` and ``modal`` are lists of COCO ``counts``."""

    def __init__(self, folder: ClipFolder) -> None:
        self.folder = folder

    @classmethod
    def create(cls, path: str | Path, **about: Any) -> TruthFolder:
        """For writing; ``about`` is what is worth knowing of the data set, e.g. its name."""
        return cls(ClipFolder.create(path, "truth", about))

    @classmethod
    def open(cls, path: str | Path) -> TruthFolder:
        """For reading."""
        return cls(ClipFolder.open(path, "truth"))

    def write(self, truth: MaskTruth | BoxTruth) -> None:
        """Add one object of one clip."""
        if isinstance(truth, BoxTruth):
            boxes = {"amodal_boxes": truth.amodal.tolist(), "modal_boxes": truth.modal.tolist()}
            head = {"group": truth.group, "frames": list(truth.frames), "size": list(truth.size)}
            self.folder.write(truth.clip, {**head, **boxes})
            return
        record: dict[str, Any] = {"group": truth.group, "frames": list(truth.frames), "size": truth.size}
        record |= {"amodal": [m["counts"] for m in truth.amodal], "modal": [m["counts"] for m in truth.modal]}
        if truth.images:
            record["images"] = list(truth.images)
        self.folder.write(truth.clip, record)

    def read(self, clip: str) -> MaskTruth:
        """One truth by its id."""
        return self._parse(self.folder.read(clip))

    def __iter__(self) -> Iterator[MaskTruth]:
        """All truths in the order of their ids; ValueError where one of them has boxes instead of masks."""
        return (self._parse(record) for record in self.folder.records())

    def has_boxes(self) -> bool:
        """Whether the truths, by the first of them, are boxes."""
        return any("amodal_boxes" in read_json(path) for path in self.folder.files()[:1])

    def boxes(self) -> Iterator[BoxTruth]:
        """All truths as boxes, in the order of their ids; ValueError where one of them has none."""
        return (self._parse_boxes(record) for record in self.folder.records())

    def __len__(self) -> int:
        return len(self.folder.files())

    def _parse_boxes(self, record: dict[str, Any]) -> BoxTruth:
        where = f"truth of '{record['clip']}'"
        frames, (height, width) = _head(record, where)
        boxes = [check_boxes(f"{where}, {key}", record.get(key, ())) for key in ("amodal_boxes", "modal_boxes")]
        if any(len(one) != len(frames) for one in boxes):
            raise ValueError(f"{where}: expected {len(frames)} boxes, one per frame, got {[len(one) for one in boxes]}")
        group = record.get("group", record["clip"])
        return BoxTruth(record["clip"], group, frames, boxes[0], boxes[1], (height, width))

    def _parse(self, record: dict[str, Any]) -> MaskTruth:
        where = f"truth of '{record['clip']}'"
        frames, size = _head(record, where)
        masks = {key: _masks(record.get(key), frames, size, f"{where}, {key}") for key in ("amodal", "modal")}
        group, images = record.get("group", record["clip"]), tuple(record.get("images", ()))
        return MaskTruth(record["clip"], group, frames, masks["amodal"], masks["modal"], images)


class PredictionFolder:
    """One method's predictions on disk, see :mod:`diffvas.bench.storage`.

    A clip's record: ``frames`` (names), ``size``, ``masks`` (COCO ``counts`` per frame), ``samples`` (K of such lists),
    ``probability`` (8-bit PNG per frame, base64), ``seconds``, ``peak_bytes``.
    """

    def __init__(self, folder: ClipFolder) -> None:
        self.folder = folder
        self.name = str(folder.about.get("name") or folder.path.resolve().name)

    @classmethod
    def create(cls, path: str | Path, name: str, **about: Any) -> PredictionFolder:
        """For writing; the same ``about`` goes on with what is there, another one is refused."""
        return cls(ClipFolder.create(path, "predictions", {"name": name, **about}))

    @classmethod
    def open(cls, path: str | Path) -> PredictionFolder:
        """For reading."""
        return cls(ClipFolder.open(path, "predictions"))

    def __contains__(self, clip: str) -> bool:
        """Whether the clip is done."""
        return clip in self.folder

    def write(self, prediction: Prediction) -> None:
        """Add one clip, or replace it."""
        size = prediction.masks[0]["size"]
        record: dict[str, Any] = {"frames": list(prediction.frames), "size": list(size)}
        record["masks"] = [m["counts"] for m in prediction.masks]
        if prediction.samples:
            record["samples"] = [[m["counts"] for m in sample] for sample in prediction.samples]
        if prediction.probability is not None:
            record["probability"] = [_png(image) for image in prediction.probability]
        if math.isfinite(prediction.seconds):
            record["seconds"] = prediction.seconds
        if prediction.peak_bytes is not None:
            record["peak_bytes"] = prediction.peak_bytes
        self.folder.write(prediction.clip, record)

    def get(self, truth: MaskTruth) -> Prediction | None:
        """The prediction for a truth; None where there is none. ValueError as ``read``."""
        return self.read(truth.clip, [truth.size])

    def read(self, clip: str, sizes: Sequence[list[int]]) -> Prediction | None:
        """A clip's prediction, of one of the ``sizes`` [height, width]; None where there is none.

        Raises:
            ValueError: invalid run lengths, another size, broken pictures, names that stand twice.
        """
        if clip not in self.folder:
            return None
        record = self.folder.read(clip)
        where = f"prediction of '{clip}' by '{self.name}'"
        frames, size = _head(record, where)
        if size not in sizes:
            wanted = " or ".join(map(str, sizes))
            raise ValueError(f"{where}: expected the truth's size {wanted} (height, width), got {size}")
        drawn = record.get("samples", [])
        return Prediction(
            clip,
            frames,
            _masks(record.get("masks"), frames, size, where),
            tuple(_masks(one, frames, size, f"{where}, sample {k}") for k, one in enumerate(drawn)),
            _pictures(record["probability"], frames, size, where) if "probability" in record else None,
            _number(record, "seconds", where),
            record.get("peak_bytes"),
        )

    def extra(self, clips: set[str]) -> list[str]:
        """Ids of predictions that belong to none of ``clips``."""
        known = {self.folder.place(clip) for clip in clips}
        return sorted(self.folder._load(path)["clip"] for path in self.folder.files() if path not in known)


def _head(record: dict[str, Any], where: str) -> tuple[tuple[str, ...], list[int]]:
    frames, size = record.get("frames"), record.get("size")
    if not isinstance(frames, list) or not frames or not all(isinstance(name, str) for name in frames):
        raise ValueError(f"{where}: expected a list of frame names, got {str(frames)[:60]}")
    if len(set(frames)) != len(frames):
        twice = next(name for name in frames if frames.count(name) > 1)
        raise ValueError(f"{where}: expected every frame once, got '{twice}' {frames.count(twice)} times")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
        raise ValueError(f"{where}: expected a size (height, width), got {size!r}")
    return tuple(frames), size


def _masks(counts: Any, frames: Sequence[str], size: list[int], where: str) -> list[Rle]:
    if not isinstance(counts, list) or len(counts) != len(frames):
        got = len(counts) if isinstance(counts, list) else str(counts)[:40]
        raise ValueError(f"{where}: expected {len(frames)} masks, one per frame, got {got}")
    return [
        runs.check_rle(f"{where}, frame '{name}'", {"size": size, "counts": one})
        for name, one in zip(frames, counts, strict=True)
    ]


def _number(record: dict[str, Any], key: str, where: str) -> float:
    value = record.get(key, float("nan"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: expected a number as {key}, got {value!r}")
    return float(value)


def _png(image: U8) -> str:
    done, data = cv2.imencode(".png", image)
    assert done
    return base64.b64encode(data.tobytes()).decode("ascii")


def _pictures(texts: Any, frames: Sequence[str], size: list[int], where: str) -> U8:
    if not isinstance(texts, list) or len(texts) != len(frames):
        raise ValueError(f"{where}: expected {len(frames)} probability pictures, one per frame, got {str(texts)[:40]}")
    out = np.empty((len(texts), *size), np.uint8)
    for t, text in enumerate(texts):
        image = None
        try:
            image = cv2.imdecode(np.frombuffer(base64.b64decode(text, validate=True), np.uint8), cv2.IMREAD_UNCHANGED)
        except (ValueError, TypeError, cv2.error):
            pass
        if image is None or image.dtype != np.uint8 or list(image.shape) != size:
            got = "none" if image is None else f"{image.dtype} {image.shape}"
            raise ValueError(f"{where}, frame '{frames[t]}': expected an 8-bit grey PNG of size {size}, got {got}")
        out[t] = image
    return out
