"""What the readers of the reference's files share: refusing an unknown layout by saying what was looked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffvas.bench.storage import read_json


def read_records(path: str | Path, keys: Sequence[str], what: str) -> list[dict[str, Any]]:
    """A file that holds a list of objects, each with all of ``keys``.

    Raises:
        ValueError: another layout; the message says what was looked for and what was found.
        OSError: the file cannot be read.
    """
    found = read_json(path)
    if not isinstance(found, list) or not found:
        raise ValueError(
            f"path: expected {what}, a list of objects with {', '.join(keys)}, got {shape(found)} in '{path}'"
        )
    for i, record in enumerate(found):
        lacking = [key for key in keys if not isinstance(record, dict) or key not in record]
        if lacking:
            raise ValueError(
                f"path: expected {what} with {', '.join(keys)}, got {shape(record)} without {', '.join(lacking)} "
                f"as number {i} in '{path}'"
            )
    return found


def read_table(path: str | Path, what: str) -> dict[str, Any]:
    """A file that holds one object. Raises ValueError for another layout."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"path: expected {what}, got {shape(found)} in '{path}'")
    return found


def shape(value: Any) -> str:
    """What a JSON value is, in a few words."""
    if isinstance(value, dict):
        return f"an object with {', '.join(list(value)[:6]) or 'no keys'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{type(value).__name__} {str(value)[:40]!r}"


def one_per_frame(record: dict[str, Any], keys: Sequence[str], where: str) -> int:
    """The number of frames, if all of some lists have one entry per frame. Raises ValueError otherwise."""
    lengths = {key: len(record[key]) if isinstance(record[key], list) else -1 for key in keys}
    if len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
        got = ", ".join(f"{key} {'no list' if n < 0 else n}" for key, n in lengths.items())
        raise ValueError(f"{where}: expected lists of one length, one entry per frame, got {got}")
    return lengths[keys[0]]
