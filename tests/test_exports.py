"""Reading results back, and exporting them as pictures and arrays; what is missing, damaged or in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from diffvas.export import save_completion
from diffvas.exports import (
    FORMATS,
    ExportOptions,
    check_formats,
    export_result,
    from_completion,
    read_result,
)
from diffvas.exports.colour import spread_colours, to_linear_premultiplied, with_alpha
from diffvas.exports.exr import read_exr
from diffvas.masks import read_masks
from export_factories import EDGES, make_completion


def all_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read_stack(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())])


# ---------------------------------------------------------------------------------------------------------------------
# reading


@pytest.mark.parametrize("name", EDGES)
def test_a_saved_result_is_read_back(tmp_path: Path, name: str) -> None:
    completion = EDGES[name]()
    result = read_result(save_completion(completion, tmp_path / "result"))
    clip = completion.clip
    assert (result.name, result.size, result.fps) == (clip.name, clip.size, clip.fps)
    assert (result.num_frames, result.settings) == (clip.num_frames, completion.settings)
    assert [layer.object_id for layer in result.layers] == [obj.object_id for obj in completion.objects]
    for layer, obj in zip(result.layers, completion.objects, strict=True):
        assert (layer.content is None, layer.probability is None) == (obj.content_rgba is None, obj.probability is None)
        for t in range(clip.num_frames):
            assert layer.modal is not None
            assert np.array_equal(layer.amodal(t), obj.amodal_masks[t]) and layer.amodal(t).dtype == bool
            assert np.array_equal(layer.modal(t), obj.modal_masks[t]) and layer.modal(t).dtype == bool
            if layer.content is not None and obj.content_rgba is not None:
                assert np.array_equal(layer.content(t), obj.content_rgba[t])
            if layer.probability is not None and obj.probability is not None:
                assert np.abs(layer.probability(t) - obj.probability[t]).max() <= 0.5 / 255 + 1e-6
                assert layer.probability(t).dtype == np.float32


def test_results_of_older_versions(tmp_path: Path) -> None:
    place = save_completion(make_completion(), tmp_path / "result")
    about = json.loads((place / "result.json").read_text())
    for entry in about["objects"]:
        del entry["folders"]
        for frame in entry["frames"]:
            del frame["modal_rle"]
    (place / "result.json").write_text(json.dumps(about))
    result = read_result(place)
    assert all(layer.modal is None and layer.content and layer.probability for layer in result.layers)
    out = export_result(place, list(FORMATS), tmp_path / "out")
    assert not (out / "png" / "visible").exists() and not (out / "ytvis" / "visible.json").exists()
    assert "modal_masks" not in np.load(out / "npz" / "1.npz")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    place = save_completion(make_completion(), tmp_path / "result")
    (place / "4" / "content" / "00001.png").unlink()
    with pytest.raises(
        ValueError, match=r"^result: expected a complete result, got '.*' without 4/content/00001\.png$"
    ):
        read_result(place)
    shutil.rmtree(place / "1" / "probability")
    (place / "4" / "amodal_masks" / "00002.png").unlink()
    with pytest.raises(ValueError, match=r"without 1/probability/00000\.png, .*00002\.png and 2 more files$"):
        read_result(place)
    shutil.rmtree(place / "1")
    with pytest.raises(ValueError, match="without 1/amodal_masks/00000.png"):
        read_result(place)


def test_what_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="^result: expected the folder of a result, got no such path"):
        read_result(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"which has no result\.json"):
        read_result(tmp_path)
    path = tmp_path / "result.json"
    with pytest.raises(ValueError, match="^result: expected the folder of a result, got a file"):
        path.write_text("{}")
        read_result(path)
    head = (
        '{"format": "diffvas-completion", "clip": {"name": "a", "height": 4, "width": 4, "fps": 5, "num_frames": 1}, '
    )
    table = {
        "{": "expected JSON",
        "[]": "another program's",
        '{"format": "theirs"}': "another program's",
        '{"format": "diffvas-completion"}': r"expected result\.json as diffvas writes it .*KeyError\('clip'\)",
        head.replace('"height": 4', '"height": -4') + '"objects": []}': "a number of 1 or more expected, not -4",
        head + '"objects": [{"id": "../..", "frames": []}]}': "a number of 1 or more expected, not '../..'",
        head + '"objects": [{"id": 1, "frames": []}]}': "0 frames of object 1, not 1",
        head + '"objects": 5}': "as diffvas writes it",
    }
    for text, message in table.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_result(tmp_path)


def test_a_damaged_picture_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    place = save_completion(make_completion(), tmp_path / "result")
    picture = place / "1" / "content" / "00001.png"
    picture.write_bytes(picture.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"expected a readable image, got '.*1/content/00001\.png'"):
        export_result(place, ["coco", "png"], tmp_path / "a" / "out")
    Image.new("RGBA", (66, 51)).save(picture)
    with pytest.raises(ValueError, match=r"67 x 51 pixels in mode RGBA, got 66 x 51 in mode RGBA in '.*00001\.png'"):
        export_result(place, ["png"], tmp_path / "a" / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


def test_a_corrected_mask_counts(tmp_path: Path) -> None:
    place = save_completion(make_completion(content=False), tmp_path / "result")
    cv2.imwrite(str(place / "1" / "amodal_masks" / "00000.png"), np.full((51, 67), 255, np.uint8))
    out = export_result(place, ["coco"], tmp_path / "out")
    assert json.loads((out / "coco" / "annotations.json").read_text())["annotations"][0]["area"] == 51 * 67


# ---------------------------------------------------------------------------------------------------------------------
# the folder


@pytest.mark.parametrize("name", EDGES)
def test_every_format_of_every_edge(tmp_path: Path, name: str) -> None:
    completion = EDGES[name]()
    calls: list[tuple[str, int, int]] = []
    out = export_result(completion, list(FORMATS), tmp_path / "out", progress=lambda *call: calls.append(call))
    about = json.loads((out / "export.json").read_text(encoding="utf-8"))
    assert (about["clip"]["name"], about["formats"].keys()) == ("rocks & sons", FORMATS.keys())
    files = all_files(out)
    for kind, entry in about["formats"].items():
        for pattern in (p for patterns in entry["files"].values() for p in patterns):
            frames = range(completion.clip.num_frames) if "%" in pattern else range(1)
            for t in frames:
                assert files[f"{kind}/{pattern % t if '%' in pattern else pattern}"]
    total = len(completion.objects) * completion.clip.num_frames
    assert [done for kind, done, of in calls if kind == "vp9" and of == total] == list(range(1, total + 1))
    assert {kind for kind, done, _ in calls if done == total} == set(FORMATS)


def test_memory_and_folder_give_the_same_bytes_twice(tmp_path: Path) -> None:
    # 0.6 and 0.2 of 255 are whole numbers, so that the folder loses nothing
    completion = make_completion()
    place = save_completion(completion, tmp_path / "result")
    first = all_files(export_result(place, list(FORMATS), tmp_path / "a"))
    again = all_files(export_result(place, list(FORMATS), tmp_path / "b"))
    memory = all_files(export_result(completion, list(FORMATS), tmp_path / "c"))
    assert first == again and first == memory


def test_an_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    completion = make_completion()
    out = export_result(completion, ["coco", "npz"], tmp_path / "out")
    export_result(completion, ["ytvis", "ytvis"], tmp_path / "out")
    assert sorted(p.name for p in out.iterdir()) == ["export.json", "ytvis"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="got 'notes.txt' beside it"):
        export_result(completion, ["coco"], out)
    assert (out / "notes.txt").exists()


def test_a_result_is_never_replaced_by_its_export(tmp_path: Path) -> None:
    place = save_completion(make_completion(), tmp_path / "result")
    before = all_files(tmp_path)
    for out in (place, place / "export", tmp_path):
        with pytest.raises(ValueError, match="^out_dir: expected"):
            export_result(place, ["coco"], out)
    with pytest.raises(ValueError, match="^out_dir: expected"):  # nor an export by a result
        save_completion(make_completion(), export_result(place, ["coco"], tmp_path / "out"))
    shutil.rmtree(tmp_path / "out")
    assert all_files(tmp_path) == before


def test_formats_and_options_are_checked() -> None:
    assert check_formats(["vp9", "coco", "vp9"]) == ["vp9", "coco"]
    with pytest.raises(ValueError, match=r"^formats: expected .* got 'coca' \(did you mean 'coco'\?\)$"):
        check_formats(["coca"])
    with pytest.raises(ValueError, match="^formats: expected .* got none"):
        check_formats([])
    with pytest.raises(ValueError, match="^alpha: expected one of straight, premultiplied, got 'none'"):
        ExportOptions(alpha="none")
    for name in ("", "a\nb", "a:b"):
        with pytest.raises(ValueError, match="^category: "):
            ExportOptions(category=name)
    for name in ("frame.jpg", "%d%d.jpg", "%s.jpg", "../%d.jpg", "/a/%d.jpg", "a\\..\\%d.jpg", "%5%", "%d\n"):
        with pytest.raises(ValueError, match="^frame_name: expected a relative path with one %d"):
            ExportOptions(frame_name=name)
    assert ExportOptions(frame_name="a/%03d.png").frame_names(2, "") == ["a/000.png", "a/001.png"]


# ---------------------------------------------------------------------------------------------------------------------
# pictures and arrays


def test_png_round_trip(tmp_path: Path) -> None:
    completion = make_completion()
    out = export_result(completion, ["png"], tmp_path / "out") / "png"
    for obj in completion.objects:
        assert obj.probability is not None
        place = str(obj.object_id)
        assert np.array_equal(read_stack(out / "amodal" / place), obj.amodal_masks * np.uint8(255))
        assert np.array_equal(read_stack(out / "rgba" / place), obj.content_rgba)
        assert np.abs(read_stack(out / "probability" / place) / 65535 - obj.probability).max() <= 0.5 / 65535 + 1e-6
    tracks = read_masks(out / "visible", completion.clip.size, completion.clip.num_frames)
    assert [track.object_id for track in tracks] == [1, 4]
    assert np.array_equal(tracks[1].modal_masks, completion.objects[1].modal_masks)


def test_premultiplied() -> None:
    rgba = np.array([[[200, 100, 51, 0], [200, 100, 51, 255], [200, 100, 51, 128], [255, 1, 0, 1]]], np.uint8)
    expected = [[0, 0, 0, 0], [200, 100, 51, 255], [100, 50, 26, 128], [1, 0, 0, 1]]
    assert with_alpha(rgba, "premultiplied").tolist() == [expected]
    assert with_alpha(rgba, "straight") is rgba
    linear = to_linear_premultiplied(rgba)
    assert linear[0, 0].tolist() == [0, 0, 0, 0]
    assert linear[0, 1, 0] == pytest.approx(((200 / 255 + 0.055) / 1.055) ** 2.4, abs=1e-6)
    assert linear[0, 2, 2] == pytest.approx(0.0331048 * 128 / 255, abs=1e-6)  # sRGB 51 is 3.3 % of light


def test_premultiplied_png(tmp_path: Path) -> None:
    completion = make_completion(ids=(1,))
    rgba = completion.objects[0].content_rgba
    assert rgba is not None
    rgba[0, 40:, 50:] = (200, 100, 50, 102)
    out = export_result(completion, ["png", "layers"], tmp_path / "out", ExportOptions(alpha="premultiplied"))
    assert read_stack(out / "png" / "rgba" / "1")[0, 45, 60].tolist() == [80, 40, 20, 102]
    assert json.loads((out / "layers" / "manifest.json").read_text())["alpha"] == "premultiplied"


def test_layers_manifest(tmp_path: Path) -> None:
    completion = make_completion()
    out = export_result(completion, ["layers"], tmp_path / "out") / "layers"
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["format"] == "diffvas-layers" and manifest["alpha"] == "straight"
    assert manifest["clip"] == {"name": "rocks & sons", "width": 67, "height": 51, "fps": 12.0, "num_frames": 3}
    assert [(entry["id"], entry["z"]) for entry in manifest["layers"]] == [(1, None), (4, None)]
    second = manifest["layers"][1]
    assert (second["frames"], second["box"]) == ([0, 1], [11, 7, 31, 18])
    assert set(second["files"]) == {"amodal", "visible", "rgba", "probability"}
    image = Image.open(out / (second["files"]["rgba"] % 1))
    assert completion.objects[1].content_rgba is not None
    assert np.array_equal(np.asarray(image), completion.objects[1].content_rgba[1])


def test_npz_round_trip(tmp_path: Path) -> None:
    completion = make_completion()
    out = export_result(completion, ["npz"], tmp_path / "out") / "npz"
    for obj in completion.objects:
        with np.load(out / f"{obj.object_id}.npz", allow_pickle=False) as arrays:
            assert (arrays["object_id"].item(), arrays["fps"].item()) == (obj.object_id, 12.0)
            for name in ("amodal_masks", "modal_masks", "content_rgba", "probability"):
                expected = getattr(obj, name)
                assert arrays[name].dtype == expected.dtype and np.array_equal(arrays[name], expected)


@pytest.mark.parametrize("size", [(51, 67), (1, 1), (16, 300)])
def test_exr_round_trip(tmp_path: Path, size: tuple[int, int]) -> None:
    completion = make_completion(ids=(7,), size=size, frames=1)
    rgba = completion.objects[0].content_rgba
    assert rgba is not None
    rgba[0, ~completion.objects[0].amodal_masks[0]] = (255, 128, 3, 90)  # soft alpha, to see it premultiplied
    out = export_result(completion, ["exr"], tmp_path / "out") / "exr"
    read = read_exr(out / "7" / "00000.exr")
    expected = to_linear_premultiplied(rgba[0])
    assert read.shape == (*size, 4) and read.dtype == np.float32
    assert np.abs(read - expected).max() <= 2**-12 + 1e-7  # half floats: 11 bits below 1
    alpha = read[..., 3]
    assert np.array_equal(np.round(alpha * 255).astype(np.uint8), rgba[0, ..., 3])


def test_exr_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.exr").write_bytes(b"no picture" * 20)
    with pytest.raises(ValueError, match="^path: expected an OpenEXR file"):
        read_exr(tmp_path / "a.exr")


def test_colours_spread_from_the_nearest_pixel() -> None:
    rgba = np.zeros((5, 9, 4), np.uint8)
    rgba[2, 2], rgba[2, 6] = (200, 10, 30, 255), (1, 2, 3, 40)
    spread = spread_colours(rgba)
    assert np.array_equal(spread[..., 3], rgba[..., 3])
    assert (spread[:, :4, :3] == (200, 10, 30)).all() and (spread[:, 5:, :3] == (1, 2, 3)).all()
    for alpha in (0, 255):
        plain = np.full((4, 4, 4), alpha, np.uint8)
        assert spread_colours(plain) is plain


def test_a_result_without_content_is_white(tmp_path: Path) -> None:
    completion = make_completion(content=False)
    layer = from_completion(completion).layers[0]
    rgba = layer.rgba(0)
    assert (rgba[..., :3] == 255).all() and np.array_equal(rgba[..., 3] == 255, completion.objects[0].amodal_masks[0])
    out = export_result(completion, ["png", "npz"], tmp_path / "out")
    assert sorted(p.name for p in (out / "png").iterdir()) == ["amodal", "probability", "visible"]
    assert "content_rgba" not in np.load(out / "npz" / "1.npz")
