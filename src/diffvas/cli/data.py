"""``diffvas data``: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from diffvas.cli.console import StageProgress, UsageError, blame

if TYPE_CHECKING:
    from diffvas.data.check import DataReport

HELP = """data sets for training and for the bench: what is there, and what is wrong

  diffvas data list                                      the layouts that can be read
  diffvas data list PATH                                 the objects of a data set
  diffvas data check PATH                                counts, visibility, and everything that is wrong
  diffvas data check val.json --images SAIL-VOS --json

exit status of check: 0 nothing wrong, 1 something wrong, 2 an unknown layout
"""
SHOWN = 50  # problems on the screen


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="what", required=True, metavar="check|list")
    check = verbs.add_parser("check", help="read all masks and say what is there and what is wrong")
    check.add_argument("path", metavar="PATH", help="a folder or an annotation file")
    check.add_argument("--pixels", action="store_true", help="also read pictures and depth as a whole")
    listing = verbs.add_parser("list", help="the layouts, or the objects of a data set")
    listing.add_argument("path", metavar="PATH", nargs="?")
    for verb in (check, listing):
        verb.add_argument("--kind", help="the layout; default: found out")
        verb.add_argument("--images", metavar="DIR", help="the folder to which an annotation file's names are relative")
        verb.add_argument("--split", help="of a data set with several")
        verb.add_argument("--index", metavar="DIR", help="sailvos-folders: keep what was found here, to go on")
        verb.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    return {"check": check, "list": list_objects}[args.what](args)


def _options(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    """What was asked for; UsageError for an option that the layout does not have."""
    from diffvas.data.datasets import DATASETS

    given = {name: getattr(args, name) for name in ("images", "split", "index") if getattr(args, name) is not None}
    allowed = DATASETS[kind].options
    for name in given:
        if name not in allowed:
            takes = ", ".join(f"--{o}" for o in ("images", "split", "index") if o in allowed) or "none of them"
            raise UsageError(f"argument --{name}: expected an option of the layout {kind} ({takes})")
    return given


def _kind(args: argparse.Namespace) -> str:
    from diffvas.data.datasets import DATASETS, find_kind

    if args.kind is None:
        with blame("PATH"):
            return find_kind(args.path)
    if args.kind not in DATASETS:
        raise UsageError(f"argument --kind: expected one of {', '.join(DATASETS)}, got '{args.kind}'")
    return args.kind


def check(args: argparse.Namespace) -> int:
    from diffvas.data.check import check_objects

    kind = _kind(args)
    options = _options(args, kind)
    with StageProgress() as progress, blame("PATH"):
        report = check_objects(args.path, kind, pixels=args.pixels, progress=progress, **options)
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        print("\n".join(report_lines(report)))
    return 1 if report.problems else 0


def report_lines(report: DataReport) -> list[str]:
    """What ``data check`` prints."""
    lines = [
        f"{report.path}: {report.kind}, {report.clips} clips, {report.objects} objects, {report.frames} frames; "
        f"truth: {report.truth}"
    ]
    sizes = sorted(report.sizes.items(), key=lambda item: -item[1])
    named = [f"{height} x {width} ({count})" for (height, width), count in sizes[:4]]
    if named:
        lines.append(f"height x width: {', '.join(named)}" + (f" and {len(sizes) - 4} more" if len(sizes) > 4 else ""))
    if report.pictures:
        lines.append(f"pictures: {report.pictures}, " + ("all there" if not report.missing else
                     "none of them there: masks only" if report.missing == report.pictures else
                     f"{report.missing} of them missing"))  # fmt: skip
    total = sum(report.levels.values())
    if total:
        lines.append(f"{'box IoU' if report.truth == 'boxes' else 'visible':<12}{'frames':>8}")
        most = max(report.levels.values())
        for level, count in report.levels.items():
            bar = "#" * round(40 * count / most)
            lines.append(f"{level:<12}{count:>8} {100 * count / total:>5.1f} % {bar}".rstrip())
    if report.absent:
        lines.append(f"not in the frame: {report.absent} frames")
    if report.outside:
        lines.append(f"note: in {report.outside} frames some visible pixels are not part of the whole object")
    if not report.problems:
        return [*lines, "nothing is wrong"]
    lines.append(f"wrong: {len(report.problems)}")
    lines += [f"  {problem}" for problem in report.problems[:SHOWN]]
    if len(report.problems) > SHOWN:
        lines.append(f"  and {len(report.problems) - SHOWN} more; --json has all")
    return lines


def list_objects(args: argparse.Namespace) -> int:
    from diffvas.data.datasets import DATASETS, open_objects

    if args.path is None:
        if args.json:
            table = {name: {"title": d.title, "looks_for": d.looks_for} for name, d in DATASETS.items()}
            print(json.dumps(table))
        else:
            for name, dataset in DATASETS.items():
                print(f"{name:<20}{dataset.title}\n{'':<20}  {dataset.looks_for}")
        return 0
    kind = _kind(args)
    options = _options(args, kind)
    with blame("PATH"):
        clips = open_objects(args.path, kind, tolerant=True, **options)
    print(json.dumps(clips.names) if args.json else "\n".join(clips.names))
    for problem in clips.problems:
        print(problem, file=sys.stderr)
    return 1 if clips.problems else 0
