"""A step in two pure parts: everything drawn per clip, the losses by hand, and shares that add up."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffvas.diffusion import edm
from diffvas.train import step
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import tiny_denoiser
from diffvas.train.loop import Batch
from diffvas.train.step import diffusion_loss, draw, finish_loss
from diffvas.train.vae import tiny_vae
from train_factories import B, T, h, make_batch, w

CONFIG = DenoiserConfig(noise_top=0.3, drop_b=0.4, drop_all=0.4)


def drawn(config: DenoiserConfig, batch: Batch | None = None, seed: int = 1) -> Batch:
    return draw(make_batch() if batch is None else batch, torch.Generator().manual_seed(seed), config)


class FakeModel:
    """Tokens of ones, and an output of zeros, so that the estimate is c_skip z; remembers its inputs."""

    def __init__(self) -> None:
        self.tower = SimpleNamespace(dtype=torch.float32, config=SimpleNamespace(image_size=64))
        self.vae = FakeVae()
        self.seen: list[dict[str, torch.Tensor]] = []

    def unet(self, x: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor, **options: Any) -> tuple[torch.Tensor]:
        self.seen.append({"x": x, "t": t, "tokens": tokens, "ids": options["added_time_ids"]})
        return (torch.zeros_like(x[:, :, :4]),)


class FakeVae:
    """Decodes by repeating the first three channels eight times in both directions."""

    config = SimpleNamespace(scaling_factor=0.5)

    def decode(self, z: torch.Tensor, num_frames: int) -> SimpleNamespace:
        assert len(z) % num_frames == 0
        return SimpleNamespace(sample=z[:, :3].repeat_interleave(8, -1).repeat_interleave(8, -2))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    monkeypatch.setattr(step.conditioning, "clip_tokens", lambda tower, pixels: torch.ones(*pixels.shape[:2], 16))
    return FakeModel()


def test_everything_is_drawn_per_clip(fake: FakeModel) -> None:
    batch = drawn(CONFIG)
    loss, numbers = diffusion_loss(fake, batch, CONFIG)
    again = torch.Generator().manual_seed(1)
    sigma = edm.NoiseLevels(1.0, 1.8, 0.3).sample(B, again)
    p = torch.rand(2, B, generator=again)
    noise = torch.randn(B, T, 4, h, w, generator=again)
    everything, depth = p[0] >= 0.4, (p[0] >= 0.4) & (p[1] >= 0.4)
    assert 0 < depth.sum() < everything.sum() < B, "pick another seed"
    seen = fake.seen[0]
    torch.testing.assert_close(seen["t"], sigma.log() / 4)
    fixed = torch.tensor([8.0, 127.0]).expand(B, 2)
    torch.testing.assert_close(seen["ids"], torch.cat([fixed, batch["sigma"][:, None]], 1))
    z0 = batch["target"].float()
    z = z0 + sigma.view(-1, 1, 1, 1, 1) * noise
    for i in range(B):
        torch.testing.assert_close(seen["x"][i, :, :4], z[i] / (sigma[i] ** 2 + 1).sqrt())
        torch.testing.assert_close(seen["x"][i, :, 4:8], batch["a"][i].float() * everything[i])
        torch.testing.assert_close(seen["x"][i, :, 8:], batch["b"][i].float() * depth[i])
        assert (seen["tokens"][i] == everything[i]).all()
    weight = (1 + sigma**2) / sigma**2
    each = torch.stack([((z[i] / (sigma[i] ** 2 + 1) - z0[i]) ** 2).mean() * weight[i] for i in range(B)])
    torch.testing.assert_close(loss, each.mean())
    top = sigma == edm.SIGMA_MAX
    assert top.any() and numbers == {"top": pytest.approx(each[top].mean().item())}


def test_dropping_tokens_and_latents_excludes_one_another() -> None:
    config = DenoiserConfig(drop_all=0.1, drop_tokens=0.2, drop_latents=0.3, drop_b=0.0)
    keep = drawn(config, make_batch(4000, tiny=True))["keep"]
    assert torch.equal(keep[:, 1], keep[:, 2])
    shares = {
        kinds: ((keep[:, 0] == kinds[0]) & (keep[:, 1] == kinds[1])).float().mean().item()
        for kinds in ((0, 0), (0, 1), (1, 0), (1, 1))
    }
    assert shares == pytest.approx({(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.4}, abs=0.03)


@pytest.mark.parametrize("objective", ["diffusion", "regression", "finish"])
def test_shares_of_a_batch_add_up(objective: str) -> None:
    """What two processes compute of the halves is what one computes of the whole: nothing is drawn in the loss."""
    config = replace(CONFIG, objective=objective, levels=(1, 3), hidden_weight=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny_denoiser()
        model.vae = tiny_vae()
    batch = drawn(config, make_batch(4))
    loss = step.objective(config).loss
    with torch.no_grad():
        whole, _ = loss(model, batch)
        halves = [loss(model, {k: v[p::2] for k, v in batch.items()})[0] for p in range(2)]
    torch.testing.assert_close(torch.stack(halves).mean(), whole, rtol=1e-5, atol=1e-6)


def test_only_what_there_is_gets_logged(fake: FakeModel) -> None:
    config = DenoiserConfig(noise_top=0.0, noise_mean=0.0)
    assert diffusion_loss(fake, drawn(config), config)[1] == {}


def test_hidden_parts_may_weigh_more(fake: FakeModel) -> None:
    batch = make_batch()
    batch["amodal"][:], batch["modal"][:] = 255, 0  # hidden everywhere
    batch = drawn(CONFIG, batch)
    losses = [diffusion_loss(fake, batch, replace(CONFIG, hidden_weight=x))[0] for x in (0.0, 2.0)]
    torch.testing.assert_close(losses[1], 3 * losses[0])


def test_hidden_share_by_hand() -> None:
    amodal, modal = np.zeros((1, 1, 16, 16), bool), np.zeros((1, 1, 16, 16), bool)
    amodal[..., :8, :12] = True
    modal[..., :8, :4] = True
    batch = {k: torch.from_numpy(np.packbits(m, axis=-1)) for k, m in (("amodal", amodal), ("modal", modal))}
    assert torch.equal(step.unpack(batch["amodal"]), torch.from_numpy(amodal).float())
    share = step.hidden_share(batch, (2, 2))
    assert share.shape == (1, 1, 1, 2, 2)
    assert share.flatten().tolist() == [0.5, 0.5, 0.0, 0.0]


def test_regression_sees_no_trace_of_the_truth(fake: FakeModel) -> None:
    config = DenoiserConfig(objective="regression", drop_all=0.0, drop_b=0.0)
    batch = drawn(config)
    loss, numbers = diffusion_loss(fake, batch, config)
    assert (fake.seen[0]["x"][:, :, :4] == 0).all() and (fake.seen[0]["t"] == math.log(700) / 4).all()
    torch.testing.assert_close(loss, batch["target"].float().square().mean(), rtol=1e-5, atol=0)
    assert numbers == {}


def test_conditions_are_the_input_channels_in_their_order(fake: FakeModel) -> None:
    batch = {**make_batch(2), "rgb": torch.full((2, T, 4, h, w), 5.0)}
    for names, keys in (
        (("mask",), "a"),
        (("mask", "rgb"), ("a", "rgb")),
        (("mask", "depth", "rgb"), ("a", "b", "rgb")),
    ):
        config = DenoiserConfig(conditions=names, drop_all=0.0, drop_b=0.0)
        assert config.channels == 4 + 4 * len(keys)
        diffusion_loss(fake, drawn(config, batch), config)
        torch.testing.assert_close(fake.seen[-1]["x"][:, :, 4:], torch.cat([batch[k].float() for k in keys], 2))


def test_cached_tokens_need_no_tower() -> None:
    fake = FakeModel()
    fake.tower = None  # type: ignore[assignment]
    batch = {k: v for k, v in make_batch(2).items() if k != "pixels"}
    batch["tokens"] = torch.full((2, T, 16), 3.0).half()
    config = DenoiserConfig(drop_all=0.0)
    diffusion_loss(fake, drawn(config, batch), config)
    assert (fake.seen[0]["tokens"] == 3).all()


# ---------------------------------------------------------------------------------------------------------------------
# finishing


def test_levels_that_a_sampler_visits() -> None:
    assert step.finish_levels((1, 2)) == []
    assert step.finish_levels((1, 3)) == [pytest.approx(edm.karras_sigmas(3)[1].item())]
    four = step.finish_levels((3, 4))
    assert four == sorted(four, reverse=True) and len(four) == 3 and min(four) >= step.LEAST_LEVEL


def test_one_step_starts_as_a_sampler_does(fake: FakeModel) -> None:
    config = DenoiserConfig(objective="finish", drop_all=0.0, drop_b=0.0)
    batch = drawn(config)
    finish_loss(fake, batch, config)
    assert len(fake.seen) == 1
    torch.testing.assert_close(fake.seen[0]["x"][:, :, :4], batch["noise"] * 700 / math.sqrt(700**2 + 1))
    finish_loss(fake, batch, replace(config, zero_noise=True))
    assert (fake.seen[1]["x"][:, :, :4] == 0).all()


def test_lower_levels_start_from_the_models_own_estimate(fake: FakeModel) -> None:
    config = DenoiserConfig(objective="finish", levels=(3,), noise_top=0.5, drop_all=0.0, drop_b=0.0)
    batch = drawn(config, seed=2)
    lower = batch["level"] < edm.SIGMA_MAX
    assert 0 < lower.sum() < B
    finish_loss(fake, batch, config)
    first, second = (seen["x"][:, :, :4] for seen in fake.seen)
    own = edm.SIGMA_MAX * batch["noise"] / (edm.SIGMA_MAX**2 + 1)  # c_skip z, since the output is nought
    sigma = batch["level"].view(-1, 1, 1, 1, 1)
    expected = (own + sigma * batch["noise"]) / torch.sqrt(sigma**2 + 1)
    torch.testing.assert_close(second[lower], expected[lower])
    torch.testing.assert_close(second[~lower], first[~lower])


def test_mask_loss_by_hand() -> None:
    amodal, modal = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    amodal[..., :4, :], modal[..., :2, :] = 1, 1
    right = 2 * amodal - 1
    loss, numbers = step.mask_loss(right, amodal, modal, 0.0)
    wrong, nothing = step.mask_loss(-right, amodal, modal, 0.0)
    assert numbers == {"iou_occ": 1.0} and nothing == {"iou_occ": 0.0}
    assert loss < 0.1 < 2 < wrong
    entropy = math.log(1 + math.exp(-step.SHARPNESS))
    p = 1 / (1 + math.exp(-step.SHARPNESS))
    whole = 1 - (2 * 32 * p + 64) / (32 * p + 32 * (1 - p) + 32 + 64)
    hidden = 1 - (2 * 16 * p + 64) / (16 * p + 32 * (1 - p) + 16 + 64)
    assert loss.item() == pytest.approx(entropy + whole + hidden, rel=1e-5)
    # a pixel of the visible part is wrong: IoU of the hidden part does not care; nothing hidden: there is none
    slip = right.clone()
    slip[..., 0, 0] = -1
    assert step.mask_loss(slip, amodal, modal, 0.0)[1] == {"iou_occ": 1.0}
    assert step.mask_loss(2 * modal - 1, modal, modal, 0.0)[1] == {}


def test_an_empty_mask_is_no_division_by_nothing() -> None:
    nothing = torch.zeros(1, 1, 8, 8)
    loss, numbers = step.mask_loss(nothing - 1, nothing, nothing, 1.0)
    assert torch.isfinite(loss) and loss < 0.1 and numbers == {}


def test_decoded_frames_are_those_of_the_truth(fake: FakeModel) -> None:
    """Latents that decode to the mask cost nothing on pixels, whichever frames are decoded."""
    batch = make_batch(2, frames=7)
    corner = torch.zeros(2, 7, 8 * h, 8 * w, dtype=torch.bool)
    for t in range(7):
        corner[:, t, : 8 * (t % h + 1), :16] = True
    batch["amodal"] = torch.from_numpy(np.packbits(corner.numpy(), axis=-1))
    batch["modal"] = batch["amodal"].clone()
    cells = (2 * corner[:, :, ::8, ::8].float() - 1) * FakeVae.config.scaling_factor
    batch["target"] = cells[:, :, None].expand(-1, -1, 4, -1, -1).contiguous()
    config = DenoiserConfig(objective="finish", pixel_frames=3)
    batch = drawn(config, batch)
    none = torch.zeros(2, 7, dtype=torch.bool)
    frames = step.pick_frames(torch.tensor([0.0, 0.999]), none, 3)
    assert frames.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert step.pick_frames(torch.tensor([0.5]), none[:1, :2], 8).tolist() == [[0, 1]]
    picked = step.pick_frames(batch["first"], none, 3)
    decoded = step.decode(fake.vae, step.take(batch["target"], picked))
    amodal = step.take(step.unpack(batch["amodal"]), picked)
    torch.testing.assert_close(decoded.mean(2), 2 * amodal - 1)


def test_frames_with_hidden_pixels_are_decoded_more_often() -> None:
    wanted = torch.zeros(700, 7, dtype=torch.bool)
    wanted[:, 5] = True
    first = (torch.arange(700) + 0.5) / 700
    starts = step.pick_frames(first, wanted, 2)[:, 0].bincount(minlength=6)
    expected = 700 * torch.tensor([1.0, 1, 1, 1, step.PREFER, step.PREFER]) / (4 + 2 * step.PREFER)
    assert (starts - expected).abs().max() <= 1


@pytest.mark.parametrize("stage", ["amodal", "content"])
def test_the_loss_on_pixels_reaches_the_network_and_not_the_vae(stage: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny_denoiser()
        model.vae = tiny_vae().requires_grad_(False)
    config = DenoiserConfig(stage, objective="finish", latent_weight=0.0, pixel_frames=2, levels=(1, 3), drop_all=0.0)
    loss, numbers = finish_loss(model, drawn(config, make_batch(2, channels=3)), config)
    assert torch.isfinite(loss) and numbers["pixel"] == pytest.approx(loss.item())
    loss.backward()
    for part in (model.unet.conv_in, model.unet.conv_out, model.tower.visual_projection):
        assert part.weight.grad is not None and part.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in model.vae.parameters())


@pytest.mark.parametrize("channels", [1, 3])
def test_unet_and_tower_learn(channels: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny_denoiser()
    config = DenoiserConfig("content", drop_all=0.0)
    loss, _ = diffusion_loss(model, drawn(config, make_batch(2, channels=channels)), config)
    assert loss.ndim == 0 and torch.isfinite(loss)
    loss.backward()
    for part in (model.unet.conv_in, model.unet.conv_out, model.tower.visual_projection):
        assert part.weight.grad is not None and part.weight.grad.abs().max() > 0
