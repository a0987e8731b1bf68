"""Widening SVD's UNet, choosing what trains, and the released layout."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from diffvas.diffusion.unet import clean_checkpoint, trainable_parameters, widen_conv_in


def small_unet(channels: int = 8) -> UNetSpatioTemporalConditionModel:
    torch.manual_seed(0)
    return UNetSpatioTemporalConditionModel(
        in_channels=channels,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        num_attention_heads=(1, 2),
        layers_per_block=1,
        cross_attention_dim=16,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    ).eval()


def call(unet: UNetSpatioTemporalConditionModel, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return unet(x, torch.tensor(0.3), torch.ones(1, 2, 16), added_time_ids=torch.ones(1, 3)).sample


def test_zero_convolution_computes_what_svd_did() -> None:
    x = torch.randn(1, 3, 12, 8, 8, generator=torch.Generator().manual_seed(1))
    unet = small_unet()
    before = call(unet, x[:, :, :8])
    assert widen_conv_in(unet) is unet
    assert unet.config.in_channels == 12 and unet.conv_in.in_channels == 12
    torch.testing.assert_close(call(unet, x), before, rtol=1e-5, atol=1e-6)


def test_random_channels_do_not() -> None:
    unet = small_unet()
    old = unet.conv_in.weight.detach().clone()
    draws = [
        widen_conv_in(small_unet(), 12, "random", torch.Generator().manual_seed(s)).conv_in.weight.detach()
        for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0][:, :8], old)
    new = draws[0][:, 8:]
    assert 0 < new.abs().max() <= (12 * 9) ** -0.5
    assert new.std() == pytest.approx((12 * 9) ** -0.5 / 3**0.5, rel=0.1)


def test_a_widened_unet_trains() -> None:
    unet = widen_conv_in(small_unet())
    x = torch.randn(1, 2, 12, 8, 8)
    unet(x, torch.tensor(0.3), torch.ones(1, 2, 16), added_time_ids=torch.ones(1, 3)).sample.square().mean().backward()
    grad = unet.conv_in.weight.grad
    assert grad is not None and grad[:, 8:].abs().max() > 0, "new channels have to learn"


def test_what_trains() -> None:
    unet = small_unet()
    everything = trainable_parameters(unet, "all")
    assert len(everything) == len(list(unet.parameters()))
    part = trainable_parameters(unet, "temporal")
    names = {name for name, p in unet.named_parameters() if p.requires_grad}
    assert len(part) == len(names) < len(everything)
    assert {"conv_in.weight", "conv_in.bias"} <= names
    others = {name for name in names if not name.startswith("conv_in.")}
    assert others and all("temporal_transformer_blocks" in name for name in others)


def test_released_layout() -> None:
    unet = small_unet(12)
    state = dict(unet.state_dict())
    released = {k: v for k, v in state.items() if not k.startswith("conv_in.")}
    released |= {"conv_in2.weight": state["conv_in.weight"], "conv_in2.bias": state["conv_in.bias"]}
    released |= {"conv_in.weight": torch.zeros(32, 8, 3, 3), "conv_in.bias": torch.zeros(32)}
    config, clean = clean_checkpoint({"in_channels": 8, "x": 1}, released)
    assert config == {"in_channels": 12, "x": 1}
    assert clean.keys() == state.keys() and all(clean[k] is state[k] for k in state)
    assert clean_checkpoint(config, clean) == (config, clean)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 8}, "channels: expected more than the 8 that the UNet has, got 8"),
        ({"mode": "copy"}, "mode: expected zero or random, got 'copy'"),
        ({"mode": "random"}, "generator: expected a torch.Generator"),
    ],
)
def test_bad_widening(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        widen_conv_in(small_unet(), **given)  # type: ignore[arg-type]


def test_bad_choice() -> None:
    with pytest.raises(ValueError, match="what: expected temporal or all, got 'spatial'"):
        trainable_parameters(small_unet(), "spatial")
