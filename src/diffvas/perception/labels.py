"""Tracked masks as files: one palette PNG per frame, to be looked at, mended in any image editor, and read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffvas import __version__
from diffvas.export import FolderKind, check_out_dir, replacing_folder
from diffvas.preview import object_colour
from diffvas.types import Bool, ObjectTrack

MARKER, FORMAT_NAME = "masks.json", "diffvas-masks"
_MOST = 255  # ids in a palette


def check_masks_dir(out_dir: str | Path) -> Path:
    """Say early whether masks can be put there, without touching anything.

    Returns:
        The place as an absolute path.

    Raises:
        ValueError: see :func:`diffvas.export.check_out_dir`; or masks lie there that were changed since they were
            written: somebody's work.
    """
    place = check_out_dir(out_dir, _kind(Path(out_dir)))
    if (place / MARKER).is_file():
        said = json.loads((place / MARKER).read_text("utf-8")).get("digest")
        if said != _digest(sorted(place.glob("*.png"))):
            raise ValueError(f"out_dir: expected a new folder, got '{out_dir}', whose masks were changed since")
    return place


def save_masks(tracks: Sequence[ObjectTrack], out_dir: str | Path, about: Mapping[str, Any] | None = None) -> Path:
    """Write tracks as label images, 00000.png and on, which ``masks.read_masks`` reads.

    Args:
        tracks: of one size and length, ids up to 255; where two share a pixel, the later one has it.
        out_dir: the folder; masks that lie there are replaced when the new ones are whole.
        about: what ``masks.json`` shall say beside them.

    Returns:
        The folder, as an absolute path.

    Raises:
        ValueError: no tracks, tracks that do not fit together, ids above 255, or see :func:`check_masks_dir`.
        OSError: the files cannot be written; nothing is left behind.
    """
    shapes = {track.modal_masks.shape for track in tracks}
    if len(shapes) != 1:
        raise ValueError(f"tracks: expected one or more of one shape, got {sorted(shapes)}")
    frames = (np.stack([track.modal_masks[t] for track in tracks]) for t in range(shapes.pop()[0]))
    return write_masks([track.object_id for track in tracks], frames, out_dir, about)


def write_masks(
    ids: Sequence[int], frames: Iterable[Bool], out_dir: str | Path, about: Mapping[str, Any] | None = None
) -> Path:
    """As :func:`save_masks`, from a stream: one (N, H, W) bool per frame, the objects in the order of ``ids``."""
    if not all(1 <= number <= _MOST for number in ids):
        raise ValueError(f"ids: expected 1 to {_MOST}, as many as a palette holds, got {max(ids)}")
    check_masks_dir(out_dir)
    palette = [0, 0, 0, *(value for number in range(1, _MOST + 1) for value in object_colour(number))]
    with replacing_folder(out_dir, _kind(Path(out_dir))) as folder:
        for t, masks in enumerate(frames):
            labels = np.zeros(masks.shape[1:], np.uint8)
            for number, mask in zip(ids, masks, strict=True):
                labels[mask] = number
            image = Image.fromarray(labels, "P")
            image.putpalette(palette)
            image.save(folder / f"{t:05d}.png")
        digest = _digest(sorted(folder.glob("*.png")))
        content = {"format": FORMAT_NAME, "version": __version__, **(about or {}), "digest": digest}
        (folder / MARKER).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Path(out_dir).resolve()


def _kind(out_dir: Path) -> FolderKind:
    """The pictures that lie there are ours where the marker is, and goes with them (see ``check_masks_dir``)."""
    pictures = frozenset(path.name for path in out_dir.glob("*.png")) if out_dir.is_dir() else frozenset()
    return FolderKind(MARKER, FORMAT_NAME, pictures, lambda name: False)


def _digest(files: Iterable[Path]) -> str:
    """Of names and contents."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
