"""Options and skips that all tests share; every skip gives its reason."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "src" / "diffvas" / "weights"

# Before any test imports MuJoCo or OpenGL, which read it once: render without a display.
os.environ.setdefault("MUJOCO_GL", "egl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker, reason in (
            ("slow", None if config.getoption("--slow") else "takes minutes; run with --slow"),
            ("gpu", _without_gpu() if item.get_closest_marker("gpu") else None),
            ("weights", _without_weights()),
        ):
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@cache
def _without_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "needs a CUDA device"


@cache
def _without_weights() -> str | None:
    return None if any(WEIGHTS.rglob("*.safetensors")) else "needs the bundled weights, which this checkout lacks"


@cache
def _without_rendering() -> str | None:
    """Why MuJoCo can't render here, or None when it can: tried once, with the smallest picture there is."""
    if find_spec("mujoco") is None:
        return "needs the `world` extra (mujoco)"
    import mujoco

    try:
        with mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8) as renderer:
            renderer.render()
    except Exception as error:  # every backend has its own exceptions
        return f"needs EGL (make world-deps): {type(error).__name__}: {error}"
    return None


@pytest.fixture(scope="session")
def rendering() -> None:
    """Ask for this in a test that renders: it is skipped where no GL driver can be had."""
    reason = _without_rendering()
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """The folder of real clips that may stand beside the checkout; the test is skipped where it does not."""
    folder = ROOT.parent / "shared" / "clips"
    if not folder.is_dir():
        pytest.skip("needs the real clips in ../shared/clips, which are not part of the repository")
    return folder
