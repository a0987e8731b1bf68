"""The paper's ablations in miniature: every row trained with one budget and some seeds, scored, and put in a table.

A table is data: rows of recipes, each a chain of presets of which the next starts from the last. Everything is
resumable (caches, runs, scores); what has been done is not done again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffvas.metrics import strict_frames
from diffvas.train.cache import CacheConfig, build_cache, load_vae
from diffvas.train.checkpoints import check_same_config, write_whole
from diffvas.train.config import DenoiserConfig
from diffvas.train.denoiser import load_run, train_denoiser
from diffvas.train.log import Report, report_lines
from diffvas.train.presets import resolve
from diffvas.train.settings import nearest, resolved
from diffvas.train.validate import predictions, score, soft_masks, truth_of

SECOND_RATE = 0.1  # of the first stage's learning rate: the paper's 3e-6 after 3e-5
MOST_SAMPLES = 10


@dataclass(frozen=True)
class Link:
    """One run of a chain: a preset, some of its fields changed, and its share of the row's steps (0: a single step)."""

    preset: str
    share: float = 1.0
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of a table. ``pretrained``: the chain starts from a pretrained run, which has to be given."""

    name: str
    chain: tuple[Link, ...]
    pretrained: bool = False


@dataclass(frozen=True)
class Table:
    """What is compared; ``rgb`` and ``one_stage``: which caches it needs beside masks and depth."""

    title: str
    rows: tuple[Row, ...]
    rgb: bool = False
    one_stage: bool = False
    samples: int = 1


def _two_stages(first: float, random_channels: bool, rate: float) -> tuple[Link, ...]:
    """The mask alone for a share ``first`` of the steps, then widened and with depth.

    With a share of 0 this is one-stage training of a network whose depth channels start at zero.
    """
    changes = (("rate", rate), ("random_channels", random_channels))
    return Link("mask-only", first), Link("two-stage", 1.0 - first, changes)


TABLES: dict[str, Table] = {
    "conditions": Table(
        "conditions (the paper's Table 3)",
        tuple(
            Row(name, (Link(preset),))
            for name, preset in (
                ("mask", "mask-only"),
                ("mask + RGB", "mask-rgb"),
                ("mask + depth", "amodal"),
                ("mask + RGB + depth", "mask-rgb-depth"),
            )
        ),
        rgb=True,
    ),
    "training": Table(
        "stages and new input channels (the paper's Table 4)",
        (
            Row("one stage, random channels", _two_stages(0.0, True, 1.0)),
            Row("one stage, zero channels", _two_stages(0.0, False, 1.0)),
            Row("two stages, random channels", _two_stages(0.5, True, SECOND_RATE)),
            Row("two stages, zero channels", _two_stages(0.5, False, SECOND_RATE)),
        ),
    ),
    "pretraining": Table(
        "pretrained weights (the paper's Table 6)",
        (
            Row("regression", (Link("regression"),)),
            Row("diffusion", (Link("amodal"),)),
            Row("regression, pretrained", (Link("regression"),), pretrained=True),
            Row("diffusion, pretrained", (Link("amodal"),), pretrained=True),
        ),
    ),
    "end-to-end": Table(
        "one model for masks and RGB, or masks first (the paper's Table 7)",
        (Row("end to end, RGB", (Link("end-to-end"),)), Row("masks first", (Link("amodal"),))),
        one_stage=True,
    ),
    "top-k": Table(
        "best of K samples (the paper's Fig. 8)", (Row("mask + depth", (Link("amodal"),)),), samples=MOST_SAMPLES
    ),
}
NUMBERS = {"3": "conditions", "4": "training", "6": "pretraining", "7": "end-to-end", "fig8": "top-k"}


@dataclass(frozen=True)
class Scale:
    """How large the miniature is.

    Attributes:
        source: "flat", or a folder of scene clips, of which a tenth is held out. vae, colour_vae: of masks, and of RGB
            for the end-to-end model. start: a pretrained run.
        steps: optimiser steps of every row. seeds: of weights, batches and noise; every row with each of them.
        decodings: numbers of sampling steps that are scored. clips: examples to train on. val_clips: held-out ones.
        shard: examples per shard. size, frames: of the examples. data_seed: of the examples.
        batch, span, lr, precision, threads, widths: of the runs.
    """

    source: str
    vae: str
    colour_vae: str = ""
    start: str = ""
    steps: int = 300
    seeds: tuple[int, ...] = (0, 1)
    decodings: tuple[int, ...] = (1, 25)
    clips: int = 256
    val_clips: int = 32
    shard: int = 16
    size: tuple[int, int] = (64, 128)
    frames: int = 25
    data_seed: int = 0
    batch: int = 4
    span: int = 12
    lr: float = 3e-4
    precision: str = "auto"
    threads: int = 0
    widths: tuple[int, ...] = (64, 96, 128)


def find_table(name: str) -> tuple[str, Table]:
    """A table by its name or its number in the paper.

    Raises:
        ValueError: there is none.
    """
    known = NUMBERS.get(name.lower().removeprefix("table"), name)
    if known not in TABLES:
        choices = ", ".join([*TABLES, *NUMBERS])
        raise ValueError(f"table: expected one of {choices}, got '{name}'{nearest(name, list(TABLES))}")
    return known, TABLES[known]


def make_caches(table: Table, scale: Scale, out: Path, progress: Callable[[str, int, int], None]) -> None:
    """Training and held-out caches of every kind that a table needs; held-out conditions are exact."""
    kinds = {"masks": ("amodal", scale.vae)}
    if table.one_stage:
        kinds["one-stage"] = ("end-to-end", scale.colour_vae or scale.vae)
    for kind, (stage, vae) in kinds.items():
        for part, count, seed in (("train", scale.clips, 0), ("val", scale.val_clips, 1)):
            config = CacheConfig(
                stage,
                scale.source,
                (scale.size,),
                -(-count // scale.shard),
                min(scale.shard, count),
                scale.frames,
                scale.data_seed * 2 + seed,
                "all" if scale.source == "flat" else part,
                rgb=table.rgb,
                spoil=part == "train",
            )
            name = f"{kind}-{part}"
            build_cache(
                config,
                load_vae(Path(vae)),
                out / "caches" / name,
                progress=lambda done, total, name=name: progress(name, done, total),  # type: ignore[misc]
            )


def caches_of(config: DenoiserConfig, out: Path) -> tuple[Path, Path]:
    """The training and the held-out cache of a recipe."""
    kind = "one-stage" if config.stage == "end-to-end" else "masks"
    return out / "caches" / f"{kind}-train", out / "caches" / f"{kind}-val"


def slug(name: str) -> str:
    """A row's name as that of a folder."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def train_row(row: Row, seed: int, scale: Scale, out: Path, report: Report) -> Path:
    """Train a row's chain; returns the last run's folder."""
    start = scale.start if row.pretrained else ""
    folder = Path()
    for k, link in enumerate(row.chain):
        folder = out / "runs" / f"{slug(row.name)}-{seed}-{k}"
        options = dict(link.changes)
        steps = max(1, round(link.share * scale.steps))
        given: dict[str, Any] = {
            "lr": scale.lr * float(options.pop("rate", 1.0)),
            "steps": steps,
            "warmup": min(50, steps // 10),
            "save_every": min(100, steps),
            "precision": scale.precision,
            "threads": scale.threads,
            "seed": seed,
            "batch": scale.batch,
            "widths": scale.widths,
            "spans": (scale.span,),
            "data": ("?",),
            "start": start,
            **options,
        }
        config, loop = resolve(link.preset, given)
        config = replace(config, data=(str(caches_of(config, out)[0]),))
        train_denoiser(config, loop, folder, report, link.preset)
        start = str(folder)
    return folder


def score_row(run: Path, table: Table, scale: Scale, out: Path, seed: int) -> list[dict[str, Any]]:
    """One dictionary per decoding (or K): ``steps``, ``samples``, ``miou``, ``miou_occ`` and their N."""
    model, config = load_run(run)
    model.vae = load_vae(Path((scale.colour_vae or scale.vae) if config.stage == "end-to-end" else scale.vae))
    model.vae.eval()
    folders = [caches_of(config, out)[1]]
    if table.samples > 1:
        return best_of_k(model, config, folders, scale, seed, table.samples)
    lines = []
    for steps in (1,) if config.objective == "regression" else scale.decodings:
        numbers, _ = score(model, config, folders, scale.val_clips, steps, seed)
        lines.append({"steps": steps, "samples": 1, **numbers})
    return lines


def best_of_k(
    model: Any, config: DenoiserConfig, folders: list[Path], scale: Scale, seed: int, most: int
) -> list[dict[str, Any]]:
    """For K = 1 ... ``most``: the best of K samples in every frame (the paper's Top-K), and their mean cut at 0.5."""
    lines = []
    for steps in scale.decodings:
        whole, hidden = [[[] for _ in range(most)] for _ in range(2)]  # type: ignore[var-annotated]
        together: list[list[np.ndarray]] = [[] for _ in range(most)]
        clips = 0
        for batch, drawn in predictions(model, config, folders, scale.val_clips, steps, seed, most):
            amodal, modal = truth_of(batch)
            soft = torch.stack([soft_masks(x, config.stage) for x in drawn])
            scores = [strict_frames((s > 0.5).cpu().numpy(), amodal, modal) for s in soft]
            counted = scores[0].counted
            for k in range(most):
                whole[k].append(np.max([s.iou for s in scores[: k + 1]], 0))
                hidden[k].append(np.max([s.iou_occ[counted] for s in scores[: k + 1]], 0))
                mean = strict_frames((soft[: k + 1].mean(0) > 0.5).cpu().numpy(), amodal, modal)
                together[k].append(mean.iou_occ[counted])
            clips += 1
        for k in range(most):
            parts = [np.concatenate(x[k]) for x in (whole, hidden, together)]
            numbers = [float(part.mean()) if part.size else float("nan") for part in parts]
            line = dict(zip(("miou", "miou_occ", "miou_occ_mean"), numbers, strict=True))
            lines.append({"steps": steps, "samples": k + 1, **line, "clips": clips, "frames_occ": parts[1].size})
    return lines


def ablate(
    name: str,
    scale: Scale,
    out: Path,
    *,
    report: Report = report_lines,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Train and score the rows of a table, and write ``out/table.md`` and ``out/table.csv``.

    Returns:
        The Markdown file, and the rows that were left out because no pretrained run was given.

    Raises:
        ValueError: no such table; ``out`` holds one of another scale; bad data or VAE.
    """
    name, table = find_table(name)
    settings = {"table": name, **vars(scale)}
    check_same_config(out, settings)
    make_caches(table, scale, out, progress)
    rows = [row for row in table.rows if not row.pretrained or scale.start]
    jobs = [(row, seed) for row in rows for seed in scale.seeds]
    lines: list[dict[str, Any]] = []
    for done, (row, seed) in enumerate(jobs, 1):
        path = out / "scores" / f"{slug(row.name)}-{seed}.json"
        if not path.exists():
            run = train_row(row, seed, scale, out, report)
            scored = score_row(run, table, scale, out, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda p, s=scored: p.write_text(json.dumps(s, indent=1)))  # type: ignore[misc]
        lines += [{"row": row.name, "seed": seed, **line} for line in json.loads(path.read_text())]
        progress("rows", done, len(jobs))
    write_whole(out / "table.csv", lambda p: p.write_text(as_csv(lines)))
    write_whole(out / "table.md", lambda p: p.write_text(as_markdown(table.title, lines, scale)))
    return out / "table.md", [row.name for row in table.rows if row not in rows]


def as_csv(lines: Sequence[dict[str, Any]]) -> str:
    """One line per row, seed and decoding, nothing averaged."""
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def as_markdown(title: str, lines: Sequence[dict[str, Any]], scale: Scale) -> str:
    """Means over the seeds with their sample standard deviation, in per cent, and N."""
    more = any("miou_occ_mean" in line for line in lines)
    head = ["row", "steps", "samples", "mIoU", "mIoU_occ", *(["mIoU_occ of the mean"] if more else []), "N"]
    text = [f"# {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    keys = list(dict.fromkeys((line["row"], line["steps"], line["samples"]) for line in lines))
    for key in keys:
        same = [line for line in lines if (line["row"], line["steps"], line["samples"]) == key]
        values = [spread([line[field] for line in same]) for field in ("miou", "miou_occ")]
        if more:
            values.append(spread([line["miou_occ_mean"] for line in same]))
        counts = f"{same[0]['clips']} clips, {same[0]['frames_occ']} frames"
        text.append("| " + " | ".join([key[0], str(key[1]), str(key[2]), *values, counts]) + " |")
    seeds = ", ".join(map(str, scale.seeds))
    text += ["", f"Per cent, mean ± standard deviation over seeds {seeds}; {scale.steps} training steps of"]
    text += [f"{scale.batch} clips a row; held-out clips, strict protocol, threshold 0.5; N per seed."]
    return "\n".join(text) + "\n"


def spread(values: Sequence[float]) -> str:
    """``43.1 ± 0.8`` from shares; one value has no spread."""
    percent = 100 * np.asarray(values, np.float64)
    return f"{percent.mean():.1f}" + (f" ± {percent.std(ddof=1):.1f}" if len(percent) > 1 else "")


def settle(scale: Scale) -> Scale:
    """The same with the precision that this machine has; see ``settings.resolved``."""
    _, loop = resolve("amodal", {"data": ("?",), "precision": scale.precision})
    return replace(scale, precision=resolved(loop).precision)
