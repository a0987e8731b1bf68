"""How samples are drawn: the plan, the random numbers, windows of latents, and what to do when memory is full."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from diffvas.diffusion.sampling import Sampling
from diffvas.export import whole_file
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline
from diffvas.pipelines.loading import CompletionModel
from diffvas.pipelines.windows import Blend, Window

Array = np.ndarray
Progress = Callable[[str, int, int], None]
Result = TypeVar("Result")
Key = tuple[int, int, int, int, int]  # seed, object, what is drawn, window, sample


def window_generator(seed: int, object_id: int, stage: int, window: int, sample: int) -> torch.Generator:
    """A CPU generator of its own for every draw, so that no result depends on what else is computed."""
    state = np.random.SeedSequence([seed, object_id, stage, window, sample]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


@dataclass(frozen=True)
class Plan:
    """How to draw both stages, with nothing left open; ``content`` is None where only masks are wanted."""

    samples: int
    amodal: Sampling
    content: Sampling | None
    seed: int

    @classmethod
    def of(cls, model: CompletionModel, samples: int | None, seed: int, **asked: Any) -> Plan:
        """What was asked for, else the model's measured defaults."""
        stages = [None if pipe is None else pipe.sampling(**asked) for pipe in (model.amodal, model.content)]
        assert stages[0] is not None
        default = model.amodal.config.defaults["samples"]
        return cls(int(default if samples is None else samples), stages[0], stages[1], int(seed))

    def settings(self) -> dict[str, Any]:
        """For ``result.json``."""
        found: dict[str, Any] = {"samples": self.samples, "seed": self.seed}
        for stage, sampling in (("amodal", self.amodal), ("content", self.content)):
            if sampling is not None:
                found[stage] = {"steps": sampling.steps, "sampler": sampling.sampler, "guidance": sampling.guidance}
                for name in ("interval", "evaluated"):
                    low, high = getattr(sampling, name)
                    if (low, high) != getattr(Sampling, name):
                        found[stage][name] = [low, high if math.isfinite(high) else None]
        return found


class Meter:
    """Counts UNet steps for ``progress`` and seconds per stage."""

    def __init__(self, progress: Progress | None, windows: int, plan: Plan):
        self.progress = progress
        self.steps = {"amodal": plan.samples * plan.amodal.steps}
        if plan.content is not None:
            self.steps["content"] = plan.content.steps
        self.total = {stage: windows * steps for stage, steps in self.steps.items()}
        self.done = {"amodal": 0, "content": 0}
        self.seconds: dict[str, float] = {}

    def tick(self, stage: str, count: int = 1) -> None:
        """UNet steps of ``stage`` are done."""
        self.done[stage] += count
        if self.progress is not None and count:
            self.progress(stage, self.done[stage], self.total[stage])

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time inside to that of ``stage``."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


def draw_latents(
    pipe: DiffusionVASPipeline,
    a: torch.Tensor,
    b: torch.Tensor | None,
    shared: Key,
    keys: Sequence[Key],
    sampling: Sampling,
    tick: Callable[[], None],
) -> Iterator[torch.Tensor]:
    """(T, 4, h, w) scaled latents, one sample per key.

    Args:
        a, b: (T, 3, h, w) conditions in [-1, 1]. shared, keys: what the condition noise and each sample derive from;
            the released inference draws all of a sample from one generator and encodes anew for every sample.
    """
    if pipe.behaviour.frame_tokens:
        for key in keys:
            generator = window_generator(*key)
            yield pipe.denoise(pipe.encode_conditions(a, b, generator), [generator], sampling, tick)[0]
        return
    conditions = pipe.encode_conditions(a, b, window_generator(*shared))
    yield from pipe.denoise(conditions, [window_generator(*key) for key in keys], sampling, tick)


def decode_windows(
    windows: Sequence[Window],
    span: tuple[int, int],
    chunk: int,
    draw: Callable[[Window], torch.Tensor],
    decode: Callable[[torch.Tensor], Array],
    first: int = 0,
) -> Iterator[tuple[int, Array]]:
    """Windows blended in latent space and decoded, frame after frame, each as soon as no later window changes it.

    Args:
        windows: in order. span: the frames wanted, (start, stop). chunk: frames per call of ``decode``, counted from
            ``start``: the decoder looks at neighbours in time, so results depend on where chunks begin.
        draw: gives a window's latents (K, n, 4, h, w); called for the windows that are needed, in order.
        decode: (K, c, 4, h, w) to (K, c, ...).
        first: leave out all chunks that end before this frame: a resumed run has them already.

    Yields:
        (frame, (K, ...)).
    """
    start, stop = span
    begin = start + max(first - start, 0) // chunk * chunk
    # a frame that was dropped from its window takes the one before, which may be in the chunk before
    blend_from = max(start, begin - chunk)
    blend = Blend(blend_from, stop)
    queue: list[tuple[int, torch.Tensor]] = []
    for i, window in enumerate(windows):
        if window.stop <= blend_from:
            continue
        last = i + 1 == len(windows)
        settled = stop if last else windows[i + 1].start
        queue += [(f, z) for f, z in blend.add(window, draw(window), settled) if f >= begin]
        while len(queue) >= chunk or (last and queue):
            part, queue = queue[:chunk], queue[chunk:]
            decoded = decode(torch.stack([z for _, z in part], 1))
            for k, (frame, _) in enumerate(part):
                yield frame, decoded[:, k]


class Shelf:
    """Where the latents of finished windows are kept, so that nothing is computed twice."""

    def __init__(self, folder: Path | None = None) -> None:
        """In files in a folder, which a resumed run finds again; in memory where there is none."""
        self._folder = folder
        self._held: dict[str, torch.Tensor] = {}

    def get(self, name: str, make: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, bool]:
        """The latents of this name, and whether they were there; those made are kept."""
        if self._folder is None:
            known = name in self._held
            if not known:
                self._held[name] = make()
            return self._held[name], known
        path = self._folder / f"{name}.npy"
        if path.is_file():
            return torch.from_numpy(np.load(path, allow_pickle=False)), True
        made = make().detach().float().cpu()
        with whole_file(path) as temp, open(temp, "wb") as file:
            np.save(file, made.numpy(), allow_pickle=False)
        return made, False


class Guard:
    """Runs what may run out of GPU memory, and goes on with less at a time where it does."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify

    def __call__(self, pipe: DiffusionVASPipeline, work: Callable[[], Result]) -> Result:
        """The result of ``work``, tried again with less memory until it is down to single frames.

        Raises:
            torch.OutOfMemoryError: even then.
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                words = ask_for_less(pipe)
                if words is None:
                    raise
            # outside of the handler, which holds on to the tensors of the failed attempt
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._notify(f"the GPU's memory is full: {words}")


def ask_for_less(pipe: DiffusionVASPipeline) -> str | None:
    """Make the pipeline take less memory, and say how; None where it takes the least already."""
    if pipe.fast.samples > 1 or pipe.fast.encode_chunk > 1:
        pipe.fast = replace(pipe.fast, samples=1, encode_chunk=1)
        return "going on with one sample and one image at a time, which is slower"
    chunk = int(pipe.config.defaults["decode_chunk"])
    if chunk == 1:
        return None
    pipe.config.defaults["decode_chunk"] = chunk // 2
    return (
        f"going on with {chunk // 2} of {chunk} frames decoded at a time, which can change the results a little: give "
        "--offload model to keep them as they are"
    )
