"""Who may talk to the studio: pages that the studio itself has served, under a name that is its own.

A web page elsewhere can make a browser send requests to 127.0.0.1, and with a name that it points there (DNS
rebinding) even read the answers. So the Host header must be an address or a known name, what changes anything must
come from a page of the same origin and carry a header that a form cannot send, and cookies stay on the site.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-diffvas-studio"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def host_name(header: str) -> str | None:
    """The name in a Host header, lower case, without port and brackets; None where it is none."""
    try:
        name = urlsplit(f"//{header}").hostname
    except ValueError:
        return None
    return name.rstrip(".") if name and "@" not in header else None


def known_names(host: str, extra: Iterable[str] = ()) -> frozenset[str]:
    """Names under which a studio that listens on ``host`` may be called; addresses always may."""
    names = {"localhost", host.lower(), *(name.lower() for name in extra)}
    if host not in ("127.0.0.1", "localhost", "::1"):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


def is_allowed_host(header: str | None, names: frozenset[str]) -> bool:
    """An address cannot be rebound by anyone's name server; a name must be one of ours."""
    name = host_name(header or "")
    if name is None:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return True


def refusal(method: str, headers: dict[str, str], names: frozenset[str]) -> str | None:
    """Why a request is refused, in one sentence; None where it is not.

    Args:
        headers: by lower-case name.
    """
    host = headers.get("host")
    if not is_allowed_host(host, names):
        return "The studio is not known under this address; start it with --allow-host NAME to add one."
    if method in SAFE_METHODS:
        return None
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower():
        return "Requests from other web pages are refused."
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") or HEADER not in headers:
        return "Requests from other web pages are refused."
    return None


class Guard:
    """The middleware: refuses, and adds headers to what is answered."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no web sockets here

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        why = refusal(scope["method"], headers, self.names)
        if why is None:
            await self.app(scope, receive, with_headers)
        else:
            await JSONResponse({"error": why}, 403)(scope, receive, with_headers)
