"""The admin process: health, metrics, status, purges over `admin.sock` and, if configured, TCP; and active checks.

It serves no traffic and may die without hurting any. Who may do what is decided in gate.py, the workers are reached
through reach.py, what status says is put together in status.py. Every change leaves a line in the audit log.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import socket
import ssl
import stat
import struct
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from proxy import bus, region
from proxy.http.serialise import request_line
from proxy.link import LinkError
from proxy.modes.every import names_of
from proxy.modes.reverse import Reverse
from proxy.observe import gate, metrics, pair, status
from proxy.observe.accesslog import escape
from proxy.observe.gate import Peer, Refusal, Right, Token, Way
from proxy.observe.newcomers import Newcomers
from proxy.observe.reach import SWEEP_PATIENCE, PurgeResult, Workers
from proxy.policy import target
from proxy.service import Refused, Service
from proxy.upstream.prober import Prober

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
    from pathlib import Path

    from proxy.service import Listener, Settings
    from proxy.upstream.health import Verdict

SOCKET: Final = "admin.sock"
GROUP: Final = "tandem"
MAX_BODY: Final = 64 * 2**10
READS: Final = (100.0, 200.0)  # requests of one peer: a second, at once
CHANGES: Final = (50.0, 100.0)
BAD_TOKENS: Final = (0.1, 5.0)
MOST_LISTED: Final = 1000  # rows of an answer

INDEX: Final = """\
Tandem admin
GET  /healthz    200 while a worker answers, else 503
GET  /metrics    Prometheus text
GET  /v1/status  processes, sites, cache and workers as JSON
GET  /v1/checks  of each site with health checks, whether an origin is good, by checks made now
GET  /v1/explain what would happen to a request: ?url=http://…, with method=, from=, and header=Name:value repeated
GET  /v1/recent  the last decisions: ?limit=
GET  /v1/cache   what is stored: ?url=, prefix=, tag=, match= and site=, sort=size|hits|age|ttl, limit=, full=1
POST /v1/purge   {"url": "http://…"}, {"prefix": "http://…"}, {"tag": "…"}, {"match": "host/glob" or "host~regex"}
                 or {"all": true}, with "site", "dry_run", "hard"
"""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "tandem",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_audit = logging.getLogger("tandem.audit")
_audit.setLevel(logging.INFO)  # whatever `[log] level` leaves out: each change is told
_log = logging.getLogger("tandem.admin")
_PEER: Final = web.RequestKey("peer", Peer)
_TOKEN: Final = web.RequestKey("token", str)  # its name, never itself


class PurgeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/purge: exactly one of url, prefix, tag, match and all."""

    url: str = ""
    prefix: str = ""
    tag: str = ""  # Cache-Tag, Surrogate-Key, xkey, or the name of a group (RFC 9875)
    match: str = ""  # as policy/target.py reads it
    all: bool = False
    site: str = ""  # nothing but what this site's names reach
    dry_run: bool = False
    hard: bool = False  # remove; without it responses stay and are validated before their next use

    @property
    def target(self) -> tuple[bus.PurgeKind, str]:
        """What to purge. Raises ValueError with a sentence."""
        if [bool(self.url), bool(self.prefix), bool(self.tag), bool(self.match), self.all].count(True) != 1:
            raise ValueError("give one of url, prefix, tag, match and all")
        if self.tag:
            return "tag", target.check_tag(self.tag)
        if self.match:
            target.parse_pattern(self.match)
            return "match", self.match
        if self.all:
            return "all", ""
        target.parse_url(self.url or self.prefix)
        return ("url", self.url) if self.url else ("prefix", self.prefix)


_decode_purge = msgspec.json.Decoder(PurgeRequest).decode


@dataclass(slots=True, eq=False)
class _Plan:
    """One configuration, made ready to be served."""

    settings: Settings
    layout: metrics.Layout
    reverse: Reverse
    prober: Prober
    tokens: tuple[Token, ...]
    names: frozenset[str]  # under which a browser may come
    servers: list[asyncio.AbstractServer] = field(default_factory=list)


