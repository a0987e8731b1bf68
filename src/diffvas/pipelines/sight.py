"""What is seen of an object in a window: at the models' size for the networks, and in depth for the rule of what can
hide it.

The arithmetic is that of ``order.may_be_hidden`` on whole clips, frame by frame, in the memory of one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffvas import arrays
from diffvas.diffusion.pixel_net import PixelNet
from diffvas.focus import Box, Boxes
from diffvas.order import LARGEST, TOLERANCE, may_be_hidden, object_depth
from diffvas.pipelines.finish import BY_COLOUR, BY_DEPTH, COLOURS, UNTOLD
from diffvas.pipelines.front import RIM, in_front, middle, pseudo_depth, wide_size
from diffvas.pipelines.material import Material
from diffvas.pipelines.pixels import cut_coverage
from diffvas.shape_memory import HINT, Memory, in_grey, votes
from diffvas.types import F32, U8, Bool

# of an object as other frames know it, how much must lie beyond the frame to say that it has left it; chosen on scenes
# of the training split
BEYOND = 0.75
STEEPNESS = 8.0  # of relative depth: an eighth of the range nearer than the object is as near as can be


@dataclass(frozen=True, eq=False)
class DepthOrder:
    """The depth of an object through a window.

    Attributes:
        low, high: of the window's depth, whole frames. own: (n, h, w) float32, the object's own depth on that scale,
            0 to 1 = near, at ``LARGEST`` pixels or less.
    """

    low: float
    high: float
    own: F32

    def room(self, index: int, depth: F32, box: Box) -> Bool:
        """(h, w) bool, in a box of the window's frame ``index``: where something at least as near is seen.

        Args:
            depth: (H, W) of that frame.
        """
        own = self.own[index]
        if own.shape != depth.shape:
            own = arrays.resize_float(own[None], (depth.shape[0], depth.shape[1]))[0]
        near, mine = box.crop(depth[None])[0], box.crop(own[None])[0]
        return np.asarray(relative(near, self.low, self.high) >= mine - TOLERANCE)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the networks see of an object, at their size.

    Attributes:
        modal: (n, h, w) bool. depth: (n, h, w) float32 in [0, 1], 1 = near; None where there is none.
        inside: (n, h, w) bool, what is in the frame, or on the canvas where that is larger; None = all of it.
        beyond: (n, h, w) bool, what the camera does not show of a canvas; None = nothing.
        front: (n, h, w) float32 in [0, 1], how likely something at least as near as the object is seen, told from
            colours where there is no depth (``front.py``); None = not told.
        rgb: (n, h, w, 3) uint8, those colours; None where nobody looked at them.
    """

    modal: Bool
    depth: F32 | None
    inside: Bool | None = None
    beyond: Bool | None = None
    front: F32 | None = None
    rgb: U8 | None = None

    def at(self, frames: NDArray[np.integer]) -> Seen:
        """Some of the frames."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: part[frames] for name, part in parts.items() if part is not None})

    @cached_property
    def free(self) -> Bool | F32 | None:
        """(n, h, w), where something at least as near as the object is seen: bool by depth, float32 in [0, 1] where it
        is told how likely that is; None where nothing tells."""
        free: Bool | F32 | None = self.front
        if self.depth is not None and self.modal.any():
            free = may_be_hidden(self.depth, self.modal)
        return free if free is None or self.beyond is None else np.maximum(free, self.beyond)

    @cached_property
    def memory(self) -> Memory:
        """What all frames say of each one; see :func:`shape_memory.votes`."""
        return votes(self.modal, self.free, self.inside)

    @cached_property
    def recalled(self) -> F32:
        """(n, h, w) float32 in [0, 1]: :func:`shape_memory.in_grey`, with what is known of what is in front."""
        if not self.modal.any():
            return self.modal.astype(np.float32)
        return in_grey(self.memory, self.modal, self.free, self.inside)

    @cached_property
    def gone(self) -> Bool:
        """(n,), in which frames nothing is visible because the object is out of the frame, not hidden in it: where its
        path leads, most of what other frames know of it lies beyond the frame."""
        visible = np.asarray(self.modal.any((1, 2)))
        if self.inside is None or self.inside.all() or visible.all() or not visible.any():
            return np.zeros_like(visible)
        share = self.memory.share
        beyond = (share * ~self.inside).sum((1, 2))
        return np.asarray(~visible & (beyond > BEYOND * share.sum((1, 2))))

    @property
    def nearness(self) -> torch.Tensor | None:
        """(n, 3, h, w) in [-1, 1]: the second condition of stage 1: depth, or what stands in front in its place."""
        if self.depth is not None:
            return arrays.depth_to_signed(self.depth.clip(0, 1))
        return None if self.front is None else arrays.depth_to_signed(pseudo_depth(self.front, self.modal))

    def condition(self, *, memory: bool) -> torch.Tensor:
        """(n, 3, h, w) in [-1, 1]: the first condition of stage 1, visible masks in white on black.

        Args:
            memory: with what other frames say of the rest, in grey; for models that were trained so.
        """
        return arrays.depth_to_signed(self.recalled) if memory else arrays.masks_to_signed(self.modal)

    @property
    def told(self) -> int:
        """What tells of the things in front, as the network that finishes masks is told it."""
        return BY_DEPTH if self.depth is not None else UNTOLD if self.front is None else BY_COLOUR

    @cached_property
    def known(self) -> F32:
        """(n, 18, h, w) float32 in about [-1, 1]: what the network that finishes masks sees beside them."""
        ones = np.ones(self.modal.shape, np.float32)
        memory = self.memory if self.modal.any() else Memory.empty(ones.shape)
        room = ones if self.free is None else self.free
        nearer = 0 * ones
        if self.depth is not None and self.modal.any():
            nearer = (STEEPNESS * (self.depth - object_depth(self.depth, self.modal))).clip(-1, 1)
        inside = ones if self.inside is None else self.inside
        mask, share, sure, room, inside = (
            2 * np.asarray(one, np.float32)[:, None] - 1
            for one in (self.modal, memory.share, memory.sure, room, inside)
        )
        best, others = memory.singly[:, :1], memory.singly[:, 1:]
        colours: NDArray[Any] = np.zeros((len(ones), COLOURS, *ones.shape[1:]), np.float32)
        if self.rgb is not None:
            colours = self.rgb.transpose(0, 3, 1, 2) / np.float32(127.5) - 1
        parts = (mask, share, sure, best, room, inside, nearer[:, None], others, colours)
        return np.concatenate(parts, 1, dtype=np.float32)

    def with_votes(self, maps: F32, frame: int, share: float) -> F32:
        """Soft masks (..., h, w) of a frame, mixed with the votes of the others, which get this share."""
        if not share:
            return maps
        votes = np.where(self.modal[frame], 1, self.recalled[frame] / HINT)
        return np.asarray((1 - share) * maps + share * votes, np.float32)


@dataclass(frozen=True, eq=False)
class Sight:
    """A window as the networks see it.

    Attributes:
        order: the object's place in depth; None where there is no depth, or nobody asks.
    """

    seen: Seen
    order: DepthOrder | None


def tell_front(net: PixelNet, seen: Seen, rgb: U8, inside: Bool, boxes: Boxes) -> Seen:
    """The same with what a network says of what stands in front, and the colours that it looked at.

    Args:
        seen: without depth. rgb: (n, H, W, 3) uint8, the same part of the frames with a rim (``front.wide_size``).
        inside: (n, H, W) bool, what of that the camera shows. boxes: (n,), with that rim.
    """
    front = in_front(net, rgb, seen.modal, seen.recalled, inside, boxes)
    return replace(seen, front=front, rgb=middle(rgb, (seen.modal.shape[1], seen.modal.shape[2])))


def look(
    material: Material,
    object_id: int,
    frames: Sequence[int],
    boxes: Boxes,
    size: tuple[int, int],
    ordered: bool,
    colours: Callable[[], tuple[PixelNet, U8]] | None = None,
) -> Sight:
    """Read a window's frames once.

    Args:
        frames: numbers in the clip. boxes: what the networks look at in each of them, at ``size`` (h, w). ordered: also
            find out the object's place in depth. colours: the network that tells from colours what stands in front, and
            the frames (n, H, W, 3) uint8 in their boxes with rims; asked where there is no depth.
    """
    height, width = material.size
    shrink = max(height, width) / LARGEST
    small = (height, width) if shrink <= 1 else (max(1, round(height / shrink)), max(1, round(width / shrink)))
    known = material.depth_at is not None
    coverage, depths, masks, maps = [], [], [], []
    inside, beyond, shown = [], [], []
    canvas = np.ones((1, height, width), bool)
    camera = material.inside.paste(np.ones((1, *material.frame_size), bool), material.size)
    unseen = ~camera
    low, high = np.inf, -np.inf
    for t, box in zip(frames, boxes, strict=True):
        modal = material.modal(object_id, t)
        coverage.append(arrays.resize_masks_area(box.crop(modal[None]), size)[0])
        inside.append(arrays.resize_masks_area(box.crop(canvas), size)[0])
        beyond.append(arrays.resize_masks_area(box.crop(unseen), size)[0])
        if not known:
            if colours is not None:
                shown.append(arrays.resize_masks_area(box.grown(RIM).crop(camera), wide_size(size))[0])
            continue
        depth = material.depth(t)
        depths.append(arrays.resize_float(box.crop(depth[None]), size)[0])
        if ordered:
            low, high = min(low, float(depth.min())), max(high, float(depth.max()))
            masks.append(arrays.resize_masks_area(modal[None], small)[0])
            maps.append(arrays.resize_float(depth[None], small)[0])
    order = None
    if known and ordered:
        on = cut_coverage(np.stack(masks))
        if on.any():
            order = DepthOrder(low, high, object_depth(relative(np.stack(maps), low, high), on))
    normal = arrays.normalise_depth(np.stack(depths)) if known else None
    within, outside = (np.stack(part) >= 0.5 for part in (inside, beyond))
    seen = Seen(cut_coverage(np.stack(coverage)), normal, within, outside)
    if colours is not None and not known:
        net, rgb = colours()
        seen = tell_front(net, seen, rgb, np.stack(shown) >= 0.5, [box.grown(RIM) for box in boxes])
    return Sight(seen, order)


def relative(depth: F32, low: float, high: float) -> F32:
    """``arrays.normalise_depth`` with a range that is known: 0 to 1, and 0.5 where all is equally far."""
    half_range = high / 2 - low / 2
    if half_range <= 1e-6 * max(abs(low), abs(high)):
        return np.full(depth.shape, 0.5, np.float32)
    return np.asarray(((depth.astype(np.float64) / 2 - low / 2) / half_range).clip(0, 1), np.float32)
