"""Scores against a known truth. Pure functions on numpy arrays; no model is imported here."""

from __future__ import annotations

from diffvas.metrics.content import mean_colour_fill, psnr_inside, ssim_inside
from diffvas.metrics.hull import convex_hull_mask, convex_hull_masks
from diffvas.metrics.mask import FrameScores, StrictScore, bootstrap_interval, iou, occluded_iou, strict_frames

__all__ = [
    "FrameScores",
    "StrictScore",
    "bootstrap_interval",
    "convex_hull_mask",
    "convex_hull_masks",
    "iou",
    "mean_colour_fill",
    "occluded_iou",
    "psnr_inside",
    "ssim_inside",
    "strict_frames",
]
