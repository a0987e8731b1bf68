"""``diffvas train``: recipes by name, and the steps around them; everything resumes by the same command."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from diffvas.cli.console import StageProgress, UsageError, fail, number, sizes, whole_number

if TYPE_CHECKING:
    from rich.progress import Progress

    from diffvas.train.loop import Report

HELP = """train models; every step resumes by the same command

  diffvas train vae     --stage amodal --out runs/vae
  diffvas train encode  --stage amodal --vae runs/vae/vae --source flat --out caches/flat
  diffvas train amodal  --data caches/flat --out runs/amodal
  diffvas train finish  --data caches/flat --vae runs/vae/vae --start runs/amodal --out runs/finished
  diffvas train vae     --stage content --out runs/colour_vae
  diffvas train encode  --stage content --vae runs/colour_vae/vae --source flat --out caches/rgb
  diffvas train content --data caches/rgb --out runs/content --start runs/amodal
  diffvas train bundle  --vae runs/vae/vae --content-vae runs/colour_vae/vae --amodal runs/finished \\
                        --content runs/content --out my_model

and the networks on pixels beside the stages, each with examples that are prepared once:

  diffvas train examples --net front   --source scenes --out examples/front
  diffvas train pixels   --net front   --data examples/front --out runs/front
  diffvas train examples --net finish  --source scenes --model my_model --front runs/front --out examples/finish
  diffvas train examples --net finish  --source shapes --out examples/shapes
  diffvas train pixels   --net finish  --data examples/finish examples/shapes --out runs/finish
  diffvas train examples --net colours --source scenes --model my_model --out examples/colours
  diffvas train pixels   --net colours --data examples/colours --out runs/colours
  diffvas train bundle   --model my_model --pixels runs/front runs/finish runs/colours --out my_model

'diffvas train presets' lists the recipes, '--dry-run' shows one resolved and checks its data,
'diffvas train speed --data CACHE --vae VAE' says what the cache is worth on this machine;
several GPUs or machines: accelerate launch -m diffvas.cli.main train PRESET ...
"""

# step -> the folders it cannot do without; every other word is a recipe
STEPS = {
    "vae": (),
    "encode": ("vae",),
    "examples": ("net",),
    "pixels": ("net", "data"),
    "bundle": (),
    "speed": ("data", "vae"),
    "presets": (),
}
# whole numbers that must be above 0; others may be 0
POSITIVE = {"steps", "accumulate", "save_every", "log_every", "batch", "pixel_frames", "val_clips", "val_steps"}
POSITIVE |= {"spans", "levels", "widths"}
FOLDERS = ("data", "val", "start", "model", "vae", "front", "pixels")
CACHE_SIZES = ((128, 256),)
NETS = ("front", "finish", "colours")
SHAPES = "shapes"  # train.pixels', which cannot be imported before torch


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="WHAT", help=f"{', '.join(STEPS)}, or a recipe, see 'diffvas train presets'")
    parser.add_argument("--out", type=Path, help="folder of the run, the cache or the model")
    parser.add_argument(
        "--dry-run", action="store_true", help="show the recipe resolved, check its data, write nothing"
    )
    parser.add_argument(
        "--scenes",
        type=Path,
        help="a folder of scenes: vae: to use beside the flat world; examples of 'shapes': whose objects to draw",
    )
    add_fields(parser)
    cache = parser.add_argument_group("encode")
    cache.add_argument(
        "--source", default="flat", help="'flat', a folder of scenes (diffvas world make), or for finish 'shapes'"
    )
    cache.add_argument("--sizes", type=sizes, default=CACHE_SIZES)
    cache.add_argument("--shards", type=whole_number(1), default=16)
    cache.add_argument("--per-shard", type=whole_number(1), default=16)
    cache.add_argument("--frames", type=whole_number(1), default=25, help="of an example; longer clips are cut [25]")
    cache.add_argument("--split", choices=("all", "train", "val"), default="all", help="part of a folder, by name")
    cache.add_argument(
        "--memory", action="store_true", help="amodal: masks come with what other frames say of the rest"
    )
    cache.add_argument("--pairs", action="store_true", help="content: whole objects hidden behind others' outlines")
    cache.add_argument("--rgb", action="store_true", help="amodal: latents of the whole frame too")
    cache.add_argument(
        "--exact", action="store_true", help="conditions without the faults of real inputs: held-out data"
    )
    cache.add_argument(
        "--tower", type=Path, help="keep the tokens of this folder's image encoder (Stable Video Diffusion)"
    )
    nets = parser.add_argument_group("examples, pixels")
    nets.add_argument("--net", choices=NETS, help="the network on pixels")
    nets.add_argument("--front", type=Path, help="examples for finish without depth: a run of front")
    nets.add_argument("--clutter", type=number(0.0, 1.0), default=0.0, help="share of busy backgrounds [0]")
    nets.add_argument("--workers", type=whole_number(1), default=1, help="processes that prepare examples [1]")
    nets.add_argument("--clips", type=whole_number(1), default=8, help="examples of a batch [8]")
    nets.add_argument("--frames-each", type=whole_number(1), default=4, help="frames of each [4]")
    parts = parser.add_argument_group("bundle")
    parts.add_argument(
        "--pixels",
        type=Path,
        nargs="+",
        help="runs of networks on pixels, put into a copy of --model; several of one network are averaged",
    )
    parts.add_argument("--content-vae", type=Path, help="the VAE of stage 2 (default: --vae)")
    parts.add_argument("--amodal", type=Path, nargs="+", help="a run of stage 1, or several to be averaged")
    parts.add_argument("--content", type=Path, help="a run of stage 2")
    parser.error = functools.partial(suggest, parser, parser.error)  # type: ignore[method-assign]


def add_fields(parser: argparse.ArgumentParser) -> None:
    """An option for every field of a recipe; None where it is not given, so that the recipe's own value holds."""
    group = parser.add_argument_group("recipe", "fields of the recipe; what each means: docs/training.md")
    for name, kind in recipe_fields().items():
        option = "--" + name.replace("_", "-")
        many = kind.startswith("tuple")
        base = kind.removeprefix("tuple[").split(",")[0]
        options: dict[str, Any] = {"default": None, "dest": name}
        if base == "bool":
            options["action"] = argparse.BooleanOptionalAction
        elif base == "int":
            options |= {"type": whole_number(1 if name in POSITIVE else 0), "metavar": "N"}
        elif base == "float":
            options |= {"type": field_number(name), "metavar": "X"}
        else:
            options |= {"type": str, "metavar": "DIR" if name in FOLDERS else "WORD"}
        if many:
            options["nargs"] = "+"
        group.add_argument(option, **options)


