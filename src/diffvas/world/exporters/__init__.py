"""Data sets of scene clips in the formats of others: SAIL-VOS as the reference has it, YouTube-VIS, and MOVi."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diffvas.export import replacing_folder
from diffvas.world.clip import SceneClip
from diffvas.world.exporters import movi, sailvos, ytvis
from diffvas.world.shards import SceneSet

FORMATS: dict[str, Callable[..., Any]] = {"sailvos": sailvos.export, "ytvis": ytvis.export, "movi": movi.export}


def export_dataset(
    scenes: SceneSet,
    out: str | Path,
    format_name: str,
    *,
    subset: str = "test",
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write a data set in another format, whole or not at all.

    Args:
        scenes: clips with colours. out: a new or empty folder.
        format_name: "sailvos", "ytvis" or "movi"; what they write is said in their modules.
        subset: "train" or "test", the folder's name in the MOVi layout.
        progress: called as ``progress("export", done, clips)``.

    Returns:
        The folder.

    Raises:
        ValueError: an unknown format or subset, clips without colours, or ``out`` is not empty.
        OSError: it cannot be written; nothing is left behind.
    """
    if format_name not in FORMATS:
        raise ValueError(f"format_name: expected one of {', '.join(FORMATS)}, got {format_name!r}")
    if subset not in ("train", "test"):
        raise ValueError(f"subset: expected 'train' or 'test', got {subset!r}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out: expected a new or empty folder, got '{out}'")

    def clips() -> Iterator[SceneClip]:
        for index, clip in enumerate(scenes):
            if not len(clip.frames_u8):
                raise ValueError(f"scenes: expected clips with colours, got {clip.name!r} without")
            yield clip
            if progress:
                progress("export", index + 1, len(scenes))

    with replacing_folder(out) as folder:
        FORMATS[format_name](clips(), folder, subset)
    return out
