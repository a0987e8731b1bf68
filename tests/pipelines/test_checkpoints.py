"""Released checkpoints, SVD, half precision, and all the ways in which a folder may be no model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from diffvas.pipelines import loading
from diffvas.pipelines.checkpoints import load_stage, read_unet, stage_of, vae_dtype
from diffvas.pipelines.convert import convert
from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline, svd_scheduler

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def small_svd(channels: int) -> dict[str, torch.nn.Module]:
    """Random networks of SVD's classes, as small as they get."""
    torch.manual_seed(channels)
    unet = UNetSpatioTemporalConditionModel(
        in_channels=channels,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        num_attention_heads=(1, 2),
        layers_per_block=1,
        cross_attention_dim=16,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1
    )
    tower = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
            projection_dim=16,
        )
    )
    return {"unet": unet, "vae": vae, "image_encoder": tower}


def save_svd(folder: Path, channels: int = 8) -> Path:
    """A folder as Stability AI publishes SVD, with ``channels`` input channels."""
    for name, part in small_svd(channels).items():
        part.save_pretrained(folder / name)  # type: ignore[operator]
    svd_scheduler().save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableVideoDiffusionPipeline"}))
    return folder


@pytest.fixture(scope="session")
def svd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_svd(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="session")
def released_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of the paper's checkpoints: ``conv_in2``, an unused ``conv_in``, ``in_channels: 8``, no stage."""
    folder = save_svd(tmp_path_factory.mktemp("released"), 12)
    state = load_file(folder / "unet" / WEIGHTS)
    for part in ("weight", "bias"):
        state[f"conv_in2.{part}"] = state[f"conv_in.{part}"].clone()
    state["conv_in.weight"] = torch.randn(32, 8, 3, 3)
    save_file(state, folder / "unet" / WEIGHTS)
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 8}))
    return folder


@pytest.fixture
def released(released_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(released_folder, tmp_path / "released"))


def run(pipe: DiffusionVASPipeline) -> torch.Tensor:
    a = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return pipe(a, -a, generator=torch.Generator().manual_seed(1), steps=2)


def test_a_released_checkpoint_loads_straight(released_folder: Path) -> None:
    pipe = load_stage(released_folder, "content", CPU, torch.float32)
    assert pipe.unet.config.in_channels == 12 and pipe.config.stage == "content"
    expected = small_svd(12)["unet"].state_dict()
    assert pipe.unet.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in pipe.unet.state_dict().items())
    assert pipe.config.defaults["steps"] == 25 and pipe.config.defaults["guidance"] == 1.5


def test_two_released_folders_are_a_model(released_folder: Path) -> None:
    model = loading.load_pipelines(f"{released_folder},{released_folder}", "cpu", dtype="float32")
    assert model.content is not None and model.content.config.stage == "content"
    assert (model.area, model.frames, model.focus, model.depth_rule, model.detail) == (256 * 512, 25, None, False, None)
    assert model.working_size(720, 1280) == (288, 512)  # in multiples of 32
    faithful = loading.load_pipelines(released_folder, "cpu", content=False, behaviour="faithful")
    assert faithful.content is None and faithful.working_size(1280, 720) == (256, 512)


def test_convert_writes_the_clean_layout(released_folder: Path, tmp_path: Path) -> None:
    written = convert(released_folder, tmp_path / "clean", stage="amodal")
    assert list(written) == [tmp_path / "clean"] and stage_of(tmp_path / "clean") == "amodal"
    assert not any("conv_in2" in key for key in load_file(tmp_path / "clean" / "unet" / WEIGHTS))
    before, after = (load_stage(f, "amodal", CPU, torch.float32) for f in (released_folder, tmp_path / "clean"))
    torch.testing.assert_close(run(before), run(after), rtol=1e-5, atol=1e-5)
    # diffusers reads it as it is
    again = DiffusionVASPipeline.from_pretrained(tmp_path / "clean", local_files_only=True)
    assert again.unet.config.in_channels == 12


