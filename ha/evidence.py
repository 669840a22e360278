"""What is seen of this node: its workers, their origins, tracked interfaces, files and programs. No verdict on it here.

A thread per worker waits for the robust mutex (death is seen in a millisecond at any size of the dead); beats are read
on the loop; one more thread, of ordinary priority, asks what may take its time: each worker's socket once per life,
admin for the origins, programs. All results come to the loop as one frozen `Evidence`, told when it has changed.
Invariants: nothing here blocks the loop; a worker serves only when it has answered in its present life.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from config.units import MonoTime
from ha import liveness, privileges, rtnl
from ha.liveness import Watched

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Mapping, Sequence

    from config.schema import Config, Track

MISSED: Final = 5  # beats; then a worker counts as hung
BEAT: Final = 0.05  # seconds, as in proxy/child.py; five of them are the 250 ms of patience with a loop
_FIRST_LOOK: Final = 0.02  # seconds of waiting after which a holder is alive
_LOOK: Final = 1.0
_ASK_LIMIT: Final = 1.0
_CHECK_LIMIT: Final = 30.0  # seconds for checks that are made now: each has its own timeout
_GLANCE: Final = 0.0001  # seconds between looks at the counts of requests in flight
_UNSEEN: Final = 0.1  # seconds more for workers that the machine gives no time to look
_EVERY: Final = 0.25  # seconds between rounds of the asking thread
ORIGINS_EVERY: Final = 0.25  # seconds between questions to admin
_MAX_ANSWER: Final = 4 * 2**20

# The question Ping and the beginning of its answer as they stand on worker-N.sock (proxy/bus.py): a frame of four bytes
# of length, then msgpack. A contract test compares.
PING: Final = b"\x00\x00\x00\x0d\x92\x01\x81\xa4type\xa4Ping"
PONG: Final = b"\xa4type\xa4Pong"


class Worker(Enum):
    GONE = "gone"  # nobody holds the page
    STARTING = "starting"  # held, but it has not answered yet
    SERVING = "serving"
    HUNG = "hung"


class Seen(Enum):
    """Of a site's origins, or of something tracked."""

    UNKNOWN = "unknown"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at something tracked; the number tells it from the one before, for equal looks in a row count."""

    seen: Seen
    number: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    workers: tuple[Worker, ...] = ()
    origins: Mapping[str, Seen] = field(default_factory=dict)  # by site, as last known
    tracks: Mapping[str, Look] = field(default_factory=dict)  # by name

    @property
    def serving(self) -> int:
        return sum(worker is Worker.SERVING for worker in self.workers)


@dataclass(slots=True)
class _Page:
    """What the loop knows of one worker."""

    memory: memoryview
    held: bool = False
    life: int = 0
    answered: int = 0  # the life that has answered
    beats: int = -1
    missed: int = 0

    @property
    def state(self) -> Worker:
        if not self.held:
            return Worker.GONE
        if self.answered != self.life:
            return Worker.STARTING
        return Worker.HUNG if self.missed >= MISSED else Worker.SERVING


class Observer:
    """Gathers evidence until it is stopped."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        runtime: Path,
        page_of: Callable[[int], memoryview],
        told: Callable[[Evidence], None],
    ) -> None:
        self.evidence = Evidence()
        self._loop = loop
        self._runtime = runtime
        self._page_of = page_of
        self._told = told
        self._pages: list[_Page] = []
        self._stopped = threading.Event()
        self._sites: dict[str, bool] = {}  # name: whether it has active checks
        self._tracks: tuple[Track, ...] = ()
        self._base = Path("/")
        self._wanted = 0
        self._asking: threading.Thread | None = None
        self._scripts: set[str] = set()  # programs under way
        self._soon = threading.Event()  # the asking thread does not wait
        self._looking = False  # at origins, now
        self._look_again: Callable[[bool, MonoTime], None] | None = None

    def configure(self, config: Config, base: Path) -> None:
        """Watches what this configuration has."""
        assert config.ha is not None
        for index in range(len(self._pages), config.process.workers):
            page = _Page(self._page_of(index))
            self._pages.append(page)
            name = f"worker-{index}"
            threading.Thread(target=self._watch, args=(page,), name=name, daemon=True).start()
        self._wanted = config.process.workers
        self._sites = {site.name: site.health is not None for site in config.site if site.upstream}
        self._tracks, self._base = config.ha.track, base
        self._show(origins={name: self.evidence.origins.get(name, Seen.UNKNOWN) for name in self._sites})
        self._show(tracks={one.name: self.evidence.tracks.get(one.name, Look(Seen.UNKNOWN)) for one in self._tracks})
        if self._asking is None:
            self._asking = threading.Thread(target=self._ask, name="asking", daemon=True)
            self._asking.start()
            self._loop.call_later(BEAT, self._read_beats)

    def stop(self) -> None:
        self._stopped.set()
        self._soon.set()

    def ask_soon(self) -> None:
        """Admin knows something new of the origins."""
        self._soon.set()

    def look_at_origins(self, told: Callable[[bool, MonoTime], None]) -> None:
        """Tells whether those that were good still are, by checks that begin now; nothing if nobody can say."""
        if self._looking:
            self._look_again = told  # the checks under way have begun before
            return
        self._looking = True
        good = {name for name, seen in self.evidence.origins.items() if seen is Seen.GOOD and self._sites.get(name)}
        threading.Thread(target=self._look_now, args=(told, good), name="looking", daemon=True).start()

    def _look_now(self, told: Callable[[bool, MonoTime], None], known: set[str]) -> None:
        privileges.be_ordinary()
        asked = MonoTime(time.monotonic())
        good = check_origins(self._runtime / "admin.sock", known)
        self._post(self._looked, told, good, asked)

    def _looked(self, told: Callable[[bool, MonoTime], None], good: bool | None, asked: MonoTime) -> None:
        self._looking = False
        if good is not None:
            told(good, asked)
        again, self._look_again = self._look_again, None
        if again is not None:
            self.look_at_origins(again)

    def in_flight(self) -> int | None:
        """Requests in flight of all workers that live; None while one of them has not begun to count."""
        counts = [liveness.in_flight(page.memory) for page in self._pages if page.held]
        return None if None in counts else sum(count or 0 for count in counts)

    def wait_for_quiet(self, until: float, lasting: float = 0.0, turns: int = 0) -> int | None:
        """0 once there was no request in flight for so long, and each worker has looked so often meanwhile; at `until`
        (monotonic) how many there are. None, a little later, where a worker did not come to look. Blocks.
        """
        begun: float | None = None  # of the quiet
        wanted: list[int] = []  # reports of each page by then
        while True:
            count, now = self.in_flight(), time.monotonic()
            looked = [liveness.reports(page.memory) for page in self._pages if page.held]
            if count != 0 or begun is None or len(looked) != len(wanted):
                begun, wanted = (now if count == 0 else None), [number + turns for number in looked]
            if begun is not None and now - begun >= lasting and all(map(operator.ge, looked, wanted)):
                return 0
            if now >= until and (count != 0 or now >= until + _UNSEEN):
                return count or None
            time.sleep(_GLANCE)

    # ---- on the loop -------------------------------------------------------------------------------------------------

    def _show(self, **changes: Any) -> None:
        workers = tuple(page.state for page in self._pages[: self._wanted])
        new = replace(self.evidence, workers=workers, **changes)
        if new != self.evidence:
            self.evidence = new
            self._told(new)

    def _heard(self, page: _Page, watched: Watched, life: int) -> None:
        page.held = watched is Watched.ALIVE
        if life != page.life:
            page.life, page.missed, page.beats = life, 0, -1
        self._show()

    def _answered(self, page: _Page, life: int) -> None:
        page.answered = life
        self._show()

    def _read_beats(self) -> None:
        """Rounds are counted, not seconds: if we were frozen ourselves, the workers were too."""
        for page in self._pages:
            beats = liveness.beats(page.memory)
            page.missed = 0 if beats != page.beats else page.missed + 1
            page.beats = beats
        self._show()
        if not self._stopped.is_set():
            self._loop.call_later(BEAT, self._read_beats)

    # ---- the thread of each worker -----------------------------------------------------------------------------------

    def _watch(self, page: _Page) -> None:
        """Waits for deaths, at our own priority; a change goes to the loop at once."""
        last: tuple[Watched, int] | None = None
        while not self._stopped.is_set():
            patience = _LOOK if last is not None and last[0] is Watched.ALIVE else _FIRST_LOOK
            watched = liveness.wait_for_death(page.memory, patience)
            now = (watched, liveness.lives(page.memory))
            if now != last:
                last = now
                self._post(self._heard, page, watched, now[1])
            if watched is not Watched.ALIVE:
                self._stopped.wait(_FIRST_LOOK)

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    # ---- the asking thread -------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        privileges.be_ordinary()
        origins_due = 0.0
        due: dict[str, float] = {}
        while not self._stopped.is_set():
            for index, page in enumerate(self._pages):
                life = page.life
                if page.held and page.answered != life and does_answer(self._runtime / f"worker-{index}.sock"):
                    self._post(self._answered, page, life)
            now = time.monotonic()
            if self._soon.is_set():
                self._soon.clear()
                origins_due = now
            if origins_due <= now and self._sites:
                origins_due = now + ORIGINS_EVERY
                self._post(self._show_origins, ask_origins(self._runtime / "admin.sock", dict(self._sites)))
            for track in self._tracks:
                if due.get(track.name, 0.0) <= now:
                    due[track.name] = now + track.every
                    self._look(track)
            self._soon.wait(min(_EVERY, *(track.every for track in self._tracks), ORIGINS_EVERY))

    def _show_origins(self, origins: Mapping[str, Seen]) -> None:
        """What is not known now is as it was: admin may be starting, and the origins are no worse for it."""
        known = {name: seen for name, seen in origins.items() if seen is not Seen.UNKNOWN}
        before = self.evidence.origins
        self._show(origins={name: known.get(name, before.get(name, Seen.UNKNOWN)) for name in self._sites})

    def _show_track(self, name: str, seen: Seen) -> None:
        if any(track.name == name for track in self._tracks):
            number = self.evidence.tracks[name].number + 1
            self._show(tracks={**self.evidence.tracks, name: Look(seen, number)})

    def _look(self, track: Track) -> None:
        if track.interface:
            self._post(self._show_track, track.name, look_at_interface(track.interface))
        elif track.file:
            self._post(self._show_track, track.name, look_at_file(self._base / track.file))
        elif track.name not in self._scripts:  # one that still runs is not started twice
            self._scripts.add(track.name)
            threading.Thread(target=self._run, args=(track,), name="track", daemon=True).start()

    def _run(self, track: Track) -> None:
        seen = run_program(track.script, track.timeout)
        self._scripts.discard(track.name)
        self._post(self._show_track, track.name, seen)


