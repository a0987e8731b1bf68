"""Load a model by name: the bundled one, the paper's, a folder, or ids of a hub."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from diffvas import arrays
from diffvas.allocator import keep_freed_memory
from diffvas.devices import pick_device, pick_dtype
from diffvas.diffusion.pixel_net import PixelNet
from diffvas.focus import Box, extent, follow, whole_frames
from diffvas.model_files import reason
from diffvas.pipelines import colours, finish, front
from diffvas.pipelines.checkpoints import is_stage, load_stage, stage_of
from diffvas.pipelines.diffusion_vas import BEHAVIOURS, CONDITIONS, DiffusionVASPipeline, Fast
from diffvas.pipelines.uncertainty import sample_levels
from diffvas.types import Bool, Extent

BUNDLED = ("tiny",)
OFFICIAL = ("kaihuac/diffusion-vas-amodal-segmentation", "kaihuac/diffusion-vas-content-completion")
OFFICIAL_LICENCE = "Stability AI Community License: free for research and for companies below its revenue limit"
# networks on pixels beside a stage, and the channels that go into them
PIXEL_NETS = {
    "amodal": {"front": front.INPUTS, "finish": finish.INPUTS},
    "content": {"colours": colours.INPUTS},
}
OFFLOADS = ("none", "model", "sequential")


@dataclass(frozen=True)
class CompletionModel:
    """Both stages, on one device.

    Attributes:
        amodal, content: the two pipelines; content is None where only masks are wanted.
        name: what was asked for. area: pixels per frame the model works at. frames: frames per window.
        focus: sides of the square that the model looks at, and that follows the object, in sides of what is seen of it;
            None = the whole frame.
        depth_rule: whether hidden pixels are accepted only behind what depth says is nearer (``order.py``).
        memory: whether visible masks come with what other frames say of the object's shape (``shape_memory.py``).
        votes: share that they have in the soft mask beside the network.
        halo: thickness of what is cut off around an object where there is no depth; see ``pixels.trim_halo``.
        sure: what a part that is added has to reach where there is no depth, see ``doubt.py``; None = nothing.
        odds: what every pixel's are multiplied by in frames in which nothing of the object is visible; see
            ``finish.raise_odds``.
        rounds: how often masks are finished: 2 or more = again with what was said of all frames, see ``finish.py``.
        heed: share that other frames' masks then have in each one by depth, see ``finish.heed``.
        spread: whether samples are cut at levels of their own; see ``uncertainty.sample_levels``.
        cut_at: where soft masks are cut; None = where the model's own defaults say.
        detail: share of the network's own detail in the content, the rest being spread visible colours; None = the
            network's picture as it is. recall: whether hidden parts show what other frames show (``recall.py``).
        front, finish, colours: networks on pixels that tell from colours what stands in front where there is no depth
            (``front.py``), sharpen soft masks (``finish.py``) and touch up colours (``colours.py``); None = has none.
        behaviour: "default" or "faithful"; see ``diffusion_vas.Behaviour``.
    """

    amodal: DiffusionVASPipeline
    content: DiffusionVASPipeline | None
    name: str
    area: int
    frames: int
    focus: float | None = None
    depth_rule: bool = False
    memory: bool = False
    votes: float = 0.0
    halo: float = 0.0
    sure: float | None = None
    odds: float = 1.0
    rounds: int = 1
    heed: float = 0.0
    spread: bool = False
    cut_at: float | None = None
    detail: float | None = None
    recall: bool = False
    front: PixelNet | None = None
    finish: PixelNet | None = None
    colours: PixelNet | None = None
    behaviour: str = "default"

    @property
    def device(self) -> torch.device:
        return self.amodal._execution_device

    @property
    def threshold(self) -> float:
        """Where soft masks are cut."""
        return float(self.amodal.config.defaults["threshold"] if self.cut_at is None else self.cut_at)

    @property
    def aims(self) -> bool:
        """Whether what is looked at follows the whole object, as far as other frames tell of it; see ``aim.py``."""
        return self.memory and self.focus is not None

    def levels(self, samples: int) -> list[float]:
        """Where the soft mask of each sample is cut."""
        return sample_levels(self.threshold, samples, spread=self.spread)

    def look_along(
        self, extents: Sequence[Extent | None], size: tuple[int, int], shares: Sequence[float] | None = None
    ) -> list[Box]:
        """What is looked at in every frame, around an object that lies within ``extents``.

        Args:
            size: (height, width) of the frames. shares: see ``focus.follow``.
        """
        if self.focus is None:
            return whole_frames(len(extents), size)
        return follow(extents, size, self.focus, shares=shares)

    def look_at(self, masks: Bool) -> list[Box]:
        """:meth:`look_along` for an object's masks (T, H, W)."""
        return self.look_along([extent(mask) for mask in masks], (masks.shape[1], masks.shape[2]))

    def view_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) at which both stages see what they look at in frames of ``size``."""
        return self.working_size(*size) if self.focus is None else self.working_size(1, 1)

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) at which both stages work on a clip of this size; see ``arrays.working_size``.

        The released inference squeezes every frame to 256 x 512, whatever its aspect.
        """
        multiple = max(self.amodal.multiple, self.content.multiple if self.content is not None else 1)
        if self.behaviour == "faithful":
            height = max(1, round(math.sqrt(self.area / 2) / multiple)) * multiple
            return height, 2 * height
        return arrays.working_size(height, width, self.area, multiple)


