"""``diffvas demo``: the bundled clip, the bundled models, and how near they come to the clip's ground truth."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from diffvas.cli.console import StageProgress, blame, whole_number

if TYPE_CHECKING:
    import numpy as np

    from diffvas.types import Completion
    from diffvas.world.clip import SceneClip

HELP = """complete the bundled clip with the bundled models and compare with its ground truth

writes OUT/ as diffvas complete does, and OUT/picture.png: what it looks like"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="outputs/demo")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--samples", type=whole_number(1))
    parser.add_argument("--steps", type=whole_number(1))
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(args: argparse.Namespace) -> int:
    from diffvas.export import check_out_dir, save_completion, write_png
    from diffvas.types import Clip, ObjectTrack

    with blame("--out"):
        check_out_dir(args.out)
    from diffvas.data.examples import relative_depth
    from diffvas.world.storage import read_scene_clip

    scene = read_scene_clip(demo_path())
    clip = Clip(scene.frames_u8, 12.0, "demo")
    track = ObjectTrack(1, scene.modal_mask(0))
    completion_module = importlib.import_module("diffvas.pipelines.completion")
    with StageProgress() as progress:
        completion = completion_module.complete(
            clip,
            [track],
            model=args.model,
            depth=relative_depth(scene.depth),
            samples=args.samples,
            steps=args.steps,
            seed=args.seed,
            device=args.device,
            progress=progress,
        )
        save_completion(completion, args.out, progress)
    write_png(Path(args.out) / "picture.png", picture(completion, scene))
    print_table(completion, scene)
    print(f"\n{args.out}/preview.mp4 shows it moving, {args.out}/picture.png in one picture")
    return 0


def demo_path() -> Path:
    """The bundled scene clip; its object 0 is the one to complete."""
    from importlib import resources

    return Path(str(resources.files("diffvas") / "assets" / "demo.npz"))


def picture(completion: Completion, scene: SceneClip, columns: int = 4) -> np.ndarray:
    """(H', W', 3) uint8: for some frames, from the top: the input with the visible mask, the amodal mask, the completed
    object, and the true one."""
    import numpy as np

    from diffvas.preview import draw_overlay, object_colour

    done = completion.objects[0]
    assert done.content_rgba is not None
    colour = object_colour(done.object_id)
    hidden = (scene.amodal_masks[0] & ~scene.modal_mask(0)).sum((1, 2))
    worst = int(hidden.argmax())
    others = [t for t in np.linspace(0, len(hidden) - 1, columns + 1).round().astype(int) if abs(t - worst) > 1]
    times = sorted({worst, *others[: columns - 1]})
    grey = np.full_like(completion.clip.frames_u8[0], 235)
    rows: list[list[np.ndarray]] = [[], [], [], []]
    for t in times:
        frame = completion.clip.frames_u8[t]
        rows[0].append(draw_overlay(frame, [done.modal_masks[t].astype(np.float32)], [colour]))
        rows[1].append(draw_overlay(frame, [done.amodal_masks[t].astype(np.float32)], [colour]))
        for row, rgb, mask in (
            (2, done.content_rgba[t, ..., :3], done.amodal_masks[t]),
            (3, scene.amodal_rgb_u8[0, t], scene.amodal_masks[0, t]),
        ):
            rows[row].append(np.where(mask[..., None], rgb, grey))
    gap = 6
    lines = [
        np.concatenate([np.pad(p, ((0, gap), (0, gap), (0, 0)), constant_values=255) for p in row], 1) for row in rows
    ]
    return np.concatenate(lines)


def print_table(completion: Completion, scene: SceneClip) -> None:
    """mIoU and mIoU_occ of three methods, PSNR of the content inside the hidden region, seconds per stage."""
    from rich.console import Console
    from rich.table import Table

    from diffvas.metrics.content import mean_colour_fill, psnr_inside
    from diffvas.metrics.hull import convex_hull_masks
    from diffvas.metrics.mask import StrictScore

    done, truth, modal = completion.objects[0], scene.amodal_masks[0], scene.modal_mask(0)
    assert done.content_rgba is not None
    found = truth & ~modal & done.amodal_masks  # colours are compared where there is something hidden and it was found
    table = Table(title="demo clip against its ground truth (strict rules)")
    for name, justify in (
        ("method", "left"),
        ("mIoU", "right"),
        ("mIoU_occ", "right"),
        ("content PSNR, hidden part found", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    fill = psnr_inside(mean_colour_fill(scene.frames_u8, modal), scene.amodal_rgb_u8[0], found)
    ours = psnr_inside(done.content_rgba[..., :3], scene.amodal_rgb_u8[0], found)
    for name, masks, psnr in (
        ("modal", modal, ""),
        ("convex hull", convex_hull_masks(modal), f"mean colour {fill:.1f} dB"),
        ("ours", done.amodal_masks, f"{ours:.1f} dB"),
    ):
        score = StrictScore()
        score.update(masks, truth, modal)
        figures = score.compute()
        table.add_row(name, f"{100 * figures['miou']:.1f}", f"{100 * figures['miou_occ']:.1f}", psnr)
    console = Console()
    console.print(table)
    console.print("seconds: " + ", ".join(f"{stage} {value:.1f}" for stage, value in completion.seconds.items()))
