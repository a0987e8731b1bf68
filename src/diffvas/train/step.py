"""A training step of a denoiser in two pure parts: what is drawn for a batch, and the loss of it.

A step is ``loss(model, draw(batch, generator, config), config)``. Everything is drawn per clip; the second part has
nothing random in it, so that a batch can be shared out to processes after drawing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn import functional as F

from diffvas.diffusion import conditioning, edm
from diffvas.train.config import BLIND, DenoiserConfig
from diffvas.train.loop import Batch, Objective

LEAST_LEVEL = 0.05  # below, a noisy latent is all but clean and there is nothing to finish
SHARPNESS = 4.0  # decoded masks run from -1 to 1: as logits, 1 is a probability of 0.98


def finish_levels(steps: tuple[int, ...]) -> list[float]:
    """The noise levels that Euler's method visits in these numbers of steps, below the highest, falling."""
    visited = {float(sigma) for n in steps for sigma in edm.karras_sigmas(n)[1:-1]}
    return sorted((sigma for sigma in visited if sigma >= LEAST_LEVEL), reverse=True)


def draw(batch: Batch, generator: torch.Generator, config: DenoiserConfig) -> Batch:
    """A batch and the random numbers that go with it, in this order: noise level, dropout, noise, start frame.

    Args:
        batch: from ``CachedClips``: ``a``, ``b``, ``target`` (B, T, 4, h, w) float16, and more.

    Returns:
        The batch with ``level`` (B,) noise level, ``keep`` (B, 3) 0/1 for tokens, latents, second condition, ``noise``
        (B, T, 4, h, w), and ``first`` (B,) in [0, 1): where the decoded frames begin.
    """
    shape = batch["target"].shape
    count = shape[0]
    if config.objective == "regression":
        level = torch.full((count,), edm.SIGMA_MAX)
    elif config.objective == "finish":
        level = torch.full((count,), edm.SIGMA_MAX)
        lower = torch.tensor(finish_levels(config.levels))
        top, which = torch.rand(2, count, generator=generator)
        if len(lower):
            level = torch.where(top < config.noise_top, level, lower[(which * len(lower)).long()])
    else:
        levels = edm.NoiseLevels(config.noise_mean, config.noise_deviation, config.noise_top)
        level = levels.sample(count, generator)
    p = torch.rand(2, count, generator=generator)
    after_all, after_tokens = config.drop_all, config.drop_all + config.drop_tokens
    after_latents = after_tokens + config.drop_latents
    tokens = p[0] >= after_tokens
    latents = (p[0] >= after_latents) | ((p[0] >= after_all) & (p[0] < after_tokens))
    keep = torch.stack([tokens, latents, latents & (p[1] >= config.drop_b)], 1).float()
    noise = torch.randn(shape, generator=generator)
    if "a" + BLIND in batch:
        batch = without_depth(batch, keep[:, 2] == 0 if "b" in config.inputs else torch.ones(count, dtype=torch.bool))
    return {**batch, "level": level, "keep": keep, "noise": noise, "first": torch.rand(count, generator=generator)}


def without_depth(batch: Batch, rows: torch.Tensor) -> Batch:
    """The batch with what is told without depth in some rows (B,) bool; see ``CacheConfig.memory``."""
    out = {name: value for name, value in batch.items() if not name.endswith(BLIND)}
    for name, value in batch.items():
        if name.endswith(BLIND):
            told = out[name.removesuffix(BLIND)]
            out[name.removesuffix(BLIND)] = torch.where(rows.view(-1, *[1] * (told.dim() - 1)), value, told)
    return out


def denoise(model: Any, batch: Batch, z: torch.Tensor, sigma: torch.Tensor, config: DenoiserConfig) -> torch.Tensor:
    """The estimate D (B, T, 4, h, w) float32 of the clean latents; also what validation and sampling call.

    Args:
        batch: conditions: ``a``, ``b``, ... latents, ``pixels`` (B, T, c, S, S) uint8 or ``tokens`` (B, T, C),
            ``sigma`` (B,) condition noise; ``keep`` (B, 3) where something is dropped.
        z: (B, T, 4, h, w) noisy latents. sigma: (B,) their noise levels.
    """
    keep = batch.get("keep")
    if "tokens" in batch:
        tokens = batch["tokens"].float()
    else:
        pixels = (batch["pixels"].float() / 127.5 - 1).expand(-1, -1, 3, -1, -1)
        size = model.tower.config.image_size
        resized = conditioning.clip_pixels(pixels.flatten(0, 1), size).unflatten(0, pixels.shape[:2])
        tokens = conditioning.clip_tokens(model.tower, resized)
    seen = [batch[key].float() for key in config.inputs]
    if keep is not None:
        tokens = tokens * edm.like(keep[:, 0], tokens)
        seen = [x * edm.like(keep[:, 2 if k == 1 else 1], x) for k, x in enumerate(seen)]
    x = torch.cat([edm.c_in(edm.like(sigma, z)) * z, *seen], 2)
    ids = conditioning.time_ids(batch["sigma"])
    out = model.unet(x, edm.c_noise(sigma), tokens, added_time_ids=ids, return_dict=False)[0]
    return edm.denoised(z, out.float(), sigma)


