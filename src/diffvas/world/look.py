"""Contact sheets: what a data set looks like, at one glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffvas.world.clip import SceneClip


def most_hidden(scene: SceneClip) -> int:
    """The object that loses most of itself to others, among those that are ever in the frame."""
    loss = [(scene.amodal_masks[i] & ~scene.modal_mask(i)).sum() for i in range(len(scene.amodal_masks))]
    return int(np.argmax(loss))


def contact_sheet(scenes: Sequence[SceneClip], columns: int = 3) -> np.ndarray:
    """One row a scene: ``columns`` frames, then the most hidden object alone, then its masks (white seen, red hidden).

    Returns:
        (H', W', 3) uint8; scenes may differ in length but not in size.

    Raises:
        ValueError: scenes of different sizes.
    """
    sizes = {scene.depth.shape[1:] for scene in scenes}
    if len(sizes) != 1:
        raise ValueError(f"scenes: expected one frame size, got {sorted(sizes)}")
    rows = []
    for scene in scenes:
        i = most_hidden(scene)
        t = int(np.argmax((scene.amodal_masks[i] & ~scene.modal_mask(i)).sum((1, 2))))
        times = np.linspace(0, len(scene.frames_u8) - 1, columns).round().astype(int)
        masks = np.zeros_like(scene.frames_u8[t])
        masks[scene.amodal_masks[i, t]] = (220, 60, 40)
        masks[scene.modal_mask(i)[t]] = 255
        rows.append(np.concatenate([*scene.frames_u8[times], scene.frames_u8[t], scene.amodal_rgb_u8[i, t], masks], 1))
    return np.concatenate(rows)
