"""``diffvas bench fit``, ``predict`` and ``run``: from methods to predictions on disk, and all the way to the page."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffvas.cli.console import StageProgress, UsageError, blame, fail, not_negative, one_of, whole_number

FIVE = ("modal", "convex", "unet3d", "videomae", "ours")
DEVICES = ("auto", "cpu", "cuda")
SEEDS = whole_number(0, 2**31 - 1)
PROG = "diffvas bench"


def configure(make: Any) -> None:
    """Add the three sub-verbs; ``make`` is ``add_parser`` of the verb."""
    _configure_fit(make("fit", help="train a method on scenes"))
    _configure_predict(make("predict", help="methods and a data set -> predictions and truths on disk"))
    _configure_run(make("run", help="fit, predict, score and report in one go"))


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", metavar="N", type=whole_number(1), help="optimiser steps [300]")
    parser.add_argument(
        "--seconds", metavar="S", type=not_negative, help="about so long instead, by timing a few steps"
    )
    parser.add_argument("--batch", metavar="N", type=whole_number(1), default=4, help="examples per step [4]")
    parser.add_argument(
        "--size",
        metavar=("HEIGHT", "WIDTH"),
        nargs=2,
        type=whole_number(32),
        default=(64, 128),
        help="what the networks see of the box around an object [64 128]",
    )
    parser.add_argument("--frames", metavar="T", type=whole_number(1), default=25, help="at a time [25]")


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", metavar="S", type=SEEDS, default=0, help="of every draw [0]")
    parser.add_argument("--device", metavar="|".join(DEVICES), type=one_of(*DEVICES), default="auto", help="[auto]")


def _configure_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", metavar="METHOD", help="unet3d, videomae or ours")
    parser.add_argument("--data", metavar="flat|DIR", default="flat", help="scenes to train on, no test split [flat]")
    parser.add_argument("--out", metavar="DIR", required=True, help="the fitted method; the same command resumes")
    parser.add_argument(
        "--option", metavar="NAME=VALUE", action="append", default=[], help="of the method, e.g. width=384; repeatable"
    )
    parser.add_argument(
        "--encodings", metavar="DIR", help="keep encoded examples there, for a fit of another method on the same [none]"
    )
    _add_budget(parser)
    _add_shared(parser)


def _configure_predict(parser: argparse.ArgumentParser) -> None:
    _add_data(parser, "--data", required=True)
    parser.add_argument(
        "--method",
        metavar="NAME[=FOLDER]",
        nargs="+",
        required=True,
        help="modal, convex, convexr, unet3d=FOLDER, videomae=FOLDER, ours=FOLDER|tiny|official",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="truth/ and a folder per method; resumes")
    parser.add_argument(
        "--part", metavar="all|train|val", type=one_of("all", "train", "val"), default="all", help="of rendered scenes"
    )
    parser.add_argument("--objects", metavar="N", type=whole_number(1), help="at most N, over all visibilities [all]")
    parser.add_argument("--shard", metavar="I/N", type=_shard, default=(0, 1), help="only share I of N, 0 <= I < N")
    parser.add_argument("--threshold", metavar="P", type=_share, help="of soft masks; choose it on val [the method's]")
    _add_predicting(parser)
    _add_shared(parser)


def _add_data(parser: argparse.ArgumentParser, name: str, **how: Any) -> None:
    text = "any data set of `diffvas data list`, or mini: made in OUT/mini if absent"
    parser.add_argument(name, metavar="PATH|mini", help=text, **how)
    parser.add_argument("--kind", metavar="LAYOUT", help="of the data set [found out]")
    parser.add_argument("--images", metavar="DIR", help="the folder to which an annotation file's names are relative")
    parser.add_argument("--split", metavar="NAME", help="of a data set with several")


def _data_options(args: argparse.Namespace) -> dict[str, str]:
    """What was asked for of the data set, as ``bench.predict.Objects`` takes it."""
    names = ("kind", "images", "split")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _add_predicting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", metavar="K", type=whole_number(1), help="of methods that draw [their own]")
    parser.add_argument("--depth", metavar="given|none", type=one_of("given", "none"), default="given", help="[given]")


def _configure_run(parser: argparse.ArgumentParser) -> None:
    _add_data(parser, "--data", default="mini")
    parser.add_argument("--train", metavar="flat|DIR", default="flat", help="scenes to fit on, no test split [flat]")
    parser.add_argument("--out", metavar="DIR", required=True, help="everything; the same command resumes")
    parser.add_argument(
        "--methods",
        metavar="NAME[=FOLDER]",
        nargs="+",
        default=list(FIVE),
        help=f"a trainable one without a folder is fitted [{' '.join(FIVE)}]",
    )
    parser.add_argument("--protocol", metavar="NAME", help="[strict; reference for boxes]")
    parser.add_argument("--objects", metavar="N", type=whole_number(1), help="at most N, over all visibilities [all]")
    _add_predicting(parser)
    _add_budget(parser)
    _add_shared(parser)


def _shard(text: str) -> tuple[int, int]:
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and int(first) < int(second):
        return int(first), int(second)
    raise argparse.ArgumentTypeError(f"expected I/N with 0 <= I < N, got '{text}'")


def _share(text: str) -> float:
    value = not_negative(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got '{text}'")
    return value


# ---------------------------------------------------------------------------------------------------------------------
# fit


def fit(args: argparse.Namespace) -> int:
    """Fit one method."""
    from diffvas.methods import find_method
    from diffvas.methods.base import Budget

    _check_budget(args)
    with blame("METHOD"):
        kind = find_method(args.method)
    if not kind.trainable:
        raise UsageError(f"argument METHOD: expected a method with something to fit, got '{args.method}'")
    from diffvas.methods.fit import Examples

    out, size = Path(args.out), tuple(args.size)
    method = _with_options(args, kind)
    with blame("--data"):
        examples = Examples(args.data, size, args.frames, args.seed, kept=args.encodings)
    budget = Budget(args.steps or 0, args.seconds or 0.0, args.batch)
    try:
        with StageProgress() as progress, blame("--out"):
            method.fit(
                examples,
                seed=args.seed,
                budget=budget,
                out=out,
                progress=lambda stage, done, total: progress(f"{stage} {args.method}", done, total),
            )
    except KeyboardInterrupt:
        return fail(f"a checkpoint is kept in '{out}'; the same command goes on", PROG, 130, "stopped")
    except FloatingPointError as error:
        return fail(str(error), PROG)
    print(f"{out}: {args.method}, fitted")
    return 0


def _check_budget(args: argparse.Namespace) -> None:
    if args.steps and args.seconds:
        raise UsageError("argument --seconds: expected --steps or --seconds, got both")
    if not args.seconds:
        args.steps = args.steps or 300


def _with_options(args: argparse.Namespace, kind: Any) -> Any:
    """A method of the size asked for, and with the options asked for."""
    from diffvas.methods.base import as_options

    values: dict[str, Any] = {"size": tuple(args.size), "frames": args.frames}
    for text in args.option:
        name, equals, value = text.partition("=")
        if not equals or name in values:
            wanted = f"--{name} for that" if name in values else "NAME=VALUE"
            raise UsageError(f"argument --option: expected {wanted}, got '{text}'")
        values[name] = value
    with blame("--option"):
        return kind(as_options(kind.kind, values), args.device)


# ---------------------------------------------------------------------------------------------------------------------
# predict


def predict(args: argparse.Namespace) -> int:
    """Write truths and every method's predictions."""
    from diffvas.bench import predict as predicting
    from diffvas.methods import find_method

    with blame("--method"):
        specs = predicting.parse_specs(args.method)
    plan = predicting.PredictPlan(args.seed, args.samples, args.depth, args.threshold, args.shard)
    out, made = Path(args.out), 0
    if out.is_file():
        raise UsageError(f"argument --out: expected a folder, got the file '{out}'")
    data = _data(args)
    if isinstance(data, int):
        return data
    with blame("--data"):
        objects = predicting.Objects(data, part=args.part, limit=args.objects, **_data_options(args))
    with blame("--method"):
        for spec in specs:
            objects.refuse_missing(find_method(spec.name), spec.label)
    try:
        with StageProgress() as progress:
            with blame("--out"):
                truths = predicting.write_truths(objects, out, plan, progress)
            for spec in specs:
                with blame("--method"):
                    method = spec.load(args.device)
                    made += predicting.predict_all(objects, method, spec.label, out, plan, progress)
    except KeyboardInterrupt:
        return fail(f"whole predictions are kept in '{out}'; the same command goes on", PROG, 130, "stopped")
    count = len(plan.mine(objects))
    print(f"{out}: {count} objects, {', '.join(spec.label for spec in specs)}; {made} predictions new")
    if truths < count:
        print(f"{PROG}: note: {count - truths} objects have no truth and cannot be scored", file=sys.stderr)
    return 0


