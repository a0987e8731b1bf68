"""One diffusers pipeline for both stages: a video and two named conditions in, denoised frames out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from diffvas.diffusion import conditioning, edm
from diffvas.diffusion.context import SharedContext, frame_context
from diffvas.diffusion.sampling import Sampling, sample

# stage -> (condition A, condition B); CLIP tokens come from condition A
CONDITIONS = {"amodal": ("modal_mask", "depth"), "content": ("modal_rgb", "amodal_mask")}

# what a model does where its own ``defaults`` say nothing: the paper's numbers. ``area`` (pixels per frame) and
# ``frames`` are what it works on, ``decode_chunk`` is frames per call of the decoder.
PAPER_DEFAULTS = {
    "steps": 25,
    "samples": 1,
    "guidance": 1.5,
    "threshold": 200 / 255,
    "area": 256 * 512,
    "frames": 25,
    "decode_chunk": 8,
}


@dataclass(frozen=True)
class Behaviour:
    """Where the released inference does something else than its training.

    Attributes:
        fps, motion_bucket: the first two added time ids; training has 8 and 127, the released inference 7 and 127.
        frame_tokens: every frame sees its own CLIP token only, and with guidance the tokens are ordered null, first
            frame, null, second frame, ..., while the latents are all null, then all conditional.
        remap: condition frames without a negative value are mapped by ``2x - 1`` once more.
    """

    fps: int = conditioning.TRAIN_FPS
    motion_bucket: int = conditioning.MOTION_BUCKET
    frame_tokens: bool = False
    remap: bool = False


# "default" is what training does; "faithful" is what the released code does, number for number
BEHAVIOURS = {"default": Behaviour(), "faithful": Behaviour(fps=7, frame_tokens=True, remap=True)}


@dataclass(frozen=True)
class Fast:
    """What makes inference faster without another result; every part can be switched off.

    Attributes:
        shared_context: keys and values of the tokens are made once per clip, not per frame, pixel and step.
        encode_chunk: images per call of the VAE's encoder; both conditions go through it together.
        samples: samples per call of the UNet; fewer where attention would have more rows than CUDA's kernels take. On
            a CPU there is nothing to win, and one at a time is bit for bit the same however many there are.
    """

    shared_context: bool = True
    encode_chunk: int = 16
    samples: int = 1


PLAIN = Fast(shared_context=False, encode_chunk=1, samples=1)
MOST_ROWS = 65535  # of scaled dot product attention on CUDA: its temporal rows are samples x halves x pixels


@dataclass(frozen=True)
class ConditionLatents:
    """Encoded conditions of one clip, reusable for any number of samples.

    Attributes:
        latents: (T, 8, h, w) condition A and B, unscaled. tokens: (T, C). noise: pixel noise that was added.
    """

    latents: torch.Tensor
    tokens: torch.Tensor
    noise: float


def svd_scheduler() -> EulerDiscreteScheduler:
    """SVD's scheduler config: Euler on Karras sigmas, 700 -> 0.002, v-prediction. Saved with every pipeline, so that
    other programs read it; our own sampling is ``diffusion/sampling.py``."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_min=edm.SIGMA_MIN,
        sigma_max=edm.SIGMA_MAX,
        timestep_type="continuous",
        timestep_spacing="leading",
        use_karras_sigmas=True,
        steps_offset=1,
        num_train_timesteps=1000,
    )


