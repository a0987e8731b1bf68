"""Train the denoiser of either stage on a latent cache: a pure step, and the small networks it starts from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from diffvas.diffusion import conditioning, edm
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline
from diffvas.train.cache import TOWER_SIZE, CachedClips
from diffvas.train.loop import Batch, LoopConfig, Report, report_lines, train, write_whole


@dataclass(frozen=True)
class DenoiserConfig:
    """What a denoiser is trained on.

    Attributes:
        stage: "amodal" or "content". data: latent caches; weights: how often each is drawn.
        batch: clips per step; spans: numbers of frames to choose from.
        noise_mean, noise_deviation, noise_top: see ``edm.NoiseLevels``.
        drop_b: probability that condition B is not given (depth none). drop_all: that nothing is (for guidance).
        hidden_weight: extra weight of the loss where the object is hidden.
        start: a saved pipeline or run to start from, "" = random weights.
    """

    stage: str
    data: tuple[str, ...]
    weights: tuple[float, ...] = (1.0,)
    batch: int = 2
    spans: tuple[int, ...] = (25,)
    noise_mean: float = 1.0
    noise_deviation: float = 1.8
    noise_top: float = 0.35
    drop_b: float = 0.25
    drop_all: float = 0.06
    hidden_weight: float = 0.0
    start: str = ""


class Denoiser(nn.Module):
    """The two networks that train together: the UNet and the tower that makes its tokens."""

    def __init__(self, unet: UNetSpatioTemporalConditionModel, tower: CLIPVisionModelWithProjection):
        super().__init__()
        self.unet, self.tower = unet, tower


def tiny_denoiser() -> Denoiser:
    """12.6 M + 0.5 M parameters, of SVD's classes: three levels, attention on the two coarser ones."""
    unet = UNetSpatioTemporalConditionModel(
        in_channels=12,
        out_channels=4,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        down_block_types=(
            "DownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
        ),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        num_attention_heads=(1, 2, 2),
        cross_attention_dim=128,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        num_frames=25,
    )
    tower = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=3,
            num_attention_heads=3,
            image_size=TOWER_SIZE,
            patch_size=16,
            projection_dim=128,
        )
    )
    return Denoiser(unet, tower)


def denoiser_loss(
    model: Denoiser, config: DenoiserConfig, batch: Batch, generator: torch.Generator
) -> tuple[torch.Tensor, dict[str, float]]:
    """One training step's loss: EDM's weighted error of the denoised latents, everything drawn per sample.

    Args:
        batch: from ``CachedClips``: ``a``, ``b``, ``target`` (B, T, 4, h, w) float16, ``pixels`` (B, T, c, S, S) uint8,
            ``sigma`` (B,) condition noise, ``amodal`` and ``modal`` (B, T, H, W/8) packed bits.
        generator: draws sigma, dropout and noise, in this order.

    Returns:
        The mean over the batch; ``top``, the mean of the samples at the highest sigma, where there are any.
    """
    z0, a, b = (batch[k].float() for k in ("target", "a", "b"))
    count, device = len(z0), z0.device
    sigma = edm.NoiseLevels(config.noise_mean, config.noise_deviation, config.noise_top).sample(count, generator)
    draw = torch.rand(2, count, generator=generator, device=device)
    keep_all = edm.like((draw[0] >= config.drop_all).float(), z0)
    keep_b = edm.like((draw[1] >= config.drop_b).float(), z0)
    noise = torch.randn(z0.shape, generator=generator, device=device)
    z = z0 + edm.like(sigma, z0) * noise
    pixels = batch["pixels"].float() / 127.5 - 1
    pixels = pixels.expand(-1, -1, 3, -1, -1)
    tokens = conditioning.clip_tokens(
        model.tower, conditioning.clip_pixels(pixels.flatten(0, 1), TOWER_SIZE).unflatten(0, pixels.shape[:2])
    )
    tokens = tokens * keep_all.flatten(2)[:, :, 0:1]
    x = torch.cat([edm.c_in(edm.like(sigma, z)) * z, a * keep_all, b * keep_all * keep_b], 2)
    ids = conditioning.time_ids(batch["sigma"])
    out = model.unet(x, edm.c_noise(sigma), tokens, added_time_ids=ids, return_dict=False)[0]
    estimate = edm.denoised(z, out.float(), sigma)
    emphasis = None
    if config.hidden_weight:
        emphasis = 1 + config.hidden_weight * hidden_share(batch, (z0.shape[-2], z0.shape[-1]))
    per_sample = edm.denoising_loss(estimate, z0, sigma, emphasis)
    at_top = per_sample[sigma >= edm.SIGMA_MAX]
    return per_sample.mean(), {"top": at_top.mean().item()} if len(at_top) else {}


def unpack(bits: torch.Tensor) -> torch.Tensor:
    """(..., W/8) packed uint8 -> (..., W) float32 0/1."""
    shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return ((bits[..., None] >> shifts) & 1).flatten(-2).float()


def hidden_share(batch: Batch, size: tuple[int, int]) -> torch.Tensor:
    """(B, T, 1, h, w) share of each latent cell in which the object is there but hidden."""
    hidden = unpack(batch["amodal"]) * (1 - unpack(batch["modal"]))
    return nn.functional.adaptive_avg_pool2d(hidden, size)[:, :, None]


def svd_scheduler() -> EulerDiscreteScheduler:
    """Euler on Karras sigmas, 700 -> 0.002, v-prediction, as SVD's scheduler config has it."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_min=edm.SIGMA_MIN,
        sigma_max=edm.SIGMA_MAX,
        timestep_type="continuous",
        timestep_spacing="leading",
        use_karras_sigmas=True,
        steps_offset=1,
        num_train_timesteps=1000,
    )


def as_pipeline(
    model: Denoiser, vae: AutoencoderKLTemporalDecoder, stage: str, defaults: dict[str, Any] | None = None
) -> DiffusionVASPipeline:
    """A pipeline of these networks, ready for ``save_pretrained``."""
    extractor = CLIPImageProcessorPil(
        size={"shortest_edge": TOWER_SIZE}, crop_size={"height": TOWER_SIZE, "width": TOWER_SIZE}
    )
    return DiffusionVASPipeline(vae, model.tower, model.unet, svd_scheduler(), extractor, stage, defaults)


def train_denoiser(
    config: DenoiserConfig, loop: LoopConfig, out: Path, report: Report = report_lines
) -> dict[str, torch.Tensor]:
    """Train by ``config`` and write the averaged weights to ``out/average.safetensors`` at every checkpoint."""
    torch.manual_seed(loop.seed)
    model = tiny_denoiser()
    if config.start:
        first = Path(config.start) / "average.safetensors"
        if not first.is_file():
            raise ValueError(f"start: expected a training run with {first.name}, got {config.start} without")
        model.load_state_dict(load_file(first))
    model.to(loop.device)
    if loop.device == "cpu":
        # the same attention as plain matrix products: torch's fused kernel is slow backwards on the short sequences
        # here (25 frames, 32 to 128 positions); a whole training step takes 0.66 to 0.77 of the time
        model.unet.set_attn_processor(AttnProcessor())
    source = CachedClips([Path(d) for d in config.data], config.weights, config.batch, config.spans, loop.seed)

    def keep(step: int, average: dict[str, torch.Tensor]) -> None:
        write_whole(
            out / "average.safetensors", lambda p: save_file({k: v.contiguous() for k, v in average.items()}, p)
        )

    return train(
        model,
        source,
        lambda b, g: denoiser_loss(model, config, b, g),
        loop,
        out,
        extra_config={"denoiser": asdict(config)},
        every=keep,
        report=report,
    )
