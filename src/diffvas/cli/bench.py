"""``diffvas bench``: fit and run methods, score predictions under a named protocol, report, and ask people."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffvas.cli import bench_methods
from diffvas.cli.console import StageProgress, UsageError, blame, one_of, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffvas.bench.boxes import BoxPredictions
    from diffvas.bench.pictures import Frames
    from diffvas.bench.predictions import BoxTruth, MaskTruth
    from diffvas.bench.score import MethodScores, Predictions
    from diffvas.metrics.protocols import Protocol

HELP = """\
Methods of video amodal segmentation, fitted alike, run, and scored under a named protocol.

  bench run --data mini --out OUT                                all of the next four, five methods
  bench fit METHOD --data DIR --out FOLDER --steps 300           unet3d, videomae, ours
  bench predict --data DIR --method modal ours=tiny --out PREDICTIONS
  bench score --truth TRUTH --predictions PRED.. --out SCORES    per_frame.csv, summary.json
  bench report SCORES                                            report.md, report.html
  bench study make --a DIR --b DIR --out STUDY                   a blinded A/B page for people
  bench study analyse --key STUDY/key.json RESULTS.json..        the share that prefers A

The files that come with the Diffusion-VAS release are scored as they are:

  bench score --format sailvos --annotations F --predictions F --protocol reference --json
  bench score --format tao-amodal --annotations F --predictions F --track-ids F --json

