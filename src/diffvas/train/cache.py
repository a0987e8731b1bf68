"""The latent cache: every example encoded once, so that training the denoisers touches no image.

A cache is a folder of safetensors shards, each with examples of one frame size. Shard ``k`` depends on (seed, k) and
nothing else: building resumes where it stopped, and shards may be built in any order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from diffvas import arrays
from diffvas.data.examples import Example, choose_object, make_example
from diffvas.diffusion import conditioning
from diffvas.train.loop import write_whole
from diffvas.world.clip import SceneClip
from diffvas.world.flat import flat_scene

FLAT_SIZE = (96, 192)  # flat scenes are drawn at this size and cropped to the object
TOWER_SIZE = 64  # the small CLIP-like tower's image size


@dataclass(frozen=True)
class CacheConfig:
    """What a cache holds.

    Attributes:
        stage: "amodal" or "content". source: "flat", or a folder of scene clips (``diffvas world make``).
        sizes: (height, width) choices, one per shard. shards, per_shard: how much. frames: T. seed: of all draws.
    """

    stage: str = "amodal"
    source: str = "flat"
    sizes: tuple[tuple[int, int], ...] = ((128, 256),)
    shards: int = 16
    per_shard: int = 16
    frames: int = 25
    seed: int = 0


def stage_images(stage: str, example: Example) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(condition A, condition B, target), each (T, 3, H, W) in [-1, 1]."""
    amodal = arrays.masks_to_signed(example.amodal)
    if stage == "amodal":
        return arrays.masks_to_signed(example.modal), arrays.depth_to_signed(example.depth), amodal
    visible = arrays.composite_on_white(example.frames_u8, example.modal & example.amodal)
    return arrays.to_signed(visible), amodal, arrays.to_signed(example.alone_u8)


def draw_example(
    config: CacheConfig,
    scenes: Callable[[np.random.Generator, list[int], tuple[int, int]], SceneClip],
    key: list[int],
    size: tuple[int, int],
) -> Example:
    """Example ``key`` of a cache: scenes are drawn until one has an object worth learning from."""
    for attempt in range(100):
        rng = np.random.default_rng([*key, attempt])
        scene = scenes(rng, [*key, attempt], size)
        index = choose_object(scene, rng)
        if index is None:
            continue
        example = make_example(scene, index, rng, size=size)
        if example.modal.any(0).sum() >= 40:
            return example
    raise ValueError(f"source: no usable object in 100 scenes of {config.source}")


def without_colour(scene: SceneClip) -> SceneClip:
    """The same clip with empty RGB arrays: stage 1 never looks at them, and cropping them is slow."""
    return replace(scene, frames_u8=scene.frames_u8[:0], amodal_rgb_u8=scene.amodal_rgb_u8[:, :0])


def scene_source(config: CacheConfig) -> Callable[[np.random.Generator, list[int], tuple[int, int]], SceneClip]:
    """A function that draws a scene clip from the cache's source.

    Raises:
        ValueError: the folder holds no scene clip.
    """
    if config.source == "flat":
        colour = config.stage == "content"
        return lambda rng, key, size: flat_scene(key, FLAT_SIZE, config.frames, colour=colour)
    from diffvas.world.storage import read_scene_clip

    paths = sorted(Path(config.source).glob("*.npz"))
    if not paths:
        raise ValueError(f"source: expected a folder of scene clips (*.npz), got {config.source} with none")

    def draw(rng: np.random.Generator, key: list[int], size: tuple[int, int]) -> SceneClip:
        scene = read_scene_clip(paths[int(rng.integers(len(paths)))])
        return without_colour(scene) if config.stage == "amodal" else scene

    return draw


