"""What the UNet is told: condition latents, CLIP tokens, time ids. The same code for training and inference."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection

CONDITION_NOISE = 0.02  # pixel noise on conditions at inference, told to the network in the added time ids
TRAIN_FPS, MOTION_BUCKET = 8, 127  # the two other time ids, constant in training (method.md)

# CLIP's published normalisation of RGB in [0, 1] (Radford et al. 2021)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def add_pixel_noise(x: torch.Tensor, sigma: float, generator: torch.Generator) -> torch.Tensor:
    """``x`` plus Gaussian noise of standard deviation ``sigma``, drawn in float32 on the generator's device."""
    noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return x + sigma * noise.to(x.device, x.dtype)


def encode(vae: AutoencoderKLTemporalDecoder, x: torch.Tensor, chunk: int = 8) -> torch.Tensor:
    """Unscaled latent means of images, ``chunk`` at a time.

    Args:
        x: (N, 3, H, W) in [-1, 1]; H and W divisible by 8.

    Returns:
        (N, 4, H/8, W/8), in the VAE's dtype.
    """
    return torch.cat([vae.encode(part.to(vae.dtype)).latent_dist.mode() for part in x.split(chunk)])


def decode(vae: AutoencoderKLTemporalDecoder, z: torch.Tensor, chunk: int = 8) -> torch.Tensor:
    """Frames from scaled latents of one clip, ``chunk`` consecutive frames at a time.

    Args:
        z: (T, 4, h, w), scaled by the VAE's ``scaling_factor``.

    Returns:
        (T, 3, 8h, 8w) float32, about [-1, 1], not clamped.
    """
    z = z.to(vae.dtype) / vae.config.scaling_factor
    return torch.cat([vae.decode(part, num_frames=len(part)).sample.float() for part in z.split(chunk)])


def clip_pixels(x: torch.Tensor, image_size: int) -> torch.Tensor:
    """Frames as a CLIP tower wants them: anti-aliased bicubic to a square, CLIP's normalisation.

    Args:
        x: (N, 3, H, W) in [-1, 1].

    Returns:
        (N, 3, image_size, image_size) float32.
    """
    x = F.interpolate(x.float(), (image_size, image_size), mode="bicubic", align_corners=True, antialias=True)
    mean = torch.tensor(CLIP_MEAN, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(CLIP_STD, device=x.device).view(1, 3, 1, 1)
    return ((x + 1) / 2 - mean) / std


def clip_tokens(tower: CLIPVisionModelWithProjection, pixels: torch.Tensor) -> torch.Tensor:
    """One token per frame. ``pixels``: (B, T, 3, S, S) from ``clip_pixels``; returns (B, T, C)."""
    flat = pixels.flatten(0, 1).to(tower.dtype)
    return tower(flat).image_embeds.unflatten(0, pixels.shape[:2])


def time_ids(noise: torch.Tensor, fps: int = TRAIN_FPS, motion_bucket: int = MOTION_BUCKET) -> torch.Tensor:
    """(B, 3) float32 ``[fps, motion bucket, condition noise]`` from the (B,) noise levels."""
    fixed = torch.tensor([[float(fps), float(motion_bucket)]], device=noise.device).expand(len(noise), 2)
    return torch.cat([fixed, noise.float()[:, None]], 1)
