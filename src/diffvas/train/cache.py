"""The latent cache: every example encoded once, so that training the denoisers touches no image.

A cache is a folder of safetensors shards, each with examples of one frame size. Shard ``k`` depends on (seed, k) and
nothing else: building resumes where it stopped, and shards may be built in any order. ``cache.json`` says what is in it
and which encoder made it; a cache without that knowledge (from before it was kept) can still be trained on.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection

from diffvas import arrays
from diffvas.data.augment import pick_times
from diffvas.data.examples import (
    Example,
    SceneSource,
    child_seed,
    choose_object,
    make_example,
    open_scenes,
    without_colour,
)
from diffvas.data.pairs import make_pair
from diffvas.diffusion import conditioning
from diffvas.pipelines.sight import Seen
from diffvas.train.checkpoints import differences, write_whole
from diffvas.train.config import BLIND, CONDITIONS

TOWER_SIZE = 64  # the small CLIP-like tower's image size
LEAST_SEEN = 40  # pixels of an object that must be seen somewhere in a clip
SPLITS = ("all", "train", "val")


@dataclass(frozen=True)
class CacheConfig:
    """What a cache holds.

    Attributes:
        stage: "amodal", "content" or "end-to-end", see ``DenoiserConfig``.
        source: "flat", or a folder of scene clips (``diffvas world make``).
        sizes: (height, width) choices, one per shard. shards, per_shard: how much. frames: T. seed: of all draws.
        split: "train" or "val" part of a folder by the clips' names, or "all" of it.
        memory: the visible masks come with what other frames say of the rest (``shape_memory``), once by depth and once
            without it, for models that are told so too.
        pairs: objects in full view, hidden by the outlines of others (how the paper makes data for stage 2).
        rgb: also the latents of the whole frame, as a further condition of stage "amodal".
        spoil: conditions with the faults of real inputs; False for held-out data.
    """

    stage: str = "amodal"
    source: str = "flat"
    sizes: tuple[tuple[int, int], ...] = ((128, 256),)
    shards: int = 16
    per_shard: int = 16
    frames: int = 25
    seed: int = 0
    split: str = "all"
    memory: bool = False
    pairs: bool = False
    rgb: bool = False
    spoil: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, where a value makes no sense."""
        for name, known in (("stage", tuple(CONDITIONS)), ("split", SPLITS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.pairs and self.stage != "content":
            raise ValueError(f"pairs: expected stage content with it, got {self.stage}")
        if self.memory and self.stage != "amodal":
            raise ValueError(f"memory: expected stage amodal with it, got {self.stage}")
        if self.rgb and self.stage != "amodal":
            raise ValueError(f"rgb: expected stage amodal with it, got {self.stage}")

    @property
    def colour(self) -> bool:
        """Whether RGB is needed at all."""
        return self.stage != "amodal" or self.rgb


def stage_images(stage: str, example: Example) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(condition A, condition B, target), each (T, 3, H, W) in [-1, 1]."""
    amodal = arrays.masks_to_signed(example.amodal)
    if stage == "amodal":
        return arrays.masks_to_signed(example.modal), arrays.depth_to_signed(example.depth), amodal
    visible = arrays.to_signed(arrays.composite_on_white(example.frames_u8, example.modal & example.amodal))
    second = amodal if stage == "content" else arrays.depth_to_signed(example.depth)
    return visible, second, arrays.to_signed(example.alone_u8)


def told(example: Example, *, by_depth: bool) -> torch.Tensor:
    """(T, 3, H, W) in [-1, 1]: the visible masks with what other frames say of the rest, as the pipelines have it."""
    return Seen(example.modal, example.depth if by_depth else None, example.inside).condition(memory=True)


def draw_example(config: CacheConfig, scenes: SceneSource, key: list[int], size: tuple[int, int]) -> Example:
    """Example ``key`` of a cache: scenes are drawn until one has an object worth learning from."""
    for attempt in range(100):
        # the scene's own draws and those made of it must not be the same numbers
        for_scene, for_example, for_other = np.random.SeedSequence([*key, attempt]).spawn(3)
        rng = np.random.default_rng(for_example)
        scene = scenes(for_scene)
        if not config.colour:
            scene = without_colour(scene)
        if config.pairs:
            example = make_pair(scene, scenes(for_other), rng, size=size, spoil=config.spoil)
        else:
            index = choose_object(scene, rng)
            example = None if index is None else make_example(scene, index, rng, size=size, spoil=config.spoil)
        if example is not None and example.modal.any(0).sum() >= LEAST_SEEN:
            return example
    raise ValueError(f"source: no usable object in 100 scenes of {config.source}")


def load_vae(path: Path) -> AutoencoderKLTemporalDecoder:
    """A saved VAE, float32; the folder of one, or of a model that holds one.

    Raises:
        ValueError: the folder holds none that can be read.
    """
    folder = path / "vae" if (path / "vae" / "config.json").is_file() else path
    half = any(folder.glob("*.fp16.safetensors")) and not any(folder.glob("*model.safetensors"))
    try:
        return AutoencoderKLTemporalDecoder.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, variant="fp16" if half else None
        ).float()
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"vae: expected a folder with a saved VAE, got {path} ({reason})") from error


def fingerprint(vae: AutoencoderKLTemporalDecoder) -> str:
    """16 hex digits of the encoder's weights, as half precision keeps them: latents depend on nothing else of a VAE.

    float32 weights and the same stored as float16 have one fingerprint; finishing a decoder does not change it.
    """
    digest = hashlib.sha256(str(float(vae.config.scaling_factor)).encode())
    for name, value in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode())
            digest.update(value.detach().to("cpu", torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class Encoder:
    """The VAE's encoder, compiled where asked: twice as fast on CPUs, after a minute and a half of compiling."""

    def __init__(self, vae: AutoencoderKLTemporalDecoder, compiled: bool, chunk: int = 25):
        # a copy: the caller's stays as it is; ``bfloat16``, since diffusers' own ``to`` warns of layers it has none of
        self.vae, self.chunk = copy.deepcopy(vae).bfloat16().eval(), chunk
        for p in self.vae.encoder.parameters():
            if p.dim() == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        self.moments = torch.compile(self.vae.encoder, dynamic=False) if compiled else self.vae.encoder

    @torch.inference_mode()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, 4, H/8, W/8) float16 posterior means, unscaled; on the CPU."""
        out = []
        for part in x.to(self.vae.device, torch.bfloat16).split(self.chunk):
            moments = self.vae.quant_conv(self.moments(part.contiguous(memory_format=torch.channels_last)))
            out.append(moments[:, :4].to("cpu", torch.float16))
        return torch.cat(out)


def encode_example(
    encoder: Encoder,
    config: CacheConfig,
    example: Example,
    key: list[int],
    tower: CLIPVisionModelWithProjection | None = None,
) -> dict[str, torch.Tensor]:
    """All that training needs of one example; condition noise is drawn here, ``ln sigma_c ~ N(-3, 0.5)``."""
    images = list(stage_images(config.stage, example))
    blind = None
    if config.memory:
        images[0] = told(example, by_depth=True)
        blind = told(example, by_depth=False)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    sigma = float(torch.exp(-3 + 0.5 * torch.randn((), generator=generator)))
    noisy = [conditioning.add_pixel_noise(x, sigma, generator) for x in images[:2]]
    names = ["a", "b", "target"]
    if config.rgb:
        images.append(conditioning.add_pixel_noise(arrays.to_signed(example.frames_u8), sigma, generator))
        names.append("rgb")
    if blind is not None:
        images.append(conditioning.add_pixel_noise(blind, sigma, generator))
        names.append("a" + BLIND)
    latents = dict(zip(names, encoder(torch.cat([*noisy, *images[2:]])).chunk(len(names)), strict=True))
    latents["target"] = latents["target"] * float(encoder.vae.config.scaling_factor)
    channels = 1 if config.stage == "amodal" else 3
    unseen = {} if blind is None else seen_by_tower(blind, channels, tower)
    return {
        **latents,
        **seen_by_tower(images[0], channels, tower),
        **{name + BLIND: value for name, value in unseen.items()},
        "sigma": torch.tensor(sigma),
        "amodal": torch.from_numpy(np.packbits(example.amodal, axis=-1)),
        "modal": torch.from_numpy(np.packbits(example.modal, axis=-1)),
    }


@torch.inference_mode()
def seen_by_tower(
    condition: torch.Tensor, channels: int, tower: CLIPVisionModelWithProjection | None
) -> dict[str, torch.Tensor]:
    """The tokens (T, C) of a tower that stays as it is, or the pictures (T, c, S, S) that one in training sees."""
    if tower is not None:
        pixels = conditioning.clip_pixels(condition, tower.config.image_size).to(tower.device)
        return {"tokens": conditioning.clip_tokens(tower, pixels[None])[0].to("cpu", torch.float16)}
    small = F.interpolate(condition, (TOWER_SIZE, TOWER_SIZE), mode="bicubic", align_corners=True, antialias=True)
    return {"pixels": ((small[:, :channels] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)}


def build_cache(
    config: CacheConfig,
    vae: AutoencoderKLTemporalDecoder,
    out: Path,
    *,
    compiled: bool = False,
    tower: CLIPVisionModelWithProjection | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode ``config.shards`` shards into ``out``; whole shards that are there already are kept.

    Args:
        tower: an image encoder that will not train: its tokens are kept in the place of small pictures.

    Raises:
        ValueError: ``out`` holds a cache with other settings, or the source has no usable clip.
    """
    settings = json.loads(json.dumps({**asdict(config), "vae": fingerprint(vae), "tokens": tower is not None}))
    path = out / "cache.json"
    if path.exists() and (changed := differences(json.loads(path.read_text()), settings)):
        raise ValueError(f"out: {out} holds a cache with other settings ({'; '.join(changed)}); use another folder")
    scenes = open_scenes(config.source, config.frames, colour=config.colour, split=config.split)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda p: p.write_text(json.dumps(settings, indent=1)))
    encoder = Encoder(vae, compiled)
    for k in range(config.shards):
        shard = out / f"shard-{k:05d}.safetensors"
        if not shard.exists():
            size = config.sizes[int(np.random.default_rng(child_seed([config.seed, k], 1)).integers(len(config.sizes)))]
            rows = []
            for i in range(config.per_shard):
                key = [config.seed, k, i]
                rows.append(encode_example(encoder, config, draw_example(config, scenes, key, size), key, tower))
            stacked = {name: torch.stack([r[name] for r in rows]).contiguous() for name in rows[0]}
            write_whole(shard, lambda p, s=stacked: save_file(s, p))  # type: ignore[misc]
        if progress is not None:
            progress(k + 1, config.shards)


