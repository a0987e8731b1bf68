"""The preview of a completion: side by side the visible part, the whole object, and its content.

It is drawn at its own size, except for the content, which is put together at full size, so that a pixel is either the
camera's or the model's, and shrinking does the rest.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffvas.arrays import resize_masks_area, resize_u8
from diffvas.types import F32, U8, Bool, Completion

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


@dataclass(frozen=True, eq=False)
class Shown:
    """One object in one frame: modal, amodal (H, W) bool; rgba (H, W, 4) uint8, or None without content."""

    object_id: int
    modal: Bool
    amodal: Bool
    rgba: U8 | None = None


def shown(completion: Completion, t: int) -> list[Shown]:
    """The objects of a completion in frame ``t``."""
    return [
        Shown(o.object_id, o.modal_masks[t], o.amodal_masks[t], None if o.content_rgba is None else o.content_rgba[t])
        for o in completion.objects
    ]


def preview_frames(completion: Completion) -> Iterator[U8]:
    """Yield the preview frame by frame, each (H, W, 3) uint8 with even sides, at most MAX_WIDTH wide."""
    content = any(obj.content_rgba is not None for obj in completion.objects)
    for t, frame in enumerate(completion.clip.frames_u8):
        yield preview_frame(frame, shown(completion, t), content)


def preview_frame(frame: U8, objects: Sequence[Shown], content: bool = True) -> U8:
    """One frame of the preview; ``content``: with the third panel."""
    size = panel_size(frame.shape[0], frame.shape[1])
    header = _header(size[1], _CAPTIONS if content else _CAPTIONS[:2])
    gap = np.full((size[0], _GAP, 3), _BACKGROUND, dtype=np.uint8)
    colours = [object_colour(obj.object_id) for obj in objects]
    small = resize_u8(frame[None], size)[0]
    panels = [
        draw_overlay(small, [_coverage(obj.modal, size) for obj in objects], colours),
        draw_overlay(small, [_coverage(obj.amodal, size) for obj in objects], colours),
    ]
    if content:
        panels.append(resize_u8(compose_frame(frame, objects)[None], size)[0])
    row = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)
    return np.concatenate([header, row], axis=0)


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
    """:func:`compose_frame` of frame ``t``."""
    return compose_frame(completion.clip.frames_u8[t], shown(completion, t))


def compose_frame(frame: U8, objects: Sequence[Shown]) -> U8:
    """The completed objects of a frame on a checkerboard, (H, W, 3) uint8 at the clip's size.

    Nobody said which object is in front, but what the camera saw is: visible pixels are laid over all hidden ones.
    """
    canvas = _checkerboard(frame.shape[0], frame.shape[1])
    for obj in objects:
        if obj.rgba is None:
            continue
        alpha = obj.rgba[..., 3:].astype(np.float32) / 255.0
        mixed = canvas * (1.0 - alpha) + obj.rgba[..., :3] * alpha
        canvas = np.round(mixed).astype(np.uint8)
    for obj in objects:
        canvas[obj.modal] = frame[obj.modal]
    return canvas


def _checkerboard(height: int, width: int) -> U8:
    cell = max(4, round(max(height, width) / 48))
    rows, cols = np.arange(height)[:, None] // cell, np.arange(width)[None, :] // cell
    grey = np.where((rows + cols) % 2 == 0, _CHECKER[0], _CHECKER[1]).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@lru_cache(maxsize=4)
def _header(width: int, captions: tuple[str, ...]) -> U8:
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
