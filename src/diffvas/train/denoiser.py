"""The networks of both stages, small ones and Stable Video Diffusion's, and their training on latent caches."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from diffvas.diffusion.unet import trainable_parameters, widen_conv_in
from diffvas.pipelines.checkpoints import read_unet, without_bars
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline, svd_scheduler
from diffvas.train.cache import TOWER_SIZE, CachedClips, check_caches, load_vae
from diffvas.train.checkpoints import replace_folder, write_whole
from diffvas.train.config import DenoiserConfig
from diffvas.train.loop import LoopConfig, Report, report_lines, resolved, train
from diffvas.train.step import objective
from diffvas.train.validate import Validation

WEIGHTS = "average.safetensors"
__all__ = ["Denoiser", "as_pipeline", "load_run", "svd_scheduler", "tiny_denoiser", "train_denoiser"]


class Denoiser(nn.Module):
    """The two networks that train together: the UNet and the tower that makes its tokens.

    ``vae`` is there while a model is finished or validated, and belongs to no saved run but as a folder of its own.
    """

    def __init__(
        self,
        unet: UNetSpatioTemporalConditionModel,
        tower: CLIPVisionModelWithProjection,
        vae: AutoencoderKLTemporalDecoder | None = None,
    ):
        super().__init__()
        self.unet, self.tower, self.vae = unet, tower, vae


def heads_of(width: int) -> int:
    """Attention heads of a level: about 56 channels each."""
    return next(n for n in range(max(1, round(width / 56)), 0, -1) if width % n == 0)


def tiny_denoiser(channels: int = 12, widths: tuple[int, ...] = (64, 96, 128)) -> Denoiser:
    """Of SVD's classes: three levels, attention on the two coarser ones; by default 12.6 M + 0.5 M parameters."""
    unet = UNetSpatioTemporalConditionModel(
        in_channels=channels,
        out_channels=4,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=(
            "DownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
        ),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        num_attention_heads=tuple(map(heads_of, widths)),
        cross_attention_dim=128,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        num_frames=25,
    )
    tower = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=3,
            num_attention_heads=3,
            image_size=TOWER_SIZE,
            patch_size=16,
            projection_dim=128,
        )
    )
    return Denoiser(unet, tower)


def build(config: DenoiserConfig, seed: int) -> Denoiser:
    """The networks of a configuration with their first weights, everything in float32; what trains requires a gradient.

    A start (or SVD) with fewer input channels than the conditions need is widened, by channels of zeros or at random.

    Raises:
        ValueError: ``start`` or ``model`` holds no such networks, or networks with more conditions.
    """
    torch.manual_seed(seed)
    wanted, start = config.channels, Path(config.start)
    if config.start and (start / "unet").is_dir():
        model = load_networks(start, "start")
    elif config.start:
        if not (start / WEIGHTS).is_file():
            raise ValueError(f"start: expected a training run with {WEIGHTS}, got {config.start} without")
        state = load_file(start / WEIGHTS)
        if (start / "config.json").is_file():
            check_order(run_config(start), config)
        model = first_networks(config, state["unet.conv_in.weight"].shape[1])
        fill(model, state, "start", config.start)
    else:
        model = first_networks(config, wanted)
    has = model.unet.config.in_channels
    if has > wanted:
        raise ValueError(f"start: expected at most {wanted} input channels for these conditions, got {has}")
    if has < wanted:
        widen(model, config, wanted, seed)
    model.tower.requires_grad_(config.model == "tiny" and config.trained == "all")
    trainable_parameters(model.unet, config.trained)
    return model


def check_order(start: DenoiserConfig, config: DenoiserConfig) -> None:
    """Raise ValueError unless the start's conditions come first in ``config``'s: channels keep their meaning."""
    if start.stage == config.stage and start.inputs != config.inputs[: len(start.inputs)]:
        raise ValueError(
            f"start: expected conditions that come first among {', '.join(config.inputs)}, "
            f"got {', '.join(start.inputs)}"
        )


def widen(model: Denoiser, config: DenoiserConfig, channels: int, seed: int) -> None:
    """More input channels for the UNet, of zeros or random by configuration."""
    mode = "random" if config.random_channels else "zero"
    widen_conv_in(model.unet, channels, mode, torch.Generator().manual_seed(seed))


def first_networks(config: DenoiserConfig, channels: int) -> Denoiser:
    """Small networks at random, or pretrained ones widened where they have fewer than ``channels`` inputs."""
    if config.model == "tiny":
        return tiny_denoiser(channels, config.widths)
    model = load_networks(Path(config.model), "model")
    if model.unet.config.in_channels < channels:
        widen(model, config, channels, 0)
    return model


