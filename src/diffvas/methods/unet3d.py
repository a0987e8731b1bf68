"""3D-UNet: the same video UNet as a regression, in one step from zeros.

Source: the row of this name in the paper's tables. The input is zeros, modal latents and depth latents, the noise level
is fixed, the output is the amodal latents (squared error, all weights trained), which the VAE decodes.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from diffvas import arrays
from diffvas.diffusion import edm
from diffvas.methods.base import Answer, Budget, ObjectInput, Progress, check_parts
from diffvas.methods.crops import predict_in_box
from diffvas.methods.fit import Examples, Trainable
from diffvas.methods.latents import STAGE, LatentOptions, fit_latents, latent_config, write_stage
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline
from diffvas.pipelines.loading import load_pipelines
from diffvas.train.step import denoise
from diffvas.types import F32, Bool

# depth is always there for this baseline, so it is never dropped
REGRESSION: dict[str, Any] = {"objective": "regression", "drop_b": 0.0, "drop_all": 0.0}


class UNet3D(Trainable):
    """See the module."""

    name = "unet3d"
    needs = frozenset({"depth"})
    uses = frozenset({"depth"})
    kind = LatentOptions
    pipe: DiffusionVASPipeline | None = None

    def train(self, examples: Examples, seed: int, budget: Budget, out: Path, progress: Progress | None) -> None:
        """See ``Trainable``."""
        config = latent_config(self.options, **REGRESSION)
        fit_latents(self, config, examples, seed, budget, out, {"threshold": 0.5}, progress)

    @torch.inference_mode()
    def predict(
        self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None
    ) -> Answer:
        """See ``Method``; it draws nothing but the conditions' slight noise, so there is one answer. The threshold is
        0.5 by default."""
        check_parts(self, clip)
        pipe, config, options = self.pipe, latent_config(self.options, **REGRESSION), self.options
        if pipe is None:
            raise ValueError("method: expected a fitted or loaded UNet3D, got one without weights")
        own = clip.seed(seed)

        def network(modal: Bool, depth: F32, number: int) -> F32:
            generator = torch.Generator().manual_seed(own * 1000 + number)
            a, b = arrays.masks_to_signed(modal), arrays.depth_to_signed(depth.clip(0, 1))
            seen = pipe.encode_conditions(a, b, generator)
            first, second = seen.latents[None].split(4, dim=2)
            batch = {"a": first, "b": second, "tokens": seen.tokens[None]}
            batch["sigma"] = torch.tensor([seen.noise], device=first.device)
            z = torch.zeros_like(first).float()
            level = torch.full((1,), edm.SIGMA_MAX, device=first.device)
            latents = denoise(SimpleNamespace(unet=pipe.unet), batch, z, level, config)
            return np.asarray(pipe.decode(latents[0]).mean(1).numpy())

        return predict_in_box(clip, options.size, options.frames, network, 0.5 if threshold is None else threshold)

    def write(self, folder: Path) -> None:
        """``amodal/``, a pipeline of the first stage."""
        assert self.pipe is not None
        write_stage(self.pipe, folder)

    def read(self, folder: Path) -> None:
        """``amodal/``"""
        self.pipe = load_pipelines(folder / STAGE, self.device, dtype="float32", content=False).amodal
