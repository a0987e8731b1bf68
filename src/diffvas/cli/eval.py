"""``diffvas eval``: measured figures of a model beside its baselines, on clips with known truth."""

from __future__ import annotations

import argparse
import functools
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffvas.cli.console import StageProgress, UsageError, blame, one_of, whole_number

if TYPE_CHECKING:
    from diffvas.bench.cases import Case
    from diffvas.bench.content import ContentBoard
    from diffvas.bench.evaluate import Decoding, MaskBoard, MaskPlan
    from diffvas.pipelines.loading import CompletionModel

HELP = """\
Measure a model beside its baselines, on clips whose truth is known.

Masks are scored in strict rules: at the truth's own size, the visible mask added; mIoU over all
frames; mIoU_occ, the IoU of the hidden part, over every frame with 0.05 % of its pixels hidden or
more, a total miss counting 0. Brackets are 95 % bootstrap intervals over clips.

  eval scenes DIR           rendered scenes (of `diffvas world make`)
  eval overlay MASKS_DIR..  masks of real objects in full view, hidden by moving synthetic shapes;
                            without depth, a folder `frames` beside the masks says what is in front

A decoding like 3x8 is the mean of 8 samples of 3 Euler steps each; 3x1 is the first of them; 3x8@1.5
has a guidance of its own."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the two kinds of evaluation and their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="scenes|overlay", required=True)
    make = functools.partial(kinds.add_parser, formatter_class=parser.formatter_class, allow_abbrev=False)
    scenes = make("scenes", help="rendered scenes")
    scenes.add_argument("folder", metavar="DIR", help="folder of scene clips")
    scenes.add_argument("--clips", metavar="N", type=whole_number(1), help="the first N scenes [all]")
    scenes.add_argument("--objects-per-clip", metavar="N", type=whole_number(1), default=2, help="at most [2]")
    scenes.add_argument("--unoccluded", action="store_true", help="objects that nothing hides, instead of hidden ones")
    scenes.add_argument("--content", action="store_true", help="score stage 2 too, on the true masks")
    scenes.add_argument("--content-only", action="store_true", help="score stage 2 alone")
    scenes.add_argument(
        "--content-steps", metavar="N", type=whole_number(1), nargs="+", help="steps of stage 2 to try [the model's]"
    )
    scenes.add_argument("--ceiling", action="store_true", help="also what the truth scores at the model's size")
    overlay = make("overlay", help="real silhouettes under synthetic occluders")
    overlay.add_argument("folders", metavar="MASKS_DIR", nargs="+", help="one object's masks that show it whole")
    overlay.add_argument("--seeds", metavar="N", type=whole_number(1), default=8, help="occlusions of each [8]")
    overlay.add_argument(
        "--in-front", action="store_true", help="also where masks say what stands in front, as in 'complete --in-front'"
    )
    overlay.add_argument("--frames", metavar="N", type=whole_number(1), default=25, help="the first N frames [25]")
    for kind in (scenes, overlay):
        _add_shared(kind)


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", default="tiny", help="tiny, a folder, or a Hugging Face id [tiny]")
    parser.add_argument(
        "--decoding",
        metavar="SxK",
        nargs="+",
        type=_decoding,
        help="steps x samples, e.g. 1x1 3x8 25x1@1.5 [the model's]",
    )
    parser.add_argument(
        "--thresholds", metavar="P", nargs="+", type=_share, help="score at these too, from the same soft masks"
    )
    depths, devices = ("given", "none", "both"), ("auto", "cpu", "cuda")
    parser.add_argument("--depth", metavar="|".join(depths), type=one_of(*depths), default="given", help="[given]")
    parser.add_argument(
        "--twins",
        action="store_true",
        help="also votes that are not bent, boxes around what is visible alone, odds as the network says them, "
        "and masks that are finished once",
    )
    parser.add_argument("--seed", metavar="S", type=whole_number(0, 2**63 - 1), default=0, help="of every draw [0]")
    parser.add_argument("--device", metavar="|".join(devices), type=one_of(*devices), default="auto", help="[auto]")
    parser.add_argument("--json", metavar="FILE", help="also write everything there, per case too")


def _decoding(text: str) -> tuple[int, int, float]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?:@(\d+(?:\.\d+)?))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected STEPSxSAMPLES like 3x8, or 25x1@1.5 with guidance, got '{text}'")
    return int(found[1]), int(found[2]), float(found[3] or -1)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got '{text}'")
    return value


def run(args: argparse.Namespace) -> int:
    """Gather the cases, score them one by one, print tables; see :data:`HELP`."""
    if args.kind == "scenes" and args.unoccluded and (args.content or args.content_only):
        raise UsageError("argument --unoccluded: expected no --content with it (nothing is hidden), got both")
    if args.kind == "scenes" and args.content_steps and not (args.content or args.content_only):
        raise UsageError("argument --content-steps: expected --content or --content-only with it, got neither")
    if args.json and (Path(args.json).is_dir() or not Path(args.json).absolute().parent.is_dir()):
        raise UsageError(f"argument --json: expected a file in an existing folder, got '{args.json}'")
    sources = _scene_sources(args) if args.kind == "scenes" else _overlay_sources(args)

    # by module, not by name, as in `diffvas complete`
    loading = importlib.import_module("diffvas.pipelines.loading")
    with blame("--model"):
        model = loading.load_pipelines(args.model, args.device)
    return evaluate(args, sources, model)


def _scene_sources(args: argparse.Namespace) -> list[Callable[[], list[Case]]]:
    """One per scene clip, read when its turn comes."""
    from diffvas.bench.cases import scene_cases
    from diffvas.world import open_dataset

    with blame("DIR"):
        scenes = open_dataset(args.folder)

    def cases(index: int) -> list[Case]:
        with blame("DIR"):
            scene = scenes.read(index, parts=("rgb", "content"))
        return scene_cases(scene, args.objects_per_clip, seed=args.seed, unoccluded=args.unoccluded)

    return [functools.partial(cases, index) for index in range(min(args.clips or len(scenes), len(scenes)))]


def _overlay_sources(args: argparse.Namespace) -> list[Callable[[], list[Case]]]:
    """One per silhouette and occlusion; the masks are read at once, so that bad ones are found before the work."""
    from diffvas.bench.overlay import overlay_case, read_pictures, read_silhouette, silhouette_names

    folders = [Path(folder) for folder in args.folders]
    with blame("MASKS_DIR"):
        silhouettes = [read_silhouette(folder, args.frames) for folder in folders]
        pictures = [
            read_pictures(folder, len(masks), masks.shape[1:]) if args.depth != "given" else None
            for folder, masks in zip(folders, silhouettes, strict=True)
        ]

    def cases(index: int, number: int) -> list[Case]:
        case = overlay_case(silhouettes[index], names[index], number, args.seed, pictures[index])
        return [] if case is None else [case]

    names = silhouette_names(folders)
    return [functools.partial(cases, i, number) for i in range(len(folders)) for number in range(args.seeds)]


def make_plan(args: argparse.Namespace, defaults: dict[str, Any]) -> MaskPlan:
    """The plan of the request; ``defaults`` are those of the model's first stage."""
    from diffvas.bench.evaluate import DEPTHS, Decoding, MaskPlan

    asked = args.decoding or [(int(defaults["steps"]), int(defaults["samples"]), -1.0)]
    decodings: tuple[Decoding, ...] = tuple(dict.fromkeys(Decoding(*one) for one in asked))
    thresholds = tuple(dict.fromkeys([float(defaults["threshold"]), *(args.thresholds or [])]))
    depths = DEPTHS[args.depth] + (("in-front",) if getattr(args, "in_front", False) else ())
    return MaskPlan(decodings, depths, thresholds, args.seed, getattr(args, "ceiling", False), args.twins)


