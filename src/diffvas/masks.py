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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffvas.types import U8, Bool, ObjectTrack
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
    path = Path(path)
    shape = (num_frames, *clip_size)
    if not path.exists():
        raise FileNotFoundError(f"masks: expected a folder of images or an .npz file, got no such path '{path}'")
    try:
        if path.is_dir():
            objects = _from_folder(path, shape)
        elif path.suffix.lower() in {".npz", ".npy"}:
            objects = _from_arrays(load_arrays(path), shape, path)
        else:
            raise ValueError(f"expected a folder of images or an .npz or .npy file, got the file '{path}'")
    except ValueError as error:
        raise ValueError(f"masks: {error}") from error
    return [ObjectTrack(object_id, masks) for object_id, masks in sorted(objects.items())]


# ---------------------------------------------------------------------------------------------------------------------
# folders


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


def _from_folder(folder: Path, shape: tuple[int, int, int]) -> dict[int, Bool]:
    files = list_images(folder)
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
    if files and inner:
        raise ValueError(
            f"expected either images or one folder per object in '{folder}', got {len(files)} images and the folder "
            f"'{inner[0].name}'"
        )
    if not inner:
        return _from_images(files, shape, folder)
    objects: dict[int, Bool] = {}
    for sub in inner:
        if not sub.name.isdecimal() or int(sub.name) < 1 or int(sub.name) in objects:
            raise ValueError(f"expected folders named by object id (1, 2, ...) in '{folder}', got '{sub.name}'")
        masks = _single_object(_read_pages(list_images(sub), shape, sub))
        if not masks.any():
            raise ValueError(f"expected at least one mask pixel in '{sub}', got none in {shape[0]} images")
        objects[int(sub.name)] = masks
    return objects


def _read_pages(files: Sequence[Path], shape: tuple[int, int, int], folder: Path) -> list[_Page]:
    if len(files) != shape[0]:
        raise ValueError(f"expected {shape[0]} masks, one per frame, got {len(files)} in '{folder}'")
    pages = []
    for file in files:
        page = _page(open_image(file), lossy=file.suffix.lower() in _LOSSY)
        height, width = page.values.shape[:2]
        if (height, width) != shape[1:]:
            raise ValueError(
                f"expected masks of {shape[2]} x {shape[1]} pixels like the frames, got {width} x {height} "
                f"in '{folder.name}/{file.name}'"
            )
        pages.append(page)
    return pages


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


def _from_images(files: Sequence[Path], shape: tuple[int, int, int], folder: Path) -> dict[int, Bool]:
    pages = _read_pages(files, shape, folder)
    cut_out = _alpha_masks(pages)
    if cut_out is not None:
        return {1: cut_out}
    kinds = {page.kind for page in pages if not page.blank}
    if kinds == {"palette"} and _one_palette(pages):
        objects = _split_labels(np.stack([page.values for page in pages]), single=0, soft=False)
    elif kinds == {"grey16"}:
        objects = _split_labels(np.stack([page.values for page in pages]), single=65535, soft=False)
    elif kinds <= {"grey"}:
        objects = _split_labels(np.stack([_grey(page) for page in pages]), single=255, soft=True)
    else:
        objects = _split_colours(np.stack([page.rgb() for page in pages]))
    if not objects:
        raise ValueError(f"expected at least one mask pixel in '{folder}', got none in {shape[0]} images")
    return objects


def _grey(page: _Page) -> U8:
    """(H, W) uint8 of a grey page, or of a blank page of any kind."""
    return page.values if page.kind == "grey" else np.zeros(page.values.shape[:2], dtype=np.uint8)


def _one_palette(pages: Sequence[_Page]) -> bool:
    """Whether an index means the same object in all palette pages, and 0 the background."""
    used = [page for page in pages if not page.blank]
    shortest = min(len(page.palette) for page in used)
    if len({page.palette[:shortest] for page in used}) != 1:
        return False
    colours = np.frombuffer(used[0].palette[:shortest], dtype=np.uint8).reshape(-1, 3)
    black = {i for i, colour in enumerate(colours) if not colour.any()}
    if 0 in black or not len(colours):
        return True
    return not any(index in black for page in used for index in np.unique(page.values).tolist())


def _alpha_masks(pages: Sequence[_Page]) -> Bool | None:
    """(T, H, W) bool from alpha alone, where the colours under it say nothing; None where they do."""
    clear = [page.clear for page in pages if page.clear is not None]
    if len(clear) < len(pages):
        return None
    opaque = ~np.stack(clear)
    if opaque.all() or not opaque.any():
        return None
    colours = np.unique(np.concatenate([_pack(page.values)[mask] for page, mask in zip(pages, opaque, strict=True)]))
    says_nothing = colours.tolist() == [0] or len(colours) > MAX_SOFT_VALUES
    return opaque if says_nothing else None


def _single_object(pages: Sequence[_Page]) -> Bool:
    """(T, H, W) bool, all that is not background, for a folder that holds one object."""
    cut_out = _alpha_masks(pages)
    if cut_out is not None:
        return cut_out
    if all(page.kind == "palette" or page.blank for page in pages) and not all(page.blank for page in pages):
        if _one_palette(pages):
            return np.stack([page.values != 0 for page in pages])
    peak = np.stack([page.rgb().max(axis=2) for page in pages])
    soft = len(np.unique(peak)) - 1 > MAX_SOFT_VALUES
    return peak >= 128 if soft else peak > 0


# ---------------------------------------------------------------------------------------------------------------------
# labels and arrays


def _check_count(count: int) -> None:
    if count > MAX_OBJECTS:
        raise ValueError(f"expected at most {MAX_OBJECTS} objects, got {count} different values or colours")


def _split_labels(labels: NDArray[Any], single: int, soft: bool) -> dict[int, Bool]:
    """Label images (T, H, W) to masks by id; ``single`` alone means object 1, many values soft edges if ``soft``."""
    ids = [int(value) for value in np.unique(labels) if value != 0]
    if ids and ids[0] < 0:
        raise ValueError(f"expected object ids of 1 or more, got {ids[0]}")
    if soft and len(ids) > MAX_SOFT_VALUES:
        inside = labels >= 128
        return {1: inside} if inside.any() else {}
    _check_count(len(ids))
    if ids == [single]:
        return {1: labels == single}
    return {value: labels == value for value in ids}


def _pack(rgb: U8) -> NDArray[np.int32]:
    """(..., 3) uint8 to one number per colour, red in the highest byte."""
    wide = rgb.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def _split_colours(rgb: U8) -> dict[int, Bool]:
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all():
        return _split_labels(rgb[..., 0], single=255, soft=True)
    packed = _pack(rgb)
    colours = [int(value) for value in np.unique(packed) if value != 0]
    _check_count(len(colours))
    return {i: packed == colour for i, colour in enumerate(colours, start=1)}


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
        return _split_labels(labels, single=255, soft=False)
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