def test_convert_both_stages_in_half_precision(released_folder: Path, tmp_path: Path) -> None:
    convert(f"{released_folder},{released_folder}", tmp_path / "half", dtype="float16")
    names = {path.name for path in (tmp_path / "half").rglob("*.safetensors")}
    assert names == {"diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors"}
    model = loading.load_pipelines(tmp_path / "half", "cpu", dtype="float32")
    assert model.amodal.unet.dtype == torch.float32 and model.content is not None
    with pytest.raises(ValueError, match=r"expected the content stage in .*amodal, got 'amodal'"):
        load_stage(tmp_path / "half" / "amodal", "content", CPU, torch.float32)


def test_svd_is_no_finished_model_but_can_be_widened(svd_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"Stable Video Diffusion itself \(8 input channels, expected 12\); .* train it first"
    ):
        load_stage(svd_folder, "amodal", CPU, torch.float32)
    convert(svd_folder, tmp_path / "start", stage="amodal", widen="zero")
    unet = load_stage(tmp_path / "start", "amodal", CPU, torch.float32).unet
    assert unet.conv_in.weight[:, 8:].abs().max() == 0
    assert torch.equal(unet.conv_in.weight[:, :8], small_svd(8)["unet"].conv_in.weight)
    convert(svd_folder, tmp_path / "random", stage="amodal", widen="random", seed=4)
    assert load_stage(tmp_path / "random", "amodal", CPU, torch.float32).unet.conv_in.weight[:, 8:].abs().max() > 0
    with pytest.raises(ValueError, match="expected SVD's 8 input channels"):
        convert(tmp_path / "start", tmp_path / "again", stage="amodal", widen="zero")


def test_weights_in_several_files(released: Path) -> None:
    state = load_file(released / "unet" / WEIGHTS)
    names = sorted(state)
    parts = {"a.safetensors": names[:50], "b.safetensors": names[50:]}
    for part, keys in parts.items():
        save_file({key: state[key] for key in keys}, released / "unet" / part)
    (released / "unet" / WEIGHTS).unlink()
    index = {"weight_map": {key: part for part, keys in parts.items() for key in keys}}
    (released / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert read_unet(released / "unet", torch.float32).config.in_channels == 12
    (released / "unet" / "b.safetensors").unlink()
    with pytest.raises(ValueError, match=r"names b.safetensors, missing in"):
        read_unet(released / "unet", torch.float32)


def test_missing_unexpected_and_misshapen_weights_are_listed(released: Path) -> None:
    path = released / "unet" / WEIGHTS
    state = load_file(path)
    del state["time_embedding.linear_1.weight"]
    state["strange.weight"] = torch.zeros(1)
    state["conv_out.bias"] = torch.zeros(7)
    save_file(state, path)
    with pytest.raises(ValueError) as error:
        load_stage(released, "amodal", CPU, torch.float32)
    assert "1 missing (time_embedding.linear_1.weight)" in str(error.value)
    assert "1 unexpected (strange.weight)" in str(error.value)
    assert "1 of another shape (conv_out.bias)" in str(error.value)


@pytest.mark.parametrize("part", ["vae", "image_encoder"])
def test_weights_of_the_other_networks_are_checked_too(released: Path, part: str) -> None:
    path = next((released / part).glob("*.safetensors"))
    state = load_file(path)
    lost = sorted(state)[0]
    del state[lost]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{part}.* do not fit its config: 1 missing"):
        load_stage(released, "amodal", CPU, torch.float32)


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder"])
def test_a_truncated_file(released: Path, part: str) -> None:
    path = next((released / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"model: .*{part}.*(broken|cannot be loaded)"):
        load_stage(released, "amodal", CPU, torch.float32)


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder"])
def test_pickles_are_refused(released: Path, part: str) -> None:
    path = next((released / part).glob("*.safetensors"))
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(ValueError, match=r"expected safetensors in .*\.bin, a pickle, which may run code"):
        load_stage(released, "amodal", CPU, torch.float32)


def test_another_architecture(released: Path) -> None:
    path = released / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "UNet2DConditionModel"}))
    with pytest.raises(ValueError, match="expected a UNetSpatioTemporalConditionModel .* got a UNet2DConditionModel"):
        load_stage(released, "amodal", CPU, torch.float32)


