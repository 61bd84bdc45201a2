"""Fetches the next batch while a training step runs."""

import queue
import threading
from collections.abc import Iterator
from typing import Any


class Prefetcher(Iterator[Any]):
    """The items of a stream; a thread takes the next ones from the stream while one is in use.

    Receiving a batch from a data worker takes a millisecond or two; the thread hides this time. Use it in `with`:
    at the end of the block the thread stops and releases the stream.
    """

    def __init__(self, stream: Iterator[Any]):
        self._ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(1)
        self._end: BaseException | None = None  # what the stream ended with
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fetch, args=(stream,), daemon=True)
        self._thread.start()

    def __next__(self) -> Any:
        item = None
        if self._end is None:
            item, self._end = self._ready.get()
        if self._end is not None:
            raise self._end
        return item

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._end = self._end or StopIteration()
        while not self._ready.empty():
            self._ready.get()
        self._thread.join(timeout=5)  # a stream that hangs is left alone: the thread is a daemon

    def _fetch(self, stream: Iterator[Any]) -> None:
        try:
            for item in stream:
                self._ready.put((item, None))
                if self._closed.is_set():
                    return
            self._ready.put((None, StopIteration()))
        except BaseException as error:
            self._ready.put((None, error))
