"""``diffvas complete``: a video, and masks or prompts of its objects, in; whole objects out."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffvas.cli.console import StageProgress, UsageError, blame, fail, not_negative, one_of, whole_number
from diffvas.cli.prompting import HELP as OBJECTS_HELP
from diffvas.cli.prompting import add_object_arguments, check_objects, find_named, find_parts

if TYPE_CHECKING:
    from diffvas.pipelines.job import Report
    from diffvas.pipelines.loading import CompletionModel

HELP = f"""\
Complete objects that something hides: their whole masks and what the hidden parts look like.

INPUT is a video file or a folder of images, of any size and length.

{OBJECTS_HELP}

OUT gets result.json, preview.mp4, and per object amodal_masks/, content/ and, with more than one
sample, probability/. It appears when it is whole; an earlier output in its place is replaced. Until
then, what is done lies in .OUT.partial beside it, and the same command goes on from there."""

NAMED_MODELS = ("tiny", "official")
SAMPLERS = ("euler", "ays", "dpm++")  # diffusion.sampling's, which cannot be imported before torch
OUTPUTS = ("consensus", "best", "mean-shape")  # pipelines.uncertainty's
_HF_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MAX_SEED = 2**63 - 1  # torch's generators take no more


def _frame_rate(text: str) -> float | str:
    if text in ("auto", "all"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected auto, all or a number above 0, got '{text}'")
    return value


def _margin(text: str) -> float:
    value = not_negative(text)
    if value > 0.5:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 0.5, got '{text}'")
    return value


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("input", metavar="INPUT", help="video file or folder of images")
    parser.add_argument("--out", metavar="OUT", required=True, help="folder to write")
    add_object_arguments(parser)
    _add_model_options(parser)
    _add_sampling_options(parser)
    _add_video_options(parser)
    _add_machine_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        metavar="NAME",
        default="tiny",
        help="tiny (bundled), official (the paper's weights), a folder, a Hugging Face id, or STAGE1,STAGE2 [tiny]",
    )
    model.add_argument(
        "--depth",
        metavar="auto|none|WHAT",
        default="none",
        help="what is in front of what: auto (Depth Anything V2 Small where it can be had), small, base, large, a "
        "model folder or id; or inverse depth of your own, larger = nearer: folder of grey PNGs, .npz or .npy [none]",
    )
    model.add_argument(
        "--in-front",
        metavar="MASKS|NAMES",
        help="in place of depth: what stands in front of the objects; all else is behind them. Masks of it, as in "
        "--masks, or objects by their name (--object; these prompts may stand beside --masks) or their number in "
        "--masks, with commas between; those are not completed",
    )
    model.add_argument("--only-masks", action="store_true", help="stage 1 alone: no content")
    model.add_argument(
        "--behaviour",
        metavar="default|faithful",
        type=one_of("default", "faithful"),
        default="default",
        help="faithful: number for number what the paper's released code does [default]",
    )


def _add_sampling_options(parser: argparse.ArgumentParser) -> None:
    drawing = parser.add_argument_group("sampling")
    drawing.add_argument("--samples", metavar="K", type=whole_number(1), help="masks to draw and average [the model's]")
    drawing.add_argument("--steps", metavar="N", type=whole_number(1), help="denoising steps [the model's]")
    drawing.add_argument(
        "--sampler", metavar="NAME", type=one_of(*SAMPLERS), help=f"{', '.join(SAMPLERS)} [the model's]"
    )
    drawing.add_argument("--guidance", metavar="G", type=not_negative, help="1 = none, and twice as fast [the model's]")
    drawing.add_argument(
        "--guidance-interval",
        metavar=("LOW", "HIGH"),
        nargs=2,
        type=not_negative,
        help="noise levels between which guidance acts [everywhere]",
    )
    drawing.add_argument(
        "--evaluated",
        metavar=("LOW", "HIGH"),
        nargs=2,
        type=not_negative,
        help="noise levels between which the network runs; outside, its latest estimate is used again [everywhere]",
    )
    drawing.add_argument(
        "--seed", metavar="S", type=whole_number(0, _MAX_SEED), default=0, help="same seed, same files [0]"
    )
    drawing.add_argument(
        "--output",
        metavar="NAME",
        type=one_of(*OUTPUTS),
        default="consensus",
        help="of several samples: consensus, best (agrees most with the others) or mean-shape [consensus]",
    )


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("machine")
    devices, dtypes, offloads = (
        ("auto", "cpu", "cuda"),
        ("auto", "float32", "bfloat16", "float16"),
        ("none", "model", "sequential"),
    )
    machine.add_argument("--device", metavar="|".join(devices), type=one_of(*devices), default="auto", help="[auto]")
    machine.add_argument("--dtype", metavar="NAME", type=one_of(*dtypes), default="auto", help=f"{', '.join(dtypes)}")
    machine.add_argument(
        "--offload",
        metavar="NAME",
        type=one_of(*offloads),
        default="none",
        help=f"less GPU memory: {', '.join(offloads)}",
    )
    machine.add_argument("--compile", action="store_true", help="compile the UNet first: for many or long clips")


def _add_video_options(parser: argparse.ArgumentParser) -> None:
    video = parser.add_argument_group("video")
    video.add_argument(
        "--shots",
        metavar="auto|none",
        type=one_of("auto", "none"),
        default="auto",
        help="find cuts, across which nothing is carried over, or take all for one shot [auto]",
    )
    video.add_argument(
        "--model-fps",
        metavar="auto|all|F",
        type=_frame_rate,
        default="auto",
        help="frames per second that the model sees, carried back to all frames; auto: all where a shot fits one "
        "window, else at least 8 [auto]",
    )
    video.add_argument(
        "--margin",
        metavar="SHARE",
        type=_margin,
        default=0.0,
        help="let objects leave the frame: the canvas is larger by this share of the frame on each side, to 0.5 [0]",
    )
    video.add_argument("--restart", action="store_true", help="throw away an unfinished job of another command at OUT")


def run(args: argparse.Namespace) -> int:
    """Read, complete, write; see :data:`HELP`. What is cheap to check is checked before torch is imported."""
    started = time.perf_counter()
    objects = check_objects(args, _check_paths(args))
    named = find_named(args, objects)
    _check_levels(args)
    _check_model(args.model)
    _check_device(args.device)

    from diffvas.pipelines.partial import partial_folder
    from diffvas.pipelines.shots import scan

    with StageProgress() as progress:
        with blame("INPUT"):
            footage, cuts = scan(args.input, args.shots)
        tracks, nearer = find_parts(args, objects, named, footage, progress)
        depths = importlib.import_module("diffvas.pipelines.depths")
        said = args.in_front is not None
        with blame("--in-front" if said else "--depth"):
            if said:
                depth = depths.open_order(nearer or args.in_front, tracks, footage)
            else:
                depth = depths.open_depth(args.depth, footage, device=args.device)
        if said or args.depth != "none":
            print(f"depth: in front is {args.in_front}" if nearer else depth.description, file=sys.stderr)
        job = importlib.import_module("diffvas.pipelines.job")
        options = _options(args, job.JobOptions)
        model = load_model(args)
        unfinished = partial_folder(args.out)
        if unfinished.exists() and not args.restart:
            print(f"going on with what is done in '{unfinished}'", file=sys.stderr)
        try:
            report = job.run_job(footage, cuts, tracks, depth, model, args.out, options, progress, _tell)
        except (KeyboardInterrupt, SystemExit) as stop:
            if not unfinished.exists():
                raise
            kept = f"what is done is in '{unfinished / 'result'}', and the same command goes on from there"
            status = stop.code if isinstance(stop, SystemExit) else 130
            return fail(f"interrupted; {kept}", "diffvas complete", int(status or 130), kind="stopped")
    _print_report(args.out, report, time.perf_counter() - started)
    return 0


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _options(args: argparse.Namespace, kind: Callable[..., Any]) -> Any:
    """The job's options; ``kind``: the class, which cannot be imported before torch."""
    return kind(
        samples=args.samples,
        steps=args.steps,
        sampler=args.sampler,
        guidance=args.guidance,
        interval=None if args.guidance_interval is None else tuple(args.guidance_interval),
        evaluated=None if args.evaluated is None else tuple(args.evaluated),
        seed=args.seed,
        output=args.output,
        shots=args.shots,
        model_fps=args.model_fps,
        margin=args.margin,
        restart=args.restart,
    )