def evaluate(args: argparse.Namespace, sources: list[Callable[[], list[Case]]], model: CompletionModel) -> int:
    """Score all cases and report; on Ctrl-C, print what stands so far (and write nothing)."""
    from diffvas.bench.content import ContentBoard, score_content
    from diffvas.bench.evaluate import MaskBoard, score_case

    plan = make_plan(args, dict(model.amodal.config.defaults))
    scenes = args.kind == "scenes"
    with_masks, with_content = not (scenes and args.content_only), scenes and (args.content or args.content_only)
    steps: list[int] = []
    if with_content:
        assert model.content is not None
        steps = args.content_steps or [int(model.content.config.defaults["steps"])]
    masks, content, done = MaskBoard(), ContentBoard(), 0
    try:
        with StageProgress() as progress:
            for source in sources:
                for case in source():
                    if with_masks:
                        masks.add(case, score_case(model, case, plan))
                    if with_content:
                        content.add(case, score_content(model, case, steps, args.seed))
                done += 1
                progress("evaluate", done, len(sources))
    except KeyboardInterrupt:
        if masks.names or content.names:
            print(f"stopped after {done} of {len(sources)}; so far:", file=sys.stderr)
            _print_tables(args, plan, masks, content)
        raise
    if not (masks.names or content.names):
        kind = "without hidden area" if scenes and args.unoccluded else "with hidden area"
        raise UsageError(f"argument {'DIR' if scenes else 'MASKS_DIR'}: expected objects {kind}, found none")
    _print_tables(args, plan, masks, content)
    if args.json:
        _write_report(args, model, plan, masks, content)
        print(f"{args.json}: {len(masks.names or content.names)} cases")
    return 0


