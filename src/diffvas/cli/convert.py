"""``diffvas convert``: a released checkpoint, or Stable Video Diffusion itself, as a clean model folder."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from diffvas.cli.console import UsageError, blame, one_of, whole_number

HELP = """\
Write a model in the clean layout: diffusers' own classes, safetensors, nothing unused.

  convert SRC DST                      both stages (a folder with amodal/ and content/, `official`,
                                       or STAGE1,STAGE2) into DST/amodal and DST/content
  convert SRC DST --stage amodal       one stage, which the released layout does not name, into DST
  convert SVD DST --stage amodal --widen zero
                                       Stable Video Diffusion with four more input channels, to train"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    stages, dtypes, modes = ("amodal", "content"), ("float32", "bfloat16", "float16"), ("zero", "random")
    parser.add_argument("source", metavar="SRC", help="a folder, a Hugging Face id, official, or STAGE1,STAGE2")
    parser.add_argument("out", metavar="DST", help="folder to write, new or empty")
    parser.add_argument("--stage", metavar="|".join(stages), type=one_of(*stages), help="SRC is this one stage")
    parser.add_argument(
        "--widen", metavar="|".join(modes), type=one_of(*modes), help="SRC is SVD: the new channels start so"
    )
    parser.add_argument("--seed", metavar="S", type=whole_number(0), default=0, help="of random new channels [0]")
    parser.add_argument(
        "--dtype", metavar="NAME", type=one_of(*dtypes), default="float32", help=f"{', '.join(dtypes)} [float32]"
    )


def run(args: argparse.Namespace) -> int:
    """Read, check, write; see :data:`HELP`."""
    if args.widen and not args.stage:
        raise UsageError("argument --widen: expected --stage with it (SVD is neither stage), got none")
    out = Path(args.out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UsageError(f"argument DST: expected a new or empty folder, got '{args.out}', which is not")
    module = importlib.import_module("diffvas.pipelines.convert")
    with blame("SRC"):
        written = module.convert(args.source, out, stage=args.stage, dtype=args.dtype, widen=args.widen, seed=args.seed)
    for folder, size in written.items():
        print(f"{folder}: {size / 1e6:,.0f} M parameters in the UNet")
    return 0
