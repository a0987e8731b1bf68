"""The recipes by name: what each of the paper's models and ablations is trained with.

Small ones train this project's own networks from scratch in hours on a CPU; those that begin with ``paper-`` train
Stable Video Diffusion as the paper says, and want ``--model`` (the folder of SVD) and GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from diffvas.train.config import DenoiserConfig
from diffvas.train.settings import LoopConfig, nearest


@dataclass(frozen=True)
class Preset:
    """A recipe: ``text`` says what it is; ``needs`` are fields that its user has to give."""

    text: str
    denoiser: DenoiserConfig
    loop: LoopConfig
    needs: tuple[str, ...] = ("data",)


SMALL = LoopConfig(warmup=50, ema=0.99)
# the paper: AdamW 0.9/0.999, constant rate; the public code neither clips nor averages
PAPER = LoopConfig(
    steps=20_000, lr=3e-5, warmup=0, decay=0.0, beta2=0.999, clip=0.0, ema=0.0, save_every=500, device="cuda"
)
FROM_SVD = DenoiserConfig(
    batch=8,
    noise_mean=0.7,
    noise_deviation=1.6,
    noise_top=0.0,
    drop_b=0.0,
    drop_all=0.1,
    model="",
    trained="temporal",
    checkpointing=True,
)
SVD = ("data", "model")


def _small() -> dict[str, Preset]:
    masks, colours = DenoiserConfig(), DenoiserConfig("content")
    slow = replace(SMALL, lr=SMALL.lr / 10)
    # decoding with gradients costs as much as the network itself on a CPU: 4 frames of a clip will do
    finish = replace(masks, objective="finish", drop_all=0.0, hidden_weight=1.0, pixel_frames=4)
    return {
        "amodal": Preset("stage 1 from scratch: mask and depth at once", masks, SMALL),
        "mask-only": Preset("stage 1 from scratch, the mask alone", replace(masks, conditions=("mask",)), SMALL),
        "mask-rgb": Preset(
            "stage 1 from scratch: mask and RGB (ablation; caches with --rgb)",
            replace(masks, conditions=("mask", "rgb")),
            SMALL,
        ),
        "mask-rgb-depth": Preset(
            "stage 1 from scratch: mask, depth and RGB (ablation; caches with --rgb)",
            replace(masks, conditions=("mask", "depth", "rgb")),
            SMALL,
        ),
        "two-stage": Preset(
            "add depth to a mask-only run, at a tenth of the rate", masks, slow, needs=("data", "start")
        ),
        "random-channels": Preset(
            "the same with new input channels at random instead of at zero (ablation)",
            replace(masks, random_channels=True),
            slow,
            needs=("data", "start"),
        ),
        "regression": Preset(
            "the same network in one step, squared error of the latents (ablation: 3D-UNet)",
            replace(masks, objective="regression", drop_all=0.0),
            SMALL,
        ),
        "finish": Preset(
            "fine-tune a stage-1 run for one step, with the loss on decoded masks",
            finish,
            replace(slow, lr=1e-4),
            needs=("data", "start", "vae"),
        ),
        "content": Preset("stage 2 from scratch or from a stage-1 run", colours, SMALL),
        "finish-content": Preset(
            "fine-tune a stage-2 run for one step, with the loss on decoded colours",
            replace(finish, stage="content", drop_b=0.02),
            replace(slow, lr=1e-4),
            needs=("data", "start", "vae"),
        ),
        "end-to-end": Preset(
            "one stage for both: visible RGB and depth to the RGB of the whole object (ablation)",
            DenoiserConfig("end-to-end"),
            SMALL,
        ),
    }


def _paper() -> dict[str, Preset]:
    masks, slow = FROM_SVD, replace(PAPER, lr=3e-6)
    started = ("data", "model", "start")
    return {
        "paper-mask-only": Preset(
            "stage 1, first half: SVD with the mask alone, 3e-5", replace(masks, conditions=("mask",)), PAPER, SVD
        ),
        "paper-two-stage": Preset("stage 1, second half: depth added to that run, 3e-6", masks, slow, started),
        "paper-one-stage": Preset("stage 1 in one go, mask and depth from SVD at 3e-5 (ablation)", masks, PAPER, SVD),
        "paper-random-channels": Preset(
            "the second half with random new channels (ablation)", replace(masks, random_channels=True), slow, started
        ),
        "paper-one-stage-random": Preset(
            "one go with random new channels (ablation)", replace(masks, random_channels=True), PAPER, SVD
        ),
        "paper-regression": Preset(
            "3D-UNet: SVD's network in one step, all weights trained (ablation)",
            replace(masks, objective="regression", drop_all=0.0, trained="all"),
            PAPER,
            SVD,
        ),
        "paper-content": Preset("stage 2 from SVD", replace(masks, stage="content"), PAPER, SVD),
        "paper-end-to-end": Preset("one-stage RGB from SVD (ablation)", replace(masks, stage="end-to-end"), PAPER, SVD),
        "paper-finish": Preset(
            "fine-tune a stage-1 run for one step, with the loss on decoded masks",
            replace(masks, objective="finish", drop_all=0.0, hidden_weight=1.0),
            slow,
            (*started, "vae"),
        ),
        "reference": Preset(
            "what the public code does: one go at 3e-5, and its own dropout",
            replace(masks, drop_all=0.1, drop_tokens=0.1, drop_latents=0.1),
            PAPER,
            SVD,
        ),
    }


PRESETS: dict[str, Preset] = {**_small(), **_paper()}


def resolve(name: str, changes: dict[str, Any]) -> tuple[DenoiserConfig, LoopConfig]:
    """A preset with some fields changed.

    Args:
        changes: field of either dataclass -> value.

    Raises:
        ValueError: an unknown preset or field (the nearest one is suggested), a value that makes no sense, or one that
            the preset needs and that is not given.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got '{name}'{nearest(name, list(PRESETS))}")
    preset = PRESETS[name]
    ours, loops = ({field.name for field in fields(kind)} for kind in (DenoiserConfig, LoopConfig))
    for key in changes:
        if key not in ours | loops:
            raise ValueError(f"{key}: expected a field of the recipe{nearest(key, sorted(ours | loops))}, got another")
    for key in preset.needs:
        if not changes.get(key):
            raise ValueError(f"{key}: expected one with the preset '{name}', got none")
    denoiser = replace(preset.denoiser, **{k: v for k, v in changes.items() if k in ours})
    return denoiser, replace(preset.loop, **{k: v for k, v in changes.items() if k in loops})
