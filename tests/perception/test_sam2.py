"""SAM 2 as a tracker: a tiny random model of the real classes, in a folder laid out as the published ones; and which
tracker a name means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image

from diffvas import arrays
from diffvas.cli import main
from diffvas.masks import read_masks
from diffvas.perception import tracking
from diffvas.perception.frames import LazyClip
from diffvas.perception.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt, Prompt, TextPrompt
from diffvas.perception.sam2 import Sam2Tracker
from diffvas.types import Clip, ObjectTrack

H, W, T = 40, 60, 6


def save_model(folder: Path, presence: float = 5.0) -> Path:
    """``presence``: the bias of the head that says whether the object is there."""
    from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=4,
        num_attention_heads=1,
        image_size=[128, 128],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[4, 8, 16, 32],
        num_attention_heads_per_stage=[1, 1, 1, 1],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[32, 16, 8, 4],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=128,
    )
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": 128, "patch_size": 16},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
        image_size=128,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=16,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=16,
        memory_fuser_num_layers=1,
    )
    torch.manual_seed(0)
    model = Sam2VideoModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(presence)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shared_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="module")
def tracker(shared_model: Path) -> Sam2Tracker:
    found, line = tracking.load_tracker(str(shared_model), "cpu")
    assert isinstance(found, Sam2Tracker)
    assert line == f"tracker: SAM 2, {shared_model} (licence: see its card), float32 on cpu"
    return found


@pytest.fixture
def model(shared_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared_model, tmp_path / "spoiled"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def clip() -> Clip:
    coarse = np.random.default_rng(0).integers(0, 256, (T, 5, 7, 3), dtype=np.uint8)
    return Clip(arrays.resize_u8(coarse, (H, W)))


def block() -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[5:20, 10:30] = True
    return mask


def run(tracker: Sam2Tracker, clip: Clip, *objects: tuple[Prompt, ...]) -> list[np.ndarray]:
    tracks = tracker.track(clip, [ObjectPrompts(i, given) for i, given in enumerate(objects, start=1)])
    assert [track.object_id for track in tracks] == list(range(1, len(objects) + 1))
    return [track.modal_masks for track in tracks]


POINTS = (PointPrompt(2, 10, 10), PointPrompt(2, 40, 30, False))
BOX = (BoxPrompt(0, 3, 4, 30, 30), PointPrompt(0, 5, 5, False))


def test_every_kind_of_prompt_together(tracker: Sam2Tracker, clip: Clip) -> None:
    calls: list[tuple[str, int, int]] = []
    mask = (MaskPrompt(4, block()),)
    prompts = [ObjectPrompts(i, given) for i, given in enumerate((POINTS, BOX, mask), start=1)]
    tracks = tracker.track(clip, prompts, lambda *call: calls.append(call))
    masks = np.stack([track.modal_masks for track in tracks])
    assert masks.shape == (3, T, H, W) and masks.sum(0).max() == 1  # no pixel in two
    np.testing.assert_array_equal(masks[2, 4], block())  # as it was given
    assert calls[-1] == ("track", T + 4, T + 4)  # all forwards, four backwards
    again = tracker.track(clip, prompts)
    assert all(np.array_equal(a.modal_masks, b.modal_masks) for a, b in zip(tracks, again, strict=True))


def test_an_object_alone_is_tracked_as_by_transformers(tracker: Sam2Tracker, clip: Clip) -> None:
    """Against the model's own iterator, forwards and then in reverse, on frames prepared at once."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    frames = tracking.LazyFrames(clip, 128, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), torch.float32)
    session: Any = Sam2VideoInferenceSession(torch.stack([frames[t] for t in range(T)]), H, W, dtype=torch.float32)
    places = torch.tensor([[10 * 128 / W, 10 * 128 / H], [40 * 128 / W, 30 * 128 / H]])[None, None]
    session.add_point_inputs(
        session.obj_id_to_idx(1), 2, {"point_coords": places, "point_labels": torch.tensor([[[1, 0]]])}
    )
    session.obj_with_new_inputs = [1]
    tracker.model(session, frame_idx=2)
    plain = np.zeros((T, H, W), bool)
    for reverse in (False, True):
        for out in tracker.model.propagate_in_video_iterator(session, start_frame_idx=2, reverse=reverse):
            plain[out.frame_idx] = tracking.enlarge(out.pred_masks[:, 0], (H, W))[0] > 0
    (found,) = run(tracker, clip, POINTS)
    assert plain.any() and not plain.all()
    assert (found != plain).mean() < 0.002  # logits are kept in 16 bits


def test_objects_do_not_depend_on_each_other(tracker: Sam2Tracker, clip: Clip) -> None:
    both, alone = run(tracker, clip, POINTS, BOX), run(tracker, clip, POINTS)[0]
    assert (both[0] <= alone).all()  # but for what the other holds with more right


