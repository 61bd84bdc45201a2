"""The room around a session: its viewers, all of whom see the same and may act, and the clock that plays it.

One thread does all work on the session, as engines want it; everything else runs in the event loop.
"""

import asyncio
import contextlib
import sys
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from worldmodel.kernels.threads import set_threads
from worldmodel.play import messages
from worldmodel.play.commands import Command, read_command
from worldmodel.play.session import Session

T = TypeVar("T")

FRAMES_WAITING = 3  # for a slow viewer; older frames are dropped
MOST_WAITING = 100  # messages of all kinds
PLAIN = (ValueError, TypeError, ImportError, OSError)  # errors that a person can correct
GONE = (asyncio.CancelledError, WebSocketDisconnect, RuntimeError)  # how sending ends when a viewer leaves


class Viewer:
    """One connection, and the messages that wait for it."""

    def __init__(self, socket: WebSocket):
        self.socket, self.waiting, self.arrived = socket, deque[str | bytes](maxlen=MOST_WAITING), asyncio.Event()

    def put(self, message: str | bytes) -> None:
        """Send a message soon; of the frames, only the newest ones wait."""
        self.waiting.append(message)
        frames = [each for each in self.waiting if isinstance(each, bytes)]
        if len(frames) > FRAMES_WAITING:
            self.waiting.remove(frames[0])
        self.arrived.set()

    async def send(self) -> None:
        """Send what waits, until the viewer leaves."""
        while True:
            await self.arrived.wait()
            self.arrived.clear()
            while self.waiting:
                message = self.waiting.popleft()
                await (self.socket.send_text(message) if isinstance(message, str) else self.socket.send_bytes(message))


class Room:
    """A session, and the people who look at it."""

    def __init__(self, session: Session):
        self.session = session
        self.viewers: list[Viewer] = []
        self.holder: Viewer | None = None  # who pressed the action that is held
        self._announced = 0  # of the files that were saved
        self._jumps = 0  # to other moments, and changes of their list
        self._worker = ThreadPoolExecutor(1, "play", initializer=set_threads)
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Play the session until this task is cancelled."""
        while True:
            await self._tick()

    async def close(self) -> None:
        """Save what is recorded, and close the real environment."""
        try:
            await self._call(self.session.close)
        except PLAIN as error:
            print(_explained(error), file=sys.stderr)
        self._worker.shutdown()

    async def visit(self, socket: WebSocket) -> None:
        """Serve one viewer until it leaves."""
        await socket.accept()
        viewer = Viewer(socket)
        self.viewers.append(viewer)
        sending = asyncio.create_task(viewer.send())
        try:
            for message in await self._call(lambda: [messages.hello(self.session), *self._all()]):
                viewer.put(message)
            while (message := await socket.receive())["type"] == "websocket.receive":
                await self._take(viewer, message.get("text"))
        finally:
            self.viewers.remove(viewer)
            if self.holder is viewer:
                self._worker.submit(self.session.hold, None)
            sending.cancel()
            with contextlib.suppress(*GONE):
                await sending

    async def _take(self, viewer: Viewer, text: str | None) -> None:
        """Carry out what a viewer asks for; a fault is answered, and play goes on."""
        try:
            command = read_command(text)
            if command.releases and self.holder is not viewer:  # somebody else presses
                return
        except Exception as error:
            viewer.put(messages.note(_explained(error), error=True))
            viewer.put(await self._call(lambda: messages.frame(self.session)))
            return
        news, problem = await self._call(lambda: self._done(command))
        if problem is not None:
            viewer.put(messages.note(_explained(problem), error=True))
        elif command.holds or command.releases:
            self.holder = viewer if command.holds else None
        self._broadcast(*news)
        self._announce()
        self._wake.set()

    async def _tick(self) -> None:
        """One step of play and its frames, each at its time; or wait until something happens."""
        due, jumps = _seconds(), self._jumps
        try:
            frames = await self._call(lambda: [messages.frame(self.session, sides) for sides in self.session.tick()])
        except Exception as error:
            self.session.paused = True
            self._broadcast(messages.note(_explained(error), error=True), *await self._call(self._all))
            return
        for frame in frames:
            if self._jumps != jumps:  # the others belong to a moment that play has left
                break
            self._broadcast(frame)
            due += 1 / self.session.fps
            await asyncio.sleep(max(0.0, due - _seconds()))
        self._announce()
        if not frames:
            await self._wake.wait()
            self._wake.clear()

    async def _call(self, work: Callable[[], T]) -> T:
        """The result of some work in the thread of the session."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _done(self, command: Command) -> tuple[list[str | bytes], Exception | None]:
        """Carry out a command; returns what viewers have to know then, and what went wrong."""
        before, kept, frames, problem = self.session.now, len(self.session.kept), [], None
        try:
            frames = command.run(self.session)
        except Exception as error:
            problem = error
        if frames:
            return [messages.frame(self.session, sides) for sides in frames], problem
        if self.session.now is before and len(self.session.kept) == kept:
            return [messages.frame(self.session)], problem
        self._jumps += 1
        return self._all(), problem

    def _all(self) -> list[str | bytes]:
        """All that changes: the curve, the kept moments and the newest frame."""
        return [messages.line(self.session), messages.frame(self.session)]

    def _announce(self) -> None:
        """Tell everybody which files were saved since the last time."""
        saved = self.session.recorder.saved
        if new := saved[self._announced :]:
            self._announced = len(saved)
            self._broadcast(messages.saved(new))

    def _broadcast(self, *sent: str | bytes) -> None:
        for viewer in self.viewers:
            for message in sent:
                viewer.put(message)


def _explained(error: Exception) -> str:
    """An error on one line; one that is no person's fault is printed with its place as well."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, PLAIN):
        return text
    traceback.print_exception(error)
    return f"a fault of worldmodel, not yours ({type(error).__name__}: {text}); the terminal shows where"


def _seconds() -> float:
    return asyncio.get_running_loop().time()
