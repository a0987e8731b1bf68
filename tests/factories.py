"""Small stand-ins that several tests share: a random model of the real classes, a scene with exact truth."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from diffvas.world.clip import SceneClip

if TYPE_CHECKING:
    from diffvas.pipelines.loading import CompletionModel

FRAMES, HEIGHT, WIDTH = 5, 32, 64


@cache
def tiny_model() -> CompletionModel:
    """Both stages with random weights, for clips of 5 frames of 32 x 64 pixels; made once, so don't change it."""
    import torch

    from diffvas.pipelines.loading import CompletionModel
    from diffvas.train.denoiser import as_pipeline, tiny_denoiser
    from diffvas.train.vae import tiny_vae

    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae, denoiser = tiny_vae().eval(), tiny_denoiser().eval()
    defaults = {"steps": 1, "samples": 1, "guidance": 1.0, "threshold": 0.5}
    stages = [as_pipeline(denoiser, vae, stage, defaults) for stage in ("amodal", "content")]
    for stage in stages:
        stage.set_progress_bar_config(disable=True)
    return CompletionModel(stages[0], stages[1], "random", HEIGHT * WIDTH, FRAMES, recall=True)


def make_scene(name: str = "scene") -> SceneClip:
    """A ball (object 1) that a plate (object 2) passes in front of, hiding half of it in the middle frames."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ball = np.broadcast_to((y - 16) ** 2 + (x - 30) ** 2 < 81, (FRAMES, HEIGHT, WIDTH)).copy()
    plate = np.stack([(abs(y - 16) < 14) & (abs(x - 12 * t - 2) < 9) for t in range(FRAMES)])
    masks = np.stack([ball, plate])
    ids = np.where(plate, 2, np.where(ball, 1, 0)).astype(np.uint8)
    colours = np.stack([np.broadcast_to([200, 3 * i, 40], (HEIGHT, WIDTH, 3)) for i in (10, 60)]).astype(np.uint8)
    colours[0, :, :, 2] += (2 * x).astype(np.uint8)
    alone = np.where(masks[..., None], colours[:, None], np.uint8(255)).astype(np.uint8)
    frames = np.where((ids == 2)[..., None], alone[1], np.where((ids == 1)[..., None], alone[0], np.uint8(120)))
    depth = np.choose(ids, [9.0, 5.0, 2.0]).astype(np.float32)
    return SceneClip(frames.astype(np.uint8), depth, ids, masks, alone, name, 0)
