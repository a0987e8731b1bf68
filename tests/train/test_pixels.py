"""Networks on pixels: their examples, batches, losses, a run that resumes, and a model that gets them."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffvas.data import examples
from diffvas.data.examples import is_held_out
from diffvas.diffusion.pixel_net import PixelNet
from diffvas.focus import Box
from diffvas.pipelines import loading
from diffvas.pipelines.colours import INPUTS as COLOUR_INPUTS
from diffvas.pipelines.finish import AGAIN, INPUTS, finish
from diffvas.pipelines.front import INPUTS as FRONT_INPUTS
from diffvas.pipelines.front import wide_size
from diffvas.pipelines.sight import Seen
from diffvas.train import pixel_material
from diffvas.train.bundle import add_nets
from diffvas.train.loop import LoopConfig
from diffvas.train.pixel_material import MAKERS, PLAIN, RARE, chunk_starts, spoil_colours
from diffvas.train.pixels import (
    RECIPES,
    ExampleConfig,
    PreparedFrames,
    colours_loss,
    finish_loss,
    front_loss,
    look_finish,
    prepare,
    shard_path,
    train_pixels,
    unpack_bits,
)
from diffvas.types import Extent
from diffvas.world.storage import write_scene_clip
from factories import FRAMES, make_scene
from pixel_nets import model_with_nets, random_nets

SIZE = (32, 32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("scenes")
    name = next(f"scene{k}" for k in range(50) if not is_held_out(f"scene{k}"))
    write_scene_clip(folder / f"{name}.npz", make_scene(name))
    return str(folder)


def config(net: str, source: str) -> ExampleConfig:
    return ExampleConfig(
        net, source, SIZE, shards=2, per_shard=2, frames=FRAMES, seed=3, model="random", front="random"
    )


@pytest.fixture
def random_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model whose parts are asked is a random one."""
    model = replace(model_with_nets(), area=SIZE[0] * SIZE[1])
    monkeypatch.setattr(pixel_material, "_model", lambda name: model)
    monkeypatch.setattr(pixel_material, "_whole_model", lambda name: model)
    monkeypatch.setattr(pixel_material, "_front", lambda name: random_nets()["front"])


@pytest.mark.parametrize("net", list(RECIPES))
def test_examples_depend_on_their_key_alone(net: str, source: str, tmp_path: Path, random_model: None) -> None:
    prepare(config(net, source), MAKERS[net], tmp_path / "a")
    first = load_file(shard_path(tmp_path / "a", 1))
    shard_path(tmp_path / "a", 1).unlink()
    kept = shard_path(tmp_path / "a", 0).stat().st_mtime_ns
    told: list[tuple[int, int]] = []
    prepare(config(net, source), MAKERS[net], tmp_path / "a", progress=lambda n, all_: told.append((n, all_)))
    again = load_file(shard_path(tmp_path / "a", 1))
    assert told == [(2, 2)] and shard_path(tmp_path / "a", 0).stat().st_mtime_ns == kept
    assert first.keys() == again.keys() and all(torch.equal(first[k], again[k]) for k in first)
    other = load_file(shard_path(tmp_path / "a", 0))
    assert any(not torch.equal(first[k], other[k]) for k in first)
    with pytest.raises(ValueError, match=r"out: .* holds examples with other settings \(seed: 3 -> 4\)"):
        prepare(replace(config(net, source), seed=4), MAKERS[net], tmp_path / "a")


def test_more_shards_may_be_added(source: str, tmp_path: Path) -> None:
    prepare(config("front", source), MAKERS["front"], tmp_path)
    prepare(replace(config("front", source), shards=3), MAKERS["front"], tmp_path)
    assert len(list(tmp_path.glob("shard-*"))) == 3


@pytest.mark.parametrize(("net", "channels"), [("front", FRONT_INPUTS), ("finish", INPUTS), ("colours", COLOUR_INPUTS)])
def test_batches(net: str, channels: int, source: str, tmp_path: Path, random_model: None) -> None:
    prepare(config(net, source), MAKERS[net], tmp_path)
    frames = PreparedFrames([tmp_path], [], 2, 2, 5, RECIPES[net].look)
    batch = frames[7]
    size = wide_size(SIZE) if net == "front" else SIZE
    assert batch["x"].shape[1:] == (channels, *size) and 2 <= len(batch["x"]) <= 4
    assert -1.001 <= batch["x"].min() and batch["x"].max() <= 1.001
    frames[8]
    again = PreparedFrames([tmp_path], [], 2, 2, 5, RECIPES[net].look)[7]
    assert all(torch.equal(batch[k], again[k]) for k in batch)
    loss, numbers = RECIPES[net].loss(random_nets()[net], batch)
    assert torch.isfinite(loss) and loss.requires_grad and all(v == v for v in numbers.values())


