"""Data sets of scene clips on disk: tar shards that WebDataset streams and that are read here at random too.

A shard is a plain tar file with the files of its clips (``codec``), ``<name of the clip>.<end>``, a clip's files one
after another. Its first member, ``__index__`` (WebDataset passes over names like this), says where every file begins,
how long it is and its CRC-32: a clip is read without looking at the others, and a broken shard is found and named.
A folder of older clips (``.npz``) is read in the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffvas.world.clip import SceneClip, clip_areas
from diffvas.world.codec import decode_clip, read_meta
from diffvas.world.storage import read_scene_clip

INDEX = "__index__"
_FORMAT = "diffvas-shard-1"
_BLOCK = 512  # of a tar file
_OPTIONAL = {"rgb.png": "rgb", "flow.png": "flow"}  # files that are read only if the part is wanted; object<i>.png too


class BrokenShardError(ValueError):
    """A file of a data set is not as it was written; the message names it."""


def write_shard(path: str | Path, clips: Sequence[tuple[str, Mapping[str, bytes]]]) -> Path:
    """Write clips, each with its name and its files (``encode_clip``), as one shard; whole or not at all.

    The same clips give the same bytes.

    Raises:
        ValueError: no clips, a name twice, or a name that WebDataset would take apart (with "." or "/").
        OSError: it cannot be written, for example because the disk is full; nothing is left behind.
    """
    path = Path(path)
    names = [name for name, _ in clips]
    if not names or len(set(names)) != len(names) or any(not n or set(n) & set("./\\") for n in names):
        raise ValueError(f"clips: expected names without '.' and '/', each once, got {names}")
    entries, at = [], 0
    for name, files in clips:
        places = {}
        for end, data in files.items():
            places[end] = [at + _BLOCK, len(data), zlib.crc32(data)]
            at += _BLOCK + _padded(len(data))
        entries.append({"name": name, "files": places})
    check = 0
    for block in _members(clips):
        check = zlib.crc32(block, check)
    content = {"format": _FORMAT, "bytes": at, "crc32": check, "clips": entries}
    text = json.dumps(content, separators=(",", ":")).encode()
    index = b"%08x\n" % zlib.crc32(text) + text
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.writelines(_member(INDEX, index))
            file.writelines(_members(clips))
            file.write(bytes(2 * _BLOCK))
            file.flush()
            os.fsync(file.fileno())  # a full network disk may say so only now
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    return path


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _member(name: str, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A file in a tar: its header, its content, and what fills its last block."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    header = info.tobuf(tarfile.USTAR_FORMAT)
    assert len(header) == _BLOCK
    return header, data, bytes(_padded(len(data)) - len(data))


def _members(clips: Sequence[tuple[str, Mapping[str, bytes]]]) -> Iterator[bytes]:
    for name, files in clips:
        for end, data in files.items():
            yield from _member(f"{name}.{end}", data)


class Shard:
    """One tar file: its clips by their position.

    Raises:
        BrokenShardError: no such file, or its index or its length are not as they were written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                info = tarfile.TarInfo.frombuf(file.read(_BLOCK), "utf-8", "strict")
                check, text = file.read(info.size).split(b"\n", 1)
                size = os.fstat(file.fileno()).st_size
            if info.name != INDEX or int(check, 16) != zlib.crc32(text):
                raise ValueError("its index does not match its checksum")
            index = json.loads(text)
            if index["format"] != _FORMAT:
                raise ValueError(f"format {index['format']!r}, expected {_FORMAT!r}")
            self._start = _BLOCK + _padded(info.size)
            self._clips: list[dict[str, Any]] = index["clips"]
            self._bytes, self._check = index["bytes"], index["crc32"]
            expected = self._start + index["bytes"] + 2 * _BLOCK
        except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
            raise BrokenShardError(f"shard: expected a whole shard, got '{self.path}' ({error})") from error
        if size != expected:
            raise BrokenShardError(f"shard: expected {expected} bytes in '{self.path}', got {size}")

    @property
    def names(self) -> list[str]:
        """The clips' names, in order."""
        return [clip["name"] for clip in self._clips]

    def ends(self, index: int) -> list[str]:
        """Which files a clip has."""
        return list(self._clips[index]["files"])

    def files(self, index: int, ends: Collection[str] | None = None) -> dict[str, bytes]:
        """A clip's files, or those of them in ``ends``.

        Raises:
            BrokenShardError: a file is not as it was written.
        """
        found = {}
        try:
            with self.path.open("rb") as file:
                for end, (offset, size, check) in self._clips[index]["files"].items():
                    if ends is None or end in ends:
                        file.seek(self._start + offset)
                        data = file.read(size)
                        if zlib.crc32(data) != check:
                            raise ValueError(f"{self.names[index]}.{end} does not match its checksum")
                        found[end] = data
        except (OSError, ValueError) as error:
            raise BrokenShardError(f"shard: expected a whole shard, got '{self.path}' ({error})") from error
        return found

    def check(self) -> None:
        """Read every byte; BrokenShardError where one is not as it was written."""
        for index in range(len(self._clips)):  # names the file that is broken
            self.files(index)
        check = 0
        with self.path.open("rb") as file:
            file.seek(self._start)
            for at in range(0, self._bytes, 1 << 20):
                check = zlib.crc32(file.read(min(1 << 20, self._bytes - at)), check)
            end = file.read()
        if check != self._check or any(end):
            raise BrokenShardError(f"shard: expected a whole shard, got '{self.path}' (broken between its files)")


