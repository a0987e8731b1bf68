"""``diffvas eval``: requests that are wrong, and the two kinds of evaluation from files to tables and JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffvas.bench import evaluate
from diffvas.cli import main
from diffvas.pipelines import loading
from diffvas.pipelines.sight import Seen
from diffvas.world.storage import write_scene_clip
from factories import make_scene, tiny_model


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        write_scene_clip(tmp_path / "scenes" / f"{name}.npz", make_scene(name))
    return tmp_path / "scenes"


@pytest.fixture
def silhouette(tmp_path: Path) -> Path:
    folder = tmp_path / "ball" / "masks"
    folder.mkdir(parents=True)
    for t in range(5):
        Image.fromarray(make_scene().amodal_masks[0, t].astype(np.uint8) * 255).save(folder / f"{t:05d}.png")
    return folder


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_pipelines", lambda name, device: tiny_model())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: scenes|overlay"),
        (["scenes", "{}/missing"], "argument DIR: expected a data set of scene clips"),
        (["scenes", "{}"], "argument DIR: expected a data set of scene clips"),
        (["scenes", "{}/bad"], "argument DIR: expected a whole scene clip"),
        (["scenes", "{}/scenes", "--decoding", "3x0"], "argument --decoding: expected STEPSxSAMPLES"),
        (["scenes", "{}/scenes", "--thresholds", "0.5", "1"], "argument --thresholds: expected a number between"),
        (["scenes", "{}/scenes", "--depth", "some"], "argument --depth: expected one of"),
        (["scenes", "{}/scenes", "--clips", "0"], "argument --clips: expected a whole number"),
        (["scenes", "{}/scenes", "--json", "{}"], "argument --json: expected a file"),
        (["scenes", "{}/scenes", "--content", "--unoccluded"], "argument --unoccluded: expected no --content"),
        (["scenes", "{}/scenes", "--content-steps", "3"], "argument --content-steps: expected --content"),
        (["overlay", "{}/missing"], "argument MASKS_DIR: expected a folder"),
        (["overlay", "{}/scenes"], "argument MASKS_DIR: expected images"),
    ],
)
def test_wrong_requests(
    arguments: list[str], message: str, scenes: Path, model: None, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = scenes.parent / "bad"
    bad.mkdir()
    (bad / "x.npz").write_bytes(b"no")
    assert main.main(["eval", *(a.replace("{}", str(scenes.parent)) for a in arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert message in error


def test_unknown_model(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["eval", "scenes", str(scenes), "--model", "no-such-model"]) == 2
    assert "argument --model: expected one of" in capsys.readouterr().err


def test_scenes_from_files_to_figures(scenes: Path, model: None, capsys: pytest.CaptureFixture[str]) -> None:
    target = scenes.parent / "report.json"
    arguments = ["--decoding", "1x1", "1x2", "--depth", "both", "--thresholds", "0.4", "--content"]
    assert main.main(["eval", "scenes", str(scenes), *arguments, "--json", str(target)]) == 0
    shown = capsys.readouterr().out
    assert "convex hull" in shown and "1x2" in shown and "mean visible colour" in shown
    report = json.loads(target.read_text(encoding="utf-8"))
    assert len(report["masks"]) == 3 + 2 * 2 * 2
    assert [case["case"] for case in report["cases"]] == ["one/1", "two/1"]
    assert report["settings"]["decoding"] == ["1x1", "1x2"] and report["settings"]["thresholds"] == [0.5, 0.4]
    assert report["content"][0]["clips"] == 2


def test_frames_without_the_object_in_sight(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the last frame the ball is hidden by a plate that grows; in the first it is not there."""
    scene = make_scene("one")
    ids, masks = scene.instance_ids.copy(), scene.amodal_masks.copy()
    ids[-1], masks[1, -1] = 2, True
    ids[0][ids[0] == 1], masks[0, 0] = 0, False
    write_scene_clip(scenes / "one.npz", dataclasses.replace(scene, instance_ids=ids, amodal_masks=masks))
    (scenes / "two.npz").unlink()
    knowing = dataclasses.replace(tiny_model(), memory=True)
    monkeypatch.setattr(loading, "load_pipelines", lambda name, device: knowing)
    taken = np.array([True, False, False, False, False])
    monkeypatch.setattr(Seen, "gone", property(lambda seen: taken))
    target = scenes.parent / "report.json"
    arguments = ["--objects-per-clip", "1", "--depth", "given", "--json", str(target)]
    assert main.main(["eval", "scenes", str(scenes), *arguments]) == 0
    told = "in 1 of 1 frames without any of the object, and in 0 of 1 in which it is hidden"
    assert told in capsys.readouterr().out
    lines = {line["method"]: line for line in json.loads(target.read_text(encoding="utf-8"))["masks"]}
    assert lines["1x1"]["out_of_sight"] == {"hidden": 1, "hidden_taken": 0, "gone": 1, "gone_taken": 1}
    assert "out_of_sight" not in lines["modal"]


def test_overlay_from_files_to_figures(silhouette: Path, model: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["eval", "overlay", str(silhouette), "--seeds", "2"]) == 0
    shown = capsys.readouterr().out
    assert "by silhouette" in shown and "ball" in shown


def test_interrupted_with_what_stands_so_far(
    scenes: Path, model: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = evaluate.score_case, []

    def once(model: Any, case: Any, plan: Any) -> Any:
        calls.append(case.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(None, case, plan)

    monkeypatch.setattr(evaluate, "score_case", once)
    target = scenes.parent / "report.json"
    assert main.main(["eval", "scenes", str(scenes), "--json", str(target)]) == 130
    out, err = capsys.readouterr()
    assert "convex hull" in out and "stopped after 1 of 2" in err
    assert not target.exists()
