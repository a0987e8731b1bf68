"""``diffvas complete``: a video and the visible masks of its objects in, whole objects out."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffvas.cli.console import StageProgress, UsageError, blame, not_negative, one_of, whole_number

if TYPE_CHECKING:
    from diffvas.pipelines.loading import CompletionModel

HELP = """\
Complete objects that something hides: their whole masks and what the hidden parts look like.

INPUT is a video file or a folder of images, of any size and length. MASKS says where each object
is visible: a folder of PNGs, one per frame (1-bit, grey, palette or RGB; in label and palette images
every id is an object), a folder of such folders named 1, 2, ..., or an .npz file.

OUT gets result.json, preview.mp4, and per object amodal_masks/, content/ and, with more than one
sample, probability/. It appears when it is whole; an earlier output in its place is replaced."""

NAMED_MODELS = ("tiny", "official")
SAMPLERS = ("euler", "ays", "dpm++")  # diffusion.sampling's, which cannot be imported before torch
_HF_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MAX_SEED = 2**63 - 1  # torch's generators take no more


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("input", metavar="INPUT", help="video file or folder of images")
    parser.add_argument("--masks", metavar="MASKS", required=True, help="visible masks: folder of PNGs, or .npz")
    parser.add_argument("--out", metavar="OUT", required=True, help="folder to write")
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
    model.add_argument("--only-masks", action="store_true", help="stage 1 alone: no content")
    model.add_argument(
        "--behaviour",
        metavar="default|faithful",
        type=one_of("default", "faithful"),
        default="default",
        help="faithful: number for number what the paper's released code does [default]",
    )
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
        "--seed", metavar="S", type=whole_number(0, _MAX_SEED), default=0, help="same seed, same files [0]"
    )
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


def run(args: argparse.Namespace) -> int:
    """Read, complete, write; see :data:`HELP`. What is cheap to check is checked before torch is imported."""
    started = time.perf_counter()
    _check_paths(args)
    _check_model(args.model)
    _check_device(args.device)

    from diffvas.export import save_completion
    from diffvas.masks import read_masks
    from diffvas.perception.depth import resolve_depth
    from diffvas.video import read_clip

    with blame("INPUT"):
        clip = read_clip(args.input)
    with blame("--masks"):
        tracks = read_masks(args.masks, clip.size, clip.num_frames)
    # by module, not by name: the package's own attribute of this name would be looked up once and kept
    completion_module = importlib.import_module("diffvas.pipelines.completion")
    with StageProgress() as progress:
        with blame("--depth"):
            depth, line = resolve_depth(args.depth, clip, device=args.device, progress=progress)
        if args.depth != "none":
            print(line, file=sys.stderr)
        model = load_model(args)
        completion = completion_module.complete(
            clip,
            tracks,
            model=model,
            depth=depth,
            samples=args.samples,
            steps=args.steps,
            sampler=args.sampler,
            guidance=args.guidance,
            interval=None if args.guidance_interval is None else tuple(args.guidance_interval),
            seed=args.seed,
            progress=progress,
        )
        save_completion(completion, args.out, progress, source=args.input)

    objects = f"{len(tracks)} object{'s' if len(tracks) != 1 else ''}"
    stages = "".join(f", {name} {value:.1f} s" for name, value in completion.seconds.items())
    print(f"{args.out}: {objects}, {clip.num_frames} frames, {time.perf_counter() - started:.1f} s in all{stages}")
    return 0


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


def _check_paths(args: argparse.Namespace) -> None:
    from diffvas.export import check_out_dir

    inputs = {"INPUT": args.input, "--masks": args.masks}
    for name, path in inputs.items():
        if not Path(path).exists():
            raise UsageError(f"argument {name}: expected an existing file or folder, got no such path '{path}'")
    with blame("--out"):
        place = check_out_dir(args.out)
    if Path(args.depth).exists():
        inputs["--depth"] = args.depth
    for name, path in inputs.items():
        source = Path(path).resolve()
        if source == place or place in source.parents:
            raise UsageError(f"argument --out: expected a folder apart from {name}, got '{args.out}', which holds it")


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
