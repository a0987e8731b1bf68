"""What the UNet is told: noise, latents, tokens, time ids."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffvas.diffusion import conditioning
from factories import tiny_model


def test_pixel_noise() -> None:
    x = torch.zeros(4, 3, 32, 32)
    noisy = conditioning.add_pixel_noise(x, 0.5, torch.Generator().manual_seed(3))
    assert noisy.std().item() == pytest.approx(0.5, rel=0.05) and noisy.mean().abs().item() < 0.02
    assert torch.equal(noisy, conditioning.add_pixel_noise(x, 0.5, torch.Generator().manual_seed(3)))
    assert torch.equal(conditioning.add_pixel_noise(x, 0.0, torch.Generator()), x)
    assert torch.equal(x, torch.zeros_like(x)), "the input was changed"
    half = conditioning.add_pixel_noise(x.bfloat16(), 0.5, torch.Generator().manual_seed(3))
    assert torch.equal(half, noisy.bfloat16()), "the draw depends on the dtype"


@torch.no_grad()
def test_encode_gives_unscaled_means_in_any_chunks() -> None:
    vae = tiny_model().amodal.vae
    x = torch.rand(5, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = vae.encode(x).latent_dist.mean
    assert whole.shape == (5, 4, 4, 8)
    for chunk in (2, 8):
        torch.testing.assert_close(conditioning.encode(vae, x, chunk), whole, rtol=1e-4, atol=1e-5)


class FakeVae:
    """Remembers what it was asked to decode."""

    dtype = torch.float32
    config = SimpleNamespace(scaling_factor=0.5)

    def __init__(self) -> None:
        self.parts: list[tuple[torch.Tensor, int]] = []

    def decode(self, z: torch.Tensor, num_frames: int) -> Any:
        self.parts.append((z, num_frames))
        return SimpleNamespace(sample=z[:, :3].double())


def test_decode_unscales_and_goes_by_chunks() -> None:
    vae = FakeVae()
    z = torch.arange(20.0).reshape(20, 1, 1, 1).expand(20, 4, 2, 2)
    frames = conditioning.decode(vae, z)  # type: ignore[arg-type]
    assert [n for _, n in vae.parts] == [8, 8, 4]
    assert frames.dtype == torch.float32
    assert torch.equal(frames[:, 0, 0, 0], torch.arange(20.0) * 2)


def test_clip_pixels_are_normalised() -> None:
    pixels = conditioning.clip_pixels(torch.zeros(2, 3, 32, 64), 16)  # mid grey
    assert pixels.shape == (2, 3, 16, 16) and pixels.dtype == torch.float32
    for c in range(3):
        expected = (0.5 - conditioning.CLIP_MEAN[c]) / conditioning.CLIP_STD[c]
        torch.testing.assert_close(pixels[:, c], torch.full((2, 16, 16), expected), rtol=1e-4, atol=1e-5)


def test_clip_pixels_keep_their_place() -> None:
    x = torch.full((1, 3, 32, 64), -1.0)
    x[..., :32] = 1
    pixels = conditioning.clip_pixels(x, 16)
    assert pixels[..., :6].min() > pixels[..., -6:].max()


@torch.no_grad()
def test_one_token_per_frame() -> None:
    tower = tiny_model().amodal.image_encoder
    size = tower.config.image_size
    pixels = torch.randn(2, 3, 3, size, size, generator=torch.Generator().manual_seed(0))
    tokens = conditioning.clip_tokens(tower, pixels)
    assert tokens.shape == (2, 3, tower.config.projection_dim)
    alone = conditioning.clip_tokens(tower, pixels[1:, 2:])
    torch.testing.assert_close(tokens[1, 2], alone[0, 0], rtol=1e-4, atol=1e-5)


def test_time_ids() -> None:
    ids = conditioning.time_ids(torch.tensor([0.02, 0.5]))
    torch.testing.assert_close(ids, torch.tensor([[8.0, 127.0, 0.02], [8.0, 127.0, 0.5]]))
    assert conditioning.time_ids(torch.tensor([0.1]), fps=6, motion_bucket=30).tolist()[0][:2] == [6.0, 30.0]