def test_rows_are_mirrored_as_a_whole(source: str, tmp_path: Path) -> None:
    """Truth and inputs are turned together: where the truth says hidden, the object is not visible."""
    prepare(config("front", source), MAKERS["front"], tmp_path)
    frames = PreparedFrames([tmp_path], [], 2, FRAMES, 0, RECIPES["front"].look)
    for step in range(6):
        batch = frames[step]
        modal, counts = batch["x"][:, 3] > 0, batch["truth"][:, 1] >= 1
        assert not (modal & counts).any()


def test_what_points_sideways_turns_round_in_the_mirror(source: str, tmp_path: Path) -> None:
    prepare(config("front", source), MAKERS["front"], tmp_path)
    recipe = RECIPES["front"]
    plain, turned = (PreparedFrames([tmp_path], [], 2, FRAMES, 0, recipe.look, s) for s in ((), recipe.sideways))
    signs = set()
    for step in range(4):
        a, b = plain[step]["x"], turned[step]["x"]
        for channel in range(a.shape[1]):
            for one, other in zip(a[:, channel], b[:, channel], strict=True):
                same = torch.equal(one, other)
                assert same or (channel in recipe.sideways and torch.equal(one, -other))
                signs.add((channel in recipe.sideways, same))
    assert (True, False) in signs and (True, True) in signs


def test_frames_with_nothing_hidden_are_rare(source: str, tmp_path: Path) -> None:
    prepare(config("front", source), MAKERS["front"], tmp_path)
    rows = load_file(shard_path(tmp_path, 0))
    for k in range(2):
        amodal, modal = (unpack_bits(rows[name][k]) for name in ("amodal", "modal"))
        hidden = (amodal & ~modal).sum((1, 2)) >= 16
        np.testing.assert_allclose(rows["weight"][k], np.where(hidden, 1, RARE))


def test_frames_with_nothing_hidden_count_more_with_front(source: str, tmp_path: Path, random_model: None) -> None:
    for front, least in (("random", PLAIN), ("", RARE)):
        folder = tmp_path / f"by-{front}"
        prepare(replace(config("finish", source), front=front, per_shard=4), MAKERS["finish"], folder)
        rows = load_file(shard_path(folder, 0))
        amodal, modal = (unpack_bits(rows[name]) for name in ("amodal", "modal"))
        hidden = (amodal & ~modal).sum((2, 3)) >= 16
        assert hidden.any() and not hidden.all()
        np.testing.assert_allclose(rows["weight"], np.where(hidden, 1, least))


@pytest.mark.parametrize("count", [8, 12, 16, 25])
def test_every_frame_has_its_turn(count: int) -> None:
    seen: set[int] = set()
    for seed in range(60):
        starts = chunk_starts(count, 8, np.random.default_rng(seed)).tolist()
        assert len(starts) == count // 8 and all(b - a == 8 for a, b in itertools.pairwise(starts))
        seen |= {frame for start in starts for frame in range(start, start + 8)}
    assert seen == set(range(count))


def test_finished_masks_are_learned_in_boxes_around_the_whole_object(
    source: str, monkeypatch: pytest.MonkeyPatch, random_model: None
) -> None:
    """Other frames are said to know that the ball goes on far to the right: it then lies left in its boxes."""
    model = replace(model_with_nets(), area=SIZE[0] * SIZE[1], memory=True, focus=1.6)
    monkeypatch.setattr(pixel_material, "_model", lambda name: model)
    monkeypatch.setattr(pixel_material, "choose_object", lambda scene, rng: 0)
    monkeypatch.setattr(examples, "WHOLE_FRAME", 0.0)
    asked: list[Seen] = []

    def around(seen: Seen, boxes: list[Box], extents: list[Extent]) -> tuple[list[Extent], list[float]]:
        asked.append(seen)
        return [(top, bottom, left, right + 2 * (right - left)) for top, bottom, left, right in extents], [1.0] * FRAMES

    monkeypatch.setattr(pixel_material, "whole_extents", around)
    kinds = replace(config("finish", source), spoil=False, per_shard=8)
    made = [MAKERS["finish"](kinds, [3, 0, k]) for k in range(4)]
    times = len(asked)
    assert times >= 4 and all(seen.front is not None for seen in asked), "asked as the pipelines would"
    middle = [np.nonzero(unpack_bits(one["amodal"]).any((0, 1)))[0].mean() for one in made]
    assert np.mean(middle) < 0.4 * SIZE[1]
    monkeypatch.setattr(pixel_material, "_model", lambda name: replace(model, memory=False))
    plain = [MAKERS["finish"](kinds, [3, 0, k]) for k in range(4)]
    assert len(asked) == times, "a model without a memory has nobody to ask"
    middle = [np.nonzero(unpack_bits(one["amodal"]).any((0, 1)))[0].mean() for one in plain]
    assert abs(np.mean(middle) / SIZE[1] - 0.5) < 0.07


