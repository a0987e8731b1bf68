"""The small networks that work on pixels: diffusers' ``UNet2DModel`` on pictures folded to half their size.

What an eighth of the resolution cannot hold, where borders of other things run and where thin parts end, is their
business: what stands in front of an object (``pipelines/front.py``), the finished mask (``pipelines/finish.py``), and
the finished colours (``pipelines/colours.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel
from torch import nn
from torch.nn import functional as F

from diffvas.types import F32

FOLD = 2  # pixels of a side that become channels
GROUPS, HEAD = 8, 32
CHUNK = 16  # pictures at a time


class PixelNet(nn.Module):
    """Pictures in, pictures of the same size out.

    Args:
        unet: with ``FOLD ** 2`` times the channels that go in and come out.
    """

    def __init__(self, unet: UNet2DModel) -> None:
        super().__init__()
        self.unet = unet.to(memory_format=torch.channels_last)

    @classmethod
    def new(cls, inputs: int, outputs: int, widths: Sequence[int]) -> PixelNet:
        """One with random weights; attention at its coarsest level.

        Args:
            widths: channels of each level, each half as fine as the one before; multiples of 8.
        """
        plain = len(widths) - 1
        return cls(
            UNet2DModel(
                in_channels=inputs * FOLD**2,
                out_channels=outputs * FOLD**2,
                block_out_channels=tuple(widths),
                layers_per_block=1,
                down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
                up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
                norm_num_groups=GROUPS,
                attention_head_dim=min(HEAD, widths[-1]),
            )
        )

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32) -> PixelNet:
        """A saved one, to use; safetensors only."""
        unet = UNet2DModel.from_pretrained(folder, use_safetensors=True, local_files_only=True, torch_dtype=dtype)
        return cls(unet).eval()

    def widened(self, inputs: int) -> PixelNet:
        """The same network with more channels in, which it has yet to learn to use: their weights are zero.

        Raises:
            ValueError: fewer than it has.
        """
        if inputs < self.inputs:
            raise ValueError(f"inputs: expected {self.inputs} channels or more, got {inputs}")
        unet = UNet2DModel.from_config({**self.unet.config, "in_channels": inputs * FOLD**2})
        state = self.unet.state_dict()
        known = state["conv_in.weight"]
        state["conv_in.weight"] = torch.zeros_like(unet.conv_in.weight)
        state["conv_in.weight"][:, : known.shape[1]] = known
        unet.load_state_dict(state)
        return PixelNet(unet)

    @property
    def inputs(self) -> int:
        """Channels that go in."""
        return int(self.unet.config.in_channels) // FOLD**2

    def forward(self, x: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        """(N, outputs, H, W) float32.

        Args:
            x: (N, inputs, H, W) in about [-1, 1]. mode: (N,) whole numbers, what is known; the network is told.
        """
        folded = F.pixel_unshuffle(x, FOLD).contiguous(memory_format=torch.channels_last)
        out = self.unet(folded.to(self.unet.dtype), mode * 100, return_dict=False)[0]
        return F.pixel_shuffle(out.float(), FOLD)

    @torch.inference_mode()
    def likely(self, x: torch.Tensor, mode: int) -> F32:
        """(N, H, W) float32 in [0, 1]: the first picture that comes out, as probabilities.

        Args:
            x: (N, inputs, H, W), on any device. mode: of all of them.
        """
        parts = x.to(self.unet.device).split(CHUNK)
        logits = [self(part, torch.full((len(part),), mode, device=part.device))[:, 0] for part in parts]
        return np.asarray(torch.sigmoid(torch.cat(logits)).cpu().numpy(), np.float32)

    def likely_both_ways(self, x: torch.Tensor, mode: int, sideways: Sequence[int] = ()) -> F32:
        """The mean of :meth:`likely` of what is seen and of its mirror image, turned back.

        Args:
            sideways: channels that change their sign where the picture is mirrored.
        """
        mirrored = x.flip(-1)
        mirrored[:, list(sideways)] *= -1
        return np.asarray((self.likely(x, mode) + self.likely(mirrored, mode)[..., ::-1]) / 2, np.float32)
