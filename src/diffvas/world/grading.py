"""Exposure and colour of a clip: what a camera's electronics make of the rendered light."""

from __future__ import annotations

import cv2
import numpy as np

from diffvas.world.spec import Look, SceneSpec


def apply_look(frames_u8: np.ndarray, spec: SceneSpec) -> np.ndarray:
    """Frames or an object's colours as the camera of the scene records them.

    Every value maps by a table of its channel, the same wherever it stands: frame and object alone keep equal colours
    where they had equal colours. White around an object alone would be graded too, so grade before putting it on white.

    Args:
        frames_u8: (..., 3) uint8 RGB. spec: its ``look`` is applied, but for ``blur_frames``, which is the renderer's.

    Returns:
        (..., 3) uint8; ``frames_u8`` itself where there is nothing to change.

    Raises:
        ValueError: frames that are not uint8 RGB.
    """
    if frames_u8.dtype != np.uint8 or frames_u8.shape[-1:] != (3,):
        raise ValueError(f"frames_u8: expected uint8 (..., 3), got {frames_u8.dtype} {frames_u8.shape}")
    look = spec.look
    if (look.exposure, look.gamma, look.tint) == (1.0, 1.0, (1.0, 1.0, 1.0)) or not frames_u8.size:
        return frames_u8
    flat = np.ascontiguousarray(frames_u8).reshape(-1, 1, 3)
    return cv2.LUT(flat, look_table(look)[None]).reshape(frames_u8.shape)


def look_table(look: Look) -> np.ndarray:
    """(256, 3) uint8: what each value of each channel becomes; rising, so nothing changes its order of brightness."""
    light = np.linspace(0, 1, 256)[:, None] ** look.gamma * look.exposure * np.asarray(look.tint)
    shoulder = np.where(light > 0.8, 0.8 + 0.2 * (1 - np.exp(-(light - 0.8) / 0.2)), light)  # bright parts roll off
    return np.round(255 * np.clip(shoulder, 0, 1)).astype(np.uint8)
