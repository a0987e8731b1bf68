"""VideoMAE as a regression: nothing masked, the decoder kept, supervised by the amodal masks.

Source: the row of this name in the paper's tables (Tong et al., NeurIPS 2022, trained for masks). The patch embedding
sees modal x 3 and depth x 3; of pretrained weights the new three channels start at zero. Frames are padded to an even
number, positions belong to the size at hand, and the loss is binary cross-entropy of the channels' mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from diffvas.methods.base import Answer, Budget, ObjectInput, Progress, check_parts
from diffvas.methods.crops import predict_in_box
from diffvas.methods.fit import Examples, MaskBatches, Trainable, fit_network
from diffvas.train.checkpoints import write_whole
from diffvas.train.loop import Batch, Objective
from diffvas.types import F32, Bool

WEIGHTS = "weights.safetensors"
SEEN, MADE = 6, 3  # channels: modal x 3 and depth x 3 in, three that are averaged out


@dataclass(frozen=True)
class VideoMAEOptions:
    """The network; the paper's is the base model at 128 x 256 (``size=128,256 patch=16 width=768 layers=12 heads=12
    decoder_width=384 decoder_layers=4 decoder_heads=6``).

    Attributes:
        size: (height, width), multiples of ``patch``. frames: at a time. patch, tubelet: pixels and frames of a token.
        width, layers, heads: of the encoder. decoder_width, decoder_layers, decoder_heads: of the decoder.
        start: a folder or hub id with pretrained weights of this shape, "" = from scratch. rate: of learning.
    """

    size: tuple[int, int] = (64, 128)
    frames: int = 25
    patch: int = 8
    tubelet: int = 2
    width: int = 192
    layers: int = 6
    heads: int = 3
    decoder_width: int = 96
    decoder_layers: int = 2
    decoder_heads: int = 3
    start: str = ""
    rate: float = 3e-4

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < self.patch or any(n % self.patch for n in self.size):
            raise ValueError(f"size: expected a height and a width that are multiples of {self.patch}, got {self.size}")
        for width, heads in ((self.width, self.heads), (self.decoder_width, self.decoder_heads)):
            if width % heads or width % 2:
                raise ValueError(f"width: expected an even multiple of the {heads} heads, got {width}")
        if self.frames < 1:
            raise ValueError(f"frames: expected 1 or more, got {self.frames}")

    @property
    def padded(self) -> int:
        """Frames that the network sees: whole tubelets."""
        return -(-self.frames // self.tubelet) * self.tubelet

    def config(self) -> VideoMAEConfig:
        """For transformers' classes."""
        return VideoMAEConfig(
            image_size=list(self.size),
            patch_size=self.patch,
            num_channels=SEEN,
            num_frames=self.padded,
            tubelet_size=self.tubelet,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
            decoder_hidden_size=self.decoder_width,
            decoder_num_hidden_layers=self.decoder_layers,
            decoder_num_attention_heads=self.decoder_heads,
            decoder_intermediate_size=4 * self.decoder_width,
        )