def find_shards(folder: Path) -> list[Path]:
    """The shards of a cache, in order.

    Raises:
        ValueError: there are none.
    """
    shards = sorted(Path(folder).glob("shard-*.safetensors"))
    if not shards:
        raise ValueError(f"data: expected a latent cache with shards in {folder}, found none")
    return shards


def shard_shapes(shard: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what a shard holds, from its header.

    Raises:
        ValueError: the file is cut or no shard.
    """
    try:
        with safe_open(os.fspath(shard), "pt") as f:
            return {name: tuple(f.get_slice(name).get_shape()) for name in f.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"data: expected a whole shard, got the corrupt file {shard} ({error})") from error


def check_caches(
    folders: Sequence[Path], stage: str, needed: Sequence[str], vae: AutoencoderKLTemporalDecoder | None = None
) -> None:
    """Raise ValueError, naming what is wrong, unless all caches serve a recipe: stage, contents, one encoder.

    Caches from before the encoder was recorded are taken as they are, with a warning on stderr.

    Args:
        needed: names of what the recipe reads. vae: the VAE that the recipe decodes with, if it does.
    """
    prints: dict[str, Any] = {"vae": fingerprint(vae)} if vae is not None else {}
    for folder in folders:
        missing = sorted(set(needed) - shard_shapes(find_shards(folder)[0]).keys())
        if missing:
            raise ValueError(f"data: expected a cache with {', '.join(needed)}, {folder} has no {', '.join(missing)}")
        path = folder / "cache.json"
        settings = json.loads(path.read_text()) if path.is_file() else {}
        if settings.get("stage", stage) != stage:
            raise ValueError(f"data: expected a cache of stage {stage}, got {folder} of stage {settings['stage']}")
        if "vae" in settings:
            prints[str(folder)] = settings["vae"]
        else:
            print(f"warning: {folder} does not say which VAE made it; taken to be the right one", file=sys.stderr)
    if len(set(prints.values())) > 1:
        told = ", ".join(f"{name} {value}" for name, value in prints.items())
        raise ValueError(f"data: expected latents of one VAE, got several ({told})")


class CachedClips:
    """Random batches from one or more caches.

    A batch comes from one shard; its clips are cut to a random span at a random speed, see ``pick_times``: frames are
    encoded one by one, so time can be rearranged after encoding.

    Args:
        folders: caches; weights: how often each is drawn (empty: equally).
        batch: clips per batch. spans: numbers of frames to choose from. seed: of all draws.

    Raises:
        ValueError: no folder, one without shards or with a broken one, weights that are not one per folder and 0 or
            more, a count below 1, a batch larger than a shard.
    """

    def __init__(self, folders: Sequence[Path], weights: Sequence[float], batch: int, spans: Sequence[int], seed: int):
        if not folders:
            raise ValueError("data: expected one or more latent caches, got none")
        weights = weights or [1.0] * len(folders)
        if len(weights) != len(folders) or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"weights: expected {len(folders)} numbers of 0 or more, not all 0, got {list(weights)}")
        if batch < 1 or min(spans, default=0) < 1:
            raise ValueError(f"batch, spans: expected 1 or more, got batch {batch} and spans {list(spans)}")
        self.shards = [find_shards(folder) for folder in folders]
        self.keys: set[str] = set()
        for shards in self.shards:
            shapes = [shard_shapes(shard) for shard in shards]
            count = min(shape["target"][0] if "target" in shape else 0 for shape in shapes)
            if count < batch:
                where = shards[0].parent
                raise ValueError(f"batch: expected at most {count}, the clips of a shard of {where}, got {batch}")
            self.keys |= shapes[0].keys()
        total = sum(weights)
        self.weights = [w / total for w in weights]
        self.batch, self.spans, self.seed = batch, list(spans), seed

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, 77, step])
        shards = self.shards[int(rng.choice(len(self.shards), p=self.weights))]
        shard = shards[int(rng.integers(len(shards)))]
        with safe_open(os.fspath(shard), "pt") as f:
            count, frames = f.get_slice("target").get_shape()[:2]
            rows = rng.choice(count, self.batch, replace=False)
            picked = {name: f.get_tensor(name)[rows.tolist()] for name in f.keys()}
        at = pick_times(frames, int(rng.choice(self.spans)), rng)
        return {k: v if v.dim() == 1 else v[:, at] for k, v in picked.items()}


def fixed_clips(folders: Sequence[Path], count: int) -> Iterator[dict[str, torch.Tensor]]:
    """``count`` whole clips, always the same ones, spread over all shards; each a batch of one."""
    shards = [shard for folder in folders for shard in find_shards(folder)]
    sizes = [shard_shapes(shard)["target"][0] for shard in shards]
    every = [(k, row) for k, size in enumerate(sizes) for row in range(size)]
    chosen = np.unique(np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int))
    for index in chosen.tolist():
        k, row = every[index]
        with safe_open(os.fspath(shards[k]), "pt") as f:
            yield {name: f.get_slice(name)[row : row + 1] for name in f.keys()}
