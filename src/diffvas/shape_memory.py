"""What other frames say of an object's shape: visible masks, laid over each other where they fit.

A network that is trained for minutes does not learn that what is hidden now was often seen a moment ago; so it is told.
For every pair of frames the turn and shift are found that lay one frame's visible mask best over the other's,
leaving out of account what is unknown in either because something nearer may hide the object there. Where little is
seen, a pair alone fits in many ways; so all pairs first agree on where the object is in each frame, on a path that is
steady (synchronisation of pairwise registrations), and each then fits near that. Where something tells what is in
front, they are then bent until they meet (``elastic.py``): limbs swing. Then every frame gets the weighted vote of the
others: how many of those that know say that the object is at a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from diffvas.elastic import bend
from diffvas.types import F32, U8, Bool

# chosen on scenes of the validation and training splits by the score of the votes alone, which ``diffvas eval scenes``
# prints
REACH = 24  # frames on either side that have a vote
TURNS = (-10.0, 0.0, 10.0)  # degrees that are tried; boxes that follow the object see to scale
SHIFT = 1 / 6  # of the image's side, the farthest that is tried
GRID = 64  # pixels of the longer side at which transforms are sought
LEAST_SEEN = 20  # pixels, at that size, from which a frame has a vote
TOUCH = 0.03  # what a shift of an eighth of the image or a turn of 10 degrees must gain in IoU
STRAY = 0.5  # what a fit an eighth of the image away from where all pairs see it must gain in IoU
STEADY = 0.45  # what all pairs in the mean must gain where an object moves so far in its box from frame to frame
SWEEPS = 4  # times that the places of all frames are looked at again
CALM = 8.0  # pixels of agreement and of doubt that every pair is given
PACE = 12.0  # frames after which a vote counts a third
TRUST, TRUST_BENT = 3.0, 5.0  # how fast a vote loses weight where masks do not fit; bent ones all fit better
BLIND = 0.3  # how surely a pixel outside of the mask is none of the object's where depth says nothing
DOUBT = 0.005  # of the largest weight of all that know: how little is as good as nothing
NEIGHBOURS = (-8, -4, -2, 2, 4, 8)  # frames away that are also shown one by one
PICKED = 3  # other frames that say most, likewise
APART = 3  # frames that these are apart at least
HINT = 0.75  # the grey of what other frames are sure of; white is what is visible
SINGLY = len(NEIGHBOURS) + PICKED


@dataclass(frozen=True)
class Fit:
    """How a frame is laid over another: turn in degrees, shift (x, y) in pixels; and the IoU of what is known."""

    turn: float
    shift: tuple[float, float]
    iou: float


@dataclass(frozen=True, eq=False)
class Memory:
    """What all frames say of each one, (T, h, w) float32 each.

    Attributes:
        agree: the weight of frames that see the object at a pixel. known: of those that know whether it is there.
        singly: (T, ``SINGLY``, h, w) in [-1, 1], what single other frames say: 1 the object is there, -1 it is not, 0
            nothing is known; times the IoU of what both know. First the frames that say most: they fit well, are near
            in time, and show much; then the neighbours in time.
    """

    agree: F32
    known: F32
    singly: F32

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Memory:
        """Of an object that nobody sees; ``shape``: (T, h, w)."""
        nothing = np.zeros(shape, np.float32)
        return cls(nothing, nothing, np.zeros((shape[0], SINGLY, *shape[1:]), np.float32))

    @property
    def share(self) -> F32:
        """(T, h, w) in [0, 1]: of those that know, how many see the object."""
        return np.asarray((self.agree / (self.known + DOUBT * self.known.max() + 1e-6)).clip(0, 1), np.float32)

    @property
    def sure(self) -> F32:
        """(T, h, w) in [0, 1): how many know, one frame that fits and is near being a half."""
        return np.asarray(self.known / (self.known + 1), np.float32)


def in_grey(memory: Memory, modal: Bool, free: Bool | F32 | None, inside: Bool | None = None) -> F32:
    """(T, h, w) float32 in [0, 1]: visible masks, and in grey what other frames say of the rest; see :func:`votes`."""
    share = memory.share
    for allowed in (free, inside):
        share = share if allowed is None else share * allowed
    return np.asarray(np.where(modal, 1.0, HINT * share), np.float32)


def votes(modal: Bool, free: Bool | F32 | None, inside: Bool | None = None, *, bent: bool = True) -> Memory:
    """What all frames say of each one.

    Args:
        modal: (T, h, w) bool, what is visible in boxes that follow the object (``focus.follow``).
        free: (T, h, w), where something at least as near as the object is seen: bool by depth
            (``order.may_be_hidden``), float32 in [0, 1] where it is told how likely that is (``front.py``); None where
            nothing tells. inside: (T, h, w) bool, what is in the frame; None = all of it.
        bent: also elastically, where something tells.
    """
    bent = bent and free is not None
    there = modal.astype(np.float32)
    absent = (1 - there) * (BLIND if free is None else 1 - free.astype(np.float32))
    if inside is not None:
        absent = absent * inside  # nobody knows what is beyond the frame
    agree, known = np.zeros_like(there), np.zeros_like(there)
    weights, single = np.zeros((len(there), len(there))), {}
    for source, fits in find_fits(there, absent).items():
        over = _lay_over(there, absent, source, fits, bent=bent)
        for target, seen, unseen, iou in zip(fits, *over, strict=True):
            trust = TRUST_BENT if bent else TRUST
            weight = weights[target, source] = np.exp(-abs(source - target) / PACE + trust * (iou - 1))
            agree[target] += weight * seen
            known[target] += weight * (seen + unseen)
            single[target, source] = (iou * (seen - unseen)).astype(np.float16)
    singly = np.zeros((len(there), SINGLY, *there.shape[1:]), np.float32)
    for target, says in enumerate(weights * there.sum((1, 2))):
        for place, source in enumerate(_one_by_one(target, says)):
            singly[target, place] = single.get((target, source), 0)
    return Memory(agree, known, singly)


def _lay_over(
    there: F32, absent: F32, source: int, fits: dict[int, Fit], bent: bool
) -> tuple[F32, F32, NDArray[np.float64]]:
    """(N, h, w) each: where frame ``source`` sees the object and where it does not, as that lies over N frames; and
    (N,), the IoU of what both know.

    Args:
        there, absent: see :func:`find_fits`. fits: by frame. bent: elastically where they do not meet.
    """
    seen, unseen = (np.stack([lay(image[source], fit) for fit in fits.values()]) for image in (there, absent))
    if not bent:
        return seen, unseen, np.array([fit.iou for fit in fits.values()])
    targets = list(fits)
    yes, no = there[targets], absent[targets]
    seen, unseen = (x.numpy() for x in bend(*(torch.from_numpy(x) for x in (seen, unseen, yes, no))))
    return seen, unseen, np.where(np.array(targets) == source, 1, fit_of_known(seen, unseen, yes, no))


def fit_of_known(seen: Any, unseen: Any, there: Any, absent: Any) -> Any:
    """(N,): the IoU of what both know, of masks (N, h, w) laid over others; arrays or tensors."""
    both, apart = (seen * there).sum((1, 2)), (seen * absent + unseen * there).sum((1, 2))
    calm = CALM * (max(there.shape[1:]) / GRID) ** 2
    return (both + calm / 2) / (both + apart + calm)


def _one_by_one(target: int, says: NDArray[np.float64]) -> list[int]:
    """The frames that are shown one by one to frame ``target``, and -1 where there are too few.

    Args:
        says: (T,) how much each frame has to say.
    """
    left = np.where(np.arange(len(says)) == target, 0, says)
    chosen = []
    for _ in range(PICKED):
        best = int(left.argmax())
        chosen.append(best if left[best] > 0 else -1)
        left[max(0, best - APART + 1) : best + APART] = 0
    return chosen + [target + away for away in NEIGHBOURS]


def lay(image: F32, fit: Fit) -> F32:
    """An image (h, w), or (h, w, C), of the one frame as it lies over the other."""
    if fit == Fit(0.0, (0.0, 0.0), fit.iou):
        return image
    height, width = image.shape[:2]
    matrix = _about_the_middle(height, width, fit.turn)
    matrix[:, 2] += fit.shift
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR), np.float32)


def _about_the_middle(height: int, width: int, turn: float) -> NDArray[np.float64]:
    return np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0))


def find_fits(there: F32, absent: F32) -> dict[int, dict[int, Fit]]:
    """By source and target frame, how the one is laid over the other best; frames that show too little have none.

    Args:
        there, absent: (T, h, w) float32, where the object is for sure, and where it is not.
    """
    pairs, stride = compare(there, absent)
    if not pairs:
        return {}
    places = agree(pairs, there.sum((1, 2)))
    found: dict[int, dict[int, Fit]] = {}
    for (source, target), pair in pairs.items():
        row, column = pair.near(places[target] - places[source])
        shift = float(column - pair.reach) * stride[0], float(row - pair.reach) * stride[1]
        fit = Fit(TURNS[pair.turn[row, column]], shift, float(pair.iou[row, column]))
        found.setdefault(source, {})[target] = fit if source != target else Fit(0.0, (0.0, 0.0), 1.0)
    return found


@dataclass(frozen=True, eq=False)
class Pair:
    """How well a frame lies over another at every shift, each at its best turn.

    Attributes:
        score: (n, n) float32, IoU less what shift and turn must gain; row and column are the shift down and right, none
            in the middle. iou: (n, n) float16. turn: (n, n) uint8, which of ``TURNS``. eighth: how many steps an
            eighth of the image is.
    """

    score: F32
    iou: NDArray[np.float16]
    turn: U8
    eighth: float

    @property
    def reach(self) -> int:
        """The largest shift, in steps."""
        return len(self.score) // 2

    def near(self, shift: NDArray[np.int64]) -> tuple[int, int]:
        """Row and column of the best score that does not stray from a shift (down, right), in steps."""
        away = _squares(np.arange(len(self.score)) - self.reach, shift)
        row, column = np.unravel_index((self.score - STRAY * away / self.eighth**2).argmax(), away.shape)
        return int(row), int(column)

    def at(self, down: NDArray[np.int64], right: NDArray[np.int64]) -> F32:
        """(rows, columns): scores at shifts, those out of reach as the nearest within."""
        rows, columns = ((one + self.reach).clip(0, 2 * self.reach) for one in (down, right))
        return self.score[np.ix_(rows, columns)]


def _squares(steps: NDArray[np.int64], middle: NDArray[np.int64]) -> F32:
    """(n, n): squared distance of (down, right) = (steps, steps) from a place."""
    down, right = (np.square(steps - float(one)) for one in middle)
    return np.asarray(down[:, None] + right, np.float32)


def compare(there: F32, absent: F32) -> tuple[dict[tuple[int, int], Pair], tuple[float, float]]:
    """By (source, target) frame how they fit, and the (x, y) pixels of a step; frames that show too little are no
    source.

    All shifts of a turn are compared at once, as correlations by Fourier transforms.

    Args:
        there, absent: see :func:`find_fits`.
    """
    count, height, width = there.shape
    shrink = max(1.0, max(height, width) / GRID)
    size = (round(width / shrink), round(height / shrink))
    small = [np.stack([cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in stack]) for stack in (there, absent)]
    shift, eighth = max(1, round(SHIFT * max(size))), max(size) / 8
    padded = tuple(int(cv2.getOptimalDFTSize(n + shift)) for n in size[::-1])
    steps = np.arange(-shift, shift + 1)
    calm = torch.from_numpy(TOUCH * _squares(steps, np.zeros(2, np.int64)) / eighth**2)
    spectra = [torch.fft.rfft2(torch.from_numpy(x), s=padded) for x in small]
    pairs: dict[tuple[int, int], Pair] = {}
    for source in np.flatnonzero(small[0].sum((1, 2)) >= LEAST_SEEN).tolist():
        targets = list(range(max(0, source - REACH), min(count, source + REACH + 1)))
        scores, ious = [], []
        for turn in TURNS:
            matrix = _about_the_middle(size[1], size[0], turn)
            one, none = (
                torch.fft.rfft2(torch.from_numpy(cv2.warpAffine(x[source], matrix, size)), s=padded).conj()
                for x in small
            )
            both = torch.fft.irfft2(spectra[0][targets] * one, s=padded)[:, steps][:, :, steps]
            apart = torch.fft.irfft2(spectra[1][targets] * one + spectra[0][targets] * none, s=padded)
            iou = (both + CALM / 2) / (both + apart[:, steps][:, :, steps] + CALM)
            ious.append(iou)
            scores.append(iou - calm - TOUCH * (turn / 10) ** 2)
        best, turns = torch.stack(scores, 1).max(1)
        iou = torch.stack(ious, 1).gather(1, turns[:, None])[:, 0].half()
        for k, target in enumerate(targets):
            pairs[source, target] = Pair(best[k].numpy(), iou[k].numpy(), turns[k].byte().numpy(), eighth)
    return pairs, (width / size[0], height / size[1])


def agree(pairs: dict[tuple[int, int], Pair], seen: NDArray[np.floating]) -> NDArray[np.int64]:
    """(T, 2): where the object is in its box in each frame, (down, right) in steps, as all pairs together see it.

    Frame by frame, from the one that shows most outwards, each goes where the others put it; then all of them again
    (iterated conditional modes, Besag 1986).

    Args:
        seen: (T,), how much each frame shows.
    """
    some = next(iter(pairs.values()))
    steps, count, eighth = np.arange(-some.reach, some.reach + 1), len(seen), some.eighth
    places = np.zeros((count, 2), np.int64)

    def place(frame: int, others: range) -> None:
        support = np.zeros((len(steps), len(steps)), np.float32)
        low, high = max(frame - REACH, 0), min(frame + REACH + 1, count)
        weights = np.exp(-np.abs(np.arange(low, high) - frame) / PACE).astype(np.float32)
        weights[frame - low] = 0
        weights /= max(weights.sum(), 1e-6)
        for other in range(max(low, others.start), min(high, others.stop)):
            weight, (down, right) = weights[other - low], places[other]
            if (pair := pairs.get((other, frame))) is not None:
                support += weight * pair.at(steps - down, steps - right)
            if (pair := pairs.get((frame, other))) is not None:
                support += weight * pair.at(down - steps, right - steps)
        for other in (frame - 1, frame + 1):
            if other in others:
                support -= STEADY * _squares(steps, places[other]) / eighth**2
        places[frame] = np.array(np.unravel_index(support.argmax(), support.shape)) - some.reach

    first = last = int(seen.argmax())
    while last - first + 1 < count:
        before, after = (seen[t] if 0 <= t < count else -1 for t in (first - 1, last + 1))
        place(first - 1 if before >= after else last + 1, range(first, last + 1))
        first, last = (first - 1, last) if before >= after else (first, last + 1)
    for _ in range(SWEEPS):
        old = places.copy()
        for frame in range(count):
            place(frame, range(count))
        if (old == places).all():
            break
    return places
