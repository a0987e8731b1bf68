"""What is measured: which objects, what they are scored against, and that equal requests give equal figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffvas.bench import cases, content, evaluate, overlay, propagation, report
from diffvas.bench.evaluate import Decoding, MaskBoard, MaskPlan, Row
from diffvas.data import occluders
from diffvas.metrics import psnr_inside, strict_frames
from diffvas.pipelines import finish
from factories import FRAMES, HEIGHT, WIDTH, make_scene, tiny_model
from pixel_nets import model_with_nets


def silhouette(frames: int = 9, size: tuple[int, int] = (48, 80)) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([(abs(y - 24) < 15) & (abs(x - 25 - 3 * t) < 8 + (y > 24) * 5) for t in range(frames)])


# ---------------------------------------------------------------------------------------------------------------------
# cases


def test_hidden_objects_are_taken_or_those_in_full_view() -> None:
    scene = make_scene()
    (hidden,) = cases.scene_cases(scene)
    assert hidden.name == "scene/1" and hidden.group == "scene"
    np.testing.assert_array_equal(hidden.modal, scene.modal_mask(0))
    np.testing.assert_array_equal(hidden.amodal, scene.amodal_masks[0])
    assert hidden.counted.any() and not hidden.counted.all()
    assert hidden.depth[scene.instance_ids == 2].min() > hidden.depth[scene.instance_ids == 1].max()
    assert [case.name for case in cases.scene_cases(scene, unoccluded=True)] == ["scene/2"]


def test_the_draw_depends_on_seed_and_name_alone() -> None:
    scene = make_scene()
    ball, plate = scene.amodal_masks
    ids = np.where(plate, 5, 0).astype(np.uint8)
    for k in range(4):  # four copies of the ball, each visible in its own rows
        rows = slice(4 * k + 8, 4 * k + 12)
        ids[:, rows][ball[:, rows] & (ids[:, rows] == 0)] = k + 1
    alone = np.stack([scene.amodal_rgb_u8[0]] * 5)
    many = replace(scene, instance_ids=ids, amodal_masks=np.stack([ball] * 4 + [plate]), amodal_rgb_u8=alone)
    drawn = {seed: [case.name for case in cases.scene_cases(many, 2, seed=seed)] for seed in range(6)}
    assert all(len(names) == 2 for names in drawn.values())
    assert len({tuple(names) for names in drawn.values()}) > 1
    assert drawn[3] == [case.name for case in cases.scene_cases(many, 2, seed=3)]


def test_what_no_network_could_pass() -> None:
    (case,) = cases.scene_cases(make_scene(), 1)
    plan = MaskPlan((Decoding(1, 1),), ("none",), (0.5,), ceiling=True)
    results = evaluate.score_case(tiny_model(), case, plan)
    small, through = (results[Row(name, "none")].scores for name in (evaluate.SMALL, evaluate.THROUGH_VAE))
    assert np.nanmin(small.iou) > 0.99, "the model's size is the clip's own here"
    assert through.iou.shape == small.iou.shape and np.nanmean(through.iou) < 0.9, "a random VAE returns anything"
    plain = evaluate.score_case(tiny_model(), case, replace(plan, ceiling=False))
    assert results.keys() - plain.keys() == {Row(evaluate.SMALL, "none"), Row(evaluate.THROUGH_VAE, "none")}


def test_plain_twins_of_the_memory_and_of_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = cases.scene_cases(make_scene(), 1)
    plan = MaskPlan((Decoding(1, 1),), ("given", "none"), (0.5,), twins=True)
    model = replace(tiny_model(), memory=True, focus=1.6)
    results, plain = (evaluate.score_case(model, case, replace(plan, twins=one)) for one in (True, False))
    names = {(row.method, row.depth) for row in results.keys() - plain.keys()}
    made = ("1x1" + evaluate.AROUND_VISIBLE, evaluate.VOTES + evaluate.RIGID)
    assert names == {(name, depth) for name in made for depth in ("given", "none")}
    for row, result in plain.items():
        np.testing.assert_array_equal(results[row].scores.iou, result.scores.iou)
    monkeypatch.setattr(evaluate, "look_at", lambda model, modal, *others: model.look_at(modal))
    around = evaluate.score_case(model, case, replace(plan, twins=False))
    for depth in plan.depths:
        twin = results[Row("1x1" + evaluate.AROUND_VISIBLE, depth, 0.5)].scores.iou
        np.testing.assert_array_equal(twin, around[Row("1x1", depth, 0.5)].scores.iou)
    nothing = evaluate.score_case(tiny_model(), case, plan)
    assert all(evaluate.AROUND_VISIBLE not in row.method for row in nothing), "models that do not aim have no twin"


def test_plain_twin_of_raised_odds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "LITTLE", 10.0)  # so that all frames count as showing little
    (case,) = cases.scene_cases(make_scene(), 1)
    plan = MaskPlan((Decoding(1, 1),), ("given",), (0.5,), twins=True)
    model = replace(model_with_nets("finish"), memory=True, odds=100.0)
    raised, plain = evaluate.score_case(model, case, plan), evaluate.score_case(replace(model, odds=1.0), case, plan)
    row, twin = Row("1x1", "given", 0.5), Row("1x1" + evaluate.EVEN_ODDS, "given", 0.5)
    np.testing.assert_array_equal(raised[twin].scores.iou, plain[row].scores.iou)
    assert (raised[row].scores.iou != plain[row].scores.iou).any()
    assert twin not in plain


def test_plain_twin_of_masks_that_are_finished_twice() -> None:
    (case,) = cases.scene_cases(make_scene(), 1)
    plan = MaskPlan((Decoding(1, 1),), ("given", "none"), (0.5,), twins=True)
    model = replace(model_with_nets("finish"), memory=True)
    twice, once = (evaluate.score_case(replace(model, rounds=n), case, plan) for n in (2, 1))
    for depth in plan.depths:
        row, twin = Row("1x1", depth, 0.5), Row("1x1" + evaluate.ONCE, depth, 0.5)
        np.testing.assert_array_equal(twice[twin].scores.iou, once[row].scores.iou)
        assert (twice[row].scores.iou != once[row].scores.iou).any()
        assert twin not in once


# ---------------------------------------------------------------------------------------------------------------------
# overlay


def test_overlay_hides_a_share_and_keeps_the_truth() -> None:
    masks = silhouette()
    made = [overlay.overlay_case(masks, "thing", number) for number in range(4)]
    assert all(case is not None for case in made)
    for case in made:
        np.testing.assert_array_equal(case.amodal, masks)
        assert not (case.modal & ~masks).any()
        assert 0.3 <= case.modal.sum() / masks.sum() <= 0.85
        assert case.depth.min() == 0.0 and case.depth.max() == 1.0
        assert case.depth[masks & ~case.modal].min() > case.depth[case.modal].max()
    assert len({case.modal.tobytes() for case in made}) == 4
    again = overlay.overlay_case(masks, "thing", 2)
    np.testing.assert_array_equal(again.modal, made[2].modal)


def test_overlay_paints_the_occluders_into_the_frames(tmp_path: Path) -> None:
    masks = silhouette()
    (tmp_path / "thing" / "masks").mkdir(parents=True)
    size = (masks.shape[1], masks.shape[2])
    assert overlay.read_pictures(tmp_path / "thing" / "masks", len(masks), size) is None
    frames = tmp_path / "thing" / "frames"
    frames.mkdir()
    for t in range(len(masks)):
        Image.new("RGB", (2 * size[1], 2 * size[0]), (1, 2, 3)).save(frames / f"{t:05d}.png")
    pictures = overlay.read_pictures(tmp_path / "thing" / "masks", len(masks), size)
    assert pictures is not None and pictures.shape == (*masks.shape, 3) and (pictures == [1, 2, 3]).all()
    plain, seen = (overlay.overlay_case(masks, "thing", 2, pictures=p) for p in (None, pictures))
    np.testing.assert_array_equal(plain.modal, seen.modal)
    np.testing.assert_array_equal(plain.depth, seen.depth)
    assert plain.frames_u8 is None
    hidden, changed = masks & ~seen.modal, (seen.frames_u8 != pictures).any(-1)
    assert changed[hidden].mean() > 0.95 and not changed[seen.modal].any()
    (frames / "00000.png").unlink()
    with pytest.raises(ValueError, match="masks: expected 9 frames or more in .*frames', got 8"):
        overlay.read_pictures(tmp_path / "thing" / "masks", len(masks), size)


def test_boxes_bridge_empty_frames() -> None:
    masks = np.zeros((4, 20, 30), bool)
    masks[1, 5:10, 10:20] = True
    masks[3, 0:2, 0:4] = True
    expected = [[14.5, 7, 10, 5], [14.5, 7, 10, 5], [1.5, 0.5, 4, 2]]
    np.testing.assert_array_equal(occluders.boxes(masks)[[0, 1, 3]], expected)


def test_silhouettes_are_shrunk_and_cut(tmp_path: Path) -> None:
    for t in range(4):
        page = np.zeros((400, 500), np.uint8)
        page[100:300, 100:200] = 255
        Image.fromarray(page).save(tmp_path / f"{t:05d}.png")
    masks = overlay.read_silhouette(tmp_path, 3)
    assert masks.shape == (3, 180, 225) and masks.dtype == np.bool_
    assert abs(masks.mean() - 0.1) < 0.005
    Image.fromarray(np.eye(500, dtype=np.uint8)[:400] * 7 + page).save(tmp_path / "00003.png")
    with pytest.raises(ValueError, match="expected the masks of one object"):
        overlay.read_silhouette(tmp_path)
    with pytest.raises(ValueError, match="expected a folder"):
        overlay.read_silhouette(tmp_path / "missing")


def test_silhouettes_get_names_of_their_own() -> None:
    folders = [Path("/a/horse/masks"), Path("/a/bmx"), Path("/b/horse/masks")]
    assert overlay.silhouette_names(folders) == ["horse", "bmx", "horse#2"]


# ---------------------------------------------------------------------------------------------------------------------
# masks


def test_samples_are_shared_and_scores_are_those_of_the_metrics() -> None:
    model, (case,) = tiny_model(), cases.scene_cases(make_scene())
    assert case.modal.shape == (FRAMES, HEIGHT, WIDTH)
    decodings = (Decoding(1, 1), Decoding(1, 2))
    both = evaluate.score_case(model, case, MaskPlan(decodings, ("given", "none"), (0.5, 0.4)))
    assert len(both) == 3 + 2 * 2 * 2
    alone = evaluate.score_case(model, case, MaskPlan(decodings[:1], ("given",), (0.4,)))
    row = Row("1x1", "given", 0.4)
    np.testing.assert_array_equal(both[row].scores.iou, alone[row].scores.iou)
    modal = strict_frames(case.modal, case.amodal, case.modal)
    np.testing.assert_array_equal(both[Row("modal")].scores.iou, modal.iou)
    assert np.isnan(both[row].seconds), "the seconds of some of the samples were not measured apart"
    assert both[Row("1x2", "given", 0.4)].seconds > 0 and alone[row].seconds > 0


def test_without_depth_real_pictures_are_also_judged_where_the_shapes_are() -> None:
    """What is said elsewhere can neither help nor harm there; with depth nothing is said elsewhere anyway."""
    case = overlay.overlay_case(silhouette(), "thing", 0)
    assert case is not None and case.covered is not None
    np.testing.assert_array_equal(case.modal, case.amodal & ~case.covered)
    plan = MaskPlan((Decoding(1, 1),), ("none",), (0.0,))  # everything is claimed
    found = evaluate.score_case(tiny_model(), case, plan)
    everywhere, there = (found[Row(name, "none", 0.0)].scores for name in ("1x1", "1x1" + evaluate.AT_SHAPES))
    hidden, covered = (case.amodal & ~case.modal).sum((1, 2)), case.covered.sum((1, 2))
    np.testing.assert_allclose(there.iou_occ[there.counted], (hidden / covered)[there.counted])
    assert (everywhere.iou_occ < there.iou_occ)[there.counted].all()
    (scene,) = cases.scene_cases(make_scene())
    assert not any(evaluate.AT_SHAPES in row.method for row in evaluate.score_case(tiny_model(), scene, plan))


def test_masks_may_say_what_stands_in_front() -> None:
    case = overlay.overlay_case(silhouette(), "thing", 0)
    assert case is not None and case.covered is not None
    depth = case.depth_told("in-front")
    assert depth is not None and depth.shape == case.depth.shape
    assert depth[case.covered].min() > depth[case.modal].max() > depth[~case.amodal & ~case.covered].min()
    assert case.depth_told("none") is None and case.depth_told("given") is case.depth
    found = evaluate.score_case(tiny_model(), case, MaskPlan((Decoding(1, 1),), ("in-front",), (0.5,)))
    assert {row.depth for row in found} == {"", "in-front"}
    (scene,) = cases.scene_cases(make_scene())
    with pytest.raises(ValueError, match="in-front: expected a case with shapes"):
        scene.depth_told("in-front")


def test_board_sums_up_by_row_and_family() -> None:
    masks = silhouette()
    board = MaskBoard()
    made = [overlay.overlay_case(masks, name, number) for name in ("a", "b") for number in range(2)]
    for case in made:
        board.add(case, evaluate.score_case(None, case, MaskPlan((), (), (0.5,))))
    modal, hull = board.summary()
    assert (modal["method"], hull["method"]) == ("modal", "convex hull")
    assert modal["miou_occ"] == 0 and hull["gain"] == 0 and modal["gain"] == pytest.approx(-hull["miou_occ"])
    assert hull["miou_low"] <= hull["miou"] <= hull["miou_high"]
    assert hull["clips"] == 4 and hull["frames"] == 36
    assert board.summary("b")[1]["clips"] == 2
    assert [line["case"] for line in board.per_case(0.5)] == ["a/0", "a/1", "b/0", "b/1"]
    tables = [report.mask_table(board.summary(), "t"), report.family_table({"a": board.summary("a")}, "t")]
    assert [table.row_count for table in tables] == [2, 2]


def test_threshold_table_marks_the_best(tmp_path: Path) -> None:
    lines = [{"method": "1x1", "depth": "none", "threshold": t, "miou": 0.9, "miou_occ": t / 2} for t in (0.5, 0.3)]
    table = report.threshold_table(lines, "t")
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["1x1", "none", "90.0 / 15.0 ", "90.0 / 25.0*"]
    report.write_json(tmp_path / "r.json", {"a": [float("nan"), 1.5]})
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": [None, 1.5]}
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


# ---------------------------------------------------------------------------------------------------------------------
# content


def test_inpainting_sees_the_object_alone() -> None:
    (case,) = cases.scene_cases(make_scene())
    outside = case.frames_u8.copy()
    outside[~case.modal] = 7  # occluder and background: of no influence
    painted = content.inpaint_object(case.frames_u8, case.modal, case.amodal)
    hidden = case.amodal & ~case.modal
    np.testing.assert_array_equal(painted[hidden], content.inpaint_object(outside, case.modal, case.amodal)[hidden])
    assert np.abs(painted[hidden].astype(int) - case.alone_u8[hidden]).mean() < 12


def test_pixels_are_carried_along_flow() -> None:
    """A textured square moves behind a post: what the post hides now was seen a moment ago."""
    rng = np.random.default_rng(0)
    thing = np.kron(rng.integers(60, 256, (10, 10, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    frames, modal = np.full((9, 80, 140, 3), 20, np.uint8), np.zeros((9, 80, 140), bool)
    amodal, truth = modal.copy(), frames.copy()
    for t in range(9):
        place = (slice(15, 65), slice(20 + 4 * t, 70 + 4 * t))
        truth[t][place] = thing
        amodal[t][place] = True
    modal[:] = amodal
    modal[:, :, 66:76] = False
    frames[modal] = truth[modal]
    frames[:, :, 66:76] = 128
    painted = propagation.propagate(frames, modal, amodal)
    hidden = amodal & ~modal
    plain = content.mean_colour_fill(frames, modal)
    late = hidden & (np.arange(9) > 4)[:, None, None]
    assert psnr_inside(painted, truth, late) > psnr_inside(plain, truth, late) + 2
    assert np.array_equal(painted[modal], truth[modal])
    still = np.zeros((2, 16, 16), bool)
    still[0, 2:4, 2:4] = True
    assert propagation.propagate(np.zeros((2, 16, 16, 3), np.uint8), still, np.ones_like(still)).any() == 0


def test_content_is_scored_where_the_object_is_hidden() -> None:
    (case,) = cases.scene_cases(make_scene())
    worse = case.alone_u8.copy()
    worse[case.amodal & ~case.modal] ^= 16
    scores = content.score_frames(worse, case, 1.0)
    np.testing.assert_allclose(scores.psnr, 20 * np.log10(255 / 16))
    np.testing.assert_array_equal(content.score_frames(case.alone_u8, case, 1.0).psnr, content.BEST_PSNR)
    results = content.score_content(tiny_model(), case, [1])
    ours = ["ours, 1 step", "ours, 1 step, without recall", "ours, 1 step, colours not matched"]
    assert list(results) == ["mean visible colour", "inpainting (Telea)", "flow-propagated pixels", *ours]
    board = content.ContentBoard()
    board.add(case, results)
    lines = board.summary()
    assert lines[0]["gain"] == 0 and lines[0]["frames"] == case.counted.sum()
    assert report.content_table(lines, "t").row_count == 6
