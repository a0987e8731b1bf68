"""Methods on the objects of a data set: predictions and truths on disk, each clip's time and memory with it.

A folder of predictions holds ``truth/`` and one folder per method. Every object is done on its own, its randomness
derives from (seed, name), and its file appears when it is whole: order, shards and interruptions change nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffvas.bench.predictions import BoxTruth, MaskTruth, Prediction, PredictionFolder, TruthFolder
from diffvas.bench.storage import shard_of
from diffvas.data.base import ObjectClip, ObjectClips, on_canvas
from diffvas.data.datasets import open_objects
from diffvas.data.examples import is_held_out
from diffvas.data.world import spread_scenes
from diffvas.methods import METHODS, find_method
from diffvas.methods.base import Method, ObjectInput
from diffvas.metrics.box import mask_boxes
from diffvas.metrics.rle import encode_masks

Progress = Callable[[str, int, int], None]
TRUTH = "truth"
PARTS = ("all", "train", "val")


class Objects:
    """The objects of a data set that are to be predicted, of any layout that ``diffvas.data`` reads.

    Objects with boxes and no masks (TAO-Amodal) are shown on the larger canvas on which such boxes are predicted.

    Args:
        path: what ``data.datasets.open_objects`` takes, as are ``kind`` and ``options`` (``images``, ``split``, ...).
        part: of rendered scenes, the "train" or "val" part by the scenes' names, see ``data.examples.is_held_out``, or
            "all".
        limit: at most so many; of rendered scenes over all levels of visibility, else evenly over the list of names.

    Attributes:
        names: of the objects, in order.

    Raises:
        FileNotFoundError: no such path.
        ValueError: nothing to read there, something wrong with it, a part of what has none, or no object left.
    """

    def __init__(
        self,
        path: str | Path,
        kind: str | None = None,
        *,
        part: str = "all",
        limit: int | None = None,
        **options: Any,
    ) -> None:
        if part not in PARTS:
            raise ValueError(f"part: expected one of {', '.join(PARTS)}, got '{part}'")
        self.clips: ObjectClips = open_objects(path, kind, **options)
        self.title = Path(path).resolve().name
        names: list[str] = self.clips.names
        if part != "all":
            if self.clips.kind != "world":
                raise ValueError(f"part: expected all for {self.clips.kind}, which has splits of its own, got '{part}'")
            names = [name for name in names if is_held_out(name.rpartition("/")[0]) == (part == "val")]
        self.names: list[str] = names if limit is None else _spread(names, limit, self.clips)
        if not self.names:
            raise ValueError(f"path: expected objects to predict in the {part} part of '{path}', got none")
        self._last: ObjectClip | None = None

    def __len__(self) -> int:
        return len(self.names)

    def digest(self) -> str:
        """16 hex digits of the names: two lists of objects are the same or not."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]

    def clip(self, name: str) -> ObjectClip:
        """The object's clip as methods see it; the last one is kept."""
        if self._last is None or self._last.name != name:
            clip = self.clips.get(name)
            self._last = on_canvas(clip) if clip.boxes is not None and clip.amodal is None else clip
        return self._last

    def truth(self, name: str) -> MaskTruth | BoxTruth | None:
        """The object's true masks, or boxes where there are no masks; None where the data set has neither."""
        clip = self.clip(name)
        if clip.amodal is not None:
            return MaskTruth.from_arrays(name, clip.amodal, clip.modal, group=clip.group, frames=clip.frames)
        if clip.boxes is None:
            return None
        rows, columns = clip.padding
        inner = clip.modal[:, rows : clip.size[0] - rows, columns : clip.size[1] - columns]
        modal = mask_boxes(encode_masks(np.ascontiguousarray(inner)))
        return BoxTruth(name, clip.group, clip.frames, clip.boxes, modal, (inner.shape[1], inner.shape[2]))

    def input(self, name: str, uses: Collection[str]) -> ObjectInput:
        """What a method that reads ``uses`` sees of the object; a part that the data set lacks is None."""
        clip = self.clip(name)
        return ObjectInput(name, clip.modal, **{part: getattr(clip, part)() for part in uses})

    def refuse_missing(self, method: type[Method] | Method, label: str) -> None:
        """Raise ValueError where the first object lacks what the method cannot do without."""
        clip = self.clip(self.names[0])
        missing = sorted(part for part in method.needs if getattr(clip, part)() is None)
        if missing:
            raise ValueError(
                f"method: expected data with {', '.join(missing)} for {label}, '{self.title}' ({self.clips.kind}) has "
                "none"
            )


def _spread(names: Sequence[str], limit: int, clips: ObjectClips) -> list[str]:
    """At most ``limit`` of the names, in their order."""
    if clips.kind == "world":
        return spread_scenes(clips.path, names, limit)
    return [names[int(k)] for k in np.unique(np.linspace(0, len(names) - 1, min(limit, len(names))).round())]


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

    def mine(self, objects: Objects) -> list[str]:
        """The objects of this share."""
        return [name for name in objects.names if shard_of(name, self.shard[1]) == self.shard[0]]


def write_truths(objects: Objects, out: Path, plan: PredictPlan, progress: Progress | None = None) -> int:
    """``out/truth``, what is there already left as it is; how many objects of this share have any truth.

    Raises:
        ValueError: it holds the truths of other objects.
    """
    folder = TruthFolder.create(out / TRUTH, name=objects.title, objects=objects.digest())
    mine, there = plan.mine(objects), 0
    for done, name in enumerate(mine, 1):
        if name not in folder.folder and (truth := objects.truth(name)) is not None:
            folder.write(truth)
        there += name in folder.folder
        if progress is not None:
            progress(TRUTH, done, len(mine))
    return there


def predict_all(
    objects: Objects, method: Method, label: str, out: Path, plan: PredictPlan, progress: Progress | None = None
) -> int:
    """Predict the objects that ``out/label`` does not have yet; returns how many those were.

    Raises:
        ValueError: the method needs what the data or ``plan.depth`` do not give, or the folder holds predictions of
            another method, other settings or other objects.
    """
    uses = set(method.uses) - ({"depth"} if plan.depth == "none" else set())
    if missing := method.needs - uses:
        raise ValueError(f"method: expected {method.name} to be given {', '.join(sorted(missing))}, got it kept back")
    objects.refuse_missing(method, method.name)
    about = {"settings": method.settings(), "seed": plan.seed, "samples": plan.samples, "depth": plan.depth}
    about |= {"threshold": plan.threshold, "objects": objects.digest()}
    folder = PredictionFolder.create(out / label, label, **about)
    mine, made = plan.mine(objects), 0
    for done, name in enumerate(mine, 1):
        if name not in folder:
            given = objects.input(name, uses)
            folder.write(predict_one(method, given, plan, objects.clip(name).frames))
            made += 1
        if progress is not None:
            progress(label, done, len(mine))
    return made


def predict_one(method: Method, clip: ObjectInput, plan: PredictPlan, frames: Sequence[str] = ()) -> Prediction:
    """One object, its ``frames`` by their names, with the seconds and the peak memory it took.

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
        frames=frames,
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
