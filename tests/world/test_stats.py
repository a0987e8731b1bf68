"""Counting visibility, by hand, and the pictures of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffvas.world.codec import encode_clip
from diffvas.world.look import contact_sheet
from diffvas.world.shards import open_dataset, write_shard
from diffvas.world.stats import (
    LEVEL_NAMES,
    dataset_stats,
    hidden_spans,
    histogram_picture,
    level_of,
    outlined,
    sample_sheets,
    visible_fractions,
)
from factories import HEIGHT, WIDTH, make_scene


def test_levels_and_spans_by_hand() -> None:
    values = np.array([0.0, 1e-9, 0.2499, 0.25, 0.5, 0.75, 0.9499, 0.95, 1.0])
    names = [LEVEL_NAMES[k] for k in level_of(values)]
    assert names == ["hidden", "below-25", "below-25", "25-to-50", "50-to-75", "75-to-95", "75-to-95", "above-95",
                     "above-95"]  # fmt: skip
    row = np.array([0.0, 0.0, 0.5, np.nan, 0.0, np.nan, 0.0])
    assert hidden_spans(row) == [(0, 2), (4, 5), (6, 7)]
    assert hidden_spans(np.array([0.3])) == []


def test_specks_do_not_count_as_present() -> None:
    meta = {"size": [100, 100], "areas": {"amodal": [[4, 5, 0, 10]], "modal": [[4, 0, 0, 5]]}}
    np.testing.assert_array_equal(visible_fractions(meta), [[np.nan, 0.0, np.nan, 0.5]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shard(tmp_path / "set" / "s.tar", [(name, encode_clip(make_scene(name))) for name in ("one", "two")])
    return tmp_path / "set"


def test_stats_of_a_known_scene(folder: Path) -> None:
    scenes = open_dataset(folder)
    scene = scenes[0]
    visible = np.stack([scene.visible_fraction(k) for k in range(2)])
    calls: list[tuple[str, int, int]] = []
    stats = dataset_stats(scenes, lambda *call: calls.append(call))
    assert (stats["clips"], stats["objects"], stats["frames"]) == (2, 4, 10)
    assert sum(stats["histogram"]) == 20 and stats["histogram"][-1] == 2 * int((visible == 1).sum())
    assert sum(level["frames"] for level in stats["levels"].values()) == pytest.approx(1, abs=1e-3)
    assert sum(level["object_clips"] for level in stats["levels"].values()) == pytest.approx(1, abs=1e-3)
    assert stats["levels"]["above-95"]["frames"] == pytest.approx((visible >= 0.95).mean())
    hidden = int((visible[0] == 0).any())
    assert stats["hidden_spans"]["count"] == stats["hidden_spans"]["seen_again"] == 2 * hidden
    assert stats["out_of_frame"] is None and calls[-1] == ("stats", 2, 2)
    json.dumps(stats)


def test_pictures(folder: Path) -> None:
    scenes = open_dataset(folder)
    picture = histogram_picture(dataset_stats(scenes))
    assert picture.shape == (300, 720, 3) and picture.dtype == np.uint8 and (picture == (60, 140, 80)).all(-1).any()
    sheets = sample_sheets(scenes, rows=2, columns=2)
    assert "above-95" in sheets and set(sheets) <= set(LEVEL_NAMES)
    for sheet in sheets.values():
        assert sheet.shape[1] == 2 * 2 * WIDTH and sheet.shape[0] % HEIGHT == 0
    assert all(np.array_equal(sheets[k], v) for k, v in sample_sheets(scenes, rows=2, columns=2).items())
    scene = make_scene()
    marked = outlined(scene, 0, 2)
    changed = np.any(marked != scene.frames_u8[2], -1)
    assert changed.any() and not changed[~scene.amodal_masks[0, 2]].any()
    assert contact_sheet([scenes[0], scenes[1]]).shape == (2 * HEIGHT, 6 * WIDTH, 3)


def test_a_data_set_without_colours_has_no_sheets(tmp_path: Path) -> None:
    from dataclasses import replace

    scene = make_scene("plain")
    bare = replace(scene, frames_u8=scene.frames_u8[:0], amodal_rgb_u8=scene.amodal_rgb_u8[:, :0])
    write_shard(tmp_path / "s.tar", [("plain", encode_clip(bare))])
    scenes = open_dataset(tmp_path)
    assert dataset_stats(scenes)["objects"] == 2
    with pytest.raises(ValueError, match="scenes: expected clips with colours for a sheet, got 'plain' without"):
        sample_sheets(scenes)


def test_broken_clips_are_left_out_only_when_asked(folder: Path) -> None:
    path = folder / "s.tar"
    data = bytearray(path.read_bytes())
    data[data.index(b"two.meta.json") + 600] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"two\.meta\.json"):
        dataset_stats(open_dataset(folder))
    scenes = open_dataset(folder, skip_broken=True)
    assert dataset_stats(scenes)["clips"] == 1 and len(scenes.broken) == 1
    assert sample_sheets(scenes, rows=1, columns=1)