def recipe_fields() -> dict[str, str]:
    """Field -> its type as written; read from the sources' annotations, so that ``--help`` needs no torch."""
    from dataclasses import fields

    from diffvas.train.config import DenoiserConfig
    from diffvas.train.settings import LoopConfig

    return {field.name: str(field.type) for kind in (DenoiserConfig, LoopConfig) for field in fields(kind)}


def field_number(name: str) -> Callable[[str], float]:
    """The argparse type of a field that is a number."""
    if name == "lr":
        return number(0, above=True)
    if name in ("decay", "ema", "beta2", "noise_top") or name.startswith("drop_"):
        return number(0, 1)
    return number(-math.inf if name == "noise_mean" else 0)


def suggest(parser: argparse.ArgumentParser, error: Callable[[str], NoReturn], message: str) -> NoReturn:
    """Name the nearest option where an unknown one was given."""
    from diffvas.train.settings import nearest

    found = re.match(r"unrecognized arguments: (--[\w-]+)", message)
    if found:
        known = [option for action in parser._actions for option in action.option_strings]
        message = f"argument {found[1]}: expected an option of 'diffvas train', got another{nearest(found[1], known)}"
    error(message)


def check(args: argparse.Namespace) -> None:
    """Refuse, naming the option, what can be seen to be wrong without torch: folders that are missing or none."""
    if args.what not in STEPS and args.what not in recipe_names():
        from diffvas.train.settings import nearest

        known = [*STEPS, *recipe_names()]
        raise UsageError(
            f"argument WHAT: expected a step or a recipe, see 'diffvas train presets', got '{args.what}'"
            + nearest(args.what, known)
        )
    needed = ("data",) if args.what not in STEPS else STEPS[args.what]
    if args.what == "bundle":
        needed = ("model", "pixels") if args.pixels else ("vae", "amodal", "content")
    elif args.what == "examples" and args.net != "front" and args.source != SHAPES:
        needed = ("net", "model")
    for name in needed:
        if not getattr(args, name):
            raise UsageError(f"argument --{name}: expected one with 'diffvas train {args.what}', got none")
    for name in dict.fromkeys((*needed, *FOLDERS, "scenes", "content_vae", "tower")):
        value = getattr(args, name)
        if name == "net":
            continue
        for path in value if isinstance(value, list) else [value] if value else []:
            if not Path(path).is_dir() and not (name == "model" and path == "tiny"):
                raise UsageError(f"argument --{name.replace('_', '-')}: expected an existing folder, got '{path}'")
    if args.what == "examples" and args.scenes and args.source != SHAPES:
        raise UsageError(f"argument --scenes: expected --source shapes with it, got '{args.source}'")
    if args.front and args.source == SHAPES:
        raise UsageError(
            f"argument --front: expected none with --source shapes, which has no colours, got '{args.front}'"
        )
    if args.front and not (Path(args.front) / "net" / "config.json").is_file():
        raise UsageError(f"argument --front: expected a run of front, with its network in 'net', got '{args.front}'")
    drawn = ("flat", SHAPES) if args.what == "examples" and args.net == "finish" else ("flat",)
    if args.what in ("encode", "examples") and args.source not in drawn and not Path(args.source).is_dir():
        words = ", ".join(f"'{name}'" for name in drawn)
        raise UsageError(f"argument --source: expected {words} or an existing folder, got '{args.source}'")
    if args.what in ("presets", "speed") or args.dry_run:
        return
    if args.out is None:
        raise UsageError(f"argument --out: expected one with 'diffvas train {args.what}', got none")
    for place in (args.out, *args.out.parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"argument --out: expected a folder, got '{args.out}', where '{place}' is a file")
            break


