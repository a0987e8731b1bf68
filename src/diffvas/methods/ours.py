"""Ours: conditional video diffusion, the first stage of any model that ``load_pipelines`` takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffvas import arrays
from diffvas.methods.base import HEAD, Answer, Budget, ObjectInput, Progress, digest_weights
from diffvas.methods.fit import Examples, Trainable
from diffvas.methods.latents import STAGE, LatentOptions, fit_latents, latent_config, write_stage
from diffvas.order import may_be_hidden
from diffvas.pipelines.completion import Meter, Plan, as_seen, cut_each, look_at, soft_masks
from diffvas.pipelines.loading import CompletionModel, load_pipelines, stage_folders
from diffvas.pipelines.uncertainty import sample_levels

# how a fitted model makes its result, until somebody chooses better on validation clips
DEFAULTS = {"threshold": 0.5, "focus": 2.0, "depth_rule": True}


@dataclass(frozen=True)
class OursOptions(LatentOptions):
    """``steps``: of the sampler, in the fitted model's default; the rest as ``LatentOptions``."""

    steps: int = 8


class Ours(Trainable):
    """The first stage: K samples of the amodal masks, their mean cut at the model's threshold.

    Masks are those of ``diffvas complete``: within the boxes that follow the object, and, where the model has that
    rule, hidden pixels only behind what depth says is nearer.
    """

    name = "ours"
    uses = frozenset({"depth", "frames_u8"})
    kind = OursOptions
    model: CompletionModel | None = None

    def train(self, examples: Examples, seed: int, budget: Budget, out: Path, progress: Progress | None) -> None:
        """As ``diffvas train amodal`` does it; see ``Trainable``."""
        defaults = {**DEFAULTS, "steps": self.options.steps}
        fit_latents(self, latent_config(self.options), examples, seed, budget, out, defaults, progress)

    @torch.inference_mode()
    def predict(
        self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None
    ) -> Answer:
        """See ``Method``; ``samples`` and ``threshold`` are the model's own by default."""
        if self.model is None:
            raise ValueError("method: expected a fitted or loaded model, got one without weights")
        if not clip.modal.any():
            return Answer.nothing(clip)
        model, depth = self.model, clip.depth
        plan = Plan.of(model, samples, clip.seed(seed))
        frames = clip.frames_u8 if depth is None and model.front is not None else None
        boxes = look_at(model, clip.modal, depth, frames)
        seen = as_seen(model, boxes, clip.modal, depth, frames)
        soft = soft_masks(model, seen, 1, plan, Meter(None, 1, plan))
        room = None
        if model.depth_rule and depth is not None:
            room = may_be_hidden(arrays.clean_depth(depth), clip.modal)
        level = model.threshold if threshold is None else threshold
        faithful, halo = model.behaviour == "faithful", model.halo if depth is None else 0.0
        cut = partial(cut_each, boxes, modal=clip.modal, room=room, faithful=faithful, halo=halo)
        levels = sample_levels(level, plan.samples, spread=model.spread)
        drawn = [cut(one, threshold=at) for one, at in zip(soft, levels, strict=True)] if plan.samples > 1 else None
        return Answer(cut(soft.mean(0), threshold=level), samples=None if drawn is None else np.stack(drawn))

    def write(self, folder: Path) -> None:
        """``amodal/``, the first stage."""
        assert self.model is not None
        write_stage(self.model.amodal, folder)

    def read(self, folder: Path) -> None:
        """``amodal/``"""
        self.model = load_pipelines(folder / STAGE, self.device, content=False)

    @classmethod
    def load(cls, folder: str | Path = "tiny", device: str = "auto") -> Ours:
        """A fitted one, or whatever ``load_pipelines`` takes: ``tiny``, ``official``, a folder, a hub id."""
        if (Path(folder) / HEAD).is_file():
            return super().load(folder, device)
        method = cls(device=device)
        method.model = load_pipelines(folder, device, content=False)
        method.digest = digest_weights(stage_folders(folder)["amodal"])
        return method

    def settings(self) -> dict[str, Any]:
        """What it was fitted on, a digest of its weights, and how it draws."""
        assert self.model is not None
        dtype = str(self.model.amodal.unet.dtype).removeprefix("torch.")
        return {**super().settings(), "dtype": dtype, **self.model.amodal.config.defaults}