class SceneSet(Sequence[SceneClip]):
    """The clips of a data set in the order of their names, each read when it is asked for; see ``open_dataset``.

    Safe to use from several threads and processes, and cheap to pickle to them.

    Attributes:
        path: what was opened. broken: what was skipped, one message per file; empty unless asked to skip.
    """

    def __init__(self, path: str | Path, skip_broken: bool = False) -> None:
        self.path, self._skip = Path(path), skip_broken
        self.broken: list[str] = []
        self._entries: list[tuple[Shard | Path, int]] = []
        for file in _files_of(self.path):
            if file.suffix == ".npz":
                self._entries.append((file, 0))
                continue
            try:
                shard = Shard(file)
            except BrokenShardError as error:
                self.pass_over(error)
                continue
            self._entries.extend((shard, index) for index in range(len(shard.names)))

    def pass_over(self, error: ValueError) -> None:
        """Note a broken file in ``broken``; raises ``error`` where broken files are not to be skipped."""
        if not self._skip:
            raise error
        if str(error) not in self.broken:
            self.broken.append(str(error))

    @property
    def names(self) -> list[str]:
        """The clips' names; of ``.npz`` files, the files' names."""
        return [f.stem if isinstance(f, Path) else f.names[i] for f, i in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        """A clip by its position, with all its parts; a slice gives a list."""
        if isinstance(index, slice):
            return [self.read(i) for i in range(len(self))[index]]
        return self.read(index)

    def __iter__(self) -> Iterator[SceneClip]:
        for index in range(len(self)):
            try:
                clip = self.read(index)
            except ValueError as error:
                self.pass_over(error)
                continue
            yield clip

    def read(self, index: int, parts: Collection[str] | None = None, frames: slice | None = None) -> SceneClip:
        """A clip, or a window of it.

        Args:
            index: its position, negative from the end.
            parts: of ``codec.PARTS`` ("rgb", "content", "flow"); None for all. What is left out is not even read from
                disk. A clip from an ``.npz`` file always has all it has.
            frames: which frames, for example ``slice(5, 17)``; None for all.

        Raises:
            IndexError: no such clip.
            ValueError: unknown parts, a slice without frames, or a broken file (BrokenShardError), which is named.
        """
        file, number = self._entries[index]
        if isinstance(file, Path):
            return _window(read_scene_clip(file), frames)
        ends = [end for end in file.ends(number) if parts is None or _part(end) in (None, *parts)]
        return decode_clip(file.files(number, ends), parts, frames)

    def metas(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """``meta`` of all clips with their positions, those that are broken left out if they are to be skipped."""
        for index in range(len(self)):
            try:
                meta = self.meta(index)
            except ValueError as error:
                self.pass_over(error)
                continue
            yield index, meta

    def meta(self, index: int) -> dict[str, Any]:
        """Name, sizes, kinds, and pixel areas per object and frame of a clip, without reading its pictures."""
        file, number = self._entries[index]
        if not isinstance(file, Path):
            return read_meta(file.files(number, ["meta.json"]))
        clip = read_scene_clip(file)
        count, time, *size = clip.amodal_masks.shape
        return {"name": clip.name, "objects": count, "frames": time, "size": size, "kinds": None,
                "areas": clip_areas(clip)}  # fmt: skip

    def scene(self, index: int) -> str | None:
        """The JSON of a clip's specification (``SceneSpec.from_json``), None where it was not kept."""
        file, number = self._entries[index]
        if isinstance(file, Path):
            return None
        found = file.files(number, ["scene.json"]).get("scene.json")
        return None if found is None else found.decode()


def open_dataset(path: str | Path, skip_broken: bool = False) -> SceneSet:
    """A data set of scene clips: a folder of shards (``.tar``) or of older clips (``.npz``), or one such file.

    Args:
        skip_broken: leave out what is broken when iterating, and list it in ``.broken``; otherwise it raises.

    Raises:
        BrokenShardError: a shard is broken; it is named.
        ValueError: nothing to read there.
    """
    return SceneSet(path, skip_broken)


def check_dataset(path: str | Path, progress: Callable[[str, int, int], None] | None = None) -> list[str]:
    """Read every byte of a data set; one message, which names the file, for each file that is broken.

    Args:
        progress: called as ``progress("check", done, files)``.

    Raises:
        ValueError: nothing to read there.
    """
    files, broken = _files_of(Path(path)), []
    for done, file in enumerate(files, 1):
        try:
            if file.suffix == ".npz":
                read_scene_clip(file)
            else:
                Shard(file).check()
        except ValueError as error:
            broken.append(str(error))
        if progress:
            progress("check", done, len(files))
    return broken


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted([*path.glob("*.tar"), *path.glob("*.npz")])
    else:
        files = [path] if path.is_file() and path.suffix in (".tar", ".npz") else []
    if not files:
        raise ValueError(f"path: expected a data set of scene clips (.tar or .npz), got none in '{path}'")
    return files


def _part(end: str) -> str | None:
    """The optional part that a file belongs to."""
    return "content" if end.startswith("object") else _OPTIONAL.get(end)


def _window(clip: SceneClip, frames: slice | None) -> SceneClip:
    """The frames of a clip of the older format, which has no optional truth."""
    if frames is None:
        return clip
    if not len(range(len(clip.depth))[frames]) or frames.step not in (None, 1):
        raise ValueError(f"frames: expected a slice of some of {len(clip.depth)} frames in steps of 1, got {frames}")
    return SceneClip(
        clip.frames_u8[frames],
        clip.depth[frames],
        clip.instance_ids[frames],
        clip.amodal_masks[:, frames],
        clip.amodal_rgb_u8[:, frames],
        clip.name,
        clip.seed,
    )
