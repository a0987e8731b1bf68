"""From the source's size to the model's and back: masks, colours, and the layer that is shown."""

from __future__ import annotations

import cv2
import numpy as np

from diffvas import arrays
from diffvas.focus import Boxes, paste_each
from diffvas.types import Clip, ObjectTrack

Array = np.ndarray
CRUMB = 0.01  # of a mask's area: what is less, hidden and apart from the rest is no part of an object


def in_view(masks: Array) -> Array:
    """(T,) bool, in which frames of (T, H, W) bool there is anything."""
    return np.asarray(masks.any((1, 2)))


def cut_coverage(coverage: Array) -> Array:
    """Masks from the shares (T, h, w) of pixels that are covered: half or more."""
    small = coverage >= 0.5
    return small if small.any() else coverage > 0  # smaller than a pixel of the model: keep what there is of it


def grow_masks(soft: Array, threshold: float, size: tuple[int, int]) -> Array:
    """(T, H, W) bool from soft masks (T, h, w): resized first and cut then, which keeps outlines smooth."""
    return np.stack([cv2.resize(s, size[::-1], interpolation=cv2.INTER_LINEAR) >= threshold for s in soft])


def cut_masks(
    soft: Array, threshold: float, modal: Array, room: Array | None, *, faithful: bool = False, halo: float = 0.0
) -> Array:
    """(T, H, W) bool amodal masks from soft ones (T, h, w): what is visible, and what may be hidden and is likely.

    Args:
        modal: (T, H, W) bool. room: (T, H, W) bool, where something nearer is seen (``order.may_be_hidden``); None
            where there is no depth to tell.
        faithful: cut first and resize by nearest neighbour then, as the reference does.
        halo: of the image's height; where there is no depth, what is thinner is taken for doubt about the outline, see
            :func:`trim_halo`.
    """
    size = (modal.shape[1], modal.shape[2])
    whole = arrays.resize_masks_nearest(soft > threshold, size) if faithful else grow_masks(soft, threshold, size)
    if room is not None:
        return drop_crumbs(modal | (whole & room), modal)
    return trim_halo(whole, modal, halo) if halo else modal | whole


def drop_crumbs(whole: Array, modal: Array) -> Array:
    """(T, H, W) bool: the masks without specks that depth has cut off, far smaller than the rest and nowhere visible.

    Args:
        whole, modal: (T, H, W) bool.
    """
    out = whole.copy()
    for mask, seen in zip(out, modal, strict=True):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        small = stats[:, cv2.CC_STAT_AREA] < CRUMB * mask.sum()
        small[np.unique(labels[seen])] = False
        mask[small[labels] & (labels > 0)] = False
    return out


def trim_halo(whole: Array, modal: Array, share: float) -> Array:
    """(T, H, W) bool: the masks without the thin rim that an unsure model draws around what is visible.

    Of what is added to the visible part, that which a disc fits into stays, and what lies between visible parts.

    Args:
        whole, modal: (T, H, W) bool. share: diameter of the disc in heights of the image; at least 3 pixels.
    """
    side = 2 * (max(3, round(share * modal.shape[1])) // 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    out = modal.copy()
    for mask, seen, result in zip(whole, modal, out, strict=True):
        added = (mask & ~seen).astype(np.uint8)
        if added.any():
            thick = cv2.morphologyEx(added, cv2.MORPH_OPEN, disc) > 0
            wide = np.pad(seen.astype(np.uint8), side)  # closing must not stick to the image's border
            between = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, disc)[side:-side, side:-side] > 0
            result |= thick | ((added > 0) & between)
    return out


def cut_each(
    boxes: Boxes,
    soft: Array,
    threshold: float,
    modal: Array,
    room: Array | None,
    *,
    faithful: bool = False,
    halo: float = 0.0,
) -> Array:
    """(T, H, W) bool: :func:`cut_masks` in every frame's box, put back into the frames.

    Args:
        soft: (T, h, w), what each box shows. modal, room: (T, H, W) bool.
    """
    parts = []
    for t, box in enumerate(boxes):
        near, behind = box.crop(modal[t : t + 1]), None if room is None else box.crop(room[t : t + 1])
        parts.append(cut_masks(soft[t : t + 1], threshold, near, behind, faithful=faithful, halo=halo)[0])
    return paste_each(boxes, parts, (modal.shape[1], modal.shape[2]))


def match_visible(
    generated: Array, rgb: Array, modal: Array, amodal: Array, detail: float, overall: Array | None = None
) -> Array:
    """Low frequencies from the camera, detail from the model: colours that meet those of the visible part.

    The camera's visible colours are spread by a normalised Gaussian over their surroundings, going over into the clip's
    mean colour of the object far from any visible pixel and in frames without one. The generated picture adds what it
    has beyond its own low frequencies.

    Args:
        generated, rgb: (T, h, w, 3) float32 in [0, 1]. modal, amodal: (T, h, w) bool.
        detail: share of the generated detail that is kept; a model's own measured setting.
        overall: (3,) mean colour of the object in [0, 1]; that of what is visible here where None.
    """
    if overall is None:
        if not modal.any():
            return generated
        overall = rgb[modal].mean(0)
    out = np.empty_like(generated)
    spread = 0.08 * modal.shape[2]

    def smooth(image: Array, on: Array, beyond: Array) -> Array:
        mass = cv2.GaussianBlur(on, (0, 0), spread)[..., None]
        return np.asarray((cv2.GaussianBlur(image * on[..., None], (0, 0), spread) + 0.005 * beyond) / (mass + 0.005))

    for t in range(len(out)):
        on = amodal[t].astype(np.float32)
        # the object stands on white, which bleeds into its border by about the VAE's blur
        share = cv2.GaussianBlur(on, (0, 0), 1.5)[..., None].clip(0.3, 1)
        clean = (1 - (1 - generated[t]) / share).clip(0, 1)
        low = smooth(clean, on, clean)
        out[t] = smooth(rgb[t], modal[t].astype(np.float32), overall) + detail * (clean - low)
    return out.clip(0, 1)


def layer(clip: Clip, track: ObjectTrack, amodal: Array, content: Array) -> Array:
    """(T, H, W, 4) uint8: generated pixels where the object is hidden, the camera's own where it is visible."""
    frames = zip(clip.frames_u8, track.modal_masks, amodal, content, strict=True)
    return np.stack([paint(*frame) for frame in frames])


def paint(frame_u8: Array, modal: Array, amodal: Array, content: Array) -> Array:
    """:func:`layer` of one frame: (H, W, 3) uint8, two masks (H, W) bool, and content (h, w, 3) float32 in [0, 1]."""
    rgba = np.zeros((*amodal.shape, 4), np.uint8)
    if not amodal.any():
        return rgba
    grown = cv2.resize(content, amodal.shape[::-1], interpolation=cv2.INTER_CUBIC)
    rgba[..., :3] = (grown * 255).round().clip(0, 255).astype(np.uint8)
    rgba[..., :3][modal] = frame_u8[modal]
    rgba[~amodal] = 0
    rgba[..., 3][amodal] = 255
    return rgba
