"""Reading the visible (modal) masks of a clip's objects.

A **folder of images**, one per frame, in natural order. Which pixels belong to which object:

- *1-bit*: white is object 1.
- *palette*: the palette index is the object id, 0 is background, as in DAVIS and YouTube-VOS. If the files have
  different palettes, or entry 0 is a colour while black is another entry in use, an index means nothing and the
  colours count, as in RGB.
- *8-bit grey*: values are object ids and 0 is background, with two exceptions. If 255 is the only value besides 0 in
  the whole folder, it means "object 1". If there are more than 32 values besides 0, the masks are one object with soft
  edges: 128 and above is inside.
- *16-bit grey*: values are object ids; 65535 alone means "object 1".
- *RGB*: every colour but black is an object, numbered from 1 in the order of the colours' values (red first). Images
  that hold only greys are read as 8-bit grey.
- *with alpha*: clear pixels (alpha below 128) are background, the rest as above; if the rest is black, or has more
  than 32 colours (a photo cut out), alpha itself is the mask of object 1.
- *JPEG* and other lossy files cannot hold ids: one object, 128 and above in luminance.

Frames that are all background fit any of these. A mix of kinds is read by colour.

A **folder of folders** named by object id (1, 2, ...): each holds one object's masks, one image per frame; every pixel
that is not black and not clear belongs to the object (soft edges: 128 and above).

An **.npz or .npy file**: one array (named ``masks`` where there are several), either (T, H, W) bool or whole numbers
with the rules of grey images (8-bit: no soft edges), or (N, T, H, W), objects 1 to N; or, in an .npz, one (T, H, W)
array per object, its key being the id.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffvas.types import U8, Bool, Extent, ObjectTrack
from diffvas.video import list_images, load_arrays, open_image

MAX_SOFT_VALUES = 32  # more grey levels than this are soft edges, not objects
MAX_OBJECTS = 255
_LOSSY = {".jpg", ".jpeg", ".webp"}


def read_masks(path: str | Path, clip_size: tuple[int, int], num_frames: int) -> list[ObjectTrack]:
    """Read the visible masks of one or several objects; the module's text says which files are understood.

    Args:
        path: a folder of images, a folder of such folders, or an .npz or .npy file.
        clip_size: (height, width) of the clip; masks are never resized.
        num_frames: T, the clip's number of frames.

    Returns:
        Tracks in ascending order of object id. Frames without the object are normal.

    Raises:
        FileNotFoundError: no such path.
        ValueError: another number of masks than of frames, another size, no mask pixel at all, an unreadable image
            (named), more than 255 objects, or arrays of another layout.
    """
    path, shape = Path(path), (num_frames, *clip_size)
    with _named(path):
        if not path.is_dir():
            objects = _from_arrays(_load(path), shape, path)
        else:
            objects = {}
            for t, masks in enumerate(_open_folder(path, shape)):
                for object_id, mask in masks.items():
                    objects.setdefault(object_id, np.zeros(shape, bool))[t] = mask
    return [ObjectTrack(object_id, masks) for object_id, masks in sorted(objects.items())]


def read_mask_runs(path: str | Path, clip_size: tuple[int, int], num_frames: int) -> list[MaskRuns]:
    """As :func:`read_masks`, in a fraction of the memory: a folder is read frame by frame and kept as run lengths.

    Arrays in an .npz or .npy file are read whole before they are made into runs.
    """
    path, shape = Path(path), (num_frames, *clip_size)
    with _named(path):
        if not path.is_dir():
            return [MaskRuns.of(i, masks) for i, masks in sorted(_from_arrays(_load(path), shape, path).items())]
        objects: dict[int, list[bytes]] = {}
        nothing = _encode(np.zeros(clip_size, bool))
        for t, masks in enumerate(_open_folder(path, shape)):
            for object_id, mask in masks.items():
                objects.setdefault(object_id, [nothing] * num_frames)[t] = _encode(mask)
    return [MaskRuns(object_id, clip_size, tuple(runs)) for object_id, runs in sorted(objects.items())]


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    if not path.exists():
        raise FileNotFoundError(f"masks: expected a folder of images or an .npz file, got no such path '{path}'")
    try:
        yield
    except ValueError as error:
        raise ValueError(f"masks: {error}") from error


def _load(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix.lower() not in {".npz", ".npy"}:
        raise ValueError(f"expected a folder of images or an .npz or .npy file, got the file '{path}'")
    return load_arrays(path)


@dataclass(frozen=True, eq=False)
class MaskRuns:
    """An object's visible masks as COCO run lengths: any frame at once, in a few hundred bytes per frame.

    Attributes:
        object_id: as in :class:`ObjectTrack`. size: (height, width). runs: one per frame.
    """

    object_id: int
    size: tuple[int, int]
    runs: tuple[bytes, ...]

    @classmethod
    def of(cls, object_id: int, masks: Iterable[Bool]) -> MaskRuns:
        """From masks (H, W) bool, one per frame.

        Raises:
            ValueError: no visible pixel in any frame: nothing would say what to complete.
        """
        size, runs = (0, 0), []
        for mask in masks:
            size = (int(mask.shape[0]), int(mask.shape[1]))
            runs.append(_encode(mask))
        found = cls(object_id, size, tuple(runs))
        if not any(found.extents):
            raise ValueError(f"masks: expected at least one visible pixel of object {object_id}, got none")
        return found

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, frame: int) -> Bool:
        """(H, W) bool."""
        from pycocotools import mask as coco_mask

        return np.asarray(coco_mask.decode([self._rle(frame)])[:, :, 0], dtype=bool)

    @cached_property
    def extents(self) -> list[Extent | None]:
        """(top, bottom, left, right) around what is visible in each frame, ends exclusive; None where nothing is."""
        from pycocotools import mask as coco_mask

        boxes = [[round(float(v)) for v in coco_mask.toBbox([self._rle(t)])[0]] for t in range(len(self.runs))]
        return [(y, y + h, x, x + w) if w and h else None for x, y, w, h in boxes]

    def _rle(self, frame: int) -> dict[str, Any]:
        return {"size": list(self.size), "counts": self.runs[frame]}


def _encode(mask: Bool) -> bytes:
    from pycocotools import mask as coco_mask

    return bytes(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"])


# ---------------------------------------------------------------------------------------------------------------------
# folders: looked through once to find out what their pixels mean, and then read page by page


@dataclass(frozen=True, eq=False)
class _Page:
    """One decoded mask image.

    kind: "grey" (H, W) uint8, "grey16" (H, W) int32, "palette" (H, W) uint8 indices, or "rgb" (H, W, 3) uint8.
    """

    kind: str
    values: NDArray[Any]
    palette: bytes = b""
    clear: Bool | None = None  # where alpha is below 128, if the image has alpha

    @property
    def blank(self) -> bool:
        """All background under every reading."""
        if self.kind == "palette" and self.palette[:3] not in (b"", b"\0\0\0"):
            return False
        return not self.values.any()

    def rgb(self) -> U8:
        """The page as colours, (H, W, 3) uint8."""
        if self.kind == "rgb":
            return self.values
        if self.kind == "palette":
            table = np.zeros((256, 3), dtype=np.uint8)
            colours = np.frombuffer(self.palette, dtype=np.uint8).reshape(-1, 3)[:256]
            table[: len(colours)] = colours
            return table[self.values]
        grey = self.values if self.kind == "grey" else np.clip(self.values >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)


Masks = dict[int, Bool]  # of one frame, by object id; what is not in it is nowhere
Rule = Callable[[_Page], Masks]


def _open_folder(folder: Path, shape: tuple[int, int, int]) -> Iterator[Masks]:
    """The masks of each frame in turn; everything is checked before the first."""
    files = list_images(folder)
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
    if files and inner:
        raise ValueError(
            f"expected either images or one folder per object in '{folder}', got {len(files)} images and the folder "
            f"'{inner[0].name}'"
        )
    if not inner:
        rule = _rule_of(_Pages(files, shape, folder), folder)
        return (rule(page) for page in _Pages(files, shape, folder))
    objects: dict[int, tuple[_Pages, Rule]] = {}
    for sub in inner:
        if not sub.name.isdecimal() or int(sub.name) < 1 or int(sub.name) in objects:
            raise ValueError(f"expected folders named by object id (1, 2, ...) in '{folder}', got '{sub.name}'")
        pages = _Pages(list_images(sub), shape, sub)
        single = _single_rule(pages)
        if not any(single(page)[1].any() for page in pages):
            raise ValueError(f"expected at least one mask pixel in '{sub}', got none in {shape[0]} images")
        objects[int(sub.name)] = (pages, single)
    turns = zip(*(pages for pages, _ in objects.values()), strict=True)
    rules = {object_id: single for object_id, (_, single) in objects.items()}
    return (
        {object_id: single(page)[1] for (object_id, single), page in zip(rules.items(), turn, strict=True)}
        for turn in turns
    )


@dataclass(frozen=True)
class _Pages:
    """The images of a folder, decoded anew on every pass: a thousand need the memory of one."""

    files: Sequence[Path]
    shape: tuple[int, int, int]
    folder: Path

    def __iter__(self) -> Iterator[_Page]:
        shape, folder = self.shape, self.folder
        if len(self.files) != shape[0]:
            raise ValueError(f"expected {shape[0]} masks, one per frame, got {len(self.files)} in '{folder}'")
        for file in self.files:
            page = _page(open_image(file), lossy=file.suffix.lower() in _LOSSY)
            height, width = page.values.shape[:2]
            if (height, width) != shape[1:]:
                raise ValueError(
                    f"expected masks of {shape[2]} x {shape[1]} pixels like the frames, got {width} x {height} "
                    f"in '{folder.name}/{file.name}'"
                )
            yield page


def _page(image: Image.Image, lossy: bool) -> _Page:
    if lossy:
        return _Page("grey", np.where(np.asarray(image.convert("L")) >= 128, 255, 0).astype(np.uint8))
    if image.mode == "1":
        return _Page("grey", np.where(np.asarray(image), 255, 0).astype(np.uint8))
    if image.mode == "L":
        return _Page("grey", np.asarray(image))
    if image.mode.startswith("I"):
        return _Page("grey16", np.asarray(image).astype(np.int32))
    if image.mode == "P" and "transparency" not in image.info:
        return _Page("palette", np.asarray(image), palette=bytes(image.getpalette() or b""))
    clear = None
    if image.mode != "RGB":
        image = image.convert("RGBA")
        clear = np.asarray(image)[..., 3] < 128
    rgb = np.asarray(image)[..., :3]
    if clear is not None:
        rgb = np.where(clear[..., None], np.uint8(0), rgb).astype(np.uint8)
    return _Page("rgb", rgb, clear=clear)


class _Summary:
    """What a folder's pages have between them that decides what their pixels mean."""

    def __init__(self, pages: Iterable[_Page]) -> None:
        self.kinds: set[str] = set()
        self.palettes: set[bytes] = set()
        self.values: dict[str, set[int]] = {"grey": set(), "grey16": set(), "palette": set()}
        self.all_alpha, self.some_clear, self.some_opaque = True, False, False
        self.under_alpha: set[int] = set()
        for page in pages:
            self._add(page)

    def _add(self, page: _Page) -> None:
        if not page.blank:
            self.kinds.add(page.kind)
            if page.kind == "palette":
                self.palettes.add(page.palette)
            if page.kind != "rgb":
                self.values[page.kind].update(np.unique(page.values).tolist())
        if page.clear is None:
            self.all_alpha = False
        elif self.all_alpha:
            self.some_clear |= bool(page.clear.any())
            self.some_opaque |= not page.clear.all()
            if len(self.under_alpha) <= MAX_SOFT_VALUES:
                self.under_alpha.update(np.unique(_pack(page.values)[~page.clear]).tolist())

    @property
    def cut_out(self) -> bool:
        """Whether alpha alone is the mask: the colours under it say nothing."""
        if not (self.all_alpha and self.some_clear and self.some_opaque):
            return False
        return self.under_alpha == {0} or len(self.under_alpha) > MAX_SOFT_VALUES

    @property
    def one_palette(self) -> bool:
        """Whether an index means the same object in all palette pages, and 0 the background."""
        shortest = min(map(len, self.palettes))
        if len({palette[:shortest] for palette in self.palettes}) != 1:
            return False
        colours = np.frombuffer(next(iter(self.palettes))[:shortest], dtype=np.uint8).reshape(-1, 3)
        black = {i for i, colour in enumerate(colours) if not colour.any()}
        return 0 in black or not len(colours) or not black & self.values["palette"]


