"""The networks on pixels: sizes, saving, and that they are told what is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffvas.diffusion.pixel_net import PixelNet


@pytest.fixture
def net() -> PixelNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PixelNet.new(3, 2, (8, 16)).eval()


@torch.no_grad()
def test_pictures_come_out_as_large_as_they_went_in(net: PixelNet) -> None:
    assert net.inputs == 3
    for size in ((8, 8), (16, 28)):
        out = net(torch.zeros(2, 3, *size), torch.zeros(2))
        assert out.shape == (2, 2, *size) and out.dtype == torch.float32


@torch.no_grad()
def test_every_picture_is_looked_at_alone_and_by_its_own_mode(net: PixelNet) -> None:
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    together = net(x, torch.tensor([0, 1, 2]))
    alone = torch.cat([net(x[k : k + 1], torch.tensor([k])) for k in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert (net(x[:1], torch.tensor([1])) - together[:1]).abs().max() > 1e-4


@torch.no_grad()
def test_saved_and_loaded(net: PixelNet, tmp_path: Path) -> None:
    net.unet.save_pretrained(tmp_path)
    again = PixelNet.load(tmp_path)
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(net(x, torch.zeros(1)), again(x, torch.zeros(1)))
    assert not again.training
    half = PixelNet.load(tmp_path, torch.bfloat16)
    assert half.unet.dtype == torch.bfloat16 and half(x, torch.zeros(1)).dtype == torch.float32


@torch.no_grad()
def test_more_channels_in_change_nothing_until_they_are_learned(net: PixelNet) -> None:
    wide = net.widened(5).eval()
    x = torch.rand(2, 5, 8, 8)
    assert wide.inputs == 5
    torch.testing.assert_close(wide(x, torch.zeros(2)), net(x[:, :3], torch.zeros(2)), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match=r"inputs: expected 5 channels or more, got 3"):
        wide.widened(3)
