"""The recipes: what each stands for, and what is said of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from diffvas.train.config import DenoiserConfig
from diffvas.train.presets import PRESETS, resolve


def test_the_papers_numbers() -> None:
    config, loop = resolve("paper-mask-only", {"data": ("c",), "model": "svd"})
    assert (config.channels, config.trained, config.batch, config.drop_all) == (8, "temporal", 8, 0.1)
    assert (config.noise_mean, config.noise_deviation, config.noise_top) == (0.7, 1.6, 0.0)
    assert (loop.lr, loop.beta2, loop.weight_decay, loop.decay, loop.clip, loop.ema) == (3e-5, 0.999, 0.01, 0, 0, 0)
    config, loop = resolve("paper-two-stage", {"data": ("c",), "model": "svd", "start": "run"})
    assert (config.channels, loop.lr) == (12, 3e-6)
    reference, _ = resolve("reference", {"data": ("c",), "model": "svd"})
    assert (reference.drop_all, reference.drop_tokens, reference.drop_latents) == (0.1, 0.1, 0.1)


def test_every_field_can_be_changed() -> None:
    config, loop = resolve("amodal", {"data": ("c",), "lr": 1.0, "batch": 5, "conditions": ("mask",)})
    assert (loop.lr, config.batch, config.inputs) == (1.0, 5, ("a",))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_resolves_with_what_it_needs(name: str) -> None:
    given: dict[str, Any] = {need: ("c",) if need == "data" else "x" for need in PRESETS[name].needs}
    config, loop = resolve(name, given)
    assert config.channels in (8, 12, 16) and loop.steps > 0
    for need in PRESETS[name].needs:
        with pytest.raises(ValueError, match=f"{need}: expected one with the preset '{name}', got none"):
            resolve(name, {k: v for k, v in given.items() if k != need})


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("amodel", {}, "preset: expected one of .*, got 'amodel' .did you mean 'amodal'"),
        ("amodal", {"data": ("c",), "batchh": 3}, "batchh: expected a field of the recipe .did you mean 'batch'"),
        ("amodal", {"data": ("c",), "xyzzy": 3}, "xyzzy: expected a field of the recipe, got another"),
        ("amodal", {"data": ("c",), "stage": "masks"}, "stage: expected one of amodal, content, end-to-end"),
        ("amodal", {"data": ("c",), "conditions": ("depth",)}, "conditions: expected some of mask, depth, rgb"),
        ("amodal", {"data": ("c",), "conditions": ("mask", "rgb", "depth")}, "in this order"),
        ("amodal", {"data": ("c",), "drop_b": 1.5}, "drop_b: expected a probability from 0 to 1, got 1.5"),
        ("amodal", {"data": ("c",), "drop_all": 0.8, "drop_tokens": 0.8}, "expected at most 1 together"),
        ("amodal", {"data": ("c",), "batch": 0}, "batch: expected 1 or more, got 0"),
        ("amodal", {"data": ("c",), "levels": ()}, "levels: expected numbers of steps of 1 or more"),
        ("content", {"data": ("c",), "train_decoder": True}, "train_decoder: expected objective finish"),
    ],
)
def test_bad_recipes(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(name, given)


def test_conditions_of_the_stages() -> None:
    assert DenoiserConfig().inputs == ("a", "b")
    assert DenoiserConfig("content").inputs == ("a", "b")
    assert DenoiserConfig(conditions=("mask", "depth", "rgb")).channels == 16
