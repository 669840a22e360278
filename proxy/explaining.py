"""What would happen to a request, and why: the answer to `tandem explain`, from the very functions that decide.

The request is written as bytes and goes through the parser, the checks and the planner; then what `Pipeline.begin` and
`decide` would do is told instead of done. Nothing is fetched, counted, joined or used: eviction and pools do not
notice. A differential test holds what is told here against what the proxy then does.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, assert_never

from proxy import errors, parsers
from proxy.errors import Failure
from proxy.exchange import Client, Exchange, FixedAnswer, Route, Tunnel, Unproven
from proxy.http.checks import split_authority
from proxy.http.forwarding import without_forgeable
from proxy.http.message import SAFE
from proxy.http.serialise import UnsafeHeadError, field_bytes, request_line
from proxy.modes.client_hello import Hello
from proxy.modes.reverse import is_in
from proxy.planning import SAYING
from proxy.policy import conditional, grounds, key, parts, reuse, storing, target, validation
from proxy.policy.grounds import step
from proxy.policy.reasons import Reason
from proxy.policy.target import BadTargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from proxy import bus
    from proxy.exchange import Origin, ResponseWriter
    from proxy.http.checks import CheckedRequest
    from proxy.http.message import Line, RequestHead
    from proxy.http.stored import StoredResponse
    from proxy.pipeline import Pipeline
    from proxy.plan import Plan
    from proxy.policy.grounds import Plain
    from proxy.server.front import Door, Front
    from proxy.upstream.pool import PeerStatus

MOST_VARIANTS = 64  # told of one key


class Explainer:
    """Explains requests to one worker; asked between two turns of its loop."""

    def __init__(self, front: Front, pipeline: Pipeline) -> None:
        self._front = front
        self._spine = pipeline

    def explain(self, asked: bus.Explain, doors: Iterable[Door]) -> Plain:
        """Raises BadTargetError for what could be no request at all."""
        request = target.parse_url(asked.url, asked.method.encode("ascii", "replace"))
        client_address = _address(asked.client)
        door = self._door(request, list(doors), taken=bool(asked.to))
        there = _destination(asked.to, request) if door.mode == "transparent" else None
        told: Plain = {
            "url": asked.url,
            "method": asked.method,
            "from": client_address,
            "listener": f"{door.listen.host}:{door.listen.port}",
            "mode": door.mode,
            "steps": [],
        }
        client = Client(client_address, 0, (door.listen.host, door.listen.port), door.scheme, listener=door.index)
        if there is not None:
            client.destination = there
            told["to"] = f"[{there[0]}]:{there[1]}" if ":" in there[0] else f"{there[0]}:{there[1]}"
            if door.splices is not None:
                return told | self._taken_unread(request, door, client)
        try:
            checked = self._check(request, asked.fields, door, client)
        except Failure as failure:
            return told | _refusal(failure)
        trusted = frozenset(name for name, view in door.sites.items() if is_in(client_address, view.trusted))
        plan = self._plan(checked, client, trusted, asked.user)
        return told | self._planned(plan, client, told["steps"])

    def _door(self, request: RequestHead, doors: Sequence[Door], *, taken: bool) -> Door:
        """The listener that the address would reach: by scheme and port, else by who knows the name. Of taken
        connections the one for its scheme.
        """
        arrivals = [door for door in doors if door.mode == "transparent"]
        if taken or len(arrivals) == len(doors):
            fit = [door for door in arrivals if (door.splices is not None) == (request.scheme == b"https")]
            if fit:
                return fit[0]
            left = "leaves HTTPS alone" if arrivals else "is not there"
            raise BadTargetError(f"such a connection is not taken: [transparent] {left}")
        named = re.search(rb":([0-9]+)$", request.authority)
        port = int(named[1]) if named else 443 if request.scheme == b"https" else 80

        def rank(door: Door) -> tuple[bool, bool, bool, bool]:
            knows = self._spine.mode.site_of(request.authority, door.index) is not None
            return door.mode == "reverse" and knows, door.scheme == request.scheme, door.listen.port == port, knows

        return max((door for door in doors if door.mode != "transparent"), key=rank)

    def _taken_unread(self, request: RequestHead, door: Door, client: Client) -> Plain:
        """HTTPS on its way elsewhere: no more than the server's name is read of it."""
        assert door.splices is not None
        host = split_authority(request.authority)[0].decode("latin-1").strip("[]")
        name = "" if _is_address(host) else host  # an address is never said as a server's name (RFC 6066 §3)
        way = door.splices(Hello(name), client, self._spine.wall(self._spine.now()))
        steps = [
            step(f"the server name that it begins with says {name}" if name else "it begins without a server name")
        ]
        if isinstance(way, Failure):
            return (
                {"steps": steps} | _refusal(way) | {"says": f"closed: {way.kind.token} ({way.detail})", "status": None}
            )
        says = f"a tunnel to {way.origin.address}: bytes both ways, unread"
        return {"steps": steps, "site": way.site, "rule": way.rule} | _outcome("tunnel", says)

    def _check(
        self, request: RequestHead, fields: Sequence[tuple[str, str]], door: Door, client: Client
    ) -> CheckedRequest:
        """The request as bytes, read as if it had come from a client. Raises Failure, or BadTargetError."""
        lines: list[Line] = [(name.encode("utf-8"), value.encode("utf-8")) for name, value in fields]
        if not any(name.lower() == b"host" for name, _ in lines):
            lines.insert(0, (b"Host", request.authority))
        whole = request.scheme + b"://" + request.authority + request.target
        if request.method == b"CONNECT":
            port = b"" if split_authority(request.authority)[1] else b":443" if request.scheme == b"https" else b":80"
            form = request.authority + port
        else:
            form = whole if door.mode == "forward" and not self._is_mirrored(request, door) else request.target
        try:
            raw = request_line(request.method, form) + field_bytes(lines) + b"\r\n"
        except UnsafeHeadError as problem:
            raise BadTargetError(f"no such request can be written: {problem}") from problem
        front = self._front
        message, _ = parsers.parse_request_head(front.take_parser(), raw, front.limits)
        return door.check(raw, message, client)

    def _is_mirrored(self, request: RequestHead, door: Door) -> bool:
        """Asked of the proxy itself, by its port and a mirror's path."""
        port = b":%d" % door.listen.port
        return request.authority.endswith(port) and self._spine.mode.has_mirror(door.index, request.path)

    def _plan(self, checked: CheckedRequest, client: Client, trusted: frozenset[str], user: str) -> Plan:
        """What is remembered of trusted hops stays as it was."""
        beside = self._spine.planner.beside
        before = set(beside)
        try:
            return self._spine.plan(checked, client, trusted, user)
        finally:
            beside.intersection_update(before)

    # ---- as Pipeline.begin -------------------------------------------------------------------------------------------

    def _planned(self, plan: Plan, client: Client, steps: list[Plain]) -> Plain:
        way = plan.way
        told: Plain = {"site": plan.view.name if plan.view is not None else "", "rule": "", "trusted": plan.trusted}
        told["dropped"] = _dropped(plan)
        if plan.view is not None and not plan.trusted:
            fields = plan.checked.head.fields
            believed = set(without_forgeable(fields, plan.view.pass_fields).names())
            forged = [name.decode("latin-1") for name in fields.names() if name not in believed]
            if forged:
                steps.append(step(f"{', '.join(forged)} of a client that is not trusted is not believed, and dropped"))
        if plan.checked.head.method == b"PURGE":
            return told | self._purge(plan)
        match way:
            case Route():
                told |= {"rule": way.rule, "pool": way.pool}
                if way.mirrored is not None:
                    steps.append(step(way.mirrored.says))
                return told | self._routed(plan, way, client, steps)
            case Unproven():
                return told | self._proved(plan, way, client, steps)
            case FixedAnswer(site=site, rule=rule, head=head, body=body):
                to = head.fields.get(b"location")
                what = f"{head.status} to {grounds.text(to)}" if to is not None else f"{head.status}, {len(body)} bytes"
                says = f"the rule answers itself: {what}"
                return told | {"site": site, "rule": rule} | _outcome("answer", says, head.status)
            case Tunnel(site=site, rule=rule, origin=origin):
                says = f"a tunnel to {origin.address}: bytes both ways, unread"
                told |= {"site": site, "rule": rule}
                return told | _outcome("tunnel", says, 200, "RFC 9110 §9.3.6")
            case Failure():
                return told | _refusal(way)
            case unreachable:
                assert_never(unreachable)

    def _proved(self, plan: Plan, way: Unproven, client: Client, steps: list[Plain]) -> Plain:
        """As Pipeline._prove, but that nothing is looked up: what is known already decides, else that it is so."""
        known = self._spine.upstreams.resolver.has(way.name, way.address) if way.name else False
        if known is None:
            steps.append(
                step(
                    f"whether {way.name} has the address {way.address} would be looked up; told is what holds if it has"
                )
            )
            if plan.disproved is not None and isinstance(plan.disproved.way, Failure):
                steps.append(step(f"if it has not: {_refusal(plan.disproved.way)['says']}"))
            elif plan.disproved is not None:
                steps.append(step("if it has not: to that address and back, past the cache"))
        elif way.name:
            has = "has" if known else "has not"
            steps.append(step(f"{way.name} {has} the address {way.address}, as far as is known here"))
        branch = plan.disproved if known is False else plan.proven
        assert branch is not None
        if isinstance(branch.way, Failure):
            return _refusal(branch.way)
        assert isinstance(branch.way, Route)
        return {"rule": branch.way.rule, "pool": ""} | self._routed(branch, branch.way, client, steps)

    def _purge(self, plan: Plan) -> Plain:
        if not plan.may_purge:
            return _refusal(Failure(errors.FORBIDDEN, "PURGE from here; the site's purge_from names who may"))
        tags = target.tags_asked(plan.request)
        what = f"all with the tag {', '.join(tags)}" if tags else "the responses stored for this address"
        return _outcome("answer", f"purges {what}, on all workers, before it is answered", 200)

    def _routed(self, plan: Plan, route: Route, client: Client, steps: list[Plain]) -> Plain:
        told: Plain = {"key": _key(plan, route)}
        if plan.checked.max_forwards == 0:
            return told | _outcome("answer", "Max-Forwards has run out: it ends here", 200, "RFC 9110 §7.6.2")
        x = self._exchange(plan, client, route)
        if plan.bypass is not None:
            steps.append(grounds.step_of(plan.bypass))
            if plan.checked.head.method not in SAFE:
                steps.append(step("a 2xx or 3xx invalidates what is stored for this address", "RFC 9111 §4.4"))
            return told | self._passed(x, plan.bypass, steps)
        now = self._spine.now()
        variants = self._spine.store.peek(plan.key)
        verdict = reuse.decide(plan.request, variants, now, route.rules)
        told["variants"] = [
            grounds.describe_variant(one, now, route.rules, plan.request)
            | {"chosen": one is getattr(verdict, "stored", None)}
            for one in variants[:MOST_VARIANTS]
        ]
        steps += grounds.request_steps(plan.request, route.rules)
        return told | self._judged(x, plan, route, verdict, steps)

    def _exchange(self, plan: Plan, client: Client, route: Route) -> Exchange:
        now = self._spine.now()
        nowhere: ResponseWriter = None  # type: ignore[assignment]  # nothing is ever answered
        return Exchange(
            client, plan.request, None, nowhere, now, self._spine.wall(now), plan, route=route, key=plan.key
        )

    # ---- as Pipeline.decide ------------------------------------------------------------------------------------------

    def _judged(self, x: Exchange, plan: Plan, route: Route, verdict: reuse.Verdict, steps: list[Plain]) -> Plain:
        now, rules = self._spine.now(), route.rules
        match verdict:
            case reuse.Fresh(stored=stored):
                steps.append(grounds.step_of(Reason.FRESH))
                if rules.refresh_ahead and reuse.is_due(stored, now, rules):
                    steps.append(step("so near to its end it is renewed in the background (refresh_ahead)"))
                return self._answered(plan, stored, "hit", verdict.reason, steps)
            case reuse.StaleUsable(stored=stored, reason=reason, refresh=refresh):
                steps.append(grounds.step_of(reason))
                told = self._answered(plan, stored, "stale", reason, steps)
                return told | {"forward": self._refresh(x, stored)} if refresh else told
            case reuse.Revalidate(stored=stored, reason=reason):
                steps.append(grounds.step_of(reason))
                steps += grounds.stale_steps(stored, now, rules, plan.request)
                return self._fetched(x, plan, (stored,), reason, steps)
            case reuse.Miss(reason=reason, candidates=candidates):
                steps.append(grounds.step_of(reason))
                return self._fetched(x, plan, candidates, reason, steps)
            case reuse.Bypass(reason=reason):
                steps.append(grounds.step_of(reason))
                return self._passed(x, reason, steps)
            case reuse.OnlyIfCached(because=because):
                steps.append(grounds.step_of(because))
                steps.append(grounds.step_of(Reason.ONLY_IF_CACHED))
                return _refusal(Failure(errors.NOT_IN_CACHE, "only-if-cached"))
            case unreachable:
                assert_never(unreachable)

    def _answered(self, plan: Plan, stored: StoredResponse, outcome: str, reason: Reason, steps: list[Plain]) -> Plain:
        """From the store: in full, in part, or 304 (RFC 9110 §13, §14)."""
        answer = conditional.evaluate(plan.request, stored, boundary=b"-")
        says = "answered from the store"
        status = answer.head.status
        match answer:
            case conditional.Full():
                pass
            case conditional.NotModified():
                steps.append(step("the client has it already, by its own conditions: 304", "RFC 9111 §4.3.2"))
            case conditional.Partial(ranges=ranges):
                spans = ", ".join(f"{first}-{end - 1}" for first, end in ranges)
                steps.append(step(f"of its bytes the ranges {spans} are sent", "RFC 9110 §14.2"))
            case conditional.Unsatisfiable():
                steps.append(step("none of the ranges asked for is in it", "RFC 9110 §15.5.17"))
            case unreachable:
                assert_never(unreachable)
        return _outcome(outcome, says, status) | {"reason": reason.token}

    def _passed(self, x: Exchange, reason: Reason, steps: list[Plain]) -> Plain:
        refusal = _unreachable(x)
        if refusal is not None:
            return _refusal(refusal)
        told = _outcome("bypass", "to the origin and back, past the cache") | {"reason": reason.token}
        return told | {"forward": self._forward(x, (), None, steps)}

    def _fetched(
        self, x: Exchange, plan: Plan, stale: tuple[StoredResponse, ...], reason: Reason, steps: list[Plain]
    ) -> Plain:
        """As Pipeline._fetch: alone, or with others."""
        refusal = _unreachable(x)
        if refusal is not None:
            return _refusal(refusal)
        missed = reason in {Reason.PARTIAL, Reason.VARY_MISS, Reason.URI_MISS}
        told = _outcome("miss" if missed else "revalidate", "asks the origin")
        told["reason"] = reason.token
        fill = None
        if reason is Reason.PARTIAL:
            if storing.CONDITIONS.isdisjoint(x.request.fields.names()) and b"range" not in x.request.fields:
                fill = parts.plan_fill(stale[0])
            stale = ()
        flight = self._spine.flights.get(plan.key) if not plan.alone else None
        if x.request.method == b"GET" and flight is not None:
            steps.append(step("such a fetch is under way: this request joins it if what comes suits it", "RFC 9111 §4"))
        if self._spine.flights.is_unshareable(plan.key):
            steps.append(step("its answers proved not storable lately, so nobody waits for another's fetch"))
        assert x.route is not None
        if x.request.method == b"GET":
            now = self._spine.now()
            peeked = self._spine.store.peek(plan.key)
            steps.append(grounds.storing_step(plan.request, x.route.rules, self._spine.wall(now), peeked))
        elif stale:
            steps.append(step("the answer to HEAD updates the stored GET, or makes it stale", "RFC 9111 §4.3.5"))
            stale = ()
        return told | {"forward": self._forward(x, stale, fill, steps)}

    # ---- towards the origin ------------------------------------------------------------------------------------------

    def _forward(
        self, x: Exchange, stale: tuple[StoredResponse, ...], fill: parts.Fill | None, steps: list[Plain]
    ) -> Plain:
        lines, head = self._spine.asking(x, stale, fill)
        lines = lines if fill is None else fill.lines
        if lines:
            rfc = "RFC 9111 §4.3.1" if fill is None else "RFC 9111 §3.4"
            said = ", ".join(name.decode("latin-1") for name, _ in lines)
            saves = "a 304 saves the body" if fill is None else "a 206 brings what is missing"
            steps.append(step(f"the origin is asked with {said}: {saves}", rfc))
        return self._origins(x, head, lines)

    def _refresh(self, x: Exchange, stored: StoredResponse) -> Plain:
        asked = validation.refresh_fields(stored).lines
        lines = tuple(line for line in asked if line[0].lower() in validation.REPLACED)
        return self._origins(x, self._spine.planner.head_for(x, lines, SAYING, b"GET"), lines) | {"background": True}

    def _origins(self, x: Exchange, head: bytes | Callable[[Origin], bytes], lines: Sequence[Line]) -> Plain:
        route, now = x.route, self._spine.now()
        assert route is not None
        conditions = [[grounds.text(name), grounds.text(value)] for name, value in lines]
        likely: tuple[Origin, ...]
        status: tuple[PeerStatus, ...] = ()
        if route.origin is not None:
            likely = (route.origin,)
        else:
            pool = self._spine.pools[route.pool]
            likely = pool.likely(now, route.session, x.key)
            status = pool.status(now)
        sent = head if isinstance(head, bytes) else head(likely[0]) if likely else b""
        return {
            "conditions": conditions,
            "head": grounds.text(sent),
            "likely": [origin.address for origin in likely],
            "session": route.session,
            "origins": [
                {"address": peer.address, "standing": peer.standing.value, "why": peer.why.value, "active": peer.active}
                for peer in status
            ],
            "background": False,
        }