class Encoder:
    """The VAE's encoder, compiled where asked: twice as fast on CPUs, after a minute and a half of compiling."""

    def __init__(self, vae: AutoencoderKLTemporalDecoder, compiled: bool, chunk: int = 25):
        self.vae, self.chunk = vae.bfloat16().eval(), chunk  # diffusers' own ``to`` warns of layers that it has none of
        for p in self.vae.encoder.parameters():
            if p.dim() == 4:
                p.data = p.data.contiguous(memory_format=torch.channels_last)
        self.moments = torch.compile(self.vae.encoder, dynamic=False) if compiled else self.vae.encoder

    @torch.inference_mode()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, 4, H/8, W/8) float16 posterior means."""
        out = []
        for part in x.to(torch.bfloat16).split(self.chunk):
            moments = self.vae.quant_conv(self.moments(part.contiguous(memory_format=torch.channels_last)))
            out.append(moments[:, :4].to(torch.float16))
        return torch.cat(out)


def encode_example(encoder: Encoder, config: CacheConfig, example: Example, key: list[int]) -> dict[str, torch.Tensor]:
    """All that training needs of one example; condition noise is drawn here, ``ln sigma_c ~ N(-3, 0.5)``."""
    a, b, target = stage_images(config.stage, example)
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    sigma = float(torch.exp(-3 + 0.5 * torch.randn((), generator=generator)))
    noisy = [conditioning.add_pixel_noise(x, sigma, generator) for x in (a, b)]
    z = encoder(torch.cat([*noisy, target])).chunk(3)
    small = F.interpolate(a, (TOWER_SIZE, TOWER_SIZE), mode="bicubic", align_corners=True, antialias=True)
    channels = 1 if config.stage == "amodal" else 3
    pixels = ((small[:, :channels] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return {
        "a": z[0],
        "b": z[1],
        "target": z[2],
        "pixels": pixels,
        "sigma": torch.tensor(sigma),
        "amodal": torch.from_numpy(np.packbits(example.amodal, axis=-1)),
        "modal": torch.from_numpy(np.packbits(example.modal, axis=-1)),
    }


def build_cache(
    config: CacheConfig,
    vae: AutoencoderKLTemporalDecoder,
    out: Path,
    *,
    compiled: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode ``config.shards`` shards into ``out``; whole shards that are there already are kept.

    Raises:
        ValueError: ``out`` holds a cache with other settings, or the source has no usable clip.
    """
    settings = json.dumps(asdict(config), indent=1)
    path = out / "cache.json"
    if path.exists() and json.loads(path.read_text()) != json.loads(settings):
        raise ValueError(f"out: {out} holds a cache with other settings; expected {path} to match, use another folder")
    scenes = scene_source(config)  # complains before anything is written
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda p: p.write_text(settings))
    encoder = Encoder(vae, compiled)
    for k in range(config.shards):
        shard = out / f"shard-{k:05d}.safetensors"
        if not shard.exists():
            size = config.sizes[int(np.random.default_rng([config.seed, k]).integers(len(config.sizes)))]
            rows = []
            for i in range(config.per_shard):
                key = [config.seed, k, i]
                rows.append(encode_example(encoder, config, draw_example(config, scenes, key, size), key))
            stacked = {name: torch.stack([r[name] for r in rows]).contiguous() for name in rows[0]}
            write_whole(shard, lambda p, s=stacked: save_file(s, p))  # type: ignore[misc]
        if progress is not None:
            progress(k + 1, config.shards)


class CachedClips:
    """Random batches from one or more caches.

    A batch comes from one shard; its clips are cut to a random span, sometimes at double speed, sometimes backwards:
    frames are encoded one by one, so time can be rearranged after encoding.

    Args:
        folders: caches; weights: how often each is drawn.
        batch: clips per batch. spans: numbers of frames to choose from. seed: of all draws.

    Raises:
        ValueError: a folder without shards, weights that are not one per folder and 0 or more, a count below 1.
    """

    def __init__(self, folders: Sequence[Path], weights: Sequence[float], batch: int, spans: Sequence[int], seed: int):
        if len(weights) != len(folders) or min(weights, default=0) < 0 or sum(weights) <= 0:
            raise ValueError(f"weights: expected {len(folders)} numbers of 0 or more, not all 0, got {list(weights)}")
        if batch < 1 or min(spans, default=0) < 1:
            raise ValueError(f"batch, spans: expected 1 or more, got batch {batch} and spans {list(spans)}")
        self.shards = [sorted(Path(f).glob("shard-*.safetensors")) for f in folders]
        for folder, shards in zip(folders, self.shards, strict=True):
            if not shards:
                raise ValueError(f"data: expected a latent cache with shards in {folder}, found none")
        total = sum(weights)
        self.weights = [w / total for w in weights]
        self.batch, self.spans, self.seed = batch, list(spans), seed

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, 77, step])
        shards = self.shards[int(rng.choice(len(self.shards), p=self.weights))]
        with safe_open(os.fspath(shards[int(rng.integers(len(shards)))]), "pt") as f:
            count, frames = f.get_slice("a").get_shape()[:2]
            rows = rng.choice(count, min(self.batch, count), replace=False)
            span = min(int(rng.choice(self.spans)), frames)
            picked = {name: f.get_tensor(name)[rows.tolist()] for name in f.keys()}
        stride = 2 if (span - 1) * 2 < frames and rng.random() < 0.3 else 1
        start = int(rng.integers(0, frames - (span - 1) * stride))
        at = np.arange(span) * stride + start
        if rng.random() < 0.5:
            at = at[::-1].copy()
        return {k: v if v.dim() == 1 else v[:, at] for k, v in picked.items()}
