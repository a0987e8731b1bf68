"""YouTube-VIS annotations: {"videos": [...], "annotations": [{"segmentations": [RLE or null per frame]}]}.

The visible masks stand in one file and the whole ones in another, with the same annotation ids: ``modal.json`` and
``amodal.json``, as ``diffvas world export`` writes them. A file alone is taken for visible masks without truth.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from diffvas.data.base import ObjectClip, ObjectClips, decode_rles, frame_number, read_images
from diffvas.data.records import lacking

VIDEO_KEYS = ("id", "height", "width", "file_names")
KEYS = ("id", "video_id", "segmentations")


def find_json(path: Path) -> tuple[Path, Path | None] | None:
    """(visible masks, whole masks or None) at ``path``; None where there is nothing of the kind."""
    file = path / "modal.json" if path.is_dir() else path
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        head = opened.read(1 << 20)
    if not head.lstrip().startswith(b"{") or (b'"videos"' not in head and b'"annotations"' not in head):
        return None
    amodal = file.with_name("amodal.json")
    return file, amodal if file.name == "modal.json" and amodal.is_file() else None


def open_ytvis(path: str | Path, *, images: str | Path | None = None, amodal: str | Path | None = None) -> ObjectClips:
    """The objects of an annotation file.

    A clip is called "VIDEO/ANNOTATION ID", its frames by their files, and its group is the video.

    Args:
        path: a JSON, or a folder with ``modal.json`` (and ``amodal.json``).
        images: the folder to which the file names are relative; the JSON's own, or its ``JPEGImages``, by default.
        amodal: a JSON with the whole objects' masks under the same annotation ids.

    Raises:
        ValueError: another layout, or broken JSON.
    """
    found = find_json(Path(path))
    if found is None:
        raise ValueError(f"path: expected YouTube-VIS annotations, or modal.json in a folder, got none in '{path}'")
    file, whole = found[0], found[1] if amodal is None else Path(amodal)
    modal, truth = _load(file), None if whole is None else _load(whole)
    problems: list[str] = []
    categories = {row["id"]: str(row["name"]) for row in modal.get("categories", ())}
    videos = _by_id(modal["videos"], VIDEO_KEYS, f"videos of '{file.name}'", problems)
    seen = _by_id(modal["annotations"], KEYS, f"annotations of '{file.name}'", problems)
    full = None if truth is None else _by_id(truth["annotations"], KEYS, f"annotations of '{whole}'", problems)
    root = _image_root(file.parent if images is None else Path(images), images is None)
    entries: list[tuple[str, Any]] = []
    for key, row in seen.items():
        video = videos.get(row["video_id"])
        if video is None:
            problems.append(f"annotation {key}: expected one of {len(videos)} videos, got {row['video_id']}")
            continue
        other = None if full is None else full.get(key)
        if full is not None and (other is None or other["video_id"] != row["video_id"]):
            problems.append(f"annotation {key}: expected the whole object in the same video of '{whole}', got none")
            continue
        name = f"{_video_name(video)}/{key}"
        category = row.get("category_id")
        family = categories.get(category, "" if category is None else str(category))
        entries.append((name, (name, video, row["segmentations"], other and other["segmentations"], family, root)))
    return ObjectClips("ytvis", path, entries, _read, problems)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"path: expected annotations, found no file '{file}'") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: expected whole JSON in '{file}', got something else ({error})") from None
    if not isinstance(content, dict) or lacking(content, ("videos", "annotations")):
        raise ValueError(f"path: expected an object with videos and annotations in '{file}', got something else")
    return content


def _by_id(rows: list[Any], keys: tuple[str, ...], what: str, problems: list[str]) -> dict[Any, dict[str, Any]]:
    out: dict[Any, dict[str, Any]] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or lacking(row, keys):
            problems.append(f"{what}: expected {', '.join(keys)}, got others in number {index}")
        elif row["id"] in out:
            problems.append(f"{what}: expected every id once, got {row['id']} a second time")
        else:
            out[row["id"]] = row
    return out


def _image_root(folder: Path, look: bool) -> Path:
    return folder / "JPEGImages" if look and (folder / "JPEGImages").is_dir() else folder


def _video_name(video: dict[str, Any]) -> str:
    """Its name; in YouTube-VIS, which gives none, the folder of its pictures."""
    folder = PurePosixPath(str(video["file_names"][0])).parent.name if video["file_names"] else ""
    return str(video.get("name") or folder or video["id"])


def _read(entry: tuple[str, dict[str, Any], list[Any], list[Any] | None, str, Path]) -> ObjectClip:
    name, video, modal, amodal, family, root = entry
    names = [str(n) for n in video["file_names"]]
    for what, masks in (("visible", modal), ("whole", amodal)):
        if masks is not None and len(masks) != len(names):
            raise ValueError(f"{name}: expected {len(names)} {what} masks, one per picture, got {len(masks)}")
    size = (video["height"], video["width"])
    files = tuple(str(root / n) for n in names)
    return ObjectClip(
        name=name,
        group=_video_name(video),
        family=family,
        frames=tuple(names),
        modal=decode_rles(f"{name}, visible", modal, size),
        amodal=None if amodal is None else decode_rles(f"{name}, whole", amodal, size),
        numbers=tuple(frame_number(n, t) for t, n in enumerate(names)),
        images=files,
        readers={"frames": partial(read_images, files)},
    )
