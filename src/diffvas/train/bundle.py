"""Put trained parts together: a folder with both stages in fp16, as ``load_pipelines`` reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from diffvas.diffusion.pixel_net import FOLD, PixelNet
from diffvas.pipelines.loading import PIXEL_NETS
from diffvas.train.cache import load_vae
from diffvas.train.denoiser import WEIGHTS, Denoiser, as_pipeline, load_run
from diffvas.train.pixels import RECIPES

# area: pixels per frame the model works at; focus: see ``focus.follow``; depth_rule: see ``order.py``;
# memory, votes: see ``shape_memory.py``; halo: see ``pixels.trim_halo``; sure: see ``doubt.py``; odds, rounds, heed:
# see ``finish.py``; spread: see ``uncertainty``; threshold: where the mean of the samples is cut; detail: the network's
# own share in the content. Chosen on validation scenes with ``diffvas eval scenes``; see the card beside the weights.
DEFAULTS: dict[str, dict[str, Any]] = {
    "amodal": {
        "steps": 1,
        "samples": 1,
        "guidance": 1.0,
        "threshold": 0.4,
        "area": 64 * 128,
        "frames": 25,
        "focus": 2.0,
        "depth_rule": True,
        "memory": True,
        "votes": 0.5,
        "halo": 0.03,
        "spread": True,
    },
    "content": {"steps": 1, "samples": 1, "guidance": 1.0, "detail": 0.15, "recall": True},
}
# what changes with networks on pixels: no votes beside them, no rim cut off but what nothing is sure of, and a closer
# look; chosen on validation scenes, see the card
WITH_NETS: dict[str, dict[str, Any]] = {
    "amodal": {
        "threshold": 0.45,
        "votes": 0.0,
        "halo": 0.0,
        "sure": 0.9,
        "odds": 4.5,
        "rounds": 2,
        "heed": 0.5,
        "focus": 1.6,
    },
    "content": {},
}


def save_model(
    vaes: Mapping[str, Path],
    runs: Mapping[str, Path | Sequence[Path]],
    out: Path,
    defaults: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Write ``out/amodal`` and ``out/content``, fp16 safetensors; a VAE that both use is stored once, with stage 1.

    Args:
        vaes: stage -> a saved VAE.
        runs: stage -> folder of a training run with ``average.safetensors``, or several from one start, whose weights
            are averaged ("model soup", Wortsman et al. 2022).
        defaults: stage -> how the pipeline turns the model into a result; ``DEFAULTS`` where None.

    Raises:
        ValueError: a run without averaged weights or of the other stage, or ``out`` is something else than a model,
            which would have to go.
    """
    several = {stage: [run] if isinstance(run, Path) else list(run) for stage, run in runs.items()}
    for stage, folders in several.items():
        for run in folders:
            check_run(stage, run)
    check_place(out)
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    for stage, folders in several.items():
        model = average_runs(folders)
        vae = load_vae(vaes[stage])
        pipe = as_pipeline(model, vae, stage, (defaults or DEFAULTS)[stage]).to(torch.float16)
        pipe.save_pretrained(temporary / stage)
        if stage != "amodal" and vaes[stage] == vaes["amodal"]:
            shutil.rmtree(temporary / stage / "vae")
    replace_model(temporary, out)


def add_nets(model: Path, runs: Sequence[Path], out: Path, defaults: dict[str, dict[str, Any]] | None = None) -> None:
    """Write a copy of a model with networks on pixels beside its stages, fp16 safetensors.

    Args:
        model: a folder with ``amodal`` and ``content``; may be ``out`` itself.
        runs: of ``train_pixels``; several of one network are averaged (they must come from one start), channels over
            those that know them.
        defaults: stage -> settings that change with them; ``WITH_NETS`` where None.

    Raises:
        ValueError: a folder that is no such run, or ``out`` is something else than a model.
    """
    found: dict[str, list[Path]] = {}
    for run in runs:
        config = run / "config.json"
        net = json.loads(config.read_text()).get("preset") if config.is_file() else None
        if net not in RECIPES or not (run / "net" / "config.json").is_file():
            raise ValueError(f"pixels: expected a run of one of {', '.join(RECIPES)}, got {run}")
        found.setdefault(net, []).append(run / "net")
    check_place(out)
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(model, temporary)
    for stage, nets in PIXEL_NETS.items():
        for net in nets:
            if net in found:
                shutil.rmtree(temporary / stage / net, ignore_errors=True)
                _average_nets(found[net]).unet.half().save_pretrained(temporary / stage / net)
        index = temporary / stage / "model_index.json"
        settings = json.loads(index.read_text())
        settings["defaults"] |= (WITH_NETS if defaults is None else defaults).get(stage, {})
        index.write_text(json.dumps(settings, indent=2) + "\n")
    replace_model(temporary, out)


def _average_nets(folders: Sequence[Path]) -> PixelNet:
    """The mean of saved networks on pixels, with as many channels in as the one that knows most; what some do not know
    is the mean of those that do."""
    nets = [PixelNet.load(folder) for folder in folders]
    most = max(net.inputs for net in nets)
    states = [net.widened(most).state_dict() for net in nets]
    mean = nets[-1].widened(most)
    state = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    know = torch.stack([torch.arange(most) < net.inputs for net in nets]).float().mean(0)
    state["unet.conv_in.weight"] /= know.repeat_interleave(FOLD**2)[:, None, None]
    mean.load_state_dict(state)
    return mean


def check_place(out: Path) -> None:
    """Raise ValueError where ``out`` is something else than a model, which would have to go."""
    if out.exists() and not (out / "amodal" / "model_index.json").is_file() and (out.is_file() or any(out.iterdir())):
        raise ValueError(f"out: expected a new folder or a model to replace, got {out} with something else")


def replace_model(temporary: Path, out: Path) -> None:
    """Give a finished folder its name; cards stay, and where parts lay on the machine they were made on goes."""
    for config in temporary.rglob("config.json"):
        settings = json.loads(config.read_text())
        if settings.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(settings, indent=2) + "\n")
    keep_cards(out, temporary)
    shutil.rmtree(out, ignore_errors=True)
    temporary.rename(out)


def average_runs(folders: Sequence[Path]) -> Denoiser:
    """The networks of a run, or the mean of several's weights.

    Raises:
        ValueError: networks that differ in shape.
    """
    model, config = load_run(folders[0])
    total = {name: value.double() for name, value in model.state_dict().items()}
    for folder in folders[1:]:
        other, theirs = load_run(folder)
        if (theirs.widths, theirs.conditions) != (config.widths, config.conditions):
            raise ValueError(f"runs: expected networks of one shape, got {folders[0]} and {folder}")
        for name, value in other.state_dict().items():
            total[name] += value
    model.load_state_dict({name: (value / len(folders)).to(torch.float32) for name, value in total.items()})
    return model


def check_run(stage: str, run: Path) -> None:
    """Raise ValueError unless ``run`` is a training run of ``stage`` with averaged weights."""
    if not (run / WEIGHTS).is_file():
        raise ValueError(f"{stage}: expected a training run with {WEIGHTS}, got {run} without")
    config = run / "config.json"
    trained = json.loads(config.read_text()).get("denoiser", {}).get("stage", stage) if config.is_file() else stage
    if trained != stage:
        raise ValueError(f"{stage}: expected a training run of this stage, got {run}, which trained {trained}")


def keep_cards(old: Path, new: Path) -> None:
    """Carry what people wrote beside an older model's weights (``*.md``) over to the new one."""
    for card in old.rglob("*.md") if old.is_dir() else ():
        to = new / card.relative_to(old)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(card, to)
