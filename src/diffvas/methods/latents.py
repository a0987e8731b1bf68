"""What 3D-UNet and ours share: the small video UNet between latents of a frozen VAE, fitted on examples as they come.

Examples travel as masks and depth and are encoded in the step itself, on the device that trains. What is encoded can be
kept (``Examples.kept``), so that the second of two methods on the same examples is spared the work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from diffvas.diffusion import conditioning
from diffvas.methods.base import Budget, Progress
from diffvas.methods.fit import Examples, MaskBatches, Trainable, fit_network
from diffvas.pipelines.checkpoints import without_bars
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline
from diffvas.pipelines.loading import stage_folders
from diffvas.train import step
from diffvas.train.cache import fingerprint, load_vae
from diffvas.train.checkpoints import differences, replace_folder, write_whole
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import as_pipeline, build
from diffvas.train.loop import Batch, Objective

STAGE = "amodal"  # where the fitted pipeline lies in a method's folder
CHUNK = 32  # images per call of the encoder
LATENTS = ("a", "b", "target")  # of the visible masks, the depth, the whole masks


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


class Encodings:
    """Latents of examples on disk, a small file per example, in half precision.

    Args:
        folder: where they are kept. settings: what they depend on.

    Raises:
        ValueError: the folder holds those of other examples or another VAE.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        head, wanted = folder / "encodings.json", json.loads(json.dumps(settings))
        if head.is_file() and (changed := differences(json.loads(head.read_text()), wanted)):
            raise ValueError(f"kept: {folder} holds other encodings ({'; '.join(changed)}); use another folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(head, lambda path: path.write_text(json.dumps(wanted, indent=1)))

    def place(self, number: int) -> Path:
        """The file of an example."""
        return self.folder / f"{number // 1000:05d}" / f"{number:08d}.safetensors"

    def read(self, numbers: Sequence[int]) -> Batch:
        """``LATENTS`` of some examples, (B, T, 4, h, w) float16; empty unless all of them are there."""
        try:
            found = [load_file(self.place(number)) for number in numbers]
        except (OSError, SafetensorError):
            return {}
        return {name: torch.stack([one[name] for one in found]) for name in LATENTS}

    def write(self, numbers: Sequence[int], latents: Batch) -> None:
        """Keep what was made of some examples."""
        for row, number in enumerate(numbers):
            place = self.place(number)
            if not place.is_file():
                place.parent.mkdir(parents=True, exist_ok=True)
                one = {name: latents[name][row].cpu().contiguous() for name in LATENTS}
                write_whole(place, partial(save_file, one))


class LatentBatches(MaskBatches):
    """``MaskBatches`` with the examples' ``number`` (B,), the noise level ``sigma`` (B,) of their conditions, of which
    the logarithm is N(-3, 0.5), ``noise_seed`` (B,) of that noise, and the ``LATENTS`` where they are kept already.

    Args:
        seed: of the noise: an example's has nothing to do with the step in which it is seen.
    """

    def __init__(self, examples: Examples, batch: int, frames: int, seed: int, kept: Encodings | None = None) -> None:
        super().__init__(examples, batch, frames)
        self.seed, self.kept = seed, kept

    def __getitem__(self, step: int) -> Batch:
        numbers = list(self.numbers(step))
        drawn = [np.random.default_rng([self.seed, 3, number]) for number in numbers]
        out = super().__getitem__(step)
        out["number"] = torch.tensor(numbers)
        out["sigma"] = torch.tensor([np.exp(rng.normal(-3, 0.5)) for rng in drawn], dtype=torch.float32)
        out["noise_seed"] = torch.tensor([int(rng.integers(2**31)) for rng in drawn])
        return {**out, **(self.kept.read(numbers) if self.kept is not None else {})}


def draw(batch: Batch, generator: torch.Generator, config: DenoiserConfig) -> Batch:
    """The batch and its random numbers, see ``train.step.draw``."""
    count, frames, height, width = batch["modal"].shape
    like = torch.zeros(count, frames, 4, height // 8, width // 8)
    out = step.draw({**batch, "target": like}, generator, config)
    del out["target"]
    return {**out, **{name: batch[name] for name in LATENTS if name in batch}}


def loss(
    model: Any, batch: Batch, config: DenoiserConfig, kept: Encodings | None = None
) -> tuple[torch.Tensor, dict[str, float]]:
    """``train.step.diffusion_loss`` of a batch that is encoded here, unless it was before; the tower trains along."""
    count = len(batch["modal"])
    pixels = conditioning.clip_pixels(grey_images(batch["modal"]).flatten(0, 1), model.tower.config.image_size)
    tokens = conditioning.clip_tokens(model.tower, pixels.unflatten(0, (count, -1)))
    latents = {name: batch[name] for name in LATENTS if name in batch}
    if not latents:
        latents = encode(model.vae, batch)
        if kept is not None:
            kept.write(batch["number"].tolist(), latents)
    as_float = {name: value.float() for name, value in latents.items()}
    return step.diffusion_loss(model, {**batch, **as_float, "tokens": tokens}, config)


def grey_images(x: torch.Tensor) -> torch.Tensor:
    """(B, T, 3, H, W) float32 in [-1, 1] of (B, T, H, W) in [0, 1]."""
    return (2 * x.float() - 1)[:, :, None].expand(-1, -1, 3, -1, -1)


@torch.no_grad()
def encode(vae: Any, batch: Batch) -> Batch:
    """``LATENTS`` (B, T, 4, h, w) float16; rounded whether they are kept or not, so keeping them changes nothing."""
    count, latents = len(batch["modal"]), {}
    for name, key in zip(("modal", "depth", "amodal"), LATENTS, strict=True):
        x = grey_images(batch[name])
        if name != "amodal":
            x = torch.stack([add_noise(batch, k, x[k], name == "depth") for k in range(count)])
        latents[key] = conditioning.encode(vae, x.flatten(0, 1), CHUNK).unflatten(0, (count, -1)).float()
    latents["target"] *= vae.config.scaling_factor
    return {name: value.half() for name, value in latents.items()}


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
    kept = None
    if examples.kept is not None:
        told = {"data": examples.settings(), "frames": options.frames, "noise": seed, "vae": fingerprint(vae)}
        kept = Encodings(examples.kept, told)
    fit_network(
        model,
        LatentBatches(examples, budget.batch, options.frames, seed, kept),
        Objective(partial(loss, config=config, kept=kept), partial(draw, config=config)),
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
