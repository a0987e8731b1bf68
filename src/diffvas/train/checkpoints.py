"""What a run leaves on disk: its settings, and checkpoints of which there is always a whole one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# settings that may differ when a run is resumed: they do not change what is computed, or only by rounding
FREE = frozenset({"threads", "device", "compile", "checkpointing", "save_every", "log_every", "tensorboard", "explode"})
NEWEST, BEFORE = "checkpoint.pt", "checkpoint.previous.pt"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path`` and rename, so that a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    os.replace(temporary, path)


def replace_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder beside its place and put it there when it is whole."""
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    write(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def save_checkpoint(out: Path, state: dict[str, Any]) -> None:
    """One file with all that resuming needs; the one before it is kept as ``checkpoint.previous.pt``.

    The new file is whole, and on the disk, before the old one is moved, so that a kill at any moment leaves a whole
    one.
    """
    path, temporary = out / NEWEST, out / f".{NEWEST}.part"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        os.replace(path, out / BEFORE)
    os.replace(temporary, path)


def load_checkpoint(out: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run of our own, or None. Read with ``weights_only``: no code is unpickled.

    Raises:
        ValueError: there are checkpoints, but none can be read; to start anew in silence would be a surprise.
    """
    paths = [out / name for name in (NEWEST, BEFORE) if (out / name).exists()]
    for path in paths:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            print(f"{path} cannot be read ({' '.join(str(error).split())[:200]})", file=sys.stderr)
    if paths:
        raise ValueError(f"out: expected a checkpoint that can be read in {out}, got none; remove it to start anew")
    return None


def last_good(out: Path, step: int | None) -> str:
    """Where a run that went wrong can be taken up again, in words."""
    return f"the last good checkpoint is {out / NEWEST}, step {step}" if step else "there is no checkpoint yet"


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """``field: old -> new`` for every setting that both know and that differs; fields of sections as ``section.field``.

    What only one of them knows was added or dropped by another version of the program, and stands for the default.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() & new.keys() - FREE)
            for line in differences(old[key], new[key], f"{name}.{key}" if name else key)
        ]
    return [f"{name}: {old} -> {new}"] if old != new else []


def check_same_config(out: Path, config: dict[str, Any], write: bool = True) -> None:
    """Save the resolved settings with the run, or list how they differ from those it was started with.

    Args:
        write: False only checks, and creates nothing.

    Raises:
        ValueError: the run in ``out`` was started with other settings, or its settings cannot be read.
    """
    path = out / "config.json"
    if path.exists():
        try:
            old = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"out: expected a run with readable settings, got {path} ({error})") from error
        changed = differences(old, json.loads(json.dumps(config)))
        if changed:
            raise ValueError(f"out: {out} holds a run with other settings ({'; '.join(changed)}); use another folder")
    if write:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda p: p.write_text(json.dumps(config, indent=1)))