def test_a_negative_point_later_corrects(tracker: Sam2Tracker, clip: Clip) -> None:
    plain = run(tracker, clip, (MaskPrompt(0, block()),))[0]
    corrected = run(tracker, clip, (MaskPrompt(0, block()), PointPrompt(3, 20, 12, False)))[0]
    np.testing.assert_array_equal(corrected[:3], plain[:3])
    assert (corrected[3] != plain[3]).any()


def test_a_long_clip_keeps_no_more_than_it_looks_back_to(tracker: Sam2Tracker, monkeypatch: Any) -> None:
    monkeypatch.setattr(tracker.model.config, "max_object_pointers_in_encoder", 4)
    frames = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    kept: list[int] = []
    from diffvas.perception import sam2

    forget = sam2._Run._forget

    def count(self: Any, t: int) -> None:
        forget(self, t)
        outputs = self.session.output_dict_per_obj[0]
        kept.append(len(outputs["non_cond_frame_outputs"]))
        assert not any("high_res_masks" in out for out in outputs["non_cond_frame_outputs"].values())

    monkeypatch.setattr(sam2._Run, "_forget", count)
    mask = np.zeros((16, 16), bool)
    mask[3:9, 3:9] = True
    run(tracker, Clip(frames), (MaskPrompt(0, mask),))
    assert len(kept) == 29 and max(kept) <= 2 * 9


def test_no_object_under_the_prompt(tmp_path: Path, clip: Clip) -> None:
    blind = Sam2Tracker.load(save_model(tmp_path, presence=-50.0), "blind", "cpu")
    with pytest.raises(ValueError, match="^point: expected an object under 'point 2,10,10,\\+', got nothing there"):
        run(blind, clip, POINTS)


def test_refuses(tracker: Sam2Tracker, clip: Clip) -> None:
    with pytest.raises(ValueError, match="^text: a text prompt with no text model"):
        run(tracker, clip, (TextPrompt("cup"),))
    with pytest.raises(ValueError, match="^point: expected a frame from 0 to 5"):
        run(tracker, clip, (PointPrompt(6, 1, 1),))


def test_folders_that_hold_no_model(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(ValueError, match="expected a model of type sam2_video or sam3_video, got 'bert'"):
        tracking.load_tracker(str(model))
    (model / "config.json").write_text("{")
    with pytest.raises(ValueError, match="^tracker: expected readable JSON"):
        tracking.load_tracker(str(model))
    (model / "config.json").write_text(json.dumps(config))
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match="^tracker: the model in .* cannot be loaded"):
        tracking.load_tracker(str(model))
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickle files can run any program"):
        tracking.load_tracker(str(model))


def test_names(cache: Path) -> None:
    found, line = tracking.load_tracker("classic")
    assert line == f"tracker: {found.description}" and "no weights" in line
    found, line = tracking.load_tracker("auto")
    assert "classic" in line and "(auto: 'facebook/sam2.1-hiera-small' is neither" in line and "OFFLINE" in line
    with pytest.raises(tracking.AbsentError, match="^tracker: 'facebook/sam2.1-hiera-small' .*--tracker classic"):
        tracking.load_tracker("sam2")
    with pytest.raises(ValueError, match="got 'clasic'; did you mean classic"):
        tracking.load_tracker("clasic")


def test_auto_takes_what_is_cached(cache: Path, shared_model: Path) -> None:
    place = cache / "models--facebook--sam2.1-hiera-small"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0123456789abcdef")
    shutil.copytree(shared_model, place / "snapshots" / "0123456789abcdef")
    found, line = tracking.load_tracker("auto", "cpu")
    assert isinstance(found, Sam2Tracker)
    assert line == "tracker: auto: SAM 2, facebook/sam2.1-hiera-small@0123456 (Apache-2.0), float32 on cpu"


def test_a_text_without_a_text_model(cache: Path, clip: Clip) -> None:
    told = [ObjectPrompts(1, (TextPrompt("cup"),))]
    with pytest.raises(ValueError, match="^text: a text prompt with no text model: 'facebook/sam3' is neither"):
        tracking.track_prompts(clip, told)
    with pytest.raises(ValueError, match="^text: a text prompt with no text model: 'classic' takes no words"):
        tracking.track_prompts(clip, told, text_tracker="classic")


def test_what_is_shown_comes_before_what_is_told() -> None:
    left, right = np.zeros((2, 1, 1, 4), bool)
    left[..., :2], right[..., 1:] = True, True
    shown, told = [ObjectTrack(1, left)], [ObjectTrack(2, right), ObjectTrack(1, right), ObjectTrack(3, left)]
    merged = tracking.merge(shown, told)
    assert [(t.object_id, t.modal_masks.ravel().tolist()) for t in merged] == [
        (1, [True, True, False, False]),
        (2, [False, False, True, True]),
        (4, [False, False, True, True]),
    ]
    assert tracking.merge(shown, []) == shown


