"""Fitting: equal data, resuming, budgets, and the networks' own arithmetic."""

from __future__ import annotations

import json
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffvas.methods.base import Budget, as_options
from diffvas.methods.fit import Examples, MaskBatches
from diffvas.methods.latents import LatentOptions
from diffvas.methods.videomae import MaskVideoMAE, VideoMAEOptions, mask_loss
from method_cases import FRAMES, SIZE, TINY, fit_tiny, new_method, object_input, write_scenes, write_vae


@pytest.fixture(scope="module")
def examples() -> Examples:
    return Examples("flat", SIZE, FRAMES, 3)


def test_examples_are_numbered(examples: Examples) -> None:
    again = pickle.loads(pickle.dumps(examples))
    assert (again[5].amodal == examples[5].amodal).all() and (again[5].depth == examples[5].depth).all()
    assert (examples[5].amodal != examples[6].amodal).any()
    assert (Examples("flat", SIZE, FRAMES, 4)[5].amodal != examples[5].amodal).any()
    two, four = MaskBatches(examples, 2, FRAMES), MaskBatches(examples, 4, FRAMES)
    assert torch.equal(torch.cat([two[0]["modal"], two[1]["modal"]]), four[0]["modal"])
    longer = MaskBatches(examples, 1, FRAMES + 2)[0]["modal"]
    assert longer.shape[1] == FRAMES + 2 and torch.equal(longer[:, -1], longer[:, FRAMES - 1])
    assert MaskBatches(examples, 1, 3)[0]["depth"].shape == (1, 3, *SIZE)


def test_nothing_is_fitted_on_a_test_split(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 2)
    assert Examples(folder, SIZE)[0].modal.shape == (5, *SIZE)
    for name, text, said in (
        ("dataset.json", '{"split": "test-heldout-shapes"}', "a test-heldout-shapes split"),
        ("mini.json", "{}", "a test split"),
    ):
        (folder / name).write_text(text)
        for path in (folder, folder / "shard-00000.tar"):
            with pytest.raises(ValueError, match=said):
                Examples(path, SIZE)
        (folder / name).unlink()
    (folder / "dataset.json").write_text('{"split": "train"}')
    assert Examples(folder, SIZE).settings()["source"] == "scenes"


@pytest.mark.parametrize("name", ["videomae", "unet3d"])
def test_an_interrupted_fit_goes_on_to_the_same_weights(name: str, tmp_path: Path) -> None:
    vae = write_vae(tmp_path / "vae")

    def stop(stage: str, done: int, total: int) -> None:
        if done == 1:
            signal.raise_signal(signal.SIGINT)

    whole = fit_tiny(name, tmp_path / "whole", vae)
    with pytest.raises(KeyboardInterrupt):
        fit_tiny(name, tmp_path / "cut", vae, progress=stop)
    assert not (tmp_path / "cut" / "method.json").exists() and (tmp_path / "cut" / "checkpoint.pt").exists()
    seen: list[int] = []
    method = fit_tiny(name, tmp_path / "cut", vae, progress=lambda stage, done, total: seen.append(done))
    assert seen == [2] and method.digest == whole.digest
    fit_tiny(name, tmp_path / "cut", vae, progress=lambda stage, done, total: seen.append(done))
    assert seen == [2]  # finished: only loaded
    with pytest.raises(ValueError, match="holds another fit \\(steps: 2 -> 3\\)"):
        fit_tiny(name, tmp_path / "cut", vae, steps=3)


def test_encodings_are_kept_for_the_next_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffvas.methods import latents

    vae, real, calls = write_vae(tmp_path / "vae"), latents.encode, []
    monkeypatch.setattr(latents, "encode", lambda *args: calls.append(1) or real(*args))
    alone = fit_tiny("ours", tmp_path / "alone", vae)
    assert len(calls) == 2
    kept = {"kept": tmp_path / "kept"}
    fit_tiny("unet3d", tmp_path / "first", vae, data=kept)
    assert len(calls) == 4 and len(list((tmp_path / "kept").rglob("*.safetensors"))) == 4
    assert fit_tiny("ours", tmp_path / "second", vae, data=kept).digest == alone.digest and len(calls) == 4
    (tmp_path / "kept" / "00000" / "00000001.safetensors").write_bytes(b"cut")
    assert fit_tiny("ours", tmp_path / "third", vae, data=kept).digest == alone.digest and len(calls) == 5
    with pytest.raises(ValueError, match="holds other encodings \\(.*seed: 3 -> 4"):
        fit_tiny("ours", tmp_path / "other", vae, data={**kept, "seed": 4})


