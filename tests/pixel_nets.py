"""A random model that has all networks on pixels, as large as nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch

from diffvas.diffusion.pixel_net import PixelNet
from diffvas.pipelines.loading import PIXEL_NETS, CompletionModel
from factories import tiny_model

OUTPUTS = {"front": 1, "finish": 1, "colours": 3}


@cache
def random_nets() -> dict[str, PixelNet]:
    """One of each kind, the same every time."""
    inputs = {name: count for nets in PIXEL_NETS.values() for name, count in nets.items()}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return {name: PixelNet.new(inputs[name], OUTPUTS[name], (8, 16)).eval() for name in OUTPUTS}


def model_with_nets(*names: str) -> CompletionModel:
    """``tiny_model`` with these of the networks, all where none is named, and masks that are finished twice."""
    nets = random_nets()
    return replace(tiny_model(), rounds=2, heed=0.5, **{name: nets[name] for name in names or nets})