def test_where_several_are_the_highest_has_it() -> None:
    logits = np.array([[[1.0, -1.0, 2.0]], [[3.0, -2.0, 2.0]]])
    np.testing.assert_array_equal(tracking.exclusive(logits)[:, 0], [[False, False, True], [True, False, False]])


def test_frame_by_frame_is_the_same(tracker: Sam2Tracker, clip: Clip) -> None:
    """Read as needed and yielded as found: several objects, one of them first shown late and corrected earlier."""
    late = (PointPrompt(4, 20, 20), PointPrompt(1, 30, 30, False))
    prompts = [ObjectPrompts(i, given) for i, given in enumerate((POINTS, BOX, late), start=1)]
    lazy = LazyClip(lambda numbers: (clip.frames_u8[t] for t in numbers), T, (H, W), keep=2)
    masks = np.stack(list(tracker.stream(lazy, prompts)), 1)
    np.testing.assert_array_equal(masks, [track.modal_masks for track in tracker.track(clip, prompts)])


def test_an_object_added_later_leaves_the_others_alone(tracker: Sam2Tracker, clip: Clip) -> None:
    alone = run(tracker, clip, (MaskPrompt(0, block()),))[0]
    first, added = run(tracker, clip, (MaskPrompt(0, block()),), (PointPrompt(4, 50, 35), BoxPrompt(4, 40, 25, 58, 39)))
    assert added.any() and not (first & added).any()
    assert (first <= alone).all()  # what it lost, it lost to the other alone
    np.testing.assert_array_equal(first | (alone & added), alone)


def test_boxes_and_points_differ_and_points_add(tracker: Sam2Tracker, clip: Clip) -> None:
    point, box, both, more = (
        run(tracker, clip, given)[0]
        for given in (
            (PointPrompt(2, 10, 10),),
            (BoxPrompt(2, 4, 4, 30, 30),),
            (BoxPrompt(2, 4, 4, 30, 30), PointPrompt(2, 10, 10)),
            (PointPrompt(2, 10, 10), PointPrompt(2, 40, 20)),
        )
    )
    for one, other in ((point, box), (box, both), (point, more)):
        assert (one[2] != other[2]).any()


def test_points_and_boxes_reach_the_network_in_its_own_pixels(
    tracker: Sam2Tracker, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 x 40 pixels become 128 x 128; a box is its corners with labels 2 and 3, before the points (SAM's order)."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    seen: list[dict[str, torch.Tensor]] = []
    add = Sam2VideoInferenceSession.add_point_inputs

    def spy(self: Any, obj_idx: int, frame_idx: int, inputs: dict[str, torch.Tensor]) -> Any:
        seen.append(inputs)
        return add(self, obj_idx, frame_idx, inputs)

    monkeypatch.setattr(Sam2VideoInferenceSession, "add_point_inputs", spy)
    run(tracker, clip, (BoxPrompt(0, 0, 0, 60, 40), PointPrompt(0, 30, 10, False), PointPrompt(0, 15, 20)))
    (inputs,) = seen
    assert inputs["point_labels"].tolist() == [[[2, 3, 0, 1]]]
    np.testing.assert_allclose(inputs["point_coords"][0, 0], [[0, 0], [128, 128], [64, 32], [32, 64]], atol=1e-4)


@pytest.mark.weights
def test_through_the_command_line(
    shared_model: Path,
    tracker: Sam2Tracker,
    clip: Clip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``diffvas complete --tracker FOLDER`` to its end: frames in a folder, every kind of prompt, masks on the disk."""
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(clip.frames_u8):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{t:05d}.png")
    Image.fromarray(block()).save(tmp_path / "block.png")
    monkeypatch.chdir(tmp_path)
    words = ["--object", "a", "--point", "2,10,10", "--point", "2,40,30,-", "--object", "b", "--mask", "4,block.png"]
    words += ["--object", "c", "--box", "0,3,4,30,30", "--tracker", str(shared_model), "--save-masks", "masks"]
    words += ["--only-masks", "--samples", "1", "--steps", "1", "--device", "cpu", "--out", "out"]
    status = main.main(["complete", "frames", *words])
    err = capsys.readouterr().err
    assert status == 0, err
    assert f"tracker: SAM 2, {shared_model} (licence: see its card), float32 on cpu\n" in err
    assert "objects: 1 = a, 2 = b, 3 = c\n" in err
    wanted = run(tracker, clip, POINTS, (MaskPrompt(4, block()),), (BoxPrompt(0, 3, 4, 30, 30),))
    for saved, found in zip(read_masks("masks", (H, W), T), wanted, strict=True):
        np.testing.assert_array_equal(saved.modal_masks, found)
    for number, found in enumerate(wanted, start=1):
        amodal = np.stack([np.asarray(Image.open(f"out/{number}/amodal_masks/{t:05d}.png")) > 0 for t in range(T)])
        assert (amodal >= found).all()  # what was tracked is what was completed
