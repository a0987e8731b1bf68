"""Solvers and schedules, against diffusers' own and against what is known in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler
from diffusers.schedulers import AysSchedules

from diffvas.diffusion import edm, sampling
from diffvas.diffusion.sampling import SAMPLERS, Sampling, ays_sigmas, sample


def gaussian(deviation: float) -> sampling.Denoise:
    """The exact denoiser of data drawn from N(0, deviation^2)."""
    return lambda z, sigma: z * deviation**2 / (deviation**2 + sigma**2)


def noise() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_many_steps_solve_the_ode(sampler: str) -> None:
    """For Gaussian data the ODE's solution is known: z scales with sqrt(deviation^2 + sigma^2)."""
    start = noise()
    begin = math.sqrt(edm.SIGMA_MAX**2 + 1)
    expected = start * begin * 0.5 / math.sqrt(0.25 + edm.SIGMA_MAX**2)
    found = sample(gaussian(0.5), start, Sampling(steps=400, sampler=sampler))
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-4)


def test_second_order_is_nearer_than_first() -> None:
    start = noise()
    exact = sample(gaussian(0.5), start, Sampling(steps=2000))
    errors = {
        name: float((sample(gaussian(0.5), start, Sampling(steps=12, sampler=name)) - exact).abs().max())
        for name in ("euler", "dpm++")
    }
    assert errors["dpm++"] < 0.5 * errors["euler"]


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_dpmpp_is_that_of_diffusers(steps: int) -> None:
    scheduler = EDMDPMSolverMultistepScheduler(
        sigma_min=edm.SIGMA_MIN,
        sigma_max=edm.SIGMA_MAX,
        sigma_data=1.0,
        prediction_type="v_prediction",
        solver_order=2,
        lower_order_final=False,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(steps)
    z = noise() * math.sqrt(edm.SIGMA_MAX**2 + 1)

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(2 * x) - 0.3

    theirs = z
    for t in scheduler.timesteps:
        theirs = scheduler.step(network(scheduler.scale_model_input(theirs, t)), t, theirs).prev_sample
    ours = sample(
        lambda z, s: edm.c_skip(s) * z + edm.c_out(s) * network(edm.c_in(s) * z), noise(), Sampling(steps, "dpm++")
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_ays_is_the_published_schedule() -> None:
    published = torch.tensor(AysSchedules["StableDiffusionVideoSigmas"])
    torch.testing.assert_close(ays_sigmas(10), published, rtol=1e-5, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 5, 17])
def test_ays_with_other_numbers_of_steps(steps: int) -> None:
    sigmas = ays_sigmas(steps)
    assert len(sigmas) == steps + 1 and sigmas[-1] == 0
    assert sigmas[0] == pytest.approx(700.0)
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_one_step_is_the_estimate_from_noise(sampler: str) -> None:
    seen: list[float] = []

    def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(float(sigma))
        return torch.full_like(z, 0.25)

    found = sample(denoise, noise(), Sampling(steps=1, sampler=sampler))
    torch.testing.assert_close(found, torch.full_like(found, 0.25), rtol=0, atol=1e-4)
    assert seen == pytest.approx([edm.SIGMA_MAX])


def test_guidance_interval() -> None:
    one = Sampling(guidance=2.0, interval=(0.1, 5.0))
    assert [one.guidance_at(s) for s in (0.05, 0.1, 3.0, 5.0, 5.1)] == [1.0, 2.0, 2.0, 2.0, 1.0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_estimates_are_reused_outside_an_interval(sampler: str) -> None:
    seen: list[float] = []
    steps: list[None] = []

    def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(float(sigma))
        return z / (1 + sigma**2)  # the estimate of standard normal latents

    part = Sampling(steps=25, sampler=sampler, evaluated=(0.05, 40.0))
    found = sample(denoise, noise(), part, lambda: steps.append(None))
    assert seen == pytest.approx(part.evaluated_sigmas()) and seen[0] == edm.SIGMA_MAX
    assert len(seen) < 25 == len(steps)
    assert all(0.05 <= sigma <= 40 for sigma in seen[1:])
    whole = sample(denoise, noise(), Sampling(steps=25, sampler=sampler))
    assert len(seen) == len(part.evaluated_sigmas()) + 25
    torch.testing.assert_close(found, whole, rtol=0, atol=0.03)
    none = sample(denoise, noise(), Sampling(steps=25, sampler=sampler, evaluated=(0.0, 0.0)))
    assert (none - whole).abs().mean() > 0.1  # what the test would miss if nothing were reused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ({"steps": 2.5}, "steps: expected a whole number"),
        ({"steps": True}, "steps: expected a whole number"),
        ({"sampler": "heun"}, r"sampler: expected one of euler, ays, dpm\+\+, got 'heun'"),
        ({"guidance": -1}, "guidance: expected a number of 0 or more, got -1"),
        ({"guidance": math.nan}, "guidance: expected a number of 0 or more, got nan"),
        ({"interval": (2.0, 1.0)}, "interval: expected"),
        ({"interval": (-1.0, 1.0)}, "interval: expected"),
        ({"interval": (math.nan, 1.0)}, "interval: expected"),
        ({"evaluated": (2.0, 1.0)}, "evaluated: expected"),
        ({"evaluated": (1.0,)}, "evaluated: expected"),
    ],
)
def test_bad_numbers(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**given)
