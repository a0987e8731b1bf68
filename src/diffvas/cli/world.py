"""``diffvas world``: render scenes with exact truth, look at them, count them, hand them on."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from diffvas.cli.console import StageProgress, UsageError, blame, fail, whole_number

HELP = """render synthetic video with exact amodal truth, look at it, count it, hand it on

  diffvas world make --preset mixed --clips 100 --seed 1 --workers 2 --out scenes
  diffvas world look scenes --out sheet.png
  diffvas world stats scenes --out scenes_stats
  diffvas world export scenes --format ytvis --out scenes_ytvis
  diffvas world check scenes
  diffvas world mini --out mini
"""
SPLITS = ("train", "val", "test", "test-heldout-shapes")
FORMATS = ("sailvos", "ytvis", "movi")


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", required=True, metavar="make|look|stats|export|check|mini")
    make = verbs.add_parser("make", help="render clips; the same command resumes, a larger --clips extends")
    make.add_argument("--preset", default="mixed")
    make.add_argument("--clips", type=whole_number(1), required=True)
    make.add_argument("--seed", type=whole_number(0), default=0)
    make.add_argument("--split", choices=SPLITS, help="scenes that no other split has; default: no split, all shapes")
    make.add_argument("--truth", default="all", help="all, or some of masks,rgb,content,flow (masks: always)")
    make.add_argument("--workers", type=whole_number(1), default=1)
    make.add_argument("--frames", type=whole_number(1), default=25)
    make.add_argument("--size", nargs=2, type=whole_number(16), default=(128, 256), metavar=("HEIGHT", "WIDTH"))
    make.add_argument("--out", required=True)
    look = verbs.add_parser("look", help="a contact sheet of a data set")
    look.add_argument("folder", metavar="DIR")
    look.add_argument("--clips", type=whole_number(1), default=10)
    look.add_argument("--out", default="sheet.png")
    stats = verbs.add_parser("stats", help="how much of the objects is visible: JSON, histogram, sample sheets")
    stats.add_argument("folder", metavar="DIR")
    stats.add_argument("--out", help="a folder for stats.json and pictures; default: only print")
    export = verbs.add_parser("export", help="write a data set in another format")
    export.add_argument("folder", metavar="DIR")
    export.add_argument("--format", required=True, choices=FORMATS)
    export.add_argument("--subset", choices=("train", "test"), default="test", help="of the MOVi layout")
    export.add_argument("--out", required=True)
    check = verbs.add_parser("check", help="read every byte and name what is broken")
    check.add_argument("folder", metavar="DIR")
    mini = verbs.add_parser("mini", help="make the mini benchmark")
    mini.add_argument("--workers", type=whole_number(1), default=1)
    mini.add_argument("--out", required=True)
    for reader in (look, stats, export):
        reader.add_argument("--skip-broken", action="store_true", help="leave out broken shards instead of stopping")


def run(args: argparse.Namespace) -> int:
    verbs = {"make": make, "look": look, "stats": stats, "export": export, "check": check, "mini": mini}
    return verbs[args.what](args)


def parse_truth(text: str) -> tuple[str, ...]:
    """The optional parts in "--truth"; UsageError for unknown ones."""
    from diffvas.world.make import TRUTH

    words = [word.strip() for word in text.split(",")]
    unknown = sorted(set(words) - {"all", "masks", *TRUTH})
    if unknown:
        raise UsageError(f"argument --truth: expected all, or some of masks, {', '.join(TRUTH)}, got '{unknown[0]}'")
    return TRUTH if "all" in words else tuple(part for part in TRUTH if part in words)


def _reason(error: Exception) -> str:
    """A message of the library without the parameter's name at its beginning, which the user never typed."""
    return re.sub(r"^\w+: ", "", str(error))


def make(args: argparse.Namespace) -> int:
    from diffvas.world.make import Settings, make_clips

    try:
        settings = Settings(
            args.preset, args.seed, args.split, tuple(args.size), args.frames, truth=parse_truth(args.truth)
        )
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"argument --{str(error).split(':')[0]}: {_reason(error)}") from error
    try:
        with StageProgress() as progress:
            report = make_clips(settings, args.clips, args.out, workers=args.workers, progress=progress)
    except ValueError as error:
        raise UsageError(f"argument --out: {_reason(error)}") from error
    except RuntimeError as error:  # no MuJoCo, no OpenGL, or a worker that was killed
        return fail(str(error), "diffvas world")
    except KeyboardInterrupt:
        return fail(f"whole shards are kept in '{args.out}'; the same command goes on", "diffvas world", 130, "stopped")
    for path in report.remade:
        print(f"{path}: was broken, made again")
    print("\n".join([f"{args.out}: {report.clips} clips in {len(report.shards)} shards", *report.lines()]))
    return 0


