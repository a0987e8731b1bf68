"""What the latent cache is worth on this machine: clips a second with it and without."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from diffvas.data.examples import open_scenes
from diffvas.train.cache import CacheConfig, Encoder, draw_example, encode_example, load_vae, shard_shapes
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import prepare
from diffvas.train.loop import LoopConfig, Ordered, Run, resolved
from diffvas.train.step import objective


def cache_config(folder: Path) -> CacheConfig:
    """The settings that a cache was made with.

    Raises:
        ValueError: the cache does not say.
    """
    try:
        saved = json.loads((folder / "cache.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"data: expected a cache with cache.json, got {folder}") from error
    known = {field.name for field in fields(CacheConfig)}
    values: dict[str, Any] = {k: v for k, v in saved.items() if k in known}
    values["sizes"] = tuple((int(h), int(w)) for h, w in values.get("sizes", ()))
    return CacheConfig(**values)


def seconds_each(work: Callable[[int], object], count: int) -> float:
    """Mean time of ``work(k)`` for k = 1 ... ``count``, after one that warms up."""
    work(0)
    began = time.perf_counter()
    for k in range(1, count + 1):
        work(k)
    return (time.perf_counter() - began) / count


def measure(config: DenoiserConfig, loop: LoopConfig, folder: Path, count: int = 4) -> dict[str, float]:
    """Clips a second of the first cache of ``config``, in one process, batches and steps one after the other.

    Args:
        folder: for the run that is timed; nothing is written into it.
        count: batches timed.

    Returns:
        ``cached``: batches read from the cache. ``encoded``: the same drawn from the source and encoded. ``step``:
        training steps alone. ``train_cached``, ``train_encoded``: training with the one and the other, and
        ``speed_up``, their ratio.
    """
    loop = resolved(loop)
    model, source = prepare(config, loop)
    made = cache_config(Path(config.data[0]))
    scenes = open_scenes(made.source, made.frames, colour=made.colour, split=made.split)
    encoder = Encoder(load_vae(Path(config.vae)), compiled=False)
    size = made.sizes[0]

    def encode(k: int) -> None:
        for i in range(config.batch):
            key = [made.seed, 1_000_000 + k, i]
            encode_example(encoder, made, draw_example(made, scenes, key, size), key)

    run = Run(model, objective(config), loop, folder)
    steps = Ordered(source, objective(config), loop, 0)
    parts = [steps[k] for k in range(2)]
    # a step sees ``span`` of the frames that were encoded, so clips are counted, not frames
    read, make = seconds_each(lambda k: source[k], count), seconds_each(encode, count)
    step = seconds_each(lambda k: run.step(parts[k % 2], k), count)
    return {
        "cached": config.batch / read,
        "encoded": config.batch / make,
        "step": config.batch / step,
        "train_cached": config.batch / (read + step),
        "train_encoded": config.batch / (make + step),
        "speed_up": (make + step) / (read + step),
    }


def megabytes_a_clip(folder: Path) -> float:
    """What a clip takes on disk."""
    shard = sorted(folder.glob("shard-*.safetensors"))[0]
    return shard.stat().st_size / 1e6 / shard_shapes(shard)["target"][0]