def load_networks(folder: Path, name: str) -> Denoiser:
    """UNet and image encoder of a folder in diffusers' layout: SVD itself, or a stage of a saved model.

    Raises:
        ValueError: one of them is missing or cannot be read; names the argument ``name``.
    """
    try:
        unet = read_unet(folder / "unet", torch.float32)
        with without_bars():
            tower = CLIPVisionModelWithProjection.from_pretrained(
                folder / "image_encoder", use_safetensors=True, local_files_only=True
            )
    except (OSError, ValueError) as error:
        reason = (str(error).removeprefix("model: ").strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{name}: {reason}") from error
    return Denoiser(unet.float(), tower.float())


def fill(model: Denoiser, state: dict[str, torch.Tensor], name: str, where: str) -> None:
    """Put saved weights into a model; frozen ones may be missing.

    Raises:
        ValueError: they are another network's; names the argument ``name``.
    """
    try:
        unknown = model.load_state_dict(state, strict=False).unexpected_keys
    except RuntimeError as error:
        raise ValueError(f"{name}: expected weights of this network in {where}, got others") from error
    if unknown:
        raise ValueError(f"{name}: expected weights of this network in {where}, got others, {unknown[0]} among them")


def run_config(run: Path) -> DenoiserConfig:
    """The configuration of a run, also one of an older version of the program.

    Raises:
        ValueError: the folder holds no run.
    """
    try:
        saved = json.loads((run / "config.json").read_text())["denoiser"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"run: expected a training run with config.json, got {run}") from error
    known = {field.name for field in fields(DenoiserConfig)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k in known}
    return DenoiserConfig(**values)


def load_run(run: Path) -> tuple[Denoiser, DenoiserConfig]:
    """The networks of a run with their averaged weights, and what it was trained for.

    Raises:
        ValueError: the folder holds no run with averaged weights.
    """
    if not (run / WEIGHTS).is_file():
        raise ValueError(f"run: expected a training run with {WEIGHTS}, got {run} without")
    config = run_config(run)
    model = first_networks(config, config.channels)
    fill(model, load_file(run / WEIGHTS), "run", str(run))
    return model.eval(), config


def as_pipeline(
    model: Denoiser, vae: AutoencoderKLTemporalDecoder, stage: str, defaults: dict[str, Any] | None = None
) -> DiffusionVASPipeline:
    """A pipeline of these networks, ready for ``save_pretrained``."""
    extractor = CLIPImageProcessorPil(
        size={"shortest_edge": TOWER_SIZE}, crop_size={"height": TOWER_SIZE, "width": TOWER_SIZE}
    )
    return DiffusionVASPipeline(vae, model.tower, model.unet, svd_scheduler(), extractor, stage, defaults)


def prepare(config: DenoiserConfig, loop: LoopConfig) -> tuple[Denoiser, CachedClips]:
    """The networks and the batches of a configuration, everything checked; what ``--dry-run`` does.

    Raises:
        ValueError: data, start, model or VAE are missing or do not fit one another.
    """
    for needs, what in ((config.objective == "finish", "finish a model in pixels"), (config.val, "validate")):
        if needs and not config.vae:
            raise ValueError(f"vae: expected the VAE of the caches to {what}, got none")
    source = CachedClips([Path(d) for d in config.data], config.weights, config.batch, config.spans, loop.seed)
    folders = [Path(d) for d in (*config.data, *config.val)]
    vae = load_vae(Path(config.vae)) if config.vae else None
    truths = ("amodal", "modal") if config.stage == "amodal" or config.hidden_weight else ()
    check_caches(folders, config.stage, ("target", *config.inputs, *truths), vae)
    model = build(config, loop.seed)
    model.vae = vae
    if vae is not None:
        vae.requires_grad_(False)
        vae.decoder.requires_grad_(config.train_decoder)
    if loop.device == "cpu":
        # the same attention as plain matrix products: torch's fused kernel is slow backwards on the short sequences
        # here (25 frames, 32 to 128 positions); a whole training step takes 0.66 to 0.77 of the time
        model.unet.set_attn_processor(AttnProcessor())
    if config.checkpointing:
        model.unet.enable_gradient_checkpointing()
    if "tokens" in source.keys:
        model.tower.requires_grad_(False)  # it has done its work
    return model, source


def save_weights(out: Path, state: dict[str, torch.Tensor], everything: bool, trained: set[str]) -> None:
    """``average.safetensors``: UNet and tower, or of large networks what trained alone."""
    kept = {k: v for k, v in state.items() if not k.startswith("vae.") and (everything or k in trained)}
    write_whole(out / WEIGHTS, lambda p: save_file({k: v.detach().cpu().contiguous() for k, v in kept.items()}, p))


def train_denoiser(
    config: DenoiserConfig, loop: LoopConfig, out: Path, report: Report = report_lines, preset: str = ""
) -> dict[str, torch.Tensor]:
    """Train by ``config`` and write the averaged weights to ``out/average.safetensors`` at every checkpoint.

    Where ``config.val`` is given, ``out/validation.jsonl`` and pictures in ``out/validation`` come with it; where the
    decoder trains, ``out/vae`` holds the VAE.

    Raises:
        ValueError: see ``prepare`` and ``loop.train``. FloatingPointError: see ``loop.train``.
    """
    loop = resolved(loop)
    if config.val and config.val_every % loop.save_every:
        raise ValueError(
            f"val_every: expected a multiple of save_every, {loop.save_every}, so that what is scored is kept, "
            f"got {config.val_every}"
        )
    model, source = prepare(config, loop)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    validation = Validation(model, config, loop, out) if config.val else None

    def keep(step: int, average: dict[str, torch.Tensor]) -> None:
        if step:
            save_weights(out, average, config.model == "tiny", trained)
        if step and config.train_decoder and model.vae is not None:
            save_vae(model.vae, average, out / "vae")
        if validation is not None:
            validation(step, average)

    settings = {"preset": preset, "denoiser": asdict(config)}
    return train(model, source, objective(config), loop, out, extra_config=settings, every=keep, report=report)


def save_vae(vae: AutoencoderKLTemporalDecoder, average: dict[str, torch.Tensor], folder: Path) -> None:
    """The VAE with its averaged decoder, written beside its place and renamed when whole."""
    twin = AutoencoderKLTemporalDecoder.from_config(vae.config)
    twin.load_state_dict({k.removeprefix("vae."): v.cpu() for k, v in average.items() if k.startswith("vae.")})
    replace_folder(folder, twin.save_pretrained)
