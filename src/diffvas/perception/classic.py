"""``classic``: a tracker without weights, made of colour, texture, optical flow and edges.

Per object and frame three things are weighed, in log odds. *Motion*: the mask of the neighbouring frame, carried over
by dense optical flow (DIS, Kroeger et al. 2016) and trusted where flow there and back agree. *Appearance*: ridge
regression on random Fourier features (Rahimi & Recht 2007) of colour, texture and place in the object, fitted where
the object was prompted and, with less weight, where it was surely seen since. *Edges*: a guided filter (He et al.
2013) lets both spread up to the borders of the image. The first mask comes from the prompt (:mod:`.classic_start`).

Nothing is random: the same clip and prompts give the same masks.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from diffvas.perception.classic_click import Moment
from diffvas.perception.classic_looks import (
    F64,
    NOWHERE,
    Appearance,
    Frame,
    Motion,
    carry,
    disc,
    features_at,
    pick,
    scores_at,
)
from diffvas.perception.classic_start import discs, first_mask
from diffvas.perception.frames import Frames
from diffvas.perception.prompts import ObjectPrompts, TextPrompt, check_prompts
from diffvas.types import F32, Bool, ObjectTrack

Progress = Callable[[str, int, int], None]

WORK_SIDE = 480  # pixels of the long side at which the tracker works
_LEAST = 32  # pixels of the short side: DIS reads outside of smaller frames
_SURE = 4.0  # limit of log odds
_MOTION, _COLOUR = 1.0, 3.0  # weights of motion (times its trust) and of appearance
_CAUTION = 0.4  # log odds against the object: soft masks grow otherwise


# ---------------------------------------------------------------------------------------------------------------------
# one object


def _pose_of(mask: Bool) -> F64:
    """(2, 3): pixels to the object's own coordinates, about -1 to 1 on it."""
    y, x = np.nonzero(mask)
    scale = 1.0 / max(2.0, float(np.sqrt(x.var() + y.var()) * 1.4))
    return np.array([[scale, 0, -x.mean() * scale], [0, scale, -y.mean() * scale]])


def teach(model: Appearance, frame: Frame, mask: Bool, pose: F64, *, prompted: bool, sure: Bool | None = None) -> None:
    """Teach the model a frame's object and surroundings; ``sure`` marks the pixels that may be used."""
    area = int(mask.sum())
    if area < 12:
        return
    usable = np.ones(mask.shape, bool) if sure is None else sure
    reach = max(4, round(0.6 * np.sqrt(area)))
    near = cv2.dilate(mask.astype(np.uint8), disc(min(reach, 60))) > 0
    inside = pick(np.flatnonzero(mask & usable), 2500)
    ring = pick(np.flatnonzero(near & ~mask & usable), 2500)
    far = pick(np.flatnonzero(~near & usable), 1500)
    outside = np.concatenate([ring, far])
    labels = np.concatenate([np.ones(len(inside), bool), np.zeros(len(outside), bool)])
    model.learn(features_at(frame, pose, np.concatenate([inside, outside])), labels, prompted=prompted)


