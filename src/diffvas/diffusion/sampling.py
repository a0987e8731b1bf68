"""From noise to a clean latent: noise schedules, guidance, and two solvers of the probability-flow ODE.

Everything is pure. A solver sees the network only as ``denoise(z, sigma) -> D``; the equations are in ``edm.py``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from diffvas.diffusion import edm

# "Align Your Steps" (Sabour et al. 2024): the ten steps optimised for Stable Video Diffusion; other numbers of steps
# are interpolated on a log scale, as its authors do
AYS_SIGMAS = (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034)

SAMPLERS = ("euler", "ays", "dpm++")

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Sampling:
    """How a latent is drawn.

    Attributes:
        steps: steps of the solver, 1 or more; 1 takes the estimate from pure noise as the result.
        sampler: "euler" (Karras sigmas, the paper's), "ays" (Euler on the schedule made for SVD, meant for 10 steps) or
            "dpm++" (DPM-Solver++ 2M on Karras sigmas).
        guidance: classifier-free guidance, ``F = F_null + guidance (F_cond - F_null)``; 1 runs without the null half.
        interval: (low, high) sigmas between which guidance acts; outside, only the conditional half is computed. At
            high noise guidance does harm and at low noise nothing (Kynkäänniemi et al. 2024).
        evaluated: (low, high) sigmas between which the network runs; outside, its latest estimate is taken again (above
            ``high`` that is the first step's). An estimate's share in the next noisy latent is at most its size over
            sigma, and near the end it hardly changes any more, and the result is nearly the same.

    Raises:
        ValueError: names the number that is wrong.
    """

    steps: int = 25
    sampler: str = "euler"
    guidance: float = 1.5
    interval: tuple[float, float] = (0.0, math.inf)
    evaluated: tuple[float, float] = (0.0, math.inf)

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or self.steps != int(self.steps) or self.steps < 1:
            raise ValueError(f"steps: expected a whole number of at least 1, got {self.steps!r}")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler: expected one of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise ValueError(f"guidance: expected a number of 0 or more, got {self.guidance}")
        for name in ("interval", "evaluated"):
            bounds = getattr(self, name)
            if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1]:
                raise ValueError(f"{name}: expected (low, high) sigmas with 0 <= low <= high, got {bounds}")

    def sigmas(self) -> torch.Tensor:
        """(steps + 1,) float32 noise levels, falling from ``edm.SIGMA_MAX``; the last is 0."""
        return ays_sigmas(self.steps) if self.sampler == "ays" else edm.karras_sigmas(self.steps)

    def guidance_at(self, sigma: float) -> float:
        """The guidance at one noise level: 1 outside the interval."""
        return self.guidance if self.interval[0] <= sigma <= self.interval[1] else 1.0

    def evaluated_sigmas(self) -> list[float]:
        """The noise levels at which the network runs."""
        low, high = self.evaluated
        return [s for i, s in enumerate(self.sigmas()[:-1].tolist()) if i == 0 or low <= s <= high]


def reusing(denoise: Denoise, evaluated: tuple[float, float], on_step: Callable[[], None] | None = None) -> Denoise:
    """The same estimates inside an interval of sigmas, and outside of it the latest one once more."""
    latest: torch.Tensor | None = None

    def estimate(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        nonlocal latest
        if latest is None or evaluated[0] <= float(sigma) <= evaluated[1]:
            latest = denoise(z, sigma)
        if on_step is not None:
            on_step()
        return latest

    return estimate


def ays_sigmas(steps: int) -> torch.Tensor:
    """(steps + 1,) float32: ``AYS_SIGMAS`` where steps = 10, else interpolated on a log scale; the last is 0."""
    known = torch.tensor(AYS_SIGMAS, dtype=torch.float64).log()
    at = torch.linspace(0, len(known) - 1, steps, dtype=torch.float64)
    low = at.floor().long().clamp(max=len(known) - 2)
    value = torch.lerp(known[low], known[low + 1], at - low).exp()
    return torch.cat([value, torch.zeros(1, dtype=torch.float64)]).float()


def sample(
    denoise: Denoise, noise: torch.Tensor, sampling: Sampling, on_step: Callable[[], None] | None = None
) -> torch.Tensor:
    """Solve from pure noise to a clean latent.

    Args:
        denoise: (z, sigma) -> D(z; sigma), all of z's shape; sigma is a 0-d float32 tensor.
        noise: standard normal, any shape, float32.
        on_step: called after every step of the solver, whether the network ran in it or not.

    Returns:
        A float32 tensor of the same shape.
    """
    sigmas = sampling.sigmas().to(noise.device)
    z = noise * torch.sqrt(sigmas[0] ** 2 + 1)  # clean latents have unit variance themselves
    solve = dpmpp_2m if sampling.sampler == "dpm++" else euler
    return solve(reusing(denoise, sampling.evaluated, on_step), z, sigmas)


def euler(denoise: Denoise, z: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Euler's method, without churn and second-order correction, as SVD samples."""
    for sigma, following in itertools.pairwise(sigmas):
        z = edm.euler_step(z, denoise(z, sigma), sigma, following)
    return z


def dpmpp_2m(denoise: Denoise, z: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """DPM-Solver++ 2M (Lu et al. 2022, algorithm 2) over ``lambda = -ln sigma``; first and last step of first order."""
    before: torch.Tensor | None = None
    for i, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        estimate = denoise(z, sigma)
        if following == 0:
            return estimate
        h = (sigma / following).log()
        direction = estimate
        if before is not None:
            ratio = (sigmas[i - 1] / sigma).log() / h
            direction = estimate + (estimate - before) / (2 * ratio)
        z = (following / sigma) * z - torch.expm1(-h) * direction
        before = estimate
    return z