def could_be_id(name: str) -> bool:
    """Whether a name that is no path here could be one of a hub: ``owner/name``."""
    return not Path(name).exists() and name.count("/") == 1 and not name.startswith((".", "/", "~"))


def download(name: str) -> Path:
    """A snapshot of a hub repository, safetensors and configs only.

    Raises:
        ValueError: the hub cannot be reached or has no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:
        raise ValueError(
            f"model: {name!r} is neither a folder here nor to be had from the hub ({type(error).__name__})"
        ) from error


def stage_folders(model: str | Path) -> dict[str, Path]:
    """Where the stages of a model lie: ``{"amodal": ..., "content": ...}``, or the first alone.

    Args:
        model: a bundled name, ``official``, a folder or hub id with both stages or one, or two of these, separated by a
            comma: AMODAL,CONTENT.

    Raises:
        ValueError: names what was looked for.
    """
    name = str(model)
    if name == "official" or name in OFFICIAL:
        name = ",".join(OFFICIAL)
    if name in BUNDLED:
        base = Path(str(resources.files("diffvas") / "weights" / name))
        return {stage: base / stage for stage in CONDITIONS}
    parts = name.split(",") if not Path(name).exists() else [name]
    if len(parts) == 2 and all(parts):
        return {stage: source_folder(part, stage) for stage, part in zip(CONDITIONS, parts, strict=True)}
    if len(parts) != 1:
        raise ValueError(f"model: expected one source, or two separated by a comma, got {name!r}")
    folder = _folder(name)
    held = {stage: folder / stage for stage in CONDITIONS if is_stage(folder / stage)}
    if is_stage(folder) and stage_of(folder) in ("amodal", None):
        held = {"amodal": folder}
    if "amodal" not in held:
        raise ValueError(
            f"model: expected a pipeline, or amodal/ and content/ with one each, in {folder}, found "
            f"{', '.join(sorted(held)) if held else 'none'}"
        )
    return held


def _folder(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if could_be_id(name):
        return download(name)
    raise ValueError(
        f"model: expected one of {', '.join(BUNDLED)}, official, a folder or a hub id like owner/name, got {name!r}"
    )


def source_folder(name: str | Path, stage: str) -> Path:
    """Where one stage lies: a folder or hub id with that stage alone, or with both.

    Raises:
        ValueError: no pipeline there.
    """
    folder = _folder(str(name))
    found = folder if is_stage(folder) else folder / stage
    if not is_stage(found):
        raise ValueError(
            f"model: expected a diffusers pipeline for the {stage} stage in {folder}, found no unet/config.json"
        )
    return found


def load_pipelines(
    model: str | Path = "tiny",
    device: str = "auto",
    *,
    dtype: str = "auto",
    behaviour: str = "default",
    content: bool = True,
    offload: str = "none",
    compiled: bool = False,
    channels_last: bool | None = None,
) -> CompletionModel:
    """Load a model, weights from safetensors only.

    Args:
        model: ``tiny`` (bundled), ``official`` (the paper's released weights), a folder or hub id with both stages, or
            AMODAL,CONTENT: one source for each. Released checkpoints load as they are.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``; the VAE stays out of float16.
        behaviour: ``default``, or ``faithful``: number for number what the released inference does.
        content: False for stage 1 alone.
        offload: what of the weights waits in main memory: ``none``, whole networks (``model``: the full-size model then
            fits 8 GB) or single layers (``sequential``: least memory, slow). CUDA only.
        compiled: compile the UNet's repeated blocks; pays off in long runs.
        channels_last: memory layout of the 2-D convolutions; None = on CUDA only (on a CPU a step of the bundled model
            took a fifth longer with it).

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    if behaviour not in BEHAVIOURS:
        raise ValueError(f"behaviour: expected one of {', '.join(BEHAVIOURS)}, got {behaviour!r}")
    if offload not in OFFLOADS:
        raise ValueError(f"offload: expected one of {', '.join(OFFLOADS)}, got {offload!r}")
    where = pick_device(device)
    if offload != "none" and where.type != "cuda":
        raise ValueError(f"offload: expected none on a CPU, where there is nothing to spare, got {offload!r}")
    kind = pick_dtype(where, dtype)
    if where.type == "cpu":
        keep_freed_memory()
    folders = stage_folders(model)
    if content and "content" not in folders:
        raise ValueError(
            f"model: {folders['amodal']} holds one stage; expected AMODAL,CONTENT, or content=False (--only-masks)"
        )
    stages: dict[str, DiffusionVASPipeline] = {}
    for stage in ("amodal", "content") if content else ("amodal",):
        vae = stages["amodal"].vae if stages else None
        pipe = load_stage(folders[stage], stage, where, kind, vae)
        pipe.behaviour = BEHAVIOURS[behaviour]
        pipe.fast = Fast(samples=4 if where.type == "cuda" else 1)
        if channels_last or (channels_last is None and where.type == "cuda"):
            pipe.use_channels_last()
        stages[stage] = _place(pipe, where, offload, compiled)
    nets: dict[str, PixelNet] = {}
    for stage in stages if behaviour != "faithful" else ():
        nets |= load_pixel_nets(folders[stage], stage, where, kind)
    return as_model(stages["amodal"], stages.get("content"), str(model), behaviour, nets)


def load_pixel_nets(folder: Path, stage: str, device: torch.device, dtype: torch.dtype) -> dict[str, PixelNet]:
    """The networks on pixels that lie beside a stage, by name; released models have none.

    Raises:
        ValueError: broken files, or a network that takes something else than the pipelines give.
    """
    found = {}
    for name, inputs in PIXEL_NETS[stage].items():
        place = folder / name
        if not (place / "config.json").is_file():
            continue
        try:
            net = PixelNet.load(place, dtype)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"model: {place} cannot be loaded: {reason(error)}") from error
        if net.inputs > inputs:
            raise ValueError(f"model: expected at most {inputs} channels to go into {place}, got {net.inputs}")
        # one that was trained when the pipelines told less is handed what it does not know, and does not look at it
        found[name] = (net if net.inputs == inputs else net.widened(inputs).eval()).to(device, dtype)
    return found


