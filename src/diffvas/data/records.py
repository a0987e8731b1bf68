"""Records of a JSON file that holds one long list, read one by one.

The annotation files of the Diffusion-VAS release have up to 1.6 GB; parsed as a whole they take several times that.
Here the file is walked through once, for the place of every record; a record is parsed when it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

CHUNK = 1 << 23
Place = tuple[int, int]  # a record's first byte, and one past its last
Progress = Callable[[str, int, int], None]


_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


def scan_records(path: str | Path, chunk: int = CHUNK) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The records of a file with their places.

    Args:
        chunk: bytes read at a time.

    Raises:
        ValueError: not a JSON list of objects, or a file that breaks off; says at which byte.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        # one character per byte, so that places in the text are places in the file
        text, base, at = file.read(chunk).decode("latin-1"), 0, 0
        if not text.lstrip(_SPACE).startswith("["):
            raise ValueError(f"path: expected a JSON list of objects in '{path}', got {text.lstrip(_SPACE)[:20]!r}")
        at = text.index("[") + 1
        first = True
        while True:
            while at < len(text) and text[at] in (_SPACE if first else f",{_SPACE}"):
                at += 1
            if text.startswith("]", at):
                return
            if at < len(text) and text[at] != "{":
                raise ValueError(f"path: expected a list of objects in '{path}', got {text[at : at + 20]!r}")
            try:
                record, end = _DECODER.raw_decode(text, at)
            except json.JSONDecodeError as error:
                more = file.read(max(chunk, len(text) - at)).decode("latin-1")
                if not more:
                    place = base + error.pos
                    raise ValueError(f"path: expected whole JSON in '{path}', got {error.msg} at {place}") from None
                text, base, at = text[at:] + more, base + at, 0
                continue
            if not text[at:end].isascii():
                record = json.loads(text[at:end].encode("latin-1"))
            yield (base + at, base + end), record
            at, first = end, False


def first_record(path: str | Path) -> dict[str, Any]:
    """The first record of a file; empty where it is no such list or has none."""
    try:
        return next(iter(scan_records(path, 1 << 18)), ((0, 0), {}))[1]
    except (ValueError, OSError):
        return {}


def find_lists(path: Path, keys: Sequence[str]) -> list[Path]:
    """The files at ``path``, itself or in that folder, that hold lists of records whose first one has ``keys``."""
    files = [path] if path.is_file() else sorted(path.glob("*.json")) if path.is_dir() else []
    return [file for file in files if not lacking(first_record(file), keys)]


def only_list(found: Sequence[Path], path: str | Path, what: str, keys: Sequence[str]) -> Path:
    """The one file that was found; ValueError where there are none or several of them."""
    if len(found) != 1:
        got = f"several, name one: {', '.join(file.name for file in found)}" if found else "none"
        raise ValueError(
            f"path: expected {what} annotations, a JSON list of objects with {', '.join(keys)}, in '{path}', got {got}"
        )
    return found[0]


def index_list(
    file: Path, name_of: Callable[[dict[str, Any]], str], keys: Sequence[str], progress: Progress | None = None
) -> tuple[list[tuple[str, Place]], list[str]]:
    """The places of all records of a file by the records' names, and what was wrong with others.

    Args:
        progress: called as ``progress("index", bytes read, bytes)``.

    Raises:
        ValueError: broken JSON.
    """
    total, problems = file.stat().st_size, []
    entries: list[tuple[str, Place]] = []
    for number, (place, record) in enumerate(scan_records(file)):
        try:
            entries.append((name_of(record), place))
        except (KeyError, IndexError, TypeError) as error:
            problems.append(f"sequence {number}: expected {', '.join(keys)} of one frame or more, got {error!r}")
        if progress:
            progress("index", place[1], total)
    if progress:
        progress("index", total, total)
    return entries, problems


def checked_records(path: str | Path, keys: Sequence[str], what: str) -> Iterator[dict[str, Any]]:
    """The records of a file, each with all of ``keys``; one at a time in memory.

    Raises:
        ValueError: another layout, or no record; the message says what was looked for and what was found.
        OSError: the file cannot be read.
    """
    number = -1
    for number, (_, record) in enumerate(scan_records(path)):
        if without := lacking(record, keys):
            raise ValueError(
                f"path: expected {what} with {', '.join(keys)}, got {shape(record)} without {', '.join(without)} "
                f"as number {number} in '{path}'"
            )
        yield record
    if number < 0:
        raise ValueError(
            f"path: expected {what}, a list of objects with {', '.join(keys)}, got a list of 0 in '{path}'"
        )


def shape(value: Any) -> str:
    """What a JSON value is, in a few words."""
    if isinstance(value, dict):
        return f"an object with {', '.join(list(value)[:6]) or 'no keys'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{type(value).__name__} {str(value)[:40]!r}"


def read_record(path: str | Path, place: Place) -> dict[str, Any]:
    """One record by its place; ValueError where the file has changed since."""
    with Path(path).open("rb") as file:
        file.seek(place[0])
        data = file.read(place[1] - place[0])
    try:
        record = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError):
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"path: expected the file as it was when it was opened, '{path}' has changed at {place[0]}")
    return record


def lacking(record: dict[str, Any], keys: Sequence[str]) -> list[str]:
    """The keys that a record should have and has not."""
    return [key for key in keys if key not in record]


def one_length(record: Mapping[str, Any], keys: Sequence[str], where: str) -> int:
    """The number of frames if all of some lists have one entry per frame; ValueError otherwise."""
    lengths = {key: len(record[key]) if isinstance(record[key], list) else -1 for key in keys}
    if len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
        got = ", ".join(f"{key} {'no list' if n < 0 else n}" for key, n in lengths.items())
        raise ValueError(f"{where}: expected lists of one length, one entry per frame, got {got}")
    return lengths[keys[0]]


def no_name_twice(names: Sequence[str], where: str) -> None:
    """Raise ValueError for frames of which a name stands twice; the first such name is told."""
    if len(set(names)) != len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise ValueError(f"{where}: expected every frame once, got '{twice}' a second time")
