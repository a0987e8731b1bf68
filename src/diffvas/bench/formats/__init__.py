"""Readers of the annotation and prediction files that come with the Diffusion-VAS release."""
