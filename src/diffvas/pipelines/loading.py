"""Load the two stages of a model: the bundled one, a folder, or ids of a hub."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from diffvas import arrays
from diffvas.allocator import keep_freed_memory
from diffvas.focus import Box, focus_box
from diffvas.pipelines.diffusion_vas import CONDITIONS, DiffusionVASPipeline

BUNDLED = ("tiny",)


@dataclass(frozen=True)
class CompletionModel:
    """Both stages, on one device.

    Attributes:
        amodal, content: the two pipelines. name: what was asked for. area: pixels per frame the model works at.
        frames: frames per window. focus: how much wider than what is seen of an object the box is that the model looks
            at; None = the whole frame.
    """

    amodal: DiffusionVASPipeline
    content: DiffusionVASPipeline
    name: str
    area: int
    frames: int
    focus: float | None = None

    @property
    def device(self) -> torch.device:
        return self.amodal.device

    def focus_box(self, masks: NDArray[np.bool_]) -> Box:
        """The part of the frame that both stages look at for an object with these visible masks (T, H, W)."""
        if self.focus is None:
            return Box(0, masks.shape[1], 0, masks.shape[2])
        return focus_box(masks, self.focus)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) at which both stages work on a clip of this size; see ``arrays.working_size``."""
        return arrays.working_size(height, width, self.area, max(self.amodal.multiple, self.content.multiple))


def pick_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: an unknown name, or ``cuda`` where there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: expected a CUDA device, got none on this machine; use --device cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def has_bf16() -> bool:
    """Whether this CPU computes bfloat16 natively (AVX-512 BF16 or AMX); elsewhere float32 is faster.

    oneDNN's own question, ``_is_mkldnn_bf16_supported``, also says yes where it would emulate.
    """
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, test, lambda: False)()) for test in tests)


def pick_dtype(device: torch.device) -> torch.dtype:
    """float16 on CUDA, bfloat16 on CPUs that compute it, else float32."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if has_bf16() else torch.float32


def model_folder(model: str | Path) -> Path:
    """The folder of a bundled model or of a path; it must hold both stages.

    Raises:
        ValueError: neither a bundled name nor a folder with ``amodal/`` and ``content/``.
    """
    bundled = str(model) in BUNDLED
    path = Path(str(resources.files("diffvas") / "weights" / str(model))) if bundled else Path(model)
    if not bundled and not path.exists():
        raise ValueError(
            f"model: expected one of {', '.join(BUNDLED)}, a folder or a hub id like user/name, got {str(model)!r}"
        )
    missing = [stage for stage in CONDITIONS if not (path / stage / "model_index.json").is_file()]
    if missing:
        raise ValueError(
            f"model: expected a folder with {' and '.join(CONDITIONS)} pipelines, {path} has no {', '.join(missing)}"
        )
    return path


def download(model: str) -> Path:
    """A snapshot of a hub repository that holds both stages as sub-folders, safetensors only.

    Raises:
        ValueError: the hub cannot be reached or has no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(model, allow_patterns=["*.json", "*.safetensors"])
    except Exception as error:
        raise ValueError(
            f"model: {model!r} is neither a folder here nor to be had from the hub ({type(error).__name__})"
        ) from error
    return model_folder(Path(folder))


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


def load_stage(
    folder: Path, stage: str, device: torch.device, dtype: torch.dtype, **components: Any
) -> DiffusionVASPipeline:
    """One stage of a model folder, on its device; ``components`` stand in for what the folder does not hold.

    Raises:
        ValueError: a file is missing or broken, or the folder holds the other stage.
    """
    half = any((folder / stage / "unet").glob("*.fp16.safetensors"))
    try:
        with without_bars():
            pipe = DiffusionVASPipeline.from_pretrained(
                folder / stage,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                variant="fp16" if half else None,
                **components,
            )
    except Exception as error:  # what a broken file raises differs by library: safetensors, json, diffusers, ...
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"model: {folder / stage} cannot be loaded: {reason}") from error
    if pipe.config.stage != stage:
        raise ValueError(f"model: expected the {stage} stage in {folder / stage}, got {pipe.config.stage!r}")
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def load_pipelines(model: str | Path = "tiny", device: str = "auto") -> CompletionModel:
    """Load both stages of a model, weights from safetensors only.

    Args:
        model: ``tiny`` (bundled), a folder with ``amodal/`` and ``content/`` pipelines, or a hub id ``user/name``.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    where = pick_device(device)
    if where.type == "cpu":
        keep_freed_memory()
    name = str(model)
    # a path that does not exist is taken for a hub id only where it could be one
    is_hub = (
        name not in BUNDLED and not Path(name).exists() and name.count("/") == 1 and not name.startswith((".", "/"))
    )
    folder = download(name) if is_hub else model_folder(model)
    dtype = pick_dtype(where)
    first = load_stage(folder, "amodal", where, dtype)
    has_own = (folder / "content" / "vae").is_dir()
    second = load_stage(folder, "content", where, dtype, **({} if has_own else {"vae": first.vae}))
    stages = {"amodal": first, "content": second}
    defaults = stages["amodal"].config.defaults
    return CompletionModel(
        stages["amodal"],
        stages["content"],
        name,
        area=int(defaults.get("area", 256 * 512)),
        frames=int(defaults.get("frames", 25)),
        focus=defaults.get("focus"),
    )
