"""Stable Video Diffusion's UNet with four more input channels: from SVD, and from the released checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.attention import TemporalBasicTransformerBlock
from torch import nn

CHANNELS = 12  # noisy latents, condition A, condition B: four each
SVD_CHANNELS = 8


def widen_conv_in(
    unet: UNetSpatioTemporalConditionModel,
    channels: int = CHANNELS,
    mode: str = "zero",
    generator: torch.Generator | None = None,
) -> UNetSpatioTemporalConditionModel:
    """Give the input convolution more channels; the ones it has, and its bias, stay.

    Args:
        unet: changed in place and returned; its config says the new number.
        channels: input channels wanted, more than it has.
        mode: "zero" for new weights of 0, so that the widened network computes what it did before, whatever the new
            channels hold (the paper's "zero convolution"); "random" for torch's own initialisation (ablation).
        generator: draws the random weights; needed for "random".

    Raises:
        ValueError: not more channels than before, another mode, or "random" without a generator.
    """
    old = unet.conv_in
    if channels <= old.in_channels:
        raise ValueError(f"channels: expected more than the {old.in_channels} that the UNet has, got {channels}")
    if mode not in ("zero", "random"):
        raise ValueError(f"mode: expected zero or random, got {mode!r}")
    if mode == "random" and generator is None:
        raise ValueError("generator: expected a torch.Generator for random channels, got None")
    weight = old.weight.new_zeros(old.out_channels, channels, *old.kernel_size)
    if mode == "random":
        # torch's default for a convolution: uniform in +-1/sqrt(fan in)
        bound = (channels * weight[0, 0].numel()) ** -0.5
        drawn = torch.empty(weight.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
        weight.copy_(drawn)
    with torch.no_grad():
        weight[:, : old.in_channels] = old.weight
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=True, device="meta")
    new.weight = nn.Parameter(weight)
    assert old.bias is not None
    new.bias = old.bias
    unet.conv_in = new
    unet.register_to_config(in_channels=channels)
    return unet


def trainable_parameters(unet: UNetSpatioTemporalConditionModel, what: str = "all") -> list[nn.Parameter]:
    """Choose what trains: ``requires_grad`` is set accordingly, and the chosen parameters are returned.

    Args:
        what: "temporal" for the temporal transformer blocks and the input convolution, as the reference trains SVD;
            "all" for everything.

    Raises:
        ValueError: another word.
    """
    if what not in ("temporal", "all"):
        raise ValueError(f"what: expected temporal or all, got {what!r}")
    unet.requires_grad_(what == "all")
    if what == "temporal":
        unet.conv_in.requires_grad_(True)
        for module in unet.modules():
            if isinstance(module, TemporalBasicTransformerBlock):
                module.requires_grad_(True)
    return [p for p in unet.parameters() if p.requires_grad]


def clean_checkpoint(
    config: dict[str, Any], state: dict[str, torch.Tensor]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The released layout as diffusers' own: ``conv_in2`` becomes ``conv_in``, the unused one goes, 12 channels.

    Any other layout is returned as it is.
    """
    if "conv_in2.weight" not in state:
        return config, state
    kept = {k: v for k, v in state.items() if not k.startswith("conv_in.")}
    renamed = {k.replace("conv_in2.", "conv_in.") if k.startswith("conv_in2.") else k: v for k, v in kept.items()}
    return {**config, "in_channels": renamed["conv_in.weight"].shape[1]}, renamed
