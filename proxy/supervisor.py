"""The parent: starts, watches and stops the children, and takes them from one configuration to the next.

It speaks no HTTP, carries no traffic and never waits for a child, a disk or a terminal: it must notice a death within
10 ms. Files are read in a thread (proxy/candidate.py). What a death leads to is decided in proxy/restarts.py.
Invariants: `accepted` is the configuration that every running child serves or is about to; a refused reload changes
nothing; after SIGTERM nothing is started any more.
"""

from __future__ import annotations

import itertools
import os
import selectors
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

from config.units import MonoTime, Seconds
from ha import liveness, orders
from proxy import bus, candidate, console, region, sockets, statefile
from proxy.candidate import CandidateError
from proxy.channel import ClosedError
from proxy.closed import ClosedListeners
from proxy.interception import Interception
from proxy.keeper import Keeper, Witness
from proxy.process import Barrier, News, Process, State, Wish
from proxy.refreshing import Refreshes
from proxy.reload import Ask, Commit, Idle, Refuse, Reload, TakingOver, Wait
from proxy.restarts import DEATHS, WINDOW
from proxy.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.schema import Config
    from proxy.candidate import Candidate, Source
    from proxy.notify import Notifier
    from proxy.rights import Identity
    from proxy.runtime import RuntimeFolder

_START_LIMIT: Final = 60.0  # seconds from exec to Ready, on a slow and busy machine
_GRACE: Final = 1.0  # beyond the drain time, until the kill
_ADMIN_DRAIN: Final = 2.0
_LET_GO: Final = 0.25  # seconds that ha waits for an instant without requests, before it lets go of its addresses


@dataclass(frozen=True, slots=True)
class Services:
    """What the children run, as `module:Class`; imported by them alone."""

    worker: str = "proxy.worker:Worker"
    admin: str = "proxy.observe.admin:AdminService"


