"""Stage 2 as a stream: what an object looks like where it is hidden, in every frame of a clip of any length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from diffvas import arrays
from diffvas.pipelines.colours import touch_up
from diffvas.pipelines.desk import Desk, Estimate, Reader, every_frame
from diffvas.pipelines.drawing import decode_windows, draw_latents
from diffvas.pipelines.pixels import cut_coverage, match_visible, paint
from diffvas.pipelines.recall import Moment, View, fill, look
from diffvas.pipelines.windows import Window
from diffvas.types import F32, U8, Bool

Amodal = Callable[[int], Bool]  # an object's whole mask (H, W) in the frame of this number


def object_content(desk: Desk, object_id: int, amodal: Amodal, first: int = 0) -> Iterator[tuple[int, U8]]:
    """(frame, RGBA (H, W, 4) uint8) of an object in every frame of the clip from ``first`` on.

    Args:
        amodal: what stage 1 found.
    """
    material = desk.material
    said = every_frame(desk, object_id, partial(generated, desk, object_id, amodal), first)
    frames = material.rgb(range(first, material.num_frames))
    album = Album(desk, object_id, amodal) if desk.model.recall else None
    for (t, estimate), frame in zip(said, frames, strict=True):
        modal, whole = material.modal(object_id, t), amodal(t)
        if estimate is None:  # nothing is hidden
            yield t, paint(frame, modal, whole, np.zeros((1, 1, 3), np.float32))
            continue
        box = estimate.box
        views = [box.crop(image[None])[0] for image in (frame, modal, whole)]
        overall = desk.glance.colours.get((object_id, estimate.run))
        picture = _meet(estimate.maps[0], desk.model.detail, overall, *views)
        if album is not None and overall is not None and (views[2] & ~views[1]).any():
            moment = album.moment(t, (box.left, box.top))
            found = fill(picture, views[0], views[1], views[2], moment, album.around(estimate.position), overall)
            net = desk.model.colours
            small, picture = picture, found.colours
            if net is not None:
                picture = touch_up(net, views[0], views[1], views[2], found, small, overall, desk.size)
        rgba = box.paste(paint(views[0], views[1], views[2], picture)[None], material.size)[0]
        beyond = modal & ~box.paste(np.ones((1, *box.size), bool), material.size)[0]
        if beyond.any():
            rgba[beyond] = np.concatenate([frame[beyond], np.full((int(beyond.sum()), 1), 255, np.uint8)], 1)
        yield t, rgba


def _meet(picture: F32, detail: float | None, overall: F32 | None, frame: U8, modal: Bool, whole: Bool) -> F32:
    """(h, w, 3) float32: the networks' picture with colours that meet the visible ones; images cropped to the box."""
    if detail is None or overall is None:
        return picture
    size = (picture.shape[0], picture.shape[1])
    small = arrays.resize_u8(frame[None], size).astype(np.float32) / 255
    seen = arrays.resize_masks_area(modal[None], size) >= 0.5
    on = (arrays.resize_masks_area(whole[None], size) >= 0.5) | seen
    return np.asarray(match_visible(picture[None], small, seen, on, detail, overall)[0])


def generated(desk: Desk, object_id: int, amodal: Amodal, first: int = 0) -> Iterator[Estimate]:
    """What stage 2 says of every frame that it sees, from about position ``first`` on: the object on white."""
    reader = Reader(desk, object_id, "content", desk.runs[object_id])
    for number, run in enumerate(desk.runs[object_id]):
        if run.stop > first:
            yield from _generated_run(desk, object_id, number, amodal, first, reader)
        for window in run.windows:
            desk.count("content", object_id, window)


def _generated_run(
    desk: Desk, object_id: int, number: int, amodal: Amodal, first: int, reader: Reader
) -> Iterator[Estimate]:
    run, pipe, plan = desk.runs[object_id][number], desk.model.content, desk.plan
    assert pipe is not None and plan.content is not None
    sampling, size = plan.content, desk.size

    def shrunk(masks: Callable[[int], Bool], window: Window) -> Bool:
        crops = (run.box(p).crop(masks(int(desk.timeline.at[p]))[None]) for p in window.frames.tolist())
        return cut_coverage(np.concatenate([arrays.resize_masks_area(crop, size) for crop in crops]))

    def draw(window: Window) -> torch.Tensor:
        rgb: list[U8] = []

        def work() -> torch.Tensor:
            rgb[:] = rgb or reader.read(number, window)
            modal = shrunk(partial(desk.material.modal, object_id), window)
            whole = shrunk(amodal, window) | modal
            a = arrays.to_signed(arrays.composite_on_white(np.stack(rgb), modal))
            shared, key = (plan.seed, object_id, 2, window.number, 0), (plan.seed, object_id, 3, window.number, 0)
            tick = partial(desk.meter.tick, "content")
            (z,) = draw_latents(pipe, a, arrays.masks_to_signed(whole), shared, [key], sampling, tick)
            return z.cpu()[None]

        return desk.latents("content", object_id, window, work)

    def decode(latents: torch.Tensor) -> F32:
        frames = desk.guard(pipe, partial(pipe.decode, latents[0].to(desk.model.device)))
        return np.asarray(frames.permute(0, 2, 3, 1).numpy())[None]

    chunk = int(pipe.config.defaults["decode_chunk"])
    for position, maps in decode_windows(run.windows, (run.start, run.stop), chunk, draw, decode, first):
        yield Estimate(position, number, run.box(position), maps)
    pipe.maybe_free_model_hooks()


class Album:
    """The frames that show the object, the nearest ones before and after a moment; positions must not fall.

    Which frames these are depends on the moment alone, so that a resumed job paints the same.
    """

    REACH = 24  # frames on either side

    def __init__(self, desk: Desk, object_id: int, amodal: Amodal) -> None:
        self._desk, self._object, self._amodal = desk, object_id, amodal
        extents = desk.material.extents(object_id)
        self._shown = [p for p, t in enumerate(desk.timeline.at.tolist()) if extents[t] is not None]
        self._ahead: Iterator[U8] | None = None
        self._next = 0  # index into the shown positions of what is read next
        self._views: dict[int, View] = {}

    def around(self, position: int) -> list[View]:
        """At most twice ``REACH`` and one views from the same shot."""
        middle = bisect_right(self._shown, position)
        low, high = max(middle - self.REACH - 1, 0), min(middle + self.REACH, len(self._shown))
        if self._ahead is None:
            self._next = low
            self._ahead = self._desk.material.rgb(self._desk.timeline.at[self._shown[low:]].tolist())
        while self._next < high:
            self._add(self._shown[self._next], next(self._ahead))
            self._next += 1
        wanted = self._shown[low:high]
        self._views = {p: view for p, view in self._views.items() if p >= self._shown[low]} if wanted else {}
        start, stop = next(shot for shot in self._desk.timeline.shots if shot[0] <= position < shot[1])
        return [self._views[p] for p in wanted if p in self._views and start <= p < stop]

    def moment(self, frame: int, origin: tuple[int, int] = (0, 0)) -> Moment:
        """Time and path of the object in a frame of the clip; ``origin``: corner of the images that are looked at."""
        at, path = self._desk.timeline.at, self._desk.glance.paths[self._object][frame]
        return Moment(float(np.interp(frame, at, np.arange(len(at)))), (float(path[0]), float(path[1])), origin)

    def _add(self, position: int, frame: U8) -> None:
        t = int(self._desk.timeline.at[position])
        found = look(frame, self._desk.material.modal(self._object, t), self._amodal(t), self.moment(t))
        if found is not None:
            self._views[position] = found[0]
