"""Writing a completion to disk, all or nothing.

Layout (later work reads it)::

    OUT/result.json                        version, model, settings, clip; per object and frame: areas, RLE
    OUT/preview.mp4                        side by side: modal overlay | amodal overlay | content, if any
    OUT/<object id>/amodal_masks/00000.png 8-bit 0/255, source size
    OUT/<object id>/probability/00000.png  8-bit, share of the K samples (K > 1 only)
    OUT/<object id>/content/00000.png      RGBA, straight alpha, source size (not where only masks were asked for)

Everything goes to a hidden folder beside OUT, which gets its name when it is whole. Nothing in it depends on the time
of day or on how long a stage took, so that the same seed gives the same bytes.
"""

from __future__ import annotations

import colorsys
import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diffvas import __version__
from diffvas.arrays import resize_masks_area, resize_u8
from diffvas.types import F32, U8, Bool, Completion, ObjectCompletion
from diffvas.video import write_mp4

RESULT_NAME = "result.json"
PREVIEW_NAME = "preview.mp4"
PICTURE_NAME = "picture.png"  # `diffvas demo` adds it; a second demo must not take it for a stranger's
FORMAT_NAME = "diffvas-completion"
_PNG_COMPRESSION = 4  # cv2's 0 to 9; higher costs time and saves little on masks and photographs

MAX_WIDTH = 1920  # of the three panels together
MAX_HEIGHT = 1080  # of a panel: portrait clips
MIN_PANEL_WIDTH = 192  # smaller clips are enlarged, or the captions would not fit
_GAP = 8
_BACKGROUND = (18, 18, 20)
_CAPTIONS = ("Visible part", "Whole object", "Content")
_CHECKER = (214, 190)  # the two greys behind the content
_OVERLAY = 0.5

# easy to tell apart, also for most colour-blind viewers, and none of them a colour of grass, sky or skin
_COLOURS = ((255, 84, 62), (48, 160, 255), (255, 200, 40), (190, 90, 255), (40, 214, 170), (255, 120, 190))

Progress = Callable[[str, int, int], None]


def save_completion(completion: Completion, out_dir: str | Path, progress: Progress | None = None) -> Path:
    """Write a completion's files; an earlier completion in the same place is replaced when the new one is whole.

    Args:
        completion: what to write.
        out_dir: the output folder; missing parents are made.
        progress: called as progress("write", frames done, frames in all).

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
        _write_preview(completion, temp / PREVIEW_NAME, tick)
        text = json.dumps(result_dict(completion), indent=1, allow_nan=False)
        (temp / RESULT_NAME).write_text(text + "\n", encoding="utf-8")
    return Path(out_dir).resolve()


# ---------------------------------------------------------------------------------------------------------------------
# the place


def check_out_dir(out_dir: str | Path) -> Path:
    """Say early whether a completion can be put there, without touching anything.

    Returns:
        The place as an absolute path, links resolved.

    Raises:
        ValueError: a file, a place inside a file, a folder that may not be written, or a folder that holds anything
            but an earlier completion: it would be lost.
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
        _check_replaceable(place, out_dir)
    return place


def _check_replaceable(place: Path, given: str | Path) -> None:
    entries = sorted(p.name for p in place.iterdir())
    if not entries:
        return
    if not _is_result(place / RESULT_NAME):
        raise ValueError(
            f"out_dir: expected a new or empty folder or an earlier output of diffvas, got '{given}', which holds "
            f"'{entries[0]}' and no {RESULT_NAME} of ours"
        )
    ours = {RESULT_NAME, PREVIEW_NAME, PICTURE_NAME, ".DS_Store"}
    foreign = [name for name in entries if name not in ours and not ((place / name).is_dir() and name.isdecimal())]
    if foreign:
        raise ValueError(f"out_dir: expected nothing but an earlier output in '{given}', got '{foreign[0]}' beside it")


