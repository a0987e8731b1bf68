"""Which objects a command is about: masks of every frame, or prompts that a tracker follows."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffvas.cli.console import UsageError, blame

if TYPE_CHECKING:
    from diffvas.masks import MaskRuns
    from diffvas.perception.prompts import ObjectPrompts
    from diffvas.types import Clip, ObjectTrack
    from diffvas.video import Footage

HELP = """\
Which objects: MASKS says where each is visible: a folder of PNGs, one per frame (1-bit, grey,
palette or RGB; in label and palette images every id is an object), a folder of such folders named
1, 2, ..., or an .npz file. Or show each on one frame, or name it, and a tracker finds it in the
others. Frames count from 0; x and y are pixels of the clip, from the upper left corner."""

_OPTIONS = (
    ("--point", "T,X,Y[,+|-]", "a pixel of the object (or, with -, of something else) on frame T"),
    ("--box", "T,X0,Y0,X1,Y1", "a box around the object on frame T"),
    ("--mask", "T,FILE", "what is visible of the object on frame T, as an image"),
    ("--text", "WORDS", 'every object that the words fit, e.g. "the red cup" (SAM 3)'),
    ("--object", "NAME", "the prompts after this belong to the object NAME; without it, all to one"),
)
_KINDS = "|".join(option.removeprefix("--") for option, _, _ in _OPTIONS)


class _InOrder(argparse.Action):
    """Collects the options in one list, because their order says which prompt belongs to which object."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        kind = str(option_string).removeprefix("--")
        namespace.prompts = [*(namespace.prompts or []), (kind, str(values))]