def _print_report(out: str, report: Report, seconds: float) -> None:
    parts = [f"{len(report.ids)} object{'s' if len(report.ids) != 1 else ''}", f"{report.num_frames} frames"]
    if report.shots > 1:
        parts.append(f"{report.shots} shots")
    if report.model_frames < report.num_frames:
        parts.append(f"{report.model_frames} of them seen by the model")
    stages = "".join(f", {name} {value:.1f} s" for name, value in report.seconds.items())
    print(f"{out}: {', '.join(parts)}, {seconds:.1f} s in all{stages}")
    from diffvas.pipelines.uncertainty import as_ranges

    for number, frames in report.check.items():
        if frames:
            print(f"worth checking, for the samples disagree: object {number}, frames {as_ranges(frames)}")


def load_model(args: argparse.Namespace) -> CompletionModel:
    """The model of the request, with a word on its licence where it is not ours."""
    loading = importlib.import_module("diffvas.pipelines.loading")
    with blame("--model"):
        model = loading.load_pipelines(
            args.model,
            args.device,
            dtype=args.dtype,
            behaviour=args.behaviour,
            content=not args.only_masks,
            offload=args.offload,
            compiled=args.compile,
        )
    if any(name in args.model for name in ("official", *loading.OFFICIAL)):
        print(f"model: {', '.join(loading.OFFICIAL)} ({loading.OFFICIAL_LICENCE})", file=sys.stderr)
    return model


