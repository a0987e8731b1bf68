"""One stage from a folder on disk: our own layout, or the one that the paper's authors released.

Both are diffusers folders. In the released one the UNet has an unused ``conv_in`` and the real ``conv_in2``, its config
says 8 input channels, and nothing says which stage it is. Weights are read from safetensors only: pickles can run code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, UNetSpatioTemporalConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError, safe_open
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from diffvas.diffusion import edm
from diffvas.diffusion.unet import CHANNELS, SVD_CHANNELS, clean_checkpoint, widen_conv_in
from diffvas.model_files import read_json, reason, weight_files
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline, svd_scheduler

UNET_FILE, TOWER_FILE = "diffusion_pytorch_model", "model"


def is_stage(folder: Path) -> bool:
    """Whether a folder looks like one stage: a diffusers pipeline with a UNet."""
    return (folder / "unet" / "config.json").is_file()


def stage_of(folder: Path) -> str | None:
    """What the folder says it is: "amodal" or "content", None for the released layout, which does not say."""
    return (
        read_json(folder / "model_index.json", "model").get("stage")
        if (folder / "model_index.json").is_file()
        else None
    )


def read_unet(folder: Path, dtype: torch.dtype) -> UNetSpatioTemporalConditionModel:
    """A UNet as it lies in ``folder``, released layout or diffusers' own, any number of input channels.

    Raises:
        ValueError: another architecture, broken or pickled files, or weights that do not fit, with their names.
    """
    config = read_json(folder / "config.json", "model")
    name = config.get("_class_name", "?")
    if name != "UNetSpatioTemporalConditionModel":
        raise ValueError(f"model: expected a UNetSpatioTemporalConditionModel in {folder}, got a {name}")
    state: dict[str, torch.Tensor] = {}
    for path in weight_files(folder, UNET_FILE, dtype != torch.float32):
        try:
            with safe_open(path, "pt") as file:
                state |= {key: file.get_tensor(key).to(dtype) for key in file.keys()}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"model: {path} is broken or cut short ({error})") from error
    config, state = clean_checkpoint(config, state)
    with init_empty_weights():
        unet = UNetSpatioTemporalConditionModel.from_config(config)
    _check_names(folder, unet, state)
    unet.load_state_dict(state, assign=True)
    return unet.eval()


def _check_names(folder: Path, model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    other = [key for key in wanted.keys() & state.keys() if wanted[key] != tuple(state[key].shape)]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", sorted(other)))
        if keys
    ]
    if problems:
        raise ValueError(f"model: the weights in {folder} do not fit its config: {'; '.join(problems)}")


def _from_pretrained(kind: Any, folder: Path, name: str, dtype: torch.dtype) -> Any:
    """A network by the library's own loader, which knows older names of weights; complains as ``read_unet``."""
    half = weight_files(folder, name, dtype != torch.float32)[0].name.count(".fp16.") > 0
    try:
        with without_bars():
            model, info = kind.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                variant="fp16" if half else None,
                output_loading_info=True,
            )
    except Exception as error:  # what a broken file raises differs by library: safetensors, json, diffusers, ...
        raise ValueError(f"model: {folder} cannot be loaded: {reason(error)}") from error
    problems = [
        f"{len(keys)} {what} ({', '.join(sorted(map(str, keys))[:4])})"
        for what in ("missing", "unexpected", "mismatched")
        if (keys := info.get(f"{what}_keys"))
    ]
    if problems:
        raise ValueError(f"model: the weights in {folder} do not fit its config: {'; '.join(problems)}")
    return model.eval()