def add_object_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--masks``, the prompts, ``--tracker`` and ``--save-masks``.

    ``namespace.prompts`` is then what ``perception.prompts.group_prompts`` takes, or None.
    """
    group = parser.add_argument_group("objects: masks, or prompts")
    group.add_argument("--masks", metavar="MASKS", help="visible masks of all frames: folder of PNGs, or .npz")
    for option, metavar, text in _OPTIONS:
        group.add_argument(option, metavar=metavar, dest="prompts", action=_InOrder, default=None, help=text)
    group.add_argument(
        "--tracker",
        metavar="auto|classic|sam2|sam3|MODEL",
        help="what follows the prompts: SAM 2 if it can be had, else classic, which needs no weights; or sam2-tiny, "
        "-base, -large, a model folder or id [auto]",
    )
    group.add_argument(
        "--save-masks", metavar="DIR", help="also write the tracked masks there: mend them, and give them by --masks"
    )


def check_objects(args: argparse.Namespace, out: Path) -> list[ObjectPrompts]:
    """What is cheap to check: masks or prompts, and all of them readable. Both only where ``--in-front`` names what
    the prompts show.

    Args:
        args: see :func:`add_object_arguments`, and ``input``; some commands have ``in_front``. out: the place of the
            command's own output.

    Returns:
        The objects to be tracked; none where masks are given.

    Raises:
        UsageError: the first that is wrong.
    """
    if args.prompts and args.masks is not None and not _names(args):
        raise UsageError(f"argument --masks: expected masks or prompts, got both (--{args.prompts[0][0]})")
    if not args.prompts:
        if args.masks is None:
            raise UsageError(
                "argument --masks: expected masks of every frame (--masks), or a prompt (--point, --box, --mask or "
                "--text), got neither"
            )
        for name, value in (("--tracker", args.tracker), ("--save-masks", args.save_masks)):
            if value is not None:
                raise UsageError(f"argument {name}: expected prompts to track, got masks of every frame (--masks)")
        return []
    from diffvas.perception.prompts import group_prompts

    with _blame_prompts():
        objects = group_prompts(args.prompts)
    if args.save_masks is not None:
        _check_save_masks(args, out)
    return objects


def _check_save_masks(args: argparse.Namespace, out: Path) -> None:
    from diffvas.perception.labels import check_masks_dir

    with blame("--save-masks"):
        place = check_masks_dir(args.save_masks)
    source = Path(args.input).resolve()
    for name, other in (("--out", out), ("INPUT", source)):
        if place == other or place in other.parents or (name == "--out" and other in place.parents):
            raise UsageError(
                f"argument --save-masks: expected a folder apart from {name}, got '{args.save_masks}', and '{other}'"
            )


def find_objects(
    args: argparse.Namespace, objects: list[ObjectPrompts], clip: Clip, progress: Callable[[str, int, int], None]
) -> list[ObjectTrack]:
    """The objects' visible masks: read, or tracked from what :func:`check_objects` found.

    What was tracked with, and which name has which number, goes to stderr; masks go to ``--save-masks``.

    Raises:
        UsageError: masks or prompts that do not fit the clip, nothing there, or a tracker that is not to be had.
    """
    if not objects:
        from diffvas.masks import read_masks

        with blame("--masks"):
            return read_masks(args.masks, clip.size, clip.num_frames)
    from diffvas.perception.labels import save_masks
    from diffvas.perception.tracking import track_prompts

    with _blame_prompts():
        tracks, lines = track_prompts(clip, objects, args.tracker or "auto", device=args.device, progress=progress)
    about = _about(args, objects, lines)
    _tell(about)
    if args.save_masks is not None:
        with blame("--save-masks"):
            save_masks(tracks, args.save_masks, about)
    return tracks


def find_runs(
    args: argparse.Namespace, objects: list[ObjectPrompts], footage: Footage, progress: Callable[[str, int, int], None]
) -> list[MaskRuns]:
    """As :func:`find_objects`, for videos of any length: masks go to label images frame by frame, and are kept as runs.

    Raises:
        UsageError: as :func:`find_objects`.
    """
    from diffvas.masks import read_mask_runs

    if not objects:
        with blame("--masks"):
            return read_mask_runs(args.masks, footage.size, footage.num_frames)
    from diffvas.perception.frames import LazyClip
    from diffvas.perception.labels import write_masks
    from diffvas.perception.tracking import stream_prompts

    clip = LazyClip(footage.frames, footage.num_frames, footage.size)
    with tempfile.TemporaryDirectory(prefix="diffvas-") as temp:
        with _blame_prompts():
            ids, masks, lines = stream_prompts(
                clip, objects, args.tracker or "auto", device=args.device, progress=progress
            )
            about = _about(args, objects, lines)
            folder = write_masks(ids, masks, args.save_masks or Path(temp) / "masks", about)
        _tell(about)  # not before it is known that something is there: an error is one line
        return read_mask_runs(folder, footage.size, footage.num_frames)


def find_named(args: argparse.Namespace, objects: list[ObjectPrompts]) -> dict[str, int] | None:
    """The objects that ``--in-front`` names, and their numbers; None where it gives masks, or is not given.

    Args:
        objects: as :func:`check_objects` found them.

    Raises:
        UsageError: neither a path nor such names.
    """
    names, words = _names(args), args.in_front
    if names is None:
        return None
    if not objects:
        if all(name.isdecimal() for name in names):
            return {name: int(name) for name in names}
        raise UsageError(
            "argument --in-front: expected an existing file or folder, or numbers of objects of --masks, got no such "
            f"path '{words}'"
        )
    known = {item.name: item.object_id for item in objects}
    by_words = [item.name for item in objects if item.text is not None]
    for name in names:
        if name in by_words:
            raise UsageError(
                f"argument --in-front: expected an object shown by points, boxes or a mask, got '{name}', of which its "
                "words may find several; save what they find (--save-masks), and give those masks"
            )
        if name not in known:
            raise UsageError(
                f"argument --in-front: expected an existing file or folder, or names given by --object "
                f"({', '.join(known)}), got '{name}'"
            )
    others = [name for name in known if name not in names]
    if args.masks is not None and others:
        raise UsageError(
            f"argument --in-front: expected beside --masks prompts of what stands in front alone, got '{others[0]}' too"
        )
    if args.masks is None and not others:
        raise _nothing_left(words)
    return {name: known[name] for name in names}


def _nothing_left(words: str) -> UsageError:
    return UsageError(f"argument --in-front: expected an object beside these to complete, got all of them ('{words}')")


def _names(args: argparse.Namespace) -> list[str] | None:
    """What ``--in-front`` names; None where it gives masks, is not given, or not known to the command."""
    words = getattr(args, "in_front", None)
    if words is None or (words and Path(words).exists()):
        return None
    return [name.strip() for name in words.split(",")]


def find_parts(
    args: argparse.Namespace,
    objects: list[ObjectPrompts],
    named: dict[str, int] | None,
    footage: Footage,
    progress: Callable[[str, int, int], None],
) -> tuple[list[MaskRuns], list[MaskRuns] | None]:
    """The objects to complete, and those that ``--in-front`` names; None where it names none.

    Args:
        objects: see :func:`check_objects`. named: see :func:`find_named`. progress: see :func:`find_runs`.

    Raises:
        UsageError: as :func:`find_runs`; or an object that there is none of, or none to complete.
    """
    tracks = find_runs(args, objects, footage, progress)
    if named is None:
        return tracks, None
    if args.masks is not None and objects:
        return find_runs(args, [], footage, progress), tracks
    ids = [track.object_id for track in tracks]
    for name, number in named.items():
        if number not in ids:
            raise UsageError(
                f"argument --in-front: expected numbers of objects ({', '.join(map(str, ids))}), got {name}"
            )
    parts: tuple[list[MaskRuns], list[MaskRuns]] = ([], [])
    for track in tracks:
        parts[track.object_id in named.values()].append(track)
    if not parts[0]:
        raise _nothing_left(args.in_front)
    return parts


def _about(args: argparse.Namespace, objects: list[ObjectPrompts], lines: list[str]) -> dict[str, Any]:
    """What was tracked, and by what: for the file beside saved masks."""
    if any(kind == "object" for kind, _ in args.prompts):
        lines = [*lines, "objects: " + ", ".join(f"{item.object_id} = {item.name}" for item in objects)]
    return {"tracked": lines, "prompts": [f"--{kind} {value}" for kind, value in args.prompts]}


def _tell(about: dict[str, Any]) -> None:
    for line in about["tracked"]:
        print(line, file=sys.stderr)


@contextlib.contextmanager
def _blame_prompts() -> Iterator[None]:
    """The library's messages begin with the kind of a prompt or "tracker": here they name the option."""
    try:
        yield
    except ValueError as error:
        raise UsageError(re.sub(rf"^({_KINDS}|tracker): ", r"argument --\1: ", str(error))) from error
