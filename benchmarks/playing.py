"""Frames per second of `worldmodel play`, from the session over the server to a WebSocket, as a page receives them."""

import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from measure import Row, row
from websockets.sync.client import ClientConnection, connect

from worldmodel import envs
from worldmodel.io.config import from_mapping
from worldmodel.io.hub.names import bundled_worlds
from worldmodel.play.commands import FASTEST
from worldmodel.play.messages import read_frame
from worldmodel.play.moment import Mode
from worldmodel.play.server import Server, bind, make_app, url
from worldmodel.play.session import Session
from worldmodel.world import WorldModel

SECONDS = 3.0
LEAST = 15  # frames per second
MODES: dict[Mode, str] = {"dream": "", "both": " beside the real environment"}


def playing(folder: Path) -> Iterator[Row]:
    """Each world that comes with the package, alone and beside its real environment."""
    for name in bundled_worlds():
        world = WorldModel.load(f"worldmodel:{name}")
        make_env = partial(envs.make, from_mapping(envs.schema(world.info.env["name"]), world.info.env, "env"))
        for mode, beside in MODES.items():
            session = Session(world, make_env, name=name, out=folder)
            session.warm_up()
            session.switch(mode)
            note = f"over a WebSocket; the page asks for {FASTEST:g} at most"
            yield row(f"play of {name}{beside}", frames_per_second(session), "frames/s", least=LEAST, note=note)


def frames_per_second(session: Session) -> float:
    """Frames that arrive in a second while play runs as fast as it may."""
    listening = bind("127.0.0.1", 0)
    address = url(listening).replace("http", "ws") + "ws"
    server = Server(make_app(session))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with connect(address) as connection:
            return _measured(connection)
    finally:
        server.should_exit = True
        thread.join()


def _measured(connection: ClientConnection) -> float:
    for command in ({"do": "fps", "fps": FASTEST}, {"do": "pause", "on": False}):
        connection.send(json.dumps(command))
    first, start = _steps(connection), time.perf_counter()
    steps = first
    while time.perf_counter() - start < SECONDS:
        steps = _steps(connection)
    return (steps - first) / (time.perf_counter() - start)


def _steps(connection: ClientConnection) -> int:
    """The step of the next frame that arrives."""
    while isinstance(message := connection.recv(), str):
        pass
    return read_frame(message)[0]["steps"]
