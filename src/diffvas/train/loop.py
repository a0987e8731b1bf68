"""One training loop for every model of the project: resumable, whole checkpoints, EMA, any number of processes.

Nothing random outlives a step: batch ``s`` and all noise of step ``s`` derive from (seed, s) and are drawn for the
whole batch before it is shared out. A run that was killed therefore continues exactly where its last checkpoint stood,
by the same command, and processes and accumulation change the result by rounding only.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

from diffvas.allocator import keep_freed_memory
from diffvas.train.checkpoints import check_same_config, last_good, load_checkpoint, save_checkpoint
from diffvas.train.log import Log, Report, report_lines
from diffvas.train.settings import LoopConfig, resolved

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Batch", "BatchSource", "LoopConfig", "Objective", "Report", "report_lines", "resolved", "train"]

Batch = dict[str, torch.Tensor]
# SVD's repeated blocks: compiled one by one they take a minute, the whole network many
REPEATED = ("TransformerSpatioTemporalModel", "SpatioTemporalResBlock")


class BatchSource(Protocol):
    """Batches by step number; the same number gives the same batch, tensors whose first axis is the clip."""

    def __getitem__(self, step: int) -> Batch: ...


def as_it_is(batch: Batch, generator: torch.Generator) -> Batch:
    """Nothing is drawn."""
    return batch


@dataclass(frozen=True)
class Objective:
    """What a step minimises, in two pure parts; a step of training is ``loss(model, draw(batch, generator))``.

    Attributes:
        loss: (model, batch) -> (loss, numbers to log), a mean over the clips of the batch, nothing random in it.
        draw: (batch, generator) -> the batch and the random numbers that go with it, a row for every clip.
    """

    loss: Callable[[Any, Batch], tuple[torch.Tensor, dict[str, float]]]
    draw: Callable[[Batch, torch.Generator], Batch] = as_it_is


class Ordered(torch.utils.data.Dataset):
    """The parts of one process, step by step: its share of a batch, cut for accumulation.

    Part ``p`` of ``parts`` is the rows ``p, p + parts, ...``; process ``r`` of ``w`` takes the parts ``r, r + w, ...``.
    """

    def __init__(
        self, source: BatchSource, objective: Objective, config: LoopConfig, start: int, rank: int = 0, world: int = 1
    ):
        self.source, self.objective, self.config, self.start = source, objective, config, start
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.config.steps - self.start

    def __getitem__(self, index: int) -> list[Batch]:
        step = self.start + index
        generator = torch.Generator().manual_seed((self.config.seed * 1_000_003 + step) % (2**63))
        batch = self.objective.draw(self.source[step], generator)
        parts, count = self.world * self.config.accumulate, min((len(v) for v in batch.values()), default=0)
        if count % parts:
            raise ValueError(
                f"batch: expected a multiple of {parts} (processes x accumulate) so that shares are equal, got {count}"
            )
        return [{k: v[p::parts] for k, v in batch.items()} for p in range(self.rank, parts, self.world)]


class Trainee(nn.Module):
    """A model with its loss, as one module whose forward is a step: what is wrapped to train in several processes."""

    def __init__(self, model: nn.Module, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        return self.objective.loss(self.model, batch)


def rate_at(step: int, config: LoopConfig) -> float:
    """Learning rate of ``step``: linear warm-up, constant, cosine to 2 % of the peak."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    start = config.steps * (1 - config.decay)
    share = max(0.0, (step - start) / max(config.steps - start, 1))
    return config.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def trained_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training changes: parameters that require a gradient, and buffers. They share the model's memory."""
    trained = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    saved = model.state_dict()
    return {**trained, **{name: b for name, b in model.named_buffers() if name in saved}}


@torch.no_grad()
def update_average(average: dict[str, torch.Tensor], model: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the model's by ``1 - keep``; what is no float is copied."""
    for key, value in trained_state(model).items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - keep)
        else:
            average[key].copy_(value)