# ---- single looks; each may take its time ----------------------------------------------------------------------------


def does_answer(path: Path) -> bool:
    """Whether the worker behind this socket answers a question within a second."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_ASK_LIMIT)
            sock.connect(str(path))
            sock.sendall(PING)
            return PONG in sock.recv(4096)
    except OSError:
        return False


def ask_origins(path: Path, sites: Mapping[str, bool]) -> dict[str, Seen]:
    """What admin says of each site's origins; nothing if it does not answer."""
    try:
        return judge_origins(_ask_admin(path, "/v1/status", 2 * _ASK_LIMIT), sites)
    except (OSError, ValueError):
        return {}


def check_origins(path: Path, sites: Collection[str]) -> bool | None:
    """Whether all these sites have a good origin, by checks that admin makes now; None if it does not say."""
    try:
        answer = _ask_admin(path, "/v1/checks", _CHECK_LIMIT)
    except (OSError, ValueError):
        return None
    found = answer.get("sites") if isinstance(answer, dict) else None
    return all(found.get(site) is True for site in sites) if isinstance(found, dict) else None


def _ask_admin(path: Path, target: str, limit: float) -> object:
    """Raises OSError, or ValueError for an answer that is no JSON."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(limit)
        sock.connect(str(path))
        sock.sendall(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while len(answer) < _MAX_ANSWER and (part := sock.recv(65536)):
            answer += part
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def judge_origins(status: object, sites: Mapping[str, bool]) -> dict[str, Seen]:
    """Of each site: bad if no origin is left; unknown while active checks have not looked at any."""
    listed = status.get("sites") if isinstance(status, dict) else None
    found = {}
    for site in listed if isinstance(listed, list) else []:
        if not isinstance(site, dict) or site.get("name") not in sites:
            continue
        upstreams = [one for one in site.get("upstreams", ()) if isinstance(one, dict)]
        usable = [one for one in upstreams if one.get("state") not in ("failed", "ejected")]
        if not usable:
            seen = Seen.BAD if upstreams else Seen.UNKNOWN
        elif sites[site["name"]]:
            seen = Seen.GOOD if any("check" in one for one in usable) else Seen.UNKNOWN
        else:
            seen = Seen.GOOD
        found[site["name"]] = seen
    return found


def look_at_interface(name: str) -> Seen:
    try:
        kernel = rtnl.Kernel()
        try:
            interface = kernel.interface(name)
        finally:
            kernel.close()
    except OSError:
        return Seen.BAD
    return Seen.GOOD if interface is not None and interface.up else Seen.BAD


def look_at_file(path: Path) -> Seen:
    """Good if it exists; a number in it must be 0."""
    try:
        with path.open("rb") as file:
            text = file.read(32).strip()
    except OSError:
        return Seen.BAD
    try:
        return Seen.GOOD if int(text) == 0 else Seen.BAD
    except ValueError:
        return Seen.GOOD


def run_program(command: Sequence[str], limit: float) -> Seen:
    """Good if it exits with 0 in time; over it, it dies with all that it started."""
    try:
        child = subprocess.Popen(  # noqa: S603 - the operator's own, from the configuration
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError):
        return Seen.BAD
    try:
        return Seen.GOOD if child.wait(limit) == 0 else Seen.BAD
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return Seen.BAD