def recipe_names() -> tuple[str, ...]:
    from diffvas.train.presets import PRESETS

    return tuple(PRESETS)


def run(args: argparse.Namespace) -> int:
    """Run one step or recipe."""
    check(args)
    steps = {"vae": train_vae, "encode": encode, "bundle": bundle, "speed": speed, "presets": list_presets}
    steps |= {"examples": prepare_examples, "pixels": train_pixels}
    prog = f"diffvas train {args.what}"
    try:
        with options_named(args):
            steps.get(args.what, train_recipe)(args)
    except FloatingPointError as error:
        return fail(str(error), prog)
    except KeyboardInterrupt:
        return fail("interrupted; the same command goes on from what is saved", prog, status=130, kind="stopped")
    return 0


@contextlib.contextmanager
def options_named(args: argparse.Namespace) -> Iterator[None]:
    """Name the option where the library's message begins with a parameter of the same name ("out: expected ...")."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        found = re.match(r"(\w+): (.*)", str(error), re.DOTALL)
        if found is None or not hasattr(args, found[1]):
            raise
        raise UsageError(f"argument --{found[1].replace('_', '-')}: {found[2]}") from error


def changes(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a recipe that were given."""
    given = {name: getattr(args, name) for name in recipe_fields()}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}


@contextlib.contextmanager
def shown(what: str) -> Iterator[Report]:
    """A report for the training loop: a bar with loss, rate and time left on a terminal, plain lines elsewhere."""
    from diffvas.train.log import report_lines

    if not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":  # one bar for all processes of a run
        yield report_lines
        return
    with make_bar() as bar:
        task = bar.add_task(what, total=None, numbers="")

        def report(done: int, total: int, line: dict[str, Any] | None) -> None:
            if bar.tasks[0].total is None:  # the first step of this run, which may not be the first of all
                bar.reset(task, total=total, completed=done - 1)
            bar.update(task, completed=done)
            if line is not None:
                bar.update(task, numbers=numbers_text(line))

        yield report


def numbers_text(line: dict[str, Any]) -> str:
    """``loss 0.123  lr 0.0003  2.1 steps/s`` from a log line."""
    from diffvas.train.log import BESIDES

    numbers = "  ".join(f"{k} {v:.3g}" for k, v in line.items() if k not in BESIDES)
    return numbers + (f"  {line['rate']:.2g} steps/s" if "rate" in line else "")


def make_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(file=sys.stderr),
    )


def list_presets(args: argparse.Namespace) -> None:
    from diffvas.train.presets import PRESETS

    width = max(map(len, PRESETS))
    for name, preset in PRESETS.items():
        print(f"{name:<{width}}  {preset.text} ({', '.join('--' + need for need in preset.needs)})")


def train_recipe(args: argparse.Namespace) -> None:
    from diffvas.train.denoiser import prepare, train_denoiser
    from diffvas.train.loop import resolved
    from diffvas.train.presets import resolve

    config, loop = resolve(args.what, changes(args))
    if args.dry_run:
        loop = resolved(loop)
        model, source = prepare(config, loop)
        dry_run(args.what, {"preset": args.what, **vars(loop), "denoiser": vars(config)}, model, source[0])
        return
    with shown(args.what) as report:
        train_denoiser(config, loop, args.out, report, args.what)
    kind = "content" if config.stage == "content" else "amodal"
    print(f"{args.out}: ready for diffvas train bundle --{kind} {args.out}")


def speed(args: argparse.Namespace) -> None:
    import tempfile
    from dataclasses import replace

    from diffvas.train.presets import resolve
    from diffvas.train.speed import cache_config, measure, megabytes_a_clip

    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    folder = Path(args.data[0])
    stage = cache_config(folder).stage
    config, loop = resolve(stage, changes(args) | {"stage": stage})
    with tempfile.TemporaryDirectory() as empty:
        told = measure(replace(config, data=config.data[:1], weights=()), loop, Path(empty))
    for name, value in told.items():
        print(f"{name:<14}{value:8.2f}" + ("x" if name == "speed_up" else " clips/s"))
    print(f"{'on disk':<14}{megabytes_a_clip(folder):8.2f} MB a clip")


