"""Predictions on disk: whatever the order, the shares and the interruptions, the same files."""

from __future__ import annotations

import json
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataset_files as files
from diffvas.bench import boxes
from diffvas.bench import predict as predicting
from diffvas.bench.pictures import frames_of
from diffvas.bench.predict import Objects, PredictPlan, Spec, parse_specs, predict_all, write_truths
from diffvas.bench.predictions import PredictionFolder, TruthFolder
from diffvas.bench.score import score_method
from diffvas.data.examples import is_held_out
from diffvas.methods.base import Answer, ObjectInput, Rule
from diffvas.methods.convex import Convex
from diffvas.methods.modal import Modal
from diffvas.metrics import PROTOCOLS
from factories import make_scene
from method_cases import write_scenes


class Lottery(Rule):
    """Masks drawn from the clip's own seed: they show at once where order or shares matter. Stops after ``left``."""

    name = "lottery"
    uses = frozenset({"depth", "others"})

    def __init__(self, left: int = 1000) -> None:
        super().__init__()
        self.left, self.seen = left, []

    def predict(self, clip: ObjectInput, *, seed: int = 0, samples: int | None = None, threshold: float | None = None):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.seen.append(clip)
        drawn = np.random.default_rng(clip.seed(seed)).random((samples or 2, *clip.modal.shape)) < 0.5
        return Answer(drawn[0], samples=drawn)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 3)


