"""Where the networks look: boxes that follow the whole object, as far as other frames tell of it.

A box around what is visible lies beside the object where only a part of it is. So the boxes are planned twice: around
what is visible, and then around what the shape memory, asked in these boxes, says of the whole object. Where nothing is
visible nothing is asked: there the path goes on from the frames before and after.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffvas.focus import Box, extent
from diffvas.pipelines.sight import Seen
from diffvas.shape_memory import HINT, in_grey, votes
from diffvas.types import Extent

LEVEL = 0.6  # share of the votes from which a pixel is taken for a part of the object; chosen on validation scenes


def whole_extents(
    seen: Seen, boxes: Sequence[Box], extents: Sequence[Extent | None]
) -> tuple[list[Extent | None], list[float]]:
    """Of the whole object as other frames know it: (top, bottom, left, right) per frame, ends exclusive, None where
    nothing of it is visible; and which share of it is visible, in [0, 1].

    An object that leaves the frame is followed out of it.

    Args:
        seen: (T, h, w), the frames in ``boxes``. extents: of what is visible, which the result holds.
    """
    found, shares = list(extents), [float(visible is not None) for visible in extents]
    if not seen.modal.any():
        return found, shares
    # masks are laid over each other as they are: for where a box goes, bending them would be work for little
    told = in_grey(votes(seen.modal, seen.free, seen.inside, bent=False), seen.modal, seen.free)
    for t, (part, box, visible) in enumerate(zip(told >= LEVEL * HINT, boxes, extents, strict=True)):
        around = extent(part)
        if visible is None or around is None:
            continue
        down, right = box.size[0] / part.shape[0], box.size[1] / part.shape[1]
        found[t] = (
            min(visible[0], round(box.top + around[0] * down)),
            max(visible[1], round(box.top + around[1] * down)),
            min(visible[2], round(box.left + around[2] * right)),
            max(visible[3], round(box.left + around[3] * right)),
        )
        shares[t] = float(seen.modal[t].sum() / part.sum())
    return found, shares
