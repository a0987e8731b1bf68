"""Fitting: one stream of examples that all methods see alike, the project's training loop around a network, and what
every method that is fitted does in the same way."""

from __future__ import annotations

import copy
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import nn

from diffvas.data.examples import Example, SceneSource, choose_object, make_example, open_scenes, without_colour
from diffvas.devices import pick_device
from diffvas.methods.base import (
    HEAD,
    Answer,
    Budget,
    ObjectInput,
    Progress,
    as_options,
    digest_weights,
    read_head,
    write_head,
)
from diffvas.train.checkpoints import differences, write_whole
from diffvas.train.loop import Batch, BatchSource, LoopConfig, Objective, train
from diffvas.world.clip import SceneClip

Fitted = TypeVar("Fitted", bound="Trainable")
LEAST_SEEN = 40  # pixels of an object that must be seen somewhere in an example
TIMED = 3  # steps that a budget of seconds is worked out from
SETTLED = "steps.json"


class Examples:
    """Training examples by number, without end: example ``n`` depends on the seed and ``n`` alone.

    Args:
        source: "flat", or a folder of scene clips (``diffvas world make``), of which the "train" part is taken.
        size: (height, width) to which a random box around the object is resized. frames: T of flat scenes, and of
            clips in a folder, which are cut where they are longer. seed: of all draws. colour: whether examples have
            RGB.
        kept: a folder in which a method may keep what it made of an example, for the next one to read; None = none.

    Raises:
        ValueError: nothing to read there, or a test split, which nothing may be fitted on.
    """

    def __init__(
        self,
        source: str | Path = "flat",
        size: tuple[int, int] = (64, 128),
        frames: int = 25,
        seed: int = 0,
        *,
        colour: bool = False,
        kept: str | Path | None = None,
    ) -> None:
        self.kept = None if kept is None else Path(kept)
        self.source, self.frames, self.seed, self.colour = str(source), frames, seed, colour
        self.size: tuple[int, int] = (int(size[0]), int(size[1]))
        refuse_test_split(self.source)
        self._scenes: SceneSource | None = self._open()

    def _open(self) -> SceneSource:
        return open_scenes(self.source, self.frames, colour=self.colour, split="train")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scenes": None}  # opened again in the process that it is sent to

    def settings(self) -> dict[str, Any]:
        """What it depends on, as JSON; where a folder lies is left out."""
        name = self.source if self.source == "flat" else Path(self.source).resolve().name
        return {"source": name, "size": list(self.size), "frames": self.frames, "seed": self.seed}

    def draw(self, number: int, attempt: int = 0) -> tuple[SceneClip, int | None, np.random.Generator]:
        """The whole scene of an example, its object and what the rest is drawn from: for methods that need more than
        an ``Example`` has (other objects, flow, the camera). The object is None where the scene has none worth it; then
        the next attempt counts."""
        if self._scenes is None:
            self._scenes = self._open()
        for_scene, for_example = np.random.SeedSequence([self.seed, number, attempt]).spawn(2)
        rng = np.random.default_rng(for_example)
        scene = self._scenes(for_scene)
        return scene, choose_object(scene, rng), rng

    def __getitem__(self, number: int) -> Example:
        for attempt in range(100):
            scene, index, rng = self.draw(number, attempt)
            if index is None:
                continue
            if not self.colour:
                scene = without_colour(scene)
            example = make_example(scene, index, rng, size=self.size)
            if example.modal.any(0).sum() >= LEAST_SEEN:
                return example
        raise ValueError(f"source: no usable object in 100 scenes of {self.source}")


def refuse_test_split(source: str | Path) -> None:
    """Raise ValueError for the mini benchmark, and for a data set that was made as a test split."""
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    if str(source) == "flat":
        return
    split = "test" if (folder / "mini.json").is_file() else None
    if (folder / "dataset.json").is_file():
        split = split or json.loads((folder / "dataset.json").read_text()).get("split")
    if split is not None and str(split).startswith("test"):
        raise ValueError(f"source: expected data to fit on, got '{source}', which is a {split} split")


class MaskBatches:
    """Batches for methods that learn masks from masks and depth; batch ``s`` is examples ``s * batch`` and on.

    Gives ``modal``, ``amodal`` (B, T, H, W) bool and ``depth`` (B, T, H, W) float16 in [0, 1].

    Args:
        frames: T of a batch: longer examples are cut, shorter ones end with their last frame again.
    """

    def __init__(self, examples: Examples, batch: int, frames: int) -> None:
        self.examples, self.batch, self.frames = examples, batch, frames

    def numbers(self, step: int) -> range:
        """The examples of a step."""
        return range(step * self.batch, (step + 1) * self.batch)

    def __getitem__(self, step: int) -> Batch:
        drawn = [self.examples[number] for number in self.numbers(step)]
        at = [np.minimum(np.arange(self.frames), len(one.modal) - 1) for one in drawn]
        out = {}
        for name, kind in (("modal", np.bool_), ("amodal", np.bool_), ("depth", np.float16)):
            arrays = [getattr(one, name)[times].astype(kind) for one, times in zip(drawn, at, strict=True)]
            out[name] = torch.from_numpy(np.stack(arrays))
        return out