def _rule_of(pages: _Pages, folder: Path) -> Rule:
    """How to read the images of a folder that may hold several objects."""
    found = _Summary(pages)
    if found.cut_out:
        return _opaque
    if found.kinds == {"palette"} and found.one_palette:
        kind, ids = "palette", _label_ids(found.values["palette"], single=0, soft=False)
    elif found.kinds == {"grey16"}:
        kind, ids = "grey16", _label_ids(found.values["grey16"], single=65535, soft=False)
    elif found.kinds <= {"grey"}:
        kind, ids = "grey", _label_ids(found.values["grey"], single=255, soft=True)
    else:
        kind, ids = "rgb", _colour_ids(pages)
    if not ids:
        raise ValueError(f"expected at least one mask pixel in '{folder}', got none in {pages.shape[0]} images")

    def read(page: _Page) -> Masks:
        if page.blank:
            return {}
        values = _pack(page.rgb()) if kind == "rgb" else page.values
        return {number: _is(values, value) for number, value in ids.items()}

    return read


def _opaque(page: _Page) -> Masks:
    assert page.clear is not None
    return {1: ~page.clear}


def _is(values: NDArray[Any], value: int) -> Bool:
    return np.asarray(values >= -value if value < 0 else values == value)


def _single_rule(pages: _Pages) -> Rule:
    """How to read a folder that holds one object: all that is not background."""
    found = _Summary(pages)
    if found.cut_out:
        return _opaque
    if found.kinds == {"palette"} and found.one_palette:
        return lambda page: {1: np.zeros(page.values.shape[:2], bool) if page.blank else page.values != 0}
    peaks: set[int] = set()
    for page in pages:
        peaks.update(np.unique(page.rgb().max(axis=2)).tolist())
    least = 128 if len(peaks) - 1 > MAX_SOFT_VALUES else 1
    return lambda page: {1: page.rgb().max(axis=2) >= least}


