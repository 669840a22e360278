"""The process around a service: `python -P -m proxy.child`, started by the supervisor and by nobody else.

It gives up all rights before anything else, takes its configuration from the control channel, serves the questions on
its Unix socket, beats, and drains when told so or when the supervisor is gone. What it serves is the service's matter
(proxy/service.py). Invariant: it reads no configuration from the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, assert_never

from config import load
from config.units import Listen
from ha import liveness
from proxy import bus, link, parcel, region, rights, runtime
from proxy.channel import Channel, ClosedError
from proxy.service import Listener, LongFile, Refused, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.service import Service

_BEAT: Final = 0.05  # seconds between beats; five missed ones, at least 250 ms, are a hung loop
_COUNT: Final = 0.001  # between counts of requests in flight, for as long as an address is about to move,
_CHEAP: Final = 0.0001  # unless it takes less than this: then always, for those 250 ms
_IGNORED: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)  # of a terminal or group: the supervisor's matter
_log = logging.getLogger("tandem.child")


class Child:
    """Drives one service between the control channel and the end."""

    def __init__(self, name: str, index: int, channel: Channel, shared: region.Region, service: Service) -> None:
        self._name = name
        self._index = index
        self._channel = channel
        self._service = service
        self._slots = shared.all_slots() if index < 0 else shared.slots(index)
        self._life = liveness.Life(shared.page(index)) if index >= 0 else None
        self._messages: asyncio.Queue[tuple[bus.ToChild, list[int]]] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._listeners: dict[int, Listener] = {}  # by serial, those being served
        self._prepared: tuple[Settings, dict[int, Listener]] | None = None
        self._drain_time: float | None = None  # seconds; None until something is served
        self._beats = 0
        self._counting = False
        self._server: asyncio.Server | None = None

    async def run(self) -> None:
        """Serves until drained. Raises what the service raises: a service that fails ends its process."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._on_readable)
        loop.add_signal_handler(signal.SIGTERM, self._end)  # from a manager that signals the whole group
        self._beat()
        obeying = asyncio.create_task(self._obey())
        ending = asyncio.create_task(self._ended.wait())
        await asyncio.wait((obeying, ending), return_when=asyncio.FIRST_COMPLETED)
        if obeying.done():
            obeying.result()
        else:  # whatever it is in the middle of: the listeners are closed now
            obeying.cancel()
        await self._drain()

    def _on_readable(self) -> None:
        try:
            while received := self._channel.receive():
                self._messages.put_nowait((bus.decode_to_child(received[0]), received[1]))
        except (ClosedError, bus.BadFrameError):  # the supervisor is gone
            self._end()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._ended.set()

    async def _obey(self) -> None:
        """Does what the supervisor says, in order, until it says drain."""
        while True:
            message, fds = await self._messages.get()
            match message:
                case bus.Prepare():
                    await self._prepare(message, fds)
                case bus.Commit():
                    await self._commit(message.generation)
                case bus.Abort():
                    self._abort()
                case bus.ReopenLogs():
                    self._service.reopen_logs()
                case bus.SayClose():
                    self._say_close(message.on)
                case bus.Drain():
                    self._drain_time = None if self._drain_time is None else message.seconds
                    return
                case bus.Lend():
                    self._service.lend(message.family, fds)
                case bus.Attach():
                    raise bus.BadFrameError("descriptors without a message")
                case unreachable:
                    assert_never(unreachable)

    # ---- configuration -----------------------------------------------------------------------------------------------

    async def _prepare(self, message: bus.Prepare, fds: list[int]) -> None:
        content, rest = fds[0], fds[1:]
        sockets, rest = rest[: len(message.listeners)], rest[len(message.listeners) :]
        secrets, lists = rest[: len(message.secrets)], rest[len(message.secrets) :]
        listeners = self._take_listeners(message.listeners, sockets)
        try:
            settings = self._settings_of(message, content, listeners, secrets, lists)
            await self._service.prepare(settings)
        except Refused as exc:
            self._refuse(message.generation, str(exc), listeners)
        except Exception as exc:  # noqa: BLE001 - a border: what cannot be prepared is refused, and the process lives on
            _log.exception("prepare failed")
            self._refuse(message.generation, f"{type(exc).__name__}: {exc}", listeners)
        else:
            self._prepared = settings, listeners
            self._channel.send(bus.Prepared(message.generation))
        finally:
            for fd in (content, *secrets, *lists):
                os.close(fd)

    def _take_listeners(self, notes: Sequence[bus.ListenerNote], fds: Sequence[int]) -> dict[int, Listener]:
        """The listeners by serial; of one that we have, the new descriptor is closed and the old one stays."""
        result: dict[int, Listener] = {}
        for note, fd in zip(notes, fds, strict=True):
            if note.serial in self._listeners:
                os.close(fd)
                result[note.serial] = self._listeners[note.serial]
            else:
                address = (note.address, note.bound)
                result[note.serial] = Listener(Listen(note.host, note.port), address, note.serial, fd)
        return result

    def _settings_of(
        self,
        message: bus.Prepare,
        content: int,
        listeners: dict[int, Listener],
        secrets: list[int],
        lists: list[int],
    ) -> Settings:
        box = parcel.decode(parcel.unseal(content))
        config = load.accept(box.text, box.name)
        return Settings(
            config=config,
            generation=message.generation,
            digest=message.digest,
            name=self._name,
            index=self._index,
            workers=config.process.workers,
            listeners=tuple(listeners.values()),
            secrets=dict(zip(message.secrets, secrets, strict=True)),
            files=box.files,
            base=Path(box.base),
            runtime=Path(box.runtime),
            shared=self._slots,
            lists={path: LongFile(digest, fd) for (path, digest), fd in zip(message.lists, lists, strict=True)},
            borrow=self._borrow,
        )

    def _borrow(self, family: bus.Family, count: int) -> None:
        self._channel.send(bus.Borrow(family, count))

    def _refuse(self, generation: int, reason: str, listeners: dict[int, Listener]) -> None:
        _close(listeners, spare=self._listeners)
        self._channel.send(bus.Refused(generation, bus.cut_reason(reason)))

    async def _commit(self, generation: int) -> None:
        assert self._prepared is not None
        (settings, listeners), self._prepared = self._prepared, None
        self._service.commit()
        _close(self._listeners, spare=listeners)
        self._listeners = listeners
        self._drain_time = float(settings.config.process.drain)
        logging.getLogger().setLevel(settings.config.log.level.upper())
        if self._server is None and self._index >= 0:
            self._server = await link.serve(runtime.worker_socket(settings.runtime, self._index), self._answer)
        gc.collect()
        gc.freeze()  # what lives now lives for good: the collector need not walk it again
        self._channel.send(bus.Ready(generation))

    def _abort(self) -> None:
        if self._prepared is not None:
            (_, listeners), self._prepared = self._prepared, None
            self._service.abort()
            _close(listeners, spare=self._listeners)

    # ---- life --------------------------------------------------------------------------------------------------------

    async def _answer(self, question: bus.Question) -> bus.Answer:
        if isinstance(question, bus.Ping):
            return bus.Pong(os.getpid(), self._beats)
        return await self._service.handle(question)

    def _beat(self) -> None:
        self._beats += 1
        if self._life is not None:
            self._life.beat()
        asyncio.get_running_loop().call_later(_BEAT, self._beat)

    def _say_close(self, on: bool) -> None:
        if self._life is None or self._drain_time is None:
            return  # nothing is served yet
        self._service.say_close(on)
        was, self._counting = self._counting, on
        if on and not was:
            self._count()

    def _count(self) -> None:
        """Requests in flight onto the page, as long as somebody waits for an instant without any."""
        assert self._life is not None
        if not self._counting:
            self._life.report(None)
            return
        begun = time.monotonic()
        self._life.report(self._service.in_flight())
        loop = asyncio.get_running_loop()
        if time.monotonic() - begun < _CHEAP:
            loop.call_soon(self._count)  # at each turn: what begins after the last count is cut
        else:
            loop.call_later(_COUNT, self._count)

    async def _drain(self) -> None:
        _close(self._listeners, spare={})
        if self._prepared is not None:
            _close(self._prepared[1], spare=self._listeners)
        if self._drain_time is not None:
            await self._service.drain(time.monotonic() + self._drain_time)
        if self._server is not None:
            self._server.close()
        if self._life is not None:
            self._life.release()


