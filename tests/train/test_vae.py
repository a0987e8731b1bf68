"""The small VAE's pictures, its loss, and the scale of its latents."""

from __future__ import annotations

import pytest
import torch

from diffvas.train import vae as vae_module
from diffvas.train.vae import VaeBatches, rescale_latents, tiny_vae, vae_loss


@pytest.fixture
def vae() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_vae()


@pytest.mark.parametrize("stage", ["amodal", "content"])
def test_batches_depend_on_the_step_alone(stage: str) -> None:
    source = VaeBatches(stage, 3)
    batch = source[5]
    assert batch["x"].shape == (vae_module.CLIPS, vae_module.FRAMES, 3, *vae_module.SIZE)
    assert batch["mask"].shape == (vae_module.CLIPS,) and batch["mask"].dtype == torch.bool
    assert -1 <= batch["x"].min() and batch["x"].max() <= 1
    source[6]
    again = VaeBatches(stage, 3)[5]
    assert torch.equal(batch["x"], again["x"]) and torch.equal(batch["mask"], again["mask"])
    for clip, is_mask in zip(batch["x"], batch["mask"], strict=True):
        assert not is_mask or set(clip.unique().tolist()) <= {-1.0, 1.0}


@pytest.mark.parametrize(("masks", "logged"), [([True, True], {"mask_iou"}), ([False, False], {"mse_rgb"})])
def test_only_what_there_is_gets_logged(vae: torch.nn.Module, masks: list[bool], logged: set[str]) -> None:
    batch = {"x": torch.rand(2, 4, 3, 32, 32) * 2 - 1, "mask": torch.tensor(masks)}
    loss, numbers = vae_loss(vae, batch, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert torch.isfinite(loss) and loss.requires_grad
    assert numbers.keys() & {"mask_iou", "mse_rgb"} == logged
    assert all(value == value for value in numbers.values()), "NaN was logged"


@torch.no_grad()
def test_rescaled_latents_have_unit_scale_and_decode_to_the_same(vae: torch.nn.Module) -> None:
    x = torch.rand(8, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = vae.encode(x).latent_dist  # type: ignore[operator]
    picture = vae.decode(before.mean, num_frames=8).sample  # type: ignore[operator]
    factor = rescale_latents(vae, x)  # type: ignore[arg-type]
    after = vae.encode(x).latent_dist  # type: ignore[operator]
    assert factor == pytest.approx(before.mean.std().item(), rel=1e-4)
    assert after.mean.std().item() == pytest.approx(1.0, rel=1e-4)
    torch.testing.assert_close(after.mean * factor, before.mean, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(after.std * factor, before.std, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(vae.decode(after.mean, num_frames=8).sample, picture, rtol=1e-3, atol=1e-4)  # type: ignore[operator]