# ---------------------------------------------------------------------------------------------------------------------
# labels and arrays


def _check_count(count: int) -> None:
    if count > MAX_OBJECTS:
        raise ValueError(f"expected at most {MAX_OBJECTS} objects, got {count} different values or colours")


def _label_ids(values: Iterable[int], single: int, soft: bool) -> dict[int, int]:
    """Object ids and the labels that mean them; -128 means 128 and above, of soft edges.

    ``single`` alone means object 1; so do many values if ``soft``.
    """
    ids = sorted(value for value in values if value != 0)
    if ids and ids[0] < 0:
        raise ValueError(f"expected object ids of 1 or more, got {ids[0]}")
    if soft and len(ids) > MAX_SOFT_VALUES:
        return {1: -128} if ids[-1] >= 128 else {}
    _check_count(len(ids))
    return {1: single} if ids == [single] else {value: value for value in ids}


def _split_labels(labels: NDArray[Any]) -> dict[int, Bool]:
    """Label images (T, H, W) to masks by id; 255 alone means object 1."""
    ids = _label_ids(np.unique(labels).tolist(), single=255, soft=False)
    return {number: labels == value for number, value in ids.items()}


def _pack(rgb: U8) -> NDArray[np.int32]:
    """(..., 3) uint8 to one number per colour, red in the highest byte."""
    wide = rgb.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _colour_ids(pages: _Pages) -> dict[int, int]:
    """Object ids and their colours, packed; greys alone are read as grey images."""
    packed: set[int] = set()
    for page in pages:
        packed.update(np.unique(_pack(page.rgb())).tolist())
        colours = sorted(packed - {0})
        grey = all(value % 0x010101 == 0 for value in colours)
        if not grey:
            _check_count(len(colours))
    if grey:
        ids = _label_ids([value // 0x010101 for value in colours], single=255, soft=True)
        return {number: value * 0x010101 for number, value in ids.items()}
    return dict(enumerate(colours, start=1))


def _from_arrays(arrays: dict[str, NDArray[Any]], shape: tuple[int, int, int], path: Path) -> dict[int, Bool]:
    if not arrays:
        raise ValueError(f"expected an array of masks in '{path}', got an empty file")
    for key, array in arrays.items():
        if array.dtype.kind not in "biu":
            raise ValueError(f"expected bool or whole-number arrays, got dtype {array.dtype} for '{key}' in '{path}'")
    if "masks" in arrays or (len(arrays) == 1 and not next(iter(arrays)).isdecimal()):
        objects = _from_array(arrays.get("masks", next(iter(arrays.values()))), shape, path)
    else:
        objects = _from_keys(arrays, shape, path)
    if not objects:
        raise ValueError(f"expected at least one mask pixel in '{path}', got none in {shape[0]} frames")
    return objects


def _from_array(array: NDArray[Any], shape: tuple[int, int, int], path: Path) -> dict[int, Bool]:
    _check_shape(array, shape, path)
    if array.ndim == 3:
        if array.dtype == np.bool_:
            return {1: array} if array.any() else {}
        single = int(np.iinfo(array.dtype).max)
        labels = np.where(array == single, 255, array) if array.dtype.kind == "u" and _only(array, single) else array
        return _split_labels(labels)
    _check_count(len(array))
    return {i: _seen(masks, i, path) for i, masks in enumerate(array, start=1)}


def _only(array: NDArray[Any], value: int) -> bool:
    return bool(((array == 0) | (array == value)).all())


def _from_keys(arrays: dict[str, NDArray[Any]], shape: tuple[int, int, int], path: Path) -> dict[int, Bool]:
    objects: dict[int, Bool] = {}
    for key, array in arrays.items():
        if not key.isdecimal() or int(key) < 1 or int(key) in objects or array.ndim != 3:
            raise ValueError(
                f"expected an array 'masks', or one (T, H, W) array per object id (1, 2, ...) in '{path}', "
                f"got '{key}' of shape {array.shape}"
            )
        _check_shape(array, shape, path)
        objects[int(key)] = _seen(array, int(key), path)
    return objects


def _seen(array: NDArray[Any], object_id: int, path: Path) -> Bool:
    masks = np.ascontiguousarray(array != 0)
    if not masks.any():
        raise ValueError(f"expected at least one mask pixel of object {object_id} in '{path}', got none")
    return masks


def _check_shape(array: NDArray[Any], shape: tuple[int, int, int], path: Path) -> None:
    """Raise in the words that fit: number of masks, size, or layout."""
    if array.ndim not in (3, 4):
        raise ValueError(f"expected shape (T, H, W) or (N, T, H, W), got {array.shape} in '{path}'")
    count, size = array.shape[-3], array.shape[-2:]
    if count != shape[0]:
        raise ValueError(f"expected {shape[0]} masks, one per frame, got {count} in '{path}' of shape {array.shape}")
    if size != shape[1:]:
        raise ValueError(
            f"expected masks of {shape[2]} x {shape[1]} pixels like the frames, got {size[1]} x {size[0]} in '{path}'"
        )
