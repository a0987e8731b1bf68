"""``diffvas speed``: how fast stage 1 is on this machine, setting by setting, beside a plain loop."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from diffvas.cli.console import StageProgress, UsageError, blame, not_negative, one_of, whole_number

HELP = """\
Time stage 1 in several settings, each in a process of its own, beside a plain loop written as the
reference's inference goes: float32, one frame at a time through the VAE, guidance in every step.

The first lines compute the same; 'difference' says how nearly (mean absolute, of frames in [0, 1])
and 'flipped' which share of mask pixels falls on the other side of one half. The last lines take
fewer steps, which is another result: `diffvas eval` says how good it is."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--model", metavar="NAME", default="tiny", help="as for `diffvas complete` [tiny]")
    devices = ("auto", "cpu", "cuda")
    parser.add_argument("--device", metavar="|".join(devices), type=one_of(*devices), default="auto", help="[auto]")
    parser.add_argument("--size", metavar=("H", "W"), nargs=2, type=whole_number(32), help="[the model's]")
    parser.add_argument("--frames", metavar="T", type=whole_number(1), help="[the model's]")
    parser.add_argument("--steps", metavar="N", type=whole_number(1), default=25, help="of the plain loop [25]")
    parser.add_argument("--guidance", metavar="G", type=not_negative, default=1.5, help="of the plain loop [1.5]")
    parser.add_argument("--repeats", metavar="N", type=whole_number(1), default=3, help="the fastest counts [3]")
    parser.add_argument(
        "--rounds", metavar="N", type=whole_number(1), default=1, help="go through all settings N times [1]"
    )
    parser.add_argument(
        "--only", metavar="WORDS", nargs="+", help="settings with these words in their names, and the plain loop"
    )
    parser.add_argument("--json", metavar="FILE", help="also write everything there")


def run(args: argparse.Namespace) -> int:
    """Measure and print; see :data:`HELP`."""
    if args.json and (Path(args.json).is_dir() or not Path(args.json).absolute().parent.is_dir()):
        raise UsageError(f"argument --json: expected a file in an existing folder, got '{args.json}'")
    if args.guidance == 1.0:
        raise UsageError(
            "argument --guidance: expected another number than 1 (the plain loop computes both halves), got 1"
        )
    speed = importlib.import_module("diffvas.bench.speed")
    devices = importlib.import_module("diffvas.devices")
    with blame("--device"):
        device = devices.pick_device(args.device)
    size, frames = args.size, args.frames
    if size is None or frames is None:
        loading = importlib.import_module("diffvas.pipelines.loading")
        with blame("--model"):
            model = loading.load_pipelines(args.model, "cpu", content=False)
        size, frames = size or model.working_size(1, 2), frames or model.frames
        del model
    job = speed.Job(args.model, args.device, (size[0], size[1]), frames, args.repeats)
    lines = speed.settings(device, args.steps, args.guidance)
    if args.only:
        lines = lines[:1] + [line for line in lines[1:] if any(words in line.name for words in args.only)]
    with StageProgress() as progress:
        report = speed.compare(job, lines, args.rounds, progress)
    print_table(report)
    if args.json:
        from diffvas.bench.report import write_json

        write_json(args.json, report)
    return 0


def print_table(report: dict[str, Any]) -> None:
    """One line per setting."""
    from rich.console import Console
    from rich.table import Table

    job = report["job"]
    peaks = ", ".join(f"{value:.2f} TFLOP/s in {name}" for name, value in report["peak_tflops"].items())
    table = Table(
        title=f"{job['model']}, {job['frames']} frames of {job['size'][0]}x{job['size'][1]}, {job['device']}, "
        f"{report['threads']} threads; matrix products: {peaks}"
    )
    table.add_column("setting")
    for name in ("encode", "denoise", "decode", "seconds", "ratio", "peak GiB", "of peak", "difference", "flipped"):
        table.add_column(name, justify="right")
    for line in report["settings"]:
        seconds = [f"{line['seconds'][stage]:.2f}" for stage in ("encode", "denoise", "decode")]
        table.add_row(
            line["name"],
            *seconds,
            f"{line['total']:.2f}",
            f"{line['ratio']:.2f}x",
            f"{line['peak_bytes'] / 2**30:.2f}",
            f"{100 * line['share_of_peak']:.0f} %",
            f"{line['difference']:.1e}",
            f"{100 * line['flipped']:.2f} %",
        )
    Console(width=150).print(table)
