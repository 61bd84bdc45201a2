"""Who may talk to the server: pages that it served itself, under a name that is certainly this machine's.

Any web page may send requests to a server on the same machine. A browser says from which page a WebSocket comes (its
Origin); a page of another site may also give its own name the address of this machine (DNS rebinding), which shows in
the Host. Programs that are no browser send no Origin.
"""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REFUSED = 1008  # WebSocket's status for a policy
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests whose Host is not this machine, or whose Origin is another site; adds safe headers.

    names: further names of this machine, such as the one that the server was asked to listen on.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()):
        self.app = app
        self.names = {name.lower() for name in (*names, socket.gethostname(), "localhost")} - {""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif (problem := self.problem(Headers(scope=scope))) is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": REFUSED, "reason": problem})  # answered with status 403
        else:
            await PlainTextResponse(f"{problem}\n", 403)(scope, receive, send)

    def problem(self, headers: Headers) -> str | None:
        """Why a request is refused; None if it is not."""
        host, origins = headers.get("host", ""), headers.getlist("origin")
        if len(headers.getlist("host")) != 1 or not self._is_here(_name(host)):
            return f"Host: expected this machine's name or address, got {host[:100]!r}; open the printed address"
        if any(origin not in (f"http://{host}", f"https://{host}") for origin in origins):
            return f"Origin: expected a page of http://{host}, got {origins[0][:100]!r}"
        return None

    def _is_here(self, name: str) -> bool:
        """Whether a name is this machine's; addresses are, as no other site can have them as its name."""
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name(host: str) -> str:
    """The name in a Host header, without the port; empty if there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending
