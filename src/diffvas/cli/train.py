"""``diffvas train``: the steps that made the bundled models, each resumable by the same command."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffvas.cli.console import StageProgress, UsageError, fail, whole_number

if TYPE_CHECKING:
    from diffusers import AutoencoderKLTemporalDecoder
    from rich.progress import Progress

    from diffvas.train.loop import LoopConfig, Report

HELP = """train a model from scratch on synthetic scenes; every step resumes by the same command

  diffvas train vae     --stage amodal --out runs/vae
  diffvas train encode  --stage amodal --vae runs/vae/vae --source flat --out caches/flat
  diffvas train amodal  --data caches/flat --out runs/amodal
  diffvas train vae     --stage content --out runs/colour_vae
  diffvas train encode  --stage content --vae runs/colour_vae/vae --source flat --out caches/rgb
  diffvas train content --data caches/rgb --out runs/content --start runs/amodal
  diffvas train bundle  --vae runs/vae/vae --content-vae runs/colour_vae/vae --amodal runs/amodal \\
                        --content runs/content --out my_model
"""

# step -> the folders it cannot do without
NEEDED = {
    "vae": (),
    "encode": ("vae",),
    "amodal": ("data",),
    "content": ("data",),
    "bundle": ("vae", "amodal", "content"),
}


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """``128x256,160x192`` -> ((128, 256), (160, 192))."""
    try:
        pairs = tuple((int(a), int(b)) for a, b in (item.split("x") for item in text.split(",")))
    except ValueError:
        pairs = ()
    if not pairs or any(a < 32 or b < 32 or a % 32 or b % 32 for a, b in pairs):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH[,...], multiples of 32, got {text!r}")
    return pairs


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite number from ``low`` to ``high``; ``above``: more than ``low``."""
    wanted = f"a number {'above' if above else 'of at least'} {low:g}" + (
        f", at most {high:g}" if high < math.inf else ""
    )

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high) or (above and value == low):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got '{text}'")
        return value

    return parse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("vae", "encode", "amodal", "content", "bundle"), help="the step")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run, the cache or the model")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--threads", type=whole_number(0), default=0, help="torch threads, 0 = torch's choice")
    parser.add_argument("--vae", type=Path, help="a trained VAE (folder)")
    parser.add_argument("--stage", choices=("amodal", "content"), default="amodal", help="the stage it is for")
    run = parser.add_argument_group("vae, amodal, content")
    run.add_argument("--steps", type=whole_number(1), default=1000)
    run.add_argument("--lr", type=number(0, above=True), default=3e-4)
    run.add_argument("--warmup", type=whole_number(0), default=50)
    run.add_argument("--decay", type=number(0, 1), default=0.5, help="share of the steps over which the rate falls")
    run.add_argument("--save-every", type=whole_number(1), default=100)
    run.add_argument("--log-every", type=whole_number(1), default=20)
    run.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    run.add_argument("--data", nargs="+", type=Path, default=[], help="latent caches")
    run.add_argument("--weights", nargs="+", type=number(0), help="how often each cache is drawn (default: equally)")
    run.add_argument("--batch", type=whole_number(1), default=2, help="clips per step")
    run.add_argument("--spans", nargs="+", type=whole_number(1), default=[25], help="numbers of frames to choose from")
    run.add_argument("--noise-top", type=float, default=0.35, help="share of steps at the highest noise level")
    run.add_argument("--scenes", type=Path, help="vae: a folder of scenes to use beside the flat world")
    run.add_argument("--start", type=Path, help="a run to take the first weights from")
    cache = parser.add_argument_group("encode")
    cache.add_argument("--source", default="flat", help="'flat' or a folder of scenes (diffvas world make)")
    cache.add_argument("--sizes", type=sizes, default=((128, 256),))
    cache.add_argument("--shards", type=whole_number(1), default=16)
    cache.add_argument("--per-shard", type=whole_number(1), default=16)
    cache.add_argument("--frames", type=whole_number(1), default=25)
    cache.add_argument("--compile", action="store_true", help="compile the encoder: twice as fast after about a minute")
    parts = parser.add_argument_group("bundle")
    parts.add_argument("--content-vae", type=Path, help="the VAE of stage 2 (default: --vae)")
    parts.add_argument("--amodal", type=Path, help="a run of stage 1")
    parts.add_argument("--content", type=Path, help="a run of stage 2")


def check(args: argparse.Namespace) -> None:
    """Refuse, naming the option, what can be seen to be wrong without torch: folders that are missing or none."""
    for name in NEEDED[args.what]:
        if not getattr(args, name):
            raise UsageError(f"argument --{name}: expected one with 'diffvas train {args.what}', got none")
    given = {name: getattr(args, name) for name in (*NEEDED[args.what], "start", "scenes", "content_vae")}
    for name, value in given.items():
        for path in value if isinstance(value, list) else [value] if value else []:
            if not path.is_dir():
                raise UsageError(f"argument --{name.replace('_', '-')}: expected an existing folder, got '{path}'")
    if args.what == "encode" and args.source != "flat" and not Path(args.source).is_dir():
        raise UsageError(f"argument --source: expected 'flat' or an existing folder, got '{args.source}'")
    for place in (args.out, *args.out.parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"argument --out: expected a folder, got '{args.out}', where '{place}' is a file")
            break
    if args.weights is not None and len(args.weights) != len(args.data):
        raise UsageError(f"argument --weights: expected {len(args.data)} numbers like --data, got {len(args.weights)}")
    if args.weights is not None and not sum(args.weights):
        raise UsageError("argument --weights: expected at least one number above 0, got none")


