"""What both stages of all objects work with, and the way from the networks' frames to all frames.

Everything here is a stream. A frame comes out as soon as no later window changes it, for arrays in memory and for files
alike; where to begin is asked for, so that a resumed job goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from diffvas import arrays
from diffvas.diffusion.pixel_net import PixelNet
from diffvas.focus import Box
from diffvas.pipelines.aim import whole_extents
from diffvas.pipelines.drawing import Guard, Meter, Plan, Shelf
from diffvas.pipelines.front import RIM, wide_size
from diffvas.pipelines.loading import CompletionModel
from diffvas.pipelines.material import Material
from diffvas.pipelines.sight import Sight, look
from diffvas.pipelines.timeline import Motion, Timeline, move
from diffvas.pipelines.windows import Run, Window, most_inside, plan_runs
from diffvas.types import F32, U8, Bool


@dataclass(frozen=True, eq=False)
class Estimate:
    """What the networks say of one frame.

    Attributes:
        position: in the timeline. run: in which it was drawn. box: what it shows of the frame.
        maps: (K, h, w) masks or (1, h, w, 3) colours, float32 in [0, 1], at the networks' size.
        room: (H, W) bool in the box at the source's size, where the object may be hidden; None = anywhere.
    """

    position: int
    run: int
    box: Box
    maps: F32
    room: Bool | None = None


@dataclass(eq=False)
class Desk:
    """Everything that both stages of all objects work with.

    Attributes:
        output: one of ``uncertainty.OUTPUTS``. counted: windows that the meter has seen.
    """

    model: CompletionModel
    material: Material
    timeline: Timeline
    plan: Plan
    meter: Meter
    shelf: Shelf
    guard: Guard
    output: str = "consensus"
    counted: set[str] = field(default_factory=set)

    @cached_property
    def first_look(self) -> dict[int, list[Run]]:
        """The windows of every object, in boxes around what is visible of it."""
        return {i: plan_object(self.model, self.material, self.timeline, i) for i in self.material.tracks}

    @cached_property
    def runs(self) -> dict[int, list[Run]]:
        """The windows of every object, in boxes around the whole of it where the model does so."""
        return aimed_runs(self) if self.model.aims else self.first_look

    @cached_property
    def glance(self) -> Glance:
        """What has to be known of all frames beforehand."""
        return take_glance(self)

    @property
    def tells_by_colour(self) -> bool:
        """Whether a network has to tell from colours what stands in front: there is one, and no depth."""
        return self.model.front is not None and self.material.depth_at is None

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) at which the networks see what they look at."""
        return self.model.view_size(self.material.size)

    def picture(self, stage: str, box: Box, frame: U8) -> U8:
        """(h, w, 3) uint8: what a stage sees of a frame (H, W, 3), stage 1 with a rim, see ``front.py``."""
        if stage == "amodal":
            return arrays.resize_u8(box.grown(RIM).crop(frame[None]), wide_size(self.size))[0]
        return arrays.resize_u8(box.crop(frame[None]), self.size)[0]

    def latents(self, stage: str, object_id: int, window: Window, draw: Callable[[], torch.Tensor]) -> torch.Tensor:
        """(K, n, 4, h, w), from the shelf or drawn now."""
        pipe = self.model.amodal if stage == "amodal" else self.model.content
        assert pipe is not None
        name, before = window_name(stage, object_id, window), self.meter.done[stage]
        made, known = self.shelf.get(name, partial(self.guard, pipe, draw))
        # what lay there counts too, and an attempt that failed does not
        self.count(stage, object_id, window, 0 if known else self.meter.done[stage] - before)
        return made

    def count(self, stage: str, object_id: int, window: Window, ticked: int = 0) -> None:
        """A window is done, of which ``ticked`` steps were told to the meter already."""
        name = window_name(stage, object_id, window)
        if name not in self.counted:
            self.counted.add(name)
            self.meter.tick(stage, self.meter.steps[stage] - ticked)


