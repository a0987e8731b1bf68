"""Truths and predictions on disk: what is written comes back, in any order; what is broken is refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from diffvas.bench.predictions import MaskTruth, Prediction, PredictionFolder, TruthFolder
from diffvas.bench.storage import read_json, shard_of
from diffvas.metrics import rle as runs
from scoring_cases import arrays, prediction, truth, write_case


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_round_trip(tmp_path: Path) -> None:
    amodal, modal = arrays(4)
    rng = np.random.default_rng(0)
    soft = rng.random(amodal.shape)
    frames = [f"frame {t}" for t in range(len(amodal))]
    truths = TruthFolder.create(tmp_path / "t", name="x")
    truths.write(MaskTruth.from_arrays("a/b:ü", amodal, modal, group="g", frames=frames))
    back = truths.read("a/b:ü")
    np.testing.assert_array_equal(runs.decode_masks(back.amodal), amodal)
    np.testing.assert_array_equal(runs.decode_masks(back.modal), modal)
    assert (back.group, back.frames, back.size) == ("g", tuple(frames), list(amodal.shape[1:]))

    drawn = np.stack([amodal, modal])
    one = Prediction.from_arrays(
        "a/b:ü", modal, frames=frames, samples=drawn, probability=soft, seconds=1.5, peak_bytes=7
    )
    folder = PredictionFolder.create(tmp_path / "p", "method", seed=3)
    assert "a/b:ü" not in folder
    folder.write(one)
    assert "a/b:ü" in folder
    again = PredictionFolder.open(tmp_path / "p").get(back)
    assert again is not None and (again.seconds, again.peak_bytes) == (1.5, 7)
    np.testing.assert_array_equal(runs.decode_masks(again.samples[0]), amodal)
    np.testing.assert_allclose(again.probability / 255, soft, atol=0.5 / 255 + 1e-9)
    assert folder.get(truth(1)) is None
    plain = Prediction.from_arrays("a/b:ü", modal, frames=frames)
    folder.write(plain)
    once_more = folder.get(back)
    assert once_more.probability is None and once_more.samples == () and math.isnan(once_more.seconds)


def test_order_does_not_matter_and_runs_go_on(tmp_path: Path) -> None:
    for name, order in (("a", range(5)), ("b", reversed(range(5)))):
        for number in order:
            PredictionFolder.create(tmp_path / name, "m", seed=1).write(prediction(number, 1.0, 2))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    with pytest.raises(ValueError, match="differs in seed"):
        PredictionFolder.create(tmp_path / "a", "m", seed=2)
    with pytest.raises(ValueError, match="of kind 'truth' .*'predictions'"):
        TruthFolder.open(tmp_path / "a")


def test_half_written_files_are_no_predictions(tmp_path: Path) -> None:
    write_case(tmp_path, 2)
    folder = PredictionFolder.open(tmp_path / "near")
    place = folder.folder.place(truth(0).clip)
    place.rename(place.with_name(f".{place.name}.99.tmp"))
    assert truth(0).clip not in folder and len(folder.folder.files()) == 1


def test_long_names_and_shards(tmp_path: Path) -> None:
    folder = TruthFolder.create(tmp_path)
    names = ["x" * 300 + str(i) for i in range(3)] + ["..", "."]
    for name in names:
        amodal, modal = arrays(0)
        folder.write(MaskTruth.from_arrays(name, amodal, modal))
    assert sorted(t.clip for t in folder) == sorted(names) and len(folder) == 5
    assert {shard_of(f"clip{i}", 4) for i in range(50)} == {0, 1, 2, 3}
    assert all(path.is_relative_to(tmp_path / "clips") for path in folder.folder.files())


def broken(tmp_path: Path, **change: object) -> None:
    """Predict clip 0 and damage its file, then read it."""
    write_case(tmp_path, 1)
    folder = PredictionFolder.open(tmp_path / "near")
    place = folder.folder.place(truth(0).clip)
    record = json.loads(place.read_text()) | change
    place.write_text(json.dumps(record))
    folder.get(truth(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [48, 81]}, r"truth's size \[48, 80\] .*got \[48, 81\]"),
        ({"size": [48]}, "expected a size"),
        ({"masks": ["1"] * 6}, "frame '00000': expected runs that add up"),
        ({"masks": []}, "expected 6 masks, one per frame, got 0"),
        ({"masks": None}, "expected 6 masks, one per frame, got None"),
        ({"frames": ["0"] * 6}, "every frame once, got '0' 6 times"),
        ({"frames": 3}, "a list of frame names"),
        ({"samples": [["1"] * 6]}, "sample 0, frame '00000'"),
        ({"probability": ["AAAA"] * 6}, "frame '00000': expected an 8-bit grey PNG .*got none"),
        ({"probability": ["!"] * 6}, "expected an 8-bit grey PNG"),
        ({"probability": []}, "6 probability pictures"),
        ({"seconds": "1"}, "a number as seconds"),
        ({"seconds": float("nan")}, "expected finite numbers .*NaN"),
        ({"clip": "other"}, "at its own place, got 'other'"),
    ],
)
def test_broken_records_are_named(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        broken(tmp_path, **change)


def test_a_copied_file_is_a_clip_that_stands_twice(tmp_path: Path) -> None:
    write_case(tmp_path, 1)
    folder = TruthFolder.open(tmp_path / "truth")
    place = folder.folder.files()[0]
    place.with_name("copy.json").write_bytes(place.read_bytes())
    with pytest.raises(ValueError, match="every clip once, at its own place, got 'scene0/0' a second time"):
        list(folder)


def test_unknown_folders_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="looked for '.*about.json', got no such folder"):
        TruthFolder.open(tmp_path / "none")
    (tmp_path / "frames").mkdir()
    with pytest.raises(ValueError, match="got a folder with frames"):
        TruthFolder.open(tmp_path)
    (tmp_path / "about.json").write_text('{"format": "diffvas-bench", "kind": "truth", "version": 9}')
    with pytest.raises(ValueError, match="expected version 1 .*got 9"):
        TruthFolder.open(tmp_path)
    (tmp_path / "about.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(ValueError, match="every id once .*'a' 2 times"):
        read_json(tmp_path / "about.json")


def test_bad_arrays() -> None:
    amodal, modal = arrays(0)
    soft = np.full(amodal.shape, np.nan)
    with pytest.raises(ValueError, match="probability: expected probabilities from 0 to 1, got 23040 NaN"):
        Prediction.from_arrays("x", amodal, probability=soft)
    with pytest.raises(ValueError, match="probability: expected shape"):
        Prediction.from_arrays("x", amodal, probability=np.zeros((6, 4, 4)))
    with pytest.raises(ValueError, match="masks: expected a bool array of shape"):
        Prediction.from_arrays("x", amodal.astype(np.uint8))
    with pytest.raises(ValueError, match="samples: expected a bool array of shape"):
        Prediction.from_arrays("x", amodal, samples=amodal[None, :3])
    with pytest.raises(ValueError, match="frames: expected 6 names, all different"):
        Prediction.from_arrays("x", amodal, frames=["a"] * 6)
    with pytest.raises(ValueError, match="modal: expected a bool array of shape"):
        MaskTruth.from_arrays("x", amodal, modal[:, :4])
