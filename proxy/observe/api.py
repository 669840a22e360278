"""The admin API: what is answered over `admin.sock` and TCP. Every change leaves a line in the audit log.

Who may do what is decided in gate.py, what is asked is read in questions.py, the workers are reached through reach.py,
what status says is put together in status.py. Invariant: nothing is changed for a peer without the right to.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from proxy import bus, region
from proxy.link import LinkError
from proxy.observe import gate, metrics, pair, status
from proxy.observe.accesslog import escape
from proxy.observe.entrance import peer_of
from proxy.observe.gate import Peer, Refusal, Right, Token, Way
from proxy.observe.questions import RANKS, PurgeRequest, decode_purge, explain_question, list_question, parse_limit
from proxy.observe.reach import SWEEP_PATIENCE, PurgeResult, Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from proxy.modes.reverse import Reverse
    from proxy.observe.newcomers import Newcomers
    from proxy.service import Settings
    from proxy.upstream.prober import Prober

MAX_BODY: Final = 64 * 2**10
READS: Final = (100.0, 200.0)  # requests of one peer: a second, at once
CHANGES: Final = (50.0, 100.0)
BAD_TOKENS: Final = (0.1, 5.0)

INDEX: Final = """\
Tandem admin
GET  /healthz    200 while a worker answers, else 503
GET  /metrics    Prometheus text
GET  /v1/status  processes, sites, cache and workers as JSON
GET  /v1/checks  of each site with health checks, whether an origin is good, by checks made now
GET  /v1/explain what would happen to a request: ?url=http://…, method=, from=, to=, user=, header=Name:value
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
_PEER: Final = web.RequestKey("peer", Peer)
_TOKEN: Final = web.RequestKey("token", str)  # its name, never itself


@dataclass(frozen=True, slots=True)
class Served:
    """What is committed."""

    settings: Settings
    layout: metrics.Layout
    reverse: Reverse
    prober: Prober
    tokens: tuple[Token, ...]
    names: frozenset[str]  # under which a browser may come
    workers: Workers
    most_workers: int  # since the start: counters of workers that are gone still count


class Api:
    """See the module."""

    def __init__(self) -> None:
        self.served: Served | None = None
        self.newcomers: Newcomers | None = None
        self._reads = gate.Rates(*READS)
        self._changes = gate.Rates(*CHANGES)
        self._bad_tokens = gate.Rates(*BAD_TOKENS)

    def application(self) -> web.Application:
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
        if self.newcomers is not None:
            self.newcomers.spoke(request.protocol)
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
    def _serving(self) -> Served:
        assert self.served is not None, "no socket is served before the first commit"
        return self.served

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
        return regions(self._serving.settings.shared, self._serving.most_workers)

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
            wanted = decode_purge(body)
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
            question = explain_question(query)
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
            limit = parse_limit(request.query.get("limit", "20"))
        except ValueError as problem:
            return _error(400, str(problem))
        answers = await self._reach.ask_all(bus.Recent(limit), bus.Recently)
        rows = _rows(answers)
        rows.sort(key=lambda row: row["at"], reverse=True)
        return web.json_response({"rows": rows[:limit]})

    async def _cache(self, request: web.Request) -> web.Response:
        """What the workers store, each its own."""
        try:
            question = list_question(request.query)
            self._check_site(question.site)
        except ValueError as problem:
            return _error(400, str(problem))
        answers = await self._reach.ask_all(question, bus.Listed, SWEEP_PATIENCE)
        listed = [answer for answer in answers.values() if isinstance(answer, bus.Listed)]
        if not listed:
            return _error(503, "; ".join(sorted({str(answer) for answer in answers.values()})) or "no worker answers")
        rows = _rows(answers)
        rows.sort(key=RANKS[question.sort], reverse=True)
        answer = {"count": sum(one.count for one in listed), "bytes": sum(one.size for one in listed)}
        return web.json_response({**answer, "rows": rows if question.full else rows[: question.limit]})

    def _check_site(self, name: str) -> None:
        """Raises ValueError for a name that no site has."""
        sites = self._serving.reverse.sites
        if name and name not in sites:
            raise ValueError(f"no site is named {name!r}; there are: {', '.join(sites)}")

    @property
    def _reach(self) -> Workers:
        return self._serving.workers


def regions(shared: memoryview, workers: int) -> dict[str, memoryview]:
    """The counters of each process by its name, out of the memory that all share (proxy/region.py)."""
    places = {f"worker-{index}": index for index in range(workers)} | {"admin": region.ADMIN}
    return {name: metrics.view(shared[at * region.SLOTS : (at + 1) * region.SLOTS]) for name, at in places.items()}


def _rows(answers: Mapping[str, bus.Listed | bus.Recently | LinkError]) -> list[dict[str, Any]]:
    """The rows of all workers that answered, each with its worker's name."""
    return [
        {"worker": name, **row}
        for name, answer in answers.items()
        if not isinstance(answer, LinkError)
        for row in answer.rows
    ]


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
