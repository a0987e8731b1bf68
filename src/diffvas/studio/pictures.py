"""Frames, masks and layers as pictures that a browser shows: shrunk to what a screen needs."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffvas.types import F32, U8, Bool

SHOWN_SIDE = 1280  # pixels of the long side


def shown_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of what the page gets for frames of this size."""
    scale = min(1.0, SHOWN_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _shrink(image: NDArray[np.uint8]) -> U8:
    size = shown_size(*image.shape[:2])
    if size == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(rgb: U8) -> bytes:
    """(H, W, 3) uint8 as JPEG."""
    colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, 90, *colour]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(_shrink(rgb), cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def mask_png(mask: Bool) -> bytes:
    """(H, W) bool as white with alpha: the page paints it in any colour."""
    alpha = _shrink(mask.astype(np.uint8) * np.uint8(255))
    pixels = np.stack([np.full_like(alpha, 255), alpha], -1)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "LA").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def rgba_png(rgba: U8) -> bytes:
    """(H, W, 4) uint8, straight alpha, as PNG. Shrunk premultiplied, so that edges don't darken."""
    small = rgba
    if shown_size(*rgba.shape[:2]) != rgba.shape[:2]:
        alpha = rgba[..., 3:].astype(np.float32)
        weighed = np.concatenate([rgba[..., :3] * (alpha / 255), alpha], -1)
        weighed = cv2.resize(weighed, shown_size(*rgba.shape[:2])[::-1], interpolation=cv2.INTER_AREA)
        colours = weighed[..., :3] * (255 / np.maximum(weighed[..., 3:], 1))
        small = np.concatenate([colours, weighed[..., 3:]], -1).round().clip(0, 255).astype(np.uint8)
    _, data = cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return data.tobytes()


def heat_png(probability: F32) -> bytes:
    """(H, W) float32 in [0, 1] as colours, from few samples (violet) to all (yellow); clear where none is."""
    share = _shrink(np.round(probability * 255).astype(np.uint8))
    colours = cv2.applyColorMap(share, cv2.COLORMAP_PLASMA)
    alpha = np.where(share > 2, np.uint8(235), np.uint8(0))
    _, data = cv2.imencode(".png", np.dstack([colours, alpha]), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return data.tobytes()
