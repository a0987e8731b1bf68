"""Validation: the sampler that pipelines use, scores by hand, and the run's own weights back afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffvas.diffusion import conditioning
from diffvas.diffusion.sampling import Sampling
from diffvas.pipelines.diffusion_vas import ConditionLatents
from diffvas.train import validate
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import Denoiser, as_pipeline, tiny_denoiser
from diffvas.train.log import read_lines
from diffvas.train.loop import LoopConfig
from diffvas.train.vae import tiny_vae
from diffvas.train.validate import Validation, mask_row, predict, score, soft_masks
from train_factories import T, h, make_batch, w, write_cache


@pytest.fixture(scope="module")
def model() -> Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = tiny_denoiser().eval()
        made.vae = tiny_vae().eval()
    return made


@pytest.mark.parametrize("steps", [1, 3])
@torch.no_grad()
def test_predictions_are_the_pipelines(model: Denoiser, steps: int) -> None:
    batch = make_batch(1)
    ours = predict(model, batch, DenoiserConfig(), steps, 5)
    pipe = as_pipeline(model, model.vae, "amodal")  # type: ignore[arg-type]
    pixels = (batch["pixels"].float() / 127.5 - 1).expand(-1, -1, 3, -1, -1)
    tokens = conditioning.clip_tokens(model.tower, conditioning.clip_pixels(pixels[0], 64)[None])[0]
    latents = torch.cat([batch["a"], batch["b"]], 2)[0].float()
    conditions = ConditionLatents(latents, tokens, float(batch["sigma"]))
    generators = [torch.Generator().manual_seed(5)]
    theirs = pipe.denoise(conditions, generators, Sampling(steps=steps, guidance=1.0))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_regression_is_one_step_from_zeros(model: Denoiser) -> None:
    config, batch = DenoiserConfig(objective="regression"), make_batch(1)
    one = predict(model, batch, config, 1, 5)
    assert torch.equal(predict(model, batch, config, 25, 6), one)
    assert one.shape == (1, T, 4, h, w) and one.abs().max() > 0


def test_soft_masks() -> None:
    white = torch.ones(1, 3, 2, 2)
    white[0, :, 0, 0] = torch.tensor([-1.0, 1.0, 1.0])  # cyan: as far from white as black is
    assert soft_masks(white, "end-to-end")[0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert soft_masks(torch.zeros(1, 3, 1, 1), "amodal").item() == 0.5


def test_scores_by_hand(model: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    amodal, modal = np.zeros((2, T, 8 * h, 8 * w), bool), np.zeros((2, T, 8 * h, 8 * w), bool)
    amodal[:, :, 8:16, 8:40] = True
    modal[:, :, 8:16, 8:24] = True
    bits = {k: torch.from_numpy(np.packbits(m, axis=-1)) for k, m in (("amodal", amodal), ("modal", modal))}
    folder = write_cache(tmp_path / "val", count=2, **bits)
    found = np.zeros((T, 8 * h, 8 * w), np.float32)
    found[:, 8:16, 24:32] = 1  # half of the hidden part
    picture = torch.from_numpy(2 * found - 1)[:, None].expand(-1, 3, -1, -1)
    monkeypatch.setattr(validate.conditioning, "decode", lambda vae, z: picture)
    numbers, sheet = score(model, DenoiserConfig(), [folder], 2, 1)
    assert numbers == {"miou": 0.75, "miou_occ": 0.5, "clips": 2, "frames": 2 * T, "frames_occ": 2 * T}
    assert sheet.shape == (2 * (8 * h + 4), T * 8 * w, 3) and sheet.dtype == np.uint8
    row = mask_row(found.astype(bool) | modal[0], amodal[0], modal[0])
    colours = [tuple(row[8, x].tolist()) for x in (8, 24, 32, 40)]
    assert colours == [validate.COLOURS[0], validate.COLOURS[1], validate.COLOURS[2], (0, 0, 0)]


def test_content_is_scored_in_the_hidden_part(model: Denoiser, tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "val", count=1)
    numbers, sheet = score(model, DenoiserConfig("content"), [folder], 4, 1)
    assert numbers["clips"] == 1 and 0 < numbers["psnr_occ"] < 60
    assert sheet.shape == (2 * 8 * h + 4, T * 8 * w, 3)


def test_a_run_is_validated_once_a_checkpoint(model: Denoiser, tmp_path: Path) -> None:
    config = DenoiserConfig(val=(str(write_cache(tmp_path / "val")),), val_clips=2, val_every=4, vae="x")
    check = Validation(model, config, LoopConfig(steps=9), tmp_path)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    average = {k: torch.zeros_like(v) if k == "unet.conv_out.weight" else v for k, v in model.state_dict().items()}
    for step in (2, 4, 4, 9):
        check(step, average)
    assert [line["step"] for line in read_lines(tmp_path / "validation.jsonl")] == [4, 9]
    names = sorted(p.name for p in (tmp_path / "validation").iterdir())
    assert names == ["step-0000004.png", "step-0000009.png"]
    assert Image.open(tmp_path / "validation" / names[0]).size == (T * 8 * w, 2 * (8 * h + 4))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