def contents(folder: Path) -> dict[str, Any]:
    """All records, without what a clock or the machine put in."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        record = json.loads(path.read_text())
        found[str(path.relative_to(folder))] = {k: v for k, v in record.items() if k not in ("seconds", "peak_bytes")}
    return found


def test_truths_and_inputs(scenes: Path, tmp_path: Path) -> None:
    objects, scene = Objects(scenes), make_scene()
    assert objects.names == [f"scene-{k}/{i}" for k in range(3) for i in (1, 2)]
    write_truths(objects, tmp_path, PredictPlan())
    first = contents(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    write_truths(objects, tmp_path, PredictPlan())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == stamps  # written once
    truths = list(TruthFolder.open(tmp_path / "truth"))
    assert len(truths) == 6 == len(first) - 1 and truths[0].group == "scene-0"
    clip = objects.input(objects.names[0], {"depth", "others", "frames_u8", "flow"})
    assert (clip.modal == scene.modal_mask(0)).all() and (clip.frames_u8 == scene.frames_u8).all()
    assert set(np.unique(clip.others)) == {0, 2} and clip.flow is None and clip.intrinsics is None
    assert clip.depth.dtype == np.float32 and clip.depth.max() == 1 and clip.depth[2, 16, 26] == 1  # the plate is near
    assert objects.input(objects.names[1], set()).others is None


def test_order_shares_and_interruptions_change_nothing(scenes: Path, tmp_path: Path) -> None:
    objects = Objects(scenes)
    assert predict_all(objects, Lottery(), "lottery", tmp_path / "a", PredictPlan(seed=3)) == 6
    whole = contents(tmp_path / "a")
    assert len(whole) == 7
    backwards = Objects(scenes)
    backwards.names.reverse()
    with pytest.raises(ValueError, match="differs in objects"):
        predict_all(backwards, Lottery(), "lottery", tmp_path / "a", PredictPlan(seed=3))
    backwards.digest = objects.digest  # type: ignore[method-assign]
    predict_all(backwards, Lottery(), "lottery", tmp_path / "b", PredictPlan(seed=3))
    assert contents(tmp_path / "b") == whole
    with pytest.raises(KeyboardInterrupt):
        predict_all(objects, Lottery(left=2), "lottery", tmp_path / "c", PredictPlan(seed=3))
    assert len(contents(tmp_path / "c")) == 3
    again = Lottery()
    assert predict_all(objects, again, "lottery", tmp_path / "c", PredictPlan(seed=3)) == 4 == len(again.seen)
    assert contents(tmp_path / "c") == whole
    made = [
        predict_all(objects, Lottery(), "lottery", tmp_path / "d", PredictPlan(seed=3, shard=(k, 3))) for k in range(3)
    ]
    assert sum(made) == 6 and contents(tmp_path / "d") == whole
    predict_all(objects, Lottery(), "lottery", tmp_path / "e", PredictPlan(seed=4))
    assert contents(tmp_path / "e") != whole


def test_other_settings_are_refused(scenes: Path, tmp_path: Path) -> None:
    objects = Objects(scenes)
    predict_all(objects, Modal(), "m", tmp_path, PredictPlan())
    for method, plan, field in (
        (Modal(), PredictPlan(seed=1), "seed"),
        (Modal(), PredictPlan(threshold=0.4), "threshold"),
        (Convex(), PredictPlan(), "settings"),
    ):
        with pytest.raises(ValueError, match=f"differs in {field}"):
            predict_all(objects, method, "m", tmp_path, plan)
    with pytest.raises(ValueError, match="differs in objects"):
        predict_all(Objects(scenes, limit=2), Modal(), "m", tmp_path, PredictPlan())
    for wrong in ({"depth": "both"}, {"samples": 0}, {"threshold": 1.0}, {"shard": (2, 2)}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
            PredictPlan(**wrong)


def test_depth_is_kept_back(scenes: Path, tmp_path: Path) -> None:
    method = Lottery()
    predict_all(Objects(scenes, limit=1), method, "x", tmp_path, PredictPlan(depth="none"))
    assert method.seen[0].depth is None and method.seen[0].others is not None
    method.needs = frozenset({"depth"})  # type: ignore[misc]
    with pytest.raises(ValueError, match="expected lottery to be given depth, got it kept back"):
        predict_all(Objects(scenes), method, "y", tmp_path, PredictPlan(depth="none"))


def test_what_is_written(scenes: Path, tmp_path: Path) -> None:
    objects = Objects(scenes)
    write_truths(objects, tmp_path, PredictPlan())
    predict_all(objects, Lottery(), "lottery", tmp_path, PredictPlan(samples=3))
    truth = next(iter(TruthFolder.open(tmp_path / "truth")))
    found = PredictionFolder.open(tmp_path / "lottery").get(truth)
    assert found is not None and len(found.samples) == 3 and found.masks == found.samples[0]
    assert 0 < found.seconds < 60
    if sys.platform == "linux":
        assert found.peak_bytes is None or found.peak_bytes > 2**20

    class Wrong(Lottery):
        def predict(self, clip: ObjectInput, **how: Any) -> Answer:
            return Answer(clip.modal[:, 1:])

    with pytest.raises(ValueError, match="masks: expected \\(5, 32, 64\\) from lottery, got \\(5, 31, 64\\)"):
        predict_all(objects, Wrong(), "wrong", tmp_path, PredictPlan())


def test_which_objects(scenes: Path, tmp_path: Path) -> None:
    held = [name for name in (f"scene-{k}" for k in range(3)) if is_held_out(name)]
    for part, wanted in (("val", held), ("train", [f"scene-{k}" for k in range(3) if f"scene-{k}" not in held])):
        if wanted:
            assert {name.split("/")[0] for name in Objects(scenes, part=part).names} == set(wanted)
        else:
            with pytest.raises(ValueError, match=f"in the {part} part of"):
                Objects(scenes, part=part)
    folder = write_scenes(tmp_path, 2)
    (folder / "mini.json").write_text(json.dumps({"objects": [{"clip": "scene-1", "object": 2}]}))
    assert Objects(folder).names == ["scene-1/2"]
    (folder / "mini.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a list of objects in"):
        Objects(folder)
    with pytest.raises(ValueError, match="part: expected one of all, train, val, got 'test'"):
        Objects(scenes, part="test")


def test_specs() -> None:
    assert Spec.parse("ours") == Spec("ours", "tiny")
    labels = [spec.label for spec in parse_specs(["modal", "ours", "ours=runs/ours", "videomae=runs/videomae-b"])]
    assert labels == ["modal", "ours-tiny", "ours", "videomae-b"]
    assert Spec("ours", "a/amodal,b/content").label == "ours-content"
    for text, message in (
        ("unet3d", "expected a fitted one as unet3d=FOLDER"),
        ("modl", "did you mean 'modal'"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_specs([text])
    with pytest.raises(ValueError, match="got 'modal' twice"):
        parse_specs(["modal", "modal"])


def test_memory_of_a_clip_is_its_own() -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux lets a process reset its mark")
    with predicting.peak_memory("cpu") as large:
        with mmap.mmap(-1, 2**26) as block:  # given back at once, whatever the allocator keeps
            for page in range(0, 2**26, mmap.PAGESIZE):
                block[page] = 1
    with predicting.peak_memory("cpu") as small:
        pass
    if large.bytes is None or small.bytes is None:
        pytest.skip("this kernel does not tell a process' mark")
    assert large.bytes > small.bytes + 2**25


WRITERS = {
    "world": lambda path: write_scenes(path, 2),
    "sailvos": files.write_sailvos_json,
    "movi": files.write_movi,
    "tabe51": files.write_tabe51,
    "ytvis": files.write_ytvis,
    "folders": files.write_folders,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_any_data_set_is_predicted_and_scored(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / "data")
    objects = Objects(tmp_path / "data", kind)
    assert write_truths(objects, tmp_path / "p", PredictPlan()) == len(objects)
    assert predict_all(objects, Modal(), "modal", tmp_path / "p", PredictPlan()) == len(objects)
    truths = list(TruthFolder.open(tmp_path / "p" / "truth"))
    assert sorted(truth.clip for truth in truths) == sorted(objects.names)
    assert {truth.group for truth in truths} == {objects.clip(name).group for name in objects.names}
    scores = score_method(truths, PredictionFolder.open(tmp_path / "p" / "modal"), PROTOCOLS["strict"])
    assert not scores.problems.lines() and len(scores.clips) == len(objects)  # frames go by the data set's own names
    frames = frames_of(tmp_path / "data", kind)(truths[0], [0, 2])
    assert frames is not None and [list(one.shape[:2]) for one in frames] == [truths[0].size] * 2


def test_boxes_are_predicted_on_the_canvas(tmp_path: Path) -> None:
    scene = make_scene()
    files.write_json(tmp_path / "val.json", [files.tao_record(scene, 0), files.tao_record(scene, 1, 32)])
    objects = Objects(tmp_path / "val.json")

    class Shifted(Rule):
        """What is visible, and all that is left of it, out of the frame."""

        name = "shifted"

        def predict(self, clip: ObjectInput, **how: Any) -> Answer:
            rows = clip.modal.any(2)
            return Answer(
                clip.modal | (rows[..., None] & (np.arange(clip.size[1]) < 30) & (np.arange(clip.size[1]) > 8))
            )

    assert write_truths(objects, tmp_path, PredictPlan()) == 2
    for method in (Modal(), Shifted()):
        predict_all(objects, method, method.name, tmp_path, PredictPlan())
    folder = TruthFolder.open(tmp_path / "truth")
    assert folder.has_boxes()
    truths = list(folder.boxes())
    with pytest.raises(ValueError, match="expected 5 masks, one per frame"):
        list(folder)
    assert truths[0].amodal[0].tolist() == files.BOX and truths[0].size == (32, 64)
    plain = boxes.score_boxes(truths, boxes.ModalBoxes())
    modal = boxes.score_boxes(truths, boxes.FolderBoxes(PredictionFolder.open(tmp_path / "modal")))
    assert [one.tolist() for one in modal.score.clips] == [one.tolist() for one in plain.score.clips]
    found, lost = boxes.FolderBoxes(PredictionFolder.open(tmp_path / "shifted")).get(truths[0])
    assert not lost and found[0, 0] == 9 - 16  # the canvas begins 16 columns left of the frame
    place = PredictionFolder.open(tmp_path / "modal").folder.place(truths[0].clip)
    place.unlink()
    with pytest.raises(ValueError, match="5 are missing"):
        boxes.score_boxes(truths, boxes.FolderBoxes(PredictionFolder.open(tmp_path / "modal")))
    allowed = boxes.score_boxes(truths, boxes.FolderBoxes(PredictionFolder.open(tmp_path / "modal")), missing="empty")
    assert len(allowed.problems.missing) == 5 and allowed.score.clips[0].tolist() == plain.score.clips[0].tolist()


def test_data_without_what_a_method_needs(tmp_path: Path) -> None:
    files.write_tabe51(tmp_path)
    objects = Objects(tmp_path, "tabe51")
    method = Lottery()
    predict_all(objects, method, "x", tmp_path / "p", PredictPlan())
    assert method.seen[0].depth is None
    method.needs = frozenset({"depth"})  # type: ignore[misc]
    with pytest.raises(ValueError, match="expected data with depth for lottery, '.*' \\(tabe51\\) has none"):
        predict_all(objects, method, "y", tmp_path / "p", PredictPlan())
    with pytest.raises(ValueError, match="part: expected all for tabe51"):
        Objects(tmp_path, part="val")
    with pytest.raises(ValueError, match="expected a known layout"):
        Objects(tmp_path / "p")
