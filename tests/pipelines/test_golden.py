"""The faithful behaviour gives what the reference implementation gave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import golden_check
from test_repository import ROOT

GOLDEN = ROOT.parent / "shared" / "golden" / "reference_pipeline"


@pytest.fixture(scope="module")
def pipe() -> object:
    if not GOLDEN.is_dir():
        pytest.skip("../shared/golden/reference_pipeline is not here")
    return golden_check.load(GOLDEN)


@pytest.mark.parametrize("name", ["near_depth", "no_guidance", "plain"])
def test_parity(pipe: object, name: str) -> None:
    found = golden_check.check(GOLDEN, name, pipe)  # type: ignore[arg-type]
    assert found.latents_mean <= golden_check.TOLERANCE, found
    assert found.frames_mean <= golden_check.TOLERANCE, found


def test_the_check_can_fail(pipe: object, tmp_path: Path) -> None:
    """A case whose recorded frames are off by a little is named, and the status is 1."""
    (tmp_path / "checkpoint").symlink_to(GOLDEN / "checkpoint")
    with np.load(GOLDEN / "no_guidance.npz") as stored:
        data = {key: stored[key] for key in stored.files}
    data["frames"] = data["frames"] + np.float16(0.01)
    np.savez(tmp_path / "off.npz", **data)
    call = json.loads((GOLDEN / "no_guidance.json").read_text())
    (tmp_path / "off.json").write_text(json.dumps(call))
    done = subprocess.run(
        [sys.executable, golden_check.__file__, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "above the tolerance" in done.stdout
    empty = subprocess.run(
        [sys.executable, golden_check.__file__, str(tmp_path / "no")], capture_output=True, text=True, check=False
    )
    assert empty.returncode == 2 and "expected checkpoint/ and cases" in empty.stderr
