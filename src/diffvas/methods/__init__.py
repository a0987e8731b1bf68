"""Methods that the bench compares, all behind one protocol: see :mod:`diffvas.methods.base`."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffvas.methods.base import Method

# name -> where its class is; imported when it is asked for, since most of them import torch
METHODS: dict[str, str] = {
    "modal": "diffvas.methods.modal:Modal",
    "convex": "diffvas.methods.convex:Convex",
    "convexr": "diffvas.methods.convex:ConvexR",
    "unet3d": "diffvas.methods.unet3d:UNet3D",
    "videomae": "diffvas.methods.videomae:VideoMAE",
    "ours": "diffvas.methods.ours:Ours",
}


def find_method(name: str) -> type[Method]:
    """The class of a method by its name.

    Raises:
        ValueError: no such method; the nearest name is suggested.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got '{name}'{hint}")
    module, _, title = METHODS[name].partition(":")
    found: type[Method] = getattr(importlib.import_module(module), title)
    return found