def _check_paths(args: argparse.Namespace) -> Path:
    """The absolute place of the output, once it and the inputs are known to be good."""
    from diffvas.export import check_out_dir

    inputs = {"INPUT": args.input, "--masks": args.masks}
    inputs = {name: path for name, path in inputs.items() if path is not None}
    if args.in_front is not None and args.depth != "none":
        raise UsageError(f"argument --in-front: expected it or --depth, got both ('{args.depth}')")
    for name, path in inputs.items():
        if not Path(path).exists():
            raise UsageError(f"argument {name}: expected an existing file or folder, got no such path '{path}'")
    with blame("--out"):
        place = check_out_dir(args.out)
    for name, words in (("--depth", args.depth), ("--in-front", args.in_front)):
        if words and Path(words).exists():
            inputs[name] = words
    for name, path in inputs.items():
        source = Path(path).resolve()
        if source == place or place in source.parents:
            raise UsageError(f"argument --out: expected a folder apart from {name}, got '{args.out}', which holds it")
    return place


def _check_levels(args: argparse.Namespace) -> None:
    for name, levels in (("--guidance-interval", args.guidance_interval), ("--evaluated", args.evaluated)):
        if levels is not None and levels[0] > levels[1]:
            raise UsageError(f"argument {name}: expected LOW and HIGH, LOW first, got {levels[0]:g} {levels[1]:g}")


def _check_model(model: str) -> None:
    """Refuse what can be no model, before anything slow; whether a folder or an id holds one, the loader finds out."""
    for part in [model] if Path(model).exists() else model.split(","):
        if not (part in NAMED_MODELS or Path(part).is_dir() or _HF_ID.fullmatch(part)):
            raise UsageError(
                f"argument --model: expected {', '.join(NAMED_MODELS)}, a folder with a model, or a Hugging Face id "
                f"(owner/name), got '{part}'"
            )


def _check_device(device: str) -> None:
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise UsageError("argument --device: expected a device of this machine, got 'cuda', which it does not have")
