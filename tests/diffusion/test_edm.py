"""EDM's equations against numbers worked out by hand, and against diffusers' Euler scheduler."""

from __future__ import annotations

import math

import pytest
import torch

from diffvas.diffusion import edm
from diffvas.train.denoiser import svd_scheduler


def test_coefficients_at_three() -> None:
    sigma = torch.tensor(3.0)
    assert edm.c_in(sigma).item() == pytest.approx(1 / math.sqrt(10))
    assert edm.c_noise(sigma).item() == pytest.approx(math.log(3) / 4)
    assert edm.c_skip(sigma).item() == pytest.approx(0.1)
    assert edm.c_out(sigma).item() == pytest.approx(-3 / math.sqrt(10))
    assert edm.loss_weight(sigma).item() == pytest.approx(10 / 9)


def test_identities_at_every_level() -> None:
    sigma = torch.logspace(-2.6, 2.8, 50, dtype=torch.float64)
    one = torch.ones_like(sigma)
    torch.testing.assert_close(edm.c_out(sigma) ** 2 + edm.c_skip(sigma), one)
    torch.testing.assert_close(edm.c_in(sigma) ** 2, edm.c_skip(sigma))
    torch.testing.assert_close(edm.loss_weight(sigma) * edm.c_out(sigma) ** 2, one)  # the loss on F weighs 1 everywhere


def test_sigma_is_per_sample() -> None:
    z, f = torch.ones(2, 3, 4, 5), torch.full((2, 3, 4, 5), 2.0)
    d = edm.denoised(z, f, torch.tensor([1.0, 3.0]))
    assert edm.like(torch.tensor([1.0, 3.0]), z).shape == (2, 1, 1, 1)
    torch.testing.assert_close(d[0], torch.full((3, 4, 5), 0.5 - 2 / math.sqrt(2)))
    torch.testing.assert_close(d[1], torch.full((3, 4, 5), 0.1 - 6 / math.sqrt(10)))


def test_loss_by_hand() -> None:
    z0 = torch.zeros(2, 1, 2)
    estimate = torch.tensor([[[1.0, 3.0]], [[2.0, 2.0]]])
    loss = edm.denoising_loss(estimate, z0, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(loss, torch.tensor([5.0 * 2, 4.0 * 1.25]))
    emphasis = torch.tensor([[[1.0, 2.0]], [[1.0, 1.0]]])
    loss = edm.denoising_loss(estimate, z0, torch.tensor([1.0, 2.0]), emphasis)
    torch.testing.assert_close(loss, torch.tensor([(1 + 18) / 2 * 2, 5.0]))


def test_loss_of_the_perfect_network_is_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    z0, noise = (torch.randn(3, 4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    sigma = torch.tensor([0.1, 1.0, 20.0], dtype=torch.float64)
    z = z0 + edm.like(sigma, z0) * noise
    # D = z0 solved for F: the v of v-prediction, with another sign
    v = edm.like(edm.c_in(sigma), z0) * (noise - edm.like(sigma, z0) * z0)
    torch.testing.assert_close(edm.denoised(z, v, sigma), z0)


@pytest.mark.parametrize("steps", [1, 3, 25])
def test_karras_schedule_is_that_of_diffusers(steps: int) -> None:
    scheduler = svd_scheduler()
    scheduler.set_timesteps(steps)
    sigmas = edm.karras_sigmas(steps)
    torch.testing.assert_close(sigmas, scheduler.sigmas, rtol=1e-5, atol=0)
    torch.testing.assert_close(edm.c_noise(sigmas[:-1]), scheduler.timesteps, rtol=1e-5, atol=1e-6)


def test_karras_schedule_by_hand() -> None:
    sigmas = edm.karras_sigmas(3, 1.0, 128.0, 7.0)  # seventh roots 1 and 2, so 1.5 in the middle
    torch.testing.assert_close(sigmas, torch.tensor([128.0, 1.5**7, 1.0, 0.0]))
    assert edm.karras_sigmas(1).tolist() == pytest.approx([700.0, 0.0])


@pytest.mark.parametrize("steps", [0, -3])
def test_karras_schedule_wants_a_step(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps: expected at least 1, got {steps}"):
        edm.karras_sigmas(steps)


@pytest.mark.parametrize("steps", [1, 4])
def test_euler_loop_is_that_of_diffusers(steps: int) -> None:
    def network(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return torch.tanh(1.5 * x.flip(-1) + c)

    scheduler = svd_scheduler()
    scheduler.set_timesteps(steps)
    start = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(1)) * edm.SIGMA_MAX
    ours, theirs = start, start
    sigmas = edm.karras_sigmas(steps)
    for i, t in enumerate(scheduler.timesteps):
        f = network(edm.c_in(sigmas[i]) * ours, edm.c_noise(sigmas[i]))
        ours = edm.euler_step(ours, edm.denoised(ours, f, sigmas[i : i + 1]), sigmas[i], sigmas[i + 1])
        theirs = scheduler.step(network(scheduler.scale_model_input(theirs, t), t), t, theirs).prev_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.5, edm.SIGMA_MAX])
def test_last_euler_step_returns_the_estimate_to_the_bit(sigma: float) -> None:
    draw = torch.Generator().manual_seed(0)
    z, estimate = sigma * torch.randn(1000, generator=draw), torch.randn(1000, generator=draw)
    assert torch.equal(edm.euler_step(z, estimate, torch.tensor(sigma), torch.tensor(0.0)), estimate)


def test_noise_levels() -> None:
    draw = edm.NoiseLevels(0.7, 1.6).sample(4000, torch.Generator().manual_seed(0))
    assert draw.shape == (4000,) and draw.dtype == torch.float32
    assert draw.log().mean().item() == pytest.approx(0.7, abs=0.1)
    assert draw.log().std().item() == pytest.approx(1.6, abs=0.1)
    assert edm.SIGMA_MIN <= draw.min().item() and draw.max().item() <= edm.SIGMA_MAX
    again = edm.NoiseLevels(0.7, 1.6).sample(4000, torch.Generator().manual_seed(0))
    assert torch.equal(draw, again)
    top = edm.NoiseLevels(0.7, 1.6, top=0.25).sample(4000, torch.Generator().manual_seed(0))
    assert (top == edm.SIGMA_MAX).float().mean().item() == pytest.approx(0.25, abs=0.03)
