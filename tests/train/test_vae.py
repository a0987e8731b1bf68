"""The small VAE's pictures, its loss, and the scale of its latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffvas import arrays
from diffvas.data.examples import child_seed
from diffvas.train import vae as vae_module
from diffvas.train.cache import load_vae
from diffvas.train.checkpoints import load_checkpoint
from diffvas.train.loop import LoopConfig
from diffvas.train.vae import VaeBatches, draw, rescale_latents, tiny_vae, train_vae, vae_loss
from diffvas.world.clip import SceneClip
from diffvas.world.flat import flat_scene
from diffvas.world.storage import write_scene_clip


@pytest.fixture
def vae() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny_vae()


@pytest.mark.parametrize("stage", ["amodal", "content"])
def test_batches_depend_on_the_step_alone(stage: str) -> None:
    source = VaeBatches(stage, 3)
    batch = source[5]
    assert batch["x"].shape == (vae_module.CLIPS, vae_module.FRAMES, 3, *vae_module.SIZE)
    assert batch["mask"].shape == (vae_module.CLIPS,) and batch["mask"].dtype == torch.bool
    assert -1 <= batch["x"].min() and batch["x"].max() <= 1
    source[6]
    again = VaeBatches(stage, 3)[5]
    assert torch.equal(batch["x"], again["x"]) and torch.equal(batch["mask"], again["mask"])
    for clip, is_mask in zip(batch["x"], batch["mask"], strict=True):
        assert not is_mask or set(clip.unique().tolist()) <= {-1.0, 1.0}


@pytest.mark.parametrize(("masks", "logged"), [([True, True], {"mask_iou"}), ([False, False], {"mse_rgb"})])
def test_only_what_there_is_gets_logged(vae: torch.nn.Module, masks: list[bool], logged: set[str]) -> None:
    batch = {"x": torch.rand(2, 4, 3, 32, 32) * 2 - 1, "mask": torch.tensor(masks)}
    loss, numbers = vae_loss(vae, draw(batch, torch.Generator().manual_seed(0)))  # type: ignore[arg-type]
    assert torch.isfinite(loss) and loss.requires_grad
    assert numbers.keys() & {"mask_iou", "mse_rgb"} == logged
    assert all(value == value for value in numbers.values()), "NaN was logged"


@torch.no_grad()
def test_rescaled_latents_have_unit_scale_and_decode_to_the_same(vae: torch.nn.Module) -> None:
    x = torch.rand(8, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = vae.encode(x).latent_dist  # type: ignore[operator]
    picture = vae.decode(before.mean, num_frames=8).sample  # type: ignore[operator]
    factor = rescale_latents(vae, x)  # type: ignore[arg-type]
    after = vae.encode(x).latent_dist  # type: ignore[operator]
    assert factor == pytest.approx(before.mean.std().item(), rel=1e-4)
    assert after.mean.std().item() == pytest.approx(1.0, rel=1e-4)
    torch.testing.assert_close(after.mean * factor, before.mean, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(after.std * factor, before.std, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(vae.decode(after.mean, num_frames=8).sample, picture, rtol=1e-3, atol=1e-4)  # type: ignore[operator]


def test_scene_and_example_draw_other_numbers() -> None:
    """The window cut from a scene must not depend on the numbers that made the scene."""
    scene_seeds = []

    class Spy(VaeBatches):
        def draw_scene(self, rng: np.random.Generator, key: list[int], colour: bool) -> SceneClip:
            scene_seeds.append((rng.bit_generator.seed_seq.spawn_key, key))  # type: ignore[attr-defined]
            return super().draw_scene(rng, key, colour)

    Spy("amodal", 3)[5]
    assert scene_seeds == [((0,), [3, 5, 0]), ((0,), [3, 5, 1])]
    own = np.random.default_rng(child_seed([3, 5, 0], 0)).random(4)
    assert not np.isin(own, np.random.default_rng(child_seed([3, 5, 0], 1)).random(100)).any()


def test_a_trained_vae_is_saved_when_it_is_done(tmp_path: Path) -> None:
    config = LoopConfig(steps=2, warmup=0, save_every=1, precision="fp32", ema=0.5)
    train_vae(tmp_path, config, report=lambda *_: None)
    saved = load_vae(tmp_path / "vae")
    with torch.no_grad():
        x = torch.cat([VaeBatches("amodal", 0)[10_000_000 + k]["x"].flatten(0, 1) for k in range(16)])
        assert saved.encode(x).latent_dist.mean.std().item() == pytest.approx(1.0, rel=1e-3)
    state = load_checkpoint(tmp_path)
    assert state is not None and state["step"] == 2
    mark = (tmp_path / "vae" / "config.json").stat().st_mtime_ns
    train_vae(tmp_path, config, report=lambda *_: None)  # done already: killed before the VAE was saved, say
    assert (tmp_path / "vae" / "config.json").stat().st_mtime_ns > mark


def test_half_of_the_clips_from_a_folder(tmp_path: Path) -> None:
    scene = flat_scene([1], (128, 256), 6)
    write_scene_clip(tmp_path / "scene.npz", scene)
    known = [
        arrays.masks_to_signed(m) for m in (*scene.amodal_masks, *map(scene.modal_mask, range(len(scene.amodal_masks))))
    ]
    source, found, masks = VaeBatches("amodal", 0, tmp_path), 0, 0
    for step in range(12):
        batch = source[step]
        for clip, is_mask in zip(batch["x"], batch["mask"], strict=True):
            masks += bool(is_mask)
            found += bool(is_mask and any(is_part(clip, whole) for whole in known))
    assert 0 < found < masks


def is_part(clip: torch.Tensor, whole: torch.Tensor) -> bool:
    """Whether ``clip`` is a window of ``whole``: the first row of it that is not plain is searched for."""
    frames, height, width = clip.shape[0], *clip.shape[2:]
    for t in range(len(whole) - frames + 1):
        windows = whole[t : t + frames, 0].unfold(1, height, 1).unfold(2, width, 1)
        sums = windows.sum((0, 3, 4))
        for y, x in torch.nonzero(sums == clip[:, 0].sum()).tolist():
            if torch.equal(whole[t : t + frames, 0, y : y + height, x : x + width], clip[:, 0]):
                return bool(clip.max() > 0)
    return False