def window_name(stage: str, object_id: int, window: Window) -> str:
    """Under which a window's latents are kept."""
    return f"{stage}-{object_id}-{window.number:05d}"


def plan_object(model: CompletionModel, material: Material, timeline: Timeline, object_id: int) -> list[Run]:
    """An object's windows on the frames that the networks see, as positions in the timeline."""
    everywhere = material.extents(object_id)
    look = partial(model.look_along, size=material.size)
    return plan_runs([everywhere[t] for t in timeline.at], timeline.shots, model.frames, look)


def aimed_runs(desk: Desk) -> dict[int, list[Run]]:
    """The windows of :attr:`Desk.first_look` in boxes that follow the whole objects; see ``aim.py``."""
    windows, done, size = (
        sum(len(run.windows) for runs in desk.first_look.values() for run in runs),
        0,
        desk.material.size,
    )
    found: dict[int, list[Run]] = {}
    for object_id, runs in desk.first_look.items():
        reader = Reader(desk, object_id, "amodal", runs) if desk.tells_by_colour else None
        found[object_id] = []
        for number, run in enumerate(runs):
            at = desk.timeline.at[run.start : run.stop].tolist()
            extents, shares = [desk.material.extents(object_id)[t] for t in at], [0.0] * len(at)
            for window in run.windows:
                look_on = partial(_look_on, desk, object_id, number, window, reader)
                told, _ = desk.shelf.get(window_name("look", object_id, window), look_on)
                for position, (*edges, share) in enumerate(told.tolist(), window.start):
                    here = position - run.start
                    if extents[here] is not None and most_inside(run.windows, position) is window:
                        top, bottom, left, right = map(int, edges)
                        extents[here], shares[here] = (top, bottom, left, right), share
                done += 1
                if desk.meter.progress is not None:
                    desk.meter.progress("look", done, windows)
            found[object_id].append(replace(run, boxes=desk.model.look_along(extents, size, shares)))
    return found


def _look_on(desk: Desk, object_id: int, number: int, window: Window, reader: Reader | None) -> torch.Tensor:
    """(n, 5) float32: extent of the whole object in each frame that a window stands for, and the share of it that is
    visible; zeros where nothing is visible."""
    run = desk.first_look[object_id][number]
    span = range(window.start, window.stop)
    visible = [desk.material.extents(object_id)[t] for t in desk.timeline.at[span].tolist()]
    told = torch.zeros(len(span), 5)
    if not any(extent is not None for extent in visible):
        return told  # the window's frames are of elsewhere
    see = partial(see_window, desk, object_id, run, window, reader, number)
    seen = desk.guard(desk.model.amodal, see).seen
    boxes = [run.box(position) for position in span]
    for row, extent, share in zip(told, *whole_extents(seen, boxes, visible), strict=True):
        if extent is not None:
            row[:] = torch.tensor([*extent, share])
    return told


def see_window(
    desk: Desk,
    object_id: int,
    run: Run,
    window: Window,
    reader: Reader | None,
    number: int,
    *,
    ordered: bool = False,
) -> Sight:
    """What stage 1 sees in a window of a run.

    Args:
        reader: of colours, where they tell what stands in front; ``number``: of the run, for it. ordered: also find out
            the object's place in depth.
    """
    frames = desk.timeline.at[window.frames].tolist()
    boxes = [run.box(position) for position in window.frames.tolist()]

    def colours() -> tuple[PixelNet, U8]:
        assert reader is not None and desk.model.front is not None
        return desk.model.front, np.stack(reader.read(number, window))

    by_colour = colours if reader is not None else None
    return look(desk.material, object_id, frames, boxes, desk.size, ordered, by_colour)


# ---------------------------------------------------------------------------------------------------------------------
# one look at all frames before anything is drawn


