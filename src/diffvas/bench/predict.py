"""Methods on the objects of rendered scenes: predictions and truths on disk, each clip's time and memory with it.

A folder of predictions holds ``truth/`` and one folder per method. Every object is done on its own, its randomness
derives from (seed, name), and its file appears when it is whole: order, shards and interruptions change nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.bench.predictions import MaskTruth, Prediction, PredictionFolder, TruthFolder
from diffvas.bench.storage import shard_of
from diffvas.data.examples import is_held_out, relative_depth
from diffvas.methods import METHODS, find_method
from diffvas.methods.base import Method, ObjectInput
from diffvas.world import SceneClip, open_dataset

Progress = Callable[[str, int, int], None]
TRUTH = "truth"
PARTS = ("all", "train", "val")


@dataclass(frozen=True)
class Entry:
    """One object of one scene; ``name`` is the clip's id in all that follows."""

    name: str
    scene: int
    index: int


class SceneObjects:
    """The objects of a data set of scene clips, in the order of their names.

    Where the folder has a ``mini.json``, the object clips that it lists; else every object that covers 0.4 % of the
    frame on average and is seen in three frames or more.

    Args:
        path: what ``world.open_dataset`` takes. part: "train" or "val" part by the clips' names, see
            ``data.examples.is_held_out``, or "all". limit: at most so many, spread over the levels of visibility.

    Raises:
        ValueError: nothing to read there, or no object that qualifies.
    """

    def __init__(self, path: str | Path, *, part: str = "all", limit: int | None = None) -> None:
        if part not in PARTS:
            raise ValueError(f"part: expected one of {', '.join(PARTS)}, got '{part}'")
        self.scenes = open_dataset(path)
        self.title = Path(path).resolve().name
        listed = _listed(Path(path), self.scenes, limit)
        places = {meta["name"]: index for index, meta in self.scenes.metas()}
        self.entries = [
            Entry(f"{clip}/{number}", places[clip], number - 1)
            for clip, number in sorted(listed)
            if part == "all" or is_held_out(clip) == (part == "val")
        ]
        if not self.entries:
            raise ValueError(f"path: expected objects to predict in the {part} part of '{path}', got none")
        self._last: tuple[tuple[int, bool, bool], SceneClip] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def digest(self) -> str:
        """16 hex digits of the names: two lists of objects are the same or not."""
        return hashlib.sha256("\n".join(entry.name for entry in self.entries).encode()).hexdigest()[:16]

    def scene(self, entry: Entry, uses: Collection[str]) -> SceneClip:
        """The entry's scene with the parts that ``uses`` needs; the last one is kept, since its objects follow."""
        key = (entry.scene, "frames_u8" in uses, "flow" in uses)
        if self._last is None or self._last[0] != key:
            parts = [part for part, wanted in (("rgb", key[1]), ("flow", key[2])) if wanted]
            self._last = (key, self.scenes.read(entry.scene, parts))
        return self._last[1]

    def truth(self, entry: Entry) -> MaskTruth:
        """The object's true masks; objects of one scene are of one group."""
        scene = self.scene(entry, ())
        amodal, modal = scene.amodal_masks[entry.index], scene.modal_mask(entry.index)
        return MaskTruth.from_arrays(entry.name, amodal, modal, group=scene.name)

    def input(self, entry: Entry, uses: Collection[str]) -> ObjectInput:
        """What a method that reads ``uses`` sees of the object; a part that the data set lacks is None."""
        scene = self.scene(entry, uses)
        own = scene.instance_ids == entry.index + 1
        parts: dict[str, Any] = {
            "depth": lambda: relative_depth(scene.depth),
            "frames_u8": lambda: scene.frames_u8,
            "others": lambda: np.where(own, 0, scene.instance_ids).astype(np.uint8),
            "flow": lambda: scene.flow,
            "intrinsics": lambda: scene.intrinsics,
        }
        return ObjectInput(entry.name, own, **{part: parts[part]() for part in uses})


def _listed(path: Path, scenes: Any, limit: int | None) -> list[tuple[str, int]]:
    """(clip, object's id) of all objects to predict."""
    from diffvas.world.mini import LIST, choose_objects

    file = path / LIST
    if file.is_file() and limit is None:
        try:
            found = json.loads(file.read_text())["objects"]
            return [(one["clip"], one["object"]) for one in found]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"path: expected the objects of the mini benchmark in '{file}' ({error})") from error
    return [(one["clip"], one["object"]) for one in choose_objects(scenes, sys.maxsize if limit is None else limit)]


# ---------------------------------------------------------------------------------------------------------------------
# methods by name


@dataclass(frozen=True)
class Spec:
    """``NAME`` or ``NAME=FOLDER`` as it was asked for."""

    name: str
    folder: str = ""

    @classmethod
    def parse(cls, text: str) -> Spec:
        """From text.

        Raises:
            ValueError: no such method, a fitted one without a folder, or a folder for one that has nothing to load.
        """
        name, _, folder = text.partition("=")
        kind = find_method(name)
        if kind.trainable and not folder:
            if name != "ours":
                raise ValueError(f"method: expected a fitted one as {name}=FOLDER, got '{text}'")
            folder = "tiny"
        return cls(name, folder)

    @property
    def label(self) -> str:
        """What its predictions are called: the method, and which one where its folder is called otherwise."""
        last = Path(self.folder.replace(",", "+")).name
        if last.startswith(self.name):
            return last
        return f"{self.name}-{last}" if last else self.name

    def load(self, device: str = "auto") -> Method:
        """The method, ready to predict."""
        kind = find_method(self.name)
        return kind.load(self.folder, device) if self.folder else kind()