def as_model(
    amodal: DiffusionVASPipeline,
    content: DiffusionVASPipeline | None,
    name: str,
    behaviour: str = "default",
    nets: Mapping[str, PixelNet] | None = None,
) -> CompletionModel:
    """The two stages as one model, with the settings that lie with them; the paper's in faithful behaviour.

    Args:
        nets: networks on pixels by name, see ``PIXEL_NETS``.
    """
    first: dict[str, Any] = dict(amodal.config.defaults)
    second: dict[str, Any] = dict(content.config.defaults) if content is not None else {}
    faithful = behaviour == "faithful"
    return CompletionModel(
        amodal,
        content,
        name,
        area=int(first["area"]),
        frames=int(first["frames"]),
        focus=None if faithful else first.get("focus"),
        depth_rule=not faithful and bool(first.get("depth_rule", False)),
        memory=not faithful and bool(first.get("memory", False)),
        votes=0.0 if faithful else float(first.get("votes", 0.0)),
        halo=0.0 if faithful else float(first.get("halo", 0.0)),
        sure=None if faithful else first.get("sure"),
        odds=1.0 if faithful else float(first.get("odds", 1.0)),
        rounds=1 if faithful else int(first.get("rounds", 1)),
        heed=0.0 if faithful else float(first.get("heed", 0.0)),
        spread=not faithful and bool(first.get("spread", False)),
        detail=None if faithful else second.get("detail"),
        recall=not faithful and bool(second.get("recall", False)),
        front=(nets or {}).get("front"),
        finish=(nets or {}).get("finish"),
        colours=(nets or {}).get("colours"),
        behaviour=behaviour,
    )


def _place(pipe: DiffusionVASPipeline, device: torch.device, offload: str, compiled: bool) -> DiffusionVASPipeline:
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)
    if compiled:
        pipe.compile_blocks()
    return pipe
