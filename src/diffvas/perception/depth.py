"""Depth of a clip: from files, from Depth Anything V2, or none.

The network is transformers' own; its preparation of frames is done here, with Pillow, because transformers has two that
differ in their numbers and takes the one for which a library (torchvision) happens to be installed. torch, transformers
and the hub's client are imported when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diffvas import arrays, video
from diffvas.model_files import AbsentError, ModelFiles, quiet, reason
from diffvas.types import F32, U8, Clip

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DepthModelInfo:
    """A published model: its id on the hub, and the licence of its weights."""

    id: str
    licence: str


DEPTH_MODELS: dict[str, DepthModelInfo] = {
    "small": DepthModelInfo("depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0"),
    "base": DepthModelInfo("depth-anything/Depth-Anything-V2-Base-hf", "CC-BY-NC-4.0, not for commercial use"),
    "large": DepthModelInfo("depth-anything/Depth-Anything-V2-Large-hf", "CC-BY-NC-4.0, not for commercial use"),
}

_INSTEAD = "give depth by --depth FOLDER, or --depth none"
_FILES = ModelFiles(
    what="depth",
    known=DEPTH_MODELS,
    others=("auto", "none"),
    a_path="a path that exists",
    instead=_INSTEAD,
    configs=("config.json", "preprocessor_config.json"),
)


# ---------------------------------------------------------------------------------------------------------------------
# the command line's words


def resolve_depth(
    text: str, clip: Clip, *, device: str | torch.device = "auto", progress: Progress | None = None
) -> tuple[F32 | None, str]:
    """What ``--depth`` asks for.

    Args:
        text: ``none``; ``auto`` (the Small model if it is cached or can be downloaded, otherwise none); a name of
            :data:`DEPTH_MODELS`; a file or folder of depth as ``video.read_depth`` takes it; a folder with a model,
            which is one with a ``config.json``; or a hub id.
        clip: whose depth. device: ``auto``, ``cpu``, ``cuda`` or a torch device. progress: as (``"depth"``, done, T).

    Returns:
        (T, H, W) float32 inverse depth, larger = nearer, in any unit, all finite, or None; and one line that says what
        was used.

    Raises:
        ValueError: nothing of all that, or it cannot be read; also under ``auto``, where a cached model is broken.
    """
    if text == "none":
        return None, "depth: none"
    path = Path(text)
    if text not in ("auto", *DEPTH_MODELS) and path.exists() and not (path / "config.json").is_file():
        return _read(path, clip)
    try:
        estimator = load_depth_model("small" if text == "auto" else text, device)
    except AbsentError as error:
        if text != "auto":
            raise
        return None, f"depth: none (auto: {error.reason}; give --depth FOLDER, or a model id)"
    auto = "auto: " if text == "auto" else ""
    return estimator(clip.frames_u8, progress), f"depth: {auto}{estimator.description}"


def _read(path: Path, clip: Clip) -> tuple[F32, str]:
    depth = video.read_depth(path, clip.size, clip.num_frames)
    unknown = int((~np.isfinite(depth)).sum())
    note = f" ({unknown} of {depth.size} values unknown, filled from the nearest known)" if unknown else ""
    return arrays.clean_depth(depth), f"depth: {path}{note}"


# ---------------------------------------------------------------------------------------------------------------------
# where models are


def find_local_depth_model() -> str | None:
    """The folder of Depth Anything V2 Small in the hub's cache, whole, or None. Asks no network.

    Small alone: ``auto`` must not depend on what else was downloaded, and the others' licences forbid some uses.
    """
    folder = _FILES.cached(DEPTH_MODELS["small"].id)
    return None if folder is None else str(folder)


# ---------------------------------------------------------------------------------------------------------------------
# loading


def load_depth_model(
    name_or_path: str, device: str | torch.device = "cpu", *, dtype: torch.dtype | None = None
) -> DepthEstimator:
    """Load a Depth Anything model, weights from safetensors only.

    Args:
        name_or_path: a name of :data:`DEPTH_MODELS`, a folder in transformers' layout, or a hub id; the hub is asked
            only for what its cache lacks.
        device: where to compute; ``auto`` is CUDA where there is one, else the CPU.
        dtype: of all but the last layers, which are always float32. None is float16 on CUDA, bfloat16 on CPUs that
            compute it, else float32.

    Raises:
        ValueError: an unknown name, a model that is not to be had (the message says how to go on without), files that
            are missing, damaged, pickles or another architecture's, a metric model, or a device that is not there.
    """
    folder, name, licence = _FILES.locate(str(name_or_path))
    import torch

    from diffvas.devices import pick_device, pick_dtype

    place = pick_device(device)
    preparation = Preparation.read(folder / "preprocessor_config.json")
    model = _load_network(folder)
    dtype = dtype or pick_dtype(place)
    # The last layers stay in float32: bfloat16 has 8 bits, which would come out as steps in the depth.
    model.requires_grad_(False).eval()
    model.backbone.to(dtype)
    model.neck.to(dtype)
    model.head.register_forward_pre_hook(lambda _, args: ([x.to(torch.float32) for x in args[0]], *args[1:]))
    words = f"{name} ({licence}), {str(dtype).removeprefix('torch.')} on {place}"
    return DepthEstimator(model.to(place), preparation, place, words)


def _check_architecture(path: Path) -> None:
    config = _FILES.read_json(path)
    kind, backbone = config.get("model_type"), config.get("backbone_config")
    if kind != "depth_anything":
        raise ValueError(f"depth: expected a Depth Anything model (depth_anything), got {kind!r} in '{path}'")
    if "metric" in (config.get("depth_estimation_type"), config.get("depth_estimation")):
        raise ValueError(f"depth: expected a model of relative inverse depth, got a metric one in '{path}'")
    # any other could name weights somewhere else, which transformers would fetch
    if config.get("backbone") or not isinstance(backbone, dict) or backbone.get("model_type") != "dinov2":
        raise ValueError(f"depth: expected a dinov2 backbone_config, got another backbone in '{path}'")


def _load_network(folder: Path) -> Any:
    """transformers' DepthAnythingForDepthEstimation in float32 on the CPU, every weight from the folder."""
    _check_architecture(folder / "config.json")
    import torch

    try:
        from transformers import DepthAnythingForDepthEstimation

        with quiet():
            model, report = DepthAnythingForDepthEstimation.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # what a broken file raises differs by library; so does what a broken torchvision raises
        raise ValueError(f"depth: the model in '{folder}' cannot be loaded ({reason(error)})") from error
    # the mask token is for training alone
    missing = sorted(key for key in report["missing_keys"] if not key.endswith("mask_token"))
    for word, keys in (("missing", missing), ("unexpected", sorted(report["unexpected_keys"]))):
        if keys:
            some = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise ValueError(f"depth: expected the weights of its config in '{folder}', got {len(keys)} {word}: {some}")
    return model


