"""The local server of a session: one page, and one WebSocket for each viewer."""

import asyncio
import contextlib
import errno
import mimetypes
import os
import signal
import socket
import threading
import time
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from worldmodel.play.guard import REFUSED, Guard
from worldmodel.play.room import Room
from worldmodel.play.session import Session

mimetypes.add_type("text/javascript", ".js")  # on Windows a program may have changed it

PAGE = Path(__file__).parent / "page"
LARGEST_MESSAGE = 2**16  # bytes of a command
HANG_UP = getattr(signal, "SIGHUP", None)  # Windows has none
PATIENCE = 2  # seconds that connections have to close at the end


def make_app(session: Session, host: str = "127.0.0.1", started: Callable[[], None] = lambda: None) -> Starlette:
    """The application: the page at /, recorded videos at /videos, and the WebSocket at /ws.

    host: the name that the server listens on. started: called when it is ready.
    """
    room = Room(session)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        playing = asyncio.create_task(room.run())
        started()
        try:
            yield
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            await room.close()

    async def video(request: Request) -> Response:
        paths = [path for path in session.recorder.saved if path.name == request.path_params["name"]]
        return FileResponse(paths[0]) if paths else PlainTextResponse("no such recording\n", 404)

    routes = [
        WebSocketRoute("/ws", room.visit),
        WebSocketRoute("/{path:path}", refuse),
        Route("/videos/{name}", video),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, names=[host])], lifespan=lifespan)


async def refuse(socket: WebSocket) -> None:
    """Close a WebSocket at an address that has none."""
    await socket.close(REFUSED, "the WebSocket is at /ws")


def serve(session: Session, listening: socket.socket, host: str, show: bool) -> None:
    """Serve a session until a signal ends it; the address is printed, and with `show` opened in a browser.

    listening: the socket that `bind` made for this host.
    """
    address = url(listening)

    def started() -> None:
        print(f"play: {address}", flush=True)
        if show:
            asyncio.get_running_loop().run_in_executor(None, webbrowser.open, address)

    Server(make_app(session, host, started)).run(sockets=[listening])


class Server(uvicorn.Server):
    """A server that any signal ends: connections close, and what is recorded is saved.

    A second signal after `PATIENCE` seconds ends the process at once, for an engine that hangs.
    """

    def __init__(self, app: ASGIApp):
        super().__init__(
            uvicorn.Config(
                app,
                ws="websockets-sansio",
                ws_max_size=LARGEST_MESSAGE,
                ws_per_message_deflate=False,  # packing a frame takes longer than sending it to this machine
                timeout_graceful_shutdown=PATIENCE,
                lifespan="on",
                log_level="error",
                server_header=False,
            )
        )
        self.asked: float | None = None  # when the first signal came

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in an orderly way; the same signal again, as wrappers send it, changes nothing."""
        if self.asked is None:
            self.asked = time.monotonic()
            super().handle_exit(sig, frame)
        elif time.monotonic() - self.asked > PATIENCE:
            os._exit(128 + sig)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals inside the block; those that arrived are raised again after it."""
        with super().capture_signals():
            before = signal.getsignal(HANG_UP) if HANG_UP is not None else signal.SIG_IGN
            if HANG_UP is None or before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
                yield
                return
            signal.signal(HANG_UP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(HANG_UP, before)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens on this port of a host, or on a free one if the port is taken.

    Raises: OSError for a host that is not this machine, or a port that this user may not take.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _not_here(host, port, error) from error
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(place)
        made.listen()
    except OSError as error:
        made.close()
        if error.errno != errno.EADDRINUSE or port == 0:
            raise _not_here(host, port, error) from error
        return bind(host, 0)
    return made


def _not_here(host: str, port: int, error: OSError) -> OSError:
    expected = "expected a name or address of this machine, and a port that you may take"
    return OSError(f"host, port: {expected}, got {host!r} and {port} ({error.strerror})")


def url(listening: socket.socket) -> str:
    """The address of the page behind a socket."""
    host, port = map(str, listening.getsockname()[:2])
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
