"""A result in the formats that other tools read.

``export_result("result", ["prores", "coco"], "out")`` reads what ``diffvas complete`` wrote and makes::

    out/export.json          what was written: the clip, and per format its files and what to know about them
    out/prores/1.mov         ...
    out/coco/annotations.json

Each format is a function ``write(result, folder, options, tick) -> dict``: it writes into an empty folder, calls
``tick`` once per object and frame, and returns what the manifest says about it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from diffvas import __version__
from diffvas.export import FolderKind, check_out_dir, replacing_folder
from diffvas.exports.result import Layer, Result, from_completion, read_result
from diffvas.types import Completion

__all__ = [
    "ALPHAS",
    "EXPORT_FOLDER",
    "FORMATS",
    "ExportOptions",
    "Layer",
    "Result",
    "check_export",
    "check_formats",
    "export_result",
    "from_completion",
    "read_result",
]

# name -> (module:function, what it is in one line); modules are imported when a format is asked for
FORMATS: dict[str, tuple[str, str]] = {
    "png": ("png:write", "PNG sequences by kind: whole and visible masks, RGBA, probability"),
    "layers": ("layers:write", "one folder per object with all it has, and a manifest"),
    "prores": ("alpha_video:write_prores", "ProRes 4444 with alpha in .mov, for editors; lossy"),
    "ffv1": ("alpha_video:write_ffv1", "FFV1 with alpha in .mkv, lossless"),
    "vp9": ("alpha_video:write_vp9", "VP9 with alpha in .webm, for the web; lossy"),
    "exr": ("exr:write", "OpenEXR sequences: half float, linear light, premultiplied"),
    "coco": ("coco:write", "COCO JSON, compressed RLE, whole and visible masks"),
    "ytvis": ("ytvis:write", "YouTube-VIS JSON, one file of whole and one of visible masks"),
    "cvat": ("cvat:write", "CVAT: annotations.xml with masks, and a 'Segmentation mask 1.1' zip"),
    "npz": ("npz:write", "NumPy arrays, one .npz per object"),
}
ALPHAS = ("straight", "premultiplied")

EXPORT_NAME = "export.json"
EXPORT_FORMAT = "diffvas-export"
EXPORT_FOLDER = FolderKind(EXPORT_NAME, EXPORT_FORMAT, frozenset(), FORMATS.__contains__)

_NUMBER = re.compile(r"%0?\d*d")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportOptions:
    """What the formats leave open.

    Attributes:
        alpha: "straight" or "premultiplied", of png, layers, prores, ffv1 and vp9; EXR is premultiplied by definition.
        category: what annotation formats call the objects.
        frame_name: file names of the input's frames, with a %d for the number, counted from 0: annotation files name
            the frames, which a result does not hold. None: what each format expects.

    Raises:
        ValueError: another alpha, an empty category or one of several lines, or a pattern that is not a relative path
            with one %d.
    """

    alpha: str = "straight"
    category: str = "object"
    frame_name: str | None = None

    def __post_init__(self) -> None:
        if self.alpha not in ALPHAS:
            raise ValueError(f"alpha: expected one of {', '.join(ALPHAS)}, got {self.alpha!r}")
        if not self.category.strip() or not self.category.isprintable() or ":" in self.category:
            raise ValueError(f"category: expected one line of text without a colon, got {self.category!r}")
        name = self.frame_name
        if name is not None:
            fixed = _NUMBER.sub("", name, count=1)
            parts = name.replace("\\", "/").split("/")
            if fixed == name or "%" in fixed or not name.isprintable() or ".." in parts or "" in parts:
                raise ValueError(f"frame_name: expected a relative path with one %d in it, as %05d.jpg, got {name!r}")

    def frame_names(self, count: int, default: str) -> list[str]:
        """The frames' file names, by the pattern or a format's own."""
        return [(self.frame_name or default) % t for t in range(count)]


def check_formats(formats: Sequence[str]) -> list[str]:
    """The formats without repetitions.

    Raises:
        ValueError: none, or an unknown one (a near name is suggested).
    """
    if not formats:
        raise ValueError(f"formats: expected one or more of {', '.join(FORMATS)}, got none")
    for name in formats:
        if name not in FORMATS:
            near = difflib.get_close_matches(name, FORMATS, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ValueError(f"formats: expected one or more of {', '.join(FORMATS)}, got '{name}'{hint}")
    return list(dict.fromkeys(formats))


def check_export(source: str | Path, out_dir: str | Path) -> None:
    """Say early whether a result's export can be put in a folder, without touching anything.

    Raises:
        ValueError: see :func:`diffvas.export.check_out_dir`; also a folder that holds the result or lies in it.
    """
    place, result = check_out_dir(out_dir, EXPORT_FOLDER), Path(source).resolve()
    if place == result or place in result.parents or result in place.parents:
        raise ValueError(f"out_dir: expected a folder apart from the result '{source}', got '{out_dir}'")


def export_result(
    source: str | Path | Result | Completion,
    formats: Sequence[str],
    out_dir: str | Path,
    options: ExportOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a result in one or more formats; an earlier export in the same place is replaced when the new one is whole.

    Args:
        source: the folder of a result, or one in memory.
        formats: names from :data:`FORMATS`.
        out_dir: the output folder; each format gets a folder of its name in it.
        progress: called as progress(format, done, total), where total counts objects times frames.

    Returns:
        The output folder, as an absolute path.

    Raises:
        FileNotFoundError: no such result.
        ValueError: an unknown format, an incomplete result, a damaged picture, or a place that would be lost.
        OSError: the files cannot be written; nothing is left behind.
    """
    names = check_formats(formats)
    options = options or ExportOptions()
    if isinstance(source, str | Path):
        check_export(source, out_dir)
        result = read_result(source)
    else:
        result = from_completion(source) if isinstance(source, Completion) else source
    with replacing_folder(out_dir, EXPORT_FOLDER) as temp:
        about: dict[str, Any] = {"format": EXPORT_FORMAT, "version": __version__, "clip": result.clip_dict()}
        about["result_version"], about["settings"] = result.version, result.settings
        about["objects"] = [layer.object_id for layer in result.layers]
        about["formats"] = {name: _write(name, result, temp / name, options, progress) for name in names}
        text = json.dumps(about, indent=1, allow_nan=False, ensure_ascii=False)
        (temp / EXPORT_NAME).write_text(text + "\n", encoding="utf-8")
    return Path(out_dir).resolve()


def _write(
    name: str, result: Result, folder: Path, options: ExportOptions, progress: Progress | None
) -> dict[str, Any]:
    total, done = result.num_frames * len(result.layers), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(name, done, total)

    folder.mkdir()
    module, function = FORMATS[name][0].split(":")
    write = getattr(import_module(f"diffvas.exports.{module}"), function)
    return dict(write(result, folder, options, tick))
