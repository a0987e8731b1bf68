"""Run the studio until somebody stops it."""

from __future__ import annotations

import contextlib
import socket
import threading
import webbrowser
from collections.abc import Callable

import uvicorn

from diffvas.studio.app import Studio, make_app


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; ValueError where the port is taken or the host is none of this machine's.

    Args:
        port: 0 takes any free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)  # from now on a browser waits rather than being refused
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"port: expected an address to listen on, got {host}:{port} ({reason})") from error
    sock.set_inheritable(True)
    return sock


def address(sock: socket.socket, host: str) -> str:
    """Where a browser of this machine finds it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{sock.getsockname()[1]}/"


def serve(studio: Studio, sock: socket.socket, url: str, *, browse: bool, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; then work stops and temporary files are removed."""
    config = uvicorn.Config(
        make_app(studio), log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
    )
    server = uvicorn.Server(config)
    threading.Thread(target=studio.machine.warm, name="studio-warm", daemon=True).start()
    say(url)
    if browse:
        threading.Timer(0.7, webbrowser.open, (url,)).start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[sock])
    finally:
        studio.close()
        sock.close()