class AdminService:
    """Invariants: there is one `admin.sock` from the first prepare to the drain; the Prober that runs is the committed
    plan's; nothing is changed for a peer without the right to, nor without a line in the audit log.
    """

    def __init__(self, index: int, shared: memoryview) -> None:
        """As proxy/child.py makes every service; what is shared comes again with each Settings."""
        self._plan: _Plan | None = None
        self._prepared: _Plan | None = None
        self._workers: Workers | None = None
        self._unix: asyncio.AbstractServer | None = None
        self._runner = web.AppRunner(self._application(), access_log=None, handler_cancellation=False)
        self._newcomers: Newcomers | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._most_workers = 0  # since the start: counters of workers that are gone still count
        self._reads = gate.Rates(*READS)
        self._changes = gate.Rates(*CHANGES)
        self._bad_tokens = gate.Rates(*BAD_TOKENS)

    # ---- Service -----------------------------------------------------------------------------------------------------

    async def prepare(self, settings: Settings) -> None:
        try:
            plan = self._make_plan(settings)
            if self._runner.server is None:
                await self._runner.setup()
                assert self._runner.server is not None
                self._newcomers = Newcomers(self._runner.server)
            if self._unix is None:
                self._unix = await self._open_unix(settings.runtime)
            tls = _tls_context(settings)
            for listener in settings.listeners:
                plan.servers.append(await self._open_tcp(listener, tls))
        except (OSError, ValueError) as problem:
            raise Refused(f"admin: {problem}") from problem
        self._prepared = plan

    def _make_plan(self, settings: Settings) -> _Plan:
        admin = settings.config.admin
        reverse = Reverse(settings.config, settings.files)
        known = self._plan.prober.current() if self._plan is not None else ()
        if self._workers is None:
            self._workers = Workers(settings.runtime, settings.workers)
        tokens: tuple[Token, ...] = ()
        if admin.tokens is not None:
            tokens = _read_tokens(settings, admin.tokens.file)
        for listener in settings.listeners:
            if not ip_address(listener.address[0]).is_loopback and not (admin.tls and tokens):
                raise ValueError(f"{listener.address[0]} is not loopback: [admin] needs tls and tokens there")
        return _Plan(
            settings,
            metrics.layout(names_of(settings.config)),
            reverse,
            Prober(reverse.pools.values(), self._report, known),
            tokens,
            frozenset(name.lower() for name in admin.hosts),
        )

    async def _report(self, verdicts: list[Verdict]) -> None:
        """Workers first: they send requests there; then `ha`, whose health it is."""
        assert self._workers is not None
        await self._workers.report(verdicts)
        if self._plan is not None and self._plan.settings.config.ha is not None:
            self._spawn(pair.nudge(self._plan.settings.runtime))

    def commit(self) -> None:
        assert self._prepared is not None
        assert self._workers is not None
        before, self._plan, self._prepared = self._plan, self._prepared, None
        self._workers.count = self._plan.settings.workers
        cache = self._plan.settings.config.cache
        self._workers.disk = self._plan.settings.base / cache.path if cache.path else None
        self._most_workers = max(self._most_workers, self._plan.settings.workers)
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._workers.keep())
        self._spawn(self._follow(before, self._plan))

    async def _follow(self, before: _Plan | None, plan: _Plan) -> None:
        """What a commit starts and cannot fail at: the new listeners and checks take over from the old ones."""
        assert self._workers is not None
        if before is not None:
            for server in before.servers:
                server.close()
            try:
                await before.prober.stop()
            except Exception:  # noqa: BLE001 - a fault of the old checks must not keep the new ones from starting
                _log.exception("a check ended by a fault of ours")
        for server in plan.servers:
            await server.start_serving()
        if before is None and self._unix is not None:
            await self._unix.start_serving()
        await plan.prober.start()
        await self._workers.replace_verdicts(plan.prober.current())

    def abort(self) -> None:
        if self._prepared is not None:
            for server in self._prepared.servers:
                server.close()
        self._prepared = None

    async def drain(self, deadline: float) -> None:
        self.abort()
        for server in (*(self._plan.servers if self._plan is not None else ()), self._unix):
            if server is not None:
                server.close()
        if self._keeper is not None:
            self._keeper.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._plan is not None:
            with suppress(Exception):
                await self._plan.prober.stop()
            with suppress(OSError):
                (self._plan.settings.runtime / SOCKET).unlink()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._runner.cleanup(), max(0.1, deadline - time.monotonic()))
        if self._workers is not None:
            self._workers.close()

    def say_close(self, on: bool) -> None:
        """Only workers serve the address that moves."""

    def in_flight(self) -> int:
        return 0

    def reopen_logs(self) -> None:
        """Admin writes to standard error only."""

    def lend(self, family: bus.Family, fds: Sequence[int]) -> None:
        """Admin borrows no sockets."""
        for fd in fds:
            os.close(fd)

    async def handle(self, message: bus.Question) -> bus.Answer:
        return bus.Failed(f"admin answers no {type(message).__name__}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            _log.error("admin: %s", problem, exc_info=problem)

    # ---- sockets -----------------------------------------------------------------------------------------------------

    async def _open_unix(self, runtime: Path) -> asyncio.AbstractServer:
        sock = bind_unix(runtime / SOCKET)
        assert self._newcomers is not None
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(self._newcomers, sock=sock, start_serving=False)

    async def _open_tcp(self, listener: Listener, tls: ssl.SSLContext | None) -> asyncio.AbstractServer:
        assert self._newcomers is not None
        loop = asyncio.get_running_loop()
        sock = listener.open()
        sock.setblocking(False)
        return await loop.create_server(self._newcomers, sock=sock, ssl=tls, start_serving=False)

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        app.router.add_get("/", self._index)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/checks", self._checks)
        app.router.add_get("/v1/explain", self._explain)
        app.router.add_get("/v1/recent", self._recent)
        app.router.add_get("/v1/cache", self._cache)
        app.router.add_post("/v1/purge", self._purge)
        return app

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        peer = peer_of(request)
        request[_PEER] = peer
        if self._newcomers is not None:
            self._newcomers.spoke(request.protocol)
        refusal = self._decide(request, peer)
        if refusal is not None:
            if request.method not in {"GET", "HEAD"}:
                _audit.warning("refused: %s", self._who(request, f"{request.method} {request.path}: {refusal.why}"))
            return _error(refusal.status, refusal.why)
        try:
            response = await handler(request)
        except web.HTTPException as problem:
            # aiohttp's own answers: no such path, wrong method, body too large.
            response = _error(problem.status, problem.reason)
            if "Allow" in problem.headers:
                response.headers["Allow"] = problem.headers["Allow"]
        response.headers.update(_HEADERS)
        return response

    def _decide(self, request: web.Request, peer: Peer) -> Refusal | None:
        """None if the request may go on: host, rates, rights, browsers, in this order."""
        plan = self._serving
        now = time.monotonic()
        right = Right.READ if request.method in {"GET", "HEAD"} else Right.CHANGE
        if (refusal := gate.decide_host(request.headers.get("Host"), peer, plan.names)) is not None:
            return refusal
        if not (self._reads if right is Right.READ else self._changes).take(peer.name, now):
            return Refusal(429, "too many requests")
        presented = gate.bearer(request.headers.get("Authorization"))
        if presented is not None and self._bad_tokens.left(peer.name, now) < 1:
            return Refusal(429, "too many wrong tokens")
        token = None if presented is None else gate.find_token(plan.tokens, presented)
        if presented is not None and token is None:
            self._bad_tokens.take(peer.name, now)
        if token is not None:
            request[_TOKEN] = token.name
        owners = {0, os.getuid()}
        if (refusal := gate.decide_right(peer, right, token, owners)) is not None:
            return refusal
        return gate.decide_origin(request.headers, request.scheme) if right is Right.CHANGE else None

    @property
    def _serving(self) -> _Plan:
        assert self._plan is not None, "no socket is served before the first commit"
        return self._plan

    def _who(self, request: web.Request, what: str) -> str:
        peer = request[_PEER]
        by = f"{peer.name} (pid {peer.pid})" if peer.way is Way.UNIX else peer.name
        token = f", token {request[_TOKEN]}" if _TOKEN in request else ""
        return escape(f"{by}{token}: {what}".encode("utf-8", "surrogateescape"))

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text=INDEX)

    async def _healthz(self, request: web.Request) -> web.Response:
        living = await self._reach.count_living()
        text = f"{living} of {self._reach.count} workers answer\n"
        return web.Response(text=text, status=200 if living else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        plan = self._serving
        text = metrics.render(self._regions(), plan.layout) + metrics.render_checks(
            (verdict.pool, verdict.address, verdict.up) for verdict in self._reach.verdicts
        )
        if plan.settings.config.ha is not None:
            text += await pair.scrape(plan.settings.runtime)
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _regions(self) -> Mapping[str, memoryview]:
        return regions(self._serving.settings.shared, self._most_workers)

    async def _status(self, request: web.Request) -> web.Response:
        plan = self._serving
        data = status.gather(
            plan.settings,
            plan.reverse.pools.values(),
            workers=await self._reach.status(),
            verdicts=self._reach.verdicts,
            regions=self._regions(),
            layout=plan.layout,
            state=status.read_state(plan.settings.runtime),
        )
        return web.json_response(data)

    async def _checks(self, request: web.Request) -> web.Response:
        return web.json_response({"sites": await self._serving.prober.look()})

    async def _purge(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            wanted = _decode_purge(body)
            kind, value = wanted.target
            self._check_site(wanted.site)
        except (msgspec.DecodeError, ValueError) as problem:
            return _error(400, str(problem))
        result = await self._reach.purge(kind, value, soft=not wanted.hard, dry_run=wanted.dry_run, site=wanted.site)
        how = ("dry run of " if wanted.dry_run else "") + ("hard" if wanted.hard else "soft")
        where = f" of site {wanted.site}" if wanted.site else ""
        said = f"{how} purge {result.number}, {kind} {value}{where}: {result.purged} purged"
        _audit.info("%s", self._who(request, said))
        return web.json_response(_purge_answer(wanted, kind, value, result), status=200 if result.complete else 504)

    async def _explain(self, request: web.Request) -> web.Response:
        """Each worker's own view: they share no store."""
        query = request.query
        try:
            question = _explain_question(query)
        except ValueError as problem:
            return _error(400, str(problem))
        answers = await self._reach.ask_all(question, bus.Explained)
        told = {name: answer.data for name, answer in answers.items() if isinstance(answer, bus.Explained)}
        if not told:
            return _error(503, "; ".join(sorted({str(answer) for answer in answers.values()})) or "no worker answers")
        return web.json_response({"workers": [{"name": name, **data} for name, data in told.items()]})

    async def _recent(self, request: web.Request) -> web.Response:
        """The last decisions of all workers, newest first."""
        try:
            limit = _number(request.query.get("limit", "20"))
        except ValueError as problem:
            return _error(400, str(problem))
        answers = await self._reach.ask_all(bus.Recent(limit), bus.Recently)
        rows = _rows(answers)
        rows.sort(key=lambda row: row["at"], reverse=True)
        return web.json_response({"rows": rows[:limit]})

    async def _cache(self, request: web.Request) -> web.Response:
        """What the workers store, each its own."""
        try:
            question = _list_question(request.query)
            self._check_site(question.site)
        except ValueError as problem:
            return _error(400, str(problem))
        answers = await self._reach.ask_all(question, bus.Listed, SWEEP_PATIENCE)
        listed = [answer for answer in answers.values() if isinstance(answer, bus.Listed)]
        if not listed:
            return _error(503, "; ".join(sorted({str(answer) for answer in answers.values()})) or "no worker answers")
        rows = _rows(answers)
        rows.sort(key=_RANKS[question.sort], reverse=True)
        answer = {"count": sum(one.count for one in listed), "bytes": sum(one.size for one in listed)}
        return web.json_response({**answer, "rows": rows if question.full else rows[: question.limit]})

    def _check_site(self, name: str) -> None:
        """Raises ValueError for a name that no site has."""
        sites = self._serving.reverse.sites
        if name and name not in sites:
            raise ValueError(f"no site is named {name!r}; there are: {', '.join(sites)}")

    @property
    def _reach(self) -> Workers:
        assert self._workers is not None
        return self._workers


def _service(service: AdminService) -> Service:  # interface guard: mypy checks it
    return service


# ---- pieces ----------------------------------------------------------------------------------------------------------


def bind_unix(path: Path) -> socket.socket:
    """A socket at `path`, 0660 from its first moment, of group `tandem` where we may give it that.

    What a dead process left there is replaced; the supervisor's lock on the folder rules out a living one.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        sock.bind(str(path))
    except OSError as problem:
        sock.close()
        raise OSError(f"{path}: {problem.strerror or problem}") from problem
    finally:
        os.umask(before)
    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
    sock.setblocking(False)
    return sock


def peer_of(request: web.Request) -> Peer:
    """Who asks: told by the kernel for the Unix socket, by the connection's address for TCP."""
    transport = request.transport
    if transport is None:  # gone already; whatever is answered reaches nobody
        return Peer(Way.NETWORK, "gone")
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return Peer(Way.UNIX, f"uid {uid}", uid, pid)
    address = ip_address(transport.get_extra_info("peername")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Peer(Way.LOOPBACK if address.is_loopback else Way.NETWORK, str(address))


def regions(shared: memoryview, workers: int) -> dict[str, memoryview]:
    """The counters of each process by its name, out of the memory that all share (proxy/region.py)."""
    places = {f"worker-{index}": index for index in range(workers)} | {"admin": region.ADMIN}
    return {name: metrics.view(shared[at * region.SLOTS : (at + 1) * region.SLOTS]) for name, at in places.items()}


def _read_tokens(settings: Settings, path: str) -> tuple[Token, ...]:
    with suppress(KeyError):
        return gate.parse_tokens(_content(settings, path).decode("utf-8"))
    raise ValueError(f"{path}: not read")


def _content(settings: Settings, path: str) -> bytes:
    """A file that the configuration names, whether it came as content or as a secret; KeyError if it did not come."""
    if path in settings.files:
        return settings.files[path]
    fd = settings.secrets[path]
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS for the TCP listeners; None where no certificate is configured."""
    certificates = settings.config.admin.tls
    if not certificates:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for certificate in certificates:
        with _file_of(settings, certificate.cert) as cert, _file_of(settings, certificate.key) as key:
            context.load_cert_chain(cert, key)
    return context


@contextmanager
def _file_of(settings: Settings, path: str) -> Iterator[str]:
    """A path with the content of a configured file, for libraries that only read files; in memory, never on disk."""
    data = _content(settings, path)
    fd = os.memfd_create("tandem-file", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _explain_question(query: Mapping[str, str]) -> bus.Explain:
    """What the query of /v1/explain asks. Raises ValueError with a sentence."""
    known = {"url", "method", "from", "header"}
    if unknown := sorted(set(query) - known):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are url, method, from and header")
    fields = tuple(_field(text) for text in query.getall("header", ()))  # type: ignore[attr-defined]  # a MultiDict
    method, url, client = query.get("method", "GET"), query.get("url", ""), query.get("from", "127.0.0.1")
    target.parse_url(url)
    ip_address(client)
    request_line(method.encode("latin-1", "replace"), b"/")
    return bus.Explain(url, method, fields, client)


_RANKS: Final[dict[bus.Sort, Callable[[dict[str, Any]], float]]] = {
    "size": lambda row: row["weight"],
    "hits": lambda row: row["uses"],
    "age": lambda row: row["age"],
    "ttl": lambda row: -row["ttl"],
}


def _rows(answers: Mapping[str, bus.Listed | bus.Recently | LinkError]) -> list[dict[str, Any]]:
    """The rows of all workers that answered, each with its worker's name."""
    return [
        {"worker": name, **row}
        for name, answer in answers.items()
        if not isinstance(answer, LinkError)
        for row in answer.rows
    ]


def _list_question(query: Mapping[str, str]) -> bus.List:
    """What the query of /v1/cache asks. Raises ValueError with a sentence."""
    kinds: tuple[bus.PurgeKind, ...] = ("url", "prefix", "tag", "match")
    if unknown := sorted(set(query) - {*kinds, "site", "sort", "limit", "full"}):
        raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(kinds)}, site, sort, limit and full")
    chosen = [kind for kind in kinds if query.get(kind)]
    if len(chosen) > 1:
        raise ValueError(f"give one of {', '.join(kinds)}")
    kind: bus.PurgeKind = chosen[0] if chosen else "all"
    value = query.get(kind, "")
    if kind in {"url", "prefix"}:
        target.parse_url(value)
    elif kind == "match":
        target.parse_pattern(value)
    sort = query.get("sort", "hits")
    if sort not in _RANKS:
        raise ValueError(f"sort is one of {', '.join(_RANKS)}")
    return bus.List(kind, value, query.get("site", ""), sort, _number(query.get("limit", "20")), "full" in query)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MOST_LISTED:
        raise ValueError(f"limit is a number up to {MOST_LISTED}")
    return int(text)


def _field(text: str) -> tuple[str, str]:
    """`Name: value`. Raises ValueError."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"header {text!r}: write `Name: value`")
    return name.strip(), value.strip()


def _error(code: int, why: str) -> web.Response:
    response = web.json_response({"error": why}, status=code)
    response.headers.update(_HEADERS)
    if code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if code == 429:
        response.headers["Retry-After"] = "1"
    return response


def _purge_answer(wanted: PurgeRequest, kind: str, value: str, result: PurgeResult) -> dict[str, object]:
    applied = sum(part.count is not None for part in result.applied)
    return {
        "number": result.number,
        "kind": kind,
        "value": value,
        "site": wanted.site,
        "hard": wanted.hard,
        "dry_run": wanted.dry_run,
        "purged": result.purged,
        "applied": applied,
        "workers": [{"name": part.worker, "purged": part.count, "note": part.note} for part in result.applied],
    }