def diffusion_loss(model: Any, batch: Batch, config: DenoiserConfig) -> tuple[torch.Tensor, dict[str, float]]:
    """EDM's weighted error of the denoised latents; for regression, that of one step from zeros.

    Regression is the same network at the highest noise level with no noise: there c_skip is nought, c_out is -1 and the
    weight is 1, so that the loss is the plain squared error of the latents.

    Returns:
        The mean over the batch; ``top``, the mean of the samples at the highest noise level, where there are any.
    """
    z0, sigma = batch["target"].float(), batch["level"]
    if config.objective == "regression":
        z = torch.zeros_like(z0)
    else:
        z = z0 + edm.like(sigma, z0) * batch["noise"]
    estimate = denoise(model, batch, z, sigma, config)
    per_sample = edm.denoising_loss(estimate, z0, sigma, emphasis(batch, config))
    at_top = per_sample[sigma >= edm.SIGMA_MAX]
    logged = {"top": at_top.mean().item()} if len(at_top) and config.objective == "diffusion" else {}
    return per_sample.mean(), logged


def emphasis(batch: Batch, config: DenoiserConfig) -> torch.Tensor | None:
    """(B, T, 1, h, w) factors of the squared error of latents, or None for ones."""
    if not config.hidden_weight:
        return None
    h, w = batch["target"].shape[-2:]
    return 1 + config.hidden_weight * hidden_share(batch, (h, w))


def unpack(bits: torch.Tensor) -> torch.Tensor:
    """(..., W/8) packed uint8 -> (..., W) float32 0/1."""
    shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return ((bits[..., None] >> shifts) & 1).flatten(-2).float()


def hidden_share(batch: Batch, size: tuple[int, int]) -> torch.Tensor:
    """(B, T, 1, h, w) share of each latent cell in which the object is there but hidden."""
    hidden = unpack(batch["amodal"]) * (1 - unpack(batch["modal"]))
    return F.adaptive_avg_pool2d(hidden, size)[:, :, None]


PREFER = 6.0  # how much likelier a frame with hidden pixels is to be decoded: others teach little about hidden shapes
LEAST_HIDDEN = 16  # pixels


def finish_loss(model: Any, batch: Batch, config: DenoiserConfig) -> tuple[torch.Tensor, dict[str, float]]:
    """One or few steps judged by what comes out: the estimate is decoded and compared with the truth in pixels.

    At the highest level the input is noise (or zeros), as a sampler starts. Below it, the input is what the sampler
    would have there: its own first estimate plus noise (Euler's first step from a level that high gives exactly
    that, but for a share sigma / 700 of the error), so that the model learns to mend its own mistakes.

    Args:
        model: with ``vae``, whose decoder is used.

    Returns:
        pixel_weight * (loss on pixels) + latent_weight * (squared error of the latents), and both parts to log.
    """
    z0, sigma = batch["target"].float(), batch["level"]
    noise = torch.zeros_like(z0) if config.zero_noise else batch["noise"]
    start = edm.SIGMA_MAX * noise
    z = start
    below = sigma < edm.SIGMA_MAX
    if below.any():
        with torch.no_grad():
            first = denoise(model, batch, start, torch.full_like(sigma, edm.SIGMA_MAX), config)
        z = torch.where(edm.like(below, z0), first + edm.like(sigma, z0) * noise, start)
    estimate = denoise(model, batch, z, sigma, config)
    error = (estimate - z0) ** 2
    weights = emphasis(batch, config)
    latent = (error if weights is None else error * weights).mean()
    hidden = (unpack(batch["amodal"]) > unpack(batch["modal"])).flatten(2).sum(2)
    frames = pick_frames(batch["first"], hidden >= LEAST_HIDDEN, config.pixel_frames)
    decoded = decode(model.vae, take(estimate, frames))
    if config.stage == "amodal":
        amodal, modal = (take(unpack(batch[k]), frames) for k in ("amodal", "modal"))
        pixel, numbers = mask_loss(decoded.mean(2), amodal, modal, config.hidden_weight)
    else:
        with torch.no_grad():
            truth = decode(model.vae, take(z0, frames))
        pixel, numbers = colour_loss(decoded, truth), {}
    numbers |= {"latent": latent.item(), "pixel": pixel.item()}
    return config.pixel_weight * pixel + config.latent_weight * latent, numbers


