"""Train the small temporal VAE from scratch on masks, depth maps and RGB of synthetic scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch.nn import functional as F

from diffvas import arrays
from diffvas.train.loop import Batch, LoopConfig, train
from diffvas.world.flat import flat_scene

FRAMES = 4  # consecutive frames of one scene that the temporal decoder sees together
CROP = (64, 128)


def tiny_vae() -> AutoencoderKLTemporalDecoder:
    """F = 8, 4 latent channels, 2.9 M parameters; latents come out with unit scale, see ``rescale_latents``."""
    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 64, 128),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        scaling_factor=1.0,
    )


class VaeBatches:
    """Batches of ``sequences`` short clips; every clip shows one kind of picture that the pipelines encode."""

    kinds = ("mask", "depth", "object", "visible", "frame")
    shares = (0.28, 0.08, 0.34, 0.18, 0.12)

    def __init__(self, seed: int, sequences: int = 2):
        self.seed, self.sequences = seed, sequences

    def __getitem__(self, step: int) -> Batch:
        clips = [
            self.one(np.random.default_rng([self.seed, step, k]), [self.seed, step, k]) for k in range(self.sequences)
        ]
        return {"x": torch.cat([c[0] for c in clips]), "mask": torch.tensor([c[1] for c in clips])}

    def one(self, rng: np.random.Generator, seed: list[int]) -> tuple[torch.Tensor, bool]:
        """(FRAMES, 3, 64, 128) in [-1, 1], and whether it is a mask."""
        large = rng.random() < 0.6
        kind = str(rng.choice(self.kinds, p=self.shares))
        scene = flat_scene(seed, (128, 256) if large else CROP, FRAMES, colour=kind not in ("mask", "depth"))
        i = int(rng.integers(len(scene.amodal_masks)))
        y, x = (int(rng.integers(0, 65)), int(rng.integers(0, 129))) if large else (0, 0)
        window = (slice(None), slice(y, y + CROP[0]), slice(x, x + CROP[1]))
        if kind == "mask":
            masks = scene.modal_mask(i) if rng.random() < 0.5 else scene.amodal_masks[i]
            return arrays.masks_to_signed(masks[window]), True
        if kind == "depth":
            return arrays.depth_to_signed(arrays.normalise_depth(1.0 / scene.depth)[window]), False
        if kind == "object":
            rgb = scene.amodal_rgb_u8[i]
        elif kind == "visible":
            rgb = arrays.composite_on_white(scene.frames_u8, scene.modal_mask(i))
        else:
            rgb = scene.frames_u8
        return arrays.to_signed(rgb[window]), False


def vae_loss(
    vae: AutoencoderKLTemporalDecoder, batch: Batch, generator: torch.Generator
) -> tuple[torch.Tensor, dict[str, float]]:
    """L1 + MSE of the reconstruction + a light KL, as latent diffusion's autoencoders use."""
    x, is_mask = batch["x"], batch["mask"].repeat_interleave(FRAMES)
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample(generator), num_frames=FRAMES).sample.float()
    error = F.l1_loss(y, x, reduction="none").mean((1, 2, 3)) + F.mse_loss(y, x, reduction="none").mean((1, 2, 3))
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    with torch.no_grad():
        rgb = F.mse_loss(y, x, reduction="none").mean((1, 2, 3))[~is_mask]
        hit, true = (y > 0).all(1)[is_mask], (x > 0).all(1)[is_mask]
        iou = (hit & true).sum() / (hit | true).sum().clamp(min=1)
    return error.mean() + 1e-4 * kl, {"mse_rgb": round(rgb.mean().item(), 4), "mask_iou": round(iou.item(), 4)}


@torch.no_grad()
def rescale_latents(vae: AutoencoderKLTemporalDecoder, x: torch.Tensor) -> float:
    """Fold one factor into the quantising convolutions so that latents have standard deviation 1; returns the old one.

    The paper leaves condition latents unscaled and multiplies target latents by ``scaling_factor``; with unit latents
    and ``scaling_factor = 1`` both are of the size that a network trained from scratch wants.
    """
    moments = vae.quant_conv(vae.encoder(x))
    deviation = moments[:, :4].std().item()
    vae.quant_conv.weight[:4] /= deviation
    vae.quant_conv.bias[:4] /= deviation
    vae.quant_conv.bias[4:] -= 2 * float(np.log(deviation))
    # diffusers' temporal decoder has no post_quant_conv: its first convolution takes the factor back
    vae.decoder.conv_in.weight *= deviation
    return deviation


def train_vae(out: Path, config: LoopConfig) -> AutoencoderKLTemporalDecoder:
    """Train, rescale and save to ``out/vae``."""
    torch.manual_seed(config.seed)
    vae = tiny_vae()
    source = VaeBatches(config.seed)
    average = train(vae, source, lambda b, g: vae_loss(vae, b, g), config, out, extra_config={"preset": "vae"})
    vae.load_state_dict(average)
    vae.eval()
    rescale_latents(vae, torch.cat([source[10_000_000 + k]["x"] for k in range(16)]))
    vae.save_pretrained(out / "vae")
    return vae
