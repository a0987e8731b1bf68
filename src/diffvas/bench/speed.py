"""Seconds, memory and floating point operations of stage 1 in several settings, beside a plain loop.

The plain loop is written as the reference's inference goes: float32, one frame at a time through the VAE's encoder,
diffusers' own scheduler and attention, a null half in every step. Every setting runs in a process of its own, so that
its peak of memory and its compilation are its own; the outputs are compared with the plain loop's.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from diffvas import arrays
from diffvas.devices import DTYPES, pick_device, pick_dtype
from diffvas.diffusion import conditioning
from diffvas.diffusion.sampling import Sampling
from diffvas.pipelines.diffusion_vas import PLAIN, DiffusionVASPipeline, Fast

Array = np.ndarray
STAGES = ("encode", "denoise", "decode")


@dataclass(frozen=True)
class Setting:
    """One line of the table.

    Attributes:
        name: what is shown. dtype: of ``devices.DTYPES``. loop: "plain" for the plain loop, "ours" for the pipeline.
        fast: ours with ``Fast()``, or with ``PLAIN``. compiled, channels_last, offload: see ``load_pipelines``.
        steps, sampler, guidance, interval, evaluated: see ``Sampling``.
    """

    name: str
    dtype: str = "float32"
    loop: str = "ours"
    fast: bool = True
    compiled: bool = False
    channels_last: bool = False
    offload: str = "none"
    steps: int = 25
    sampler: str = "euler"
    guidance: float = 1.5
    interval: tuple[float, float] = Sampling.interval
    evaluated: tuple[float, float] = Sampling.evaluated


# sigmas outside of which an estimate changes next to nothing: above, its share in the next noisy latent is its size
# over sigma; below, the latent is nearly clean already
INTERVAL = (0.05, 40.0)


@dataclass(frozen=True)
class Job:
    """What to run: a model and a clip of its size.

    Attributes:
        model, device: as for ``load_pipelines``. size: (height, width). frames: T. repeats: timed runs; the fastest
            counts. seed: of the draws.
    """

    model: str
    device: str
    size: tuple[int, int]
    frames: int
    repeats: int = 3
    seed: int = 0


def settings(device: torch.device, steps: int, guidance: float) -> list[Setting]:
    """The plain loop, one fast path after the other with equal output, and then fewer steps."""
    half = str(pick_dtype(device)).removeprefix("torch.")
    same = Setting("ours, no fast path", fast=False, steps=steps, guidance=guidance)
    lines = [replace(same, name="plain loop", loop="plain"), same]
    lines.append(same := replace(same, name="+ shared context, chunked VAE", fast=True))
    if half != "float32":
        lines.append(same := replace(same, name=f"+ {half}", dtype=half))
    lines.append(replace(same, name="the same in channels_last", channels_last=True))
    low, high = INTERVAL
    lines.append(replace(same, name=f"the same, guidance from {low} to {high} only", interval=INTERVAL))
    lines.append(same := replace(same, name=f"+ estimates reused outside {low} to {high}", evaluated=INTERVAL))
    if device.type == "cuda":
        lines.append(replace(same, name="+ compiled blocks", compiled=True))
        lines.append(replace(same, name="+ model offload", offload="model"))
    for sampler, count in (("ays", 10), ("dpm++", 10), ("euler", 5), ("euler", 3), ("euler", 1)):
        name = f"{count} step{'s' if count > 1 else ''}, {sampler}, no guidance"
        lines.append(Setting(name, half, steps=count, sampler=sampler, guidance=1.0))
    return lines


def clip_conditions(job: Job) -> tuple[torch.Tensor, torch.Tensor]:
    """(modal masks, depth), each (T, 3, H, W) in [-1, 1]: the bundled clip at the size asked for, repeated in time."""
    from importlib import resources

    from diffvas.world.storage import read_scene_clip

    scene = read_scene_clip(Path(str(resources.files("diffvas") / "assets" / "demo.npz")))
    at = np.arange(job.frames) % len(scene.frames_u8)
    masks = arrays.resize_masks_nearest(scene.modal_mask(0)[at], job.size)
    depth = arrays.normalise_depth(arrays.resize_float(arrays.normalise_depth(1 / scene.depth[at]), job.size))
    return arrays.masks_to_signed(masks), arrays.depth_to_signed(depth.clip(0, 1))


class Watch:
    """Seconds per stage, of everything that was queued on the device."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self.seconds[stage] += time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@torch.no_grad()
