"""``diffvas train``: the steps that made the bundled models, each resumable by the same command."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from diffvas.cli.console import UsageError, blame

HELP = """train a model from scratch on synthetic scenes; every step resumes by the same command

  diffvas train vae     --out runs/vae
  diffvas train encode  --vae runs/vae/vae --stage amodal --source flat --out caches/flat
  diffvas train amodal  --data caches/flat --vae runs/vae/vae --out runs/amodal
  diffvas train content --data caches/rgb  --vae runs/vae/vae --out runs/content
  diffvas train bundle  --vae runs/vae/vae --amodal runs/amodal --content runs/content --out my_model
"""


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """``128x256,160x192`` -> ((128, 256), (160, 192))."""
    try:
        pairs = tuple((int(a), int(b)) for a, b in (item.split("x") for item in text.split(",")))
    except ValueError:
        pairs = ()
    if not pairs or any(a < 32 or b < 32 or a % 32 or b % 32 for a, b in pairs):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH[,...], multiples of 32, got {text!r}")
    return pairs


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("vae", "encode", "amodal", "content", "bundle"), help="the step")
    parser.add_argument("--out", required=True, type=Path, help="folder of the run, the cache or the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="torch threads, 0 = torch's choice")
    parser.add_argument("--vae", type=Path, help="a trained VAE (folder)")
    run = parser.add_argument_group("vae, amodal, content")
    run.add_argument("--steps", type=int, default=1000)
    run.add_argument("--lr", type=float, default=3e-4)
    run.add_argument("--warmup", type=int, default=50)
    run.add_argument("--decay", type=float, default=0.5, help="share of the steps over which the rate falls")
    run.add_argument("--save-every", type=int, default=100)
    run.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    run.add_argument("--data", nargs="+", type=Path, default=[], help="latent caches")
    run.add_argument("--weights", nargs="+", type=float, help="how often each cache is drawn (default: equally)")
    run.add_argument("--batch", type=int, default=2, help="clips per step")
    run.add_argument("--spans", nargs="+", type=int, default=[25], help="numbers of frames to choose from")
    run.add_argument("--start", type=Path, help="a run to take the first weights from")
    cache = parser.add_argument_group("encode")
    cache.add_argument("--stage", choices=("amodal", "content"), default="amodal")
    cache.add_argument("--source", default="flat", help="'flat' or a folder of scenes (diffvas world make)")
    cache.add_argument("--sizes", type=sizes, default=((128, 256),))
    cache.add_argument("--shards", type=int, default=16)
    cache.add_argument("--per-shard", type=int, default=16)
    cache.add_argument("--frames", type=int, default=25)
    cache.add_argument("--compile", action="store_true", help="compile the encoder: twice as fast after about a minute")
    parts = parser.add_argument_group("bundle")
    parts.add_argument("--amodal", type=Path, help="a run of stage 1")
    parts.add_argument("--content", type=Path, help="a run of stage 2")


def need(args: argparse.Namespace, *names: str) -> None:
    """Refuse, naming the option, where one that this step needs was not given or is no folder."""
    for name in names:
        value = getattr(args, name)
        if not value:
            raise UsageError(f"argument --{name}: expected one with 'diffvas train {args.what}', got none")
        for path in value if isinstance(value, list) else [value]:
            if not Path(path).is_dir():
                raise UsageError(f"argument --{name}: expected an existing folder, got '{path}'")


def run(args: argparse.Namespace) -> int:
    """Run one step; torch is imported only after the arguments have been checked."""
    for name in ("steps", "batch", "shards", "per_shard", "frames"):
        if getattr(args, name) < 1:
            raise UsageError(f"argument --{name.replace('_', '-')}: expected at least 1, got {getattr(args, name)}")
    if args.weights is not None and len(args.weights) != len(args.data):
        raise UsageError(f"argument --weights: expected {len(args.data)} numbers like --data, got {len(args.weights)}")
    needed = {
        "vae": (),
        "encode": ("vae",),
        "amodal": ("data",),
        "content": ("data",),
        "bundle": ("vae", "amodal", "content"),
    }
    need(args, *needed[args.what])
    with blame(f"train {args.what}"):
        {"vae": train_vae, "encode": encode, "amodal": denoise, "content": denoise, "bundle": bundle}[args.what](args)
    return 0


def loop_config(args: argparse.Namespace):
    from diffvas.train.loop import LoopConfig

    return LoopConfig(
        steps=args.steps,
        lr=args.lr,
        warmup=args.warmup,
        decay=args.decay,
        save_every=args.save_every,
        seed=args.seed,
        threads=args.threads,
        ema=0.99,
        device=args.device,
    )


def train_vae(args: argparse.Namespace) -> None:
    from diffvas.train.vae import train_vae as start

    start(args.out, replace(loop_config(args)))


def load_vae(path: Path):
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder.from_pretrained(path)


def encode(args: argparse.Namespace) -> None:
    import torch
    from rich.progress import track

    from diffvas.train.cache import CacheConfig, build_cache

    if args.threads:
        torch.set_num_threads(args.threads)
    config = CacheConfig(args.stage, args.source, args.sizes, args.shards, args.per_shard, args.frames, args.seed)
    bar = iter(track(range(args.shards), "shards"))
    next(bar, None)
    build_cache(
        config, load_vae(args.vae), args.out, compiled=args.compile, progress=lambda done, total: next(bar, None)
    )


def denoise(args: argparse.Namespace) -> None:
    from diffvas.train.denoiser import DenoiserConfig, train_denoiser

    weights = tuple(args.weights or [1.0] * len(args.data))
    config = DenoiserConfig(
        args.what, tuple(map(str, args.data)), weights, args.batch, tuple(args.spans), start=str(args.start or "")
    )
    train_denoiser(config, loop_config(args), args.out)


def bundle(args: argparse.Namespace) -> None:
    from diffvas.train.bundle import save_model

    save_model(args.vae, {"amodal": args.amodal, "content": args.content}, args.out)
    print(f"{args.out}: ready for diffvas complete --model {args.out}")