def _is_result(path: Path) -> bool:
    """Whether a file is a result.json of this program; any program may call a file so."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT_NAME


@contextlib.contextmanager
def replacing_folder(out_dir: str | Path) -> Iterator[Path]:
    """A new folder to write into, which takes ``out_dir``'s place when the block ends well and vanishes otherwise.

    Parents that had to be made vanish with it. The folder lies beside its place, since only within one file system
    can it be renamed in one step.
    """
    place = check_out_dir(out_dir)
    made = [p for p in place.parents if not p.exists()]
    temp = place.with_name(f".{place.name}.partial-{os.getpid()}")
    old = place.with_name(f".{place.name}.replaced-{os.getpid()}")
    try:
        temp.mkdir(parents=True)
        yield temp
        check_out_dir(out_dir)  # it may have changed in the meantime
        if place.exists() and any(place.iterdir()):
            place.rename(old)
        temp.rename(place)  # also takes the place of an empty folder
    except BaseException:
        # the earlier output first: of two interrupts in a row, the second must not cost it
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(temp, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


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
    return {
        "format": FORMAT_NAME,
        "version": __version__,
        "model": completion.settings.get("model"),
        "settings": completion.settings,
        "clip": {
            "name": clip.name,
            "height": clip.height,
            "width": clip.width,
            "fps": clip.fps,
            "num_frames": clip.num_frames,
        },
        "objects": [_object_dict(obj) for obj in completion.objects],
    }


def _object_dict(obj: ObjectCompletion) -> dict[str, Any]:
    frames = []
    for t, (modal, amodal) in enumerate(zip(obj.modal_masks, obj.amodal_masks, strict=True)):
        modal_area, amodal_area = int(modal.sum()), int(amodal.sum())
        frames.append(
            {
                "frame": t,
                "modal_area": modal_area,
                "amodal_area": amodal_area,
                # an object that is nowhere is neither visible nor hidden
                "visible_fraction": modal_area / amodal_area if amodal_area else None,
                "rle": encode_rle(amodal),
            }
        )
    return {"id": int(obj.object_id), "frames": frames}


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA uint8 as PNG.

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
    pictures = {"amodal_masks": obj.amodal_masks, "content": obj.content_rgba, "probability": obj.probability}
    for kind, given in pictures.items():
        if given is not None:
            (folder / kind).mkdir(parents=True)
    for t in range(obj.num_frames):
        name = f"{t:05d}.png"
        write_png(folder / "amodal_masks" / name, obj.amodal_masks[t].astype(np.uint8) * np.uint8(255))
        if obj.content_rgba is not None:
            write_png(folder / "content" / name, obj.content_rgba[t])
        if obj.probability is not None:
            write_png(folder / "probability" / name, np.round(obj.probability[t] * 255.0).astype(np.uint8))
        tick()


def _write_preview(completion: Completion, path: Path, tick: Callable[[], None]) -> None:
    def ticking() -> Iterator[NDArray[np.uint8]]:
        for frame in preview_frames(completion):
            yield frame
            tick()

    write_mp4(path, ticking(), completion.clip.fps)


# ---------------------------------------------------------------------------------------------------------------------
# the preview: drawn at its own size, except for the content, which is put together at full size, so that a pixel
# is either the camera's or the model's, and shrinking does the rest


def object_colour(object_id: int) -> tuple[int, int, int]:
    """RGB of an object; by its id alone, so that it does not change with the other objects."""
    if object_id <= len(_COLOURS):
        return _COLOURS[object_id - 1]
    hue = (0.13 + object_id * 0.61803398875) % 1.0  # the golden ratio spreads hues without end
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def panel_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of one panel, both even, three of which fit MAX_WIDTH."""
    scale = min(1.0, (MAX_WIDTH - 2 * _GAP) / 3 / width, MAX_HEIGHT / height)
    if width * scale < MIN_PANEL_WIDTH:
        scale = min(MIN_PANEL_WIDTH / width, MAX_HEIGHT / height)
    return max(2, int(height * scale) // 2 * 2), max(2, int(width * scale) // 2 * 2)


def preview_frames(completion: Completion) -> Iterator[U8]:
    """Yield the preview frame by frame, each (H, W, 3) uint8 with even sides, at most MAX_WIDTH wide."""
    size = panel_size(*completion.clip.size)
    captions = _CAPTIONS if any(obj.content_rgba is not None for obj in completion.objects) else _CAPTIONS[:2]
    header = _header(size[1], captions)
    gap = np.full((size[0], _GAP, 3), _BACKGROUND, dtype=np.uint8)
    colours = [object_colour(obj.object_id) for obj in completion.objects]
    for t, frame in enumerate(completion.clip.frames_u8):
        small = resize_u8(frame[None], size)[0]
        modal = [_coverage(obj.modal_masks[t], size) for obj in completion.objects]
        amodal = [_coverage(obj.amodal_masks[t], size) for obj in completion.objects]
        panels = [draw_overlay(small, modal, colours), draw_overlay(small, amodal, colours)]
        if len(captions) == 3:
            panels.append(resize_u8(compose_content(completion, t)[None], size)[0])
        row = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)
        yield np.concatenate([header, row], axis=0)


