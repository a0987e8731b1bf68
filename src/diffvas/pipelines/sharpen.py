"""The soft masks of stage 1 as a model finishes them: every frame by itself, and once more with what was said of all
frames of a window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from diffvas.carried import carry
from diffvas.pipelines.finish import BY_COLOUR, finish, heed, raise_odds, what_was_said
from diffvas.pipelines.loading import CompletionModel
from diffvas.pipelines.sight import Seen
from diffvas.pipelines.windows import Window, most_inside
from diffvas.types import F32

Masks = dict[int, F32]  # (K, h, w) by frame


def sharpen(
    model: CompletionModel,
    windows: Sequence[Window],
    see: Callable[[Window], Seen],
    frames: Iterable[tuple[int, F32]],
) -> Iterator[tuple[int, F32]]:
    """Soft masks (K, h, w) float32 in [0, 1] by frame, in order: finished by the network on pixels, or else mixed
    with the votes of other frames; nothing where the model sees that the object has left the frame.

    Args:
        windows: all of them, in order. see: what is seen in one. frames: (frame, what stage 1 says), in order.
    """
    if model.finish is None:
        for frame, soft in frames:
            window = most_inside(windows, frame)
            seen, at = see(window), window.index(frame)
            gone = model.memory and seen.gone[at]
            yield frame, np.zeros_like(soft) if gone else seen.with_votes(soft, at, model.votes)
        return
    softs: Masks = {}
    said: Masks = {}
    waiting: list[int] = []
    for frame, soft in frames:
        window = most_inside(windows, frame)
        softs[frame] = soft
        said |= _finished(model, see(window), window, {frame: soft}, None)
        waiting.append(frame)
        while waiting and (model.rounds < 2 or most_inside(windows, waiting[0]).stop <= frame + 1):
            yield from _next_window(model, windows, see, softs, said, waiting)
    while waiting:
        yield from _next_window(model, windows, see, softs, said, waiting)


def _next_window(
    model: CompletionModel,
    windows: Sequence[Window],
    see: Callable[[Window], Seen],
    softs: Masks,
    said: Masks,
    waiting: list[int],
) -> Iterator[tuple[int, F32]]:
    """The frames that wait and are most inside of the window of the first of them; what no frame needs any more is
    forgotten."""
    window = most_inside(windows, waiting[0])
    due = [frame for frame in waiting if most_inside(windows, frame) is window]
    del waiting[: len(due)]
    seen, latest = see(window), {t: maps for t, maps in said.items() if window.start <= t < window.stop}
    # where colours tell what is in front, means with other frames' masks were worse on validation scenes, see the card
    share = model.heed if model.rounds > 1 and seen.told != BY_COLOUR else 0.0
    for number in range(model.rounds - 1):
        last = number + 2 == model.rounds and not share
        carried = _carried(seen, window, latest)
        latest |= _finished(model, seen, window, {t: softs[t] for t in (due if last else latest)}, (latest, carried))
    if share:
        carried = _carried(seen, window, latest)
        latest |= {t: heed(latest[t], carried[[window.index(t)]], share) for t in due}
    for frame in due:
        at = window.index(frame)
        gone = model.memory and seen.gone[at]
        yield frame, np.zeros_like(latest[frame]) if gone else raise_odds(latest[frame], seen.modal[at], model.odds)
    needed = most_inside(windows, waiting[0]).start if waiting else due[-1] + 1 - model.frames
    for frame in [frame for frame in softs if frame < needed]:
        del softs[frame], said[frame]


def _carried(seen: Seen, window: Window, said: Masks) -> F32:
    """(n, 2, h, w): ``carried.carry`` for a window's frames; what is borrowed from elsewhere has no say."""
    means = np.zeros(seen.modal.shape, np.float32)
    told = np.zeros(len(means), bool)
    for index, frame in enumerate(window.frames.tolist()):
        if frame in said and not seen.gone[index]:
            means[index], told[index] = said[frame].mean(0), True
    return carry(means, seen.modal, seen.inside, told)


def _finished(
    model: CompletionModel, seen: Seen, window: Window, softs: Masks, before: tuple[Masks, F32] | None
) -> Masks:
    """What the network says of some frames, all of their samples at once.

    Args:
        before: what it said before, and what the others' masks say of the window's frames (n, 2, h, w).
    """
    assert model.finish is not None
    frames, samples = list(softs), len(next(iter(softs.values())))
    at = np.repeat([window.index(frame) for frame in frames], samples)
    again = None
    if before is not None:
        again = what_was_said(np.concatenate([before[0][frame] for frame in frames]), before[1][at])
    masks = finish(model.finish, np.concatenate(list(softs.values())), seen.known[at], seen.told, again)
    return dict(zip(frames, masks.reshape(len(frames), samples, *masks.shape[1:]), strict=True))
