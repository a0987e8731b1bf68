"""Where a network's files are: in a folder, in the hub's cache, or to be downloaded; and safetensors alone are read.

Pickles can run any program when they are read, so they are named and refused. The hub's client is imported when it is
asked, and asked last: what was used yesterday is used today, with a network and without.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"  # of weights in several files


class AbsentError(ValueError):
    """A model of the hub is neither in its cache nor to be downloaded; anything else wrong with it is a ValueError."""

    def __init__(self, what: str, reason: str, instead: str) -> None:
        super().__init__(f"{what}: {reason}; {instead}")
        self.reason = reason


class Published(Protocol):
    """What is known of a published model: its id on the hub, and the licence of its weights."""

    @property
    def id(self) -> str: ...

    @property
    def licence(self) -> str: ...


@dataclass(frozen=True)
class ModelFiles:
    """One kind of model of transformers, and how to speak of it.

    Attributes:
        what: the first word of its messages. known: published models by their short names. others: further words that
            may be given. a_path: what a path to one is called. instead: how to go on without any.
        configs: files that it must have beside the weights. extras: files that it may have.
    """

    what: str
    known: Mapping[str, Published]
    others: tuple[str, ...]
    a_path: str
    instead: str
    configs: tuple[str, ...] = ("config.json",)
    extras: tuple[str, ...] = ()

    def locate(self, name: str) -> tuple[Path, str, str]:
        """The folder of a model, what to call it (a hub's id with its revision), and the licence of its weights.

        Args:
            name: a short name of ``known``, a folder, or a hub's id.

        Raises:
            ValueError: an unknown name, or a folder that lacks files. AbsentError: the hub's, and not to be had.
        """
        info = self.known.get(name)
        model_id = name if info is None else info.id
        if info is None and Path(name).is_dir():
            self._check(Path(name))
            return Path(name), name, "licence: see its card"
        if not _HUB_ID.fullmatch(model_id):
            near = difflib.get_close_matches(name, [*self.others, *self.known], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{self.what}: expected {', '.join([*self.others, *self.known])}, {self.a_path} or a hub id "
                f"(owner/name), got {name!r}{hint}"
            )
        folder = self.cached(model_id) or self._download(model_id)
        licences = {published.id: published.licence for published in self.known.values()}
        return folder, f"{model_id}@{folder.name[:7]}", licences.get(model_id, "licence: see its card")

    def cached(self, model_id: str) -> Path | None:
        """The snapshot of a hub's model in the cache, if it is whole. Asks no network."""
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(model_id, local_files_only=True))
        except (OSError, ValueError):  # not there, or no id that the hub could have
            return None
        return None if self._missing(folder) else folder

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON object from a model's folder, or a ValueError."""
        return read_json(path, self.what)

    def _missing(self, folder: Path) -> list[str]:
        missing = [name for name in self.configs if not (folder / name).is_file()]
        if (folder / _WEIGHTS).is_file():
            return missing
        if not (folder / _INDEX).is_file():
            return [*missing, _WEIGHTS]
        try:
            shards = set(json.loads((folder / _INDEX).read_text("utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            return [*missing, f"a readable {_INDEX}"]
        return missing + sorted(shard for shard in shards if not (folder / shard).is_file())

    def _check(self, folder: Path) -> None:
        missing = self._missing(folder)
        if not missing:
            return
        pickles = pickles_in(folder)
        if missing == [_WEIGHTS] and pickles:
            raise ValueError(
                f"{self.what}: expected weights in {_WEIGHTS}, got {', '.join(pickles)} in '{folder}': pickle files "
                "can run any program when they are read, so they are refused; convert them to safetensors"
            )
        wanted = f"{', '.join(self.configs)} and {_WEIGHTS}"
        raise ValueError(f"{self.what}: expected {wanted} in '{folder}', got no {' and no '.join(missing)}")

    def _download(self, model_id: str) -> Path:
        from huggingface_hub import constants, snapshot_download

        wanted = [*self.configs, *self.extras, "model*.safetensors", _INDEX]
        try:
            folder = Path(snapshot_download(model_id, allow_patterns=wanted))
        except Exception as error:  # the hub's, the network's and the disk's errors have no base of their own
            why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else reason(error)
            words = f"{model_id!r} is neither a path, nor cached, nor to be had from the hub ({why})"
            raise AbsentError(self.what, words, self.instead) from error
        # without a network, the client is content with the parts that an interrupted download left
        if missing := self._missing(folder):
            words = f"{model_id!r} from the hub or its cache lacks {' and '.join(missing)}"
            raise AbsentError(self.what, f"{words} (only safetensors are read)", self.instead)
        return folder


# ---------------------------------------------------------------------------------------------------------------------
# what all loaders share


def pickles_in(folder: Path) -> list[str]:
    """The names of the files that are not read."""
    return sorted(file.name for file in folder.glob("*") if file.suffix in PICKLES)


def weight_files(folder: Path, name: str, half: bool, what: str = "model") -> list[Path]:
    """The safetensors files of one network of diffusers or transformers: one, or those that an index names.

    Args:
        name: of the file, without its ending. half: the fp16 variant first; else it stands in where there is no other.
        what: the first word of messages.

    Raises:
        ValueError: there are none, or pickles only.
    """
    variants = [".fp16", ""] if half else ["", ".fp16"]
    for variant in variants:
        # transformers and diffusers put the variant at different places of an index's name
        for index in (folder / f"{name}.safetensors.index{variant}.json", folder / f"{name}{variant}.index.json"):
            if index.is_file():
                parts = sorted(set(read_json(index, what)["weight_map"].values()))
                missing = [part for part in parts if not (folder / part).is_file()]
                if missing:
                    raise ValueError(f"{what}: {index.name} names {', '.join(missing)}, missing in {folder}")
                return [folder / part for part in parts]
        if (folder / f"{name}{variant}.safetensors").is_file():
            return [folder / f"{name}{variant}.safetensors"]
    if found := pickles_in(folder):
        raise ValueError(
            f"{what}: expected safetensors in {folder}, got {', '.join(found)}, a pickle, which may run code when "
            "read; convert it to safetensors first"
        )
    raise ValueError(f"{what}: expected {name}.safetensors in {folder}, found none")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object; a ValueError, beginning with ``what``, for anything else."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{what}: expected a file {path}, found none") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{what}: expected readable JSON in '{path}', got {reason(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{what}: expected a JSON object in '{path}', got {type(content).__name__}")
    return content


def reason(error: BaseException) -> str:
    """The first line of what a library says was the cause, short enough to stand within a sentence."""
    error = error.__cause__ or error
    text = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    text = text if len(text) <= 160 else f"{text[:157]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars and no reports of transformers while it loads: what is wrong is raised."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
