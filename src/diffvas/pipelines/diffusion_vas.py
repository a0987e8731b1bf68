"""One diffusers pipeline for both stages: a video and two named conditions in, denoised frames out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from diffvas.diffusion import conditioning

# stage -> (condition A, condition B); CLIP tokens come from condition A
CONDITIONS = {"amodal": ("modal_mask", "depth"), "content": ("modal_rgb", "amodal_mask")}


@dataclass(frozen=True)
class ConditionLatents:
    """Encoded conditions of one clip, reusable for any number of samples.

    Attributes:
        latents: (T, 8, h, w) condition A and B, unscaled. tokens: (T, C). noise: pixel noise that was added.
    """

    latents: torch.Tensor
    tokens: torch.Tensor
    noise: float


class DiffusionVASPipeline(DiffusionPipeline):
    """Conditional video diffusion on Stable Video Diffusion's classes (Diffusion-VAS, CVPR 2025).

    Args:
        vae, image_encoder, unet, scheduler, feature_extractor: the classes of SVD; the UNet has 12 input channels.
        stage: ``"amodal"`` (modal masks + depth -> amodal masks) or ``"content"`` (modal RGB + amodal masks -> RGB).
        defaults: measured defaults of this model: ``steps``, ``samples``, ``guidance``, ``threshold``.
    """

    model_cpu_offload_seq = "image_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        unet: UNetSpatioTemporalConditionModel,
        scheduler: EulerDiscreteScheduler,
        feature_extractor: CLIPImageProcessorPil,
        stage: str = "amodal",
        defaults: dict[str, Any] | None = None,
    ):
        super().__init__()
        if stage not in CONDITIONS:
            raise ValueError(f"stage: expected one of {sorted(CONDITIONS)}, got {stage!r}")
        self.register_modules(
            vae=vae, image_encoder=image_encoder, unet=unet, scheduler=scheduler, feature_extractor=feature_extractor
        )
        self.register_to_config(
            stage=stage,
            defaults={"steps": 25, "samples": 1, "guidance": 1.5, "threshold": 200 / 255, **(defaults or {})},
        )

    @property
    def multiple(self) -> int:
        """Pixels that heights and widths must be a multiple of: the VAE and the UNet each halve them level by level."""
        levels = len(self.vae.config.block_out_channels) + len(self.unet.config.block_out_channels) - 2
        return int(2**levels)

    def check_inputs(
        self, condition_a: torch.Tensor, condition_b: torch.Tensor | None, steps: int, guidance: float
    ) -> None:
        """Raise ValueError, naming what is wrong, unless both are (T, 3, H, W) alike, of a size the networks take."""
        name_a, name_b = CONDITIONS[self.config.stage]
        shape, by = tuple(condition_a.shape), self.multiple
        if len(shape) != 4 or shape[0] < 1 or shape[1] != 3 or min(shape[2:]) < by or shape[2] % by or shape[3] % by:
            raise ValueError(f"{name_a}: expected (T, 3, H, W) with H and W multiples of {by}, got {shape}")
        if condition_b is not None and tuple(condition_b.shape) != shape:
            raise ValueError(f"{name_b}: expected {shape} like {name_a}, got {tuple(condition_b.shape)}")
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        if guidance < 0:
            raise ValueError(f"guidance: expected 0 or more, got {guidance}")

    @torch.no_grad()
    def encode_conditions(
        self,
        condition_a: torch.Tensor,
        condition_b: torch.Tensor | None,
        generator: torch.Generator,
        noise: float = conditioning.CONDITION_NOISE,
    ) -> ConditionLatents:
        """Latents and tokens of one clip's conditions, with the pixel noise that training had.

        Args:
            condition_a: (T, 3, H, W) in [-1, 1]. condition_b: the same, or None for "not known" (zero latents).
        """
        device = self._execution_device
        size = self.image_encoder.config.image_size
        clean = condition_a.to(device)
        tokens = conditioning.clip_tokens(self.image_encoder, conditioning.clip_pixels(clean, size)[None])[0]
        a = conditioning.encode(self.vae, conditioning.add_pixel_noise(clean, noise, generator))
        if condition_b is None:
            b = torch.zeros_like(a)
        else:
            b = conditioning.encode(self.vae, conditioning.add_pixel_noise(condition_b.to(device), noise, generator))
        return ConditionLatents(torch.cat([a, b], 1), tokens, noise)

    @torch.no_grad()
    def denoise(
        self,
        conditions: ConditionLatents,
        generator: torch.Generator,
        steps: int,
        guidance: float,
        on_step: Callable[[], None] | None = None,
    ) -> torch.Tensor:
        """One sample: (T, 4, h, w) float32 scaled latents after ``steps`` Euler steps from pure noise."""
        device, dtype = self._execution_device, self.unet.dtype
        frames, _, h, w = conditions.latents.shape
        self.scheduler.set_timesteps(steps, device=device)
        shape = (1, frames, self.unet.config.out_channels, h, w)
        z = (
            torch.randn(shape, generator=generator, device=generator.device).to(device)
            * self.scheduler.init_noise_sigma
        )
        guided = guidance != 1.0
        latents, tokens = conditions.latents[None].to(dtype), conditions.tokens[None].to(dtype)
        if guided:  # null half first, then the conditional one, for latents and tokens alike
            latents = torch.cat([torch.zeros_like(latents), latents])
            tokens = torch.cat([torch.zeros_like(tokens), tokens])
        ids = conditioning.time_ids(torch.full((len(latents),), conditions.noise, device=device)).to(dtype)
        for t in self.scheduler.timesteps:
            x = self.scheduler.scale_model_input(z, t).to(dtype).expand(len(latents), *shape[1:])
            out = self.unet(torch.cat([x, latents], 2), t, tokens, added_time_ids=ids, return_dict=False)[0].float()
            if guided:
                out = out[:1] + guidance * (out[1:] - out[:1])
            z = self.scheduler.step(out, t, z).prev_sample
            if on_step is not None:
                on_step()
        return z[0]

    @torch.no_grad()
    def __call__(
        self,
        condition_a: torch.Tensor,
        condition_b: torch.Tensor | None,
        *,
        generator: torch.Generator,
        steps: int | None = None,
        guidance: float | None = None,
        noise: float = conditioning.CONDITION_NOISE,
    ) -> torch.Tensor:
        """One sample of the target of this stage.

        Args:
            condition_a, condition_b: (T, 3, H, W) in [-1, 1], named by ``CONDITIONS[stage]``; B may be None.
            generator: draws the noise of condition A, of condition B, and the initial latents, in this order.
            steps, guidance: the model's measured defaults where None. Guidance 1 runs without the null half.

        Returns:
            (T, 3, H, W) float32 in [0, 1]: masks as three equal channels, or RGB.

        Raises:
            ValueError: names the condition or number that is wrong, what was expected and what came.
        """
        steps = self.config.defaults["steps"] if steps is None else steps
        guidance = self.config.defaults["guidance"] if guidance is None else guidance
        self.check_inputs(condition_a, condition_b, steps, guidance)
        conditions = self.encode_conditions(condition_a, condition_b, generator, noise)
        return self.decode(self.denoise(conditions, generator, steps, guidance))

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(T, 3, H, W) float32 in [0, 1] from the scaled latents of one clip."""
        return (conditioning.decode(self.vae, latents) / 2 + 0.5).clamp(0, 1)
