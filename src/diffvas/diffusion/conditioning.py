"""What the UNet is told: condition latents, CLIP tokens, time ids. The same code for training and inference."""

from __future__ import annotations

from collections.abc import Iterator

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


def decode_chunks(vae: AutoencoderKLTemporalDecoder, z: torch.Tensor, chunk: int = 8) -> Iterator[torch.Tensor]:
    """Frames from scaled latents of one clip, ``chunk`` consecutive frames at a time (its convolutions over time see no
    further).

    Args:
        z: (T, 4, h, w), scaled by the VAE's ``scaling_factor``.

    Yields:
        (up to chunk, 3, 8h, 8w) float32, about [-1, 1], not clamped, on the VAE's device.
    """
    z = z.to(vae.dtype) / vae.config.scaling_factor
    for part in z.split(chunk):
        yield vae.decode(part, num_frames=len(part)).sample.float()


def decode(vae: AutoencoderKLTemporalDecoder, z: torch.Tensor, chunk: int = 8) -> torch.Tensor:
    """(T, 3, 8h, 8w) float32: all of ``decode_chunks`` at once."""
    return torch.cat(list(decode_chunks(vae, z, chunk)))


def remap_nonnegative(x: torch.Tensor) -> torch.Tensor:
    """``2x - 1`` once more for every frame of (T, 3, H, W) without a negative value, as the reference's image processor
    does to bright or near frames; only for results like its own."""
    bright = x.flatten(1).amin(1) >= 0
    return torch.where(bright[:, None, None, None], x * 2 - 1, x)


def shrink(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize as SVD does before its CLIP tower: a Gaussian against aliasing, then bicubic with corners aligned.

    Args:
        x: (N, C, H, W) float32. size: (height, width); larger than H, W will do too.
    """
    for axis, (have, want) in enumerate(zip(x.shape[2:], size, strict=True)):
        sigma = max((have / want - 1) / 2, 0.001)
        radius = max(int(max(4 * sigma, 3)) // 2, 1)
        at = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-(at**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
        shape, pad = ((-1, 1), (0, 0, radius, radius)) if axis == 0 else ((1, -1), (radius, radius, 0, 0))
        x = F.conv2d(F.pad(x, pad, mode="reflect"), kernel.unflatten(2, shape), groups=x.shape[1])
    return F.interpolate(x, size, mode="bicubic", align_corners=True)


def clip_pixels(x: torch.Tensor, image_size: int) -> torch.Tensor:
    """Frames as a CLIP tower wants them: shrunk to a square, with CLIP's normalisation.

    Args:
        x: (N, 3, H, W) in [-1, 1].

    Returns:
        (N, 3, image_size, image_size) float32.
    """
    x = shrink(x.float(), (image_size, image_size))
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