def test_examples_tell_what_the_model_says_before(
    source: str, monkeypatch: pytest.MonkeyPatch, random_model: None
) -> None:
    """Of every frame and of the others, for it to be asked again; nothing where the model has nobody to say it."""
    kinds = replace(config("finish", source), frames=8)
    one = MAKERS["finish"](kinds, [3, 0, 0])
    said = one["again"]
    assert said.shape == (len(one["maps"]), AGAIN, *SIZE) and said.dtype == torch.uint8
    at = np.array([1, 4])
    x = look_finish(one, at)["x"]
    assert x.shape == (2, INPUTS, *SIZE)
    assert torch.equal(x[:, -AGAIN:], said[at].float() / 127.5 - 1)
    soft, known = (x[:, :1].numpy() + 1) / 2, x[:, 1:-AGAIN].numpy()
    net = pixel_material._model("random").finish
    assert net is not None
    first = finish(net, soft[:, 0], known, int(one["mode"]))
    np.testing.assert_allclose(x[:, -AGAIN].numpy(), 2 * first - 1, atol=0.03, err_msg="rounded to bytes")
    mute = replace(pixel_material._model("random"), finish=None)
    monkeypatch.setattr(pixel_material, "_model", lambda name: mute)
    other = MAKERS["finish"](kinds, [3, 0, 0])
    assert "again" not in other and torch.equal(other["maps"], one["maps"])
    assert not look_finish(other, at)["x"][:, -AGAIN:].any()


