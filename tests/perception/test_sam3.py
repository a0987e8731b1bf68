"""SAM 3 for texts: a tiny random model of the real classes and a tokenizer of single letters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffvas import arrays
from diffvas.perception import tracking
from diffvas.perception.prompts import MaskPrompt, ObjectPrompts, PointPrompt, TextPrompt
from diffvas.perception.sam3 import Sam3Tracker, _Helpers
from diffvas.types import Clip

H, W, T = 40, 60, 4


def save_model(folder: Path, threshold: float = 0.1) -> Path:
    """``threshold``: how sure a find must be; above 1, nothing is ever found."""
    from transformers import Sam3VideoConfig, Sam3VideoModel

    small = {"hidden_size": 128, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 112, "pretrain_image_size": 56, "window_size": 4,
            "global_attn_indexes": [1],
        },
        "fpn_hidden_size": 128,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }  # fmt: skip
    text = {
        "model_type": "clip_text_model", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32,
        "projection_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": small,
        "detr_encoder_config": small,
        "detr_decoder_config": {**small, "num_queries": 5},
        "mask_decoder_config": {"hidden_size": 128, "num_attention_heads": 2},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": 128, "image_size": 112, "patch_size": 14},
        "mask_decoder_config": {
            "hidden_size": 128, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
        "image_size": 112,
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 16,
        "memory_attention_rope_feat_sizes": [8, 8],
        "memory_encoder_hidden_size": 128,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": 128,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 16,
        "memory_fuser_num_layers": 1,
    }  # fmt: skip
    config = Sam3VideoConfig(
        detector_config=detector,
        tracker_config=tracker,
        low_res_mask_size=32,
        hotstart_delay=0,
        score_threshold_detection=threshold,
        new_det_thresh=threshold,
    )
    torch.manual_seed(0)
    model = Sam3VideoModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)
    model.save_pretrained(folder)
    letters = [chr(code) for code in range(97, 123)]
    words = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": words[1], "eos_token": words[2], "unk_token": words[2], "pad_token": words[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", **special}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="module")
def tracker(folder: Path) -> Sam3Tracker:
    found, line = tracking.load_tracker(str(folder), "cpu")
    assert isinstance(found, Sam3Tracker)
    assert line == f"tracker: SAM 3, {folder} (licence: see its card), float32 on cpu"
    return found


@pytest.fixture(scope="module")
def clip() -> Clip:
    coarse = np.random.default_rng(0).integers(0, 256, (T, 5, 7, 3), dtype=np.uint8)
    return Clip(arrays.resize_u8(coarse, (H, W)))


CUP = ObjectPrompts(1, (TextPrompt("red cup"),))
DOG = ObjectPrompts(7, (TextPrompt("dog"),))


def test_texts_become_tracks(tracker: Sam3Tracker, clip: Clip) -> None:
    calls: list[tuple[str, int, int]] = []
    tracks = tracker.track(clip, [CUP, DOG], lambda *call: calls.append(call))
    ids = [track.object_id for track in tracks]
    assert len(set(ids)) == len(ids) and {1, 7} <= set(ids) and all(i in (1, 7) or i > 7 for i in ids)
    masks = np.stack([track.modal_masks for track in tracks])
    assert masks.shape[1:] == (T, H, W) and masks.sum(0).max() == 1
    assert calls == [("track", t + 1, T) for t in range(T)]
    again = tracker.track(clip, [CUP, DOG])
    assert all(np.array_equal(a.modal_masks, b.modal_masks) for a, b in zip(tracks, again, strict=True))


def test_the_same_words_twice_are_two_objects(tracker: Sam3Tracker, clip: Clip) -> None:
    try:
        tracks = tracker.track(clip, [CUP, ObjectPrompts(2, (TextPrompt("red cup"),))])
    except ValueError as error:  # the second may have found all its pixels taken
        assert "fits 'red cup'" in str(error)
    else:
        assert {1, 2} <= {track.object_id for track in tracks}


def test_shown_and_told_together(folder: Path, clip: Clip) -> None:
    mask = np.zeros((H, W), bool)
    mask[5:20, 10:30] = True
    shown = ObjectPrompts(2, (MaskPrompt(0, mask),))
    tracks, lines = tracking.track_prompts(clip, [CUP, shown], "classic", text_tracker=str(folder), device="cpu")
    assert [line.split(",")[0] for line in lines] == ["tracker: SAM 3", "tracker: classic (no weights): colour"]
    assert {1, 2} <= {track.object_id for track in tracks}
    np.testing.assert_array_equal(next(t for t in tracks if t.object_id == 2).modal_masks[0], mask)
    assert np.sum([track.modal_masks for track in tracks], 0).max() == 1


def test_nothing_fits(tmp_path: Path, clip: Clip) -> None:
    strict = Sam3Tracker.load(save_model(tmp_path, threshold=1.5), "strict", "cpu")
    with pytest.raises(ValueError, match="^text: expected something that fits 'dog' in the clip, got nothing"):
        strict.track(clip, [DOG])


def test_refuses(tracker: Sam3Tracker, clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^text: expected texts alone for SAM 3, got 'point 0,1,1,\\+'"):
        tracker.track(clip, [ObjectPrompts(1, (PointPrompt(0, 1, 1),))])
    with pytest.raises(ValueError, match="^tracker: the tokenizer in .* cannot be loaded"):
        Sam3Tracker.load(tmp_path, "", "cpu")


def test_double_finds_are_suppressed() -> None:
    ious = torch.tensor([[1.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.0, 0.3, 1.0]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    assert _Helpers.generic_nms(ious, scores, 0.5).tolist() == [1, 2]
    assert _Helpers.generic_nms(ious, scores, 0.1).tolist() == [1]


def test_connected_parts() -> None:
    mask = torch.tensor([[[[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 1]]]], dtype=torch.uint8)
    labels, counts = _Helpers.cc_2d(mask)
    assert counts[0, 0].tolist() == [[2, 2, 0, 0], [0, 0, 0, 3], [0, 0, 0, 3], [1, 0, 0, 3]]
    assert len(labels.unique()) == 4 and labels[0, 0, 0, 0] == labels[0, 0, 0, 1] != labels[0, 0, 3, 0]
