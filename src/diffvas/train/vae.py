"""Train the small temporal VAE from scratch on masks, depth maps and RGB of synthetic scenes."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch.nn import functional as F

from diffvas import arrays
from diffvas.data.examples import child_seed
from diffvas.train.checkpoints import replace_folder
from diffvas.train.loop import Batch, LoopConfig, Objective, Report, report_lines, resolved, train
from diffvas.world.clip import SceneClip
from diffvas.world.flat import flat_scene
from diffvas.world.shards import SceneSet, open_dataset

# a batch: short clips of consecutive frames, at the size the models work at; with 2 frames torch 2.13's bfloat16
# convolution over time gives wrong gradients on CPUs (oneDNN), so not 2
CLIPS, FRAMES, SIZE = 2, 4, (64, 128)


def tiny_vae() -> AutoencoderKLTemporalDecoder:
    """F = 8, 4 latent channels, 2.85 M parameters; latents come out with unit scale, see ``rescale_latents``."""
    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 64, 128),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        scaling_factor=1.0,
    )


@lru_cache(maxsize=24)
def _scene(folder: Path, index: int) -> SceneClip:
    return _clips(folder).read(index, ("rgb", "content"))


@lru_cache(maxsize=2)
def _clips(folder: Path) -> SceneSet:
    return open_dataset(folder)


class VaeBatches:
    """Batches of short clips; every clip shows one kind of picture that the pipelines encode.

    Args:
        stage: what the pictures are like: masks and depth above all for "amodal", the object's colours for "content".
        seed: of all draws. scenes: a folder of scene clips that half of the clips come from; the flat world where None.
    """

    kinds = ("mask", "depth", "object", "visible", "frame")
    shares: ClassVar = {"amodal": (0.55, 0.25, 0.10, 0.05, 0.05), "content": (0.15, 0.0, 0.45, 0.3, 0.1)}

    def __init__(self, stage: str, seed: int, scenes: Path | None = None):
        self.stage, self.seed = stage, seed
        self.scenes, self.count = scenes, len(_clips(scenes)) if scenes else 0

    def __getitem__(self, step: int) -> Batch:
        clips = [self.one(step, k) for k in range(CLIPS)]
        return {"x": torch.stack([c[0] for c in clips]), "mask": torch.tensor([c[1] for c in clips])}

    def draw_scene(self, rng: np.random.Generator, key: list[int], colour: bool) -> SceneClip:
        """Half from the folder, where there is one; a drawn scene serves several steps, since reading it is slow."""
        if self.scenes and rng.random() < 0.5:
            shelf = np.random.default_rng(child_seed([self.seed, key[1] // 100], 2)).integers(self.count, size=16)
            return _scene(self.scenes, int(shelf[int(rng.integers(16))]))
        return flat_scene(child_seed(key, 1).generate_state(4).tolist(), (128, 256), FRAMES, colour=colour)

    @staticmethod
    def corner(mask: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
        """Top left corner of a window of ``size``, three times in four on the object."""
        room = (mask.shape[0] - size[0] + 1, mask.shape[1] - size[1] + 1)
        on = np.argwhere(mask)
        if not len(on) or rng.random() < 0.25:
            return int(rng.integers(room[0])), int(rng.integers(room[1]))
        middle = on[int(rng.integers(len(on)))] - np.array(size) // 2
        return int(np.clip(middle[0], 0, room[0] - 1)), int(np.clip(middle[1], 0, room[1] - 1))

    def one(self, step: int, k: int) -> tuple[torch.Tensor, bool]:
        """(FRAMES, 3, 64, 128) in [-1, 1], and whether it is a mask."""
        rng = np.random.default_rng(child_seed([self.seed, step, k], 0))
        kind = str(rng.choice(self.kinds, p=self.shares[self.stage]))
        scene = self.draw_scene(rng, [self.seed, step, k], kind not in ("mask", "depth"))
        i = int(rng.integers(len(scene.amodal_masks)))
        t = int(rng.integers(0, len(scene.depth) - FRAMES + 1))
        y, x = self.corner(scene.amodal_masks[i, t], SIZE, rng)
        window = (slice(t, t + FRAMES), slice(y, y + SIZE[0]), slice(x, x + SIZE[1]))
        if kind == "mask":
            masks = scene.modal_mask(i) if rng.random() < 0.5 else scene.amodal_masks[i]
            return arrays.masks_to_signed(masks[window]), True
        if kind == "depth":
            return arrays.depth_to_signed(arrays.normalise_depth(1.0 / scene.depth)[window]), False
        if kind == "object":
            return arrays.to_signed(tint(scene.amodal_rgb_u8[i][window], scene.amodal_masks[i][window], rng)), False
        frame = scene.frames_u8[window]
        mask = scene.modal_mask(i)[window] if kind == "visible" else np.ones(frame.shape[:3], bool)
        return arrays.to_signed(tint(frame, mask, rng)), False


def tint(rgb_u8: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other colours: channels swapped, saturation and contrast changed; white outside ``mask``.

    Args:
        rgb_u8: (T, H, W, 3) uint8. mask: (T, H, W) bool.
    """
    rgb = rgb_u8[..., rng.permutation(3)].astype(np.float32)
    grey = rgb.mean(-1, keepdims=True)
    rgb = grey + (rgb - grey) * rng.uniform(0.8, 2.5)
    rgb = 128 + (rgb - 128) * rng.uniform(0.6, 1.3) + rng.uniform(-25, 25)
    return arrays.composite_on_white(rgb.clip(0, 255).astype(np.uint8), mask)