def look(args: argparse.Namespace) -> int:
    import numpy as np

    from diffvas.export import write_png
    from diffvas.world.look import contact_sheet
    from diffvas.world.shards import open_dataset

    with blame("DIR"):
        scenes = open_dataset(args.folder, args.skip_broken)
        chosen = np.unique(np.linspace(0, len(scenes) - 1, args.clips).round().astype(int))
        sheet = contact_sheet([scenes.read(int(index), ("rgb", "content")) for index in chosen])
    write_png(Path(args.out), sheet)
    print(f"{args.out}: {len(chosen)} of {len(scenes)} clips")
    return 0


def stats(args: argparse.Namespace) -> int:
    from diffvas.export import write_png
    from diffvas.world.shards import open_dataset
    from diffvas.world.stats import dataset_stats, histogram_picture, sample_sheets

    with blame("DIR"), StageProgress() as progress:
        scenes = open_dataset(args.folder, args.skip_broken)
        found = dataset_stats(scenes, progress)
    print(f"{args.folder}: {found['clips']} clips, {found['objects']} objects, {found['frames']} frames")
    print(f"{'visible':<12}{'of frames':>10}{'of object clips':>17}")
    for name, share in found["levels"].items():
        print(f"{name:<12}{100 * share['frames']:>8.1f} %{100 * share['object_clips']:>15.1f} %")
    spans = found["hidden_spans"]
    print(f"fully hidden spans: {spans['count']}, seen again afterwards: {spans['seen_again']}")
    if args.out:
        out = Path(args.out)
        if out.exists() and not out.is_dir():
            raise UsageError(f"argument --out: expected a folder, got the file '{out}'")
        out.mkdir(parents=True, exist_ok=True)
        (out / "stats.json").write_text(json.dumps(found, indent=1) + "\n")
        write_png(out / "histogram.png", histogram_picture(found))
        with blame("DIR"):
            for name, sheet in sample_sheets(scenes).items():
                write_png(out / f"visible-{name}.png", sheet)
        print(f"{out}: stats.json, histogram.png, visible-*.png")
    return 0


def export(args: argparse.Namespace) -> int:
    from diffvas.world.exporters import export_dataset
    from diffvas.world.shards import open_dataset

    with blame("DIR"):
        scenes = open_dataset(args.folder, args.skip_broken)
    try:
        with StageProgress() as progress:
            export_dataset(scenes, args.out, args.format, subset=args.subset, progress=progress)
    except ValueError as error:
        argument = "--out" if str(error).startswith("out") else "DIR"
        raise UsageError(f"argument {argument}: {_reason(error)}") from error
    for message in scenes.broken:
        print(f"skipped: {message}")
    print(f"{args.out}: {len(scenes)} clips as {args.format}")
    return 0


def check(args: argparse.Namespace) -> int:
    from diffvas.world.shards import check_dataset

    with blame("DIR"), StageProgress() as progress:
        broken = check_dataset(args.folder, progress)
    for message in broken:
        print(_reason(ValueError(message)))
    print(f"{args.folder}: {len(broken)} broken files" if broken else f"{args.folder}: nothing is broken")
    return 1 if broken else 0


def mini(args: argparse.Namespace) -> int:
    from diffvas.world.mini import make_mini

    try:
        with StageProgress() as progress:
            report = make_mini(args.out, workers=args.workers, progress=progress)
    except ValueError as error:
        raise UsageError(f"argument --out: {_reason(error)}") from error
    except RuntimeError as error:
        return fail(str(error), "diffvas world")
    levels = {entry["level"]: 0 for entry in report.objects}
    for entry in report.objects:
        levels[entry["level"]] += 1
    print(f"{args.out}: {len(report.objects)} object clips; mean visible fraction {levels}")
    if not report.differing:
        print("bit for bit the published mini benchmark")
    else:
        driver = "the same" if report.same_driver else "another"
        print(
            f"{len(report.differing)} clips differ from the published ones: the OpenGL driver is "
            f"{driver}, and its rounding is the processor's"
        )
    return 0