def plain_loop(
    pipe: DiffusionVASPipeline,
    a: torch.Tensor,
    b: torch.Tensor,
    generator: torch.Generator,
    sampling: Sampling,
    watch: Watch,
) -> torch.Tensor:
    """The twin of all that is fast: (T, 3, H, W) float32 in [0, 1]. ``a``, ``b``: conditions in [-1, 1]."""
    device, dtype = pipe._execution_device, pipe.unet.dtype
    with watch("encode"):
        tokens = []
        for frame in a:
            pixels = conditioning.clip_pixels(frame[None].to(device), pipe.image_encoder.config.image_size)
            tokens.append(conditioning.clip_tokens(pipe.image_encoder, pixels[None])[0])
        encoded = []
        for condition in (a, b):
            noisy = conditioning.add_pixel_noise(condition.to(device), conditioning.CONDITION_NOISE, generator)
            encoded.append(
                torch.cat([pipe.vae.encode(frame[None].to(pipe.vae.dtype)).latent_dist.mode() for frame in noisy])
            )
        latents, context = torch.cat(encoded, 1)[None].to(dtype), torch.cat(tokens)[None].to(dtype)
    with watch("denoise"):
        pipe.scheduler.set_timesteps(sampling.steps, device=device)
        z = torch.randn((1, len(a), 4, *latents.shape[-2:]), generator=generator, device=generator.device).to(device)
        z = z * pipe.scheduler.init_noise_sigma
        latents, context = (torch.cat([torch.zeros_like(x), x]) for x in (latents, context))
        ids = conditioning.time_ids(torch.full((2,), conditioning.CONDITION_NOISE, device=device)).to(dtype)
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.scale_model_input(torch.cat([z] * 2), t).to(dtype)
            out = pipe.unet(torch.cat([x, latents], 2), t, context, added_time_ids=ids, return_dict=False)[0].float()
            null, conditional = out.chunk(2)
            z = pipe.scheduler.step(null + sampling.guidance * (conditional - null), t, z).prev_sample
    with watch("decode"):
        return (conditioning.decode(pipe.vae, z[0]) / 2 + 0.5).clamp(0, 1).cpu()


@torch.no_grad()
def our_loop(
    pipe: DiffusionVASPipeline,
    a: torch.Tensor,
    b: torch.Tensor,
    generator: torch.Generator,
    sampling: Sampling,
    watch: Watch,
) -> torch.Tensor:
    """The pipeline, timed by stage: (T, 3, H, W) float32 in [0, 1]."""
    with watch("encode"):
        conditions = pipe.encode_conditions(a, b, generator)
    with watch("denoise"):
        z = pipe.denoise(conditions, [generator], sampling)[0]
    with watch("decode"):
        return pipe.decode(z)


def run_setting(job: Job, setting: Setting, out: Path) -> dict[str, Any]:
    """Run one setting in this process; its frames go to ``out`` (.npy, float16).

    Returns:
        ``seconds`` by stage (the fastest of each), ``first`` (seconds of the first run, with compilation),
        ``peak_bytes`` (of the process on a CPU, of the allocator on a GPU), ``tflop`` by stage.
    """
    from diffvas.pipelines.loading import load_pipelines

    device = pick_device(job.device)
    model = load_pipelines(
        job.model,
        job.device,
        dtype=setting.dtype,
        content=False,
        offload=setting.offload,
        compiled=setting.compiled,
        channels_last=setting.channels_last,
    )
    pipe = model.amodal
    pipe.fast = Fast() if setting.fast else PLAIN
    loop: Callable[..., torch.Tensor] = plain_loop if setting.loop == "plain" else our_loop
    sampling = Sampling(setting.steps, setting.sampler, setting.guidance, setting.interval, setting.evaluated)
    a, b = clip_conditions(job)
    runs: list[dict[str, float]] = []
    frames = torch.empty(0)
    for _ in range(job.repeats + 1):
        watch = Watch(device)
        frames = loop(pipe, a, b, torch.Generator().manual_seed(job.seed), sampling, watch)
        runs.append(watch.seconds)
    np.save(out, frames.numpy().astype(np.float16))
    return {
        "seconds": {stage: min(run[stage] for run in runs[1:]) for stage in STAGES},
        "first": sum(runs[0].values()),
        "peak_bytes": peak_bytes(device),
        "tflop": count_tflop(pipe, a, b, sampling),
    }


