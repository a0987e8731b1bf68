"""EDM as Stable Video Diffusion uses it: the equations in one place, for training and inference.

Notation (Karras et al. 2022, sigma_data = 1): a noisy latent ``z = z0 + sigma * noise``; a network ``F``; the denoised
estimate ``D = c_skip * z + c_out * F(c_in * z; c_noise)``. All functions are pure and take sigma of any shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 700.0, 7.0  # the range and spacing of SVD's Karras schedule


@dataclass(frozen=True)
class NoiseLevels:
    """``ln sigma ~ N(mean, deviation)`` in training; ``top`` is the share of draws replaced by the highest sigma.

    The reference trains with N(0.7, 1.6) and ``top = 0``. A model that is read out in one or a few steps starts all of
    them at SIGMA_MAX, a level that the normal hardly ever draws, so small models train on it directly too.
    """

    mean: float = 0.7
    deviation: float = 1.6
    top: float = 0.0

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """(count,) float32 sigmas."""
        device = generator.device
        sigma = torch.exp(self.mean + self.deviation * torch.randn(count, generator=generator, device=device))
        top = torch.rand(count, generator=generator, device=device) < self.top
        return torch.where(top, torch.full_like(sigma, SIGMA_MAX), sigma).clamp(SIGMA_MIN, SIGMA_MAX)


def c_in(sigma: torch.Tensor) -> torch.Tensor:
    """Scale of the network's input: unit variance at every noise level."""
    return torch.rsqrt(sigma**2 + 1)


def c_noise(sigma: torch.Tensor) -> torch.Tensor:
    """What the network is told of the noise level."""
    return torch.log(sigma) / 4


def c_skip(sigma: torch.Tensor) -> torch.Tensor:
    """Share of the noisy latent in the denoised estimate."""
    return 1 / (sigma**2 + 1)


def c_out(sigma: torch.Tensor) -> torch.Tensor:
    """Scale of the network's output in the denoised estimate (v-prediction: negative)."""
    return -sigma * torch.rsqrt(sigma**2 + 1)


def loss_weight(sigma: torch.Tensor) -> torch.Tensor:
    """lambda = (1 + sigma^2) / sigma^2, which makes the loss on F equally large at every noise level."""
    return (1 + sigma**2) / sigma**2


def like(sigma: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Sigma of shape (B,) viewed so that it broadcasts over ``z`` (B, ...)."""
    return sigma.reshape(-1, *[1] * (z.dim() - 1))


def denoised(z: torch.Tensor, network: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """D from the network's output F. ``z``, ``network``: (B, ...); ``sigma``: (B,)."""
    s = like(sigma, z)
    return c_skip(s) * z + c_out(s) * network


def denoising_loss(
    estimate: torch.Tensor, z0: torch.Tensor, sigma: torch.Tensor, emphasis: torch.Tensor | None = None
) -> torch.Tensor:
    """(B,) weighted squared error of D against the clean latent, one number per sample.

    Args:
        estimate, z0: (B, ...). sigma: (B,). emphasis: factors of the squared error that broadcast over ``z0``.
    """
    error = (estimate.float() - z0.float()) ** 2
    if emphasis is not None:
        error = error * emphasis
    return error.flatten(1).mean(1) * loss_weight(sigma)


def karras_sigmas(
    steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = RHO
) -> torch.Tensor:
    """(steps + 1,) float32, falling from ``sigma_max`` to ``sigma_min`` and then 0; one step starts at ``sigma_max``.

    Raises:
        ValueError: ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)]).float()


def euler_step(z: torch.Tensor, estimate: torch.Tensor, sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
    """One Euler step of the probability-flow ODE; sigmas are scalars. At ``sigma_next = 0`` it returns the estimate."""
    # in this form exactly: z + (sigma_next - sigma) * ... would leave the rounding of a z hundreds of times as large
    return estimate + (sigma_next / sigma) * (z - estimate)
