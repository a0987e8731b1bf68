"""Depth: tiny random models of the real classes, in folders laid out as the published ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image

from diffvas import arrays, video
from diffvas.perception.depth import (
    DEPTH_MODELS,
    DepthEstimator,
    Preparation,
    find_local_depth_model,
    load_depth_model,
    resolve_depth,
)
from diffvas.types import Clip

SMALL = DEPTH_MODELS["small"].id
REVISION = "0123456789abcdef0123456789abcdef01234567"

# preprocessor_config.json of the published checkpoints, but for the size (518 there)
PREPARATION = json.loads("""{
"do_normalize": true, "do_pad": false, "do_rescale": true, "do_resize": true, "ensure_multiple_of": 14,
"image_mean": [0.485, 0.456, 0.406], "image_processor_type": "DPTImageProcessor", "image_std": [0.229, 0.224, 0.225],
"keep_aspect_ratio": true, "resample": 3, "rescale_factor": 0.00392156862745098,
"size": {"height": 56, "width": 56}, "size_divisor": null}""")


def save_model(folder: Path, size: int = 56) -> Path:
    """A tiny random Depth Anything, saved as the published ones are."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    width = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 4, "image_size": 56, "patch_size": 14}
    neck = {"reassemble_hidden_size": 16, "neck_hidden_sizes": [4, 6, 8, 16], "fusion_hidden_size": 8}
    backbone = Dinov2Config(**width, out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    config = DepthAnythingConfig(backbone_config=backbone, **neck, head_hidden_size=4)
    model = DepthAnythingForDepthEstimation(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # as made, a random head gives nothing but zeros
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        model.head.conv3.bias.fill_(3.0)
    model.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", {**PREPARATION, "size": {"height": size, "width": size}})
    return folder


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def random_frames(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random colours: what a resize does to noise says little."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 5, 7, 3), dtype=np.uint8)
    return arrays.resize_u8(coarse, (height, width))


@pytest.fixture(scope="module")
def shared_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model for all tests that do not change it."""
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def estimator(shared_model: Path) -> DepthEstimator:
    return load_depth_model(str(shared_model), dtype=torch.float32)


@pytest.fixture
def model(shared_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(shared_model, tmp_path / "spoiled"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def put_in_cache(cache: Path, source: Path, leave_out: tuple[str, ...] = ()) -> Path:
    """Lay a model into the hub's cache, where a download would have put it."""
    place = cache / f"models--{SMALL.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(REVISION)
    return Path(shutil.copytree(source, place / "snapshots" / REVISION, ignore=shutil.ignore_patterns(*leave_out)))


def test_network_size(tmp_path: Path) -> None:
    write_json(tmp_path / "p.json", {**PREPARATION, "size": {"height": 518, "width": 518}})
    size = Preparation.read(tmp_path / "p.json").network_size
    assert size(720, 1280) == (518, 924)  # 518 / 720 is nearer to 1 than 518 / 1280: the short side
    assert (size(1280, 720), size(518, 518), size(1, 1)) == ((924, 518), (518, 518), (518, 518))
    assert size(480, 640) == (518, 686)  # 690.67 / 14 = 49.3
    assert size(256, 512) == (252, 518)  # growing, the long side is nearer: 259 / 14 = 18.5 rounds to even, 18 blocks
    assert (size(1, 3000), size(3000, 1)) == ((14, 518), (518, 14))  # 0.17 of a pixel would be no block at all


@pytest.mark.parametrize("size", [(37, 53), (56, 56), (200, 91), (31, 30)])
def test_frames_are_prepared_as_by_transformers(shared_model: Path, size: tuple[int, int]) -> None:
    pil = pytest.importorskip("transformers.models.dpt.image_processing_pil_dpt", reason="transformers has moved it")
    frames = random_frames(3, *size)
    ours = Preparation.read(shared_model / "preprocessor_config.json")(frames)
    reference = pil.DPTImageProcessorPil.from_pretrained(shared_model)
    theirs = reference([Image.fromarray(frame) for frame in frames], return_tensors="pt").pixel_values
    assert ours.dtype == torch.float32 and ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-5
    red = Preparation.read(shared_model / "preprocessor_config.json")(np.full((1, *size, 3), [255, 0, 0], np.uint8))
    assert red[0, :, 0, 0].tolist() == pytest.approx([0.515 / 0.229, -0.456 / 0.224, -0.406 / 0.225], abs=1e-5)


def test_other_preparations_are_refused(tmp_path: Path) -> None:
    for change, message in (
        ({"do_pad": True}, "expected do_pad to be False"),
        ({"do_resize": False}, "expected do_resize to be True"),
        ({"size": {"shortest_edge": 518}}, "expected the preparation of Depth Anything"),
        ({"size": {"height": 0, "width": 518}}, "expected positive sizes"),
        ({"image_std": [1.0, 0.0, 1.0]}, "expected positive sizes and three means and deviations"),
        ({"image_mean": [0.5]}, "three means"),
        ({"image_mean": None}, "expected the preparation"),
        ({"resample": 99}, "99 is not a valid Resampling"),
    ):
        write_json(tmp_path / "p.json", {**PREPARATION, **change})
        with pytest.raises(ValueError, match=f"^depth: .*{message}"):
            Preparation.read(tmp_path / "p.json")


def test_a_frame_as_transformers_estimates_it(shared_model: Path, estimator: DepthEstimator) -> None:
    """At the network's own size there is no resizing on either side: RGB in, predicted depth out."""
    from transformers import DepthAnythingForDepthEstimation

    frames = random_frames(1, 56, 70)
    plain = DepthAnythingForDepthEstimation.from_pretrained(shared_model).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(frames) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = plain(pixels).predicted_depth.numpy()
    assert expected.shape == (1, 56, 70) and np.ptp(expected) > 0.1
    np.testing.assert_allclose(estimator(frames), expected, atol=1e-4)
    assert np.abs(estimator(frames[..., ::-1].copy()) - expected).max() > 0.01  # BGR is something else


@pytest.mark.parametrize("size", [(37, 53), (1, 1), (5, 301), (113, 20), (240, 320)])
def test_depth_has_the_clips_size(estimator: DepthEstimator, size: tuple[int, int]) -> None:
    depth = estimator(random_frames(2, *size))
    assert depth.shape == (2, *size) and depth.dtype == np.float32
    assert np.isfinite(depth).all() and depth.min() >= 0


def test_chunks_do_not_matter(estimator: DepthEstimator) -> None:
    frames = random_frames(7, 45, 61)
    alone = np.concatenate([estimator(frames[t : t + 1]) for t in range(7)])
    assert np.ptp(alone) > 0.1 and np.abs(alone[0] - alone[1]).max() > 1e-3
    told: list[tuple[str, int, int]] = []
    for chunk in (1, 7, 100):
        np.testing.assert_allclose(estimator(frames, chunk=chunk), alone, atol=1e-5)
    np.testing.assert_allclose(estimator(frames, lambda *what: told.append(what), chunk=3), alone, atol=1e-5)
    assert told == [("depth", 3, 7), ("depth", 6, 7), ("depth", 7, 7)]


def test_half_precision_is_close_and_not_stepped(shared_model: Path, estimator: DepthEstimator) -> None:
    frames = random_frames(2, 56, 56)
    exact = estimator(frames)
    half = load_depth_model(str(shared_model), dtype=torch.bfloat16)
    assert half.model.backbone.dtype == torch.bfloat16 and "bfloat16 on cpu" in half.description
    depth = half(frames)
    assert 0 < np.abs(depth - exact).max() < 0.05 * np.ptp(exact)
    # bfloat16 has at most 256 values in the two octaves around 3, which this depth fills
    assert len(np.unique(depth)) > 2000


@pytest.mark.gpu
def test_on_a_gpu(shared_model: Path, estimator: DepthEstimator) -> None:
    frames = random_frames(3, 45, 61)
    fast = load_depth_model(str(shared_model), "cuda")
    assert fast.model.backbone.dtype == torch.float16 and fast.device.type == "cuda"
    exact = estimator(frames)
    assert np.abs(fast(frames) - exact).max() < 0.01 * np.ptp(exact)


def test_other_frames_and_chunks_are_refused(shared_model: Path, estimator: DepthEstimator) -> None:
    others = [np.zeros(shape, np.uint8) for shape in ((8, 8, 3), (2, 8, 8, 4), (0, 8, 8, 3), (2, 0, 8, 3))]
    for frames in (*others, np.zeros((2, 8, 8, 3), np.float32)):
        with pytest.raises(ValueError, match="^frames_u8: expected a uint8 array of shape"):
            estimator(frames)
    with pytest.raises(ValueError, match="^chunk: expected 1 or more, got 0"):
        estimator(random_frames(1, 8, 8), chunk=0)
    # and a model that gives NaN is not believed
    broken = load_depth_model(str(shared_model))
    broken.model.head.conv3.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="^depth: expected finite values, got NaN or infinity from .*--depth none$"):
        broken(random_frames(1, 20, 20))


def test_damaged_files(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    for kept in (0, 4, len(whole) // 2, len(whole) - 1):
        (model / "model.safetensors").write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"\Adepth: the model in '.*' cannot be loaded \(.*\)\Z"):
            load_depth_model(str(model))
    for text in (b"", b"{", b"[]", b"\xff"):
        (model / "config.json").write_bytes(text)
        with pytest.raises(ValueError, match="^depth: expected (readable JSON|a JSON object) in '.*config.json'"):
            load_depth_model(str(model))


@pytest.mark.parametrize("name", ["preprocessor_config.json", "model.safetensors"])
def test_missing_files_and_pickles_are_named(model: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(ValueError, match=f"^depth: expected config.json, .* got no {name}$"):
        load_depth_model(str(model))
    torch.save({}, model / "pytorch_model.bin")
    refused = "got pytorch_model.bin in .* can run any program .* convert them"
    with pytest.raises(ValueError, match=refused if name == "model.safetensors" else f"got no {name}$"):
        load_depth_model(str(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "dpt"}, "expected a Depth Anything model (depth_anything), got 'dpt'"),
        ({"depth_estimation_type": "metric"}, "expected a model of relative inverse depth, got a metric one"),
        ({"depth_estimation": "metric"}, "got a metric one"),
        ({"backbone": "someone/else"}, "expected a dinov2 backbone_config"),
        ({"backbone_config": None}, "expected a dinov2 backbone_config"),
        ({"fusion_hidden_size": 10}, "cannot be loaded"),
    ],
)
def test_other_architectures(model: Path, change: dict[str, object], message: str) -> None:
    config = json.loads((model / "config.json").read_text("utf-8"))
    write_json(model / "config.json", {**config, **change})
    with pytest.raises(ValueError) as caught:
        load_depth_model(str(model))
    assert str(caught.value).startswith("depth: ") and message in str(caught.value)


def test_weights_that_do_not_fit_are_listed(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = model / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {f"extra.{i}": torch.zeros(1) for i in range(5)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="got 5 unexpected: extra.0, extra.1, extra.2, ...$"):
        load_depth_model(str(model))
    del weights["head.conv1.weight"], weights["neck.convs.0.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ValueError, match="got 2 missing: head.conv1.weight, neck.convs.0.weight$"):
        load_depth_model(str(model))


def test_weights_in_several_files(model: Path, estimator: DepthEstimator) -> None:
    from transformers import DepthAnythingForDepthEstimation

    plain = DepthAnythingForDepthEstimation.from_pretrained(model)
    (model / "model.safetensors").unlink()
    plain.save_pretrained(model, max_shard_size="20KB")
    shards = sorted(model.glob("model-*.safetensors"))
    assert len(shards) > 1
    frames = random_frames(1, 30, 40)
    assert np.array_equal(load_depth_model(str(model), dtype=torch.float32)(frames), estimator(frames))
    shards[0].unlink()
    with pytest.raises(ValueError, match=f"got no {shards[0].name}$"):
        load_depth_model(str(model))


def test_devices(shared_model: Path) -> None:
    for device, wanted in (("gpu", "auto, cpu or cuda"), ("cuda:63", "a CUDA device of this machine")):
        with pytest.raises(ValueError, match=f"^device: expected {wanted}, got '{device}'"):
            load_depth_model(str(shared_model), device)


def test_offline_says_how_to_go_on(cache: Path) -> None:
    why = "is neither a path, nor cached, nor to be had from the hub (HF_HUB_OFFLINE is set)"
    for name, model_id in (("small", SMALL), (SMALL, SMALL), ("someone/something", "someone/something")):
        with pytest.raises(ValueError) as caught:
            load_depth_model(name)
        assert str(caught.value) == f"depth: '{model_id}' {why}; give depth by --depth FOLDER, or --depth none"
    assert find_local_depth_model() is None
    depth, line = resolve_depth("auto", Clip(random_frames(1, 8, 8)), device="cpu")
    assert depth is None and line == f"depth: none (auto: '{SMALL}' {why}; give --depth FOLDER, or a model id)"


def test_names_that_nothing_has(cache: Path) -> None:
    every = "^depth: expected auto, none, small, base, large, a path that exists or a hub id"
    for name, said in (
        ("smal", f"{every} .* got 'smal'; did you mean small[?]$"),
        ("/no/such/path", f"{every} .* got '/no/such/path'$"),
        ("a/b--c..d", "^depth: 'a/b--c..d' is neither a path"),
    ):
        with pytest.raises(ValueError, match=said):
            load_depth_model(name)


def test_the_cache_is_used_without_a_network(cache: Path, shared_model: Path, estimator: DepthEstimator) -> None:
    snapshot = put_in_cache(cache, shared_model)
    assert find_local_depth_model() == str(snapshot)
    clip = Clip(random_frames(3, 30, 40))
    for text, words in (("small", ""), ("auto", "auto: "), (SMALL, "")):
        depth, line = resolve_depth(text, clip, device="cpu")
        assert depth is not None and depth.shape == (3, 30, 40)
        assert line.startswith(f"depth: {words}{SMALL}@0123456 (Apache-2.0), ") and line.endswith(" on cpu")
    told: list[tuple[str, int, int]] = []
    depth, line = resolve_depth(str(shared_model), clip, device="cpu", progress=lambda *what: told.append(what))
    assert depth is not None and told == [("depth", 3, 3)]
    assert line.startswith(f"depth: {shared_model} (licence: see its card), ")
    exact = load_depth_model("small", dtype=torch.float32)
    assert np.array_equal(exact(clip.frames_u8), estimator(clip.frames_u8))


def test_a_part_of_a_model_is_none_and_a_damaged_one_an_error(cache: Path, shared_model: Path) -> None:
    snapshot = put_in_cache(cache, shared_model, leave_out=("model.safetensors",))
    assert find_local_depth_model() is None
    with pytest.raises(ValueError, match="lacks model.safetensors|is neither a path, nor cached"):
        load_depth_model("small")
    clip = Clip(random_frames(1, 8, 8))
    depth, line = resolve_depth("auto", clip, device="cpu")
    assert depth is None and line.startswith("depth: none (auto: ")
    (snapshot / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="cannot be loaded"):
        resolve_depth("auto", clip, device="cpu")


def test_a_download_is_asked_for_no_pickles(
    cache: Path, shared_model: Path, estimator: DepthEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def snapshot_download(model_id: str, **options: Any) -> str:
        if options.get("local_files_only"):
            raise FileNotFoundError(model_id)
        asked.append(options["allow_patterns"])
        return str(put_in_cache(cache, shared_model))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    frames = random_frames(1, 20, 30)
    loaded = load_depth_model("large", dtype=torch.float32)
    assert np.array_equal(loaded(frames), estimator(frames))
    assert loaded.description.startswith(f"{DEPTH_MODELS['large'].id}@0123456 (CC-BY-NC-4.0, not for commercial use)")
    assert len(asked) == 1
    for name in ("config.json", "model.safetensors", "model-00001-of-00002.safetensors"):
        assert any(fnmatch(name, pattern) for pattern in asked[0])
    assert not any(fnmatch(name, pattern) for pattern in asked[0] for name in ("pytorch_model.bin", "x.py", "a.pth"))


def test_depth_from_files(tmp_path: Path) -> None:
    clip = Clip(random_frames(2, 8, 9))
    assert resolve_depth("none", clip) == (None, "depth: none")
    given = np.arange(2 * 8 * 9, dtype=np.float32).reshape(2, 8, 9)
    np.savez(tmp_path / "depth.npz", depth=given)
    depth, line = resolve_depth(str(tmp_path / "depth.npz"), clip)
    assert depth is not None and np.array_equal(depth, given) and line == f"depth: {tmp_path / 'depth.npz'}"
    folder = tmp_path / "images"
    folder.mkdir()
    for t, image in enumerate(given.astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{t}.png")
    depth, line = resolve_depth(str(folder), clip)
    assert depth is not None and np.array_equal(depth, given) and line == f"depth: {folder}"
    with pytest.raises(ValueError, match="^depth: "):
        resolve_depth(str(folder), Clip(random_frames(3, 8, 9)))


def test_gaps_in_files_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    holes = np.ones((1, 8, 8), np.float32)
    holes[0, 2, 3] = np.nan
    monkeypatch.setattr(video, "read_depth", lambda *_: holes)
    depth, line = resolve_depth(str(tmp_path), Clip(random_frames(1, 8, 8)))
    assert depth is not None and (depth == 1).all()
    assert line == f"depth: {tmp_path} (1 of 64 values unknown, filled from the nearest known)"


def in_python(code: str, folder: Path, *arguments: str, **environment: str) -> str:
    """What a fresh Python prints."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "home"), **environment}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ESTIMATE = """
import sys
model, frames, out, torchvision = sys.argv[1:]
if torchvision == "absent":
    sys.modules["torchvision"] = None
import numpy as np, torch
from transformers.utils import is_torchvision_available
assert is_torchvision_available() == (torchvision == "present")
from diffvas.perception.depth import load_depth_model
np.save(out, load_depth_model(model, dtype=torch.float32)(np.load(frames)))
"""


def fake_torchvision(site: Path) -> str:
    """As much of a torchvision as transformers asks for when it is imported; the PYTHONPATH that holds it."""
    modes = (
        "import enum\nInterpolationMode = enum.Enum('M', 'NEAREST NEAREST_EXACT BILINEAR BICUBIC BOX HAMMING LANCZOS')"
    )
    files = {
        "torchvision-0.99.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.99.0\n",
        "torchvision/__init__.py": "io = None",
        "torchvision/transforms/__init__.py": modes,
        "torchvision/transforms/functional.py": "pil_to_tensor = None",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    return os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])


def test_torchvision_does_not_matter(tmp_path: Path, shared_model: Path, estimator: DepthEstimator) -> None:
    """With it (as far as transformers can see) and without it: the same depth."""
    frames = random_frames(2, 45, 61)
    np.save(tmp_path / "frames.npy", frames)
    other = "absent" if find_spec("torchvision") else "present"
    path = fake_torchvision(tmp_path / "site") if other == "present" else os.environ.get("PYTHONPATH", "")
    arguments = (str(shared_model), str(tmp_path / "frames.npy"), str(tmp_path / "depth.npy"), other)
    in_python(ESTIMATE, tmp_path, *arguments, PYTHONPATH=path)
    np.testing.assert_allclose(np.load(tmp_path / "depth.npy"), estimator(frames), atol=1e-5)


def test_the_environment_without_a_network(tmp_path: Path) -> None:
    """As a user sets it, with nothing patched; nothing heavy is imported."""
    code = (
        "import sys, numpy as np\n"
        "from diffvas.perception.depth import find_local_depth_model, resolve_depth\n"
        "from diffvas.types import Clip\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules), 'heavy'\n"
        "assert find_local_depth_model() is None\n"
        "print(resolve_depth('auto', Clip(np.zeros((1, 8, 8, 3), np.uint8)), device='cpu'))\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy, for nothing'\n"
    )
    said = in_python(code, tmp_path, HF_HUB_OFFLINE="1")
    assert said.startswith('(None, "depth: none (auto: ') and "HF_HUB_OFFLINE" in said


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf, 1e300])
def test_gaps_take_the_nearest_value_of_their_frame(gap: float) -> None:
    row = np.array([1, gap, gap, gap, gap, 5])
    depth = np.stack([np.full((3, 6), 9.0), np.stack([row] * 3)])
    cleaned = arrays.clean_depth(depth)
    assert cleaned.dtype == np.float32 and (cleaned[0] == 9).all()
    assert (cleaned[1] == [1, 1, 1, 5, 5, 5]).all()
    assert np.array_equal(depth[1, 0], row, equal_nan=True)  # the input is left alone


def test_gaps_against_every_distance() -> None:
    rng = np.random.default_rng(0)
    depth = rng.random((3, 23, 31)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.8] = np.nan
    cleaned = arrays.clean_depth(depth)
    for t in range(3):
        at = np.argwhere(np.isfinite(depth[t]))
        for y, x in np.argwhere(np.isnan(depth[t])):
            distance = np.hypot(at[:, 0] - y, at[:, 1] - x)
            near = at[distance <= distance.min() + 0.5]  # the distances are of a chamfer, and there are ties
            assert cleaned[t, y, x] in depth[t][near[:, 0], near[:, 1]]
    known = np.isfinite(depth)
    assert np.array_equal(cleaned[known], depth[known])


def test_frames_without_any_value_take_the_nearest_frame_and_whole_ones_stay() -> None:
    depth = np.full((6, 2, 2), np.nan, np.float32)
    depth[1], depth[5] = 1.0, 5.0
    assert arrays.clean_depth(depth)[:, 0, 0].tolist() == [1, 1, 1, 1, 5, 5]  # frame 3 is between: the earlier
    for depth in (np.zeros((2, 3, 4), np.float32), np.arange(24).reshape(2, 3, 4), np.full((1, 1, 1), 7.0)):
        cleaned = arrays.clean_depth(depth)
        assert cleaned is not depth and np.array_equal(cleaned, depth) and cleaned.dtype == np.float32
