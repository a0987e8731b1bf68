"""What a data set holds: how much of its objects is visible, counted and shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from diffvas.world.clip import SceneClip
from diffvas.world.shards import BrokenShardError, SceneSet

Array = np.ndarray
LEAST_SHARE = 0.0005  # of the frame's pixels: a smaller object is not counted as present
# name, lowest visible fraction, and below which one; "hidden" is nothing at all, and a whole object has 1
LEVELS = (
    ("hidden", 0.0, 0.0),
    ("below-25", 0.0, 0.25),
    ("25-to-50", 0.25, 0.5),
    ("50-to-75", 0.5, 0.75),
    ("75-to-95", 0.75, 0.95),
    ("above-95", 0.95, np.inf),
)
LEVEL_NAMES = tuple(name for name, _, _ in LEVELS)


def level_of(visible: Array | float) -> Array:
    """Index in ``LEVELS`` of visible fractions in [0, 1], of any shape."""
    edges = [high for _, _, high in LEVELS[1:-1]]
    return np.where(np.asarray(visible) <= 0, 0, 1 + np.digitize(visible, edges))


def visible_fractions(meta: dict[str, Any]) -> Array:
    """(N, T) float64 from a clip's ``meta``, NaN where the object is not in the frame (or a speck)."""
    amodal, modal = (np.asarray(meta["areas"][key], float) for key in ("amodal", "modal"))
    present = amodal >= max(1.0, LEAST_SHARE * meta["size"][0] * meta["size"][1])
    return np.where(present, modal / np.maximum(amodal, 1), np.nan)


