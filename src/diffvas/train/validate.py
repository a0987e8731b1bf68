"""Held-out clips of a run: scores by the strict protocol and a picture, at the size of the cache."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffvas import arrays
from diffvas.diffusion import conditioning
from diffvas.diffusion.sampling import Sampling, sample
from diffvas.metrics import StrictScore
from diffvas.train.cache import fixed_clips
from diffvas.train.checkpoints import write_whole
from diffvas.train.config import DenoiserConfig
from diffvas.train.log import open_tensorboard, read_lines
from diffvas.train.loop import Batch, LoopConfig
from diffvas.train.step import denoise, unpack, without_depth

SHOWN, MOMENTS = 4, 6  # clips and frames of the picture
# visible, hidden and found, hidden and missed, wrongly claimed
COLOURS = ((235, 235, 235), (60, 190, 90), (220, 60, 50), (60, 110, 230))


@torch.no_grad()
def predict(model: Any, batch: Batch, config: DenoiserConfig, steps: int, seed: int) -> torch.Tensor:
    """(B, T, 4, h, w) latents as a pipeline draws them: Euler on Karras sigmas, without guidance.

    Regression is one step from zeros, whatever ``steps``.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = batch["target"].shape
    noise = torch.randn(shape, generator=generator).to(batch["target"].device)
    if config.objective == "regression" or config.zero_noise:
        noise = torch.zeros_like(noise)
    steps = 1 if config.objective == "regression" else steps

    def estimate(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return denoise(model, batch, z, sigma.to(z.device).expand(len(z)), config)

    return sample(estimate, noise, Sampling(steps=steps, guidance=1.0))


def soft_masks(decoded: torch.Tensor, stage: str) -> torch.Tensor:
    """(T, H, W) in [0, 1] from decoded frames (T, 3, H, W) in about [-1, 1].

    The end-to-end model draws the object on white: what is not white is object, fully so from a quarter of the range.
    """
    if stage == "end-to-end":
        return ((1 - decoded.amin(1)) * 2).clamp(0, 1)
    return (decoded.mean(1) / 2 + 0.5).clamp(0, 1)


def truth_of(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """(amodal, modal), each (T, H, W) bool, of a batch of one clip."""
    amodal, modal = (unpack(batch[name])[0].bool().cpu().numpy() for name in ("amodal", "modal"))
    return amodal, modal


def seed_of(seed: int, index: int) -> int:
    """The seed of a clip's noise: of the clip alone, not of the clips before it."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def predictions(
    model: Any, config: DenoiserConfig, folders: list[Path], count: int, steps: int, seed: int, samples: int = 1
) -> Iterator[tuple[Batch, list[torch.Tensor]]]:
    """Every fixed clip with ``samples`` predictions, decoded to (T, 3, H, W)."""
    device = next(model.unet.parameters()).device
    for index, batch in enumerate(fixed_clips(folders, count)):
        batch = {k: v.to(device) for k, v in batch.items()}
        if "b" not in config.inputs:
            batch = without_depth(batch, torch.ones(1, dtype=torch.bool, device=device))
        drawn = []
        for k in range(samples):
            latents = predict(model, batch, config, steps, seed_of(seed, index * 1000 + k))
            with torch.no_grad():
                drawn.append(conditioning.decode(model.vae, latents[0]))
        yield batch, drawn


def score(
    model: Any, config: DenoiserConfig, folders: list[Path], count: int, steps: int, seed: int = 0
) -> tuple[dict[str, float], np.ndarray]:
    """Scores of the fixed clips, and a picture of the first ones.

    Returns:
        For masks ``miou`` and ``miou_occ`` (threshold 0.5, strict protocol) and their N; for content ``psnr_occ``, dB
        in the hidden region against the decoded truth. The picture is (H, W, 3) uint8.
    """
    masks, errors = StrictScore(), []
    rows: list[np.ndarray] = []
    for batch, (decoded,) in predictions(model, config, folders, count, steps, seed):
        amodal, modal = truth_of(batch)
        if config.stage == "content":
            with torch.no_grad():
                truth = conditioning.decode(model.vae, batch["target"][0].float())
            hidden = torch.from_numpy(amodal & ~modal)[:, None].expand(-1, 3, -1, -1)
            errors.append(((decoded - truth).cpu()[hidden] / 2).square().numpy())
            if len(rows) < SHOWN:
                rows.append(np.concatenate([contact(x) for x in (decoded, truth)]))
            continue
        found = (soft_masks(decoded, config.stage) > 0.5).cpu().numpy()
        masks.update(found, amodal, modal)
        if len(rows) < SHOWN:
            rows.append(mask_row(found | modal, amodal, modal))
    picture = stack_rows(rows)
    if config.stage == "content":
        error = np.concatenate([*errors, np.empty(0)])
        psnr = -10 * math.log10(max(float(error.mean()), 1e-10)) if error.size else math.nan
        return {"psnr_occ": psnr, "clips": len(errors)}, picture
    computed = masks.compute(resamples=1)
    return {k: computed[k] for k in ("miou", "miou_occ", "clips", "frames", "frames_occ")}, picture


def moments(frames: int) -> np.ndarray:
    """The frames of a clip that are shown."""
    return np.linspace(0, frames - 1, min(MOMENTS, frames)).round().astype(int)


def contact(decoded: torch.Tensor) -> np.ndarray:
    """(H, n W, 3) uint8: some moments of decoded frames side by side."""
    shown = arrays.from_signed(decoded[moments(len(decoded))].cpu())
    return np.concatenate(list(shown), axis=1)


def mask_row(found: np.ndarray, amodal: np.ndarray, modal: np.ndarray) -> np.ndarray:
    """(H, n W, 3) uint8: visible white, hidden and found green, missed red, wrongly claimed blue."""
    out = np.zeros((*amodal.shape, 3), np.uint8)
    parts = (modal, amodal & ~modal & found, amodal & ~modal & ~found, found & ~amodal & ~modal)
    for part, colour in zip(parts, COLOURS, strict=True):
        out[part] = colour
    return np.concatenate(list(out[moments(len(out))]), axis=1)


def stack_rows(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of any size on one dark sheet."""
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((2, 2), (0, width - row.shape[1]), (0, 0)), constant_values=40) for row in rows]
    return np.concatenate(padded)


