"""Released checkpoints, and Stable Video Diffusion itself, as clean model folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from diffvas.devices import DTYPES
from diffvas.pipelines.checkpoints import load_stage, stage_of, widened_svd, without_bars
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline
from diffvas.pipelines.loading import source_folder, stage_folders


def convert(
    source: str | Path,
    out: Path,
    *,
    stage: str | None = None,
    dtype: str = "float32",
    widen: str | None = None,
    seed: int = 0,
) -> dict[Path, int]:
    """Write a model in our layout; see ``diffvas convert --help``.

    Args:
        source: what ``load_pipelines`` takes, or with ``stage`` a folder or id of that stage alone.
        out: a new or empty folder; it appears when it is whole.
        dtype: of ``devices.DTYPES``; float16 is written as the "fp16" variant, the VAE too (it is read in a safe type).
        widen: "zero" or "random": the source is SVD, which gets four more input channels; seed: of random ones.

    Returns:
        Folder of each stage written -> parameters of its UNet.

    Raises:
        ValueError: names what is wrong with the source.
    """
    kind, cpu = DTYPES[dtype], torch.device("cpu")
    if widen is not None:
        assert stage is not None
        return _write({out: widened_svd(source_folder(source, stage), stage, kind, widen, seed)}, out, dtype)
    if stage is not None:
        return _write({out: load_stage(source_folder(source, stage), stage, cpu, kind)}, out, dtype)
    folders = stage_folders(source)
    if len(folders) < 2:
        own = stage_of(folders["amodal"])
        raise ValueError(
            f"model: {folders['amodal']} holds one stage; expected stage={own or 'amodal or content'} (--stage) with it"
        )
    first = load_stage(folders["amodal"], "amodal", cpu, kind)
    second = load_stage(folders["content"], "content", cpu, kind, first.vae)
    return _write({out / "amodal": first, out / "content": second}, out, dtype)


def _write(pipes: dict[Path, DiffusionVASPipeline], out: Path, dtype: str) -> dict[Path, int]:
    """Write beside ``out`` and rename."""
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with without_bars():
            for folder, pipe in pipes.items():
                place = temporary / folder.relative_to(out)
                pipe.save_pretrained(place, variant="fp16" if dtype == "float16" else None)
        if out.is_dir():
            out.rmdir()  # empty, or this fails and nothing is lost
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {folder: sum(p.numel() for p in pipe.unet.parameters()) for folder, pipe in pipes.items()}