def run(args: argparse.Namespace) -> int:
    """Run one step; torch is imported only after the arguments have been checked."""
    check(args)
    steps = {"vae": train_vae, "encode": encode, "amodal": denoise, "content": denoise, "bundle": bundle}
    prog = f"diffvas train {args.what}"
    try:
        with options_named(args):
            steps[args.what](args)
    except FloatingPointError as error:
        return fail(str(error), prog)
    except KeyboardInterrupt:
        return fail("interrupted; the same command goes on from what is saved", prog, status=130, kind="stopped")
    return 0


@contextlib.contextmanager
def options_named(args: argparse.Namespace) -> Iterator[None]:
    """Name the option where the library's message begins with a parameter of the same name ("out: expected ...")."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        found = re.match(r"(\w+): (.*)", str(error), re.DOTALL)
        if found is None or not hasattr(args, found[1]):
            raise
        raise UsageError(f"argument --{found[1].replace('_', '-')}: {found[2]}") from error


def loop_config(args: argparse.Namespace) -> LoopConfig:
    from diffvas.pipelines.loading import has_bf16, pick_device
    from diffvas.train.loop import LoopConfig

    pick_device(args.device)
    return LoopConfig(
        steps=args.steps,
        lr=args.lr,
        warmup=args.warmup,
        decay=args.decay,
        save_every=args.save_every,
        log_every=args.log_every,
        seed=args.seed,
        threads=args.threads,
        ema=0.99,
        bf16=args.device == "cuda" or has_bf16(),
        device=args.device,
    )


@contextlib.contextmanager
def shown(what: str) -> Iterator[Report]:
    """A report for the training loop: a bar with loss, rate and time left on a terminal, plain lines elsewhere."""
    from diffvas.train.loop import report_lines

    if not sys.stderr.isatty():
        yield report_lines
        return
    with make_bar() as bar:
        task = bar.add_task(what, total=None, numbers="")

        def report(done: int, total: int, line: dict[str, Any] | None) -> None:
            if bar.tasks[0].total is None:  # the first step of this run, which may not be the first of all
                bar.reset(task, total=total, completed=done - 1)
            bar.update(task, completed=done)
            if line is not None:
                bar.update(task, numbers=numbers_text(line))

        yield report


def numbers_text(line: dict[str, Any]) -> str:
    """``loss 0.123  lr 0.0003`` from a log line."""
    return "  ".join(f"{k} {v:.3g}" for k, v in line.items() if k not in ("step", "seconds", "left"))


def make_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(file=sys.stderr),
    )


def train_vae(args: argparse.Namespace) -> None:
    from diffvas.train.vae import train_vae as start

    with shown("vae") as report:
        start(args.out, loop_config(args), args.stage, args.scenes, report)
    print(f"{args.out / 'vae'}: ready for diffvas train encode --vae {args.out / 'vae'}")


def load_vae(path: Path) -> AutoencoderKLTemporalDecoder:
    """A saved VAE.

    Raises:
        ValueError: the folder holds none that can be read.
    """
    from diffusers import AutoencoderKLTemporalDecoder

    try:
        return AutoencoderKLTemporalDecoder.from_pretrained(path, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"vae: expected a folder with a saved VAE, got {path} ({reason})") from error


def encode(args: argparse.Namespace) -> None:
    import torch

    from diffvas.train.cache import CacheConfig, build_cache

    if args.threads:
        torch.set_num_threads(args.threads)
    config = CacheConfig(args.stage, args.source, args.sizes, args.shards, args.per_shard, args.frames, args.seed)
    vae = load_vae(args.vae)
    with StageProgress() as progress:
        build_cache(config, vae, args.out, compiled=args.compile, progress=lambda n, all_: progress("shards", n, all_))
    print(f"{args.out}: ready for diffvas train {args.stage} --data {args.out}")


def denoise(args: argparse.Namespace) -> None:
    from diffvas.train.denoiser import DenoiserConfig, train_denoiser

    config = DenoiserConfig(
        stage=args.what,
        data=tuple(map(str, args.data)),
        weights=tuple(args.weights or [1.0] * len(args.data)),
        batch=args.batch,
        spans=tuple(args.spans),
        noise_top=args.noise_top,
        start=str(args.start or ""),
    )
    with shown(args.what) as report:
        train_denoiser(config, loop_config(args), args.out, report)
    print(f"{args.out}: ready for diffvas train bundle --{args.what} {args.out}")


def bundle(args: argparse.Namespace) -> None:
    from diffvas.train.bundle import save_model

    vaes = {"amodal": args.vae, "content": args.content_vae or args.vae}
    for path in vaes.values():
        load_vae(path)
    save_model(vaes, {"amodal": args.amodal, "content": args.content}, args.out)
    print(f"{args.out}: ready for diffvas complete --model {args.out}")
