"""Inputs and tiny fitted methods that the tests of methods and of predicting share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffvas.data.examples import relative_depth
from diffvas.methods import find_method
from diffvas.methods.base import Budget, Method, ObjectInput, as_options
from diffvas.world.clip import SceneClip
from diffvas.world.codec import encode_clip
from diffvas.world.shards import write_shard
from factories import make_scene

SIZE, FRAMES = (32, 64), 5
TINY: dict[str, dict[str, Any]] = {
    "unet3d": {"size": SIZE, "frames": FRAMES, "widths": (32, 64, 64)},
    "videomae": {
        **{"size": SIZE, "frames": FRAMES, "width": 16, "layers": 1, "heads": 2},
        **{"decoder_width": 8, "decoder_layers": 1, "decoder_heads": 2},
    },
}
TINY["ours"] = {**TINY["unet3d"], "steps": 2}


def write_vae(folder: Path) -> Path:
    """A random VAE of the bundled one's shape."""
    import torch

    from diffvas.train.vae import tiny_vae

    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny_vae().save_pretrained(folder)
    return folder


def new_method(name: str, vae: Path | None = None, **options: Any) -> Method:
    """A method of the size of nothing."""
    kind: Any = find_method(name)
    chosen = {**TINY.get(name, {}), **({"vae": str(vae)} if name in ("unet3d", "ours") else {}), **options}
    return kind(as_options(kind.kind, chosen)) if not kind.trainable else kind(as_options(kind.kind, chosen), "cpu")


def fit_tiny(
    name: str, out: Path, vae: Path, steps: int = 2, data: dict[str, Any] | None = None, **more: Any
) -> Method:
    """The method after ``steps`` steps of two examples of the flat world."""
    from diffvas.methods.fit import Examples

    method = new_method(name, vae)
    examples = Examples("flat", SIZE, FRAMES, **{"seed": 3, **(data or {})})
    method.fit(examples, seed=1, budget=Budget(steps=steps, batch=2), out=out, **more)
    return method


def object_input(scene: SceneClip | None = None, index: int = 0, name: str = "scene/1") -> ObjectInput:
    """An object of a scene with all that there is of it."""
    scene = make_scene() if scene is None else scene
    own = scene.instance_ids == index + 1
    others = np.where(own, 0, scene.instance_ids).astype(np.uint8)
    return ObjectInput(name, own, relative_depth(scene.depth), scene.frames_u8, others)


def write_scenes(folder: Path, count: int = 3) -> Path:
    """A data set of scenes that differ in their names alone."""
    clips = [make_scene(f"scene-{number}") for number in range(count)]
    write_shard(folder / "shard-00000.tar", [(clip.name, encode_clip(clip)) for clip in clips])
    return folder
