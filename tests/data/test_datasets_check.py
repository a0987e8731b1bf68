"""``diffvas data check``: counts that are right, and every fault of a data set found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataset_files as files
from diffvas.cli import main as cli
from diffvas.data.check import DataReport, check_objects
from factories import FRAMES, make_scene

SCENE = make_scene()


@pytest.fixture(autouse=True)
def data_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.VERBS, "data", "what is in a data set")


def run(*words: object) -> int:
    return cli.main(["data", *map(str, words)])


def problems(path: Path, **options: Any) -> str:
    report = check_objects(path, **options)
    assert report.problems
    return "\n".join(report.problems)


def change(path: Path, edit: Callable[[Any], None]) -> Path:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_counts(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = check_objects(files.write_sailvos_json(tmp_path), progress=lambda *call: calls.append(call), pixels=True)
    assert (report.clips, report.objects, report.frames) == (1, 2, 2 * FRAMES)
    assert (report.kind, report.truth, report.pictures, report.missing) == ("sailvos", "masks", FRAMES, 0)
    assert report.problems == [] and report.sizes == {(32, 64): 2} and report.outside == 0
    # frames of the ball by what is left of it behind the plate, of the plate: always whole
    shares = SCENE.visible_fraction(0)
    wanted = {"hidden": 0, "below-25": ((shares > 0) & (shares < 0.25)).sum(), "above-95": 5 + (shares >= 0.95).sum()}
    assert {level: report.levels[level] for level in wanted} == wanted and sum(report.levels.values()) == 10
    assert calls[-1] == ("check", 2, 2) and calls[0][0] == "index"
    json.dumps(report.to_dict())


def test_faults_of_annotation_files(tmp_path: Path) -> None:
    def spoil(records: list[dict[str, Any]]) -> None:
        records.append(json.loads(json.dumps(records[0])))  # stands twice
        records.append({**records[1], "obj_id": 9, "visible_mask": [{"size": [32, 64], "counts": "1"}] * FRAMES})
        records.append({**records[1], "obj_id": 10, "bbox": [[0, 0, 1, 1]]})
        records.append({**records[1], "obj_id": 11, "image_file_names": records[1]["image_file_names"][::-1]})
        records.append({key: value for key, value in records[1].items() if key != "image_ids"})
        records.append({**records[1], "obj_id": 12, "image_ids": [100] * FRAMES})

    path = change(files.write_sailvos_json(tmp_path), spoil)
    found = problems(path)
    for words in (
        "expected every object once, got 'street/7/100' a second time",
        "street/9/100: visible_mask, frame 0: expected runs that add up to 32 x 64",
        "street/10/100: expected lists of one length, one entry per frame, got segmentation 5",
        "street/11/100: expected frames in order, got number 3 ('(101, 11)') after 4",
        "sequence 6: expected segmentation, visible_mask, bbox",
        "street/12/100: expected every frame once, got '(100, 12)' a second time",
    ):
        assert words in found
    assert len(check_objects(path).problems) == 6
    assert check_objects(path).objects == 3  # 7, 8 and 11 can be read


def test_pictures(tmp_path: Path) -> None:
    path = files.write_sailvos_json(tmp_path)
    pictures = tmp_path / "street" / "images"
    (pictures / "000001.bmp").unlink()
    files.save(pictures / "000002.bmp", np.zeros((8, 8, 3), np.uint8))
    (pictures / "000003.bmp").write_bytes(b"BM nothing")
    whole = (pictures / "000004.bmp").read_bytes()
    (pictures / "000004.bmp").write_bytes(whole[:2000])  # its header is fine
    report = check_objects(path)
    found = "\n".join(report.problems)
    assert len(report.problems) == 3 and report.missing == 1
    for words in ("found no file '", "expected pictures of 64 x 32 pixels like the masks, got 8 x 8", "000003.bmp"):
        assert words in found
    assert "000004.bmp" not in found
    (pictures / "000003.bmp").write_bytes(whole)
    (pictures / "000002.bmp").write_bytes(whole)
    (pictures / "000001.bmp").write_bytes(whole)
    assert "000004.bmp" in problems(path, pixels=True)


def test_an_annotation_file_alone_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = files.write_sailvos_json(tmp_path, pictures=False)
    assert run("check", path) == 0
    printed = capsys.readouterr().out
    assert "pictures: 5, none of them there: masks only" in printed and "nothing is wrong" in printed


def test_faults_of_movi(tmp_path: Path) -> None:
    root = files.write_movi(tmp_path)
    np.save(root / "test" / "instance_list.npy", np.array(["12-0", "12-1", "12-1", "13-0", "12", "12-5"]))
    (root / "test" / "12" / "segmentation_1_00003.png").unlink()
    found = problems(root)
    for words in (
        "expected every object once, got 'test/12/1' a second time",
        "test/12/1: masks: expected a picture, found no file",
        "'13-0': expected a video, found no",
        "expected a video and the number of an object, got '12'",
        "test/12/5: expected object 5 with bboxes and bbox_frames, got 2 objects",
    ):
        assert words in found
    np.save(root / "test" / "instance_list.npy", np.array(["12-0", {}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="expected a list of 'video-object' texts"):
        check_objects(root)
    (root / "test" / "12" / "metadata.json").write_text("{}")
    np.save(root / "test" / "instance_list.npy", np.array(["12-0"]))
    assert "test/12/0: expected a metadata.json with 'metadata'" in problems(root)


def test_faults_of_sailvos_folders(tmp_path: Path) -> None:
    root = files.write_sailvos_folders(tmp_path, SCENE)
    files.write_sailvos_folders(tmp_path, SCENE, video="yard")
    options: dict[str, Any] = {"length": 2, "stride": 2, "cuts": {}, "index": tmp_path / "index"}
    assert check_objects(root, **options).objects == 8
    np.save(root / "street" / "visible" / "000001.npy", np.array([{}], object), allow_pickle=True)
    (root / "street" / "visible" / "000002.npy").unlink()
    (root / "yard" / "0001ball" / "000003.png").write_bytes(b"broken")
    (tmp_path / "index" / "street.json").unlink()
    for _ in range(2):  # nothing is kept of a video in which something is wrong
        report = check_objects(root, **options)
        found = "\n".join(report.problems)
        assert len(report.problems) == 3 and report.objects == 3
        for words in ("000001.npy', which cannot be read", "found no file", "yard/1/2: expected a readable image"):
            assert words in found


def test_faults_of_tabe(tmp_path: Path) -> None:
    video = files.write_tabe51(tmp_path) / "TABE-51" / "data" / "ball_bounce"
    files.save(video / "gt_masks" / "00001.png", np.zeros((8, 8), np.uint8))
    assert "expected 64 x 32 pixels, got 8 x 8" in problems(tmp_path)
    (video / "gt_masks" / "00001.png").unlink()
    assert "expected 5 masks, one per picture, got 4" in problems(tmp_path)
    files.write_tabe51(tmp_path)
    files.write_json(video / "annos.json", {"occlusion": [{"level": "much"}] * FRAMES})
    assert "unknown level 'much'" in problems(tmp_path)
    files.write_json(video / "annos.json", {"occlusion": [{"level": 0}]})
    assert "expected 5 occlusion levels, one per picture, got 1" in problems(tmp_path)


def test_faults_of_youtube_vis(tmp_path: Path) -> None:
    root = files.write_ytvis(tmp_path)
    change(root / "amodal.json", lambda content: content["annotations"].pop())
    change(root / "modal.json", lambda content: content["annotations"].append(content["annotations"][0]))
    found = problems(root)
    assert "expected every id once, got 20 a second time" in found
    assert "annotation 21: expected the whole object in the same video" in found
    change(root / "modal.json", lambda content: content["annotations"][0]["segmentations"].pop())
    assert "v1/20: expected 5 visible masks, one per picture, got 4" in problems(root)
    change(root / "modal.json", lambda content: content["annotations"][0].update(video_id=9))
    assert "annotation 20: expected one of 1 videos, got 9" in problems(root)
    (root / "modal.json").write_text('{"videos": [')
    with pytest.raises(ValueError, match="expected whole JSON in '.*modal.json'"):
        check_objects(root)


def test_faults_of_tao(tmp_path: Path) -> None:
    root = files.write_tao_originals(tmp_path)
    burst = root / "BURST_annotations" / "val" / "all_classes_visibility.json"
    change(root / "amodal_annotations" / "validation.json", lambda c: c["annotations"].append(c["annotations"][0]))
    assert "track 30: expected one box per image, got two in 900" in problems(root, length=FRAMES)
    change(burst, lambda content: content["sequences"][0].update(seq_name="v_2"))
    assert "expected pictures, and masks in BURST, got none" in problems(root, length=FRAMES)
    change(burst, lambda content: content["sequences"][0].pop("dataset"))
    with pytest.raises(ValueError, match=r"as TAO and BURST write them, got others \(KeyError\('dataset'\)\)"):
        check_objects(root)
    record = files.tao_record(SCENE) | {"amodal_bboxes": [[0, 0, float("inf"), 1]] * FRAMES}
    path = tmp_path / "one" / "tao.json"
    path.parent.mkdir()
    path.write_text(json.dumps([record]))
    assert "50/31/frame0000.jpg: amodal_bboxes: expected finite numbers, got 5 NaN or infinite" in problems(path)
    record["amodal_bboxes"] = [[0, 0, -1, 1]] * FRAMES
    path.write_text(json.dumps([record]))
    assert "expected widths and heights of 0 or more" in problems(path)


def test_faults_of_folders(tmp_path: Path) -> None:
    root = files.write_folders(tmp_path)
    (root / "toys" / "amodal" / "2" / "3.png").unlink()
    report = check_objects(root)
    assert "toys/1: masks: expected 5 masks, one per frame, got 4 in" in report.problems[0]
    (root / "toys" / "modal" / "frame1.png").unlink()
    assert "toys: masks: expected 5 masks" in problems(root)


def test_a_broken_shard(tmp_path: Path) -> None:
    from diffvas.world.codec import encode_clip
    from diffvas.world.shards import write_shard

    for name in ("first", "second"):
        write_shard(tmp_path / f"{name}.tar", [(name, encode_clip(make_scene(name)))])
    data = bytearray((tmp_path / "second.tar").read_bytes())
    data[-1500] ^= 255
    (tmp_path / "second.tar").write_bytes(data[:-100])
    report = check_objects(tmp_path)
    assert report.objects == 2 and "second.tar" in report.problems[0]


def test_objects_that_are_never_seen_and_pixels_outside(tmp_path: Path) -> None:
    def spoil(records: list[dict[str, Any]]) -> None:
        records[0]["visible_mask"] = [files.encode_masks(np.zeros((1, 32, 64), bool))[0]] * FRAMES
        records[1]["visible_mask"] = [files.encode_masks(np.ones((1, 32, 64), bool))[0]] * FRAMES

    report = check_objects(change(files.write_sailvos_json(tmp_path), spoil))
    assert report.problems == [
        "street/7/100: expected the object to be visible in one frame at least, got no visible pixel"
    ]
    assert report.outside == FRAMES and report.levels["hidden"] == FRAMES


def test_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    np.save(tmp_path / "test" / "instance_list.npy", np.array([], str))
    assert "expected one object at least" in problems(tmp_path)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = files.write_sailvos_json(tmp_path / "set").parent
    assert run("check", root) == 0
    printed = capsys.readouterr()
    assert "sailvos, 1 clips, 2 objects, 10 frames; truth: masks" in printed.out and "above-95" in printed.out
    assert "check: 2/2" in printed.err
    assert run("check", root, "--json") == 0
    assert json.loads(capsys.readouterr().out)["objects"] == 2
    (root / "street" / "images" / "000000.bmp").unlink()
    assert run("check", root) == 1
    assert "wrong: 1\n  expected a picture, found no file" in capsys.readouterr().out
    assert run("check", tmp_path) == 2
    assert "argument PATH: expected a known layout in" in capsys.readouterr().err
    assert run("check", tmp_path / "none") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run("check", root, "--kind", "davis") == 2
    assert "argument --kind: expected one of world, sailvos" in capsys.readouterr().err
    assert run("check", root, "--split", "test") == 2
    assert "argument --split: expected an option of the layout sailvos (--images)" in capsys.readouterr().err
    (root / "val.json").write_text('[{"segmentation": [], "visible_mask": [], "x": 1}, {')
    assert run("check", root / "val.json") == 2
    assert "argument PATH: expected whole JSON" in capsys.readouterr().err


def test_listing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    assert "tabe51" in capsys.readouterr().out
    assert run("list", "--json") == 0
    assert "movi" in json.loads(capsys.readouterr().out)
    path = files.write_sailvos_json(tmp_path)
    assert run("list", path) == 0
    assert capsys.readouterr().out == "street/7/100\nstreet/8/100\n"
    assert run("list", path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == ["street/7/100", "street/8/100"]
    change(path, lambda records: records.append(records[0]))
    assert run("list", path) == 1
    assert "a second time" in capsys.readouterr().err


def test_many_problems_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    from diffvas.cli.data import report_lines

    lines = report_lines(DataReport("kind", "there", problems=[f"p{i}" for i in range(60)]))
    assert "wrong: 60" in lines and lines[-1] == "  and 10 more; --json has all"
