"""What a denoiser is trained on and for: one frozen dataclass, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

# stage -> condition -> the cached latents that hold it, in the order of the UNet's input channels
BLIND = "_blind"  # ends the names of what a cache has in the place of others for where depth is not given
CONDITIONS: dict[str, dict[str, str]] = {
    "amodal": {"mask": "a", "depth": "b", "rgb": "rgb"},
    "content": {"visible": "a", "mask": "b"},
    "end-to-end": {"visible": "a", "depth": "b"},
}
OBJECTIVES = ("diffusion", "regression", "finish")


@dataclass(frozen=True)
class DenoiserConfig:
    """What a denoiser is trained on and for.

    Attributes:
        stage: "amodal" (modal masks + depth -> amodal masks), "content" (visible RGB + amodal masks -> RGB of the whole
            object), "end-to-end" (visible RGB + depth -> RGB of the whole object, in one stage).
        data: latent caches; weights: how often each is drawn (empty: equally).
        batch: clips per step, of all processes together; spans: numbers of frames to choose from.
        objective: "diffusion"; "regression" (one step from zeros, latents as target); "finish" (one or few steps, loss
            on decoded pixels).
        conditions: what the network sees, of the stage's in their order; empty: the first two.
        noise_mean, noise_deviation, noise_top: see ``edm.NoiseLevels``.
        drop_b: probability that the second condition is not given (depth none).
        drop_all, drop_tokens, drop_latents: probability that nothing is given (for guidance), that the tokens are not,
            that the latents are not; they exclude one another.
        hidden_weight: extra weight of the loss where the object is hidden.
        model: "tiny", or a folder of Stable Video Diffusion's layout. widths: channels of the tiny UNet's three levels.
        start: a run, or a stage of a saved model, to take the first weights from.
        random_channels: new input channels start at random instead of at zero (ablation).
        trained: "all", or "temporal" (temporal transformer blocks and the input convolution).
        checkpointing: recompute activations in the backward pass, for memory.
        vae: the VAE of the caches; needed to finish, and to validate.
        levels: finish: numbers of steps whose noise levels are trained; 1 is the highest level alone.
        zero_noise: finish: start from zeros instead of noise; the sampler has to as well.
        pixel_frames: finish: consecutive frames decoded of every clip.
        pixel_weight, latent_weight: finish: weights of the loss on pixels and of that on latents.
        train_decoder: finish: the VAE's decoder trains too.
        val: latent caches that are never trained on; before the first step and every val_every steps (0: at
            checkpoints) val_clips of them are scored in val_steps steps.
    """

    stage: str = "amodal"
    data: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    batch: int = 2
    spans: tuple[int, ...] = (25,)
    objective: str = "diffusion"
    conditions: tuple[str, ...] = ()
    noise_mean: float = 1.0
    noise_deviation: float = 1.8
    noise_top: float = 0.35
    drop_b: float = 0.25
    drop_all: float = 0.06
    drop_tokens: float = 0.0
    drop_latents: float = 0.0
    hidden_weight: float = 0.0
    model: str = "tiny"
    widths: tuple[int, ...] = (64, 96, 128)
    start: str = ""
    random_channels: bool = False
    trained: str = "all"
    checkpointing: bool = False
    vae: str = ""
    levels: tuple[int, ...] = (1,)
    zero_noise: bool = False
    pixel_frames: int = 8
    pixel_weight: float = 1.0
    latent_weight: float = 0.2
    train_decoder: bool = False
    val: tuple[str, ...] = ()
    val_every: int = 0
    val_clips: int = 16
    val_steps: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError, naming the field, where a value makes no sense."""
        choices = {"stage": tuple(CONDITIONS), "objective": OBJECTIVES, "trained": ("all", "temporal")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        known = tuple(CONDITIONS[self.stage])
        if self.conditions and (self.conditions[0] != known[0] or not self.in_order(known)):
            raise ValueError(
                f"conditions: expected some of {', '.join(known)} in this order, {known[0]} among them, "
                f"got {', '.join(self.conditions)}"
            )
        for name in ("drop_b", "drop_all", "drop_tokens", "drop_latents", "noise_top"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a probability from 0 to 1, got {getattr(self, name)}")
        if self.drop_all + self.drop_tokens + self.drop_latents > 1:
            raise ValueError("drop_all, drop_tokens, drop_latents: expected at most 1 together, got more")
        for name in ("batch", "pixel_frames", "val_clips", "val_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        for name in ("hidden_weight", "pixel_weight", "latent_weight", "val_every"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if len(self.widths) != 3 or min(self.widths) < 32 or any(width % 32 for width in self.widths):
            raise ValueError(f"widths: expected three multiples of 32, got {list(self.widths)}")
        if not self.levels or min(self.levels) < 1:
            raise ValueError(f"levels: expected numbers of steps of 1 or more, got {list(self.levels)}")
        if self.train_decoder and (self.objective != "finish" or self.stage != "amodal"):
            raise ValueError("train_decoder: expected objective finish and stage amodal with it, got another")

    def in_order(self, known: tuple[str, ...]) -> bool:
        """Whether the conditions are some of ``known``, in that order."""
        return list(self.conditions) == [name for name in known if name in self.conditions]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The cached latents that the network sees, in the order of its input channels."""
        keys = CONDITIONS[self.stage]
        return tuple(keys[name] for name in (self.conditions or tuple(keys)[:2]))

    @property
    def channels(self) -> int:
        """Input channels of the UNet: the noisy latents and the conditions, four each."""
        return 4 + 4 * len(self.inputs)
