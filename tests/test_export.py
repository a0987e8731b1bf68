"""Files of a completion: the layout, the bytes, and all or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import diffvas
from diffvas import export
from diffvas.export import check_out_dir, object_colour, panel_size, preview_frames, replacing_folder, save_completion
from diffvas.types import Clip, Completion, ObjectCompletion
from diffvas.video import read_clip


def make_completion(
    ids: tuple[int, ...] = (1, 4), size: tuple[int, int] = (51, 67), frames: int = 3, samples: int = 3
) -> Completion:
    rng = np.random.default_rng(0)
    clip = Clip(rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8), fps=12.0, name="rocks")
    objects = []
    for i, object_id in enumerate(ids):
        modal = np.zeros((frames, *size), bool)
        modal[:-1, 5 + 9 * i : 14 + 9 * i, 10:30] = True  # nowhere in the last frame
        amodal = modal.copy()
        amodal[:-1, 5 + 9 * i : 20 + 9 * i, 10:45] = True
        content = np.zeros((*amodal.shape, 4), np.uint8)
        content[amodal] = (10, 200, 30 * i, 255)
        content[modal, :3] = clip.frames_u8[modal]
        probability = np.where(amodal, np.float32(2 / 3), np.float32(0)) if samples > 1 else None
        objects.append(ObjectCompletion(object_id, modal, amodal, probability, content))
    return Completion(clip, tuple(objects), {"model": "tiny", "samples": samples, "seed": 5}, {"stage 1": 1.25})


def all_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read_stack(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())])


def test_layout(tmp_path: Path) -> None:
    completion = make_completion()
    out = completion.save(tmp_path / "new" / "out")
    assert out == (tmp_path / "new" / "out").resolve()
    kinds = ("amodal_masks", "probability", "content")
    expected = {"result.json", "preview.mp4"}
    expected |= {f"{i}/{kind}/{t:05d}.png" for i in (1, 4) for kind in kinds for t in range(3)}
    assert set(all_files(out)) == expected
    for obj in completion.objects:
        folder = out / str(obj.object_id)
        masks = read_stack(folder / "amodal_masks")
        assert masks.dtype == np.uint8 and np.array_equal(masks, obj.amodal_masks * np.uint8(255))
        content = read_stack(folder / "content")
        assert np.array_equal(content, obj.content_rgba)
        assert np.array_equal(content[obj.modal_masks][:, :3], completion.clip.frames_u8[obj.modal_masks])
        assert set(np.unique(read_stack(folder / "probability"))) == {0, 170}


def test_one_sample_has_no_probability(tmp_path: Path) -> None:
    save_completion(make_completion(samples=1), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out" / "1").iterdir()) == ["amodal_masks", "content"]


def test_result_json(tmp_path: Path) -> None:
    completion = make_completion()
    save_completion(completion, tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["version"] == diffvas.__version__
    assert (result["model"], result["settings"]) == ("tiny", completion.settings)
    assert result["clip"] == {"name": "rocks", "height": 51, "width": 67, "fps": 12.0, "num_frames": 3}
    assert [obj["id"] for obj in result["objects"]] == [1, 4]
    frames = result["objects"][1]["frames"]
    assert [f["frame"] for f in frames] == [0, 1, 2]
    assert (frames[0]["modal_area"], frames[0]["amodal_area"]) == (9 * 20, 15 * 35)
    assert frames[0]["visible_fraction"] == pytest.approx(9 * 20 / (15 * 35))
    assert (frames[2]["amodal_area"], frames[2]["visible_fraction"]) == (0, None)
    assert isinstance(frames[0]["rle"]["counts"], str) and frames[0]["rle"]["size"] == [51, 67]
    decoded = np.stack([coco_mask.decode(f["rle"]) for f in frames]).astype(bool)
    assert np.array_equal(decoded, completion.objects[1].amodal_masks)


def test_the_same_completion_gives_the_same_bytes(tmp_path: Path) -> None:
    save_completion(make_completion(), tmp_path / "a")
    save_completion(make_completion(), tmp_path / "b")
    assert all_files(tmp_path / "a") == all_files(tmp_path / "b")


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    save_completion(make_completion(), tmp_path / "out", lambda *call: calls.append(call))
    assert calls == [("write", i, 9) for i in range(1, 10)]


# ---------------------------------------------------------------------------------------------------------------------
# the preview


def test_preview_is_a_video_of_the_clip(tmp_path: Path) -> None:
    save_completion(make_completion(), tmp_path / "out")
    preview = read_clip(tmp_path / "out" / "preview.mp4")
    assert (preview.num_frames, preview.fps) == (3, 12.0)
    assert preview.width <= export.MAX_WIDTH and preview.width > 3 * 190


@pytest.mark.parametrize("size", [(1, 1), (2, 5000), (5000, 2), (51, 67), (720, 1280), (1280, 720), (2160, 3840)])
def test_panels_are_even_and_fit(size: tuple[int, int]) -> None:
    height, width = panel_size(*size)
    assert height % 2 == 0 and width % 2 == 0 and height >= 2 and width >= 2
    assert 3 * width + 16 <= export.MAX_WIDTH and height <= export.MAX_HEIGHT


def test_preview_panels_show_what_they_say() -> None:
    completion = make_completion(ids=(1,), size=(100, 200))
    frame = next(preview_frames(completion))
    height, width = panel_size(100, 200)
    assert frame.shape[0] % 2 == 0 and frame.shape[1] == 3 * width + 16
    header = frame.shape[0] - height
    assert (height, width) == (100, 200)
    panels = [frame[header:, i * (width + 8) :][:, :width] for i in range(3)]
    source = completion.clip.frames_u8[0]
    hidden = completion.objects[0].amodal_masks[0] & ~completion.objects[0].modal_masks[0]
    deep = hidden.copy()
    deep[:, :33] = deep[:, 43:] = deep[:8] = deep[18:] = False
    assert deep.any()
    assert np.array_equal(panels[0][deep], source[deep])
    tint = np.round(0.5 * source[deep] + 0.5 * np.array(object_colour(1)))
    assert np.abs(panels[1][deep] - tint).max() <= 1
    assert (panels[2][deep] == (10, 200, 0)).all()
    modal = completion.objects[0].modal_masks[0]
    assert np.array_equal(panels[2][modal], source[modal])
    outside = panels[2][60:, 60:]
    assert set(np.unique(outside)) == {190, 214}
    assert frame[:header].max() > 200  # captions


def test_visible_pixels_lie_over_other_objects_hidden_parts() -> None:
    completion = make_completion(ids=(1, 2))
    first, second = completion.objects
    assert (first.amodal_masks & second.modal_masks).any() and (second.amodal_masks & ~first.amodal_masks).any()
    panel = export.compose_content(completion, 0)
    for obj in completion.objects:
        assert np.array_equal(panel[obj.modal_masks[0]], completion.clip.frames_u8[0][obj.modal_masks[0]])


def test_object_colours_differ() -> None:
    colours = [object_colour(i) for i in range(1, 40)]
    assert len(set(colours)) == 39
    assert all(0 <= value <= 255 for colour in colours for value in colour)


# ---------------------------------------------------------------------------------------------------------------------
# all or nothing


def snapshot(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_an_earlier_output_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    save_completion(make_completion(ids=(1, 2, 3)), out)
    (out / "picture.png").write_bytes(b"what the demo adds")
    save_completion(make_completion(ids=(7,)), out)
    assert sorted(p.name for p in out.iterdir()) == ["7", "preview.mp4", "result.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    save_completion(make_completion(), tmp_path / "out")
    assert (tmp_path / "out" / "result.json").is_file()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    save_completion(make_completion(), tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "real" / "result.json").is_file()


def test_places_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text('{"score": 3}')
    save_completion(make_completion(), tmp_path / "ours")
    (tmp_path / "ours" / "notes.txt").write_text("mine")
    before = snapshot(tmp_path)
    table = {
        "file": "^out_dir: expected a folder, got '.*file', which is a file",
        "file/deeper/out": "^out_dir: expected a folder, got '.*out', which is a place inside the file '.*file'",
        "full": "^out_dir: expected a new or empty folder or an earlier output .*holds 'thesis.txt' and no result.json",
        "other": "^out_dir: expected a new or empty folder or an earlier output .*no result.json of ours",
        "ours": "^out_dir: expected nothing but an earlier output in '.*ours', got 'notes.txt' beside it",
    }
    for name, message in table.items():
        with pytest.raises(ValueError, match=message):
            check_out_dir(tmp_path / name)
        with pytest.raises(ValueError, match=message):
            save_completion(make_completion(), tmp_path / name)
    assert snapshot(tmp_path) == before
    with pytest.raises(ValueError, match="^out_dir: expected a folder to make"):
        check_out_dir("/")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(143)])
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    save_completion(make_completion(ids=(1,)), tmp_path / "old")
    before = all_files(tmp_path)

    def full_disk(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
        path.write_bytes(b"half a video")
        raise error

    monkeypatch.setattr(export, "write_mp4", full_disk)
    for place in (tmp_path / "old", tmp_path / "a" / "b" / "new"):
        with pytest.raises(type(error)):
            save_completion(make_completion(), place)
    assert all_files(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_the_earlier_output_survives_a_failed_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_completion(make_completion(ids=(1,)), tmp_path / "out")
    before = all_files(tmp_path)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        save_completion(make_completion(ids=(2,)), tmp_path / "out")
    assert all_files(tmp_path) == before


def test_a_place_taken_in_the_meantime_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds 'thesis.txt'"), replacing_folder(tmp_path / "out") as temp:
        (temp / "result.json").write_text("{}")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert snapshot(tmp_path) == ["out", "out/thesis.txt"]
