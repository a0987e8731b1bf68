"""SAM 3 (Carion et al. 2025) for texts: transformers' ``Sam3VideoModel`` finds and follows every object a phrase fits.

The model's own code asks the hub for compiled helpers (suppressing double finds, connected parts) and leaves those
steps out where it gets none. Here they are done in torch and OpenCV, so that results do not depend on what is
installed, and nothing is downloaded and run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from diffvas.model_files import reason
from diffvas.perception import tracking
from diffvas.perception.frames import Frames
from diffvas.perception.prompts import ObjectPrompts, check_prompts
from diffvas.types import Bool, ObjectTrack

if TYPE_CHECKING:
    import torch

_MEAN = _STD = (0.5, 0.5, 0.5)  # of the published preprocessor_config.json
_TOKENS = 32  # of a phrase, padding included


class _Helpers:
    """What the model takes from ``kernels-community/cv-utils``."""

    @staticmethod
    def generic_nms(
        ious: torch.Tensor, scores: torch.Tensor, threshold: float, use_iou_matrix: bool = True
    ) -> torch.Tensor:
        """Indices of finds that overlap no better one by more than the threshold, best first."""
        import torch

        kept: list[int] = []
        for index in torch.argsort(scores, descending=True, stable=True).tolist():
            if all(float(ious[index, other]) <= threshold for other in kept):
                kept.append(index)
        return torch.tensor(kept, dtype=torch.long, device=scores.device)

    @staticmethod
    def cc_2d(masks: torch.Tensor, get_counts: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 1, H, W) to the number of each pixel's connected part, 0 outside, and that part's area."""
        import torch

        labels, counts = [], []
        for mask in masks[:, 0].cpu().numpy().astype(np.uint8):
            _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            areas = stats[:, cv2.CC_STAT_AREA].astype(np.int32)
            areas[0] = 0
            labels.append(parts.astype(np.int32))
            counts.append(areas[parts])
        both = (torch.from_numpy(np.stack(maps)[:, None]).to(masks.device) for maps in (labels, counts))
        return next(both), next(both)


class Sam3Tracker:
    """A loaded model and its tokenizer; :meth:`load` makes it."""

    def __init__(self, model: Any, dtype: torch.dtype, tokenizer: Any, place: torch.device, words: str) -> None:
        self.model, self.dtype, self.tokenizer, self.place = model, dtype, tokenizer, place
        self.description = f"SAM 3, {words}, {str(dtype).removeprefix('torch.')} on {place}"

    @classmethod
    def load(cls, folder: Path, words: str, device: str | torch.device = "auto") -> Sam3Tracker:
        """Load from a folder in transformers' layout, tokenizer included.

        Raises:
            ValueError: damaged files, weights that do not fit, no tokenizer, or a device that is not there.
        """
        from diffvas.devices import pick_device

        place = pick_device(device)
        try:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # what a broken file raises differs by library
            why = reason(error)
            raise ValueError(f"tracker: the tokenizer in '{folder}' cannot be loaded ({why})") from error
        model, dtype = tracking.load_network("Sam3VideoModel", folder, place)
        return cls(model, dtype, tokenizer, place, words)

    def track(
        self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: tracking.Progress | None = None
    ) -> list[ObjectTrack]:
        """See :class:`tracking.Tracker`. Takes texts alone.

        Returns:
            One or several tracks per text: of the objects that it fits, the one seen most keeps the id of the prompt,
            the others get the next free ids. No pixel belongs to two tracks: the model's surer one has it.

        Raises:
            ValueError: prompts other than texts, or a text that fits nothing in the clip.
        """
        check_prompts(prompts, clip)
        for item in prompts:
            if item.text is None:
                raise ValueError(f"text: expected texts alone for SAM 3, got '{item.prompts[0]}'")
        import torch

        with torch.inference_mode():
            session = self._session(clip, prompts)
            found = self._propagate(session, clip, progress)
        used = max(item.object_id for item in prompts)
        tracks: list[ObjectTrack] = []
        for number, item in enumerate(prompts):
            own = {key: masks for key, masks in found.items() if session.obj_id_to_prompt_id[key] == number}
            if not own:
                raise ValueError(f"text: expected something that fits {item.text!r} in the clip, got nothing")
            order = sorted(own, key=lambda key: (-int(own[key].sum()), key))
            for place, key in enumerate(order):
                used += place > 0
                tracks.append(ObjectTrack(item.object_id if place == 0 else used, own[key]))
        return tracks

    def stream(
        self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: tracking.Progress | None = None
    ) -> Iterator[Bool]:
        """:meth:`track`'s masks frame by frame, (N, H, W) bool; all are in memory, since N shows only in the end."""
        tracks = self.track(clip, prompts, progress)
        return (np.stack([track.modal_masks[t] for track in tracks]) for t in range(clip.num_frames))

    def _session(self, clip: Frames, prompts: Sequence[ObjectPrompts]) -> Any:
        from transformers.models.sam3_video import modeling_sam3_video as code

        code.cv_utils_kernel = _Helpers()
        session: Any = code.Sam3VideoInferenceSession(
            video_height=clip.height,
            video_width=clip.width,
            inference_device=self.place,
            inference_state_device=self.place,
            dtype=self.dtype,
        )
        size = int(self.model.config.image_size)
        session.processed_frames = tracking.LazyFrames(clip, size, _MEAN, _STD, self.dtype)
        for number, item in enumerate(prompts):
            tokens = self.tokenizer(
                item.text, return_tensors="pt", padding="max_length", max_length=_TOKENS, truncation=True
            ).to(self.place)
            # by number, not by add_prompt: two objects may be asked for in the same words
            session.prompts[number] = f"{number}: {item.text}"
            session.prompt_input_ids[number] = tokens.input_ids
            session.prompt_attention_masks[number] = tokens.attention_mask
        return session

    def _propagate(self, session: Any, clip: Frames, progress: tracking.Progress | None) -> dict[int, Bool]:
        """(T, H, W) masks by the model's own object numbers, of objects that are seen at all."""
        import torch

        found: dict[int, Bool] = {}
        for done, out in enumerate(self.model.propagate_in_video_iterator(session), start=1):
            gone = set(out.suppressed_obj_ids or ()) | set(session.hotstart_removed_obj_ids)
            keys = sorted(key for key in out.obj_id_to_mask if key not in gone)
            if keys:
                low = torch.cat([out.obj_id_to_mask[key] for key in keys])
                sure = np.array([float(out.obj_id_to_tracker_score.get(key, 0.0)) for key in keys], np.float32)
                inside = tracking.enlarge(low, clip.size) > 0
                # as transformers' processor does: the surer object has the pixels that two claim
                masks = tracking.exclusive(np.where(inside, (sure - sure.min() + 1.0)[:, None, None], np.float32(-1)))
                for key, mask in zip(keys, masks, strict=True):
                    if mask.any():
                        found.setdefault(key, np.zeros((clip.num_frames, *clip.size), bool))[out.frame_idx] = mask
            self._forget(session, out.frame_idx)
            if progress is not None:
                progress("track", done, clip.num_frames)
        # removed later than they were put out
        return {key: masks for key, masks in found.items() if key not in session.hotstart_removed_obj_ids}

    def _forget(self, session: Any, t: int) -> None:
        """Drop what no later frame looks at: a long clip takes the memory of a short one."""
        config = self.model.config.tracker_config
        reach = max(int(config.num_maskmem), int(config.max_object_pointers_in_encoder)) + 1
        for outputs in session.output_dict_per_obj.values():
            past = outputs["non_cond_frame_outputs"]
            for old in [k for k in past if t - k > reach]:
                del past[old]
