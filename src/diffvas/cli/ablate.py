"""``diffvas ablate``: train and score the rows of one of the paper's ablation tables, in miniature."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffvas.cli.console import StageProgress, UsageError, blame, fail, number, sizes, whole_number

HELP = """\
Train and score the rows of an ablation: equal budgets, several seeds, held-out clips; resumable.

  conditions   (3)    mask, + RGB, + depth, + both
  training     (4)    one or two stages, new input channels at zero or at random
  pretraining  (6)    diffusion and regression, with and without pretrained weights (--start)
  end-to-end   (7)    one model for masks and RGB, or masks first
  top-k        (fig8) best of K samples, K = 1 ... 10

OUT/table.md has means and spread over the seeds, OUT/table.csv every number."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="TABLE", help="a name or number from above")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="caches, runs, scores and the table")
    parser.add_argument("--vae", metavar="DIR", type=Path, required=True, help="the VAE of masks")
    parser.add_argument("--colour-vae", metavar="DIR", type=Path, help="the VAE of RGB, for end-to-end [--vae]")
    parser.add_argument("--source", metavar="flat|DIR", default="flat", help="scenes; a tenth is held out [flat]")
    parser.add_argument("--start", metavar="RUN", type=Path, help="the pretrained run of 'pretraining'")
    parser.add_argument("--steps", metavar="N", type=whole_number(1), default=300, help="training steps a row [300]")
    parser.add_argument("--seeds", metavar="S", type=whole_number(0), nargs="+", default=[0, 1], help="[0 1]")
    parser.add_argument("--decodings", metavar="N", type=whole_number(1), nargs="+", default=[1, 25], help="[1 25]")
    parser.add_argument("--clips", metavar="N", type=whole_number(1), default=256, help="to train on [256]")
    parser.add_argument("--val-clips", metavar="N", type=whole_number(1), default=32, help="held out [32]")
    parser.add_argument("--size", metavar="HxW", type=sizes, default=((64, 128),), help="of the examples [64x128]")
    parser.add_argument("--frames", metavar="N", type=whole_number(1), default=25, help="of an example [25]")
    parser.add_argument("--batch", metavar="N", type=whole_number(1), default=4, help="clips a step [4]")
    parser.add_argument("--span", metavar="N", type=whole_number(1), default=12, help="frames of a clip [12]")
    parser.add_argument(
        "--widths", metavar="N", type=whole_number(32), nargs=3, default=[64, 96, 128], help="of the UNet [64 96 128]"
    )
    parser.add_argument("--lr", metavar="X", type=number(0, above=True), default=3e-4, help="[3e-4]")
    parser.add_argument("--precision", metavar="WORD", default="auto", help="auto, fp32, bf16 [auto]")
    parser.add_argument(
        "--threads", metavar="N", type=whole_number(0), default=0, help="torch threads [torch's choice]"
    )


def run(args: argparse.Namespace) -> int:
    """Check what needs no torch, then run the table; see :data:`HELP`."""
    for name in ("vae", "colour_vae", "start"):
        path = getattr(args, name)
        if path is not None and not path.is_dir():
            raise UsageError(f"argument --{name.replace('_', '-')}: expected an existing folder, got '{path}'")
    if args.batch > min(16, args.clips):
        raise UsageError(f"argument --batch: expected at most {min(16, args.clips)}, a shard's clips, got {args.batch}")
    from diffvas.train.ablate import Scale, ablate, find_table, settle

    with blame("TABLE"):
        name, _ = find_table(args.table)
    scale = Scale(
        source=args.source,
        vae=str(args.vae),
        colour_vae=str(args.colour_vae or ""),
        start=str(args.start or ""),
        steps=args.steps,
        seeds=tuple(dict.fromkeys(args.seeds)),
        decodings=tuple(dict.fromkeys(args.decodings)),
        clips=args.clips,
        val_clips=args.val_clips,
        size=args.size[0],
        frames=args.frames,
        batch=args.batch,
        span=args.span,
        lr=args.lr,
        precision=args.precision,
        threads=args.threads,
        widths=tuple(args.widths),
    )
    try:
        with StageProgress() as progress:
            path, left_out = ablate(name, settle(scale), args.out, report=quiet, progress=progress)
    except FloatingPointError as error:
        return fail(str(error), "diffvas ablate")
    except KeyboardInterrupt:
        message = "interrupted; the same command goes on from what is saved"
        return fail(message, "diffvas ablate", status=130, kind="stopped")
    print(path.read_text(), end="")
    if left_out:
        print(f"left out, for want of a pretrained run (--start): {', '.join(left_out)}")
    print(f"{path}, {path.with_suffix('.csv')}")
    return 0


def quiet(done: int, total: int, line: object) -> None:
    """Runs keep their own log; the table's progress is what is shown."""