@dataclass(frozen=True, eq=False)
class Glance:
    """What one pass over the frames finds out.

    Attributes:
        paths: by object (T, 2) float32, how it has moved since the first frame, (x, y) in pixels; empty where nobody
            asks: the networks see all frames, and no frame is filled from others.
        colours: by object and run (3,) float32, the mean colour of what is visible, 0 to 1; None where nothing is.
        context: by stage, object, run and position (h, w, 3) uint8, frames that a window borrows from outside of its
            span.
    """

    paths: dict[int, F32]
    colours: dict[tuple[int, int], F32 | None]
    context: dict[tuple[str, int, int, int], U8]


def take_glance(desk: Desk) -> Glance:
    """Read all frames once, or none where there is nothing to find out."""
    material, timeline = desk.material, desk.timeline
    ids, sampled = list(material.tracks), not timeline.every_frame
    motion = Motion(material.size, ids)
    colours: dict[tuple[int, int], _Colours] = {}
    context: dict[tuple[str, int, int, int], U8] = {}
    asked = {"amodal": desk.tells_by_colour, "content": desk.plan.content is not None}
    coloured = [stage for stage, asks in asked.items() if asks]
    borrowing = any(_borrows(w) for runs in desk.runs.values() for run in runs for w in run.windows)
    if not sampled and desk.plan.content is None and not (coloured and borrowing):
        return Glance({}, {}, {})  # stage 1 reads what is in its windows' own spans by itself
    moving = sampled or (desk.model.recall and desk.plan.content is not None)
    frames = list(range(material.num_frames)) if sampled else timeline.at.tolist()
    positions = {int(t): position for position, t in enumerate(timeline.at)}
    for t, frame in zip(frames, material.rgb(frames), strict=True):
        if moving:
            motion.add(frame, [material.modal(i, t) for i in ids])
        if t not in positions or not coloured:
            continue
        for i in ids:
            for number, run in enumerate(desk.runs[i]):
                borrowed, held = _use(run, positions[t])
                if not (borrowed or held):
                    continue
                box = run.box(positions[t])
                for stage in coloured if borrowed else ():
                    context[stage, i, number, positions[t]] = desk.picture(stage, box, frame)
                if held and desk.plan.content is not None and material.extents(i)[t] is not None:
                    small = desk.picture("content", box, frame)
                    coverage = arrays.resize_masks_area(box.crop(material.modal(i, t)[None]), desk.size)[0]
                    colours.setdefault((i, number), _Colours()).add(small, coverage)
    return Glance(motion.paths() if moving else {}, {key: c.mean() for key, c in colours.items()}, context)


def _borrows(window: Window) -> bool:
    """Whether a window shows frames from outside of its span."""
    return any(not window.start <= position < window.stop for position in window.frames.tolist())


def _use(run: Run, position: int) -> tuple[bool, bool]:
    """Whether a window of the run borrows a frame from outside of its span, and whether one has it in its span."""
    if not min(w.frames[0] for w in run.windows) <= position <= max(w.frames[-1] for w in run.windows):
        return False, False
    inside = [w.start <= position < w.stop for w in run.windows]
    borrowed = any(not there and position in w.frames for w, there in zip(run.windows, inside, strict=True))
    return borrowed, any(inside)


class _Colours:
    """The mean colour on an object's pixels, by the rule of ``pixels.cut_coverage`` for objects that are very small."""

    def __init__(self) -> None:
        self._sums = np.zeros((2, 4))

    def add(self, rgb_u8: U8, coverage: F32) -> None:
        for sums, on in zip(self._sums, (coverage >= 0.5, coverage > 0), strict=True):
            sums += [*rgb_u8[on].sum(0, dtype=np.float64), on.sum()]

    def mean(self) -> F32 | None:
        sums = self._sums[0] if self._sums[0, 3] else self._sums[1]
        return np.asarray(sums[:3] / sums[3] / 255, np.float32) if sums[3] else None


