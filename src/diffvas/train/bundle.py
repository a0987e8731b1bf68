"""Put trained parts together: a folder with both stages in fp16, as ``load_pipelines`` reads it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from safetensors.torch import load_file

from diffvas.train.denoiser import as_pipeline, tiny_denoiser

# area: pixels per frame the model works at; threshold: where the mean of the samples is cut. Chosen on validation
# scenes with ``diffvas eval scenes``; see the cards beside the weights.
DEFAULTS: dict[str, dict[str, Any]] = {
    "amodal": {"steps": 3, "samples": 4, "guidance": 1.0, "threshold": 0.5, "area": 128 * 256, "frames": 25},
    "content": {"steps": 3, "samples": 1, "guidance": 1.0, "threshold": 0.5, "area": 128 * 256, "frames": 25},
}


def save_model(vae: Path, runs: dict[str, Path], out: Path, defaults: dict[str, dict[str, Any]] | None = None) -> None:
    """Write ``out/amodal`` and ``out/content``, fp16 safetensors; the VAE is stored once, with the first stage.

    Args:
        vae: a saved VAE. runs: stage -> folder of a training run with ``average.safetensors``.
        defaults: stage -> how the pipeline turns the model into a result; ``DEFAULTS`` where None.
    """
    parts = AutoencoderKLTemporalDecoder.from_pretrained(vae)
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    for stage, run in runs.items():
        model = tiny_denoiser()
        model.load_state_dict(load_file(run / "average.safetensors"))
        pipe = as_pipeline(model, parts, stage, (defaults or DEFAULTS)[stage]).to(torch.float16)
        pipe.save_pretrained(temporary / stage)
        if stage != "amodal":
            shutil.rmtree(temporary / stage / "vae")
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)
