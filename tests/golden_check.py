"""Compare the faithful behaviour with recorded outputs of the reference implementation.

    python tests/golden_check.py DIR [--tolerance 1e-4]

DIR holds ``checkpoint/`` in the released layout and cases: ``NAME.json``, the call's arguments, and ``NAME.npz`` with
``modal_mask`` (T, H, W) uint8 0/1, ``depth_u8`` (T, H, W) uint8, ``final_latents`` (T, 4, h, w) float32 and ``frames``
(T, H, W, 3) in [0, 1]. Everything runs in float32 on the CPU. Exits 1 where a mean difference is above the tolerance.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from diffvas.pipelines.diffusion_vas import DiffusionVASPipeline

TOLERANCE = 1e-4  # mean absolute difference, of latents and of frames


class Difference(NamedTuple):
    """Of one case: mean and largest absolute difference of the latents, then of the frames."""

    latents_mean: float
    latents_most: float
    frames_mean: float
    frames_most: float


def load(folder: Path) -> DiffusionVASPipeline:
    """The checkpoint of a golden folder, float32, with faithful behaviour."""
    from diffvas.pipelines.checkpoints import load_stage
    from diffvas.pipelines.diffusion_vas import BEHAVIOURS

    pipe = load_stage(folder / "checkpoint", "amodal", torch.device("cpu"), torch.float32)
    pipe.behaviour = BEHAVIOURS["faithful"]
    return pipe


def cases(folder: Path) -> list[str]:
    """The names of the cases in a folder."""
    return sorted(path.stem for path in folder.glob("*.npz") if path.with_suffix(".json").is_file())


def run(pipe: DiffusionVASPipeline, call: dict[str, Any], data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What this implementation makes of a case: latents (T, 4, h, w) and frames (T, H, W, 3) in [0, 1]."""
    seed = re.search(r"\d+", str(call["generator"]))
    assert seed is not None, call["generator"]
    generator = torch.Generator().manual_seed(int(seed.group()))
    # the released pipeline takes frames per second and tells the network one less
    pipe.behaviour = replace(
        pipe.behaviour, fps=int(call.get("fps", 8)) - 1, motion_bucket=int(call.get("motion_bucket_id", 127))
    )
    pipe.register_to_config(defaults={**pipe.config.defaults, "decode_chunk": int(call.get("decode_chunk_size", 8))})
    mask = torch.from_numpy(data["modal_mask"]).float() * 2 - 1
    depth = torch.from_numpy(data["depth_u8"]).float() / 255 * 2 - 1
    a, b = (x[:, None].expand(-1, 3, -1, -1) for x in (mask, depth))
    sampling = pipe.sampling(steps=int(call["num_inference_steps"]), guidance=float(call["guidance_scale"]))
    conditions = pipe.encode_conditions(a, b, generator, float(call.get("noise_aug_strength", 0.02)))
    latents = pipe.denoise(conditions, [generator], sampling)[0]
    return latents.numpy(), pipe.decode(latents).permute(0, 2, 3, 1).numpy()


def check(folder: Path, name: str, pipe: DiffusionVASPipeline) -> Difference:
    """Run one case and compare."""
    call = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
        data = {key: stored[key] for key in stored.files}
    latents, frames = run(pipe, call, data)
    first = np.abs(latents - data["final_latents"])
    second = np.abs(frames - data["frames"].astype(np.float32))
    return Difference(float(first.mean()), float(first.max()), float(second.mean()), float(second.max()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    args = parser.parse_args()
    names = cases(args.folder) if args.folder.is_dir() else []
    if not names or not (args.folder / "checkpoint").is_dir():
        print(
            f"golden_check: expected checkpoint/ and cases (.json + .npz) in {args.folder}, found none", file=sys.stderr
        )
        return 2
    pipe, failed = load(args.folder), 0
    print(f"{'case':<20}{'latents: mean':>16}{'largest':>12}{'frames: mean':>16}{'largest':>12}")
    for name in names:
        found = check(args.folder, name, pipe)
        good = all(mean <= args.tolerance for mean in (found.latents_mean, found.frames_mean))  # not so for NaN
        failed += not good
        numbers = (
            ("16", found.latents_mean),
            ("12", found.latents_most),
            ("16", found.frames_mean),
            ("12", found.frames_most),
        )
        print(
            f"{name:<20}" + "".join(f"{value:>{width}.2e}" for width, value in numbers),
            "" if good else " above the tolerance",
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