def hidden_spans(visible: Array) -> list[tuple[int, int]]:
    """First and one-past-last frame of every run of fully hidden frames (fraction 0) in a (T,) row."""
    padded = np.concatenate([[False], visible == 0, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def dataset_stats(scenes: SceneSet, progress: Callable[[str, int, int], None] | None = None) -> dict[str, Any]:
    """Counts over a data set, ready for JSON; no picture is read.

    Returns:
        clips, objects, frames; ``levels``: share of the objects' frames and of the object clips (by their mean visible
        fraction) per level; ``histogram``: counts of the frames, hidden, in twenty steps of 5 %, and whole;
        ``hidden_spans``: how many, how many after which the object is seen again, and their lengths;
        ``out_of_frame``: share of the objects' frames in which a tenth or more of the object is beyond the frame's
        edge (None without canvas); ``kinds``: how many objects of each.
    """
    histogram, frame_levels = np.zeros(22, int), np.zeros(len(LEVELS), int)
    clip_levels, lengths, kinds = np.zeros(len(LEVELS), int), Counter[int](), Counter[str]()
    clips = objects = frames = again = beyond = with_canvas = 0
    for index, meta in scenes.metas():
        clips += 1
        kinds.update(meta["kinds"] or ())
        objects += meta["objects"]
        frames += meta["frames"]
        for row in visible_fractions(meta):
            there = row[~np.isnan(row)]
            if not there.size:
                continue
            frame_levels += np.bincount(level_of(there), minlength=len(LEVELS))
            clip_levels[level_of(there.mean())] += 1
            steps = np.where(there <= 0, 0, np.where(there >= 1, 21, 1 + np.minimum(there / 0.05, 19).astype(int)))
            histogram += np.bincount(steps, minlength=22)
            for first, last in hidden_spans(row):
                lengths[last - first] += 1
                again += bool((row[last:] > 0).any())
        if "canvas" in meta["areas"]:
            canvas, inside = (np.asarray(meta["areas"][key], float) for key in ("canvas", "amodal"))
            with_canvas += int((canvas > 0).sum())
            beyond += int((inside[canvas > 0] <= 0.9 * canvas[canvas > 0]).sum())
        if progress:
            progress("stats", index + 1, len(scenes))
    return {
        "clips": clips,
        "objects": objects,
        "frames": frames,
        "levels": {
            name: {"frames": _share(frame_levels, k), "object_clips": _share(clip_levels, k)}
            for k, name in enumerate(LEVEL_NAMES)
        },
        "histogram": histogram.tolist(),
        "hidden_spans": {"count": sum(lengths.values()), "seen_again": again, "lengths": dict(sorted(lengths.items()))},
        "out_of_frame": round(beyond / with_canvas, 4) if with_canvas else None,
        "kinds": dict(kinds.most_common()),
    }


def _share(counts: Array, index: int) -> float:
    return round(float(counts[index] / max(1, counts.sum())), 4)


def histogram_picture(stats: dict[str, Any], size: tuple[int, int] = (300, 720)) -> Array:
    """(H, W, 3) uint8: bars of ``stats["histogram"]``, from fully hidden on the left to whole on the right."""
    height, width = size
    counts = np.asarray(stats["histogram"], float)
    shares = counts / max(1.0, counts.sum())
    picture = np.full((height, width, 3), 255, np.uint8)
    left, base, top = 20, height - 40, 40
    step = (width - 2 * left) / len(shares)
    for k, share in enumerate(shares):
        colour = (200, 60, 50) if k == 0 else (60, 140, 80) if k == len(shares) - 1 else (70, 110, 190)
        x, y = int(left + k * step), int(base - share / max(shares.max(), 1e-9) * (base - top))
        cv2.rectangle(picture, (x + 1, y), (int(x + step) - 2, base), colour, -1)
        if share >= 0.0005:
            _text(picture, f"{100 * share:.1f}", (x, y - 4), 0.32)
        name = "hidden" if k == 0 else "whole" if k == len(shares) - 1 else f"{5 * (k - 1)}" if k % 2 else ""
        _text(picture, name, (x - (4 if k in (0, len(shares) - 1) else -3), base + 14), 0.34)
    title = f"visible fraction (%) of {stats['objects']} objects in {stats['clips']} clips; share of frames (%)"
    _text(picture, title, (left, 18), 0.42)
    return picture


def _text(picture: Array, text: str, at: tuple[int, int], scale: float) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (30, 30, 30), 1, cv2.LINE_AA)


def sample_sheets(scenes: SceneSet, rows: int = 8, columns: int = 3, seed: int = 0) -> dict[str, Array]:
    """For every level of visibility a picture of random objects' frames at that level.

    Each sample is the frame with the object's visible part outlined in green and the rest of it in red, beside the
    object alone.

    Returns:
        name of the level -> (H', W', 3) uint8; levels without a frame are left out.

    Raises:
        ValueError: the data set has no colours, or clips of different sizes.
    """
    rng = np.random.default_rng(seed)
    found: dict[int, list[tuple[int, int, int]]] = {k: [] for k in range(len(LEVELS))}
    for index, meta in scenes.metas():
        for number, row in enumerate(visible_fractions(meta)):
            for k in np.unique(level_of(row[~np.isnan(row)])):
                frames = np.flatnonzero((level_of(np.nan_to_num(row, nan=2.0)) == k) & ~np.isnan(row))
                found[int(k)].append((index, number, int(rng.choice(frames))))
    sheets = {}
    for k, places in found.items():
        if not places:
            continue
        tiles: list[Array] = []
        for j in sorted(rng.permutation(len(places))[: rows * columns]):
            try:
                tiles.append(_sample(scenes, *places[j]))
            except BrokenShardError as error:
                scenes.pass_over(error)
        if not tiles:
            continue
        if len({tile.shape for tile in tiles}) > 1:
            raise ValueError("scenes: expected clips of one size for a sheet, got several")
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
        lines = [np.concatenate(tiles[a : a + columns], 1) for a in range(0, len(tiles), columns)]
        sheets[LEVEL_NAMES[k]] = np.concatenate(lines)
    return sheets


def _sample(scenes: SceneSet, index: int, number: int, frame: int) -> Array:
    clip = scenes.read(index, ("rgb", "content"), slice(frame, frame + 1))
    if not len(clip.frames_u8) or not clip.amodal_rgb_u8.shape[1]:
        raise ValueError(f"scenes: expected clips with colours for a sheet, got {clip.name!r} without")
    return np.concatenate([outlined(clip, number, 0), clip.amodal_rgb_u8[number, 0]], 1)


def outlined(clip: SceneClip, number: int, frame: int) -> Array:
    """(H, W, 3) uint8: a frame with an object's visible part outlined in green, its hidden part in red."""
    picture = clip.frames_u8[frame].copy()
    modal = clip.modal_mask(number)[frame]
    for mask, colour in ((clip.amodal_masks[number, frame] & ~modal, (255, 40, 40)), (modal, (40, 255, 40))):
        edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        picture[edge] = colour
    return picture
