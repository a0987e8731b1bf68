"""``diffvas world``: render scenes with exact truth, and look at them."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffvas.cli.console import StageProgress, UsageError, blame, whole_number

HELP = """render synthetic video with exact amodal truth, and look at it

  diffvas world make --preset mixed --clips 100 --seed 1 --out scenes
  diffvas world look scenes --out sheet.png
"""


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", required=True, metavar="make|look")
    make = verbs.add_parser("make", help="render clips; the same command resumes")
    make.add_argument("--preset", default="mixed")
    make.add_argument("--clips", type=whole_number(1), required=True)
    make.add_argument("--seed", type=whole_number(0), default=0)
    make.add_argument("--workers", type=whole_number(1), default=1)
    make.add_argument("--frames", type=whole_number(1), default=25)
    make.add_argument("--size", nargs=2, type=whole_number(16), default=(128, 256), metavar=("HEIGHT", "WIDTH"))
    make.add_argument("--out", required=True)
    look = verbs.add_parser("look", help="a contact sheet of the clips in a folder")
    look.add_argument("folder")
    look.add_argument("--clips", type=whole_number(1), default=10)
    look.add_argument("--out", default="sheet.png")


def run(args: argparse.Namespace) -> int:
    return make(args) if args.what == "make" else look(args)


def make(args: argparse.Namespace) -> int:
    from diffvas.world.make import make_clips

    with blame("world make"), StageProgress() as progress:
        paths = make_clips(
            args.preset,
            args.clips,
            args.seed,
            args.out,
            workers=args.workers,
            size=tuple(args.size),
            frames=args.frames,
            progress=progress,
        )
    print(f"{args.out}: {len(paths)} clips")
    return 0


def look(args: argparse.Namespace) -> int:
    from diffvas.export import write_png
    from diffvas.world.look import contact_sheet
    from diffvas.world.storage import read_scene_clip

    paths = sorted(Path(args.folder).glob("*.npz"))[: args.clips]
    if not paths:
        raise UsageError(f"argument FOLDER: expected a folder with scene clips (*.npz), got '{args.folder}' with none")
    with blame("FOLDER"):
        sheet = contact_sheet([read_scene_clip(path) for path in paths])
    write_png(Path(args.out), sheet)
    print(f"{args.out}: {len(paths)} clips")
    return 0