class Trainable(ABC):
    """What fitted methods have in common; a subclass has ``kind`` (its options, with ``size``), ``train``, ``write``
    and ``read``.

    Args:
        options: of the class ``kind``; its defaults where None. device: auto, cpu or cuda.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    uses: ClassVar[frozenset[str]] = frozenset()
    trainable: ClassVar[bool] = True
    kind: ClassVar[type[Any]]

    def __init__(self, options: Any = None, device: str = "auto") -> None:
        self.options = self.kind() if options is None else options
        self.device = pick_device(device).type
        self.fitted: dict[str, Any] = {}
        self.digest = ""

    @abstractmethod
    def train(self, examples: Examples, seed: int, budget: Budget, out: Path, progress: Progress | None) -> None:
        """Train from scratch, or go on, and ``write`` to ``out``."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the weights, safetensors only."""

    @abstractmethod
    def read(self, folder: Path) -> None:
        """Read the weights; ValueError where there are none, or another network's."""

    @abstractmethod
    def predict(
        self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None
    ) -> Answer:
        """See ``Method``."""

    def fit(
        self, examples: Examples, *, seed: int, budget: Budget, out: Path, progress: Progress | None = None
    ) -> None:
        """See ``Method``.

        Raises:
            ValueError: examples of another size than the options', or ``out`` holds another fit.
        """
        if examples.size != self.options.size:
            raise ValueError(f"examples: expected size {self.options.size} like the network's, got {examples.size}")
        settings = {"data": examples.settings(), "seed": seed, **asdict(budget), "options": asdict(self.options)}
        self.fitted = json.loads(json.dumps(settings))
        if not self._is_fitted(out):
            self.train(examples, seed, budget, out, progress)
            write_head(out, self.name, self.options, self.fitted)
        self._open(out)

    def _is_fitted(self, folder: Path) -> bool:
        """Whether ``folder`` holds this very fit, finished; ValueError where it holds another one."""
        if not (folder / HEAD).is_file():
            return False
        changed = differences(read_head(folder, self.name)["fitted"], self.fitted)
        if changed:
            raise ValueError(f"out: {folder} holds another fit ({'; '.join(changed)}); use another folder")
        return True

    def _open(self, folder: Path) -> None:
        self.read(folder)
        self.digest = digest_weights(folder)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, and ``method.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder)
        write_head(folder, self.name, self.options, self.fitted)

    @classmethod
    def load(cls: type[Fitted], folder: str | Path, device: str = "auto") -> Fitted:
        """See ``Method``."""
        head = read_head(folder, cls.name)
        method = cls(as_options(cls.kind, head["options"]), device)
        method.fitted = head["fitted"]
        method._open(Path(folder))
        return method

    def settings(self) -> dict[str, Any]:
        """What it was fitted on, and a digest of its weights."""
        return {"method": self.name, "fitted": self.fitted, "weights": self.digest}


def fit_network(
    module: nn.Module,
    source: BatchSource,
    objective: Objective,
    budget: Budget,
    *,
    seed: int,
    out: Path,
    device: str = "auto",
    lr: float = 3e-4,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> int:
    """Train a module in place, averaged weights at the end, by ``train.loop.train``: resumable, checkpoints in ``out``.

    Returns:
        The steps taken, which a budget of seconds leaves to this machine.

    Raises:
        ValueError: ``out`` holds a run with other settings. FloatingPointError: the loss is not finite any more.
        KeyboardInterrupt: after the step that was under way, and a checkpoint.
    """
    out.mkdir(parents=True, exist_ok=True)
    steps = budget.steps or steps_in(budget.seconds, module, source, objective, seed, out, device)
    loop = LoopConfig(
        steps=steps,
        lr=lr,
        warmup=min(50, steps // 10),
        save_every=min(100, steps),
        log_every=min(20, steps),
        ema=0.99,
        seed=seed,
        device=device,
    )

    def report(done: int, total: int, line: dict[str, Any] | None) -> None:
        if progress is not None:
            progress("fit", done, total)

    weights = train(module, source, objective, loop, out, extra_config=dict(settings or {}), report=report)
    module.load_state_dict(weights)
    return steps


def steps_in(
    seconds: float, module: nn.Module, source: BatchSource, objective: Objective, seed: int, out: Path, device: str
) -> int:
    """About how many steps fit into some seconds here, by timing a few on a copy; asked once for a folder.

    The next batch is made while a step is taken, so the slower of the two counts.
    """
    path = out / SETTLED
    if path.is_file():
        return int(json.loads(path.read_text())["steps"])
    place = pick_device(device)
    twin = copy.deepcopy(module).to(place)
    optimiser = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], lr=0.0)
    made, taken = [], []
    for step in range(TIMED):
        began = time.perf_counter()
        batch = objective.draw(source[step], torch.Generator().manual_seed(seed))
        ready = time.perf_counter()
        loss, _ = objective.loss(twin, {name: value.to(place) for name, value in batch.items()})
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
        made.append(ready - began)
        taken.append(time.perf_counter() - ready)
    each = max(min(made), min(taken))  # the first of them also warms up
    steps = max(1, math.floor(seconds / each))
    write_whole(path, lambda p: p.write_text(json.dumps({"steps": steps, "seconds_per_step": round(each, 4)})))
    return steps
