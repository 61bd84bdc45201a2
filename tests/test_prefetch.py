"""Laws of prefetching: the same items in the same order, errors passed on, and an end to the thread."""

import threading
import time

import pytest

from worldmodel.training.prefetch import Prefetcher


def test_items_come_in_order_and_end():
    with Prefetcher(iter(range(5))) as stream:
        assert list(stream) == [0, 1, 2, 3, 4]
        assert next(stream, "no more") == "no more"


def test_the_next_item_is_fetched_while_this_one_is_in_use():
    fetched = []

    def stream():
        for i in range(4):
            fetched.append(i)
            yield i

    with Prefetcher(stream()) as prefetched:
        assert next(prefetched) == 0
        time.sleep(0.05)
        assert 1 in fetched and 3 not in fetched  # one is ready, one in hand


def test_an_error_of_the_stream_reaches_whoever_asks():
    def stream():
        yield 1
        raise OSError("the disk is gone")

    with Prefetcher(stream()) as prefetched:
        assert next(prefetched) == 1
        for _ in range(2):  # however often
            with pytest.raises(OSError, match="the disk is gone"):
                next(prefetched)


def test_closing_ends_the_thread_and_lets_go_of_the_stream():
    closed = threading.Event()

    def stream():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    with Prefetcher(stream()) as prefetched:
        next(prefetched)
    assert closed.wait(2) and not prefetched._thread.is_alive()
    assert next(prefetched, "closed") == "closed"