# ---- pieces ----------------------------------------------------------------------------------------------------------


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as problem:
        raise BadTargetError(f"{text!r} is no IP address to come from") from problem


def _unreachable(x: Exchange) -> Failure | None:
    """That nobody goes to the address which the request names; of a name it shows when it is looked up."""
    origin = x.route.origin if x.route is not None else None
    if origin is None or origin.reach is None or origin.parent is not None or not _is_address(origin.host):
        return None
    return origin.reach.refusal(origin.host, origin.port, here=False)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _destination(text: str, request: RequestHead) -> tuple[str, int]:
    """Where a taken connection was going: as said, else the address that the request itself names."""
    host, asked = split_authority(request.authority)
    own = host.decode("latin-1").strip("[]")
    port = asked[1:].decode() or ("443" if request.scheme == b"https" else "80")
    if not text:
        if not _is_address(own):
            raise BadTargetError(
                f"a taken connection goes where its client went, whatever name it gives: say --to ADDRESS for {own}"
            )
        return str(ip_address(own)), int(port)
    found = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::([0-9]{1,5}))?|([0-9.]+):([0-9]{1,5})", text)
    address = text if found is None else found[1] or found[3]
    if not _is_address(address):
        raise BadTargetError(
            f"{text!r} is no address to go to; one is 203.0.113.7, 203.0.113.7:8080 or [2001:db8::7]:80"
        )
    given = (found[2] or found[4] or port) if found is not None else port
    if not 0 < int(given) < 65536:
        raise BadTargetError(f"{given} is no port")
    return str(ip_address(address)), int(given)