def draw(batch: Batch, generator: torch.Generator) -> Batch:
    """The batch and ``noise`` (B, T, 4, H/8, W/8), which makes a sample of the posterior."""
    clips, frames, _, height, width = batch["x"].shape
    return {**batch, "noise": torch.randn(clips, frames, 4, height // 8, width // 8, generator=generator)}


def vae_loss(
    vae: AutoencoderKLTemporalDecoder, batch: Batch, thumbnail: float = 0.0
) -> tuple[torch.Tensor, dict[str, float]]:
    """L1 + MSE of the reconstruction + a light KL, as latent diffusion's autoencoders use; chroma counts three times.

    Args:
        batch: ``x`` (B, T, 3, H, W) in [-1, 1], ``mask`` (B,) bool, and what ``draw`` adds.
        thumbnail: weight of the error between the first three latents and the picture's colours at an eighth of its
            size.
            A small autoencoder spends its four latents on brightness first and finds colour very late, or never (2,300
            steps were not enough); with the colours laid out for it, it starts with them.
    """
    frames = batch["x"].shape[1]
    x, is_mask = batch["x"].flatten(0, 1), batch["mask"].repeat_interleave(frames)
    posterior = vae.encode(x).latent_dist
    z = posterior.mean + posterior.std * batch["noise"].flatten(0, 1)
    y = vae.decode(z, num_frames=frames).sample.float()
    difference = y - x
    chroma = difference - difference.mean(1, keepdim=True)
    error = difference.abs() + difference.pow(2) + 3 * (chroma.abs() + chroma.pow(2))
    if thumbnail:  # most of such a picture is white, which is soon learned
        error = error * torch.where(x.amin(1, keepdim=True) < 0.98, 3.0, 1.0)
    error = error.mean()
    kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    if thumbnail:
        error = error + thumbnail * F.mse_loss(posterior.mean[:, :3].float(), 2 * F.avg_pool2d(x, 8))
    numbers = {}
    with torch.no_grad():
        if (~is_mask).any():
            numbers["mse_rgb"] = round(difference[~is_mask].pow(2).mean().item(), 4)
        if is_mask.any():
            hit, true = (y > 0).all(1)[is_mask], (x > 0).all(1)[is_mask]
            numbers["mask_iou"] = round(((hit & true).sum() / (hit | true).sum().clamp(min=1)).item(), 4)
    return error + 1e-4 * kl, numbers


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


def train_vae(
    out: Path,
    config: LoopConfig,
    stage: str = "amodal",
    scenes: Path | None = None,
    report: Report = report_lines,
) -> None:
    """Train, rescale and save to ``out/vae``.

    Args:
        stage: whose pictures to learn, see ``VaeBatches``. scenes: folder of scene clips to use beside the flat world.
    """
    config = resolved(config)
    torch.manual_seed(config.seed)
    vae = tiny_vae()
    source = VaeBatches(stage, config.seed, scenes)
    thumbnail = 0.3 if stage == "content" else 0.0
    extra: dict[str, Any] = {"preset": "vae", "stage": stage, "scenes": str(scenes)}
    objective = Objective(partial(vae_loss, thumbnail=thumbnail), draw)

    def keep(step: int, average: dict[str, torch.Tensor]) -> None:
        if step == config.steps:
            save_vae(average, source, out / "vae")

    train(vae, source, objective, config, out, extra_config=extra, every=keep, report=report)


def save_vae(average: dict[str, torch.Tensor], source: VaeBatches, folder: Path) -> None:
    """The finished VAE, its latents rescaled on held-out batches."""
    vae = tiny_vae()
    vae.load_state_dict({k: v.cpu() for k, v in average.items()})
    vae.eval()
    rescale_latents(vae, torch.cat([source[10_000_000 + k]["x"].flatten(0, 1) for k in range(16)]))
    replace_folder(folder, vae.save_pretrained)
