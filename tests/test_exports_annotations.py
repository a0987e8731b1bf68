"""COCO, YouTube-VIS and CVAT: read back by their own readers, or by readers written from the formats' descriptions."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from diffvas.exports import ExportOptions, export_result
from diffvas.exports.annotations import mask_box
from diffvas.exports.cvat import row_runs, voc_colour
from export_factories import make_completion


def export(tmp_path: Path, name: str, options: ExportOptions | None = None, **kind: object) -> Path:
    completion = make_completion(**kind)  # type: ignore[arg-type]
    return export_result(completion, [name], tmp_path / "out", options) / name


def test_boxes() -> None:
    mask = np.zeros((5, 7), bool)
    assert mask_box(mask) == [0, 0, 0, 0]
    mask[2, 3] = mask[4, 6] = True
    assert mask_box(mask) == [3, 2, 4, 3]


def test_coco_round_trip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completion = make_completion()
    place = export(tmp_path, "coco", ExportOptions(category="stone", frame_name="street/%03d.png"))
    coco = COCO(str(place / "annotations.json"))
    capsys.readouterr()
    assert [image["file_name"] for image in coco.loadImgs([1, 2, 3])] == [f"street/00{t}.png" for t in range(3)]
    assert coco.loadCats([1])[0]["name"] == "stone"
    assert len(coco.anns) == 4 and coco.getAnnIds(imgIds=[3]) == []  # both are gone in the last frame
    for annotation in coco.anns.values():
        obj = next(obj for obj in completion.objects if obj.object_id == annotation["track_id"])
        t = annotation["image_id"] - 1
        assert np.array_equal(coco.annToMask(annotation), obj.amodal_masks[t])
        visible = coco_mask.decode([annotation["visible_segmentation"]])[..., 0]
        assert np.array_equal(visible, obj.modal_masks[t])
        assert (annotation["area"], annotation["visible_area"]) == (18 * 31, 18 * 20)
    assert coco.anns[3]["bbox"] == [11, 7, 31, 18]


def test_youtube_vis(tmp_path: Path) -> None:
    completion = make_completion()
    place = export(tmp_path, "ytvis")
    for kind, masks in (("amodal", "amodal_masks"), ("visible", "modal_masks")):
        content = json.loads((place / f"{kind}.json").read_text())
        (video,) = content["videos"]
        assert (video["length"], video["width"], video["height"]) == (3, 67, 51)
        assert video["file_names"] == [f"rocks & sons/{t:05d}.jpg" for t in range(3)]
        assert [a["id"] for a in content["annotations"]] == [1, 4]
        for annotation, obj in zip(content["annotations"], completion.objects, strict=True):
            assert (annotation["video_id"], annotation["category_id"], annotation["iscrowd"]) == (1, 1, 0)
            for t, (runs, area) in enumerate(zip(annotation["segmentations"], annotation["areas"], strict=True)):
                expected = getattr(obj, masks)[t]
                assert (runs is None) == (area is None) == (not expected.any())
                if runs is not None:
                    assert np.array_equal(coco_mask.decode([runs])[..., 0], expected) and area == expected.sum()
                    assert annotation["bboxes"][t] == mask_box(expected)


def decode_cvat(mask: ElementTree.Element, size: tuple[int, int]) -> np.ndarray:
    """By CVAT's description: runs within the box, row by row, background first."""
    left, top, width, height = (int(mask.attrib[name]) for name in ("left", "top", "width", "height"))
    values: list[bool] = []
    for i, run in enumerate(mask.attrib["rle"].split(",")):
        values += [bool(i % 2)] * int(run)
    whole = np.zeros(size, bool)
    whole[top : top + height, left : left + width] = np.array(values).reshape(height, width)
    return whole