`--predictions modal` scores the visible masks. Protocols: strict (every hidden frame counts,
exactly), reference (Diffusion-VAS's code), eoras, c2f. Their numbers do not compare."""

FORMATS = ("diffvas", "sailvos", "tao-amodal")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-verbs and their arguments."""
    verbs = parser.add_subparsers(dest="what", metavar="run|fit|predict|score|report|study", required=True)
    make = functools.partial(verbs.add_parser, formatter_class=parser.formatter_class, allow_abbrev=False)
    bench_methods.configure(make)
    _configure_score(make("score", help="predictions and truths -> scores"))
    report = make("report", help="scores -> tables, curves and pictures")
    report.add_argument("folder", metavar="SCORES", help="what `bench score --out` wrote")
    report.add_argument("--out", metavar="FILE", help="the page [SCORES/report.html]")
    report.add_argument("--markdown", metavar="FILE", help="the tables [SCORES/report.md]")
    report.add_argument("--title", metavar="TEXT", default="", help="of the page")
    _configure_study(make("study", help="ask people which of two methods is better"), parser.formatter_class)


def _configure_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", metavar="|".join(FORMATS), type=one_of(*FORMATS), default=FORMATS[0], help="[diffvas]"
    )
    parser.add_argument("--truth", metavar="DIR", help="format diffvas: the folder of truths [beside the predictions]")
    parser.add_argument("--annotations", metavar="FILE", help="formats sailvos and tao-amodal: the annotation file")
    parser.add_argument(
        "--predictions", metavar="PATH", nargs="+", required=True, help="one per method: a folder, a file, or modal"
    )
    parser.add_argument("--track-ids", metavar="FILE", help="format tao-amodal: first track ids per video")
    parser.add_argument(
        "--protocol", metavar="NAME", help="strict, reference, eoras, c2f [strict; reference for files and boxes]"
    )
    parser.add_argument(
        "--visibility", metavar=("LO", "HI"), nargs=2, type=float, help="only clips whose mean visibility is in there"
    )
    parser.add_argument(
        "--missing",
        metavar="refuse|empty",
        type=one_of("refuse", "empty"),
        default="refuse",
        help="frames without a prediction: stop and name them, or score them as empty [refuse]",
    )
    parser.add_argument("--baseline", metavar="NAME", help="compare with this method [the best of the others]")
    text = "the data set that the truths are of, to draw examples on; mini: as `bench predict` made it"
    parser.add_argument("--data", metavar="PATH|mini", help=text)
    parser.add_argument("--kind", metavar="LAYOUT", help="of --data [found out]")
    parser.add_argument("--split", metavar="NAME", help="of --data")
    parser.add_argument("--images", metavar="DIR", help="where image names begin that truths or --data have")
    parser.add_argument("--out", metavar="DIR", help="write per_frame.csv, summary.json and example pictures")
    parser.add_argument("--json", action="store_true", help="print the protocol's numbers as JSON and nothing else")
    parser.add_argument("--time", action="store_true", help="say how long reading and scoring took, on stderr")


def _configure_study(parser: argparse.ArgumentParser, formatter: Any) -> None:
    steps = parser.add_subparsers(dest="step", metavar="make|analyse", required=True)
    make = steps.add_parser("make", help="build the page", formatter_class=formatter, allow_abbrev=False)
    make.add_argument("--a", metavar="DIR", required=True, help="one method's results: a folder of pictures per item")
    make.add_argument("--b", metavar="DIR", required=True, help="the other's: items of the same names")
    make.add_argument("--input", metavar="DIR", help="what both were given, shown above: items of the same names")
    make.add_argument(
        "--names", metavar=("A", "B"), nargs=2, default=("a", "b"), help="of the methods, in key.json only"
    )
    make.add_argument("--question", metavar="TEXT", default="", help="what is asked")
    make.add_argument("--items", metavar="N", type=whole_number(1), help="show at most N items, drawn by --seed [all]")
    make.add_argument("--height", metavar="PIXELS", type=whole_number(16, 2160), default=256, help="of a picture [256]")
    make.add_argument("--fps", metavar="N", type=whole_number(1, 60), default=8, help="of the clips [8]")
    make.add_argument("--seed", metavar="S", type=whole_number(0, 2**31 - 1), default=0, help="of the blinding [0]")
    make.add_argument("--out", metavar="DIR", required=True, help="study.html for people, key.json to keep back")
    analyse = steps.add_parser("analyse", help="count the choices", formatter_class=formatter, allow_abbrev=False)
    analyse.add_argument("results", metavar="RESULTS", nargs="+", help="the files that people sent back")
    analyse.add_argument("--key", metavar="FILE", required=True, help="the study's key.json")
    analyse.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the sub-verb."""
    if args.what in bench_methods.VERBS:
        return bench_methods.VERBS[args.what](args)
    if args.what == "score":
        _check_score(args)
        return score_boxes(args) if _has_boxes(args) else score_masks(args)
    return report(args) if args.what == "report" else study(args)


# ---------------------------------------------------------------------------------------------------------------------
# score


def _check_score(args: argparse.Namespace) -> None:
    wanted, other = ("truth", "annotations") if args.format == "diffvas" else ("annotations", "truth")
    if args.format == "diffvas" and not args.truth:
        args.truth = _truth_beside(args.predictions)
    if not getattr(args, wanted):
        raise UsageError(f"argument --{wanted}: expected a path for --format {args.format}, got none")
    if getattr(args, other):
        raise UsageError(f"argument --{other}: expected none for --format {args.format}, got '{getattr(args, other)}'")
    if args.visibility and not 0 <= args.visibility[0] <= args.visibility[1] <= 1:
        raise UsageError(f"argument --visibility: expected 0 <= LO <= HI <= 1, got {args.visibility}")
    if args.out and Path(args.out).is_file():
        raise UsageError(f"argument --out: expected a folder, got the file '{args.out}'")
    args.visibility = tuple(args.visibility) if args.visibility else None
    if args.data == "mini":
        args.data = _mini_beside(args.truth or args.annotations)


def _truth_beside(predictions: Sequence[str]) -> str | None:
    """Where `bench predict` put the truths of what it predicted; None where they are not."""
    found = {Path(path).absolute().parent / "truth" for path in predictions if path != "modal"}
    return str(found.pop()) if len(found) == 1 and next(iter(found)).is_dir() else None


def _mini_beside(truth: str) -> str:
    """The mini benchmark where `bench predict` made it, beside the truths, or `bench run`, a folder farther up."""
    for out in Path(truth).absolute().parents[:2]:
        if (folder := bench_methods.made_mini(out)) is not None:
            return str(folder)
    expected = "the folder that `bench predict --data mini` made"
    raise UsageError(f"argument --data: expected {expected} beside '{truth}', got none")


def _has_boxes(args: argparse.Namespace) -> bool:
    """Whether the truths are boxes, not masks."""
    if args.format != "diffvas":
        return bool(args.format == "tao-amodal")
    from diffvas.bench.predictions import TruthFolder

    with blame("--truth"):
        return TruthFolder.open(args.truth).has_boxes()


def _rules(args: argparse.Namespace, default: str) -> Protocol:
    from diffvas.metrics.protocols import get_protocol

    with blame("--protocol"):
        return get_protocol(args.protocol or default)


def score_masks(args: argparse.Namespace) -> int:
    """Score mask predictions; see :data:`HELP`."""
    from diffvas.allocator import keep_freed_memory
    from diffvas.bench.score import score_method
    from diffvas.bench.summary import summarise

    rules = _rules(args, "strict" if args.format == "diffvas" else "reference")
    keep_freed_memory()
    began = time.perf_counter()
    truths = _truths(args)
    sources = [_source(args, path, truths) for path in args.predictions]
    if len({source.name for source in sources}) != len(sources):
        _number_names(sources)
    if args.baseline is not None and args.baseline not in {source.name for source in sources}:
        names = ", ".join(source.name for source in sources)
        raise UsageError(f"argument --baseline: expected one of {names}, got '{args.baseline}'")
    read, methods = time.perf_counter() - began, []
    quiet = args.json or not sys.stderr.isatty()
    with StageProgress() as progress:
        for source in sources:
            with blame("--predictions"):
                scores = score_method(
                    truths,
                    source,
                    rules,
                    visibility=args.visibility,
                    missing=args.missing,
                    video=bool(args.out),
                    progress=None if quiet else progress,
                    total=len(truths),
                )
            methods.append(scores)
            _warn(source.name, scores.problems.lines())
    if args.time:
        _say_time(read, time.perf_counter() - began - read, sum(len(m.clips) for m in methods))
    resamples = 1 if args.json and not args.out else 2000
    summary = summarise(methods, args.baseline, resamples)
    if args.out:
        _write(args, methods, summary, truths, sources)
    if args.json:
        numbers = {m["name"]: {key: m[f"headline_{key}"] for key in ("miou", "miou_occ")} for m in summary["methods"]}
        print(json.dumps(next(iter(numbers.values())) if len(numbers) == 1 else numbers))
    else:
        _print_masks(summary)
    return 0


def _truths(args: argparse.Namespace) -> list[MaskTruth]:
    from diffvas.bench.formats import sailvos
    from diffvas.bench.predictions import TruthFolder

    if args.format == "sailvos":
        with blame("--annotations"):
            return sailvos.read_annotations(args.annotations)
    with blame("--truth"):
        truths = list(TruthFolder.open(args.truth))
        if not truths:
            raise ValueError(f"truth: expected clips in '{args.truth}', got none")
    return truths


def _source(args: argparse.Namespace, path: str, truths: list[MaskTruth]) -> Predictions:
    from diffvas.bench.formats.sailvos import SailvosPredictions
    from diffvas.bench.predictions import PredictionFolder
    from diffvas.bench.score import ModalPredictions

    if path == "modal":
        return ModalPredictions()
    with blame("--predictions"):
        return SailvosPredictions(path, truths) if args.format == "sailvos" else PredictionFolder.open(path)


def _number_names(sources: list[Any]) -> None:
    """Make equal names different, so that no method hides another."""
    seen: dict[str, int] = {}
    for source in sources:
        seen[source.name] = seen.get(source.name, 0) + 1
        if seen[source.name] > 1:
            source.name = f"{source.name}#{seen[source.name]}"


def _warn(name: str, lines: list[str]) -> None:
    for line in lines:
        print(f"diffvas bench: note: {name}: {line}", file=sys.stderr)


def _say_time(read: float, scored: float, clips: int) -> None:
    each = f", {scored / clips:.4f} s per clip" if clips else ""
    print(f"diffvas bench: read in {read:.2f} s, scored {clips} clips in {scored:.2f} s{each}", file=sys.stderr)


def _write(
    args: argparse.Namespace,
    methods: list[MethodScores],
    summary: dict[str, Any],
    truths: list[MaskTruth],
    sources: list[Predictions],
) -> None:
    from diffvas.bench.pictures import rank_clips, write_examples
    from diffvas.bench.summary import made_by, write_scores

    lines = summary["methods"]
    first = max(
        lines, key=lambda m: -1.0 if m["headline_miou_occ"] != m["headline_miou_occ"] else m["headline_miou_occ"]
    )
    ranked = rank_clips(first["per_clip"])
    found = {truth.clip: truth for truth in truths if truth.clip in set(ranked.values())}
    with blame("--data" if args.data else "--images"):
        summary["examples"] = write_examples(Path(args.out), found, sources, methods[0].rules, ranked, _frames(args))
    summary["examples_of"] = first["name"]
    for line, source in zip(lines, sources, strict=True):
        line["made"] = made_by(source)
    write_scores(args.out, methods, summary)
    print(f"{args.out}: per_frame.csv, summary.json", file=sys.stderr)


def _frames(args: argparse.Namespace) -> Frames | None:
    """What reads the pictures that examples are drawn on."""
    from diffvas.bench.pictures import frames_below, frames_of

    if args.data is None:
        return None if args.images is None else frames_below(Path(args.images))
    options = {name: getattr(args, name) for name in ("images", "split") if getattr(args, name) is not None}
    return frames_of(args.data, args.kind, **options)


def _print_masks(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from diffvas.bench.report import interval, percent

    table = Table(title=f"{summary['protocol']['name']}: {summary['protocol']['about']}", title_justify="left")
    for i, column in enumerate(
        ("method", "mIoU", "mIoU_occ", "mIoU clips", "mIoU_occ clips", "clips", "frames", "hidden")
    ):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for m in summary["methods"]:
        table.add_row(
            m["name"],
            percent(m["miou"]) + interval(m, "miou"),
            percent(m["miou_occ"]) + interval(m, "miou_occ"),
            percent(m["miou_clip"]),
            percent(m["miou_occ_clip"]),
            *(str(m[key]) for key in ("clips", "frames", "frames_occ")),
        )
    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(table)
    for line in summary["differences"]:
        console.print(
            f"{line['method']} less {line['baseline']}: mIoU {100 * line['miou']:+.1f}{interval(line, 'miou')}, "
            f"mIoU_occ {100 * line['miou_occ']:+.1f}{interval(line, 'miou_occ')}"
        )


def score_boxes(args: argparse.Namespace) -> int:
    """Score boxes: TAO-Amodal's files, or predictions of any data set whose truths are boxes."""
    from diffvas.bench import boxes
    from diffvas.bench.storage import write_text
    from diffvas.bench.summary import box_csv, box_summary

    if _rules(args, "reference").name != "reference":
        raise UsageError(f"argument --protocol: expected reference for boxes, got '{args.protocol}'")
    began = time.perf_counter()
    truths, sources = _boxes(args)
    read, results = time.perf_counter() - began, []
    for source in sources:
        with blame("--predictions"):
            result = boxes.score_boxes(truths, source, visibility=args.visibility, missing=args.missing)
        results.append(result)
        _warn(result.name, result.problems.lines())
    if args.time:
        _say_time(read, time.perf_counter() - began - read, sum(len(r.clips) for r in results))
    summaries = [box_summary(result) for result in results]
    if args.out:
        from diffvas.bench.report import write_json

        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        parts = [box_csv(result) for result in results]
        write_text(folder / "per_frame.csv", parts[0] + "".join(part.split("\n", 1)[1] for part in parts[1:]))
        write_json(folder / "summary.json", {"boxes": summaries})
        print(f"{args.out}: per_frame.csv, summary.json", file=sys.stderr)
    if args.json:
        keys = ("miou", "ap25", "ap50", "ap75")
        numbers = {s["name"]: {key: s[key] for key in keys} for s in summaries}
        print(json.dumps(next(iter(numbers.values())) if len(numbers) == 1 else numbers))
    else:
        _print_boxes(summaries)
    return 0


def _boxes(args: argparse.Namespace) -> tuple[Sequence[BoxTruth], list[BoxPredictions]]:
    """The truths, and every method's boxes."""
    from diffvas.bench import boxes
    from diffvas.bench.formats import tao_amodal
    from diffvas.bench.predictions import PredictionFolder, TruthFolder

    files = args.format == "tao-amodal"
    if files and not args.track_ids and any(path != "modal" for path in args.predictions):
        raise UsageError("argument --track-ids: expected the file of first track ids per video, got none")
    truths: Sequence[BoxTruth]
    with blame("--annotations" if files else "--truth"):
        truths = tao_amodal.read_annotations(args.annotations) if files else list(TruthFolder.open(args.truth).boxes())
    sources: list[BoxPredictions] = []
    with blame("--predictions"):
        for path in args.predictions:
            if path == "modal":
                sources.append(boxes.ModalBoxes())
            elif files:
                sources.append(tao_amodal.TaoBoxes(path, args.track_ids))
            else:
                sources.append(boxes.FolderBoxes(PredictionFolder.open(path)))
    if len({source.name for source in sources}) != len(sources):
        _number_names(sources)
    return truths, sources


def _print_boxes(summaries: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from diffvas.bench.report import interval, percent

    table = Table(title="reference: share of frames whose box IoU is above the threshold", title_justify="left")
    for i, column in enumerate(("method", "mIoU", "AP25", "AP50", "AP75", "clips", "frames")):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for s in summaries:
        cells = [percent(s[key]) + interval(s, key) for key in ("miou", "ap25", "ap50", "ap75")]
        table.add_row(s["name"], *cells, str(s["clips"]), str(s["frames"]))
    (Console() if sys.stdout.isatty() else Console(width=140)).print(table)


# ---------------------------------------------------------------------------------------------------------------------
# report and study


def report(args: argparse.Namespace) -> int:
    """Write the tables and the page."""
    from diffvas.bench.box_page import box_markdown, box_page
    from diffvas.bench.page import html_page, markdown, read_summary
    from diffvas.bench.storage import write_text

    with blame("SCORES"):
        summary = read_summary(args.folder)
        boxes = "boxes" in summary
        page = box_page(summary, args.title) if boxes else html_page(summary, args.folder, args.title)
        tables = box_markdown(summary) if boxes else markdown(summary)
    for given, name, text in ((args.markdown, "report.md", tables), (args.out, "report.html", page)):
        path = Path(given) if given else Path(args.folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        print(path)
    return 0


def study(args: argparse.Namespace) -> int:
    """Build a study, or count its results."""
    from diffvas.bench import study as studies

    if args.step == "make":
        with blame("--a, --b, --input"):
            items = studies.find_items(args.a, args.b, args.input)
            count = studies.write_study(
                args.out,
                items,
                names=tuple(args.names),
                question=args.question,
                limit=args.items,
                height=args.height,
                fps=args.fps,
                seed=args.seed,
            )
        print(f"{args.out}: study.html with {count} items; keep key.json back, it says which is which")
        return 0
    with blame("RESULTS"):
        result = studies.analyse(args.key, args.results)
    print(json.dumps(result, indent=1) if args.json else studies.describe(result))
    return 0