def _coverage(mask: Bool, size: tuple[int, int]) -> F32:
    return resize_masks_area(mask[None], size)[0]


def draw_overlay(image: U8, coverages: Sequence[F32], colours: Sequence[tuple[int, int, int]]) -> U8:
    """Tint an image where objects are, with a thin outline.

    Args:
        image: (H, W, 3) uint8.
        coverages: per object (H, W) float32 in [0, 1].
        colours: per object RGB.

    Returns:
        (H, W, 3) uint8, a new array.
    """
    canvas = image.astype(np.float32)
    for coverage, colour in zip(coverages, colours, strict=True):
        alpha = (_OVERLAY * coverage)[..., None]
        canvas = canvas * (1.0 - alpha) + np.asarray(colour, dtype=np.float32) * alpha
    drawn = np.ascontiguousarray(np.round(canvas).astype(np.uint8))
    # outlines last, so that no object's tint covers another's
    thickness = 2 if image.shape[1] >= 480 else 1
    for coverage, colour in zip(coverages, colours, strict=True):
        inside = (coverage >= 0.5).astype(np.uint8)
        contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        bright = tuple(round(0.65 * value + 0.35 * 255) for value in colour)
        cv2.drawContours(drawn, contours, -1, bright, thickness, cv2.LINE_AA)
    return drawn


def compose_content(completion: Completion, t: int) -> U8:
    """The completed objects of frame ``t`` on a checkerboard, (H, W, 3) uint8 at the clip's size.

    Nobody said which object is in front, but what the camera saw is: visible pixels are laid over all hidden ones.
    """
    canvas = _checkerboard(*completion.clip.size)
    for obj in completion.objects:
        if obj.content_rgba is None:
            continue
        rgba = obj.content_rgba[t]
        alpha = rgba[..., 3:].astype(np.float32) / 255.0
        mixed = canvas * (1.0 - alpha) + rgba[..., :3] * alpha
        canvas = np.round(mixed).astype(np.uint8)
    for obj in completion.objects:
        seen = obj.modal_masks[t]
        canvas[seen] = completion.clip.frames_u8[t][seen]
    return canvas


def _checkerboard(height: int, width: int) -> U8:
    cell = max(4, round(max(height, width) / 48))
    rows, cols = np.arange(height)[:, None] // cell, np.arange(width)[None, :] // cell
    grey = np.where((rows + cols) % 2 == 0, _CHECKER[0], _CHECKER[1]).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _header(width: int, captions: Sequence[str]) -> U8:
    """The strip with the captions, (h, panels * width + gaps, 3) uint8."""
    text_size = min(22, max(13, width // 28))
    height = (text_size * 2) // 2 * 2
    strip = Image.new("RGB", (len(captions) * (width + _GAP) - _GAP, height), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(text_size)
    for i, caption in enumerate(captions):
        centre = i * (width + _GAP) + width // 2
        draw.text((centre, height // 2), caption, font=font, fill=(236, 236, 236), anchor="mm")
    return np.asarray(strip)