class Validation:
    """Scores and a picture of a run's held-out clips at its checkpoints: ``validation.jsonl`` and ``validation/``."""

    def __init__(self, model: Any, config: DenoiserConfig, loop: LoopConfig, out: Path):
        self.model, self.config, self.loop, self.out = model, config, loop, out
        self.path = out / "validation.jsonl"

    def __call__(self, step: int, average: dict[str, torch.Tensor]) -> None:
        """Score the averaged weights after ``step`` steps, where it is time to and it has not been done."""
        every = self.config.val_every or self.loop.save_every
        before = [line for line in read_lines(self.path) if line["step"] <= step]
        if (step % every and step != self.loop.steps) or any(line["step"] == step for line in before):
            return
        line, picture = self.measure(average)
        folder = self.out / "validation"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"step-{step:07d}.png", lambda p: Image.fromarray(picture).save(p, format="PNG"))
        text = "".join(json.dumps(each) + "\n" for each in [*before, {"step": step, **line}])
        write_whole(self.path, lambda p: p.write_text(text))
        if self.loop.tensorboard:
            board = open_tensorboard(self.out)
            for name, value in line.items():
                board.add_scalar(f"validation/{name}", value, step)
            board.add_image("validation", picture, step, dataformats="HWC")
            board.close()

    def measure(self, average: dict[str, torch.Tensor]) -> tuple[dict[str, float], np.ndarray]:
        """See ``score``; the model has its own weights back afterwards, whatever happens."""
        state = self.model.state_dict()
        own = {k: v.clone() for k, v in state.items() if v.data_ptr() != average[k].data_ptr()}
        training = self.model.training
        try:
            self.model.load_state_dict(average)
            self.model.eval()
            folders, config = [Path(folder) for folder in self.config.val], self.config
            return score(self.model, config, folders, config.val_clips, config.val_steps, self.loop.seed)
        finally:
            self.model.load_state_dict(own, strict=False)
            self.model.train(training)
