"""``diffvas complete``: a video and the visible masks of its objects in, whole objects out."""

from __future__ import annotations

import argparse
import importlib
import re
import time
from pathlib import Path

from diffvas.cli.console import StageProgress, UsageError, blame, one_of, whole_number

HELP = """\
Complete objects that something hides: their whole masks and what the hidden parts look like.

INPUT is a video file or a folder of images, of any size and length. MASKS says where each object
is visible: a folder of PNGs, one per frame (1-bit, grey, palette or RGB; in label and palette images
every id is an object), a folder of such folders named 1, 2, ..., or an .npz file.

OUT gets result.json, preview.mp4, and per object amodal_masks/, content/ and, with more than one
sample, probability/. It appears when it is whole; an earlier output in its place is replaced."""

BUNDLED_MODELS = ("tiny",)
_HF_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MAX_SEED = 2**63 - 1  # torch's generators take no more


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("input", metavar="INPUT", help="video file or folder of images")
    parser.add_argument("--masks", metavar="MASKS", required=True, help="visible masks: folder of PNGs, or .npz")
    parser.add_argument("--out", metavar="OUT", required=True, help="folder to write")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", metavar="NAME", default="tiny", help="tiny (bundled), a folder, or a Hugging Face id [tiny]"
    )
    model.add_argument(
        "--depth",
        metavar="none|PATH",
        default="none",
        help="inverse depth, larger = nearer: folder of grey PNGs, .npz or .npy [none]",
    )
    model.add_argument("--samples", metavar="K", type=whole_number(1), help="masks to draw and average [the model's]")
    model.add_argument("--steps", metavar="N", type=whole_number(1), help="denoising steps [the model's]")
    model.add_argument(
        "--seed", metavar="S", type=whole_number(0, _MAX_SEED), default=0, help="same seed, same files [0]"
    )
    model.add_argument(
        "--device", metavar="auto|cpu|cuda", type=one_of("auto", "cpu", "cuda"), default="auto", help="[auto]"
    )


def run(args: argparse.Namespace) -> int:
    """Read, complete, write; see :data:`HELP`. What is cheap to check is checked before torch is imported."""
    started = time.perf_counter()
    depth_path = None if args.depth == "none" else args.depth
    _check_paths(args, depth_path)
    _check_model(args.model)
    _check_device(args.device)

    from diffvas.export import save_completion
    from diffvas.masks import read_masks
    from diffvas.video import read_clip, read_depth

    with blame("INPUT"):
        clip = read_clip(args.input)
    with blame("--masks"):
        tracks = read_masks(args.masks, clip.size, clip.num_frames)
    with blame("--depth"):
        depth = None if depth_path is None else read_depth(depth_path, clip.size, clip.num_frames)

    # by module, not by name: the package's own attribute of this name would be looked up once and kept
    completion_module = importlib.import_module("diffvas.pipelines.completion")
    with StageProgress() as progress:
        completion = completion_module.complete(
            clip,
            tracks,
            model=args.model,
            depth=depth,
            samples=args.samples,
            steps=args.steps,
            seed=args.seed,
            device=args.device,
            progress=progress,
        )
        save_completion(completion, args.out, progress)

    objects = f"{len(tracks)} object{'s' if len(tracks) != 1 else ''}"
    stages = "".join(f", {name} {value:.1f} s" for name, value in completion.seconds.items())
    print(f"{args.out}: {objects}, {clip.num_frames} frames, {time.perf_counter() - started:.1f} s in all{stages}")
    return 0


def _check_paths(args: argparse.Namespace, depth_path: str | None) -> None:
    from diffvas.export import check_out_dir

    inputs = {"INPUT": args.input, "--masks": args.masks}
    if depth_path is not None:
        inputs["--depth"] = depth_path
    for name, path in inputs.items():
        if not Path(path).exists():
            raise UsageError(f"argument {name}: expected an existing file or folder, got no such path '{path}'")
    with blame("--out"):
        place = check_out_dir(args.out)
    for name, path in inputs.items():
        source = Path(path).resolve()
        if source == place or place in source.parents:
            raise UsageError(f"argument --out: expected a folder apart from {name}, got '{args.out}', which holds it")


def _check_model(model: str) -> None:
    """Refuse what can be no model, before anything slow; whether a folder or an id holds one, the loader finds out."""
    if model in BUNDLED_MODELS or Path(model).is_dir() or _HF_ID.fullmatch(model):
        return
    raise UsageError(
        f"argument --model: expected {', '.join(BUNDLED_MODELS)}, a folder with a model, or a Hugging Face id "
        f"(owner/name), got '{model}'"
    )


def _check_device(device: str) -> None:
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise UsageError("argument --device: expected a device of this machine, got 'cuda', which it does not have")
