"""Truths and predictions that the tests of scoring share: a disc that a bar passes, and methods of known faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffvas.bench.predictions import MaskTruth, Prediction, PredictionFolder, TruthFolder

HEIGHT, WIDTH, FRAMES = 48, 80, 6


def disc(centre: tuple[float, float], radius: float, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """(H, W) bool."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def arrays(number: int, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """Amodal and modal masks, (T, H, W) bool: a disc that moves to the right; a bar hides some of it, more or less."""
    amodal = np.stack([disc((24, 20 + 5 * t + 2 * (number % 3)), 11) for t in range(frames)])
    bar = np.zeros((HEIGHT, WIDTH), bool)
    bar[:, 34 : 38 + 4 * (number % 5)] = True
    return amodal, amodal & ~bar


def truth(number: int, frames: int = FRAMES) -> MaskTruth:
    """The truth of clip ``number``; three clips make a scene."""
    amodal, modal = arrays(number, frames)
    return MaskTruth.from_arrays(f"scene{number // 3}/{number}", amodal, modal, group=f"scene{number // 3}")


def prediction(number: int, fault: float, samples: int = 0, frames: int = FRAMES) -> Prediction:
    """The disc at a place that is wrong by about ``fault`` pixels, anew in every frame and sample."""
    rng = np.random.default_rng([number, round(100 * fault)])

    def one() -> np.ndarray:
        shifts = rng.normal(0, fault, (frames, 2))
        centres = [(24 + dy, 20 + 5 * t + 2 * (number % 3) + dx) for t, (dy, dx) in enumerate(shifts)]
        return np.stack([disc(centre, 11 - min(fault, 5) * 0.4) for centre in centres])

    drawn = np.stack([one() for _ in range(samples)]) if samples else None
    masks = one() if drawn is None else drawn.mean(axis=0) >= 0.5
    seconds, peak = 0.5 + 0.01 * number, int(2**30 * (1 + fault / 10))
    return Prediction.from_arrays(truth(number).clip, masks, samples=drawn, seconds=seconds, peak_bytes=peak)


def write_case(root: Path, clips: int = 6, methods: tuple[tuple[str, float, int], ...] = (("near", 1.0, 0),)) -> None:
    """``root/truth`` and ``root/NAME`` per method (name, fault, samples)."""
    truths = TruthFolder.create(root / "truth", name="discs")
    for number in range(clips):
        truths.write(truth(number))
    for name, fault, samples in methods:
        folder = PredictionFolder.create(root / name, name)
        for number in range(clips):
            folder.write(prediction(number, fault, samples))
