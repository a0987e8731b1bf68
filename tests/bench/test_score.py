"""Scoring our own predictions, and what the summary says of them."""

from __future__ import annotations

import csv
import io
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from diffvas.bench.predictions import MaskTruth, Prediction, PredictionFolder, TruthFolder
from diffvas.bench.score import ModalPredictions, Problems, align, score_clip, score_method
from diffvas.bench.summary import per_frame_csv, summarise, write_scores
from diffvas.metrics import PROTOCOLS
from diffvas.metrics import rle as runs
from scoring_cases import FRAMES, prediction, truth, write_case

STRICT = PROTOCOLS["strict"]
METHODS = (("near", 1.0, 4), ("far", 4.0, 0))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    write_case(root, 6, METHODS)
    return root


def scored(case: Path, name: str, **kwargs):
    source = ModalPredictions() if name == "modal" else PredictionFolder.open(case / name)
    return score_method(TruthFolder.open(case / "truth"), source, kwargs.pop("rules", STRICT), **kwargs)


def test_frames_are_matched_by_name() -> None:
    one, wanted = prediction(0, 2.0), truth(0)
    order = [3, 1, 0, 2, 5, 4]
    mixed = Prediction(one.clip, tuple(one.frames[i] for i in order), [one.masks[i] for i in order])
    problems = Problems()
    assert align(wanted, mixed, problems).masks == one.masks
    assert problems.lines() == []
    short = Prediction(one.clip, (*one.frames[1:], "other"), [*one.masks[1:], one.masks[0]])
    aligned = align(wanted, short, problems)
    assert runs.area(aligned.masks[0]) == 0 and aligned.masks[1:] == one.masks[1:]
    assert problems.missing == ["scene0/0: 00000"] and problems.extra == ["scene0/0: other"]
    assert problems.wanted == 2 * FRAMES
    assert problems.lines() == [
        "1 of 12 frames have no prediction: scene0/0: 00000",
        "1 predictions belong to no frame that is scored: scene0/0: other",
    ]


def test_missing_frames_lose_their_probability_too() -> None:
    wanted = truth(0)
    soft = np.ones((FRAMES - 1, *wanted.size))
    short = Prediction.from_arrays(
        wanted.clip, soft > 0, frames=wanted.frames[1:], probability=soft, samples=soft[None] > 0
    )
    aligned = align(wanted, short, Problems())
    assert aligned.probability.shape == (FRAMES, *wanted.size) and not aligned.probability[0].any()
    assert [runs.area(m) > 0 for m in aligned.samples[0]] == [False] + [True] * (FRAMES - 1)


def test_missing_and_extra_clips(case: Path, tmp_path: Path) -> None:
    write_case(tmp_path, 2)
    source = PredictionFolder.open(tmp_path / "near")
    with pytest.raises(
        ValueError, match="each of 36 frames from 'near', 24 are missing: scene0/2: 00000, .* and 19 more"
    ):
        score_method(TruthFolder.open(case / "truth"), source, STRICT)
    few = score_method(TruthFolder.open(case / "truth"), source, STRICT, missing="empty")
    assert len(few.clips) == 6 and len(few.problems.missing) == 24
    assert few.clips[3].scores.iou_occ[few.clips[3].scores.counted].max() == 0
    more = score_method(TruthFolder.open(tmp_path / "truth"), PredictionFolder.open(case / "near"), STRICT)
    assert more.problems.extra == [truth(n).clip for n in (2, 3, 4, 5)]


def test_truths_that_stand_twice_and_sizes_that_do_not_fit(case: Path) -> None:
    with pytest.raises(ValueError, match="every clip once, got 'scene0/0' a second time"):
        score_method([truth(0), truth(0)], ModalPredictions(), STRICT)

    class Small:
        name = "small"

        def get(self, truth: MaskTruth) -> Prediction:
            return Prediction(truth.clip, truth.frames, [runs.empty((4, 4))] * len(truth.frames))

        def extra(self, clips: set[str]) -> list[str]:
            return []

    with pytest.raises(ValueError, match=r"'small' on 'scene0/0': .*own size \[48, 80\], got \[4, 4\]"):
        score_method([truth(0)], Small(), PROTOCOLS["eoras"])
    assert score_method([truth(0)], Small(), STRICT).clips[0].steady is None


def test_visibility_range_includes_both_ends(case: Path) -> None:
    values = sorted(clip.visibility.mean() for clip in scored(case, "modal").clips)
    chosen = scored(case, "modal", visibility=(values[1], values[3])).clips
    assert sorted(c.visibility.mean() for c in chosen) == values[1:4]