def vae_dtype(dtype: torch.dtype, device: torch.device, force_upcast: bool = True) -> torch.dtype:
    """A type in which SVD's VAE does not overflow: float16 has too small a range for it (``force_upcast``)."""
    if dtype != torch.float16 or not force_upcast:
        return dtype
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def load_stage(
    folder: Path,
    stage: str,
    device: torch.device,
    dtype: torch.dtype,
    vae: AutoencoderKLTemporalDecoder | None = None,
) -> DiffusionVASPipeline:
    """One stage, on the CPU or moved to ``device``, in evaluation mode.

    Args:
        folder: our layout or the released one.
        vae: stands in where the folder holds none (both stages of a model may share it).

    Raises:
        ValueError: says what is wrong with the folder: the other stage, another architecture, SVD itself, a file
            missing or broken, weights missing or unexpected.
    """
    own = stage_of(folder)
    if own not in (stage, None):
        raise ValueError(f"model: expected the {stage} stage in {folder}, got {own!r}")
    unet = read_unet(folder / "unet", dtype)
    if unet.config.in_channels == SVD_CHANNELS:
        raise ValueError(
            f"model: {folder} is Stable Video Diffusion itself ({SVD_CHANNELS} input channels, expected {CHANNELS}); "
            "widen it with `diffvas convert` and train it first"
        )
    if (unet.config.in_channels, unet.config.out_channels) != (CHANNELS, 4):
        got = f"{unet.config.in_channels} and {unet.config.out_channels}"
        raise ValueError(f"model: expected {CHANNELS} input and 4 output channels in {folder / 'unet'}, got {got}")
    parts = load_companions(folder, device, dtype, vae)
    pipe = DiffusionVASPipeline(
        unet=unet, **parts, stage=stage, defaults=read_json(folder / "model_index.json", "model").get("defaults")
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_companions(
    folder: Path, device: torch.device, dtype: torch.dtype, vae: AutoencoderKLTemporalDecoder | None = None
) -> dict[str, Any]:
    """All of a pipeline but the UNet: ``vae``, ``image_encoder``, ``scheduler``, ``feature_extractor``."""
    if (folder / "vae").is_dir():
        upcast = bool(read_json(folder / "vae" / "config.json", "model").get("force_upcast", True))
        vae = _from_pretrained(
            AutoencoderKLTemporalDecoder, folder / "vae", UNET_FILE, vae_dtype(dtype, device, upcast)
        )
    elif vae is None:
        raise ValueError(f"model: expected a folder vae in {folder}, found none")
    tower = _from_pretrained(CLIPVisionModelWithProjection, folder / "image_encoder", TOWER_FILE, dtype)
    scheduler = svd_scheduler()
    if (folder / "scheduler").is_dir():
        scheduler = EulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        wanted = {"prediction_type": "v_prediction", "sigma_min": edm.SIGMA_MIN, "sigma_max": edm.SIGMA_MAX}
        other = {k: scheduler.config.get(k) for k, v in wanted.items() if scheduler.config.get(k) != v}
        if other:
            raise ValueError(f"model: expected a scheduler with {wanted} in {folder}, got {other}")
    size = tower.config.image_size
    extractor = CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, resample=3
    )
    return {"vae": vae, "image_encoder": tower, "scheduler": scheduler, "feature_extractor": extractor}


def widened_svd(
    folder: Path, stage: str, dtype: torch.dtype, mode: str = "zero", seed: int = 0
) -> DiffusionVASPipeline:
    """A stage to be trained, from Stable Video Diffusion: 12 input channels, of which the last 4 are new.

    Args:
        mode, seed: see ``diffusion.unet.widen_conv_in``.

    Raises:
        ValueError: see ``load_stage``; or the UNet has not SVD's 8 channels.
    """
    unet = read_unet(folder / "unet", dtype)
    if unet.config.in_channels != SVD_CHANNELS:
        raise ValueError(
            f"model: expected SVD's {SVD_CHANNELS} input channels in {folder}, got {unet.config.in_channels}"
        )
    widen_conv_in(unet, CHANNELS, mode, torch.Generator().manual_seed(seed))
    return DiffusionVASPipeline(unet=unet, **load_companions(folder, torch.device("cpu"), dtype), stage=stage)


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of diffusers and transformers while files are read: it takes a second, and the bars are six."""
    modules = (diffusers_logging, transformers_logging)
    shown = [module for module in modules if module.is_progress_bar_enabled()]
    for module in shown:
        module.disable_progress_bar()
    try:
        yield
    finally:
        for module in shown:
            module.enable_progress_bar()
