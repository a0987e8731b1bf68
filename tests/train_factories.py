"""Random batches and caches for the tests of training, of the size of nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from diffvas.train.cache import TOWER_SIZE
from diffvas.train.loop import Batch

B, T, h, w = 8, 3, 4, 8


def make_batch(count: int = B, channels: int = 1, seed: int = 0, frames: int = T, tiny: bool = False) -> Batch:
    """What ``CachedClips`` gives; ``tiny``: one latent cell, for tests that draw many."""
    draw = torch.Generator().manual_seed(seed)
    high, wide, side = (1, 1, 1) if tiny else (h, w, TOWER_SIZE)
    latents = {k: torch.randn(count, frames, 4, high, wide, generator=draw).half() for k in ("a", "b", "target")}
    bits = {
        k: torch.randint(0, 256, (count, frames, 8 * high, wide), generator=draw, dtype=torch.uint8)
        for k in ("amodal", "modal")
    }
    size = (count, frames, channels, side, side)
    pixels = torch.randint(0, 256, size, generator=draw, dtype=torch.uint8)
    return {**latents, **bits, "pixels": pixels, "sigma": torch.rand(count, generator=draw) * 0.1}


def write_cache(folder: Path, settings: dict[str, Any] | None = None, count: int = 3, **extra: torch.Tensor) -> Path:
    """A cache of one shard of random latents; ``settings`` go into its ``cache.json``, None leaves that out."""
    folder.mkdir(parents=True)
    save_file({**make_batch(count), **extra}, folder / "shard-00000.safetensors")
    if settings is not None:
        (folder / "cache.json").write_text(json.dumps(settings))
    return folder