def test_a_budget_of_seconds_is_settled_once(examples: Examples, tmp_path: Path) -> None:
    method = new_method("videomae")
    budget = Budget(seconds=1e-9, batch=1)
    method.fit(examples, seed=0, budget=budget, out=tmp_path)
    settled = json.loads((tmp_path / "steps.json").read_text())
    assert settled["steps"] == 1 and settled["seconds_per_step"] > 0
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 1


def test_sizes_have_to_fit(examples: Examples, tmp_path: Path) -> None:
    method = new_method("videomae", size=(64, 64))
    with pytest.raises(ValueError, match="expected size \\(64, 64\\) like the network's, got \\(32, 64\\)"):
        method.fit(examples, seed=0, budget=Budget(steps=1), out=tmp_path)
    with pytest.raises(ValueError, match="multiples of 32"):
        LatentOptions(size=(48, 64))
    with pytest.raises(ValueError, match="multiples of 8"):
        VideoMAEOptions(size=(60, 64))
    with pytest.raises(ValueError, match="expected a fitted or loaded VideoMAE"):
        method.predict(object_input())


# ---------------------------------------------------------------------------------------------------------------------
# VideoMAE


def tiny_videomae() -> MaskVideoMAE:
    torch.manual_seed(0)
    return MaskVideoMAE(as_options(VideoMAEOptions, TINY["videomae"])).eval()


def test_patches_go_back_to_their_places() -> None:
    model = tiny_videomae()
    video = torch.randn(2, 6, *SIZE)
    # as VideoMAE cuts a video for its loss: frames and pixels of a token, channels last
    tokens = video.view(2, 3, 2, 4, 8, 8, 8).permute(0, 1, 3, 5, 2, 4, 6)[..., None].expand(*[-1] * 7, 3)
    assert torch.allclose(model.unpatch(tokens.reshape(2, 3 * 4 * 8, -1)), video, atol=1e-6)


def test_padding_counts_for_nothing() -> None:
    model = tiny_videomae()
    assert model.options.padded == 6
    batch = {
        "modal": torch.rand(1, 6, *SIZE) < 0.5,
        "depth": torch.rand(1, 6, *SIZE),
        "amodal": torch.zeros(1, 6, *SIZE) > 0,
    }
    with torch.inference_mode():
        loss, _ = mask_loss(model, batch)
        batch["amodal"][:, 5:] = True
        assert mask_loss(model, batch)[0] == loss


def test_pretrained_weights_are_widened_with_zeros(tmp_path: Path) -> None:
    from transformers import VideoMAEForPreTraining

    options = as_options(VideoMAEOptions, TINY["videomae"])
    config = options.config()
    config.num_channels, config.num_frames, config.image_size = 3, 16, 32
    VideoMAEForPreTraining(config).save_pretrained(tmp_path)
    model = MaskVideoMAE(options).eval()
    model.start_from(str(tmp_path))
    modal = torch.rand(1, 6, *SIZE) < 0.5
    with torch.inference_mode():
        far, near = (model(modal, torch.full((1, 6, *SIZE), value)) for value in (0.0, 1.0))
        other = model(~modal, torch.zeros(1, 6, *SIZE))
    assert torch.equal(far, near) and not torch.equal(far, other)
    given = load_file(tmp_path / "model.safetensors")
    name = "videomae.embeddings.patch_embeddings.projection.weight"
    assert torch.equal(model.net.state_dict()[name][:, :3], given[name])
    with pytest.raises(ValueError, match="start: expected weights of these options"):
        MaskVideoMAE(as_options(VideoMAEOptions, {**TINY["videomae"], "width": 32})).start_from(str(tmp_path))
    with pytest.raises(ValueError, match="start: expected VideoMAE's weights in"):
        model.start_from(str(tmp_path / "nowhere"))


def test_it_learns_one_example(examples: Examples, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny_videomae().train()
    batch = MaskBatches(examples, 1, 6)[0]
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss, _ = mask_loss(model, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0] and np.isfinite(losses).all()