# ---------------------------------------------------------------------------------------------------------------------
# estimating


@dataclass(frozen=True)
class Preparation:
    """How a model wants its frames: what its ``preprocessor_config.json`` says.

    Attributes:
        size: (height, width) to come near to. keep_aspect: scale both sides alike, by whichever of the two scales is
            nearer to 1. multiple: of which both sides are made a multiple.
        resample: Pillow's number of the filter. scale: multiplies levels 0 to 255. mean, std: per channel, RGB.
    """

    size: tuple[int, int]
    keep_aspect: bool
    multiple: int
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, path: Path) -> Preparation:
        """Read ``preprocessor_config.json``; a step that is not done here is an error, never left out.

        Raises:
            ValueError: unreadable, or a preparation other than resizing, scaling and normalising.
        """
        config = _FILES.read_json(path)
        steps = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": False, "do_center_crop": False}
        wrong = [name for name, wanted in steps.items() if bool(config.get(name, wanted)) != wanted]
        if wrong:
            raise ValueError(f"depth: expected {wrong[0]} to be {steps[wrong[0]]} in '{path}', got {config[wrong[0]]}")
        try:
            found = cls(
                size=(int(config["size"]["height"]), int(config["size"]["width"])),
                keep_aspect=bool(config["keep_aspect_ratio"]),
                multiple=int(config["ensure_multiple_of"]),
                resample=int(config["resample"]),
                scale=float(config["rescale_factor"]),
                mean=tuple(float(x) for x in config["image_mean"]),
                std=tuple(float(x) for x in config["image_std"]),
            )
            Image.Resampling(found.resample)  # raises what is no filter
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"depth: expected the preparation of Depth Anything in '{path}', got {error!r}") from error
        if min(*found.size, found.multiple) < 1 or (len(found.mean), len(found.std)) != (3, 3) or 0.0 in found.std:
            raise ValueError(f"depth: expected positive sizes and three means and deviations in '{path}', got {found}")
        return found

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) at which the network sees a frame of this size."""
        scales = [self.size[0] / height, self.size[1] / width]
        if self.keep_aspect:
            scales = [scales[1] if abs(1 - scales[1]) < abs(1 - scales[0]) else scales[0]] * 2
        blocks = (round(scales[0] * height / self.multiple), round(scales[1] * width / self.multiple))
        # the narrowest frames would have none, on which transformers fails
        return max(blocks[0], 1) * self.multiple, max(blocks[1], 1) * self.multiple

    def __call__(self, frames_u8: U8) -> torch.Tensor:
        """(T, H, W, 3) uint8 RGB to (T, 3, h, w) float32, as transformers' Pillow preparation gives it."""
        import torch

        height, width = self.network_size(frames_u8.shape[1], frames_u8.shape[2])
        resample = Image.Resampling(self.resample)
        sized = np.stack([np.asarray(Image.fromarray(frame).resize((width, height), resample)) for frame in frames_u8])
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        pixels = (sized.astype(np.float32) * np.float32(self.scale) - mean) / std
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 1)))