def parse_specs(texts: Collection[str]) -> list[Spec]:
    """All that was asked for.

    Raises:
        ValueError: see ``Spec.parse``, or two whose predictions would have one name.
    """
    specs = [Spec.parse(text) for text in texts]
    labels = [spec.label for spec in specs]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"method: expected methods of different names, got '{twice}' twice; give folders other names")
    return specs


def known_methods() -> tuple[str, ...]:
    """The names in the registry."""
    return tuple(METHODS)


# ---------------------------------------------------------------------------------------------------------------------
# predicting


@dataclass(frozen=True)
class PredictPlan:
    """How to predict.

    Attributes:
        seed: of all draws. samples: per object; None = the method's own number.
        depth: "given", or "none" to keep it from methods that can do without.
        threshold: of soft masks; None = the method's own.
        shard: (i, n): only the objects of share i of n, 0 <= i < n, for n processes or machines.
    """

    seed: int = 0
    samples: int | None = None
    depth: str = "given"
    threshold: float | None = None
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.depth not in ("given", "none"):
            raise ValueError(f"depth: expected given or none, got '{self.depth}'")
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples: expected 1 or more, got {self.samples}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold: expected a number between 0 and 1, got {self.threshold}")
        if not 0 <= self.shard[0] < self.shard[1]:
            raise ValueError(f"shard: expected i/n with 0 <= i < n, got {self.shard[0]}/{self.shard[1]}")

    def mine(self, objects: SceneObjects) -> list[Entry]:
        """The objects of this share."""
        return [entry for entry in objects.entries if shard_of(entry.name, self.shard[1]) == self.shard[0]]


def write_truths(objects: SceneObjects, out: Path, plan: PredictPlan, progress: Progress | None = None) -> Path:
    """``out/truth``, what is there already left as it is.

    Raises:
        ValueError: it holds the truths of other objects.
    """
    folder = TruthFolder.create(out / TRUTH, name=objects.title, objects=objects.digest())
    mine = plan.mine(objects)
    for done, entry in enumerate(mine, 1):
        if entry.name not in folder.folder:
            folder.write(objects.truth(entry))
        if progress is not None:
            progress(TRUTH, done, len(mine))
    return out / TRUTH


def predict_all(
    objects: SceneObjects, method: Method, label: str, out: Path, plan: PredictPlan, progress: Progress | None = None
) -> int:
    """Predict the objects that ``out/label`` does not have yet; returns how many those were.

    Raises:
        ValueError: the method needs what the data or ``plan.depth`` do not give, or the folder holds predictions of
            another method, other settings or other objects.
    """
    uses = set(method.uses) - ({"depth"} if plan.depth == "none" else set())
    if missing := method.needs - uses:
        raise ValueError(f"method: expected {method.name} to be given {', '.join(sorted(missing))}, got it kept back")
    about = {"settings": method.settings(), "seed": plan.seed, "samples": plan.samples, "depth": plan.depth}
    about |= {"threshold": plan.threshold, "objects": objects.digest()}
    folder = PredictionFolder.create(out / label, label, **about)
    mine, made = plan.mine(objects), 0
    for done, entry in enumerate(mine, 1):
        if entry.name not in folder:
            folder.write(predict_one(method, objects.input(entry, uses), plan))
            made += 1
        if progress is not None:
            progress(label, done, len(mine))
    return made


def predict_one(method: Method, clip: ObjectInput, plan: PredictPlan) -> Prediction:
    """One object, with the seconds and the peak memory it took.

    Raises:
        ValueError: the method's answer is not of the clip's shape, or its probabilities are none.
    """
    with peak_memory(method.device) as peak:
        began = time.perf_counter()
        answer = method.predict(clip, seed=plan.seed, samples=plan.samples, threshold=plan.threshold)
        seconds = time.perf_counter() - began
    if answer.masks.shape != clip.modal.shape:
        raise ValueError(f"masks: expected {clip.modal.shape} from {method.name}, got {answer.masks.shape}")
    return Prediction.from_arrays(
        clip.name,
        answer.masks,
        samples=answer.samples,
        probability=answer.probability,
        seconds=round(seconds, 6),
        peak_bytes=peak.bytes,
    )


@dataclass
class Peak:
    """``bytes`` is known when the block has ended; None where the machine does not tell."""

    bytes: int | None = None


@contextlib.contextmanager
def peak_memory(device: str) -> Iterator[Peak]:
    """The most memory that was held inside: what torch allocated on a GPU, else the whole process: program, weights,
    and what its allocator keeps for later.

    On Linux the process' mark is reset first, so that a clip does not get the peak of one before it; elsewhere nothing
    is said.
    """
    peak, status = Peak(), Path("/proc/self/status")
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak.bytes = int(torch.cuda.max_memory_allocated())
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        yield peak
        return
    yield peak
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    if "VmHWM" in lines:
        peak.bytes = int(lines["VmHWM"].split()[0]) * 1024
