"""Alpha and light: premultiplying, linear light, and colours beyond an object's edge."""

from __future__ import annotations

import cv2
import numpy as np

from diffvas.types import F32, U8


def _srgb_curve() -> F32:
    """Linear light of the 256 levels of sRGB, IEC 61966-2-1."""
    level = np.arange(256) / 255.0
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


LINEAR_OF_SRGB = _srgb_curve()


def with_alpha(rgba: U8, alpha: str) -> U8:
    """Straight RGBA (H, W, 4) uint8 as it is, or premultiplied: colours times alpha, rounded."""
    if alpha == "straight":
        return rgba
    colours = rgba[..., :3].astype(np.uint16) * rgba[..., 3:]
    return np.concatenate([((colours + 127) // 255).astype(np.uint8), rgba[..., 3:]], axis=-1)


def to_linear_premultiplied(rgba: U8) -> F32:
    """Straight sRGB (H, W, 4) uint8 as compositing wants it: linear light, premultiplied, float32 in [0, 1]."""
    alpha = rgba[..., 3:].astype(np.float32) / np.float32(255)
    return np.concatenate([LINEAR_OF_SRGB[rgba[..., :3]] * alpha, alpha], axis=-1)


def spread_colours(rgba: U8) -> U8:
    """Straight RGBA with the colours of clear pixels replaced by those of the nearest pixel that is not clear.

    Clear pixels have no colour of their own, but lossy codecs blur whatever stands there into the object's edge. Alpha
    stays; a frame that is clear or opaque throughout comes back as it is.
    """
    clear = rgba[..., 3] == 0
    if clear.all() or not clear.any():
        return rgba
    _, labels = cv2.distanceTransformWithLabels(
        clear.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros((int(labels.max()) + 1, 3), dtype=np.uint8)
    source[labels[~clear]] = rgba[~clear][:, :3]  # every pixel that is not clear has a label of its own
    return np.concatenate([source[labels], rgba[..., 3:]], axis=-1)
