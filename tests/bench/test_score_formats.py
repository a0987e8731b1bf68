"""The reference's own files: equal numbers, and every fault of a file named."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

from diffvas.bench.formats import sailvos, tao_amodal
from diffvas.bench.score import ModalPredictions, score_method
from diffvas.metrics import PROTOCOLS, MaskScore
from diffvas.metrics import rle as runs
from scoring_cases import disc

RANGES = {"": None, "_visibility_0_0.5": (0, 0.5), "_visibility_0.5_0.8": (0.5, 0.8), "_visibility_0.8_1": (0.8, 1)}


@pytest.fixture(scope="module")
def golden() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "golden" / "reference_metrics"
    if not folder.is_dir():
        pytest.skip("needs the reference's results in ../shared/golden, which are not part of the repository")
    return folder


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict:
    return json.loads((golden / "expected.json").read_text())


@pytest.mark.parametrize("which", RANGES)
def test_sailvos_equals_the_reference(golden: Path, expected: dict, which: str) -> None:
    truths = sailvos.read_annotations(golden / "sailvos_annotations.json")
    predictions = sailvos.SailvosPredictions(golden / "sailvos_predictions.json", truths)
    scores = score_method(truths, predictions, PROTOCOLS["reference"], visibility=RANGES[which], video=False)
    result = MaskScore(PROTOCOLS["reference"], [clip.scores for clip in scores.clips]).compute(resamples=1)
    assert {k: result[k] for k in ("miou", "miou_occ")} == pytest.approx(expected[f"sailvos{which}"], abs=1e-9, rel=0)
    assert not scores.problems.lines()


@pytest.mark.parametrize("which", ["tao_amodal", "tao_amodal_modal"])
def test_tao_amodal_equals_the_reference(golden: Path, expected: dict, which: str) -> None:
    truths = tao_amodal.read_annotations(golden / "tao_amodal_annotations.json")
    source = "modal" if which == "tao_amodal_modal" else golden / "tao_amodal_predictions.json"
    boxes = tao_amodal.score_boxes(truths, source, golden / "tao_amodal_track_ids_abs2rel.json")
    result = boxes.score.compute(resamples=1)
    assert {key: result[key] for key in expected[which]} == pytest.approx(expected[which], abs=1e-9, rel=0)


def test_a_range_without_clips_is_nan(golden: Path) -> None:
    truths = tao_amodal.read_annotations(golden / "tao_amodal_annotations.json")
    result = tao_amodal.score_boxes(truths, "modal", visibility=(0.0, 0.001))
    assert result.clips == [] and math.isnan(result.score.compute()["ap50"])


# ---------------------------------------------------------------------------------------------------------------------
# small files in the same formats

SIZE, FRAMES = (40, 60), 3


def sailvos_files(folder: Path) -> tuple[list, dict]:
    """Two sequences of three frames; predictions at half the size, the whole disc."""
    annotations, predictions = [], {}
    for n in range(2):
        ids = [100 * n + t for t in range(FRAMES)]
        whole = [disc((20, 20 + 4 * t), 10, SIZE) for t in range(FRAMES)]
        seen = [mask & (np.arange(SIZE[1]) < 22) for mask in whole]
        names = [f"movie{n}/images/{t:06d}.bmp" for t in range(FRAMES)]
        record = {"segmentation": [runs.encode(m) for m in whole], "visible_mask": [runs.encode(m) for m in seen]}
        record |= {"bbox": [[0, 0, 1, 1]] * FRAMES, "image_ids": ids, "obj_id": 7, "category_id": 1}
        annotations.append(record | {"image_file_names": names})
        for t, image in enumerate(ids):
            half = runs.encode(disc((10, 10 + 2 * t), 5, (20, 30)))
            predictions[f"({image}, 7)"] = {"diffvas_res_rle": half}
    (folder / "a.json").write_text(json.dumps(annotations))
    (folder / "p.json").write_text(json.dumps(predictions))
    return annotations, predictions


def test_sailvos_names_and_groups(tmp_path: Path) -> None:
    sailvos_files(tmp_path)
    truths = sailvos.read_annotations(tmp_path / "a.json")
    assert [(t.clip, t.group) for t in truths] == [("movie0/7/0", "movie0"), ("movie1/7/100", "movie1")]
    assert truths[1].frames == ("(100, 7)", "(101, 7)", "(102, 7)")
    modal = score_method(truths, ModalPredictions(), PROTOCOLS["strict"])
    assert all(clip.scores.iou_occ[clip.scores.counted].max() == 0 for clip in modal.clips)


def test_sailvos_missing_and_extra_frames_are_counted_and_named(tmp_path: Path) -> None:
    _, predictions = sailvos_files(tmp_path)
    del predictions["(101, 7)"]
    predictions["(999, 7)"] = predictions["(0, 7)"]
    (tmp_path / "p.json").write_text(json.dumps(predictions))
    truths = sailvos.read_annotations(tmp_path / "a.json")
    source = sailvos.SailvosPredictions(tmp_path / "p.json", truths)
    with pytest.raises(ValueError, match=r"each of 6 frames from 'p', 1 are missing: movie1/7/100: \(101, 7\)"):
        score_method(truths, source, PROTOCOLS["strict"])
    scores = score_method(truths, source, PROTOCOLS["strict"], missing="empty")
    assert scores.problems.extra == ["(999, 7)"] and scores.problems.wanted == 6
    clip = scores.clips[1].scores
    assert clip.counted.all() and clip.iou_occ[1] == 0 and clip.iou_occ[[0, 2]].min() > 0.5
    # With a range that leaves this clip out, nothing of it is missing, and its predictions are not extra.
    low = score_method(truths, source, PROTOCOLS["strict"], visibility=(0.999, 1), missing="refuse")
    assert low.clips == [] and low.problems.extra == ["(999, 7)"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[0].pop("visible_mask"), "looked|with segmentation, .*without visible_mask as number 0"),
        (lambda a: a[1]["image_ids"].pop(), "segmentation 3, visible_mask 3, image_ids 2"),
        (lambda a: a.append(a[0]), "every sequence once .*'movie0/7/0' a second time"),
        (lambda a: a[0]["image_ids"].__setitem__(1, 0), r"every frame once, got '\(0, 7\)' a second time"),
        (
            lambda a: a[0]["segmentation"][2].update(size=[40, 61]),
            r"segmentation of \(2, 7\): expected a mask of 40 x 60",
        ),
        (lambda a: a[0]["visible_mask"][0].update(counts="1"), r"visible_mask of \(0, 7\): expected runs that add up"),
        (lambda a: a.clear(), "a list of objects with segmentation.* got a list of 0"),
        (lambda a: a[0].update(segmentation=None), "segmentation no list"),
    ],
)
def test_broken_annotations(tmp_path: Path, change, message: str) -> None:
    annotations, _ = sailvos_files(tmp_path)
    annotations = copy.deepcopy(annotations)
    change(annotations)
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    with pytest.raises(ValueError, match=message):
        sailvos.read_annotations(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"(0, 7)": {"diffvas_res_rle": {"size": [20, 30], "counts": "5"}}}', r"prediction \(0, 7\) .*add up to"),
        ('{"(0, 7)": {"other": 1}}', r"got '\(0, 7\)': an object with other"),
        ('{"(0, 7)": {"diffvas_res_rle": 1}, "(0, 7)": {"diffvas_res_rle": 2}}', r"every id once .*'\(0, 7\)' 2 times"),
        ("[]", "SAIL-VOS predictions, an object of .* got a list of 0"),
        ("{", "expected JSON"),
        ('{"(0, 7)": {"diffvas_res_rle": NaN}}', "expected finite numbers"),
    ],
)
def test_broken_predictions(tmp_path: Path, text: str, message: str) -> None:
    sailvos_files(tmp_path)
    (tmp_path / "p.json").write_text(text)
    truths = sailvos.read_annotations(tmp_path / "a.json")
    with pytest.raises(ValueError, match=message):
        score_method(truths, sailvos.SailvosPredictions(tmp_path / "p.json", truths), PROTOCOLS["strict"])


def test_predictions_of_two_sizes_are_refused(tmp_path: Path) -> None:
    _, predictions = sailvos_files(tmp_path)
    predictions["(1, 7)"]["diffvas_res_rle"] = runs.empty((21, 30))
    (tmp_path / "p.json").write_text(json.dumps(predictions))
    truths = sailvos.read_annotations(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"prediction \(1, 7\) .*expected a mask of 20 x 30 .*got 21 x 30"):
        score_method(truths, sailvos.SailvosPredictions(tmp_path / "p.json", truths), PROTOCOLS["strict"])


def tao_files(folder: Path, boxes: list | None = None) -> dict:
    """One sequence of three frames; the amodal box leaves the image to the left."""
    masks = np.zeros((FRAMES, *SIZE), bool)
    masks[:, 10:20, :8] = True
    record = {"track_id": 42, "category_id": 1, "video_id": 5, "height": SIZE[0], "width": SIZE[1]}
    record |= {
        "file_names": [f"val/x/{t}.jpg" for t in range(FRAMES)],
        "rles": [runs.encode(m)["counts"] for m in masks],
    }
    (folder / "a.json").write_text(json.dumps([record | {"amodal_bboxes": boxes or [[-8, 10, 16, 10]] * FRAMES}]))
    (folder / "t.json").write_text(json.dumps({"5": 40}))
    found = {f"(5, '{t}.jpg', '3')": {"diffvas_res_bbox": [-8, 10, 16 + 4 * t, 10]} for t in range(FRAMES)}
    (folder / "p.json").write_text(json.dumps(found))
    return found


def test_tao_by_hand(tmp_path: Path) -> None:
    tao_files(tmp_path)
    truths = tao_amodal.read_annotations(tmp_path / "a.json")
    assert truths[0].visibility == 0.5
    result = tao_amodal.score_boxes(truths, tmp_path / "p.json", tmp_path / "t.json")
    np.testing.assert_allclose(result.score.clips[0], [1, 16 / 20, 16 / 24])
    assert tao_amodal.score_boxes(truths, "modal").score.compute()["ap50"] == 0.0  # 0.5 is not above 0.5


def test_tao_missing_frames_become_the_modal_box_when_allowed(tmp_path: Path) -> None:
    found = tao_files(tmp_path)
    del found["(5, '1.jpg', '3')"]
    found["(6, '1.jpg', '3')"] = {"diffvas_res_bbox": [0, 0, 1, 1]}
    (tmp_path / "p.json").write_text(json.dumps(found))
    truths = tao_amodal.read_annotations(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"3 frames from 'p', 1 are missing: \(5, '1.jpg', '3'\)"):
        tao_amodal.score_boxes(truths, tmp_path / "p.json", tmp_path / "t.json")
    result = tao_amodal.score_boxes(truths, tmp_path / "p.json", tmp_path / "t.json", missing="empty")
    assert result.score.clips[0][1] == 0.5 and result.problems.extra == ["(6, '1.jpg', '3')"]


def test_tao_faults(tmp_path: Path) -> None:
    found = tao_files(tmp_path, [[0, 0, 1, 1]] * 2 + [[0, 0, -1, 1]])
    with pytest.raises(ValueError, match="amodal_bboxes: expected widths and heights"):
        tao_amodal.read_annotations(tmp_path / "a.json")
    found = tao_files(tmp_path)
    truths = tao_amodal.read_annotations(tmp_path / "a.json")
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ValueError, match="a track id for video 5 .*got None"):
        tao_amodal.score_boxes(truths, tmp_path / "p.json", tmp_path / "t.json")
    tao_files(tmp_path)
    with pytest.raises(ValueError, match="track_ids: expected the file"):
        tao_amodal.score_boxes(truths, tmp_path / "p.json")
    found["(5, '0.jpg', '3')"] = {"diffvas_res_bbox": [0, 0, 1]}
    (tmp_path / "p.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"prediction \(5, '0.jpg', '3'\)"):
        tao_amodal.score_boxes(truths, tmp_path / "p.json", tmp_path / "t.json")
