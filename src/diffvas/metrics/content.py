"""Content scores inside a region (usually the hidden part of an object), and the baseline they are compared with."""

from __future__ import annotations

import cv2
import numpy as np

from diffvas.metrics.mask import check_masks

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_C1 = (0.01 * 255) ** 2
SSIM_C2 = (0.03 * 255) ** 2


def _check(pred_rgb: np.ndarray, true_rgb: np.ndarray, region: np.ndarray) -> None:
    check_masks("region", region)
    for name, frames in (("pred_rgb", pred_rgb), ("true_rgb", true_rgb)):
        if frames.dtype != np.uint8 or frames.shape != (*region.shape, 3):
            raise ValueError(f"{name}: expected uint8 {(*region.shape, 3)}, got {frames.dtype} {frames.shape}")


def psnr_inside(pred_rgb: np.ndarray, true_rgb: np.ndarray, region: np.ndarray) -> float:
    """Peak signal-to-noise ratio over the pixels of a region only, in dB (peak 255).

    The squared error is pooled over all frames and the three channels before the logarithm, so that a frame with few
    hidden pixels weighs little.

    Args:
        pred_rgb: (T, H, W, 3) uint8.
        true_rgb: (T, H, W, 3) uint8.
        region: (T, H, W) bool.

    Returns:
        dB; inf when the region is reproduced exactly, nan when the region is empty.

    Raises:
        ValueError: wrong type, or shapes that differ.
    """
    _check(pred_rgb, true_rgb, region)
    if not region.any():
        return float("nan")
    error = float(np.mean((pred_rgb[region].astype(np.float64) - true_rgb[region]) ** 2))
    return float(10 * np.log10(255.0**2 / error)) if error else float("inf")


def _blur(image: np.ndarray) -> np.ndarray:
    size = (SSIM_WINDOW, SSIM_WINDOW)
    return cv2.GaussianBlur(image, size, SSIM_SIGMA, borderType=cv2.BORDER_CONSTANT)


def _ssim_map(pred: np.ndarray, true: np.ndarray, region: np.ndarray) -> np.ndarray:
    """SSIM at the region's pixels of one frame, (N, 3) float64, from windows that see the region alone."""
    weight = region.astype(np.float64)[..., None]
    total = _blur(weight).reshape(region.shape)[region][:, None]

    def local_mean(values: np.ndarray) -> np.ndarray:
        return _blur(values * weight)[region] / total

    x, y = pred.astype(np.float64), true.astype(np.float64)
    mean_x, mean_y = local_mean(x), local_mean(y)
    var_x = local_mean(x * x) - mean_x**2
    var_y = local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return luminance * (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)


def ssim_inside(pred_rgb: np.ndarray, true_rgb: np.ndarray, region: np.ndarray) -> float:
    """Structural similarity over the pixels of a region only, averaged over them, the frames and the channels.

    Wang et al. 2004: Gaussian window 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, peak 255. The window's weights are
    set to 0 outside the region and normalised again, so what a method paints outside it has no influence.

    Args:
        pred_rgb: (T, H, W, 3) uint8.
        true_rgb: (T, H, W, 3) uint8.
        region: (T, H, W) bool.

    Returns:
        At most 1.0 (identical); nan when the region is empty.

    Raises:
        ValueError: wrong type, or shapes that differ.
    """
    _check(pred_rgb, true_rgb, region)
    frames = zip(pred_rgb, true_rgb, region, strict=True)
    values = [_ssim_map(pred, true, inside) for pred, true, inside in frames if inside.any()]
    return float(np.concatenate(values).mean()) if values else float("nan")


def temporal_psnr_inside(pred_rgb: np.ndarray, true_rgb: np.ndarray, region: np.ndarray) -> float:
    """How well the changes from frame to frame are reproduced, in dB (peak 255): a measure of flicker.

    The PSNR of ``pred[t + 1] - pred[t]`` against ``true[t + 1] - true[t]``, over the pixels that are in the region in
    both frames. A constant error of colour costs nothing here, one that comes and goes does.

    Args:
        pred_rgb: (T, H, W, 3) uint8.
        true_rgb: (T, H, W, 3) uint8.
        region: (T, H, W) bool.

    Returns:
        dB; inf when all changes are reproduced exactly, nan when no pixel is in the region in two frames running.

    Raises:
        ValueError: wrong type, or shapes that differ.
    """
    _check(pred_rgb, true_rgb, region)
    both = region[1:] & region[:-1]
    if not both.any():
        return float("nan")
    error = pred_rgb.astype(np.int16) - true_rgb
    change = (error[1:][both] - error[:-1][both]).astype(np.float64)
    mean = float(np.mean(change**2))
    return float(10 * np.log10(255.0**2 / mean)) if mean else float("inf")


def mean_colour_fill(rgb: np.ndarray, modal: np.ndarray) -> np.ndarray:
    """The content baseline: paint every pixel that is not visible with the object's mean visible colour.

    Args:
        rgb: (T, H, W, 3) uint8, the clip's frames.
        modal: (T, H, W) bool, visible masks of the object.

    Returns:
        (T, H, W, 3) uint8: the frame's own pixels inside `modal`; elsewhere the mean colour of the frame's visible
        pixels, or of the whole clip's visible pixels in a frame in which nothing of the object is visible.

    Raises:
        ValueError: wrong type, shapes that differ, or an object that is visible in no frame and so has no colour.
    """
    check_masks("modal", modal)
    if rgb.dtype != np.uint8 or rgb.shape != (*modal.shape, 3):
        raise ValueError(f"rgb: expected uint8 {(*modal.shape, 3)}, got {rgb.dtype} {rgb.shape}")
    if not modal.any():
        raise ValueError("modal: expected the object to be visible in at least one frame, got only empty masks")
    clip_colour = rgb[modal].mean(axis=0)
    filled = rgb.copy()
    for frame, visible in zip(filled, modal, strict=True):
        colour = frame[visible].mean(axis=0) if visible.any() else clip_colour
        frame[~visible] = np.round(colour).astype(np.uint8)
    return filled