def _move_pose(pose: F64, motion: Motion, mask: Bool) -> F64:
    """The pose in the new frame: the similarity that most of the object's trusted pixels agree on."""
    where = np.flatnonzero(mask & (motion.trust > 0.5))
    if len(where) < 30:
        return pose
    where = pick(where, 1500)
    width = mask.shape[1]
    new = np.stack([where % width, where // width], -1).astype(np.float32)
    old = motion.source.reshape(-1, 2)[where]
    back, _ = cv2.estimateAffinePartial2D(new, old, method=cv2.RANSAC, ransacReprojThreshold=3.0)
    if back is None or not 0.7 < np.sqrt(abs(np.linalg.det(back[:, :2]))) < 1.4:
        shift = np.median(old - new, axis=0)
        back = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    moved = pose[:, :2] @ back
    moved[:, 2] += pose[:, 2]
    return moved


def _clean(logits: F32, prior: Bool, state_area: float, welcome: Bool) -> F32:
    """Drop parts that are new, unless they lie where ``welcome`` allows them and are not tiny; fill pinholes."""
    tiny = max(6.0, 0.002 * state_area)
    mask = (logits > 0).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    sizes = np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    near = cv2.dilate(prior.astype(np.uint8), disc(3)) > 0
    touching = np.bincount(labels[near], minlength=count) / sizes
    invited = np.bincount(labels[welcome], minlength=count) / sizes
    keep = ((touching > 0.15) & (sizes >= tiny)) | ((invited > 0.5) & (sizes >= 5 * tiny))
    keep[0] = True
    logits = np.where(keep[labels], logits, np.minimum(logits, -0.5))
    _, labels, stats, _ = cv2.connectedComponentsWithStats((logits <= 0).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < tiny
    small[0] = False
    return np.where(small[labels], np.maximum(logits, 0.5), logits).astype(np.float32)


class _Object:
    """One object on its way through the frames, in one direction."""

    def __init__(self) -> None:
        self.model = Appearance()
        self.anywhere = Appearance()  # the same without places: finds what has been away
        self.logits: F32 = np.zeros((0, 0), np.float32)
        self.pose: F64 = np.zeros((2, 3))
        self.area = 0.0
        self.away = 0  # frames since it was last seen

    def start(self, frame: Frame, mask: Bool) -> None:
        """Take up a mask that a person has vouched for."""
        self.logits = np.where(mask, _SURE, -_SURE).astype(np.float32)
        if not mask.any():
            return
        self.pose, self.area, self.away = _pose_of(mask), float(mask.sum()), 0
        teach(self.model, frame, mask, self.pose, prompted=True)
        teach(self.anywhere, frame, mask, NOWHERE, prompted=True)

    def step(self, frame: Frame, motion: Motion) -> None:
        """Follow into the neighbouring frame."""
        prior = carry(self.logits, motion.source)
        seen = prior > 0
        if self.away or seen.sum() < max(8.0, 0.01 * self.area):
            self._look_for(frame)
            return
        self.pose = _move_pose(self.pose, motion, seen)
        place_x, place_y = _places(frame.size, self.pose)
        inside = np.hypot(place_x, place_y) < 1.5
        reach = round(min(60, max(6, 0.5 * np.sqrt(self.area))))
        region = (cv2.dilate(seen.astype(np.uint8), disc(reach)) > 0) | inside
        scores = scores_at(self.model, frame, self.pose, region)
        odds: F32 = (_MOTION * motion.trust * prior + _COLOUR * scores - _CAUTION).astype(np.float32)
        odds = np.where(region, np.clip(frame.guide(odds), -_SURE, _SURE), np.float32(-_SURE))
        self.logits = _clean(odds, seen, self.area, inside & (scores > 0.5))

    def settle(self, frame: Frame, rivals: Bool) -> None:
        """Give up what other objects hold with more right, and learn from what is sure."""
        self.logits = np.where(rivals, np.minimum(self.logits, -1.0), self.logits)
        mask = self.logits > 0
        area = float(mask.sum())
        if area < max(8.0, 0.01 * self.area):
            self.logits, self.away = np.full_like(self.logits, -_SURE), self.away + 1
            return
        self.away = 0
        self.area = 0.95 * self.area + 0.05 * area
        teach(self.model, frame, mask, self.pose, prompted=False, sure=np.abs(self.logits) > 2)

    def _look_for(self, frame: Frame) -> None:
        """Find an object that was away by its looks alone, the nearer to where it was last seen the sooner."""
        scores = scores_at(self.anywhere, frame, NOWHERE, np.ones(frame.size, bool))
        logits = np.clip(frame.guide(_COLOUR * (scores - 0.2)), -_SURE, _SURE)
        count, labels, stats, centres = cv2.connectedComponentsWithStats((logits > 0).astype(np.uint8), connectivity=8)
        sizes = np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
        looks = np.bincount(labels.ravel(), weights=scores.ravel(), minlength=count) / sizes
        far = np.hypot(*(self.pose[:, :2] @ centres.T + self.pose[:, 2:]))
        right = (looks > 0.5) & (sizes > max(12.0, 0.03 * self.area)) & (sizes < 2.5 * self.area)
        right &= far < 2.0 + 0.5 * self.away
        right[0] = False
        self.logits = np.full(frame.size, -_SURE, np.float32)
        if not right.any():
            return
        best = int(np.where(right, looks * np.sqrt(np.minimum(sizes / self.area, 1.0)) / (1.0 + far), -1.0).argmax())
        self.logits = np.where(labels == best, np.maximum(logits, 0.1), self.logits).astype(np.float32)
        self.pose = self.pose.copy()
        self.pose[:, 2] = -self.pose[:, :2] @ centres[best]


def _places(size: tuple[int, int], pose: F64) -> tuple[F64, F64]:
    y, x = np.mgrid[: size[0], : size[1]]
    return (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2]), (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2])


def _pack(logits: F32) -> bytes:
    """Log odds as whole 127ths of their limit: most of a frame is one value, so that little is left of it."""
    return zlib.compress(np.round(logits * (127 / _SURE)).astype(np.int8).tobytes(), 1)


def _unpack(packed: bytes, size: tuple[int, int]) -> F32:
    """(h, w) float32, in 127ths of the limit."""
    return np.frombuffer(zlib.decompress(packed), np.int8).reshape(size).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# the tracker


class ClassicTracker:
    """Tracks without weights; see the module's text. Made of nothing, it can be used for any number of clips."""

    description = "classic (no weights): colour, texture, optical flow"

    def track(
        self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: Progress | None = None
    ) -> list[ObjectTrack]:
        """Track objects through a clip, forwards and backwards from where they are prompted.

        Args:
            clip: the frames. prompts: points, boxes and masks; no texts. progress: called as ("track", done, total).

        Returns:
            One track per object, in the order given; no pixel belongs to two of them, and a mask that was given is
            returned as it came, but for what another object holds there.

        Raises:
            ValueError: prompts outside the clip, a text, or no object under a point or in a box.
        """
        masks = np.zeros((len(prompts), clip.num_frames, *clip.size), bool)
        for t, frame_masks in enumerate(self.stream(clip, prompts, progress)):
            masks[:, t] = frame_masks
        return [ObjectTrack(item.object_id, track) for item, track in zip(prompts, masks, strict=True)]

    def stream(
        self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: Progress | None = None
    ) -> Iterator[Bool]:
        """As :meth:`track`, frame by frame: (N, H, W) bool. All frames are looked at before the first comes.

        What is held meanwhile is a few kilobytes per object and frame.
        """
        check_prompts(prompts, clip)
        for item in prompts:
            if item.text is not None:
                raise ValueError(f"text: a text prompt with no text model: classic takes no words, got {item.text!r}")
        return _Walk(clip, prompts, progress).masks()


class _Walk:
    """One clip's objects, tracked once forwards and, where needed, once backwards."""

    def __init__(self, clip: Frames, prompts: Sequence[ObjectPrompts], progress: Progress | None) -> None:
        self.clip, self.prompts, self.progress = clip, prompts, progress
        shrink = min(1.0, WORK_SIDE / max(clip.size))
        self.size = max(_LEAST, round(clip.height * shrink)), max(_LEAST, round(clip.width * shrink))
        self.scale = self.size[0] / clip.height, self.size[1] / clip.width
        self.frames = [item.by_frame() for item in prompts]
        self.first = [min(t for t, given in frames.items() if given.starts) for frames in self.frames]
        self.last = [max(max(frames), first) for frames, first in zip(self.frames, self.first, strict=True)]
        self.done = 0
        last = max(self.last)
        self.forward_order = range(min(self.first), clip.num_frames)
        self.backward_order = range(last, -1, -1) if last > 0 else range(0)

    def masks(self) -> Iterator[Bool]:
        """(N, H, W) bool, frame by frame."""
        forward = self._sweep(self.forward_order, self.first, [{} for _ in self.prompts])
        anchors = [{t: forward[i][t] for t in frames if t >= self.first[i]} for i, frames in enumerate(self.frames)]
        backward = self._sweep(self.backward_order, self.last, anchors)
        seen = np.zeros(len(self.prompts), bool)
        for t in range(self.clip.num_frames):
            logits = [self._blend(i, t, forward[i].get(t), backward[i].get(t)) for i in range(len(self.prompts))]
            masks = self._full_size(t, logits)
            seen |= masks.any((1, 2))
            self._tick()
            yield masks
        for item, visible in zip(self.prompts, seen, strict=True):
            if not visible:
                raise ValueError(f"object: expected something visible of object '{item.name}', got nothing")

    def _tick(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress("track", self.done, len(self.forward_order) + len(self.backward_order) + self.clip.num_frames)

    def _sweep(
        self, order: range, starts: Sequence[int], anchors: Sequence[dict[int, bytes]]
    ) -> list[dict[int, bytes]]:
        """Log odds of every object, packed, from its start on in this order of frames.

        ``anchors`` are prompted frames that an earlier sweep has settled.
        """
        found: list[dict[int, bytes]] = [{} for _ in self.prompts]
        objects = [_Object() for _ in self.prompts]
        old: Frame | None = None
        for t in order:
            new = Frame(self.clip.frames_u8[t], self.size)
            active = [i for i, start in enumerate(starts) if t == start or found[i]]
            moving = [i for i in active if found[i]]
            if old is not None and moving:
                motion = Motion.between(old, new)
                for i in moving:
                    objects[i].step(new, motion)
            prompted = [i for i in active if t in self.frames[i]]
            for i in prompted:
                if t in anchors[i]:
                    objects[i].start(new, _unpack(anchors[i][t], self.size) > 0)
                else:
                    objects[i].start(new, self._prompted(i, t, new, objects[i].logits if found[i] else None))
            self._compete([objects[i] for i in active], [i in prompted for i in active], new)
            for i in active:
                found[i][t] = _pack(objects[i].logits)
            old = new
            self._tick()
        return found

    def _prompted(self, i: int, t: int, frame: Frame, prior: F32 | None) -> Bool:
        """The mask of object i in its prompted frame t."""
        others = np.zeros(self.size, bool)
        moment = Moment(self.clip.frames_u8.__getitem__, t, self.clip.num_frames)
        for j, frames in enumerate(self.frames):
            given = frames.get(t)
            if j == i or given is None:
                continue
            spots = [(p.x * self.scale[1], p.y * self.scale[0]) for p in given.points if p.positive]
            others |= discs(spots, self.size)
            if given.mask is not None:
                others |= first_mask(moment, frame, given, self.scale, others, None)
        given = self.frames[i][t]
        mask = first_mask(moment, frame, given, self.scale, others, prior)
        if not mask.any() and given.starts:
            prompt = next(p for p in self.prompts[i].prompts if not isinstance(p, TextPrompt) and p.frame == t)
            raise ValueError(
                f"{str(prompt).split(' ', 1)[0]}: expected an object under '{prompt}', got nothing that stands out "
                "there; try another point or a box"
            )
        return mask

    def _compete(self, objects: Sequence[_Object], prompted: Sequence[bool], frame: Frame) -> None:
        """Each pixel to the object with the highest odds; what was just prompted is not taught again."""
        odds = np.stack([item.logits for item in objects]) if objects else np.zeros((0, *self.size), np.float32)
        for k, (item, fresh) in enumerate(zip(objects, prompted, strict=True)):
            rivals = np.delete(odds, k, axis=0)
            rivals_win = (rivals > 0).any(0) & (rivals.max(0) > odds[k]) if len(rivals) else np.zeros(self.size, bool)
            if fresh:
                item.logits = np.where(rivals_win, np.minimum(item.logits, -1.0), item.logits)
            else:
                item.settle(frame, rivals_win)

    def _blend(self, i: int, t: int, forward: bytes | None, backward: bytes | None) -> F32:
        """The two directions between two prompted frames, each by its nearness; one alone elsewhere."""
        if forward is None or backward is None:
            known = forward if backward is None else backward
            return np.full(self.size, -127, np.float32) if known is None else _unpack(known, self.size)
        before = max((p for p in self.frames[i] if p <= t), default=t)
        after = min((p for p in self.frames[i] if p >= t), default=t)
        share = 0.5 if after == before else (t - before) / (after - before)
        if t < self.first[i]:
            share = 1.0
        odds = (1.0 - share) * _unpack(forward, self.size) + share * _unpack(backward, self.size)
        return odds.astype(np.float32)

    def _full_size(self, t: int, logits: Sequence[F32]) -> Bool:
        """(N, H, W) masks from (h, w) log odds; edges follow the frame at its own size."""
        rgb = self.clip.frames_u8[t]
        height, width = self.clip.size
        if (height, width) == self.size:
            odds = np.stack(logits)
        else:
            guide = Frame(rgb, self.size).guide
            lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) / np.float32(100)
            odds = np.empty((len(logits), height, width), np.float32)
            for k, low in enumerate(logits):
                slopes = guide.coefficients((low / 127).astype(np.float32))
                slopes = cv2.resize(slopes, (width, height), interpolation=cv2.INTER_LINEAR)
                odds[k] = (slopes[..., :3] * lab).sum(-1) + slopes[..., 3]
        for k, frames in enumerate(self.frames):
            given = frames.get(t)
            if given is not None and given.mask is not None:
                odds[k] = np.where(given.mask, 1e3, -1e3)
        winner = odds.argmax(0)
        return np.stack([(odds[k] > 0) & (winner == k) for k in range(len(logits))])