class Supervisor:
    def __init__(
        self,
        source: Source,
        accepted: Candidate,
        folder: RuntimeFolder,
        identity: Identity,
        notifier: Notifier,
        serials: itertools.count[int],
        services: Services | None = None,
        on_ready: Callable[[Candidate], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._accepted = accepted
        self._folder = folder
        self._identity = identity
        self._notifier = notifier
        self._serials = serials
        self._services = services or Services()
        self._on_ready = on_ready
        self._generations = itertools.count(accepted.generation + 1)
        self._shared = region.Region.create()
        self._pages: set[int] = set()
        self._witness: Witness | None = None
        self._processes: dict[str, Process] = {}
        self._closed = ClosedListeners(serials)
        self._interception = Interception()
        self._taking_over: TakingOver | None = None
        self._reload: Reload | None = None
        self._reload_wanted = False
        self._refreshes = Refreshes()
        self._refreshes.adopt(accepted.config, _now())
        self._last_reload: dict[str, object] | None = None
        self._was_ready = False
        self._stopping = False
        self._workers_told = False  # to drain
        self._exit: int | None = None
        self._dirty = True  # state.json is behind
        self._next_alive = MonoTime(0.0)
        self._started = time.time()
        self._selector = selectors.DefaultSelector()
        self._signals = Signals()

    def run(self) -> int:
        """The exit status, when everything has ended.

        An exception is our death: the children see the end of their channels, finish what is in flight, and whoever
        starts us again can bind at once. To kill them here would lose what they could still answer.
        """
        self._signals.catch()
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_woken)
        self._interception.adopt(self._accepted.config.transparent)
        self._add_processes()
        while self._exit is None:
            self._turn()
        self._kill_all()
        self._interception.close()
        self._folder.leave()
        self._signals.close()
        return self._exit

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            key.data()
        self._do_what_is_due(_now())
        if self._dirty:
            self._dirty = False
            self._interception.serve(serving=any(process.is_worker for process in self._running()))
            self._folder.write_state(self._state())

    def _patience(self) -> float | None:
        """Seconds until something is due; None if nothing is."""
        moments = [process.due for process in self._processes.values() if process.due is not None]
        if self._reload is not None and self._reload.deadline is not None:
            moments.append(self._reload.deadline)
        if self._taking_over is not None:
            moments.append(self._taking_over.deadline)
        if self._notifier.watchdog is not None:
            moments.append(self._next_alive)
        if self._interception.due is not None:
            moments.append(self._interception.due)
        if self._refreshes.next is not None and self._reload is None and self._may_reload():
            moments.append(self._refreshes.next)
        return max(0.0, min(moments) - _now()) if moments else None

    def _do_what_is_due(self, now: MonoTime) -> None:
        for process in list(self._processes.values()):
            if process.due is not None and process.due <= now:
                self._do_due(process)
        if self._reload is not None:
            self._go_on_with_reload(self._reload, now)
        elif self._reload_wanted and self._may_reload():
            self._begin_reload()
        elif self._refreshes.next is not None and self._refreshes.next <= now and self._may_reload():
            self._begin_refresh(self._refreshes.take(now))
        self._finish_commit()
        if self._interception.look(self._count_beats, now):
            self._dirty = True
        if self._notifier.watchdog is not None and self._next_alive <= now:
            self._notifier.alive()
            self._next_alive = MonoTime(now + self._notifier.watchdog)
        if self._stopping:
            self._go_on_with_stop(now)

    def _count_beats(self) -> dict[str, int]:
        """Of each worker that runs."""
        running = [process for process in self._running() if process.is_worker]
        return {process.name: liveness.beats(self._shared.page(process.index)) for process in running}

    def _do_due(self, process: Process) -> None:
        match process.state:
            case State.STARTING:
                console.say(f"{process.name} (pid {process.pid}) was not ready within {_START_LIMIT:g} s; killing it")
                process.due = None
                process.kill()
            case State.RUNNING:  # it has lived long enough to be trusted again
                process.restarts.survived()
                process.due = None
            case State.DRAINING:
                console.say(f"{process.name} (pid {process.pid}) did not end in time; killing it")
                process.due = None
                process.kill()
            case State.BACKOFF:
                self._start(process)
            case State.CRASH_LOOP:
                self._try_again(process)
            case State.STOPPED:
                process.due = None
            case unreachable:
                assert_never(unreachable)

    def _on_woken(self) -> None:
        for number in self._signals.take():
            self._on_signal(number)

    def _on_signal(self, number: int) -> None:
        match number:
            case signal.SIGTERM:
                self._stop()
            case signal.SIGINT if self._stopping:
                console.say("ending at once")
                self._exit = 0
            case signal.SIGINT:
                self._stop()
            case signal.SIGHUP:
                self._reload_wanted = True
            case signal.SIGUSR1:
                self._reopen_logs()
            case _:  # WAKE: the reading thread is done; the reload is looked at each turn
                pass

    # ---- children ----------------------------------------------------------------------------------------------------

    def _add_processes(self) -> None:
        """Every process that the accepted configuration asks for and that is not there is started."""
        wanted = [(f"worker-{i}", i, self._services.worker) for i in range(self._accepted.config.process.workers)]
        for name, index, service in (*wanted, ("admin", sockets.ADMIN, self._services.admin)):
            if name not in self._processes:
                self._initialise_page(index)
                self._processes[name] = Process(name, index, service)
                self._start(self._processes[name])
        if self._accepted.config.ha is not None and "ha" not in self._processes:
            self._processes["ha"] = Keeper("ha", sockets.HA, "", runtime=self._folder.path)
            self._watch_ha()
            self._start(self._processes["ha"])

    def _watch_ha(self) -> None:
        """Its death wakes the loop, sooner than its pidfd: the kernel frees its memory in between."""
        if self._witness is not None:
            return
        page = self._shared.page(region.HA_PAGE)
        liveness.initialise(page)
        told, wake = socket.socketpair()
        told.setblocking(False)
        self._selector.register(told, selectors.EVENT_READ, lambda: self._on_death_of_ha(told))
        self._witness = Witness(page, lambda: wake.send(b"\0"))

    def _on_death_of_ha(self, told: socket.socket) -> None:
        with suppress(BlockingIOError):
            told.recv(4096)
        process = self._processes.get("ha")
        lives = liveness.holder(self._shared.page(region.HA_PAGE))  # another, by now
        if isinstance(process, Keeper) and process.alive and process.pid != lives:
            self._on_message(process)  # its last words
            process.carry_out()

    def _initialise_page(self, index: int) -> None:
        """Once for each worker: its page outlives it, and somebody may be waiting on it."""
        if index >= 0 and index not in self._pages:
            self._pages.add(index)
            liveness.initialise(self._shared.page(index))

    def _start(self, process: Process) -> None:
        process.turn(State.STARTING, MonoTime(_now() + _START_LIMIT))
        self._dirty = True
        try:
            process.spawn(self._identity, self._shared.fd)
        except OSError as exc:
            console.say(f"{process.name} cannot be started: {exc.strerror}")
            self._died(process, "not started")
            return
        assert process.control is not None
        self._selector.register(process.pidfd, selectors.EVENT_READ, lambda: self._on_exit(process))
        self._selector.register(process.control, selectors.EVENT_READ, lambda: self._on_message(process))
        self._tell(process, *self._accepted.prepare_for(process.index))

    def _tell(self, process: Process, message: bus.ToChild, fds: list[int] | None = None) -> None:
        if not process.send(message, fds or ()):
            process.kill()

    def _on_message(self, process: Process) -> None:
        try:
            while (message := process.receive()) is not None:
                self._heard(process, message)
        except (ClosedError, bus.BadFrameError):
            if process.control is not None:
                self._selector.unregister(process.control)
                process.control.close()
                process.control = None
            if process.state is not State.DRAINING:
                process.kill()  # without a channel it cannot be told anything any more

    def _heard(self, process: Process, message: bus.ToSupervisor | News | Wish | Barrier) -> None:
        reload = self._reload
        match message:
            case bus.Ready():
                self._ready(process)
            case bus.Prepared(generation) if reload is not None and reload.answered(process.name, generation):
                pass
            case bus.Refused(generation, reason) if reload is not None and reload.answered(
                process.name, generation, reason
            ):
                pass
            case bus.Prepared():
                if process.state is State.STARTING and message.generation == self._accepted.generation:
                    self._tell(process, bus.Commit(message.generation))
            case bus.Refused():  # of a running child: the late word on a reload that has been given up
                if process.state is State.STARTING:
                    self._refused_start(process, message.reason)
            case News():
                self._dirty = True
            case bus.Borrow():
                self._interception.lend(message, partial(self._tell, process))
            case Wish(on):
                self._say_close(on=on)
            case Barrier(addresses):
                self._gate(addresses)
                if isinstance(process, Keeper):
                    process.confirm_gate()
            case unreachable:
                assert_never(unreachable)

    def _say_close(self, *, on: bool) -> None:
        for process in self._running():
            if process.is_worker:
                self._tell(process, bus.SayClose(on))

    def _gate(self, addresses: Sequence[str]) -> None:
        """The workers' own listening sockets are ours too."""
        listeners = (held.sock for place, held in self._accepted.sockets.items() if place.index >= 0)
        try:
            orders.gate(listeners, addresses)
        except OSError as exc:
            console.say(f"new connections cannot be kept for the other node: {exc.strerror}")

    def _refused_start(self, process: Process, reason: str) -> None:
        console.say(reason if not self._was_ready else f"{process.name} refuses the accepted configuration: {reason}")
        if not self._was_ready:
            self._exit = 1
        process.kill()

    def _ready(self, process: Process) -> None:
        if process.state is not State.STARTING:  # Commit of a reload
            self._took_over(process)
            return
        process.ready_at = _now()
        process.turn(State.RUNNING, MonoTime(_now() + WINDOW))
        self._dirty = True
        if self._was_ready:
            self._notifier.status(self._status())
        elif all(other.state is State.RUNNING for other in self._processes.values()):
            self._was_ready = True
            self._folder.write_state(self._state())  # whoever is told must find it
            self._notifier.ready(self._status())
            self._on_ready(self._accepted)

    def _on_exit(self, process: Process) -> None:
        self._on_message(process)  # its last words
        self._selector.unregister(process.pidfd)
        if process.control is not None:
            self._selector.unregister(process.control)
        pid = process.pid
        how = process.reap()
        self._died(process, f"pid {pid}, {how}")

    def _died(self, process: Process, how: str) -> None:
        self._dirty = True
        if isinstance(process, Keeper) and not self._stopping:
            self._say_close(on=False)  # should it have been about to move an address
            self._gate(())
        if self._reload is not None:
            self._reload.died(process.name, how)
        self._took_over(process)
        if process.state is State.DRAINING or self._stopping:
            self._ended(process)
            return
        lived = Seconds(0.0 if process.ready_at is None else _now() - process.ready_at)
        restart = process.restarts.died(_now(), lived)
        process.turn(State.CRASH_LOOP if restart.crash_loop else State.BACKOFF, restart.at)
        if restart.crash_loop:
            self._crash_loop(process, how, news=restart.news)
        elif restart.at <= _now():
            console.say(f"{process.name} died ({how}); starting it again")
            self._start(process)
        else:
            console.say(f"{process.name} died ({how}); starting it again in {restart.at - _now():.2g} s")

    def _crash_loop(self, process: Process, how: str, *, news: bool) -> None:
        said = f"CRASH LOOP: {process.name} died {DEATHS} times within {WINDOW:g} s ({how})"
        if not self._was_ready:
            console.say(f"{said}; giving up")
            self._exit = 1
            return
        if news:
            console.say(f"{said}; its listeners are closed, and it is tried again every {WINDOW:g} s")
        self._accepted = replace(self._accepted, sockets=self._closed.close(process.index, self._accepted.sockets))

    def _try_again(self, process: Process) -> None:
        """A child in a crash loop gets its listeners back, and one more life."""
        try:
            opened = self._closed.reopen(process.index, self._accepted.sockets)
        except sockets.PortError as exc:
            console.say(f"{process.name}: {exc}")
            process.due = MonoTime(_now() + WINDOW)
            return
        self._accepted = replace(self._accepted, sockets=opened)
        self._start(process)

    # ---- reload ------------------------------------------------------------------------------------------------------

    def _may_reload(self) -> bool:
        """Not while a child is still getting the accepted configuration: it can hold one at a time."""
        return not self._stopping and all(p.state is not State.STARTING for p in self._processes.values())

    def _begin_reload(self) -> None:
        self._reload_wanted = False
        self._notifier.reloading()
        generation, existing = next(self._generations), dict(self._accepted.sockets)

        def read() -> Candidate:
            loaded = self._source.load()
            candidate.prepare_logs(loaded.config, self._source.base, self._identity)
            return candidate.build(loaded, self._source, generation, self._folder.path, existing, self._serials)

        self._reload = Reload(self._source.name)
        self._reload.start(read, self._signals.wake)

    def _begin_refresh(self, paths: tuple[str, ...]) -> None:
        """Lists of names are looked at again, and nothing else is read: the accepted configuration goes on."""
        generation, existing = next(self._generations), dict(self._accepted.sockets)
        accepted = self._accepted

        def read() -> Candidate | None:
            return candidate.refresh(accepted, paths, self._source.base, generation, existing, self._serials)

        self._reload = Reload(" ".join(paths))
        self._reload.start(read, self._signals.wake)

    def _go_on_with_reload(self, reload: Reload, now: MonoTime) -> None:
        match reload.next(now):
            case Wait():
                pass
            case Idle():
                self._reload = None
            case Ask(new):
                if self._may_reload():
                    self._ask_all(reload, new, now)
            case Commit(new):
                self._commit(reload.name, new)
            case Refuse(reason, new):
                self._refuse(reason, new)
            case unreachable:
                assert_never(unreachable)

    def _ask_all(self, reload: Reload, new: Candidate, now: MonoTime) -> None:
        staying = [p for p in self._running() if _has_place(p, new.config)]  # the others will drain
        reload.asked((process.name for process in staying), now)
        for process in staying:
            self._tell(process, *new.prepare_for(process.index))
        self._go_on_with_reload(reload, now)  # with nobody to ask, it is decided

    def _commit(self, name: str, new: Candidate) -> None:
        self._reload = None
        self._refreshes.adopt(new.config, _now())
        old, self._accepted = self._accepted, new
        old.close(spare=new.sockets)
        self._closed.forget()
        self._interception.adopt(new.config.transparent)
        told = (process.name for process in self._running() if _has_place(process, new.config))
        self._taking_over = TakingOver(name, told, _now())
        for line in new.warnings:
            console.say(line)
        if new.config.process.user != old.config.process.user:
            console.say("[process] user counts from the next start on")
        for process in list(self._processes.values()):
            if not _has_place(process, new.config):
                process.surplus = True
                self._drain(process, float(old.config.process.drain))
            elif process.state is State.RUNNING:
                self._tell(process, bus.Commit(new.generation))
            elif process.state in (State.BACKOFF, State.CRASH_LOOP):
                self._start(process)  # the new configuration may be the cure
        self._add_processes()
        self._finish_commit()

    def _took_over(self, process: Process) -> None:
        """It serves what it was told to, or never will: it has died."""
        if self._taking_over is not None:
            self._taking_over.finished(process.name)
            self._finish_commit()

    def _finish_commit(self) -> None:
        """The reload is told of when all serve what they were told to: whoever asks then gets the new answers."""
        if self._taking_over is not None and self._taking_over.is_over(_now()):
            console.say(f"reloaded {self._taking_over.name}")
            self._taking_over = None
            self._after_reload(ok=True, reason="")

    def _refuse(self, reason: str, new: Candidate | None) -> None:
        """The reload ends, and everything is as it was before."""
        self._reload = None
        if new is not None:
            new.close(spare=self._accepted.sockets)
            for process in self._running():
                self._tell(process, bus.Abort(new.generation))
        console.say("reload refused; everything stays as it is")
        console.say(reason)
        self._after_reload(ok=False, reason=reason)

    def _after_reload(self, *, ok: bool, reason: str) -> None:
        self._last_reload = {"at": time.time(), "ok": ok, "reason": bus.cut_reason(reason)}
        self._notifier.ready(self._status() if ok else f"reload refused; {self._status()}")
        self._dirty = True

    def _reopen_logs(self) -> None:
        try:
            candidate.prepare_logs(self._accepted.config, self._source.base, self._identity)
        except CandidateError as exc:
            console.say(str(exc))
        for process in self._running():
            self._tell(process, bus.ReopenLogs())

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """`ha` lets go; workers drain; then admin ends; then we do."""
        if self._stopping:
            return
        self._stopping = True
        self._dirty = True
        self._notifier.stopping()
        self._reload = None  # given up; children that prepare will hear of the drain next
        if "ha" in self._processes:
            ha = self._processes["ha"]
            self._drain(ha, _LET_GO)
            if ha.due is not None:  # its successor's word, the network's settings: a second more, before a kill
                ha.due = MonoTime(ha.due + _GRACE)
        else:
            self._stop_workers()

    def _stop_workers(self) -> None:
        self._interception.end()
        # Ours first: as long as any process has a listening socket open, the kernel takes connections for it.
        admin = dict(sockets.of_process(self._accepted.sockets, sockets.ADMIN))
        sockets.close(self._accepted.sockets, spare=admin)
        self._accepted = replace(self._accepted, sockets=admin)
        for process in self._processes.values():
            if process.is_worker:
                self._drain(process, float(self._accepted.config.process.drain))
        self._workers_told = True

    def _drain(self, process: Process, seconds: float) -> None:
        """The child is to end within this time; one that serves nothing ends now."""
        if not process.alive:
            self._ended(process)
            return
        starting = process.state is State.STARTING
        process.turn(State.DRAINING, MonoTime(_now() + seconds + _GRACE))
        self._dirty = True
        if starting:
            process.kill()
        else:
            self._tell(process, bus.Drain(seconds))

    def _ended(self, process: Process) -> None:
        """The child is gone for good, or makes room: its place may be wanted again since it began to drain."""
        process.turn(State.STOPPED)
        if process.surplus:
            del self._processes[process.name]
            if not self._stopping:
                self._add_processes()

    def _go_on_with_stop(self, now: MonoTime) -> None:
        if "ha" in self._processes and self._processes["ha"].alive:
            return
        if not self._workers_told:
            self._stop_workers()
        if any(process.alive for process in self._processes.values() if process.index != sockets.ADMIN):
            return
        admin = self._processes["admin"]
        if admin.alive and admin.state is not State.DRAINING:
            self._drain(admin, _ADMIN_DRAIN)
        elif not admin.alive and self._interception.may_leave(now):
            self._exit = 0

    def _kill_all(self) -> None:
        """Whatever still runs is killed and reaped."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            if process.alive:
                process.reap()

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, object]:
        phase = "stopping" if self._stopping else "running" if self._was_ready else "starting"
        own = statefile.Own(os.getpid(), phase, self._started, self._source.name, self._identity.name)
        keeper = self._processes.get("ha")
        routers = keeper.describe() if isinstance(keeper, Keeper) else None
        told = self._interception.describe()
        return statefile.build(own, self._accepted, self._processes.values(), self._last_reload, routers, told)

    def _status(self) -> str:
        return statefile.summarise(self._processes.values(), self._accepted.digest)

    def _running(self) -> list[Process]:
        return [process for process in self._processes.values() if process.state is State.RUNNING]


def _has_place(process: Process, config: Config) -> bool:
    """Whether this configuration wants the process."""
    return config.ha is not None if process.index == sockets.HA else process.index < config.process.workers


def _now() -> MonoTime:
    return MonoTime(time.monotonic())
