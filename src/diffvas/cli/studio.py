"""``diffvas studio``: a web page on this machine to click objects, track, complete, compare and export."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from diffvas.cli.console import UsageError, blame, one_of, whole_number

HELP = """\
Open a web page on this machine: click objects in a video, see them tracked, mend that with more
clicks, complete them, scrub through the layers, compare samples, export.

CLIP, any number of them, are video files or folders of images that the page offers to open; every
visitor of the page may open them. Others can be uploaded there. Ctrl-C stops it; temporary files go."""

_NEEDED = ("fastapi", "uvicorn")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("clips", metavar="CLIP", nargs="*", help="video files or folders of images to offer")
    parser.add_argument("--model", metavar="NAME", default="tiny", help="as in diffvas complete [tiny]")
    parser.add_argument("--tracker", metavar="NAME", default="auto", help="auto, classic, sam2, a folder, an id [auto]")
    parser.add_argument("--device", metavar="auto|cpu|cuda", type=one_of("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    net = parser.add_argument_group("network")
    net.add_argument("--host", default="127.0.0.1", help="who can reach it: 0.0.0.0 is everybody [127.0.0.1]")
    net.add_argument("--port", type=whole_number(0, 65535), default=8765, help="0 takes a free one [8765]")
    net.add_argument("--allow-host", metavar="NAME", action="append", default=[], help="one more name it is called by")
    limits = parser.add_argument_group("limits of a clip")
    limits.add_argument("--max-upload", metavar="MB", type=whole_number(1), default=1024, help="[1024]")
    limits.add_argument("--max-frames", metavar="N", type=whole_number(1), default=300, help="[300]")
    limits.add_argument("--max-pixels", metavar="MP", type=whole_number(1), default=9, help="of a frame [9]")


def run(args: argparse.Namespace) -> int:
    """Check, serve; see :data:`HELP`."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"the studio needs {' and '.join(missing)}; install them with: pip install 'diffvas[studio]'")
    for clip in args.clips:
        if not Path(clip).exists():
            raise UsageError(f"argument CLIP: expected an existing file or folder, got no such path '{clip}'")
    from diffvas.studio.server import address, listen

    with blame("--port"):
        sock = listen(args.host, args.port)
    with sock:
        from diffvas.studio.app import Studio, known_names
        from diffvas.studio.opening import Limits
        from diffvas.studio.server import serve
        from diffvas.studio.work import Machine

        port = sock.getsockname()[1]
        studio = Studio(
            Machine(args.model, args.tracker, args.device),
            Limits(upload=args.max_upload << 20, frames=args.max_frames, pixels=args.max_pixels * 10**6),
            [Path(clip).resolve() for clip in args.clips],
            known_names(args.host, args.allow_host),
            f"diffvas-studio-{port}",
        )
        serve(studio, sock, address(sock, args.host), browse=args.open, say=_say)
    print("studio: stopped", file=sys.stderr)
    return 0


def _say(url: str) -> None:
    print(f"studio: {url}  (Ctrl-C stops it)", flush=True)
