"""Frames of examples that are turned and stretched stay true."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diffvas.pipelines.finish import AGAIN, BY_COLOUR, BY_DEPTH, INPUTS, INSIDE, ROOM, VISIBLE
from diffvas.pipelines.sight import Seen
from diffvas.train import jitter, pixels
from diffvas.train.loop import Batch
from diffvas.train.pixels import vary_finish

SIDE = 48


def batch(count: int = 16) -> Batch:
    """A disc of which the right half is hidden, on the left of the picture."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = torch.from_numpy((y - 24) ** 2 + (x - 16) ** 2 < 150)
    seen = disc & torch.from_numpy(x < 16)
    maps = torch.full((count, INPUTS, SIDE, SIDE), -1.0)
    maps[:, VISIBLE] = 2 * seen.float() - 1
    maps[:, ROOM] = 2 * (~seen).float() - 1
    maps[:, INSIDE] = 1
    truth = torch.stack([disc, seen]).float().expand(count, 2, SIDE, SIDE).clone()
    mode = torch.where(torch.arange(count) % 2 == 0, BY_DEPTH, BY_COLOUR)
    return {"x": maps, "truth": truth, "mode": mode}


def test_channels_are_where_the_pipelines_put_them() -> None:
    """Beside the soft mask, which comes first."""
    rng = np.random.default_rng(0)
    modal = np.zeros((4, SIDE, SIDE), bool)
    modal[:, 10:30, 10:30] = True
    inside = rng.random(modal.shape) < 0.9
    seen = Seen(modal & inside, rng.random(modal.shape, np.float32), inside)
    for channel, expected in ((VISIBLE, seen.modal), (ROOM, seen.free), (INSIDE, inside)):
        np.testing.assert_array_equal(seen.known[:, channel - 1], 2 * np.asarray(expected, np.float32) - 1)
    assert 0.1 < np.asarray(seen.free).mean() < 0.9


def test_inputs_and_truth_go_together() -> None:
    varied = vary_finish(batch(), np.random.default_rng(0))
    x, (amodal, modal) = varied["x"], varied["truth"].unbind(1)
    there = x[:, INSIDE] > 0
    assert not torch.equal(x, batch()["x"])
    assert torch.equal((x[:, VISIBLE] > 0)[there], (modal > 0)[there])
    assert (modal[~there] == 1).all(), "what comes from beyond the frame does not count"
    assert (x[:, VISIBLE][~there] == -1).all()
    whole, seen = (amodal * there).sum((1, 2)), (modal * there).sum((1, 2))
    assert (seen / whole - 0.5).abs().max() < 0.1, "half of the disc is seen, however it lies"
    for channel in (VISIBLE, INSIDE):
        assert set(x[:, channel].unique().tolist()) <= {-1.0, 1.0}
    assert set(x[::2, ROOM].unique().tolist()) == {-1.0, 1.0}, "by depth it is yes or no"


def test_some_frames_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jitter, "SHARE", 0.0)
    monkeypatch.setattr(pixels, "FIRST_TIME", 0.0)
    plain, varied = batch(), vary_finish(batch(), np.random.default_rng(0))
    for name, value in plain.items():
        torch.testing.assert_close(varied[name], value, atol=1e-5, rtol=0)


def test_turns_are_turns() -> None:
    """Warps stay within their bounds, one in five changes nothing, and a blob is drawn where its map says."""
    rng = np.random.default_rng(3)
    maps = jitter.random_warps(200, rng)
    scale = maps[:, :, :2].det().abs().sqrt()
    assert scale.log().abs().max() <= jitter.ZOOM + 1e-6
    stays = (maps == torch.tensor([[1.0, 0, 0], [0, 1, 0]])).all(-1).all(-1)
    assert 0.1 < stays.float().mean() < 0.3
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = torch.exp(-((y - 20) ** 2 + (x - 40) ** 2) / 20)[None, None]
    turn = math.radians(30)
    maps = torch.tensor([[[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0]]])
    moved = jitter.warp(blob, maps)[0, 0]
    at = torch.stack([(moved * x).sum(), (moved * y).sum()]) / moved.sum()
    back = maps[0, :, :2] @ ((at - 31.5) / 32)
    torch.testing.assert_close(back * 32 + 31.5, torch.tensor([40.0, 20.0]), atol=0.2, rtol=0)
    assert jitter.within((64, 64), maps).float().mean() < 0.95


def test_some_frames_are_asked_for_the_first_time() -> None:
    said = vary_finish(batch(300), np.random.default_rng(0))["x"][:, -AGAIN:]
    nothing = ~said.flatten(1).any(1)
    assert 0.2 < nothing.float().mean() < 0.5
    assert (said[~nothing].flatten(2).any(2)).all(), "all of it or nothing"
