"""What stage 1 adds to an object, kept only where it is sure of some of it.

Without depth, what stands in front is a guess (``front.py``), and things that nothing hides grow by what is half likely
everywhere. What is really hidden is known for sure at least for a moment. So a part that is added to the visible mask
has to be sure, or to lie where a part that is sure lies a few frames away: hysteresis (Canny 1986) in space and time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import cv2
import numpy as np

from diffvas.types import F32, Bool

Labels = np.ndarray
T = TypeVar("T")
Held = tuple[Any, F32, list[tuple[Labels, Bool]], bool]  # a frame: key, masks, their parts, whether the object is seen

REACH = (
    3  # frames before and after in which a sure part speaks for others; boxes that follow the object hold them still
)
STRONGEST = 0.2  # of a part's pixels, those that have to be sure


def settle(frames: Iterable[tuple[T, F32, Bool]], level: float, sure: float) -> Iterator[tuple[T, F32]]:
    """Soft masks without the parts that nothing is sure of.

    Args:
        frames: in order, a key, soft masks (K, h, w) in [0, 1], and the visible mask (h, w). level: where masks will be
            cut. sure: what the strongest fifth of a part's pixels must reach.

    Yields:
        The key and the masks, each ``REACH`` frames late; dropped parts are below half the level. Frames in which
        nothing is visible stay as they are: of what is hidden whole, nothing is ever sure.
    """
    held: deque[Held] = deque()
    behind = 0  # of those held, how many have gone out
    for key, maps, modal in frames:
        held.append((key, maps, [_parts(soft, modal, level, sure) for soft in maps], bool(modal.any())))
        if len(held) - behind > REACH:
            yield _settled(held, behind, level)
            behind += 1
        if behind > REACH:
            held.popleft()
            behind -= 1
    for index in range(behind, len(held)):
        yield _settled(held, index, level)


def _parts(soft: F32, modal: Bool, level: float, sure: float) -> tuple[Labels, Bool]:
    """(h, w) numbers of the parts that are added, 0 = none; and (h, w) bool, those that are sure."""
    count, labels = cv2.connectedComponents(((soft >= level) & ~modal).astype(np.uint8))
    strong = np.zeros(count, bool)
    for number in range(1, count):
        strong[number] = np.quantile(soft[labels == number], 1 - STRONGEST) >= sure
    return labels, strong[labels]


def _settled(held: deque[Held], index: int, level: float) -> tuple[T, F32]:
    key, maps, parts, seen = held[index]
    near = [held[i][2] for i in range(max(0, index - REACH), min(len(held), index + REACH + 1))]
    out = maps.copy()
    for k, (labels, _) in enumerate(parts if seen else ()):
        backed = np.zeros(int(labels.max()) + 1, bool)
        backed[labels[np.any([sample[k][1] for sample in near], 0)]] = True
        dropped = (labels > 0) & ~backed[labels]
        out[k][dropped] = np.minimum(out[k][dropped], level / 2)
    return key, out