def peak_bytes(device: torch.device) -> int:
    """Most memory so far: what torch allocated on a GPU, what the process held on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def count_tflop(pipe: DiffusionVASPipeline, a: torch.Tensor, b: torch.Tensor, sampling: Sampling) -> dict[str, float]:
    """Floating point operations (two per multiplication and addition) of each stage as it is written down, without
    savings: one UNet call is counted and multiplied."""
    counts = {}
    generator = torch.Generator().manual_seed(0)
    with FlopCounterMode(display=False) as counter:
        conditions = pipe.encode_conditions(a, b, generator)
    counts["encode"] = counter.get_total_flops()
    sigmas = sampling.evaluated_sigmas()
    guided = sum(sampling.guidance_at(sigma) != 1.0 for sigma in sigmas)
    with FlopCounterMode(display=False) as counter:
        z = pipe.denoise(conditions, [generator], Sampling(1, "euler", 1.0))
    counts["denoise"] = counter.get_total_flops() * (len(sigmas) + guided)
    with FlopCounterMode(display=False) as counter:
        pipe.decode(z[0])
    counts["decode"] = counter.get_total_flops()
    return {stage: count / 1e12 for stage, count in counts.items()}


def measured_peak(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """TFLOP per second of a large matrix product, the best of five: what this machine can do in this type."""
    if device.type == "cuda":
        size *= 4
    x = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        watch = Watch(device)
        with watch("denoise"):
            x @ x
        best = min(best, watch.seconds["denoise"])
    return 2 * size**3 / best / 1e12


def compare(
    job: Job, lines: Sequence[Setting], rounds: int = 1, progress: Callable[[str, int, int], None] | None = None
) -> dict[str, Any]:
    """All settings, each in a process of its own; the first is the one that the others are compared with.

    Args:
        rounds: how often to go through all settings; the fastest time of each stage counts. More than one where the
            machine has other work, which then does not fall on one setting alone.

    Returns:
        ``job``, ``threads``, ``peak_tflops`` by type, and ``settings``: per setting what ``run_setting`` returns, with
        ``total`` seconds, ``ratio`` to the first, ``difference`` (mean absolute, of frames in [0, 1]) and ``flipped``
        (share of mask pixels on the other side of one half).

    Raises:
        RuntimeError: a setting failed; with what it said.
    """
    runs: list[list[dict[str, Any]]] = [[] for _ in lines]
    frames: list[Array] = []
    device = pick_device(job.device)
    peaks: dict[str, float] = dict.fromkeys(sorted({s.dtype for s in lines}), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "frames.npy"
        for done in range(rounds * len(lines)):
            if progress is not None:
                progress("settings", done, rounds * len(lines))
            runs[done % len(lines)].append(_in_own_process(job, lines[done % len(lines)], out))
            if done < len(lines):
                frames.append(np.load(out).astype(np.float32))
            for name, value in peaks.items():
                peaks[name] = max(value, measured_peak(device, DTYPES[name]))
        if progress is not None:
            progress("settings", rounds * len(lines), rounds * len(lines))
    results: list[dict[str, Any]] = []
    for setting, own, shown in zip(lines, runs, frames, strict=True):
        line = {**asdict(setting), **own[0]}
        line["seconds"] = {stage: min(run["seconds"][stage] for run in own) for stage in STAGES}
        line["total"] = sum(line["seconds"].values())
        line["ratio"] = (results[0]["total"] if results else line["total"]) / line["total"]
        line["difference"] = float(np.abs(shown - frames[0]).mean())
        line["flipped"] = float(((shown.mean(1) >= 0.5) != (frames[0].mean(1) >= 0.5)).mean())
        line["share_of_peak"] = sum(line["tflop"].values()) / line["total"] / peaks[setting.dtype]
        results.append(line)
    return {
        "job": asdict(job),
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "peak_tflops": peaks,
        "settings": results,
    }


def _in_own_process(job: Job, setting: Setting, out: Path) -> dict[str, Any]:
    request = json.dumps({"job": asdict(job), "setting": asdict(setting), "out": str(out)})
    command = [sys.executable, "-m", "diffvas.bench.speed", request]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        said = process.stderr.strip().splitlines()
        raise RuntimeError(f"setting {setting.name!r} failed: {said[-1] if said else process.returncode}")
    return dict(json.loads(process.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    for part, name in (("job", "size"), ("setting", "interval"), ("setting", "evaluated")):  # JSON knows no tuples
        asked[part][name] = tuple(asked[part][name])
    print(json.dumps(run_setting(Job(**asked["job"]), Setting(**asked["setting"]), Path(asked["out"]))))
