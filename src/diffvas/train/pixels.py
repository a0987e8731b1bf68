"""Train the small networks that work on pixels, on examples that are prepared once: ``front``, ``finish``, ``colours``.

Shard ``k`` of a folder of examples depends on (seed, k) and nothing else. Each example is one object of one scene in
boxes that follow it, spoilt as real inputs are, with what the pipelines would hand to the network; see
``pixel_material.py``.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from diffvas.diffusion.pixel_net import PixelNet
from diffvas.pipelines.colours import INPUTS as COLOUR_INPUTS
from diffvas.pipelines.finish import AGAIN, BY_COLOUR, INSIDE, ROOM, VISIBLE
from diffvas.pipelines.finish import INPUTS as FINISH_INPUTS
from diffvas.pipelines.front import INPUTS as FRONT_INPUTS
from diffvas.pipelines.front import SIDEWAYS, front_input, surround
from diffvas.train import jitter
from diffvas.train.cache import find_shards
from diffvas.train.checkpoints import differences, replace_folder, write_whole
from diffvas.train.loop import Batch, LoopConfig, Objective, Report, report_lines, resolved, train
from diffvas.types import F32, Bool

SETTINGS = "examples.json"
SHAPES = "shapes"  # the source of examples by ``shape_material.py``
LOOP = LoopConfig(steps=4000, lr=1.5e-3, warmup=50, decay=0.6, weight_decay=0.02, save_every=200, log_every=50)


# ---------------------------------------------------------------------------------------------------------------------
# preparing


@dataclass(frozen=True)
class ExampleConfig:
    """What a folder of prepared examples holds.

    Attributes:
        net: which network they are for. source: "flat", ``SHAPES`` (for ``finish``), or a folder of scene clips. size:
            (height, width) of the boxes.
        shards, per_shard: how much. frames: T, fewer where a clip has no more. seed: of all draws. spoil: with the
            faults of real inputs.
        model, front: the model whose first stage is asked, and the network ``front`` beside it; not for ``front``.
        clutter: share that has a busy background and more things in front, see ``data/clutter.py``.
        scenes: of ``SHAPES``, a folder of scene clips whose objects are the shapes; "" for those of the flat world.
    """

    net: str
    source: str
    size: tuple[int, int] = (96, 96)
    shards: int = 16
    per_shard: int = 16
    frames: int = 25
    seed: int = 0
    spoil: bool = True
    model: str = ""
    front: str = ""
    clutter: float = 0.0
    scenes: str = ""


Make = Callable[[ExampleConfig, list[int]], dict[str, torch.Tensor]]


def prepare(
    config: ExampleConfig,
    make: Make,
    out: Path,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``config.shards`` shards into ``out``; whole shards that are there already are kept.

    Args:
        make: (config, key) -> one example, a function that can be pickled. workers: processes.
        progress: called as (shards done, of all).

    Raises:
        ValueError: ``out`` holds examples with other settings.
    """
    settings = json.loads(json.dumps({k: v for k, v in asdict(config).items() if k != "shards"}))
    path = out / SETTINGS
    if path.exists() and (changed := differences(json.loads(path.read_text()), settings)):
        raise ValueError(f"out: {out} holds examples with other settings ({'; '.join(changed)}); use another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda p: p.write_text(json.dumps(settings, indent=1)))
    missing = [k for k in range(config.shards) if not shard_path(out, k).exists()]
    work = partial(_prepare_shard, config, make, out)
    with contextlib.ExitStack() as stack:
        done: Iterable[None] = map(work, missing)
        if workers > 1:
            # spawned: torch's threads do not survive a fork
            pool = ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
            done = stack.enter_context(pool).map(work, missing)
        for count, _ in enumerate(done, config.shards - len(missing) + 1):
            if progress is not None:
                progress(count, config.shards)


def shard_path(out: Path, k: int) -> Path:
    """Where shard ``k`` lies."""
    return out / f"shard-{k:05d}.safetensors"


def _prepare_shard(config: ExampleConfig, make: Make, out: Path, k: int) -> None:
    rows = [make(config, [config.seed, k, i]) for i in range(config.per_shard)]
    stacked = {name: torch.stack([row[name] for row in rows]).contiguous() for name in rows[0]}
    write_whole(shard_path(out, k), lambda p: save_file(stacked, p))


# ---------------------------------------------------------------------------------------------------------------------
# batches


class PreparedFrames:
    """Random batches of single frames: some frames of some examples of one shard, half of them mirrored.

    Args:
        folders: of prepared examples; weights: how often each is drawn (empty: equally).
        clips, frames: examples of a batch, and frames of each. look: turns an example's tensors (T, ...) and frame
            numbers into what the loss needs, rows of frames. sideways: channels of "x" that change their sign where the
            picture is mirrored. vary: changes a batch at random, in ways that leave it true.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        weights: Sequence[float],
        clips: int,
        frames: int,
        seed: int,
        look: Callable[[dict[str, torch.Tensor], np.ndarray], Batch],
        sideways: Sequence[int] = (),
        vary: Callable[[Batch, np.random.Generator], Batch] | None = None,
    ) -> None:
        self.sideways, self.vary = list(sideways), vary
        self.shards = [find_shards(folder) for folder in folders]
        total = sum(weights) if weights else len(folders)
        self.weights = [w / total for w in weights] if weights else [1 / total] * len(folders)
        self.clips, self.frames, self.seed, self.look = clips, frames, seed, look

    def __getitem__(self, step: int) -> Batch:
        torch.set_num_threads(1)
        rng = np.random.default_rng([self.seed, 91, step])
        shards = self.shards[int(rng.choice(len(self.shards), p=self.weights))]
        rows = []
        for shard in rng.choice(len(shards), min(len(shards), 4), replace=False).tolist():
            with safe_open(os.fspath(shards[shard]), "pt") as f:
                names = list(f.keys())
                count = f.get_slice(names[0]).get_shape()[0]
                per = -(-self.clips // min(len(shards), 4))
                for row in rng.choice(count, min(per, count), replace=False).tolist():
                    clip = {name: f.get_slice(name)[row] for name in names}
                    rows.append(self.look(clip, self._frames(clip, rng)))
        batch = {name: torch.cat([row[name] for row in rows[: self.clips]]) for name in rows[0]}
        flip = torch.from_numpy(rng.random(len(batch["x"])) < 0.5)
        for value in batch.values():
            if value.dim() == 4:
                value[flip] = value[flip].flip(-1)
        for channel in self.sideways:
            batch["x"][flip, channel] *= -1
        return batch if self.vary is None else self.vary(batch, rng)

    def _frames(self, clip: dict[str, torch.Tensor], rng: np.random.Generator) -> np.ndarray:
        weight = clip["weight"].numpy().astype(np.float64)
        count = min(self.frames, int((weight > 0).sum()))
        return np.sort(rng.choice(len(weight), count, replace=False, p=weight / weight.sum()))


def pack_bits(mask: Bool) -> torch.Tensor:
    """(..., W) bool -> (..., W/8) packed uint8."""
    return torch.from_numpy(np.packbits(mask, axis=-1))


def pack_signed(maps: F32) -> torch.Tensor:
    """Numbers in about [-1, 1] -> uint8, as ``look_finish`` and ``look_colours`` read them."""
    return torch.from_numpy(((maps + 1) * 127.5).round().clip(0, 255).astype(np.uint8))


def unpack_bits(bits: torch.Tensor) -> np.ndarray:
    """(..., W/8) packed uint8 -> (..., W) bool."""
    return np.unpackbits(bits.numpy(), axis=-1).astype(bool)


# ---------------------------------------------------------------------------------------------------------------------
# what stands in front


RIM_WEIGHT = 0.2  # of a pixel in the rim, which is there to be learned from and is not used


def look_front(clip: dict[str, torch.Tensor], at: np.ndarray) -> Batch:
    """What ``front_loss`` needs of some frames of an example."""
    modal, amodal, shown, room = (unpack_bits(clip[name]) for name in ("modal", "amodal", "shown", "room"))
    recalled, passed = (np.asarray(clip[name].numpy() / 255, np.float32) for name in ("recalled", "passed"))
    x = front_input(clip["rgb"].numpy(), modal, recalled, shown, passed, at)
    weight = np.where(amodal[at], 5, np.float32(1)) * ~modal[at]
    weight = surround(weight, (room.shape[1], room.shape[2]), RIM_WEIGHT) * shown[at]
    return {"x": x, "truth": torch.from_numpy(np.stack([room[at], weight], 1)).float()}


def front_loss(net: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Cross-entropy where the object is not visible, five times as much where it is hidden, and little in the rim."""
    room, weight = batch["truth"].unbind(1)
    logits = net(batch["x"], torch.zeros(len(room)))[:, 0]
    entropy = F.binary_cross_entropy_with_logits(logits, room, weight, reduction="sum") / weight.sum().clamp(min=1)
    with torch.no_grad():
        found, hidden, counts = logits > 0, weight > 1, weight >= 1
        numbers = {
            "hidden_found": (found & hidden).sum().item() / max(int(hidden.sum()), 1),
            "right": ((found == (room > 0)) & counts).sum().item() / max(int(counts.sum()), 1),
        }
    return entropy, numbers


# ---------------------------------------------------------------------------------------------------------------------
# finished masks

SMOOTH = 8.0  # pixels; makes small and empty truths count little
FIRST_TIME = 1 / 3  # of the frames are asked for as if for the first time: nothing was said yet


def look_finish(clip: dict[str, torch.Tensor], at: np.ndarray) -> Batch:
    """What ``finish_loss`` needs of some frames of an example."""
    x = clip["maps"][at].float() / 127.5 - 1
    # colours are kept only where they are told; what was said, where a network was there to say it
    x = F.pad(x, (0, 0, 0, 0, 0, FINISH_INPUTS - AGAIN - x.shape[1]))
    said = clip["again"][at].float() / 127.5 - 1 if "again" in clip else torch.zeros(len(x), AGAIN, *x.shape[2:])
    x = torch.cat([x, said], 1)
    truth = np.stack([unpack_bits(clip[name])[at] for name in ("amodal", "modal")], 1)
    return {"x": x, "truth": torch.from_numpy(truth).float(), "mode": clip["mode"].expand(len(at)).clone()}


def vary_finish(batch: Batch, rng: np.random.Generator) -> Batch:
    """The frames warped, each in its own way; what comes from beyond them is not in the frame, and does not count. Some
    without what was said before."""
    x, truth = batch["x"], batch["truth"]
    maps = jitter.random_warps(len(x), rng)
    there = jitter.within((x.shape[2], x.shape[3]), maps)
    x, truth = jitter.warp(x, maps), jitter.warp(truth, maps)
    told = batch["mode"] == BY_COLOUR  # how likely there is room, not whether
    x[~told, ROOM] = torch.where(x[~told, ROOM] > 0, 1.0, -1.0)
    for channel in (VISIBLE, INSIDE):
        x[:, channel] = torch.where((x[:, channel] > 0) & there, 1.0, -1.0)
    x[torch.from_numpy(rng.random(len(x)) < FIRST_TIME), -AGAIN:] = 0
    truth = torch.stack([truth[:, 0] >= 0.5, (x[:, VISIBLE] > 0) | ~there], 1).float()
    return {**batch, "x": x, "truth": truth}


def finish_loss(net: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """Cross-entropy outside of the visible mask, where the pipelines ask, and 1 - Jaccard of the hidden part, which
    is what mIoU_occ measures."""
    amodal, modal = batch["truth"].unbind(1)
    logits = net(batch["x"], batch["mode"])[:, 0]
    outside = 1 - modal
    entropy = F.binary_cross_entropy_with_logits(logits, amodal, outside, reduction="sum") / outside.sum().clamp(min=1)
    p, hidden = torch.sigmoid(logits) * outside, amodal * outside
    both, either = (p * hidden).flatten(1).sum(1), (p + hidden - p * hidden).flatten(1).sum(1)
    jaccard = (1 - (both + SMOOTH) / (either + SMOOTH)).mean()
    with torch.no_grad():
        found, there = (logits > 0) & (outside > 0), hidden > 0
        counts = there.flatten(1).sum(1) >= 16
        iou = (found & there).flatten(1).sum(1) / (found | there).flatten(1).sum(1).clamp(min=1)
        numbers = {f"iou_{mode}": iou[counts & (batch["mode"] == mode)].mean().item() for mode in range(3)}
        numbers = {name: value for name, value in numbers.items() if value == value}
    return 2 * entropy + jaccard, numbers


# ---------------------------------------------------------------------------------------------------------------------
# finished colours


def look_colours(clip: dict[str, torch.Tensor], at: np.ndarray) -> Batch:
    """What ``colours_loss`` needs of some frames of an example."""
    hidden = torch.from_numpy(unpack_bits(clip["hidden"])[at][:, None]).float()
    truth = torch.cat([clip["truth"][at].float() / 127.5 - 1, hidden], 1)
    return {"x": clip["maps"][at].float() / 127.5 - 1, "truth": truth}


def colours_loss(net: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """The mean over frames of the logarithm of the squared error in the hidden part, which is PSNR, and a little of
    the plain error, which keeps frames that are all but right from counting without bound."""
    change = net(batch["x"], torch.zeros(len(batch["x"])))
    truth, hidden = batch["truth"][:, :3], batch["truth"][:, 3:]
    count = hidden.flatten(1).sum(1).clamp(min=1) * 3
    there = hidden.flatten(1).any(1)

    def error(picture: torch.Tensor) -> torch.Tensor:
        return (((picture - truth) / 2) ** 2 * hidden).flatten(1).sum(1)[there] / count[there]

    after = error(batch["x"][:, :3] + change)
    with torch.no_grad():
        before = error(batch["x"][:, :3])
        psnr = [-10 * torch.log10(e + 1e-6).mean().item() for e in (before, after)]
    loss = 4 + torch.log10(after + 1e-4).mean() + 5 * after.sqrt().mean()  # never below 0
    return loss, {"psnr_before": psnr[0], "psnr": psnr[1]}


@dataclass(frozen=True)
class Recipe:
    """One of the networks: channels in and out, widths of its levels, what is taken of an example, the loss, the
    channels in that change their sign where a picture is mirrored, and how batches are varied."""

    inputs: int
    outputs: int
    widths: tuple[int, ...]
    look: Callable[[dict[str, torch.Tensor], np.ndarray], Batch]
    loss: Callable[[Any, Batch], tuple[torch.Tensor, dict[str, float]]]
    sideways: tuple[int, ...] = ()
    vary: Callable[[Batch, np.random.Generator], Batch] | None = None

    def new(self) -> PixelNet:
        """The network with random weights."""
        return PixelNet.new(self.inputs, self.outputs, self.widths)


RECIPES = {
    "front": Recipe(FRONT_INPUTS, 1, (40, 56, 80), look_front, front_loss, SIDEWAYS),
    "finish": Recipe(FINISH_INPUTS, 1, (48, 64, 96), look_finish, finish_loss, vary=vary_finish),
    "colours": Recipe(COLOUR_INPUTS, 3, (40, 56, 80), look_colours, colours_loss),
}


def train_pixels(
    net: str,
    data: Sequence[Path],
    out: Path,
    config: LoopConfig,
    *,
    weights: Sequence[float] = (),
    clips: int = 8,
    frames: int = 4,
    start: Path | None = None,
    report: Report = report_lines,
) -> None:
    """Train one of ``RECIPES`` on prepared examples and save it to ``out/net``.

    Args:
        data, weights, clips, frames: see ``PreparedFrames``. start: a saved network to go on from, also
            one that knew fewer channels.

    Raises:
        ValueError: examples for another network, or none; ``start`` has more channels.
    """
    recipe, config = RECIPES[net], resolved(config)
    for folder in data:
        path = folder / SETTINGS
        kind = json.loads(path.read_text())["net"] if path.is_file() else "none"
        if kind != net:
            raise ValueError(f"data: expected examples for {net} in {folder}, got {kind}")
    torch.manual_seed(config.seed)
    model = recipe.new()
    if start is not None:
        known = PixelNet.load(start)
        if known.inputs > recipe.inputs:
            raise ValueError(f"start: expected a network with {recipe.inputs} channels in at most, got {known.inputs}")
        model = known.widened(recipe.inputs).train()
    source = PreparedFrames(data, weights, clips, frames, config.seed, recipe.look, recipe.sideways, recipe.vary)
    extra: dict[str, Any] = {"preset": net, "data": [str(d) for d in data], "clips": clips, "frames": frames}

    def keep(step: int, average: dict[str, torch.Tensor]) -> None:
        if step:
            kept = copy.deepcopy(model)
            kept.load_state_dict({k: v.cpu() for k, v in average.items()})
            replace_folder(out / "net", kept.unet.save_pretrained)

    train(model, source, Objective(recipe.loss), config, out, extra_config=extra, every=keep, report=report)
