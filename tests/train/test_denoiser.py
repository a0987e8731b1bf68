"""Runs of the real networks: resumed, widened, finished; and the saved model that comes of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffvas.pipelines.completion import complete
from diffvas.pipelines.loading import load_pipelines
from diffvas.train import denoiser
from diffvas.train.bundle import DEFAULTS, average_runs, save_model
from diffvas.train.cache import fingerprint, load_vae
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import as_pipeline, load_run, tiny_denoiser, train_denoiser
from diffvas.train.log import read_lines
from diffvas.train.loop import LoopConfig
from diffvas.train.step import denoise
from diffvas.train.vae import tiny_vae
from diffvas.types import Clip
from factories import FRAMES, HEIGHT, WIDTH, make_scene
from train_factories import make_batch, write_cache

FAST = LoopConfig(steps=4, warmup=1, save_every=2, log_every=4, precision="fp32")


NARROW = (32, 32, 32)  # a checkpoint of the real widths takes 200 MB


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_cache(tmp_path_factory.mktemp("caches") / "cache"))


def test_real_networks_resume_to_the_bit(tmp_path: Path, cache: str) -> None:
    config, loop = DenoiserConfig("amodal", (cache,), batch=1, spans=(2, 3), widths=NARROW), FAST

    def kill(done: int, total: int, line: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    straight = train_denoiser(config, loop, tmp_path / "straight", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        train_denoiser(config, loop, tmp_path / "killed", kill)
    resumed = train_denoiser(config, loop, tmp_path / "killed", lambda *_: None)
    assert all(torch.equal(straight[k], resumed[k]) for k in straight)
    saved = load_file(tmp_path / "killed" / "average.safetensors")
    assert saved.keys() == straight.keys() and all(torch.equal(straight[k], saved[k]) for k in saved)
    assert saved.keys() == tiny_denoiser(12, NARROW).state_dict().keys()
    with pytest.raises(ValueError, match="start: expected a training run with average.safetensors"):
        train_denoiser(replace(config, start=cache), loop, tmp_path / "other")
    with pytest.raises(ValueError, match=r"out: .* holds a run with other settings \(denoiser.drop_b: 0.25 -> 0.5\)"):
        train_denoiser(replace(config, drop_b=0.5), loop, tmp_path / "killed")


def test_two_stages(tmp_path: Path, cache: str) -> None:
    """A mask-only run, widened by channels of zeros, computes what it did before; depth is learned from there."""
    first = DenoiserConfig(data=(cache,), batch=2, conditions=("mask",), widths=NARROW)
    train_denoiser(first, replace(FAST, steps=1), tmp_path / "mask", quiet)
    narrow, config = load_run(tmp_path / "mask")
    assert config.inputs == ("a",) and narrow.unet.config.in_channels == 8
    second = DenoiserConfig(
        data=(cache,), start=str(tmp_path / "mask"), batch=2, drop_b=0.0, drop_all=0.0, widths=NARROW
    )
    wide = denoiser.build(second, 0).eval()
    assert wide.unet.config.in_channels == 12
    batch = make_batch(1)
    z, sigma = torch.randn(1, 3, 4, 4, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0])
    with torch.no_grad():
        before = denoise(narrow, batch, z, sigma, config)
        torch.testing.assert_close(denoise(wide, batch, z, sigma, second), before)
        other = denoiser.build(replace(second, random_channels=True), 0).eval()
        assert not torch.allclose(denoise(other, batch, z, sigma, second), before, atol=1e-4)
    train_denoiser(second, replace(FAST, steps=1), tmp_path / "both", quiet)
    assert load_run(tmp_path / "both")[0].unet.conv_in.weight[:, 8:].abs().max() > 0
    with pytest.raises(ValueError, match="start: expected conditions that come first among a, got a, b"):
        denoiser.build(replace(first, start=str(tmp_path / "both")), 0)
    with pytest.raises(ValueError, match="start: expected conditions that come first among a, rgb, got a, b"):
        denoiser.build(replace(second, conditions=("mask", "rgb"), start=str(tmp_path / "both")), 0)


def test_pretrained_networks_train_their_temporal_blocks(tmp_path: Path, cache: str) -> None:
    """A folder in SVD's layout, here a small one with 8 input channels, is widened; little of it trains or is saved."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        svd = tiny_denoiser(8, NARROW)
    as_pipeline(svd, tiny_vae(), "amodal").save_pretrained(tmp_path / "svd")
    config = DenoiserConfig(data=(cache,), model=str(tmp_path / "svd"), trained="temporal", checkpointing=True, batch=1)
    train_denoiser(config, replace(FAST, steps=2), tmp_path / "run", quiet)
    saved = load_file(tmp_path / "run" / "average.safetensors")
    assert saved.keys() < svd.state_dict().keys()
    assert all(k.startswith("unet.conv_in.") or "temporal_transformer_blocks" in k for k in saved)
    again, _ = load_run(tmp_path / "run")
    after, before = again.state_dict(), svd.state_dict()
    assert torch.equal(after["unet.conv_out.weight"], before["unet.conv_out.weight"])
    name = next(k for k in saved if "temporal" in k and k.endswith("to_v.weight"))
    assert not torch.equal(after[name], before[name])
    # a stage of a saved model is a start as well
    as_pipeline(again, tiny_vae(), "amodal").save_pretrained(tmp_path / "model")
    start = denoiser.build(DenoiserConfig(start=str(tmp_path / "model")), 0)
    assert torch.equal(start.state_dict()[name], after[name])
    with pytest.raises(ValueError, match="model: expected "):
        denoiser.build(replace(config, model=str(tmp_path)), 0)


