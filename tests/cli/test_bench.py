"""`diffvas bench` from the command line: what it prints, writes and refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffvas.cli import main as cli
from scoring_cases import write_case


@pytest.fixture(autouse=True)
def bench_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.VERBS, "bench", "score predictions")


def run(*words: object) -> int:
    return cli.main(["bench", *map(str, words)])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    write_case(root, 4, (("near", 1.0, 2), ("far", 4.0, 0)))
    return root


@pytest.fixture(scope="module")
def golden() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "golden" / "reference_metrics"
    if not folder.is_dir():
        pytest.skip("needs the reference's results in ../shared/golden, which are not part of the repository")
    return folder


def test_sailvos_json(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--annotations", golden / "sailvos_annotations.json", "--predictions", golden / "sailvos_predictions.json")
    limits = ("--visibility", 0.8, 1)
    assert run("score", "--format", "sailvos", *files, "--protocol", "reference", *limits, "--json") == 0
    expected = json.loads((golden / "expected.json").read_text())["sailvos_visibility_0.8_1"]
    assert json.loads(capsys.readouterr().out) == pytest.approx(expected, abs=1e-9, rel=0)


def test_tao_amodal_json(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["score", "--format", "tao-amodal", "--annotations", golden / "tao_amodal_annotations.json"]
    words += ["--protocol", "reference", "--json", "--predictions"]
    ids = ("--track-ids", golden / "tao_amodal_track_ids_abs2rel.json")
    expected = json.loads((golden / "expected.json").read_text())
    assert run(*words, golden / "tao_amodal_predictions.json", *ids) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(expected["tao_amodal"], abs=1e-9, rel=0)
    assert run(*words, "modal") == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(expected["tao_amodal_modal"], abs=1e-9, rel=0)
    assert run(*words, "modal", "--visibility", 0, 0.001) == 0
    assert all(math.isnan(value) for value in json.loads(capsys.readouterr().out).values())
    assert run(*words, golden / "tao_amodal_predictions.json") == 2
    assert "argument --track-ids: expected" in capsys.readouterr().err


def test_score_report_flow(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores"
    words = (
        "score",
        "--truth",
        case / "truth",
        "--predictions",
        case / "near",
        case / "far",
        "modal",
        "--out",
        out,
        "--time",
    )
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert "near less far: mIoU +" in printed.out and "scored 12 clips in" in printed.err
    assert {p.name for p in out.iterdir()} == {"per_frame.csv", "summary.json", "examples"}
    first = (out / "summary.json").read_bytes()
    assert run(*words) == 0 and (out / "summary.json").read_bytes() == first
    assert run("report", out, "--title", "My page") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [str(out / "report.md"), str(out / "report.html")]
    assert "<h1>My page</h1>" in (out / "report.html").read_text(encoding="utf-8")


def test_several_methods_as_json(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", "--truth", case / "truth", "--predictions", case / "near", "modal", "modal", "--json") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert list(numbers) == ["near", "modal", "modal#2"] and numbers["modal"] == numbers["modal#2"]
    assert numbers["modal"]["miou_occ"] == 0 < numbers["near"]["miou_occ"]


def test_truths_beside_the_predictions_are_found(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", "--predictions", case / "near", "modal", "--json") == 0
    beside = capsys.readouterr().out
    assert run("score", "--truth", case / "truth", "--predictions", case / "near", "modal", "--json") == 0
    assert capsys.readouterr().out == beside


@pytest.mark.parametrize("depth", [1, 2])  # below `bench predict`'s folder, and below `bench run`'s
def test_the_mini_benchmark_is_found_beside_the_truths(
    tmp_path: Path, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = tmp_path.joinpath(*["predictions"] * depth)
    write_case(predictions, 2)
    mini = (predictions if depth == 1 else predictions.parent) / "mini"
    mini.mkdir()
    (mini / "mini.json").write_text("{}")
    asked: list[str] = []
    monkeypatch.setattr("diffvas.bench.pictures.frames_of", lambda data, kind, **_: asked.append(str(data)))
    words = ("score", "--predictions", predictions / "near", "--data", "mini", "--out", tmp_path / "scores")
    assert run(*words) == 0
    assert asked == [str(mini)]


def test_mini_that_was_never_made_is_said(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("score", "--predictions", case / "near", "--data", "mini") == 2
    assert "argument --data: expected the folder that `bench predict --data mini` made" in capsys.readouterr().err


def test_missing_predictions_stop_the_score_or_are_said(case: Path, tmp_path: Path, capsys) -> None:
    write_case(tmp_path, 2)
    words = ("score", "--truth", case / "truth", "--predictions", tmp_path / "near", "--json")
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "24 frames from 'near', 12 are missing: scene0/2: 00000" in error
    assert run(*words, "--missing", "empty") == 0
    printed = capsys.readouterr()
    assert "note: near: 12 of 24 frames have no prediction" in printed.err
    assert set(json.loads(printed.out)) == {"miou", "miou_occ"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("score", "--predictions", "modal"), "argument --truth: expected a path for --format diffvas, got none"),
        (("score", "--format", "sailvos", "--predictions", "modal"), "argument --annotations: expected a path"),
        (
            ("score", "--format", "coco", "--predictions", "modal"),
            "expected one of diffvas, sailvos, tao-amodal, got 'coco'",
        ),
        (("score", "--truth", "TRUTH", "--predictions", "modal", "--protocol", "strickt"), "did you mean 'strict'?"),
        (("score", "--truth", "TRUTH", "--predictions", "modal", "--visibility", "0.5", "0.2"), "0 <= LO <= HI <= 1"),
        (
            ("score", "--truth", "TRUTH", "--predictions", "modal", "--baseline", "x"),
            "--baseline: expected one of modal, got 'x'",
        ),
        (
            ("score", "--truth", "TRUTH", "--predictions", "nowhere"),
            "argument --predictions: expected a folder of predictions",
        ),
        (("score", "--truth", "nowhere", "--predictions", "modal"), "argument --truth: expected a folder of truth"),
        (("report", "nowhere"), "argument SCORES: expected a folder of scores"),
        (("study", "make", "--a", "nowhere", "--b", "nowhere", "--out", "o"), "expected a folder of items"),
        (("study", "analyse", "r.json", "--key", "k.json"), "expected a readable path, got 'k.json'"),
        ((), "required: run|fit|predict|score|report|study"),
    ],
)
def test_wrong_requests_are_one_line(
    words: tuple, message: str, case: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*(case / "truth" if word == "TRUTH" else word for word in words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_tao_only_knows_the_reference_protocol(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.json").write_text("[]")
    assert (
        run(
            "score",
            "--format",
            "tao-amodal",
            "--annotations",
            tmp_path / "a.json",
            "--predictions",
            "modal",
            "--protocol",
            "c2f",
        )
        == 2
    )
    assert "argument --protocol: expected reference for boxes, got 'c2f'" in capsys.readouterr().err


def test_study(tmp_path: Path, capsys) -> None:
    for method in ("a", "b"):
        folder = tmp_path / method / "clip"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "0.png"), np.zeros((8, 8, 3), np.uint8))
    assert (
        run(
            "study",
            "make",
            "--a",
            tmp_path / "a",
            "--b",
            tmp_path / "b",
            "--names",
            "x1",
            "x2",
            "--out",
            tmp_path / "s",
        )
        == 0
    )
    assert "1 items" in capsys.readouterr().out
    key = json.loads((tmp_path / "s" / "key.json").read_text())
    record = {"format": "diffvas-study-results", "version": 1, "study": key["study"], "person": "p"}
    record["answers"] = [{"item": "000", "choice": "x", "left": "x"}]
    (tmp_path / "r.json").write_text(json.dumps(record))
    assert run("study", "analyse", tmp_path / "r.json", "--key", tmp_path / "s" / "key.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["votes"] == 1


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from method_cases import write_scenes

    return write_scenes(tmp_path_factory.mktemp("scenes"), 2)


def test_predict_and_run(scenes: Path, tmp_path: Path, capsys) -> None:
    words = ("predict", "--data", scenes, "--out", tmp_path / "p", "--method", "modal", "convexr")
    assert run(*words, "--shard", "0/2") == 0
    assert run(*words) == 0
    assert "4 objects, modal, convexr; " in capsys.readouterr().out
    assert run(*words) == 0
    assert "4 objects, modal, convexr; 0 predictions new" in capsys.readouterr().out
    words = ("run", "--data", scenes, "--out", tmp_path / "r", "--methods", "modal", "convex")
    assert run(*words) == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("$ diffvas bench ")]
    assert [line.split()[3] for line in lines] == ["predict", "score", "report"]
    assert (tmp_path / "r" / "scores" / "report.html").is_file()
    summary = json.loads((tmp_path / "r" / "scores" / "summary.json").read_text())
    assert [m["name"] for m in summary["methods"]] == ["modal", "convex"]
    assert all(m["runtime"]["seconds_per_clip"] >= 0 and m["clips"] == 4 for m in summary["methods"])
    assert run(*words) == 0  # goes on where there is nothing left to do
    assert "0 predictions new" in capsys.readouterr().out


def test_boxes_from_prediction_to_page(tmp_path: Path, capsys) -> None:
    import dataset_files as files
    from factories import make_scene

    data = files.write_json(tmp_path / "val.json", [files.tao_record(make_scene(), k, 31 + k) for k in range(2)])
    words = ("run", "--data", data, "--out", tmp_path / "o", "--methods", "modal", "convex")
    assert run(*words) == 0
    assert "AP50" in capsys.readouterr().out
    boxes = json.loads((tmp_path / "o" / "scores" / "summary.json").read_text())["boxes"]
    assert [one["name"] for one in boxes] == ["modal", "convex"]
    assert boxes[0]["miou"] == boxes[1]["miou"] > 0  # a hull never changes a box
    assert "| convex |" in (tmp_path / "o" / "scores" / "report.md").read_text()
    assert "another number" in (tmp_path / "o" / "scores" / "report.html").read_text()
    assert run(*words, "--protocol", "strict") == 2
    assert "argument --protocol: expected reference for boxes, got 'strict'" in capsys.readouterr().err
    assert run("predict", "--data", data, "--out", tmp_path / "p", "--method", "modal", "--kind", "sailvos") == 2
    assert "argument --data: expected SAIL-VOS annotations" in capsys.readouterr().err


def test_fit_then_predict(scenes: Path, tmp_path: Path, capsys) -> None:
    words = ["fit", "videomae", "--out", tmp_path / "videomae", "--steps", 1, "--batch", 1, "--size", 32, 64]
    options = ("width=16", "layers=1", "heads=2", "decoder_width=8", "decoder_layers=1", "decoder_heads=2")
    words += ["--frames", 4, "--device", "cpu", *(w for text in options for w in ("--option", text))]
    assert run(*words) == 0 and run(*words) == 0
    assert "videomae, fitted" in capsys.readouterr().out
    assert run(*words, "--seed", 1) == 2
    assert "argument --out: " in (error := capsys.readouterr().err) and "holds another fit" in error
    predict = ("predict", "--data", scenes, "--out", tmp_path / "p", "--objects", 1, "--device", "cpu")
    assert run(*predict, "--method", f"videomae={tmp_path / 'videomae'}") == 0
    assert "1 objects, videomae; 1 predictions new" in capsys.readouterr().out
    assert run(*predict, "--method", f"videomae={tmp_path / 'videomae'}", "--depth", "none") == 2
    assert "expected videomae to be given depth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "convex", "--out", "o"), "argument METHOD: expected a method with something to fit, got 'convex'"),
        (("fit", "our", "--out", "o"), "argument METHOD: expected one of modal, convex,"),
        (("fit", "ours", "--out", "o", "--data", "nowhere"), "argument --data: expected 'flat' or a folder"),
        (("fit", "ours", "--out", "o", "--steps", "2", "--seconds", "2"), "expected --steps or --seconds, got both"),
        (("fit", "videomae", "--out", "o", "--option", "width"), "argument --option: expected NAME=VALUE, got 'width'"),
        (("fit", "videomae", "--out", "o", "--option", "frames=3"), "expected --frames for that, got 'frames=3'"),
        (("fit", "videomae", "--out", "o", "--option", "wide=3"), "argument --option: expected one of size, frames,"),
        (("fit", "videomae", "--out", "o", "--option", "width=a"), "width: expected a value like 192, got 'a'"),
        (("predict", "--data", "SCENES", "--out", "o", "--method", "unet3d"), "a fitted one as unet3d=FOLDER"),
        (("predict", "--data", "SCENES", "--out", "o", "--method", "unet3d=nowhere"), "expected a fitted unet3d with"),
        (("predict", "--data", "nowhere", "--out", "o", "--method", "modal"), "argument --data: expected a data set"),
        (("predict", "--data", "d", "--out", "o", "--method", "modal", "--shard", "2/2"), "expected I/N with 0 <= I"),
        (("predict", "--data", "d", "--out", "o", "--method", "modal", "--threshold", "1"), "between 0 and 1, got '1'"),
        (("run", "--out", "o", "--data", "SCENES", "--methods", "modal", "modal"), "got 'modal' twice"),
        (("run", "--out", "o", "--data", "SCENES", "--methods", "x"), "argument --methods: expected one of modal"),
    ],
)
def test_wrong_method_requests_are_one_line(
    words: tuple, message: str, scenes: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*(scenes if word == "SCENES" else word for word in words)) == 2
    error = capsys.readouterr().err
    assert [line for line in error.splitlines() if message in line], error
    assert error.splitlines()[-1].startswith("diffvas bench: error: ")


def test_ctrl_c_keeps_whole_predictions(scenes: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    from diffvas.methods.convex import Convex

    real, calls = Convex.predict, []

    def stop(self, clip, **how):
        calls.append(clip.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, clip, **how)

    monkeypatch.setattr(Convex, "predict", stop)
    words = ("predict", "--data", scenes, "--out", tmp_path, "--method", "convex")
    assert run(*words) == 130
    assert "stopped: whole predictions are kept" in capsys.readouterr().err
    assert run(*words) == 0 and "4 objects, convex; 2 predictions new" in capsys.readouterr().out
    assert sorted(set(calls)) == ["scene-0/1", "scene-0/2", "scene-1/1", "scene-1/2"]


def test_mini_is_made_once(tmp_path: Path, monkeypatch, capsys) -> None:
    from types import SimpleNamespace

    from diffvas.world import mini
    from method_cases import write_scenes

    made: list[Path] = []

    def make(out: Path, progress=None) -> SimpleNamespace:
        made.append(write_scenes(out, 1))
        (out / "mini.json").write_text(json.dumps({"objects": [{"clip": "scene-0", "object": 1}]}))
        return SimpleNamespace(differing=["scene-0"], same_driver=False)

    monkeypatch.setattr(mini, "make_mini", make)
    words = ("predict", "--data", "mini", "--out", tmp_path, "--method", "modal")
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert "1 objects, modal; 1 predictions new" in printed.out
    assert "note: 1 clips are not the published ones bit for bit (another OpenGL driver)" in printed.err
    assert run(*words) == 0 and made == [tmp_path / "mini"]
    assert run("fit", "ours", "--out", tmp_path / "o", "--data", tmp_path / "mini") == 2
    assert "argument --data: expected data to fit on, got" in capsys.readouterr().err