class MaskVideoMAE(nn.Module):
    """transformers' encoder and decoder, all tokens visible; logits of the amodal mask come out."""

    def __init__(self, options: VideoMAEOptions) -> None:
        super().__init__()
        self.options = options
        self.net = VideoMAEForPreTraining(options.config())
        pixels = options.tubelet * options.patch**2
        self.net.decoder.head = nn.Linear(options.decoder_width, pixels * MADE)
        self.net.mask_token = None  # nothing is masked

    def forward(self, modal: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W) logits from modal (B, T, H, W) bool and depth (B, T, H, W) in [0, 1], T = ``padded``."""
        a, b = (2 * x.to(self.dtype) - 1 for x in (modal, depth))
        x = torch.stack([a, a, a, b, b, b], 2)
        tokens = self.net.encoder_to_decoder(self.net.videomae(x).last_hidden_state)
        places = self.net.position_embeddings.to(tokens)
        logits = self.net.decoder(tokens + places, tokens.shape[1]).logits
        return self.unpatch(logits.float())

    @property
    def dtype(self) -> torch.dtype:
        return self.net.encoder_to_decoder.weight.dtype

    def unpatch(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T, H, W) from (B, N, tubelet * patch * patch * 3), channels last as VideoMAE lays its pixels out."""
        patch, tubelet = self.options.patch, self.options.tubelet
        height, width = (n // patch for n in self.options.size)
        shape = (len(tokens), -1, height, width, tubelet, patch, patch, MADE)
        x = tokens.view(shape).mean(-1).permute(0, 1, 4, 2, 5, 3, 6)
        return x.reshape(len(tokens), -1, *self.options.size)

    def start_from(self, source: str) -> None:
        """Take pretrained weights: the modal channels get the embedding's, the depth channels zeros.

        Raises:
            ValueError: none can be read, or they are of another shape.
        """
        try:
            given = VideoMAEForPreTraining.from_pretrained(source, use_safetensors=True).state_dict()
        except (OSError, ValueError) as error:
            raise ValueError(f"start: expected VideoMAE's weights in '{source}' ({error})") from error
        name = "videomae.embeddings.patch_embeddings.projection.weight"
        given.pop("mask_token", None)
        given[name] = torch.cat([given[name], torch.zeros_like(given[name])], 1)
        try:
            self.net.load_state_dict(given)
        except RuntimeError as error:
            raise ValueError(f"start: expected weights of these options in '{source}', got others") from error


def mask_loss(model: MaskVideoMAE, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean binary cross-entropy over the real frames; and the IoU of the batch, to log."""
    real = model.options.frames
    logits = model(batch["modal"], batch["depth"])[:, :real]
    truth = batch["amodal"][:, :real]
    loss = F.binary_cross_entropy_with_logits(logits, truth.float())
    found = logits > 0
    union = (found | truth).sum().item()
    return loss, {"iou": (found & truth).sum().item() / union} if union else {}


class VideoMAE(Trainable):
    """See the module."""

    name = "videomae"
    needs = frozenset({"depth"})
    uses = frozenset({"depth"})
    kind = VideoMAEOptions
    model: MaskVideoMAE | None = None

    def train(self, examples: Examples, seed: int, budget: Budget, out: Path, progress: Progress | None) -> None:
        """See ``Trainable``."""
        torch.manual_seed(seed)
        self.model = MaskVideoMAE(self.options)
        if self.options.start:
            self.model.start_from(self.options.start)
        if self.device == "cpu":
            self.model.net.set_attn_implementation("eager")  # a third faster backwards than the fused kernel
        fit_network(
            self.model,
            MaskBatches(examples, budget.batch, self.options.padded),
            Objective(mask_loss),
            budget,
            seed=seed,
            out=out,
            device=self.device,
            lr=self.options.rate,
            settings={"fit": self.fitted},
            progress=progress,
        )
        self.write(out)

    @torch.inference_mode()
    def predict(
        self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None
    ) -> Answer:
        """See ``Method``; it draws nothing, so there is one answer. The threshold is 0.5 by default."""
        check_parts(self, clip)
        if self.model is None:
            raise ValueError("method: expected a fitted or loaded VideoMAE, got one without weights")
        model, options = self.model, self.options

        def network(modal: Bool, depth: F32, number: int) -> F32:
            at = np.minimum(np.arange(options.padded), len(modal) - 1)
            inputs = [torch.from_numpy(x[at])[None].to(self.device) for x in (modal, depth)]
            return np.asarray(torch.sigmoid(model(*inputs))[0, : len(modal)].cpu().numpy())

        return predict_in_box(clip, options.size, options.frames, network, 0.5 if threshold is None else threshold)

    def write(self, folder: Path) -> None:
        """``weights.safetensors``"""
        assert self.model is not None
        state = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        write_whole(folder / WEIGHTS, lambda path: save_file(state, path))

    def read(self, folder: Path) -> None:
        """``weights.safetensors``; ValueError where they are missing or another network's."""
        model = MaskVideoMAE(self.options)
        try:
            model.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"folder: expected weights of this VideoMAE in '{folder / WEIGHTS}' ({reason})") from error
        self.model = model.eval().to(self.device)