def test_probability_comes_from_samples_or_from_the_method() -> None:
    wanted = truth(1)
    drawn = score_clip(wanted, prediction(1, 1.0, 4), STRICT).probability.compute()
    assert 0 < drawn["brier"] < 0.25 and {round(b["probability"] * 4, 6) for b in drawn["reliability"]} <= {
        0,
        1,
        2,
        3,
        4,
    }
    perfect = runs.decode_masks(wanted.amodal).astype(float)
    sure = Prediction.from_arrays(wanted.clip, perfect > 0, probability=perfect)
    assert score_clip(wanted, sure, STRICT).probability.compute()["brier"] == 0.0
    assert score_clip(wanted, prediction(1, 1.0), STRICT).probability is None


def test_summary(case: Path) -> None:
    methods = [scored(case, name) for name in ("near", "far", "modal")]
    summary = summarise(methods, resamples=200)
    near, far, modal = summary["methods"]
    assert near["miou_occ"] > far["miou_occ"] > modal["miou_occ"] == 0
    assert near["miou_occ_low"] < near["miou_occ"] < near["miou_occ_high"]
    assert near["headline_miou_occ"] == near["miou_occ"] and near["clips"] == 6
    best = {line["method"]: line for line in summary["differences"]}
    assert [best[n]["baseline"] for n in ("near", "far", "modal")] == ["far", "near", "near"]
    assert best["near"]["miou_occ"] == -best["far"]["miou_occ"] == pytest.approx(near["miou_occ"] - far["miou_occ"])
    assert best["near"]["miou_occ_low"] > 0
    named = summarise(methods, baseline="modal", resamples=50)["differences"]
    assert [(line["method"], line["baseline"]) for line in named] == [("near", "modal"), ("far", "modal")]
    assert [p["k"] for p in near["topk"]["miou_occ"]] == [1, 2, 3, 4] and far["topk"]["miou_occ"] == []
    assert sum(b["clips"] for b in near["visibility"]) == 6
    assert near["probability"]["pixels"] > 0 and far["probability"] is None
    assert near["steadiness"]["consistency_truth"] == far["steadiness"]["consistency_truth"]
    assert near["runtime"]["seconds_per_clip"] == pytest.approx(0.525) and near["runtime"]["peak_bytes"] > 2**30
    assert math.isnan(modal["runtime"]["seconds_per_clip"])


def test_top_k_where_what_counts_depends_on_the_sample(case: Path) -> None:
    """Under `reference` a sample that misses is no smaller set of frames but a 0 beside a sample that hits."""
    scores = scored(case, "near", rules=PROTOCOLS["reference"])
    points = summarise([scores], resamples=1)["methods"][0]["topk"]["miou_occ"]
    assert all(b["per_frame"] >= a["per_frame"] for a, b in pairwise(points))


def test_summary_refuses_what_does_not_compare(case: Path) -> None:
    near, far = scored(case, "near"), scored(case, "far", visibility=(0.9, 1.0))
    for methods, message in (
        ([], "one or more, each name once, got none"),
        ([near, near], "each name once, got near, near"),
        ([near, far], "the same clips under one protocol"),
    ):
        with pytest.raises(ValueError, match=message):
            summarise(methods)
    with pytest.raises(ValueError, match="baseline: expected one of near, got 'x'"):
        summarise([near], "x")


def test_no_clips_at_all(case: Path) -> None:
    summary = summarise([scored(case, "near", visibility=(0.0, 0.0))])
    line = summary["methods"][0]
    assert math.isnan(line["miou"]) and line["frames"] == 0 and line["probability"] is None


def test_files_are_the_same_whatever_the_order_and_read_back(case: Path, tmp_path: Path) -> None:
    methods = [scored(case, name) for name in ("near", "modal")]
    for folder in ("a", "b"):
        write_scores(tmp_path / folder, methods, summarise(methods, resamples=50))
    for name in ("per_frame.csv", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    rows = list(csv.DictReader(io.StringIO(per_frame_csv(methods))))
    answers = [row for row in rows if row["method"] == "near" and row["sample"] == "" and row["counted"] == "1"]
    mean = np.mean([float(row["iou_occ"]) for row in answers])
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert mean == pytest.approx(summary["methods"][0]["miou_occ"], abs=1e-12)
    assert len(rows) == 6 * FRAMES * (1 + 4) + 6 * FRAMES