class Says(torch.nn.Module):
    """A network that says what it was made with."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: torch.Tensor, mode: torch.Tensor) -> torch.Tensor:
        return self.answer


def test_losses_are_least_at_the_truth() -> None:
    truth = torch.zeros(2, 2, 8, 8)
    truth[:, 0, :, 2:6] = 1
    truth[:, 1, :, 2:4] = 1
    batch = {"x": torch.zeros(2, INPUTS, 8, 8), "truth": truth, "mode": torch.tensor([0, 2])}
    right, wrong = 20 * (2 * truth[:, :1] - 1), 20 * (1 - 2 * truth[:, :1])
    best, numbers = finish_loss(Says(right), batch)
    assert best < 0.01 and numbers == {"iou_0": 1.0, "iou_2": 1.0}
    worst, numbers = finish_loss(Says(wrong), batch)
    assert worst > 10 and numbers == {"iou_0": 0.0, "iou_2": 0.0}
    visible = right.clone()
    visible[:, :, :, 2:4] = -20
    assert finish_loss(Says(visible), batch)[0] == best, "what is visible does not count"
    good, bad = (front_loss(Says(a), batch)[0] for a in (right, wrong))
    assert good < 0.01 < bad


def test_colours_are_judged_where_they_are_hidden() -> None:
    x = torch.zeros(1, COLOUR_INPUTS, 8, 8)
    truth = torch.full((1, 4, 8, 8), 0.5)
    truth[:, 3] = 0
    truth[:, 3, 2:4] = 1
    change = torch.zeros(1, 3, 8, 8)
    before, numbers = colours_loss(Says(change), {"x": x, "truth": truth})
    assert numbers["psnr"] == numbers["psnr_before"] == pytest.approx(-10 * np.log10(0.25**2), abs=0.01)
    change[:, :, 2:4] = 0.5
    after, numbers = colours_loss(Says(change), {"x": x, "truth": truth})
    assert after < before and numbers["psnr"] > 50
    change[:, :, 4:] = 0.9
    assert colours_loss(Says(change), {"x": x, "truth": truth})[0] == after


def test_spoilt_colours_stay_alike_in_both_stacks() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    for seed in range(20):
        one, other = spoil_colours([rgb, rgb.copy()], np.random.default_rng(seed))
        assert one.dtype == other.dtype == np.uint8 and one.shape == rgb.shape
        assert np.abs(one.astype(int) - other).mean() < 10, "noise is the camera's alone"


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, recipe in RECIPES.items():
        monkeypatch.setitem(RECIPES, name, replace(recipe, widths=(8, 16)))


def test_a_run_resumes_and_says_the_same(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    prepare(config("front", source), MAKERS["front"], tmp_path / "examples")
    loop = LoopConfig(steps=4, warmup=0, save_every=2, log_every=2, precision="fp32", threads=1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = {"clips": 2, "frames": 2}
    train_pixels("front", [tmp_path / "examples"], whole, loop, **options)  # type: ignore[arg-type]

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int, line: object) -> None:
        if done == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_pixels("front", [tmp_path / "examples"], parts, loop, report=stop, **options)  # type: ignore[arg-type]
    train_pixels("front", [tmp_path / "examples"], parts, loop, **options)  # type: ignore[arg-type]
    file = Path("net") / "diffusion_pytorch_model.safetensors"
    first, second = load_file(whole / file), load_file(parts / file)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name])
    assert json.loads((whole / "config.json").read_text())["preset"] == "front"


def test_examples_of_another_network_are_refused(source: str, tmp_path: Path) -> None:
    prepare(config("front", source), MAKERS["front"], tmp_path / "examples")
    (tmp_path / "none").mkdir()
    for folder, got in (("examples", "front"), ("none", "none")):
        with pytest.raises(ValueError, match=f"data: expected examples for colours in .*{folder}, got {got}"):
            train_pixels("colours", [tmp_path / folder], tmp_path / "out", LoopConfig(steps=1))
    assert not (tmp_path / "out").exists()


@pytest.mark.weights
def test_several_runs_of_a_network_are_averaged(tmp_path: Path) -> None:
    """One that knew fewer channels has no say on the others."""
    nets = [random_nets()["front"], PixelNet.new(3, 1, (8, 16))]
    for net, run in zip(nets, ("new", "old"), strict=True):
        net.unet.save_pretrained(tmp_path / run / "net")
        (tmp_path / run / "config.json").write_text(json.dumps({"preset": "front"}))
    model = loading.stage_folders("tiny")["amodal"].parent
    for order in (("new", "old"), ("old", "new")):
        add_nets(model, [tmp_path / run for run in order], tmp_path / "model")
        made = PixelNet.load(tmp_path / "model" / "amodal" / "front").unet.state_dict()
        new, old = (net.unet.state_dict() for net in nets)
        known = old["conv_in.weight"].shape[1]
        first = new["conv_in.weight"].clone()
        first[:, :known] = (first[:, :known] + old["conv_in.weight"]) / 2
        torch.testing.assert_close(made["conv_in.weight"], first, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(
            made["conv_out.weight"], (new["conv_out.weight"] + old["conv_out.weight"]) / 2, atol=1e-3, rtol=1e-3
        )


@pytest.mark.weights
def test_a_model_gets_its_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loading.stage_folders("tiny")["amodal"].parent
    runs = []
    for name, net in random_nets().items():
        net.unet.save_pretrained(tmp_path / name / "net")
        (tmp_path / name / "config.json").write_text(json.dumps({"preset": name}))
        runs.append(tmp_path / name)
    add_nets(model, runs, tmp_path / "model")
    made = loading.load_pipelines(tmp_path / "model", "cpu", dtype="float32")
    assert made.front is not None and made.finish is not None and made.colours is not None
    assert (made.threshold, made.votes, made.halo, made.focus) == (0.45, 0.0, 0.0, 1.6)
    (tmp_path / "model" / "README.md").write_text("a card")
    add_nets(tmp_path / "model", runs[:1], tmp_path / "model")
    assert (tmp_path / "model" / "README.md").read_text() == "a card"
    assert loading.load_pipelines(tmp_path / "model", "cpu").colours is not None, "those of before stay"
    plain = loading.load_pipelines(tmp_path / "model", "cpu", behaviour="faithful")
    assert plain.front is plain.finish is plain.colours is None
    with pytest.raises(ValueError, match="pixels: expected a run of one of front, finish, colours, got"):
        add_nets(model, [tmp_path], tmp_path / "other")
    with pytest.raises(ValueError, match="out: expected a new folder or a model to replace"):
        add_nets(model, runs, tmp_path)
    shutil.rmtree(tmp_path / "model")
