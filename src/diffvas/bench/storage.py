"""A folder with one small JSON file per clip: the form of truths and predictions on disk.

    FOLDER/about.json            {"format": "diffvas-bench", "kind": "predictions", "version": 1, "name": ..., ...}
    FOLDER/clips/3f/NAME.json    one clip; its shard is the start of a hash of its id, its name the id, percent-encoded

A clip's place depends on its id alone and its file is renamed into place when whole. So any number of processes may
write in any order, a run goes on where it stopped, and the same clips give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from diffvas.data.records import shape

FORMAT = "diffvas-bench"
VERSION = 1
MAX_NAME = 150


def read_json(path: str | Path) -> Any:
    """A JSON file, with what would slip through otherwise refused.

    Raises:
        ValueError: not JSON, NaN or Infinity among the numbers, or a key that stands twice in one object (Python's
            reader would silently keep the last).
        OSError: the file cannot be read.
    """
    path = Path(path)

    def refuse(text: str) -> NoReturn:
        raise ValueError(f"path: expected finite numbers in '{path}', got {text}")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            key, times = Counter(key for key, _ in pairs).most_common(1)[0]
            raise ValueError(f"path: expected every id once in '{path}', got '{key}' {times} times")
        return found

    try:
        return json.loads(path.read_bytes(), parse_constant=refuse, object_pairs_hook=once)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: expected JSON in '{path}', got something else: {error}") from None


def read_table(path: str | Path, what: str) -> dict[str, Any]:
    """A JSON file that holds one object, ``what`` it should be in words. Raises ValueError for another layout."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"path: expected {what}, got {shape(found)} in '{path}'")
    return found


def write_json(path: Path, record: Any, indent: int | None = None) -> None:
    """Write JSON beside its place and rename it when whole; NaN is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    separators = (",", ":") if indent is None else None
    write_text(path, json.dumps(record, allow_nan=False, separators=separators, indent=indent) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text beside its place and rename it when whole."""
    beside = path.with_name(f".{path.name[:80]}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


class ClipFolder:
    """The files of one kind of record.

    Args:
        path: the folder.
        kind: "predictions" or "truth".

    Raises:
        ValueError: :meth:`open` finds no such folder, says what it looked for.
    """

    def __init__(self, path: str | Path, kind: str, about: dict[str, Any]) -> None:
        self.path = Path(path)
        self.kind = kind
        self.about = about

    @classmethod
    def open(cls, path: str | Path, kind: str) -> ClipFolder:
        """The folder, for reading."""
        path = Path(path)
        head = path / "about.json"
        if not head.is_file():
            got = "no such folder" if not path.is_dir() else f"a folder with {_listing(path)}"
            raise ValueError(f"path: expected a folder of {kind} with an about.json, looked for '{head}', got {got}")
        about = read_json(head)
        if not isinstance(about, dict) or about.get("format") != FORMAT or about.get("kind") != kind:
            got = str({key: about.get(key) for key in ("format", "kind")} if isinstance(about, dict) else about)
            raise ValueError(f"path: expected format '{FORMAT}' of kind '{kind}' in '{head}', got {got[:80]}")
        if about.get("version") != VERSION:
            raise ValueError(f"path: expected version {VERSION} in '{head}', got {about.get('version')!r}")
        return cls(path, kind, about)

    @classmethod
    def create(cls, path: str | Path, kind: str, about: dict[str, Any]) -> ClipFolder:
        """The folder, for writing; one that is there already is gone on with if it is about the same.

        Raises:
            ValueError: the folder holds records of something else (another method, other settings).
        """
        path = Path(path)
        about = {"format": FORMAT, "kind": kind, "version": VERSION, **about}
        if (path / "about.json").exists():
            there = cls.open(path, kind)
            wanted = json.loads(json.dumps(about))
            if there.about != wanted:
                keys = sorted(k for k in {*wanted, *there.about} if wanted.get(k) != there.about.get(k))
                raise ValueError(
                    f"path: expected a new folder or one about the same, got '{path}', "
                    f"which differs in {', '.join(keys)}"
                )
            return there
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "about.json", about, indent=1)
        return cls(path, kind, about)

    def place(self, clip: str) -> Path:
        """The file of a clip."""
        digest = hashlib.sha256(clip.encode()).hexdigest()
        name = quote(clip, safe="").replace(".", "%2E")
        if len(name) > MAX_NAME:
            name = f"{name[:MAX_NAME]}~{digest[:16]}"
        return self.path / "clips" / digest[:2] / f"{name}.json"

    def __contains__(self, clip: str) -> bool:
        return self.place(clip).is_file()

    def write(self, clip: str, record: dict[str, Any]) -> None:
        """Write one clip's record."""
        write_json(self.place(clip), {"clip": clip, **record})

    def read(self, clip: str) -> dict[str, Any]:
        """One clip's record, as it stands."""
        return self._load(self.place(clip), clip)

    def _load(self, path: Path, clip: str | None = None) -> dict[str, Any]:
        record = read_json(path)
        if not isinstance(record, dict) or not isinstance(record.get("clip"), str):
            raise ValueError(f"path: expected a record with a 'clip' id in '{path}', got {type(record).__name__}")
        if self.place(record["clip"]) != path or (clip is not None and record["clip"] != clip):
            got = f"'{record['clip']}'" + (" a second time" if self.place(record["clip"]).is_file() else "")
            raise ValueError(f"path: expected every clip once, at its own place, got {got} in '{path}'")
        return record

    def files(self) -> list[Path]:
        """All clip files, in the order of their names; half-written ones are none."""
        return sorted(p for p in (self.path / "clips").glob("*/*.json") if not p.name.startswith("."))

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, in the order of their clips' ids."""
        loaded = sorted((self._load(path)["clip"], path) for path in self.files())
        return (self._load(path, clip) for clip, path in loaded)


def shard_of(clip: str, count: int) -> int:
    """Which of ``count`` workers a clip belongs to: the same everywhere, whatever other clips there are."""
    return int(hashlib.sha256(clip.encode()).hexdigest()[:8], 16) % count


def _listing(path: Path) -> str:
    names = sorted(p.name for p in path.iterdir())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "nothing in it"