class Reader:
    """Reads a stage's frames once, in order, and keeps what windows need of them at the networks' size."""

    def __init__(self, desk: Desk, object_id: int, stage: str, runs: Sequence[Run]) -> None:
        self._desk, self._object, self._stage, self._runs = desk, object_id, stage, runs
        self._ahead: Iterator[tuple[int, U8]] | None = None
        self._last = -1
        self._kept: dict[tuple[int, int], U8] = {}

    def read(self, number: int, window: Window) -> list[U8]:
        """(h, w, 3) uint8 for each of the window's frames, of the run ``number``; windows come in order."""
        desk, runs = self._desk, self._runs
        if self._ahead is None:
            spans = [range(w.start, w.stop) for run in runs for w in run.windows]
            wanted = sorted({p for span in spans for p in span if p >= window.start})
            self._ahead = zip(wanted, desk.material.rgb(desk.timeline.at[wanted].tolist()), strict=True)
        self._kept = {key: v for key, v in self._kept.items() if key >= (number, window.start)}
        while self._last < window.stop - 1:
            self._last, frame = next(self._ahead)
            for other, run in enumerate(runs):
                if other >= number and _spans(run, self._last):
                    self._kept[other, self._last] = desk.picture(self._stage, run.box(self._last), frame)
        return [
            self._kept[number, p] if window.start <= p < window.stop else self._borrowed(number, p)
            for p in window.frames.tolist()
        ]

    def _borrowed(self, number: int, position: int) -> U8:
        return self._desk.glance.context[self._stage, self._object, number, position]


def _spans(run: Run, position: int) -> bool:
    return run.windows[0].start <= position < run.windows[-1].stop


# ---------------------------------------------------------------------------------------------------------------------
# from the networks' frames to all frames


def every_frame(
    desk: Desk, object_id: int, stream: Callable[[int], Iterator[Estimate]], first: int
) -> Iterator[tuple[int, Estimate | None]]:
    """Every frame of the clip from ``first`` on with what is said of it; None where nothing is.

    Args:
        stream: gives the networks' estimates in order, from about a position on.
    """
    at = desk.timeline.at
    position = max(int(np.searchsorted(at, first, "right")) - 1, 0)
    cursor, before = first, None
    for estimate in stream(position):
        if estimate.position < position:
            continue
        frame = int(at[estimate.position])
        joined = before is not None and before.position + 1 == estimate.position
        joined = joined and estimate.position not in {start for start, _ in desk.timeline.shots}
        for t in range(cursor, frame):
            yield t, _between(desk, object_id, before, estimate, t) if joined and before is not None else None
        if frame >= cursor:
            yield frame, estimate
        cursor, before = max(cursor, frame + 1), estimate
    for t in range(cursor, desk.material.num_frames):
        yield t, None


def _between(desk: Desk, object_id: int, a: Estimate, b: Estimate, frame: int) -> Estimate:
    """Two estimates moved along with the object and mixed; the nearer one alone where they are of two runs."""
    share = desk.timeline.share(a.position, frame)
    nearer = a if share < 0.5 else b
    path, at = desk.glance.paths[object_id], desk.timeline.at
    if a.run != b.run:
        return replace(nearer, maps=_moved(nearer, path[frame] - path[at[nearer.position]], nearer.box), room=None)
    by = [path[frame] - path[at[e.position]] for e in (a, b)]
    box = nearer.box.moved(by[0 if nearer is a else 1])
    first, second = (_moved(e, step, box) for e, step in zip((a, b), by, strict=True))
    return Estimate(a.position, a.run, box, (1 - share) * first + share * second)


def _moved(estimate: Estimate, by: NDArray[np.floating], box: Box) -> F32:
    """The estimate's maps as seen in ``box`` after the object has moved by (x, y) pixels. What depth forbids is taken
    out before: depth is known in the networks' own frames alone."""
    maps, size = estimate.maps, (estimate.maps.shape[1], estimate.maps.shape[2])
    if estimate.room is not None:
        maps = maps * arrays.resize_masks_area(estimate.room[None], size)
    return np.stack([move(image, by, estimate.box, box) for image in maps])
