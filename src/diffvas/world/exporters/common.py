"""What the exporters share: writing pictures, boxes, categories."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from diffvas.world.clip import SceneClip

Array = np.ndarray


def write_picture(path: Path, picture: Array) -> None:
    """Write a picture (H, W), or (H, W, 3 or 4) with the channels in RGB(A) order; OSError where it fails."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA if picture.shape[-1] == 4 else cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(path.suffix, picture)
    assert ok
    path.write_bytes(data.tobytes())  # cv2.imwrite would not say why it failed


def box_of(mask: Array) -> list[int]:
    """[x, y, width, height] of a mask (H, W); all 0 where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return [0, 0, 0, 0]
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def write_frames(folder: Path, clip: SceneClip) -> list[str]:
    """Write a clip's frames as ``images/<clip>/000000.png``, ...; their names relative to ``folder``."""
    names = [f"images/{clip.name}/{frame:06d}.png" for frame in range(len(clip.frames_u8))]
    (folder / "images" / clip.name).mkdir(parents=True)
    for name, frame in zip(names, clip.frames_u8, strict=True):
        write_picture(folder / name, frame)
    return names


class Categories:
    """Numbers kinds of objects in the order in which they are met, from 1 on."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def of(self, clip: SceneClip, index: int) -> int:
        kind = clip.kinds[index] if clip.kinds else "object"
        return self.numbers.setdefault(kind, len(self.numbers) + 1)

    def table(self) -> list[dict[str, object]]:
        return [{"id": number, "name": name, "supercategory": "object"} for name, number in self.numbers.items()]


def seen_objects(clip: SceneClip) -> list[int]:
    """The objects that are visible in at least one frame: without that there is nothing to ask of a method."""
    return [index for index in range(len(clip.amodal_masks)) if clip.modal_mask(index).any()]
