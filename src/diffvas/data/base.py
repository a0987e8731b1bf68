"""Object clips: the one shape in which every data set is handed on, and what their readers share.

A data set is a sequence of objects, each in one clip. Opening one reads names; asking for an object reads its masks;
pictures and depth are read when ``frames_u8()`` and ``depth()`` are called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from diffvas import arrays
from diffvas.metrics.box import box_iou, canvas_padding, mask_boxes
from diffvas.metrics.rle import check_rle, decode, encode_masks
from diffvas.types import F32, U8, Bool
from diffvas.video import open_image

F64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[str, int, int], None]
_MISSING = "run `diffvas data check` for all of them"


@dataclass(frozen=True, eq=False)
class ObjectClip:
    """One object in one clip.

    Attributes:
        name: unique in its data set; results are stored, and a run is resumed, by it.
        group: clips of one group (objects of one scene) are alike and are resampled together.
        family: row of a breakdown, for example the object's category; "" = none.
        frames: T names, unique in the clip, the data set's own.
        modal: (T, H, W) bool, what is visible. amodal: (T, H, W) bool, the whole object; None where the data set has
            boxes only, or no truth.
        numbers: T frame numbers in the video, ascending. images: T picture files, or none.
        boxes: (T, 4) float64 amodal boxes x, y, width, height in pixels of the frame, which they may leave; or None.
        counted: (T,) bool, the frames that the data set's own protocol scores; None = all.
        padding: (rows, columns) by which the canvas of its protocol is larger on each side. See ``on_canvas``.
        crop: which part of each frame this clip shows; None = whole frames. Boxes are never cropped.
        protocol: the one of ``diffvas.metrics.protocols`` whose published numbers belong to this data set.
        levels: T words on how occluded the object is, where people have said so; or none.
        readers: how to read "frames" (T, H, W, 3) uint8, "depth" (T, H, W) float32, "alone" (T, H, W, 3) uint8, and of
            whole frames also "others" (T, H, W) uint8 or uint16, "flow" (T - 1, H, W, 2) float32 and "intrinsics"
            (T, 3, 3).

    Raises:
        ValueError: arrays of other shapes or types, or frame names that stand twice.
    """

    name: str
    group: str
    family: str
    frames: tuple[str, ...]
    modal: Bool
    amodal: Bool | None = None
    numbers: tuple[int, ...] = ()
    images: tuple[str, ...] = ()
    boxes: F64 | None = None
    counted: Bool | None = None
    padding: tuple[int, int] = (0, 0)
    crop: Crop | None = None
    protocol: str = "strict"
    levels: tuple[str, ...] = ()
    readers: Mapping[str, Callable[[], NDArray[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        time = len(self.frames)
        twice = [name for name, times in Counter(self.frames).items() if times > 1]
        if twice:
            raise ValueError(f"{self.name}: expected every frame once, got '{twice[0]}' twice or more")
        if self.modal.dtype != np.bool_ or self.modal.ndim != 3 or not time or self.modal.shape[0] != time:
            raise ValueError(
                f"{self.name}: expected modal masks (T, H, W) bool of {time} frames, got {self.modal.dtype} "
                f"{self.modal.shape}"
            )
        if self.amodal is not None and (self.amodal.dtype != np.bool_ or self.amodal.shape != self.modal.shape):
            raise ValueError(
                f"{self.name}: expected amodal masks {self.modal.shape} bool like the modal ones, got "
                f"{self.amodal.dtype} {self.amodal.shape}"
            )
        for what in ("numbers", "images", "boxes", "counted", "levels"):
            value = getattr(self, what)
            if value is not None and len(value) not in ((time,) if what == "boxes" else (0, time)):
                raise ValueError(f"{self.name}: expected {time} {what}, one per frame, got {len(value)}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return int(self.modal.shape[1]), int(self.modal.shape[2])

    def frames_u8(self) -> U8 | None:
        """Read (T, H, W, 3) uint8 RGB; None where the data set has no pictures.

        Raises:
            ValueError: a picture is missing or broken, or has another size than the masks.
        """
        return self._read("frames", (*self.modal.shape, 3))

    def depth(self) -> F32 | None:
        """Read (T, H, W) float32 in [0, 1], 1 = near, normalised over the clip; None where there is none."""
        return self._read("depth", self.modal.shape)

    def alone_u8(self) -> U8 | None:
        """Read (T, H, W, 3) uint8, the object alone on white; None where its hidden colours are unknown."""
        return self._read("alone", (*self.modal.shape, 3))

    def others(self) -> NDArray[Any] | None:
        """Read (T, H, W) uint8 or uint16, ids of the other objects where they are visible, 0 = none; None = unknown."""
        return self._read("others", self.modal.shape)

    def flow(self) -> F32 | None:
        """Read (T - 1, H, W, 2) float32, pixels right and down to the next frame, NaN = unknown; None without."""
        return self._read("flow", (len(self.frames) - 1, *self.size, 2))

    def intrinsics(self) -> F64 | None:
        """Read (T, 3, 3) float64, the camera matrix K in pixels; None where it is unknown."""
        return self._read("intrinsics", (len(self.frames), 3, 3))

    def _read(self, what: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        if what not in self.readers:
            return None
        value = self.readers[what]()
        if value.shape != shape:
            raise ValueError(f"{self.name}: expected {what} of shape {shape} like the masks, got {value.shape}")
        return value

    def visible(self) -> F64:
        """(T,) share of the object that is visible, NaN where it is not in the frame.

        By area where there are amodal masks; else the IoU of modal and amodal box; all NaN where there is neither.
        """
        if self.amodal is not None:
            whole = self.amodal.sum((1, 2))
            seen = (self.modal & self.amodal).sum((1, 2))
            return np.where(whole > 0, seen / np.maximum(whole, 1), np.nan)
        if self.boxes is not None:
            known = np.isfinite(self.boxes).all(1)
            shares = np.full(len(self.frames), np.nan)
            shares[known] = box_iou(mask_boxes(encode_masks(self.modal))[known], self.boxes[known])
            return shares
        return np.full(len(self.frames), np.nan)


class ObjectClips(Sequence[ObjectClip]):
    """The objects of a data set in a fixed order, each read when it is asked for.

    Args:
        kind: the layout's name. path: what was opened.
        entries: per object its name and what ``read`` needs to read it; a name that stands twice is a problem, and
            its first entry is kept.
        read: reads an entry; ValueError where its files are not as they should be.
        problems: what opening found wrong, one sentence each.

    Attributes:
        names: the objects' names, in order.
    """

    def __init__(
        self,
        kind: str,
        path: str | Path,
        entries: Sequence[tuple[str, Any]],
        read: Callable[[Any], ObjectClip],
        problems: Sequence[str] = (),
    ) -> None:
        self.kind, self.path = kind, Path(path)
        self.problems = list(problems)
        self._read = read
        self._entries: dict[str, Any] = {}
        for name, entry in entries:
            if name in self._entries:
                self.problems.append(f"expected every object once, got '{name}' a second time")
            else:
                self._entries[name] = entry
        self.names = list(self._entries)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> ObjectClip: ...
    @overload
    def __getitem__(self, index: slice) -> list[ObjectClip]: ...
    def __getitem__(self, index: int | slice) -> ObjectClip | list[ObjectClip]:
        """An object by its position; a slice gives a list. ValueError where its files are broken."""
        if isinstance(index, slice):
            return [self.get(name) for name in self.names[index]]
        return self.get(self.names[index])

    def __iter__(self) -> Iterator[ObjectClip]:
        return (self.get(name) for name in self.names)

    def __contains__(self, name: object) -> bool:
        """Whether there is an object of this name."""
        return name in self._entries

    def get(self, name: str) -> ObjectClip:
        """An object by its name.

        Raises:
            ValueError: no such object, or its files are broken.
        """
        if name not in self._entries:
            from difflib import get_close_matches

            near = get_close_matches(name, self.names, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"name: expected one of {len(self)} objects in '{self.path}', got '{name}'{hint}")
        try:
            return self._read(self._entries[name])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{name}: expected whole files of {self.kind}, got others ({error!r})") from error

    def raise_problems(self) -> ObjectClips:
        """Itself if opening found nothing wrong; otherwise ValueError with the first problem and their number."""
        if self.problems:
            more = f" (and {len(self.problems) - 1} more; {_MISSING})" if len(self.problems) > 1 else ""
            raise ValueError(f"path: {self.problems[0]}{more}")
        return self


# ---------------------------------------------------------------------------------------------------------------------
# pictures, masks, names


def read_images(files: Sequence[str | Path]) -> U8:
    """(T, H, W, 3) uint8 RGB of picture files, upright as their EXIF says.

    Raises:
        ValueError: a file is missing, broken, or of another size than the first.
    """
    out: U8 | None = None
    for t, file in enumerate(files):
        if not Path(file).is_file():
            raise ValueError(f"images: expected a picture, found no file '{file}'")
        rgb = np.asarray(ImageOps.exif_transpose(open_image(Path(file))).convert("RGB"))
        if out is None:
            out = np.empty((len(files), *rgb.shape), np.uint8)
        if rgb.shape != out.shape[1:]:
            raise ValueError(
                f"images: expected {out.shape[2]} x {out.shape[1]} pixels like '{files[0]}', got {rgb.shape[1]} x "
                f"{rgb.shape[0]} in '{file}'"
            )
        out[t] = rgb
    if out is None:
        raise ValueError("images: expected at least one picture, got none")
    return out


def image_size(file: str | Path) -> tuple[int, int]:
    """(height, width) of a picture, upright, from its header alone; ValueError where it is missing or none."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            sideways = image.getexif().get(0x0112, 1) >= 5
    except FileNotFoundError:
        raise ValueError(f"images: expected a picture, found no file '{file}'") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"images: expected a readable picture, got '{file}' ({error})") from error
    return (width, height) if sideways else (height, width)