def _outcome(outcome: str, says: str, status: int | None = None, rfc: str = "") -> Plain:
    return {"outcome": outcome, "says": says, "status": status, "rfc": rfc}


def _refusal(failure: Failure) -> Plain:
    kind = failure.kind
    says = f"refused with {kind.status}: {kind.token}" + (f" ({failure.detail})" if failure.detail else "")
    return _outcome("refused", says, kind.status) | {"error": kind.token, "proxy_error": kind.proxy_error}


def _dropped(plan: Plan) -> list[str]:
    """Fields of the client's request that the cache does not see, and the origin does not get."""
    seen = set(plan.request.fields.names())
    return [name.decode("latin-1") for name in plan.checked.head.fields.names() if name not in seen]


def _key(plan: Plan, route: Route) -> Plain:
    """The key, what of the request's target is not in it, and what else is."""
    bare, *more = plan.key.split(b"\n")
    spelled = key.uri_key(plan.request.scheme, plan.request.authority, plan.request.path, plan.request.query)
    return {
        "text": grounds.text(plan.key),
        "address": grounds.text(key.url_of(plan.key)),
        "space": grounds.text(route.rules.space.strip()),
        "as_asked": grounds.text(spelled),
        "left_out": [grounds.text(part) for part in _left_out(spelled, key.url_of(bare))],
        "joined": [grounds.text(line) for line in more],
        "sorted": route.rules.query is not None and route.rules.query.sort,
    }


def _left_out(asked: bytes, kept: bytes) -> list[bytes]:
    """Arguments and path parameters that the key lacks."""
    path, _, query = asked.partition(b"?")
    kept_path, _, kept_query = kept.partition(b"?")
    have = kept_query.split(b"&") + kept_path.split(b";")[1:]
    out = [part for part in query.split(b"&") if part and part not in have]
    return out + [b";" + part for part in path.split(b";")[1:] if part not in kept_path.split(b";")[1:]]