def made_mini(out: Path) -> Path | None:
    """The mini benchmark that `bench predict` or `bench run` made in its output folder; None where it is not whole."""
    folder = out / "mini"
    return folder if (folder / "mini.json").is_file() else None


def _data(args: argparse.Namespace) -> Path | int:
    """The data set; "mini" is made in the output folder, or made to the end. An exit status where that failed."""
    if args.data != "mini":
        return Path(args.data)
    from diffvas.world.mini import make_mini

    made, folder = made_mini(Path(args.out)), Path(args.out) / "mini"
    if made is not None:
        return made
    try:
        with StageProgress() as progress:
            report = make_mini(folder, progress=progress)
    except (RuntimeError, OSError) as error:  # no MuJoCo, no OpenGL, no room
        return fail(str(error), PROG)
    except KeyboardInterrupt:
        return fail(f"whole shards are kept in '{folder}'; the same command goes on", PROG, 130, "stopped")
    if report.differing:
        note = f"note: {len(report.differing)} clips are not the published ones bit for bit"
        print(f"{PROG}: {note}" + ("" if report.same_driver else " (another OpenGL driver)"), file=sys.stderr)
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# run


def run_all(args: argparse.Namespace) -> int:
    """The verbs one after another, each printed as it could be typed; stops where one fails."""
    from diffvas.bench.predict import parse_specs
    from diffvas.cli.main import dispatch
    from diffvas.methods import find_method

    _check_budget(args)
    out = Path(args.out)
    plans: list[Sequence[object]] = []
    if args.data == "mini" and made_mini(out) is None:
        plans.append(("world", "mini", "--out", out / "mini"))
    chosen: list[str] = []
    for text in args.methods:
        with blame("--methods"):
            fits = "=" not in text and find_method(text).trainable
        if fits:
            own = ("--data", args.train, "--out", out / "methods" / text, "--encodings", out / "methods" / "encodings")
            plans.append(("bench", "fit", text, *own, *_budget(args)))
        chosen.append(f"{text}={out / 'methods' / text}" if fits else text)
    with blame("--methods"):
        labels = [spec.label for spec in parse_specs(chosen)]
    predictions, scores = out / "predictions", out / "scores"
    data = out / "mini" if args.data == "mini" else args.data
    words: list[object] = ["bench", "predict", "--data", data, "--method", *chosen, "--out", predictions]
    words += ["--depth", args.depth, "--seed", args.seed, "--device", args.device]
    for name in ("samples", "objects", "kind", "images", "split"):
        words += [f"--{name}", getattr(args, name)] if getattr(args, name) else []
    plans.append(words)
    folders = [predictions / label for label in labels]
    rules: tuple[object, ...] = (
        *(("--protocol", args.protocol) if args.protocol else ()),
        "--data",
        data,
        "--out",
        scores,
    )
    rules += tuple(word for name, value in _data_options(args).items() for word in (f"--{name}", value))
    plans.append(("bench", "score", "--truth", predictions / "truth", "--predictions", *folders, *rules))
    plans.append(("bench", "report", scores))
    for plan in plans:
        line = [str(word) for word in plan]
        print(f"$ {shlex.join(['diffvas', *line])}", file=sys.stderr, flush=True)
        status = dispatch(line)
        if status:
            return status
    return 0


def _budget(args: argparse.Namespace) -> list[object]:
    amount = ("--seconds", args.seconds) if args.seconds else ("--steps", args.steps)
    size = ("--size", *args.size, "--frames", args.frames)
    return [*amount, "--batch", args.batch, *size, "--seed", args.seed, "--device", args.device]


VERBS = {"fit": fit, "predict": predict, "run": run_all}
