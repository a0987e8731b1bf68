"""Real silhouettes with known truth: masks that show an object whole, hidden by synthetic shapes that move over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffvas import arrays
from diffvas.bench.cases import Case, hides_enough, named_rng
from diffvas.data.examples import relative_depth
from diffvas.data.occluders import covered_by, paint_over, pass_over
from diffvas.masks import read_masks
from diffvas.video import list_images, open_image
from diffvas.world.flat import Actor, sample_actor
from diffvas.world.outlines import OCCLUDERS

Array = np.ndarray
MAX_SIZE = (180, 320)
HIDDEN_RANGE = (0.15, 0.70)
"""The share of the object's area that must be hidden, over all frames together."""
ATTEMPTS = 50


def silhouette_names(folders: list[Path]) -> list[str]:
    """A name per folder: its own, or its parent's where it is just called ``masks``; equal ones are numbered."""
    names: list[str] = []
    for folder in folders:
        whole = folder.resolve()
        name = whole.parent.name if whole.name.lower() in {"masks", "modal_masks", "amodal_masks"} else whole.name
        same = sum(n == name or n.startswith(f"{name}#") for n in names)
        names.append(f"{name}#{same + 1}" if same else name)
    return names


def read_silhouette(folder: str | Path, frames: int | None = None) -> Array:
    """One object's masks, (T, H, W) bool, shrunk to 320 x 180 at most.

    Args:
        folder: masks of one object that show it whole, as ``read_masks`` reads them.
        frames: the first so many; None = all.

    Raises:
        ValueError: no such folder, no images, several objects, no mask pixel in the frames taken, or what
            ``read_masks`` refuses.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"masks: expected a folder of images, got '{folder}'")
    files = list_images(folder)
    if not files:
        raise ValueError(f"masks: expected images in '{folder}', found none")
    width, height = open_image(files[0]).size
    tracks = read_masks(folder, (height, width), len(files))
    if len(tracks) != 1:
        raise ValueError(f"masks: expected the masks of one object in '{folder}', got {len(tracks)} objects")
    masks = tracks[0].modal_masks[:frames]
    shrink = min(1.0, MAX_SIZE[0] / height, MAX_SIZE[1] / width)
    if shrink < 1.0:
        size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        masks = arrays.resize_masks_area(masks, size) >= 0.5
    if not masks.any():
        raise ValueError(f"masks: expected the object in the first {len(masks)} frames of '{folder}', found none of it")
    return masks


def read_pictures(folder: str | Path, count: int, size: tuple[int, int]) -> Array | None:
    """(count, *size, 3) uint8: the camera's frames in a folder ``frames`` beside that of the masks; None without one.

    Raises:
        ValueError: fewer frames than masks, or some that cannot be read.
    """
    place = Path(folder).resolve().parent / "frames"
    if not place.is_dir():
        return None
    files = list_images(place)
    if len(files) < count:
        raise ValueError(f"masks: expected {count} frames or more in '{place}', got {len(files)}")
    pictures = (np.asarray(open_image(file).convert("RGB"), np.uint8) for file in files[:count])
    return np.concatenate([arrays.resize_u8(picture[None], size) for picture in pictures])


def cover(masks: Array, rng: np.random.Generator) -> tuple[Array, list[Actor]] | None:
    """(T, H, W) bool, where occluders are, and these; None where they hide too little of the object, or too much."""
    frames, size = len(masks), (masks.shape[1], masks.shape[2])
    actors = pass_over(rng, masks, lambda box, big: sample_actor(rng, box, frames, 1.0, OCCLUDERS, big))
    covered = covered_by(actors, frames, size)
    modal = masks & ~covered
    share = 1.0 - modal.sum() / masks.sum()
    fits = HIDDEN_RANGE[0] <= share <= HIDDEN_RANGE[1] and (modal.sum((1, 2)) > 20).sum() >= 3
    return (covered, actors) if fits and hides_enough(modal, masks).any() else None


def layered_depth(rng: np.random.Generator, masks: Array, covered: Array) -> Array:
    """Relative depth (T, H, W) of three layers: a sloping background, the object, the occluders in front."""
    height = masks.shape[1]
    far = 14.0 - rng.uniform(0, 6) * np.linspace(0, 1, height)[:, None]
    depth = np.broadcast_to(far, masks.shape).astype(np.float32)
    near, middle = np.sort(rng.uniform(2.0, 7.5, 2))
    depth[masks] = middle + 0.3
    depth[covered] = near
    return relative_depth(depth)


def overlay_case(masks: Array, name: str, number: int, seed: int = 0, pictures: Array | None = None) -> Case | None:
    """The silhouette under the occluders of ``number``; None where ``ATTEMPTS`` draws gave none that fit.

    Args:
        masks: (T, H, W) bool, taken as the amodal truth. name: of the silhouette. number: which occluders.
        pictures: (T, H, W, 3) uint8, the camera's frames, for models that tell from colours what stands in front.
    """
    for attempt in range(ATTEMPTS):
        rng = named_rng(seed, name, number, attempt)
        found = cover(masks, rng)
        if found is not None:
            covered, actors = found
            depth = layered_depth(rng, masks, covered)
            frames = None if pictures is None else paint_over(pictures, actors)
            return Case(
                name=f"{name}/{number}",
                group=f"{name}/{number}",
                family=name,
                modal=masks & ~covered,
                amodal=masks,
                depth=depth,
                frames_u8=frames,
                covered=covered,
            )
    return None