def make_optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW, or its 8-bit twin, on what requires a gradient.

    Raises:
        ValueError: nothing trains, or bitsandbytes is asked for and absent.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model: expected parameters that require a gradient, got none")
    options: dict[str, Any] = {"lr": config.lr, "betas": (0.9, config.beta2), "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    try:
        import bitsandbytes  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ValueError(
            "optimizer: adamw8bit needs the bitsandbytes package, got none; pip install bitsandbytes, or use adamw"
        ) from error
    return bitsandbytes.optim.AdamW8bit(parameters, **options)


def compile_blocks(model: nn.Module) -> None:
    """``torch.compile`` in place, block by block where the network repeats blocks; weights keep their names."""
    blocks = [m for m in model.modules() if type(m).__name__ in REPEATED]
    for block in blocks or [model]:
        block.compile()


def ignore_interrupt(worker: int) -> None:
    """In the process that makes batches: Ctrl-C is for the one that trains, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def interrupt_between_steps() -> Iterator[Callable[[], bool]]:
    """Ctrl-C inside takes effect where the loop asks for it: no step, no batch and no file is cut in half.

    Yields a function that says whether Ctrl-C was pressed. Pressed twice, it interrupts at once, as always.
    """
    pressed = False

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    # only the main thread may set handlers, and who is told to ignore Ctrl-C goes on ignoring it
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def start_accelerator(config: LoopConfig) -> Accelerator:
    """The processes that ``accelerate launch`` started, or this one alone.

    Precision is the recipe's affair, not the launcher's: with it, a run means the same however it was started.

    Raises:
        ValueError: the launcher asks for a way to distribute that the loop does not have.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision="no")
    known = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
    if accelerator.distributed_type not in known:
        raise ValueError(f"launch: expected one process or data parallel ones, got {accelerator.distributed_type}")
    return accelerator