def dry_run(what: str, settings: dict[str, Any], model: Any, batch: dict[str, Any]) -> None:
    """Print the resolved recipe as it would be saved, how large the networks are, and the shape of the first batch."""
    print(json.dumps(settings, indent=1))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"{what}: {trained / 1e6:.1f} M of {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters train")
    print("first batch: " + ", ".join(f"{name} {tuple(x.shape)}" for name, x in batch.items()))


def train_vae(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from diffvas.train.presets import SMALL
    from diffvas.train.settings import LoopConfig, resolved
    from diffvas.train.vae import train_vae as start

    known = LoopConfig.__dataclass_fields__.keys()
    loop = replace(SMALL, **{k: v for k, v in changes(args).items() if k in known})
    stage = args.stage or "amodal"
    if args.dry_run:
        print(json.dumps({"preset": "vae", "stage": stage, **vars(resolved(loop))}, indent=1))
        return
    with shown("vae") as report:
        start(args.out, loop, stage, args.scenes, report)
    print(f"{args.out / 'vae'}: ready for diffvas train encode --vae {args.out / 'vae'}")


def encode(args: argparse.Namespace) -> None:
    import torch

    from diffvas.train.cache import CacheConfig, build_cache, load_vae

    if args.threads:
        torch.set_num_threads(args.threads)
    config = CacheConfig(
        args.stage or "amodal",
        args.source,
        args.sizes,
        args.shards,
        args.per_shard,
        args.frames,
        args.seed or 0,
        args.split,
        memory=args.memory,
        pairs=args.pairs,
        rgb=args.rgb,
        spoil=not args.exact,
    )
    vae, tower = load_vae(Path(args.vae)), load_tower(args.tower)
    with StageProgress() as progress:
        build_cache(
            config,
            vae,
            args.out,
            compiled=bool(args.compile),
            tower=tower,
            progress=lambda n, all_: progress("shards", n, all_),
        )
    print(f"{args.out}: ready for diffvas train {config.stage} --data {args.out}")


def load_tower(folder: Path | None) -> Any:
    """The image encoder of a model folder, or None.

    Raises:
        ValueError: the folder holds none that can be read.
    """
    if folder is None:
        return None
    from transformers import CLIPVisionModelWithProjection

    try:
        return CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise ValueError(f"tower: expected a folder with an image_encoder, got {folder}") from error


def prepare_examples(args: argparse.Namespace) -> None:
    from diffvas.train.pixel_material import MAKERS
    from diffvas.train.pixels import ExampleConfig, prepare

    config = ExampleConfig(
        args.net,
        args.source,
        args.sizes[0] if args.sizes != CACHE_SIZES else (96, 96),
        args.shards,
        args.per_shard,
        args.frames,
        args.seed or 0,
        spoil=not args.exact,
        model=str(args.model or ""),
        front=str(args.front / "net") if args.front else "",
        clutter=args.clutter,
        scenes=str(args.scenes or ""),
    )
    with StageProgress() as progress:
        prepare(config, MAKERS[args.net], args.out, args.workers, lambda n, all_: progress("shards", n, all_))
    print(f"{args.out}: ready for diffvas train pixels --net {args.net} --data {args.out}")


def train_pixels(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from diffvas.train.pixels import LOOP
    from diffvas.train.pixels import train_pixels as start
    from diffvas.train.settings import LoopConfig

    loop = replace(LOOP, **{k: v for k, v in changes(args).items() if k in LoopConfig.__dataclass_fields__})
    data = [Path(folder) for folder in args.data]
    with shown(args.net) as report:
        start(
            args.net,
            data,
            args.out,
            loop,
            weights=args.weights or (),
            clips=args.clips,
            frames=args.frames_each,
            start=Path(args.start) if args.start else None,
            report=report,
        )
    print(f"{args.out}: ready for diffvas train bundle --pixels {args.out}")


def bundle(args: argparse.Namespace) -> None:
    if args.pixels:
        from diffvas.pipelines.loading import stage_folders
        from diffvas.train.bundle import add_nets

        add_nets(stage_folders(args.model)["amodal"].parent, args.pixels, args.out)
        print(f"{args.out}: ready for diffvas complete --model {args.out}")
        return
    from diffvas.train.bundle import save_model
    from diffvas.train.cache import load_vae

    vaes = {"amodal": Path(args.vae), "content": args.content_vae or Path(args.vae)}
    for path in vaes.values():
        load_vae(path)
    save_model(vaes, {"amodal": args.amodal, "content": args.content}, args.out)
    print(f"{args.out}: ready for diffvas complete --model {args.out}")