def pick_frames(first: torch.Tensor, wanted: torch.Tensor, count: int) -> torch.Tensor:
    """(B, min(count, T)) long: consecutive frames of every clip, those with wanted ones among them ``PREFER`` times as
    likely.

    Args:
        first: (B,) in [0, 1), what is drawn. wanted: (B, T) bool.
    """
    count = min(count, wanted.shape[1])
    weight = 1 + (PREFER - 1) * wanted.unfold(1, count, 1).any(2).float()  # (B, T - count + 1), by first frame
    share = weight.cumsum(1) / weight.sum(1, keepdim=True)
    start = (first[:, None] >= share[:, :-1]).sum(1)
    return start[:, None] + torch.arange(count, device=first.device)


def take(x: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """``x`` (B, T, ...) at ``frames`` (B, F) -> (B, F, ...)."""
    return x[torch.arange(len(x), device=x.device)[:, None], frames]


def decode(vae: Any, z: torch.Tensor) -> torch.Tensor:
    """(B, F, 4, h, w) scaled latents -> (B, F, 3, 8h, 8w) float32, about [-1, 1]; with gradients."""
    flat = z.flatten(0, 1) / vae.config.scaling_factor
    return vae.decode(flat, num_frames=z.shape[1]).sample.float().unflatten(0, z.shape[:2])


def mask_loss(
    decoded: torch.Tensor, amodal: torch.Tensor, modal: torch.Tensor, hidden_weight: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """Cross-entropy, Dice and squared error of decoded masks, with a Dice of the hidden part alone.

    What is visible is known and added at the end whatever the model says, so IoU of the hidden part is decided
    outside the visible mask; the second Dice looks there only.

    Args:
        decoded: (B, F, H, W), -1 outside and 1 inside. amodal, modal: (B, F, H, W) 0/1.
        hidden_weight: extra weight of cross-entropy and squared error where the object is hidden.

    Returns:
        The loss, and ``iou_occ``: IoU of the hidden part over the batch, cut at 0.5.
    """
    weight = 1 + hidden_weight * amodal * (1 - modal)
    logits = SHARPNESS * decoded
    entropy = F.binary_cross_entropy_with_logits(logits, amodal, weight)
    square = (weight * (decoded - (2 * amodal - 1)) ** 2).mean()
    p, outside = torch.sigmoid(logits), 1 - modal
    whole, hidden = dice_loss(p, amodal), dice_loss(p * outside, amodal * outside)
    with torch.no_grad():
        found, there = (decoded > 0) & (outside > 0), (amodal * outside) > 0
        union = (found | there).sum().item()
        numbers = {"iou_occ": (found & there).sum().item() / union} if union else {}
    return entropy + 0.25 * square + whole + hidden, numbers


def dice_loss(p: torch.Tensor, truth: torch.Tensor, smooth: float = 64.0) -> torch.Tensor:
    """1 - Dice of every clip, then the mean; ``smooth`` (pixels) makes small and empty truths count little."""
    both = (p * truth).flatten(1).sum(1)
    each = (p + truth).flatten(1).sum(1)
    return (1 - (2 * both + smooth) / (each + smooth)).mean()


def colour_loss(decoded: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean absolute and squared error of RGB; three times as much where the truth is not white."""
    object_ = (truth.amin(2, keepdim=True) < 0.9).float()
    difference = (decoded - truth).abs()
    return ((1 + 2 * object_) * (difference + difference**2)).mean()


def objective(config: DenoiserConfig) -> Objective:
    """What ``train`` minimises for a configuration."""
    loss = finish_loss if config.objective == "finish" else diffusion_loss
    return Objective(partial(loss, config=config), partial(draw, config=config))
