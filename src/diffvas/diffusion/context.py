"""What the UNet's cross-attention looks at: the same T tokens for every frame, or one token per frame.

diffusers' UNet repeats the tokens of a clip for every frame and, in its temporal blocks, for every pixel, and projects
each copy to keys and values again in every step. Nothing of that depends on the frame, the pixel or the step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch.nn import functional as F


class SharedContext:
    """Cross-attention to tokens that all frames and pixels of a sample share: keys and values are projected once.

    Used as ``with context.of(unet, tokens): unet(...)``. The results are those of diffusers' own attention, up to
    rounding. A null half, where there is one, comes first in the UNet's batch and has tokens of zeros.
    """

    def __init__(self) -> None:
        self.tokens: torch.Tensor | None = None
        self.halves = 1  # 2 where the UNet is called with a null half before the conditional one
        self.layers: list[_SharedAttention] = []

    @contextlib.contextmanager
    def of(self, unet: UNetSpatioTemporalConditionModel, tokens: torch.Tensor) -> Iterator[None]:
        """Inside, ``unet`` looks at ``tokens`` (T, C), whatever context it is called with. Any number of samples."""
        attentions = cross_attentions(unet)
        if [layer.attention for layer in self.layers] != attentions:
            self.layers = [_SharedAttention(self, attention) for attention in attentions]
        before = [attention.processor for attention in attentions]
        self.tokens = torch.stack([torch.zeros_like(tokens), tokens])
        try:
            for attention, layer in zip(attentions, self.layers, strict=True):
                attention.processor = layer
            yield
        finally:
            self.tokens = None
            for attention, layer, processor in zip(attentions, self.layers, before, strict=True):
                layer.keys = layer.values = None
                attention.processor = processor


class _SharedAttention:
    """The attention processor of one layer. Keys and values are made in the first call: there the layer's weights are
    on their device, whatever is offloaded."""

    def __init__(self, context: SharedContext, attention: Attention):
        self.context, self.attention = context, attention
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, encoder_hidden_states: Any = None, **unused: Any
    ) -> torch.Tensor:
        """(N, L, C) queries; N = halves x samples x frames or pixels, halves slowest."""
        if self.keys is None or self.values is None:
            tokens = self.context.tokens
            assert tokens is not None
            self.keys, self.values = (
                project(tokens).unflatten(2, (attn.heads, -1)).transpose(1, 2) for project in (attn.to_k, attn.to_v)
            )
        halves = self.context.halves
        queries = attn.to_q(hidden_states)
        rows = queries.reshape(halves, -1, attn.heads, queries.shape[-1] // attn.heads).transpose(1, 2)
        out = F.scaled_dot_product_attention(rows, self.keys[-halves:], self.values[-halves:])
        return attn.to_out[0](out.transpose(1, 2).reshape(queries.shape))


def cross_attentions(unet: UNetSpatioTemporalConditionModel) -> list[Attention]:
    """The attention layers of a UNet that look at the tokens."""
    return [module for name, module in unet.named_modules() if isinstance(module, Attention) and name.endswith("attn2")]


@contextlib.contextmanager
def frame_context(unet: UNetSpatioTemporalConditionModel, tokens: torch.Tensor) -> Iterator[None]:
    """Inside, frame ``i`` of the batch sees ``tokens[i]`` of (B * T, L, C) alone, as in the reference's inference.

    The temporal blocks see the tokens of the first frame of each clip, as they do in diffusers.
    """

    def replace(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "encoder_hidden_states": tokens}

    hooks = [
        module.register_forward_pre_hook(replace, with_kwargs=True)
        for module in unet.modules()
        if isinstance(module, TransformerSpatioTemporalModel)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