@dataclass(frozen=True, eq=False)
class DepthEstimator:
    """A loaded model; :func:`load_depth_model` makes it.

    Attributes:
        model: transformers' network. preparation: of its frames. device: where it computes.
        description: model, revision, licence, number format and device, for one line to the user.
    """

    model: Any
    preparation: Preparation
    device: torch.device
    description: str

    def __call__(self, frames_u8: U8, progress: Progress | None = None, chunk: int = 8) -> F32:
        """Estimate each frame's depth.

        Args:
            frames_u8: (T, H, W, 3) uint8, RGB. progress: called after each chunk as (``"depth"``, frames done, T).
            chunk: frames at a time; bounds the memory, and the results agree but for rounding.

        Returns:
            (T, H, W) float32 inverse depth, larger = nearer, 0 or more, in the model's unit, all finite.

        Raises:
            ValueError: frames of another shape or dtype, a chunk below 1, or a model that gives NaN or infinity.
        """
        frames = np.asarray(frames_u8)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or frames.size == 0:
            raise ValueError(
                "frames_u8: expected a uint8 array of shape (T, H, W, 3) with no empty axis, "
                f"got {frames.dtype} {frames.shape}"
            )
        if chunk < 1:
            raise ValueError(f"chunk: expected 1 or more, got {chunk}")
        count, height, width = frames.shape[:3]
        depth = np.empty((count, height, width), np.float32)
        for start in range(0, count, chunk):
            part = slice(start, min(start + chunk, count))
            depth[part] = arrays.resize_float(self._infer(frames[part]), (height, width))
            if progress is not None:
                progress("depth", part.stop, count)
        return depth

    def _infer(self, frames_u8: U8) -> F32:
        """(t, h, w) float32 at the network's size."""
        import torch

        with torch.inference_mode():
            found: F32 = self.model(self.preparation(frames_u8).to(self.device)).predicted_depth.float().cpu().numpy()
        if not np.isfinite(found).all():
            raise ValueError(
                f"depth: expected finite values, got NaN or infinity from {self.description}; "
                f"use another model or device, or {_INSTEAD}"
            )
        return found


# ---------------------------------------------------------------------------------------------------------------------
# values
