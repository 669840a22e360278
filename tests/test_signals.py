"""What is sent to a process can be read where it waits, once and in order."""

from __future__ import annotations

import os
import selectors
import signal
import threading

import pytest

from proxy.signals import CAUGHT, WAKE, Signals


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in CAUGHT}
    one = Signals()
    yield one
    one.close()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_are_taken_once_in_the_order_in_which_they_came(signals):
    signals.catch()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert signals.take() == bytes([signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM])
    assert signals.take() == b""


def test_a_thread_wakes_whoever_waits(signals):
    with selectors.DefaultSelector() as selector:
        selector.register(signals, selectors.EVENT_READ)
        assert selector.select(0) == []
        threading.Thread(target=signals.wake).start()
        assert selector.select(10)
    assert signals.take() == bytes([WAKE])


def test_more_than_can_be_held_wakes_too(signals):
    for _ in range(100_000):
        signals.wake()
    while taken := signals.take():
        assert set(taken) == {WAKE}
