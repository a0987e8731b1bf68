"""What a generator of synthetic video hands over: one scene clip with exact amodal truth."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

FLOW_STEP = 1 / 64  # pixels; flow is kept in whole steps, which is what KITTI's PNG format stores
FLOW_LIMIT = 512.0  # pixels; a longer flow is unknown (NaN)


@dataclass(frozen=True)
class SceneClip:
    """A rendered clip and everything that is true about the objects in it.

    Object ``i`` (``0 <= i < N``) has the id ``i + 1`` in ``instance_ids``; id 0 is the background. What follows
    ``seed`` is None where the generator (the flat world) or the file (the older ``.npz``) has none of it. A clip made
    or read without colours has empty arrays: ``frames_u8`` (0, H, W, 3), ``amodal_rgb_u8`` (N, 0, H, W, 3).

    Pixel coordinates have their origin at the upper left corner of the frame; the centre of the first pixel is
    (0.5, 0.5). Camera axes are x right, y down, z forward (OpenCV); the world's z axis points up.

    Attributes:
        frames_u8: (T, H, W, 3) uint8 RGB, what the camera sees.
        depth: (T, H, W) float32 distance along the camera axis, in metres (flat scenes: in layers).
        instance_ids: (T, H, W) uint8, 0 = background, ``i + 1`` = object ``i``.
        amodal_masks: (N, T, H, W) bool, True on the whole object, hidden parts included, inside the frame.
        amodal_rgb_u8: (N, T, H, W, 3) uint8, the object rendered alone under the same light; white outside
            its amodal mask.
        name: unique within a data set, for example ``"tabletop-0000042"``.
        seed: the seed from which this clip can be made again.
        flow: (T - 1, H, W, 2) float32, how many pixels right and down the point seen in frame t has moved in frame
            t + 1, whether it is still visible there or not; NaN where that is 512 pixels or more, or behind the camera.
        canvas_masks: (N, T, H + 2 (H // 4), W + 2 (W // 4)) bool, the amodal masks on a canvas that is a quarter
            larger on each side (TAO-Amodal); its middle is ``amodal_masks``.
        intrinsics: (T, 3, 3) float64, the camera matrix K in pixels.
        camera_poses: (T, 4, 4) float64, camera to world, in metres.
        object_poses: (N, T, 4, 4) float64, an object's root part to world, in metres.
        in_front: (T, N, N) int32, the number of pixels of the frame in which object i is nearer than object j and
            both are there: row i hides column j. A third thing may be in front of both.
        kinds: N names of what the objects are, for example ``"person"``.
    """

    frames_u8: np.ndarray
    depth: np.ndarray
    instance_ids: np.ndarray
    amodal_masks: np.ndarray
    amodal_rgb_u8: np.ndarray
    name: str
    seed: int
    flow: np.ndarray | None = None
    canvas_masks: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    camera_poses: np.ndarray | None = None
    object_poses: np.ndarray | None = None
    in_front: np.ndarray | None = None
    kinds: tuple[str, ...] | None = None

    def stretch(self, start: int, count: int) -> SceneClip:
        """``count`` frames from ``start`` on; ``name`` and ``seed`` stay those of the whole clip.

        Raises:
            ValueError: the clip has no such frames.
        """
        have = len(self.instance_ids)
        if start < 0 or count < 1 or start + count > have:
            raise ValueError(f"count: expected frames within the clip's {have}, got {count} from {start} on")
        by_frame = slice(start, start + count)
        of_objects = (slice(None), by_frame)
        cuts = {
            **dict.fromkeys(("frames_u8", "depth", "instance_ids", "intrinsics", "camera_poses", "in_front"), by_frame),
            **dict.fromkeys(("amodal_masks", "amodal_rgb_u8", "canvas_masks", "object_poses"), of_objects),
            "flow": slice(start, start + count - 1),
        }
        parts = {name: (getattr(self, name), cut) for name, cut in cuts.items()}
        return dataclasses.replace(self, **{k: part[cut] for k, (part, cut) in parts.items() if part is not None})

    def modal_mask(self, index: int) -> np.ndarray:
        """(T, H, W) bool, True where object ``index`` is visible."""
        return self.instance_ids == index + 1

    def visible_fraction(self, index: int) -> np.ndarray:
        """(T,) float32, visible area over amodal area; 1 where the object is out of the frame."""
        modal = self.modal_mask(index).sum((1, 2))
        amodal = self.amodal_masks[index].sum((1, 2))
        return np.where(amodal > 0, modal / np.maximum(amodal, 1), 1.0).astype(np.float32)

    def out_of_frame(self, index: int) -> np.ndarray:
        """(T,) float32, the share of an object's area on the canvas that is outside the frame; 0 where it is nowhere.

        Raises:
            ValueError: the clip has no ``canvas_masks``.
        """
        if self.canvas_masks is None:
            raise ValueError(f"canvas_masks: expected a clip with masks beyond the frame, got {self.name!r} without")
        inside = self.amodal_masks[index].sum((1, 2))
        area = self.canvas_masks[index].sum((1, 2))
        return np.where(area > 0, 1 - inside / np.maximum(area, 1), 0.0).astype(np.float32)

    def hides(self, front: int, behind: int) -> np.ndarray:
        """(T,) bool, True where object ``front`` is nearer than object ``behind`` in most of the pixels they share.

        Raises:
            ValueError: the clip has no ``in_front``.
        """
        if self.in_front is None:
            raise ValueError(f"in_front: expected a clip with the order of its objects, got {self.name!r} without")
        return self.in_front[:, front, behind] > self.in_front[:, behind, front]


def canvas_padding(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that the canvas adds on each side of a frame of ``size`` (height, width)."""
    return size[0] // 4, size[1] // 4


def clip_digest(clip: SceneClip) -> str:
    """SHA-256 (hex) of everything in a clip: equal for equal clips, whatever file format they went through."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(clip):
        value = getattr(clip, field.name)
        if isinstance(value, np.ndarray):
            digest.update(f"{field.name} {value.dtype} {value.shape};".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        else:
            digest.update(f"{field.name} {value!r};".encode())
    return digest.hexdigest()


def clip_areas(clip: SceneClip) -> dict[str, list[list[int]]]:
    """Pixel counts per object and frame, [N][T]: ``modal``, ``amodal`` and, where the clip has it, ``canvas``."""
    count = len(clip.amodal_masks)
    seen = np.stack([np.bincount(ids.reshape(-1), minlength=count + 1)[1 : count + 1] for ids in clip.instance_ids], 1)
    areas = {"modal": seen.tolist(), "amodal": clip.amodal_masks.sum((2, 3)).tolist()}
    if clip.canvas_masks is not None:
        areas["canvas"] = clip.canvas_masks.sum((2, 3)).tolist()
    return areas