class Run:
    """A model in training: the processes, the optimiser, the averaged weights, and how far they are."""

    def __init__(self, model: nn.Module, objective: Objective, config: LoopConfig, out: Path):
        self.config, self.out, self.accelerator = config, out, start_accelerator(config)
        device = self.accelerator.device
        self.model = model.to(device)
        self.optimiser = make_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.average = {k: v.detach().clone() for k, v in trained_state(model).items()}
        self.start = self.saved = self._resume()
        if config.compile:
            compile_blocks(model)
        self.trainee = self.accelerator.prepare_model(Trainee(model, objective))

    def _resume(self) -> int:
        """Take up the last checkpoint of the folder, if there is one; the step from which to go on."""
        state = load_checkpoint(self.out)
        if state is None:
            return 0
        own, saved = self.model.state_dict(), state["model"]
        fits = all(key in own and own[key].shape == value.shape for key, value in saved.items())
        if not fits or self.average.keys() - state["average"].keys():
            raise ValueError(f"out: expected a checkpoint of this model in {self.out}, got one of another")
        self.model.load_state_dict(saved, strict=False)
        self.optimiser.load_state_dict(state["optimiser"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        for key, value in self.average.items():
            value.copy_(state["average"][key])
        return int(state["step"])

    def save(self, done: int) -> None:
        """A checkpoint, written by the first process."""
        if self.accelerator.is_main_process:
            state = {"step": done, "model": trained_state(self.model), "average": self.average}
            save_checkpoint(
                self.out, {**state, "optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}
            )
        self.saved = done

    def weights(self) -> dict[str, torch.Tensor]:
        """All weights of the model, the averaged ones where there are any; they share memory with the run."""
        return {**self.model.state_dict(), **self.average}

    def step(self, parts: list[Batch], step: int) -> tuple[bool, dict[str, float]]:
        """One optimiser step on this process' share of a batch.

        Returns:
            Whether the numbers were finite (where they were not, no weight has changed), and what there is to log.
        """
        config, device = self.config, self.accelerator.device
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(step, config)
        self.optimiser.zero_grad(set_to_none=True)
        logged: dict[str, list[float]] = {}
        autocast = torch.autocast(
            device.type, torch.float16 if config.precision == "fp16" else torch.bfloat16, config.precision != "fp32"
        )
        for k, part in enumerate(parts):
            part = {name: v.to(device, non_blocking=True) for name, v in part.items()}
            last = k == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.trainee):
                with autocast:
                    loss, numbers = self.trainee(part)
                self.scaler.scale(loss / len(parts)).backward()
            for name, value in {"loss": loss.item(), **numbers}.items():
                logged.setdefault(name, []).append(value)
        self.scaler.unscale_(self.optimiser)
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, config.clip or math.inf)
        fine = all(map(math.isfinite, logged["loss"])) and (config.precision == "fp16" or bool(torch.isfinite(norm)))
        if fine := self.everywhere(fine):
            self.scaler.step(self.optimiser)  # in fp16 it passes over a step whose gradients overflow
            self.scaler.update()
            warm = min(config.ema, (1 + step) / (10 + step)) if config.ema else 0.0
            update_average(self.average, self.model, warm)
        return fine, {name: sum(values) / len(values) for name, values in logged.items()}

    def everywhere(self, mine: bool) -> bool:
        """Whether it is so in all processes."""
        if self.accelerator.num_processes == 1:
            return mine
        flag = torch.tensor(float(not mine), device=self.accelerator.device)
        return float(self.accelerator.reduce(flag, "sum")) == 0

    def gather(self, recent: dict[str, list[float]]) -> dict[str, list[float]]:
        """The numbers of all processes."""
        if self.accelerator.num_processes == 1:
            return recent
        from accelerate.utils import gather_object

        together: dict[str, list[float]] = {}
        for one in gather_object([recent]):
            for name, values in one.items():
                together.setdefault(name, []).extend(values)
        return together


def batches(source: BatchSource, objective: Objective, run: Run) -> DataLoader[list[Batch]]:
    """The shares of this process of the steps to come, made ahead in a process of its own."""
    rank, world = run.accelerator.process_index, run.accelerator.num_processes
    steps = Ordered(source, objective, run.config, run.start, rank, world)
    return DataLoader(
        steps, batch_size=None, collate_fn=_same, num_workers=1, prefetch_factor=4, worker_init_fn=ignore_interrupt
    )


def _same(parts: list[Batch]) -> list[Batch]:
    return parts


def train(
    model: nn.Module,
    source: BatchSource,
    objective: Objective,
    config: LoopConfig,
    out: Path,
    *,
    extra_config: dict[str, Any] | None = None,
    every: Callable[[int, dict[str, torch.Tensor]], None] | None = None,
    report: Report = report_lines,
) -> dict[str, torch.Tensor]:
    """Train ``model`` and return its averaged weights (the plain ones where ``config.ema`` is 0).

    Args:
        model: one module that holds all that trains; frozen parts (no gradient required) may be in it too.
        source: batches by step number. objective: what is drawn for a batch, and its loss.
        out: folder of the run: ``config.json``, ``log.jsonl``, ``checkpoint.pt``.
        every: called in the first process as (step, averaged weights) after each checkpoint, and once before the first
            step: at 0, or where a run resumes, since it may have been killed between the two.
        report: called in the first process after each step as (steps done, of all, the log line or None).

    Raises:
        ValueError: ``out`` holds a run with other settings, or checkpoints of which none can be read; a batch that
            cannot be shared out equally.
        FloatingPointError: a loss or gradient that is not finite, or a loss that exploded; names the last checkpoint.
        KeyboardInterrupt: Ctrl-C was pressed; the step was finished and a checkpoint written first.
    """
    config = resolved(config)
    settings = {**asdict(config), **(extra_config or {})}
    check_same_config(out, settings, write=False)
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)
    run = Run(model, objective, config, out)
    first = run.accelerator.is_main_process
    if first:
        check_same_config(out, settings)
        if every is not None:
            every(run.start, run.weights())
    run.accelerator.wait_for_everyone()
    log = Log(out, run.start, config.steps, config.log_every, first, config.tensorboard)
    with interrupt_between_steps() as interrupted:
        for step, parts in enumerate(batches(source, objective, run), run.start):
            fine, numbers = run.step(parts, step)
            if not fine:
                raise FloatingPointError(
                    f"the loss or its gradient is not finite ({numbers['loss']}) at step {step}; "
                    + last_good(out, run.saved)
                )
            finish_step(run, log, step + 1, numbers, interrupted, every if first else None, report if first else None)
    return run.weights()


def finish_step(
    run: Run,
    log: Log,
    done: int,
    numbers: dict[str, float],
    interrupted: Callable[[], bool],
    every: Callable[[int, dict[str, torch.Tensor]], None] | None,
    report: Report | None,
) -> None:
    """After a step: log, report, save, and stop where there is a reason to; see ``train``."""
    log.add(numbers)
    line = None
    if log.is_due(done):
        line = log.write(done, run.gather(log.recent), rate_at(done - 1, run.config))
        if log.exploded(line["loss"], run.config.explode):
            raise FloatingPointError(
                f"the loss exploded to {line['loss']:.4g} by step {done}; {last_good(run.out, run.saved)}"
            )
    if report is not None:
        report(done, run.config.steps, line)
    stop = not run.everywhere(not interrupted())
    if done % run.config.save_every == 0 or done == run.config.steps or stop:
        run.save(done)
        if every is not None:
            every(done, run.weights())
        run.accelerator.wait_for_everyone()
    if stop:
        raise KeyboardInterrupt