def _close(listeners: dict[int, Listener], spare: dict[int, Listener]) -> None:
    for serial, listener in listeners.items():
        if serial not in spare:
            os.close(listener.fd)


def load_service(spec: str, index: int, shared: region.Region) -> Service:
    """The service named `module:Class`, made for this process.

    Imported by name: the supervisor says which without importing it, and stays small.
    """
    module, _, name = spec.partition(":")
    kind = getattr(importlib.import_module(module), name)
    service: Service = kind(index, shared.all_slots() if index < 0 else shared.slots(index))
    return service


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    rights.drop_all()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    parser = argparse.ArgumentParser(prog="proxy.child")
    parser.add_argument("--name", required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--shared", type=int, required=True)
    options = parser.parse_args(arguments)
    for fd in (options.control, options.shared):
        os.set_inheritable(fd, False)
    Path("/proc/self/comm").write_text(f"tandem-{options.name}"[:15])
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"tandem: {options.name}: %(levelname)s: %(message)s"
    )
    import uvloop  # noqa: PLC0415 - not before the rights are gone

    shared = region.Region(options.shared)
    service = load_service(options.service, options.index, shared)
    channel = Channel(socket.socket(fileno=options.control))
    child = Child(options.name, options.index, channel, shared, service)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(child.run())
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)  # the kernel frees a gigabyte of cache faster than the interpreter its objects


if __name__ == "__main__":
    main()