def read_labels(file: str | Path, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """(H, W) values of a picture of labels: grey levels, palette indices, or the largest channel of a colour.

    Raises:
        ValueError: missing, broken, or of another size than ``size`` (height, width).
    """
    if not Path(file).is_file():
        raise ValueError(f"masks: expected a picture, found no file '{file}'")
    values = np.asarray(open_image(Path(file)))
    if values.ndim == 3:
        values = values[..., :3].max(-1)
    if size is not None and values.shape != size:
        raise ValueError(
            f"masks: expected {size[1]} x {size[0]} pixels, got {values.shape[1]} x {values.shape[0]} in '{file}'"
        )
    return values


def decode_rles(where: str, rles: Sequence[Any], size: Sequence[int] | None = None) -> Bool:
    """(T, H, W) bool of COCO run lengths that come from a file; None stands for a frame without the object.

    Raises:
        ValueError: an invalid mask (its frame is named), sizes that differ, or no size known.
    """
    for t, rle in enumerate(rles):
        if rle is not None:
            checked = check_rle(f"{where}, frame {t}", rle, size)
            size = checked["size"]
    if size is None:
        raise ValueError(f"{where}: expected a mask in one frame at least, got none")
    out = np.zeros((len(rles), int(size[0]), int(size[1])), np.bool_)
    for t, rle in enumerate(rles):
        if rle is not None:
            columns = decode(check_rle(f"{where}, frame {t}", rle) if isinstance(rle["counts"], list) else rle).T
            # run lengths go down the columns; NumPy would take five times as long to turn them into rows
            cv2.transpose(columns.view(np.uint8), dst=out[t].view(np.uint8))
    return out


def frame_number(name: str, default: int) -> int:
    """The number at the end of a file's name ("video/frame0391.jpg": 391), or ``default``."""
    found = re.search(r"(\d+)\D*$", Path(name).stem)
    return int(found[1]) if found else default


def cut_windows(count: int, length: int, stride: int, first: int = 0) -> list[range]:
    """Windows of ``length`` of ``count`` frames that are counted from ``first``, whole ones only."""
    return [range(first + at, first + at + length) for at in range(0, count - length + 1, stride)]


# ---------------------------------------------------------------------------------------------------------------------
# canvas and crops


def on_canvas(clip: ObjectClip) -> ObjectClip:
    """The clip on a canvas that is larger by a quarter of the frame's height and width, rounded down, on each side.

    Outside the frame nothing is visible, depth is 1 (near) and pictures are black, as the `reference` protocol of
    TAO-Amodal has it (metrics.md). Boxes stay in pixels of the frame; ``metrics.box.boxes_from_canvas`` turns masks
    predicted on the canvas into such boxes.

    Raises:
        ValueError: a clip that is cropped or on a canvas already.
    """
    if clip.crop is not None or any(clip.padding):
        raise ValueError(f"clip: expected whole frames, got '{clip.name}', which is cropped or on a canvas")
    padding = canvas_padding(clip.size)
    fills = {"frames": 0, "depth": 1, "alone": 255, "others": 0}  # flow and camera are of the frame
    return replace(
        clip,
        modal=_pad(clip.modal, padding, False),
        amodal=None if clip.amodal is None else _pad(clip.amodal, padding, False),
        padding=padding,
        readers={
            what: partial(_read_padded, clip.readers[what], padding, fill)
            for what, fill in fills.items()
            if what in clip.readers
        },
    )


def _pad(values: NDArray[Any], padding: tuple[int, int], fill: Any) -> NDArray[Any]:
    rows, columns = padding
    around = [(0, 0), (rows, rows), (columns, columns), (0, 0)][: values.ndim]
    return np.pad(values, around, constant_values=fill)


def _read_padded(read: Callable[[], NDArray[Any]], padding: tuple[int, int], fill: Any) -> NDArray[Any]:
    return _pad(read(), padding, fill)


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of each frame, brought to one size.

    Attributes:
        windows: (T, 4) int top, bottom, left, right inside the frame, one past the last row and column.
        frame: (height, width) of the whole frame. size: (height, width) of the crops.
        one_scale: all crops keep the scale at which the largest fits, and stand in the upper left corner on black;
            otherwise each fills its picture.
    """

    windows: Ints
    frame: tuple[int, int]
    size: tuple[int, int]
    one_scale: bool = False

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """(T, H, W) bool, (T, H, W) float32 or (T, H, W, 3) uint8 frames, cropped: (T, h, w, ...)."""
        if values.dtype == np.bool_:
            resize: Callable[..., NDArray[Any]] = arrays.resize_masks_nearest
        else:
            resize = arrays.resize_u8 if values.dtype == np.uint8 else arrays.resize_float
        parts = []
        for t, (top, bottom, left, right) in enumerate(self.windows):
            part = values[t : t + 1, top:bottom, left:right]
            if self.one_scale:
                height, width = self._largest()
                around = [(0, 0), (0, height - part.shape[1]), (0, width - part.shape[2]), (0, 0)]
                part = np.pad(part, around[: part.ndim])
            parts.append(resize(np.ascontiguousarray(part), self.size))
        return np.concatenate(parts)

    def undo(self, masks: Bool) -> Bool:
        """(T, h, w) bool masks of the crops back in whole frames (T, H, W): nothing outside the windows."""
        out = np.zeros((len(masks), *self.frame), np.bool_)
        for t, (top, bottom, left, right) in enumerate(self.windows):
            height, width = int(bottom - top), int(right - left)
            place = self._largest() if self.one_scale else (height, width)
            part = arrays.resize_masks_nearest(masks[t : t + 1], place)[0]
            out[t, top:bottom, left:right] = part[:height, :width]
        return out

    def _largest(self) -> tuple[int, int]:
        height, width = (self.windows[:, 1::2] - self.windows[:, ::2]).max(0)
        return int(height), int(width)


def crop_clip(clip: ObjectClip, crop: Crop) -> ObjectClip:
    """The clip as a crop shows it: masks by the nearest pixel, pictures and depth by area."""
    return replace(
        clip,
        modal=crop.apply(clip.modal),
        amodal=None if clip.amodal is None else crop.apply(clip.amodal),
        crop=crop,
        readers={
            what: partial(_read_cropped, clip.readers[what], crop)
            for what in ("frames", "depth", "alone")
            if what in clip.readers
        },
    )


def _read_cropped(read: Callable[[], NDArray[Any]], crop: Crop) -> NDArray[Any]:
    return crop.apply(read())
