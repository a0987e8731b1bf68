"""The ablation runner: one tiny table from scenes to Markdown, resumed, and its numbers averaged by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from diffvas.cli import main
from diffvas.train import ablate as module
from diffvas.train.ablate import TABLES, Link, Row, Scale, Table, ablate, as_markdown, find_table, spread
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import load_run
from diffvas.train.presets import PRESETS
from diffvas.train.vae import tiny_vae

NOTHING = lambda *_: None  # noqa: E731


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("vae") / "vae"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny_vae().save_pretrained(folder)
    return str(folder)


def tiny(vae: str) -> Scale:
    return Scale(
        "flat",
        vae,
        steps=2,
        seeds=(0, 1),
        decodings=(1, 2),
        clips=2,
        val_clips=2,
        shard=2,
        size=(32, 64),
        frames=3,
        batch=2,
        span=3,
        precision="fp32",
        widths=(32, 32, 32),
    )


def test_a_table_from_scenes_to_markdown(vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        Row("one, zero", module._two_stages(0.0, False, 1.0)),
        Row("regression", (Link("regression"),)),
        Row("pretrained", (Link("amodal"),), pretrained=True),
    )
    monkeypatch.setitem(TABLES, "training", Table("stages", rows))
    seen: list[str] = []
    path, left_out = ablate("4", tiny(vae), tmp_path, report=NOTHING, progress=lambda what, *_: seen.append(what))
    assert left_out == ["pretrained"] and seen.count("rows") == 4
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(line["row"], line["seed"], line["steps"]) for line in lines] == [
        ("one, zero", "0", "1"),
        ("one, zero", "0", "2"),
        ("one, zero", "1", "1"),
        ("one, zero", "1", "2"),
        ("regression", "0", "1"),
        ("regression", "1", "1"),
    ]
    assert all(0 <= float(line["miou"]) <= 1 and line["clips"] == "2" for line in lines)
    text = path.read_text()
    assert "| one, zero | 1 | 1 |" in text and "±" in text and "2 clips" in text
    # the chain: a single step of the mask alone, then the rest with depth, from there
    first, second = (load_run(tmp_path / "runs" / f"one-zero-0-{k}")[1] for k in range(2))
    assert (first.inputs, second.inputs) == (("a",), ("a", "b")) and second.start.endswith("one-zero-0-0")
    # again: nothing is trained; one score lost: it alone is made again
    monkeypatch.setattr(module, "train_row", lambda *_: pytest.fail("trained again"))
    (tmp_path / "table.md").unlink()
    assert ablate("training", tiny(vae), tmp_path, report=NOTHING)[0].read_text() == text
    with pytest.raises(ValueError, match=r"holds a run with other settings \(batch: 2 -> 1\)"):
        ablate("training", Scale(**{**vars(tiny(vae)), "batch": 1}), tmp_path, report=NOTHING)


def test_best_of_k_rises_and_the_first_is_the_only_one(vae: str, tmp_path: Path) -> None:
    scale = Scale(**{**vars(tiny(vae)), "seeds": (0,), "decodings": (1,), "steps": 1})
    ablate("fig8", scale, tmp_path, report=NOTHING)
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [line["samples"] for line in lines] == [str(k) for k in range(1, 11)]
    values = [float(line["miou"]) for line in lines]
    assert values == sorted(values)
    assert lines[0]["miou_occ"] == lines[0]["miou_occ_mean"]


def test_every_row_is_a_recipe() -> None:
    for table in TABLES.values():
        for row in table.rows:
            shares = sum(link.share for link in row.chain)
            assert shares == pytest.approx(1.0), f"{row.name}: equal budgets"
            for link in row.chain:
                known = PRESETS[link.preset].denoiser
                assert isinstance(known, DenoiserConfig)
                assert table.rgb or "rgb" not in known.inputs
                assert table.one_stage or known.stage == "amodal"


def test_names_and_numbers() -> None:
    assert find_table("3")[0] == find_table("conditions")[0] == find_table("Table3")[0] == "conditions"
    assert find_table("Fig8")[0] == "top-k"
    with pytest.raises(ValueError, match="table: expected one of .*, got 'trainin' .did you mean 'training'"):
        find_table("trainin")


def test_spread_by_hand() -> None:
    assert spread([0.5]) == "50.0"
    assert spread([0.4, 0.6]) == "50.0 ± 14.1"
    common = {"row": "a", "steps": 1, "samples": 1, "clips": 2, "frames_occ": 7}
    lines = [{**common, "seed": s, "miou": 0.5 + s / 10, "miou_occ": 0.25} for s in (0, 1)]
    text = as_markdown("title", lines, Scale("flat", "vae"))
    assert "| a | 1 | 1 | 55.0 ± 7.1 | 25.0 ± 0.0 | 2 clips, 7 frames |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nothing --out x --vae .", "argument TABLE: expected one of conditions"),
        ("3 --out x --vae no", "argument --vae: expected an existing folder, got 'no'"),
        ("3 --vae .", "--out"),
        ("3 --out x --vae . --batch 99", "argument --batch: expected at most 16, a shard's clips, got 99"),
        ("3 --out x --vae . --steps 0", "--steps: expected a whole number of 1 or more, got '0'"),
        ("3 --out x --vae . --precision half", "precision: expected one of auto, fp32, bf16, fp16, got 'half'"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(main.VERBS, "ablate", "train and score the paper's ablations")
    assert main.main(["ablate", *arguments.split()]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