class DiffusionVASPipeline(DiffusionPipeline):
    """Conditional video diffusion on Stable Video Diffusion's classes (Diffusion-VAS, CVPR 2025).

    Args:
        vae, image_encoder, unet, scheduler, feature_extractor: the classes of SVD; the UNet has 12 input channels.
        stage: ``"amodal"`` (modal masks + depth -> amodal masks) or ``"content"`` (modal RGB + amodal masks -> RGB).
        defaults: measured defaults of this model; see ``PAPER_DEFAULTS``.

    Attributes:
        behaviour, fast: see the classes; may be changed at any time.
    """

    model_cpu_offload_seq = "image_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        unet: UNetSpatioTemporalConditionModel,
        scheduler: EulerDiscreteScheduler,
        feature_extractor: CLIPImageProcessorPil,
        stage: str = "amodal",
        defaults: dict[str, Any] | None = None,
    ):
        super().__init__()
        if stage not in CONDITIONS:
            raise ValueError(f"stage: expected one of {sorted(CONDITIONS)}, got {stage!r}")
        self.register_modules(
            vae=vae, image_encoder=image_encoder, unet=unet, scheduler=scheduler, feature_extractor=feature_extractor
        )
        self.register_to_config(
            stage=stage,
            defaults={**PAPER_DEFAULTS, **(defaults or {})},
        )
        self.behaviour, self.fast = Behaviour(), Fast()
        self._context = SharedContext()

    @property
    def multiple(self) -> int:
        """Pixels that heights and widths must be a multiple of: the VAE and the UNet each halve them level by level."""
        levels = len(self.vae.config.block_out_channels) + len(self.unet.config.block_out_channels) - 2
        return int(2**levels)

    def use_channels_last(self) -> None:
        """Lay the weights of 2-D convolutions out by pixel, as tensor cores like them; same results up to rounding."""
        for part in (self.unet, self.vae):
            for parameter in part.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def compile_blocks(self) -> None:
        """Compile the UNet's repeated blocks, in place; far quicker to compile than the whole network."""
        for module in self.unet.modules():
            if isinstance(module, TransformerSpatioTemporalModel | SpatioTemporalResBlock):
                module.compile(dynamic=False)

    def sampling(self, **asked: Any) -> Sampling:
        """How to draw: what is asked for and not None, else the model's measured defaults.

        Raises:
            ValueError: names the number that is wrong.
        """
        names = [field.name for field in fields(Sampling)]
        known = {name: self.config.defaults[name] for name in names if name in self.config.defaults}
        known |= {name: value for name, value in asked.items() if value is not None}
        for name in {"interval", "evaluated"} & known.keys():
            known[name] = tuple(known[name])
        return Sampling(**known)

    def check_inputs(self, condition_a: torch.Tensor, condition_b: torch.Tensor | None) -> None:
        """Raise ValueError, naming what is wrong, unless both are (T, 3, H, W) alike, of a size the networks take."""
        name_a, name_b = CONDITIONS[self.config.stage]
        shape, by = tuple(condition_a.shape), self.multiple
        if len(shape) != 4 or shape[0] < 1 or shape[1] != 3 or min(shape[2:]) < by or shape[2] % by or shape[3] % by:
            raise ValueError(f"{name_a}: expected (T, 3, H, W) with H and W multiples of {by}, got {shape}")
        if condition_b is not None and tuple(condition_b.shape) != shape:
            raise ValueError(f"{name_b}: expected {shape} like {name_a}, got {tuple(condition_b.shape)}")

    @torch.no_grad()
    def encode_conditions(
        self,
        condition_a: torch.Tensor,
        condition_b: torch.Tensor | None,
        generator: torch.Generator,
        noise: float = conditioning.CONDITION_NOISE,
    ) -> ConditionLatents:
        """Latents and tokens of one clip's conditions, with the pixel noise that training had.

        Args:
            condition_a: (T, 3, H, W) in [-1, 1]. condition_b: the same, or None for "not known" (zero latents).
        """
        device, frames = self._execution_device, len(condition_a)
        size = self.image_encoder.config.image_size
        clean = condition_a.to(device)
        tokens = conditioning.clip_tokens(self.image_encoder, conditioning.clip_pixels(clean, size)[None])[0]
        images = [clean] if condition_b is None else [clean, condition_b.to(device)]
        if self.behaviour.remap:
            images = [conditioning.remap_nonnegative(x) for x in images]
        images = [conditioning.add_pixel_noise(x, noise, generator) for x in images]
        latents = conditioning.encode(self.vae, torch.cat(images), self.fast.encode_chunk)
        if condition_b is None:
            latents = torch.cat([latents, torch.zeros_like(latents)])
        return ConditionLatents(torch.cat([latents[:frames], latents[frames:]], 1), tokens, noise)

    @torch.no_grad()
    def denoise(
        self,
        conditions: ConditionLatents,
        generators: Sequence[torch.Generator],
        sampling: Sampling,
        on_step: Callable[[], None] | None = None,
    ) -> torch.Tensor:
        """Samples of the target, one per generator: each depends on its own generator alone, not on the others.

        Args:
            on_step: called once per sample and step.

        Returns:
            (K, T, 4, h, w) float32 scaled latents.

        Raises:
            ValueError: an interval, of guidance or of evaluations, in faithful behaviour, which knows none.
        """
        for name in ("interval", "evaluated"):
            if self.behaviour.frame_tokens and getattr(sampling, name) != getattr(Sampling, name):
                raise ValueError(f"{name}: expected none in faithful behaviour, got {getattr(sampling, name)}")
        device = self._execution_device
        frames, _, h, w = conditions.latents.shape
        shape = (frames, self.unet.config.out_channels, h, w)
        noise = torch.stack([torch.randn(shape, generator=g, device=g.device).to(device) for g in generators])
        halves = 1 if sampling.guidance == 1.0 else 2
        at_once = 1 if self.behaviour.frame_tokens else max(1, min(self.fast.samples, MOST_ROWS // (halves * h * w)))
        return torch.cat([self._denoise(conditions, part, sampling, on_step) for part in noise.split(at_once)])

    def _denoise(
        self,
        conditions: ConditionLatents,
        noise: torch.Tensor,
        sampling: Sampling,
        on_step: Callable[[], None] | None,
    ) -> torch.Tensor:
        count, dtype, device = len(noise), self.unet.dtype, noise.device
        latents = conditions.latents.to(dtype).expand(count, *conditions.latents.shape)
        tokens = conditions.tokens.to(dtype)
        context = self._context

        def network(x: torch.Tensor, condition: torch.Tensor, sigma: torch.Tensor, halves: int) -> torch.Tensor:
            context.halves = halves
            noise = torch.full((len(x),), conditions.noise, device=device)
            ids = conditioning.time_ids(noise, self.behaviour.fps, self.behaviour.motion_bucket)
            # with a shared context the UNet looks elsewhere, and need not copy all tokens for every frame and pixel
            own = tokens[:1] if self._context.tokens is not None else tokens
            own = _with_null(own.expand(count, *own.shape), halves)
            out = self.unet(
                torch.cat([x, condition], 2), edm.c_noise(sigma), own, added_time_ids=ids, return_dict=False
            )
            return out[0].float()

        def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            scale = sampling.guidance_at(float(sigma))
            halves = 1 if scale == 1.0 else 2
            x = (edm.c_in(sigma) * z).to(dtype)
            out = network(x.repeat(halves, 1, 1, 1, 1), _with_null(latents, halves), sigma, halves)
            if halves == 2:  # null half first, then the conditional one, for latents and tokens alike
                null, conditional = out.chunk(2)
                out = null + scale * (conditional - null)
            return edm.denoised(z, out, sigma.expand(count))

        def stepped() -> None:
            for _ in range(count if on_step is not None else 0):
                on_step()  # type: ignore[misc]

        with contextlib.ExitStack() as stack:
            if self.behaviour.frame_tokens:
                stack.enter_context(frame_context(self.unet, _interleaved(tokens, sampling.guidance != 1.0)))
            elif self.fast.shared_context:
                stack.enter_context(context.of(self.unet, tokens))
            return sample(denoise, noise, sampling, stepped)

    @torch.no_grad()
    def __call__(
        self,
        condition_a: torch.Tensor,
        condition_b: torch.Tensor | None,
        *,
        generator: torch.Generator,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        noise: float = conditioning.CONDITION_NOISE,
    ) -> torch.Tensor:
        """One sample of the target of this stage.

        Args:
            condition_a, condition_b: (T, 3, H, W) in [-1, 1], named by ``CONDITIONS[stage]``; B may be None.
            generator: draws the noise of condition A, of condition B, and the initial latents, in this order.
            steps, guidance, sampler: see ``Sampling``; the model's measured defaults where None.

        Returns:
            (T, 3, H, W) float32 in [0, 1] on the CPU: masks as three equal channels, or RGB.

        Raises:
            ValueError: names the condition or number that is wrong, what was expected and what came.
        """
        sampling = self.sampling(steps=steps, guidance=guidance, sampler=sampler)
        self.check_inputs(condition_a, condition_b)
        conditions = self.encode_conditions(condition_a, condition_b, generator, noise)
        return self.decode(self.denoise(conditions, [generator], sampling)[0])

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(T, 3, H, W) float32 in [0, 1] from the scaled latents of one clip; frames leave the device as they come."""
        parts = conditioning.decode_chunks(self.vae, latents, self.config.defaults["decode_chunk"])
        return torch.cat([(part / 2 + 0.5).clamp(0, 1).cpu() for part in parts])


def _with_null(x: torch.Tensor, halves: int) -> torch.Tensor:
    return x if halves == 1 else torch.cat([torch.zeros_like(x), x])


def _interleaved(tokens: torch.Tensor, guided: bool) -> torch.Tensor:
    """(T or 2T, 1, C) tokens as the reference orders them; see ``Behaviour.frame_tokens``."""
    if guided:
        tokens = torch.stack([torch.zeros_like(tokens), tokens], 1).flatten(0, 1)
    return tokens[:, None]
