"""One training step, drawn per sample; a resumed run of the real networks; and the saved model that comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffvas.diffusion import edm
from diffvas.pipelines.completion import complete
from diffvas.pipelines.loading import load_pipelines
from diffvas.train import denoiser
from diffvas.train.bundle import DEFAULTS, save_model
from diffvas.train.cache import TOWER_SIZE
from diffvas.train.denoiser import DenoiserConfig, denoiser_loss, tiny_denoiser, train_denoiser
from diffvas.train.loop import Batch, LoopConfig
from diffvas.train.vae import tiny_vae
from diffvas.types import Clip
from factories import FRAMES, HEIGHT, WIDTH, make_scene

B, T, h, w = 8, 3, 4, 8


def make_batch(count: int = B, channels: int = 1, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    latents = {k: torch.randn(count, T, 4, h, w, generator=draw).half() for k in ("a", "b", "target")}
    bits = {
        k: torch.randint(0, 256, (count, T, 8 * h, w), generator=draw, dtype=torch.uint8) for k in ("amodal", "modal")
    }
    size = (count, T, channels, TOWER_SIZE, TOWER_SIZE)
    pixels = torch.randint(0, 256, size, generator=draw, dtype=torch.uint8)
    return {**latents, **bits, "pixels": pixels, "sigma": torch.rand(count, generator=draw) * 0.1}


class FakeModel:
    """Tokens of ones, and an output of zeros, so that the estimate is c_skip z."""

    def __init__(self) -> None:
        self.tower = SimpleNamespace(dtype=torch.float32)
        self.seen: dict[str, torch.Tensor] = {}

    def unet(self, x: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor, **options: Any) -> tuple[torch.Tensor]:
        self.seen = {"x": x, "t": t, "tokens": tokens, "ids": options["added_time_ids"]}
        return (torch.zeros_like(x[:, :, :4]),)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    monkeypatch.setattr(denoiser.conditioning, "clip_tokens", lambda tower, pixels: torch.ones(*pixels.shape[:2], 16))
    return FakeModel()


def test_everything_is_drawn_per_sample(fake: FakeModel) -> None:
    config = DenoiserConfig("amodal", (), noise_top=0.3, drop_b=0.4, drop_all=0.4)
    batch = make_batch()
    loss, numbers = denoiser_loss(fake, config, batch, torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(1)
    sigma = edm.NoiseLevels(1.0, 1.8, 0.3).sample(B, draw)
    p = torch.rand(2, B, generator=draw)
    noise = torch.randn(B, T, 4, h, w, generator=draw)
    everything, depth = p[0] >= 0.4, (p[0] >= 0.4) & (p[1] >= 0.4)
    assert 0 < depth.sum() < everything.sum() < B, "pick another seed"
    seen = fake.seen
    torch.testing.assert_close(seen["t"], sigma.log() / 4)
    torch.testing.assert_close(
        seen["ids"], torch.stack([torch.full((B,), 8.0), torch.full((B,), 127.0), batch["sigma"]], 1)
    )
    z = batch["target"].float() + sigma.view(-1, 1, 1, 1, 1) * noise
    for i in range(B):
        torch.testing.assert_close(seen["x"][i, :, :4], z[i] / (sigma[i] ** 2 + 1).sqrt())
        torch.testing.assert_close(seen["x"][i, :, 4:8], batch["a"][i].float() * everything[i])
        torch.testing.assert_close(seen["x"][i, :, 8:], batch["b"][i].float() * depth[i])
        assert (seen["tokens"][i] == everything[i]).all()
    each = torch.stack(
        [
            ((z[i] / (sigma[i] ** 2 + 1) - batch["target"][i].float()) ** 2).mean()
            * (1 + sigma[i] ** 2)
            / sigma[i] ** 2
            for i in range(B)
        ]
    )
    torch.testing.assert_close(loss, each.mean())
    top = sigma == edm.SIGMA_MAX
    assert top.any() and numbers == {"top": pytest.approx(each[top].mean().item())}


def test_only_what_there_is_gets_logged(fake: FakeModel) -> None:
    config = DenoiserConfig("amodal", (), noise_top=0.0, noise_mean=0.0)
    assert denoiser_loss(fake, config, make_batch(), torch.Generator().manual_seed(1))[1] == {}  # type: ignore[arg-type]


def test_hidden_parts_may_weigh_more(fake: FakeModel) -> None:
    batch = make_batch()
    batch["amodal"][:], batch["modal"][:] = 255, 0  # hidden everywhere
    config = DenoiserConfig("amodal", ())
    losses = [
        denoiser_loss(fake, replace(config, hidden_weight=x), batch, torch.Generator().manual_seed(1))[0]  # type: ignore[arg-type]
        for x in (0.0, 2.0)
    ]
    torch.testing.assert_close(losses[1], 3 * losses[0])


def test_hidden_share_by_hand() -> None:
    amodal, modal = np.zeros((1, 1, 16, 16), bool), np.zeros((1, 1, 16, 16), bool)
    amodal[..., :8, :12] = True
    modal[..., :8, :4] = True
    batch = {k: torch.from_numpy(np.packbits(m, axis=-1)) for k, m in (("amodal", amodal), ("modal", modal))}
    assert torch.equal(denoiser.unpack(batch["amodal"]), torch.from_numpy(amodal).float())
    share = denoiser.hidden_share(batch, (2, 2))
    assert share.shape == (1, 1, 1, 2, 2)
    assert share.flatten().tolist() == [0.5, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("channels", [1, 3])
def test_unet_and_tower_learn(channels: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny_denoiser()
    config = DenoiserConfig("content", (), drop_all=0.0)
    loss, _ = denoiser_loss(model, config, make_batch(2, channels), torch.Generator().manual_seed(0))
    assert loss.ndim == 0 and torch.isfinite(loss)
    loss.backward()
    for part in (model.unet.conv_in, model.unet.conv_out, model.tower.visual_projection):
        assert part.weight.grad is not None and part.weight.grad.abs().max() > 0


def write_cache(folder: Path) -> Path:
    folder.mkdir(parents=True)
    save_file(make_batch(3), folder / "shard-00000.safetensors")
    return folder


def test_real_networks_resume_to_the_bit(tmp_path: Path) -> None:
    config = DenoiserConfig("amodal", (str(write_cache(tmp_path / "cache")),), batch=1, spans=(2, 3))
    loop = LoopConfig(steps=4, warmup=1, save_every=2, log_every=4, bf16=False)

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
    assert load_file(tmp_path / "killed" / "average.safetensors").keys() == tiny_denoiser().state_dict().keys()
    with pytest.raises(ValueError, match="start: expected a training run with average.safetensors"):
        train_denoiser(replace(config, start=str(tmp_path / "cache")), loop, tmp_path / "other")


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
    with pytest.raises(ValueError, match="model: .*amodal cannot be loaded: "):
        load_pipelines(out, "cpu")


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


def test_models_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="model: expected a folder with amodal and content pipelines, .* has no amodal"
    ):
        load_pipelines(tmp_path, "cpu")
    with pytest.raises(ValueError, match="device: expected auto, cpu or cuda, got 'npu'"):
        load_pipelines(tmp_path, "npu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: expected a CUDA device"):
            load_pipelines(tmp_path, "cuda")