def test_another_scheduler(released: Path) -> None:
    path = released / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "epsilon"}))
    with pytest.raises(ValueError, match=r"expected a scheduler with .* got \{'prediction_type': 'epsilon'\}"):
        load_stage(released, "amodal", CPU, torch.float32)


def test_one_stage_alone(released_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds one stage; expected AMODAL,CONTENT, or content=False"):
        loading.load_pipelines(released_folder, "cpu")
    with pytest.raises(ValueError, match="holds one stage; expected stage=amodal or content"):
        convert(released_folder, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no-such", "expected one of tiny, official, a folder or a hub id like owner/name, got 'no-such'"),
        ("a,b,c", "expected one source, or two separated by a comma"),
        ("{tmp}", r"expected a pipeline, or amodal/ and content/ with one each, in .*, found none"),
    ],
)
def test_no_model(model: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        loading.load_pipelines(model.replace("{tmp}", str(tmp_path)), "cpu")


def test_official_names_both_ids(monkeypatch: pytest.MonkeyPatch, released_folder: Path) -> None:
    asked: list[str] = []

    def download(name: str) -> Path:
        asked.append(name)
        return released_folder

    monkeypatch.setattr(loading, "download", download)
    for name in ("official", loading.OFFICIAL[1]):
        asked.clear()
        assert loading.stage_folders(name) == {"amodal": released_folder, "content": released_folder}
        assert asked == list(loading.OFFICIAL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"behaviour": "exact"}, "behaviour: expected one of default, faithful, got 'exact'"),
        ({"offload": "disk"}, "offload: expected one of none, model, sequential, got 'disk'"),
        ({"offload": "model"}, "offload: expected none on a CPU"),
        ({"dtype": "float16"}, "dtype: expected float32 or bfloat16 on a CPU, got float16"),
        ({"dtype": "int8"}, "dtype: expected auto, float32, bfloat16, float16, got 'int8'"),
    ],
)
def test_bad_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loading.load_pipelines("tiny", "cpu", **options)  # type: ignore[arg-type]


def test_channels_last_and_compiled_blocks_change_nothing(
    released_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loading.load_pipelines(released_folder, "cpu", dtype="float32", content=False).amodal
    other = loading.load_pipelines(
        released_folder, "cpu", dtype="float32", content=False, channels_last=True, compiled=True
    ).amodal
    assert other.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not plain.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    # what compiling does to numbers is torch's matter and takes a minute; here, that the right blocks are compiled
    compiled = {type(m).__name__ for m in other.unet.modules() if m._compiled_call_impl is not None}
    assert compiled == {"TransformerSpatioTemporalModel", "SpatioTemporalResBlock"}
    for module in other.unet.modules():
        module._compiled_call_impl = None
    torch.testing.assert_close(run(plain), run(other), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compiled_blocks_compute_the_same(released_folder: Path) -> None:
    plain, compiled = (
        loading.load_pipelines(released_folder, "cpu", dtype="float32", content=False, compiled=c).amodal
        for c in (False, True)
    )
    torch.testing.assert_close(run(plain), run(compiled), rtol=1e-3, atol=1e-3)


def test_the_vae_stays_out_of_float16() -> None:
    assert vae_dtype(torch.float16, CPU) == torch.float32
    assert vae_dtype(torch.float16, CPU, force_upcast=False) == torch.float16
    assert vae_dtype(torch.bfloat16, CPU) == torch.bfloat16