def test_cvat_xml(tmp_path: Path) -> None:
    completion = make_completion()
    place = export(tmp_path, "cvat", ExportOptions(category='a "stone" & <more>'))
    root = ElementTree.parse(place / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1" and root.findtext("meta/task/size") == "3"
    assert root.findtext("meta/task/labels/label/name") == 'a "stone" & <more>'
    images = root.findall("image")
    assert [(i.get("id"), i.get("name")) for i in images] == [(str(t), f"frame_{t:06d}.png") for t in range(3)]
    assert [len(image) for image in images] == [2, 2, 0]
    for t, image in enumerate(images):
        for mask, obj in zip(image, completion.objects, strict=False):
            assert mask.attrib["group_id"] == str(obj.object_id) and mask.attrib["occluded"] == "1"
            assert mask.attrib["label"] == 'a "stone" & <more>'
            assert np.array_equal(decode_cvat(mask, (51, 67)), obj.amodal_masks[t])


def test_runs() -> None:
    mask = np.array([[0, 1, 1], [1, 0, 0]], bool)
    assert row_runs(mask) == [1, 3, 2]
    assert row_runs(~mask) == [0, 1, 3, 2]
    assert row_runs(np.ones((1, 1), bool)) == [0, 1]


def test_ragged_masks_in_cvat(tmp_path: Path) -> None:
    completion = make_completion(ids=(1,), frames=1, content=False, hidden=False, probability=False)
    obj = completion.objects[0]
    obj.amodal_masks[:] = np.random.default_rng(0).random(obj.amodal_masks.shape) < 0.3
    place = export_result(completion, ["cvat"], tmp_path / "out") / "cvat"
    mask = ElementTree.parse(place / "annotations.xml").find("image/mask")
    assert mask is not None and np.array_equal(decode_cvat(mask, (51, 67)), obj.amodal_masks[0])


def test_voc_colours() -> None:
    # the first of Pascal VOC's own table
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [voc_colour(i) for i in range(7)] == expected
    assert voc_colour(8) == (64, 0, 0) and voc_colour(255) == (224, 224, 192)


def test_cvat_segmentation_masks(tmp_path: Path) -> None:
    completion = make_completion(frames=2)
    place = export(tmp_path, "cvat", ExportOptions(category="stone", frame_name="street/%03d.png"), frames=2)
    with zipfile.ZipFile(place / "segmentation_mask.zip") as file:
        assert file.read("labelmap.txt").decode().splitlines()[1:] == ["background:0,0,0::", "stone:128,0,0::"]
        names = file.read("ImageSets/Segmentation/default.txt").decode().split()
        assert names == ["street/000", "street/001"]
        kinds = ("SegmentationClass", "SegmentationObject")
        classes, objects = (np.asarray(Image.open(BytesIO(file.read(f"{kind}/street/000.png")))) for kind in kinds)
        assert len(file.namelist()) == 2 + 2 * 2
    first, second = (obj.amodal_masks[0] for obj in completion.objects)
    seen_second = completion.objects[1].modal_masks[0]
    seen_first = completion.objects[0].modal_masks[0]
    assert np.array_equal((classes == (128, 0, 0)).all(-1), first | second)
    assert not classes[~(first | second)].any()
    owner_2 = (objects == (0, 128, 0)).all(-1)
    # where both are visible (which only a made-up case has), the later one; hidden parts go to the first one
    assert np.array_equal(owner_2, seen_second | (second & ~first))
    assert np.array_equal((objects == (128, 0, 0)).all(-1), first & ~seen_second)
    assert (first & second).any() and seen_first.any()
    about = json.loads((place.parent / "export.json").read_text())["formats"]["cvat"]
    assert about["covered_pixels"] == (first & second).sum()


def test_more_objects_than_colours(tmp_path: Path) -> None:
    ids = tuple(range(1, 258))
    place = export(tmp_path, "cvat", ids=ids, size=(20, 30), frames=1, content=False, probability=False)
    assert [p.name for p in place.iterdir()] == ["annotations.xml"]
    assert "257" in json.loads((place.parent / "export.json").read_text())["formats"]["cvat"]["note"]
    assert len(ElementTree.parse(place / "annotations.xml").findall("image/mask")) == 257
