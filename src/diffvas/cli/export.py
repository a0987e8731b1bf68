"""``diffvas export``: a result in the formats that other tools read."""

from __future__ import annotations

import argparse

from diffvas.cli.console import StageProgress, UsageError, blame, one_of

HELP = """\
Write what `diffvas complete` found in the formats of other tools. RESULT is the folder it wrote.

OUT gets a folder per format and export.json, which lists all files. It appears when it is whole;
an earlier export in its place is replaced.

formats:
"""


def _help() -> str:
    from diffvas.exports import FORMATS

    return HELP + "\n".join(f"  {name:<8}{text}" for name, (_, text) in FORMATS.items())


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.description = _help()
    parser.add_argument("result", metavar="RESULT", help="folder that `diffvas complete` wrote")
    parser.add_argument(
        "--format", metavar="F", nargs="+", required=True, dest="formats", help="one or more formats, as coco prores"
    )
    parser.add_argument("--out", metavar="OUT", required=True, help="folder to write")
    parser.add_argument(
        "--alpha",
        metavar="straight|premultiplied",
        type=one_of("straight", "premultiplied"),
        default="straight",
        help="of png, layers, prores, ffv1 and vp9; EXR is always premultiplied [straight]",
    )
    parser.add_argument(
        "--category", metavar="NAME", default="object", help="the objects' label in annotations [object]"
    )
    parser.add_argument(
        "--frame-name",
        metavar="PATTERN",
        help="the input's frames' names in annotations, as street/%%05d.jpg, counted from 0 [what each format expects]",
    )


def run(args: argparse.Namespace) -> int:
    """Check, read, write; see :data:`HELP`."""
    from diffvas.exports import ExportOptions, check_export, check_formats, export_result, read_result

    with blame("--format"):
        formats = check_formats([name for text in args.formats for name in text.split(",") if name])
    for argument, option in (
        ("--category", {"category": args.category}),
        ("--frame-name", {"frame_name": args.frame_name}),
    ):
        with blame(argument):
            ExportOptions(**option)
    options = ExportOptions(args.alpha, args.category, args.frame_name)
    with blame("RESULT"):
        result = read_result(args.result)
    with blame("--out"):
        check_export(args.result, args.out)
    if not result.layers:
        raise UsageError(f"argument RESULT: expected a result with objects, got none in '{args.result}'")
    with StageProgress() as progress:
        export_result(result, formats, args.out, options, progress)
    objects = f"{len(result.layers)} object{'s' if len(result.layers) != 1 else ''}"
    print(f"{args.out}: {', '.join(formats)} of {objects}, {result.num_frames} frames")
    return 0