def _families(masks: MaskBoard) -> list[str]:
    return [family for family in dict.fromkeys(masks.families) if family]


def _print_tables(args: argparse.Namespace, plan: MaskPlan, masks: MaskBoard, content: ContentBoard) -> None:
    from rich.console import Console

    from diffvas.bench import report

    console = Console() if sys.stdout.isatty() else Console(width=240)  # as wide as the widest table
    threshold = plan.thresholds[0]

    def main_rows(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [line for line in lines if line["threshold"] in (None, threshold)]

    if masks.names:
        lines = masks.summary()
        console.print(report.mask_table(main_rows(lines), f"{args.model}: masks, %, threshold {threshold:.3g}"))
        for depth, sight in {line["depth"]: line["out_of_sight"] for line in lines if "out_of_sight" in line}.items():
            if sight["hidden"] or sight["gone"]:
                console.print(report.sight_line(depth, sight))
        if len(plan.thresholds) > 1:
            console.print(report.threshold_table(lines, "mIoU / mIoU_occ by threshold, %"))
        if families := _families(masks):
            by_family = {family: main_rows(masks.summary(family)) for family in families}
            console.print(report.family_table(by_family, "mIoU_occ by silhouette, %"))
    if content.names:
        console.print(report.content_table(content.summary(), f"{args.model}: content inside the hidden region"))


def _write_report(
    args: argparse.Namespace, model: CompletionModel, plan: MaskPlan, masks: MaskBoard, content: ContentBoard
) -> None:
    from diffvas import __version__
    from diffvas.bench.report import write_json

    settings = {key: value for key, value in vars(args).items() if key != "json"}
    settings |= {"decoding": [str(d) for d in plan.decodings], "thresholds": list(plan.thresholds)}
    settings |= {"device": str(model.device), "dtype": str(model.amodal.dtype).removeprefix("torch.")}
    settings |= {"area": model.area}
    report: dict[str, Any] = {"version": __version__, "settings": settings}
    if masks.names:
        report["masks"] = masks.summary()
        report["families"] = {family: masks.summary(family) for family in _families(masks)}
        report["cases"] = masks.per_case(plan.thresholds[0])
    if content.names:
        report["content"] = content.summary()
    write_json(args.json, report)
