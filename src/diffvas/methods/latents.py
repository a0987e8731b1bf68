"""What 3D-UNet and ours share: the small video UNet between latents of a frozen VAE, fitted on examples as they come.

Examples travel as masks and depth and are encoded in the step itself, on the device that trains: every method can see
the very same batches, and none needs a cache of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor

from diffvas.diffusion import conditioning
from diffvas.methods.base import Budget, Progress
from diffvas.methods.fit import Examples, MaskBatches, Trainable, fit_network
from diffvas.pipelines.checkpoints import without_bars
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline
from diffvas.pipelines.loading import stage_folders
from diffvas.train import step
from diffvas.train.cache import load_vae
from diffvas.train.checkpoints import replace_folder
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import as_pipeline, build
from diffvas.train.loop import Batch, Objective

STAGE = "amodal"  # where the fitted pipeline lies in a method's folder
CHUNK = 32  # images per call of the encoder


@dataclass(frozen=True)
class LatentOptions:
    """The network.

    Attributes:
        size: (height, width) it is fitted at, multiples of 32. frames: at a time. widths: channels of its three levels.
        vae: a model (as ``load_pipelines`` takes it) or a saved VAE, whose latents it works on; stays as it is.
        start: a training run, or a stage of a saved model, for the first weights; "" = from scratch. A folder of SVD's
            layout as ``model`` gives SVD's own network instead. rate: of learning.
    """

    size: tuple[int, int] = (64, 128)
    frames: int = 25
    widths: tuple[int, ...] = (64, 96, 128)
    vae: str = "tiny"
    start: str = ""
    model: str = "tiny"
    rate: float = 3e-4

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 32 or any(n % 32 for n in self.size):
            raise ValueError(f"size: expected a height and a width that are multiples of 32, got {self.size}")
        if self.frames < 1:
            raise ValueError(f"frames: expected 1 or more, got {self.frames}")


def find_vae(name: str) -> Path:
    """The folder of a VAE: a saved one, or that of a model's first stage."""
    if (Path(name) / "config.json").is_file() or (Path(name) / "vae" / "config.json").is_file():
        return Path(name)
    return stage_folders(name)["amodal"]


def draw(batch: Batch, generator: torch.Generator, config: DenoiserConfig) -> Batch:
    """The batch and its random numbers: those of ``train.step.draw``, the conditions' noise level ``sigma`` (B,), of
    which the logarithm is N(-3, 0.5), and ``noise_seed`` (B,) of that noise."""
    count, frames, height, width = batch["modal"].shape
    like = torch.zeros(count, frames, 4, height // 8, width // 8)
    out = step.draw({**batch, "target": like}, generator, config)
    del out["target"]
    out["sigma"] = torch.exp(-3 + 0.5 * torch.randn(count, generator=generator))
    out["noise_seed"] = torch.randint(2**31, (count,), generator=generator)
    return out


def loss(model: Any, batch: Batch, config: DenoiserConfig) -> tuple[torch.Tensor, dict[str, float]]:
    """``train.step.diffusion_loss`` of a batch that is encoded here; the tower trains along."""
    count = len(batch["modal"])
    grey = {name: 2 * batch[name].float() - 1 for name in ("modal", "depth", "amodal")}
    images = {name: x[:, :, None].expand(-1, -1, 3, -1, -1) for name, x in grey.items()}
    pixels = conditioning.clip_pixels(images["modal"].flatten(0, 1), model.tower.config.image_size)
    tokens = conditioning.clip_tokens(model.tower, pixels.unflatten(0, (count, -1)))
    with torch.no_grad():
        latents = {}
        for name, key in (("modal", "a"), ("depth", "b"), ("amodal", "target")):
            x = images[name]
            if name != "amodal":
                x = torch.stack([add_noise(batch, k, x[k], name == "depth") for k in range(count)])
            latents[key] = conditioning.encode(model.vae, x.flatten(0, 1), CHUNK).unflatten(0, (count, -1)).float()
        latents["target"] = latents["target"] * model.vae.config.scaling_factor
    return step.diffusion_loss(model, {**batch, **latents, "tokens": tokens}, config)


def add_noise(batch: Batch, k: int, x: torch.Tensor, second: bool) -> torch.Tensor:
    """Clip ``k``'s condition with its noise, drawn on the CPU: the same on every device."""
    generator = torch.Generator().manual_seed(2 * int(batch["noise_seed"][k]) + second)
    return conditioning.add_pixel_noise(x, float(batch["sigma"][k]), generator)


def latent_config(options: LatentOptions, **recipe: Any) -> DenoiserConfig:
    """The networks of the options, trained by a recipe (``train.config``); by default conditional diffusion."""
    return DenoiserConfig(widths=options.widths, start=options.start, model=options.model, **recipe)


def fit_latents(
    method: Trainable,
    config: DenoiserConfig,
    examples: Examples,
    seed: int,
    budget: Budget,
    out: Path,
    defaults: Mapping[str, Any],
    progress: Progress | None = None,
) -> None:
    """Train a denoiser and write it as a pipeline of the first stage to ``out/amodal``.

    Args:
        method: whose options and device. config: what is trained, and by which recipe.
        defaults: how the pipeline makes a result, saved with it.
    """
    options: LatentOptions = method.options
    vae = load_vae(find_vae(options.vae))
    model = build(config, seed)
    model.vae = vae.requires_grad_(False)
    own = model.unet.attn_processors
    if method.device == "cpu":
        model.unet.set_attn_processor(AttnProcessor())  # faster backwards than the fused kernel, see train.denoiser
    fit_network(
        model,
        MaskBatches(examples, budget.batch, options.frames),
        Objective(partial(loss, config=config), partial(draw, config=config)),
        budget,
        seed=seed,
        out=out,
        device=method.device,
        lr=options.rate,
        settings={"fit": method.fitted},
        progress=progress,
    )
    model.unet.set_attn_processor(own)
    height, width = options.size
    shape = {"steps": 1, "samples": 1, "guidance": 1.0, "area": height * width, "frames": options.frames}
    write_stage(as_pipeline(model.eval().to("cpu"), vae.cpu(), "amodal", {**shape, **defaults}), out)


def write_stage(pipe: DiffusionVASPipeline, folder: Path) -> None:
    """``folder/amodal``, whole or not at all."""
    with without_bars():
        replace_folder(folder / STAGE, pipe.save_pretrained)