def test_finishing_with_its_decoder(tmp_path: Path, cache: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        vae = tiny_vae()
    vae.save_pretrained(tmp_path / "vae")
    first = DenoiserConfig(data=(cache,), batch=1, widths=NARROW)
    train_denoiser(first, replace(FAST, steps=1), tmp_path / "start", quiet)
    config = replace(
        first,
        start=str(tmp_path / "start"),
        objective="finish",
        vae=str(tmp_path / "vae"),
        train_decoder=True,
        val=(str(write_cache(tmp_path / "held_out", count=2)),),
        val_clips=2,
    )
    state = train_denoiser(config, replace(FAST, steps=2), tmp_path / "run", quiet)
    saved = load_file(tmp_path / "run" / "average.safetensors")
    assert saved.keys() == tiny_denoiser(12, NARROW).state_dict().keys(), "a run that others can start from"
    finished = load_vae(tmp_path / "run" / "vae")
    assert torch.equal(finished.decoder.conv_out.weight, state["vae.decoder.conv_out.weight"])
    assert not torch.equal(finished.decoder.conv_out.weight, vae.decoder.conv_out.weight)
    assert fingerprint(finished) == fingerprint(vae), "the caches stay good"
    assert [line["step"] for line in read_lines(tmp_path / "run" / "validation.jsonl")] == [0, 2]
    for changes, message in (
        ({"vae": ""}, "vae: expected the VAE of the caches to finish a model"),
        ({"vae": "", "objective": "diffusion", "train_decoder": False}, "vae: expected the VAE .* to validate"),
        ({"val_every": 3}, "val_every: expected a multiple of save_every, 2"),
        ({"start": str(tmp_path / "run"), "data": ()}, "data: expected one or more latent caches, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            train_denoiser(replace(config, **changes), FAST, tmp_path / "bad", quiet)
    assert not (tmp_path / "bad").exists()


def test_runs_of_older_versions(tmp_path: Path, cache: str) -> None:
    """Their settings lack what was added since and hold what has gone; their checkpoints hold all weights."""
    config = DenoiserConfig(data=(cache,), batch=1, widths=NARROW)
    straight = train_denoiser(config, FAST, tmp_path / "straight", quiet)
    train_denoiser(config, replace(FAST, steps=2), tmp_path / "old", quiet)
    path = tmp_path / "old" / "config.json"
    settings = json.loads(path.read_text())
    old = {k: v for k, v in settings.items() if k in ("steps", "lr", "warmup", "seed")} | {"bf16": False, "steps": 4}
    old["denoiser"] = {k: settings["denoiser"][k] for k in ("stage", "data", "batch", "spans", "drop_b", "widths")}
    path.write_text(json.dumps(old))
    assert load_run(tmp_path / "old")[1] == config
    build = denoiser.build(replace(config, start=str(tmp_path / "old")), 0)
    assert build.unet.config.in_channels == 12
    resumed = train_denoiser(config, FAST, tmp_path / "old", quiet)
    assert resumed.keys() == straight.keys()


def test_heads_divide_their_level() -> None:
    assert [denoiser.heads_of(width) for width in (32, 64, 96, 128, 160, 192, 256)] == [1, 1, 2, 2, 2, 3, 4]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE and runs of both stages, as training leaves them."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("vae", "other_vae"):
        tiny_vae().save_pretrained(root / name)
    for stage in ("amodal", "content"):
        (root / stage).mkdir()
        save_file(tiny_denoiser().state_dict(), root / stage / "average.safetensors")
        (root / stage / "config.json").write_text(f'{{"denoiser": {{"stage": "{stage}"}}}}')
    return root


def test_a_bundled_model_is_loaded_and_used(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    one = {
        "steps": 1,
        "samples": 2,
        "guidance": 1.0,
        "threshold": 0.4,
        "area": HEIGHT * WIDTH,
        "frames": FRAMES,
        "focus": 1.5,
    }
    stages = {stage: runs / stage for stage in ("amodal", "content")}
    save_model(dict.fromkeys(stages, runs / "vae"), stages, out, {"amodal": one, "content": one})
    weights = sorted(str(p.relative_to(out)) for p in out.rglob("*.safetensors"))
    assert len(weights) == 5 and "content/vae" not in " ".join(weights), "the VAE is stored once"
    assert {x.dtype for p in out.rglob("*.safetensors") for x in load_file(p).values()} == {torch.float16}
    model = load_pipelines(out, "cpu")
    assert (model.area, model.frames, model.focus, model.name) == (HEIGHT * WIDTH, FRAMES, 1.5, str(out))
    assert model.content.vae is model.amodal.vae
    scene = make_scene()
    done = complete(Clip(scene.frames_u8), scene.modal_mask(0), model=model)
    assert done.settings["samples"] == 2 and done.objects[0].probability is not None
    # again: the older model is replaced, its card stays
    (out / "README.md").write_text("card")
    save_model({**dict.fromkeys(stages, runs / "vae"), "content": runs / "other_vae"}, stages, out)
    assert (out / "README.md").read_text() == "card"
    again = load_pipelines(out, "cpu")
    assert again.area == DEFAULTS["amodal"]["area"]
    assert again.content.vae is not again.amodal.vae
    (out / "amodal" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="model: .*amodal.*broken"):
        load_pipelines(out, "cpu")


def test_runs_are_averaged(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs / "amodal", other)
    weights = load_file(other / "average.safetensors")
    save_file({name: value + 2 for name, value in weights.items()}, other / "average.safetensors")
    mean = average_runs([runs / "amodal", other]).state_dict()
    one = load_run(runs / "amodal")[0].state_dict()
    for name, value in one.items():
        torch.testing.assert_close(mean[name], value + 1 if value.is_floating_point() else value, msg=name)


def test_bad_bundles(runs: Path, tmp_path: Path) -> None:
    stages = {"amodal": runs / "amodal", "content": runs / "content"}
    with pytest.raises(ValueError, match="content: expected a training run of this stage, got .* which trained amodal"):
        save_model(dict.fromkeys(stages, runs / "vae"), {**stages, "content": runs / "amodal"}, tmp_path / "out")
    with pytest.raises(ValueError, match="amodal: expected a training run with average.safetensors"):
        save_model(dict.fromkeys(stages, runs / "vae"), {**stages, "amodal": runs / "vae"}, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="out: expected a new folder or a model to replace"):
        save_model(dict.fromkeys(stages, runs / "vae"), stages, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists() and not (tmp_path / "out").exists()
