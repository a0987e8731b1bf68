"""SAM 2 (Ravi et al. 2024, arXiv 2408.00714) as a tracker: transformers' ``Sam2VideoModel``, prepared for here.

Every object has a session of its own, with its own memory bank, so that it can begin on any frame; the image encoder,
which costs most, runs once per frame for all of them. A frame prompted with a mask, a box or a positive point
conditions the memory; one with negative points alone corrects what was tracked there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffvas.perception import tracking
from diffvas.perception.frames import Frames
from diffvas.perception.prompts import FramePrompts, ObjectPrompts, check_prompts
from diffvas.types import Bool, ObjectTrack

if TYPE_CHECKING:
    import torch

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the published preprocessor_config.json


class Sam2Tracker:
    """A loaded model; :meth:`load` makes it."""

    def __init__(self, model: Any, dtype: torch.dtype, place: torch.device, words: str) -> None:
        self.model, self.dtype, self.place = model, dtype, place
        self.description = f"SAM 2, {words}, {str(dtype).removeprefix('torch.')} on {place}"

    @classmethod
    def load(cls, folder: Path, words: str, device: str | torch.device = "auto") -> Sam2Tracker:
        """Load from a folder in transformers' layout.

        Raises:
            ValueError: damaged files, weights that do not fit, or a device that is not there.
        """
        from diffvas.devices import pick_device

        place = pick_device(device)
        return cls(*tracking.load_network("Sam2VideoModel", folder, place), place, words)

    def track(
        self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: tracking.Progress | None = None
    ) -> list[ObjectTrack]:
        """See :class:`tracking.Tracker`. Takes points, boxes and masks; a given mask is returned as it came."""
        masks = np.zeros((len(prompts), clip.num_frames, *clip.size), bool)
        for t, frame_masks in enumerate(self.stream(clip, prompts, progress)):
            masks[:, t] = frame_masks
        return [ObjectTrack(item.object_id, track) for item, track in zip(prompts, masks, strict=True)]

    def stream(
        self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: tracking.Progress | None = None
    ) -> Iterator[Bool]:
        """As :meth:`track`, frame by frame: (N, H, W) bool. All frames are looked at before the first comes.

        What is held meanwhile is the network's mask per object and frame, in 16 bits: 128 KiB of the published ones.
        """
        check_prompts(prompts, clip)
        for item in prompts:
            if item.text is not None:
                raise ValueError(f"text: a text prompt with no text model: SAM 2 takes no words, got {item.text!r}")
        import torch

        with torch.inference_mode():
            frames = tracking.LazyFrames(clip, int(self.model.image_size), _MEAN, _STD, self.dtype)
            runs = [_Run(self, item, frames) for item in prompts]
            cache = runs[0].session.cache
            for run in runs:
                run.session.cache = cache  # the image encoder once per frame, for all objects
            self._condition(runs)
            self._sweep(runs, clip.num_frames, progress)
        return self._masks(runs, clip)

    def _condition(self, runs: Sequence[_Run]) -> None:
        """Run all frames whose prompts can stand alone: memory has them all before anything is tracked."""
        for t in sorted({t for run in runs for t in run.anchors}):
            for run in runs:
                if t in run.anchors:
                    run.prompt(t)

    def _sweep(self, runs: Sequence[_Run], count: int, progress: tracking.Progress | None) -> None:
        firsts = [run.anchors[0] for run in runs]
        forward, backward = range(min(firsts), count), range(max(firsts) - 1, -1, -1)
        orders: list[tuple[range, Callable[[int, int], bool]]] = [
            (forward, lambda t, first: t >= first),
            (backward, lambda t, first: t < first),
        ]
        done = 0
        for order, belongs in orders:
            for t in order:
                for run, first in zip(runs, firsts, strict=True):
                    if belongs(t, first):
                        run.step(t, reverse=order.step < 0)
                done += 1
                if progress is not None:
                    progress("track", done, len(forward) + len(backward))

    def _masks(self, runs: Sequence[_Run], clip: Frames) -> Iterator[Bool]:
        import torch

        seen = np.zeros(len(runs), bool)
        for t in range(clip.num_frames):
            with torch.inference_mode():
                logits = tracking.enlarge(torch.stack([run.logits[t] for run in runs]), clip.size)
            for k, run in enumerate(runs):
                given = run.frames_given.get(t)
                if given is not None and given.mask is not None:
                    logits[k] = np.where(given.mask, 1e4, -1e4)
            masks = tracking.exclusive(logits)
            seen |= masks.any((1, 2))
            yield masks
        for run, visible in zip(runs, seen, strict=True):
            if not visible:
                raise ValueError(
                    f"object: expected something visible of object '{run.item.name}', got nothing anywhere"
                )


class _Run:
    """One object's session, and its mask logits by frame: (h, w) at the network's own size."""

    def __init__(self, tracker: Sam2Tracker, item: ObjectPrompts, frames: tracking.LazyFrames) -> None:
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        self.model, self.item, self.frames = tracker.model, item, frames
        self.frames_given = item.by_frame()
        self.anchors = [t for t, given in self.frames_given.items() if given.starts]
        self.logits: dict[int, torch.Tensor] = {}
        self.session: Any = Sam2VideoInferenceSession(
            video_height=frames.clip.height,
            video_width=frames.clip.width,
            inference_device=tracker.place,
            inference_state_device=tracker.place,
            dtype=tracker.dtype,
        )
        self.session.processed_frames = frames
        self.session.obj_id_to_idx(item.object_id)

    def prompt(self, t: int) -> None:
        """Run frame t with its prompts, and refuse those under which the model sees nothing."""
        given = self.frames_given[t]
        if given.mask is not None:
            self.session.add_mask_inputs(0, t, self._mask(given))
        else:
            self.session.add_point_inputs(0, t, self._points(given))
        self.session.obj_with_new_inputs = [self.item.object_id]
        self._run(t, reverse=False)
        if given.starts and given.mask is None and not bool((self.logits[t] > 0).any()):
            prompt = next(p for p in self.item.prompts if getattr(p, "frame", None) == t)
            kind = str(prompt).split(" ", 1)[0]
            raise ValueError(f"{kind}: expected an object under '{prompt}', got nothing there by the model's judgement")

    def step(self, t: int, *, reverse: bool) -> None:
        """Track into frame t; then correct it, if it has negative points alone."""
        if t not in self.anchors:
            self._run(t, reverse=reverse)
            if t in self.frames_given:
                self.prompt(t)
            self._forget(t)

    def _run(self, t: int, *, reverse: bool) -> None:
        found = self.model(self.session, frame_idx=t, reverse=reverse)
        self.logits[t] = found.pred_masks[0, 0].to("cpu", dtype=_half())

    def _forget(self, t: int) -> None:
        """Drop what no later frame looks at: a long clip takes the memory of a short one.

        What is near the first prompt stays, because tracking backwards begins there.
        """
        outputs = self.session.output_dict_per_obj[0]
        reach = max(int(self.model.num_maskmem), int(self.model.config.max_object_pointers_in_encoder)) + 1
        past = outputs["non_cond_frame_outputs"]
        for old in [k for k in past if abs(k - t) > reach and abs(k - self.anchors[0]) > reach]:
            del past[old]
        for kept in (*past.values(), *outputs["cond_frame_outputs"].values()):
            kept.pop("high_res_masks", None)

    def _points(self, given: FramePrompts) -> dict[str, Any]:
        """Points as (1, 1, n, 2) in the network's pixels, and their labels; a box is its two corners, first."""
        import torch

        places = [(point.x, point.y) for point in given.points]
        labels = [int(point.positive) for point in given.points]
        if given.box is not None:
            places = [(given.box.x0, given.box.y0), (given.box.x1, given.box.y1), *places]
            labels = [2, 3, *labels]
        scale = torch.tensor([self.frames.size / self.frames.clip.width, self.frames.size / self.frames.clip.height])
        return {
            "point_coords": (torch.tensor(places) * scale)[None, None].to(torch.float32),
            "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
        }

    def _mask(self, given: FramePrompts) -> torch.Tensor:
        """(1, 1, S, S) of 0 and 1, as transformers' processor gives it."""
        import torch

        mask = torch.from_numpy(np.asarray(given.mask, np.float32))[None, None]
        size = (self.frames.size, self.frames.size)
        sized = torch.nn.functional.interpolate(mask, size, mode="bilinear", align_corners=False, antialias=True)
        return (sized >= min(0.5, float(sized.max()))).float()  # thinner than a pixel there is still an object


def _half() -> torch.dtype:
    import torch

    return torch.float16
