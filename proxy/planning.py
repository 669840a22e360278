"""What is known of a request before any response: where it goes, under which rules, with which key, and its head for
an origin.

Pure but for the configuration, so that plans can be kept (cache/memo.py). Nothing is looked up or fetched here.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Exchange, Route, Tunnel, Unproven
from proxy.http.forwarding import (
    ForwardOptions,
    forward_request,
    make_hop,
    readdress,
    refuse_loop,
    told_beside,
    told_part,
    without_forgeable,
)
from proxy.http.message import RequestHead
from proxy.modes.reverse import is_in
from proxy.plan import Plan
from proxy.policy import bypass, cookies, device, key, reuse, storing
from proxy.policy.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.exchange import Client, Origin
    from proxy.http.checks import CheckedRequest
    from proxy.http.message import Fields, Line
    from proxy.modes.reverse import SiteView
    from proxy.pipeline import Pipeline
    from proxy.policy.rules import CacheRules


log = logging.getLogger("tandem")

SAYING = storing.UNUSUAL | {b"cache-control", b"pragma"}  # a request without these leaves all to the stored response


BESIDE_MAX = 64  # different words of trusted hops that keys hold apart; what comes after is not cached


def _named(way: Route | Tunnel) -> str:
    return way.origin.address if way.origin is not None else way.site


class Planner:
    """Makes plans under one configuration."""

    def __init__(self, spine: Pipeline) -> None:
        self._spine = spine
        self._now = spine.now
        self._options: dict[str, ForwardOptions] = {}
        self.beside: set[bytes] = set()  # what trusted hops have added to keys: whoever purges a URL looks there too

    def configure(self, sites: Iterable[SiteView]) -> None:
        """Plans of an earlier configuration are void."""
        self._options = {view.name: self._forward_options(view, None) for view in sites}

    def _forward_options(self, view: SiteView, host: bytes | None, parent: bytes | None = None) -> ForwardOptions:
        return ForwardOptions(
            via=self._spine.via,
            host=host,
            passing=view.pass_fields,
            upgrades=view.upgrade,
            identify=view.identify,
            parent=parent,
        )

    def plan(self, checked: CheckedRequest, client: Client, trusted: frozenset[str], user: str = "") -> Plan:
        """Where equal requests of equal clients go; pure but for the configuration, and for who is remembered.

        `user` has just proved to be it.
        """
        head = checked.head
        view = self._spine.mode.site_of(head.authority, client.listener)
        believed = view is not None and view.name in trusted
        request = head
        if not believed:
            passing = view.pass_fields if view is not None else frozenset[bytes]()
            request = readdress(head, without_forgeable(head.fields, passing))
        if view is not None and view.challenge and not user:
            if not head.scheme and self._spine.mode.has_mirror(client.listener, head.path):
                # Here the proxy is the origin (RFC 9110 §11.6.2).
                checked = checked._replace(credentials=head.fields.get(b"authorization"))
            user = self._remembered(checked.credentials)
        way = self._spine.mode.route(request, client, user, self._spine.wall(self._now()))
        plan = Plan(checked, request, way, view, believed)
        plan.user = user
        if isinstance(way, Route | Tunnel):
            plan.bandwidth = way.bandwidth
        if isinstance(way, Route | Tunnel) and way.reports:
            log.info("report: %s would deny %s to %s", ", ".join(way.reports), _named(way), user or client.address)
        if believed:
            told = head.fields.get(b"x-forwarded-proto")
            plan.public_scheme = told.lower() if told in {b"http", b"https"} else None
        plan.may_purge = view is not None and is_in(client.address, view.purge_from)
        if view is not None and b"tandem-explain" in head.fields:
            plan.asks_key = True
            plan.tells_key = is_in(client.address, view.explain_from)
        if view is not None:
            refusal = self._refusal(checked, view)
            if refusal is not None:
                plan.way = refusal
        try:
            refuse_loop(head.fields, self._spine.via)
        except Failure as failure:
            plan.way = failure
        if isinstance(plan.way, Route) and view is not None:
            self._plan_route(plan, plan.way, view, client)
        elif isinstance(plan.way, Unproven) and view is not None:
            plan.proven = self._branch(plan, plan.way.proven, view, client)
            plan.disproved = self._branch(plan, plan.way.disproved, view, client)
            plan.disproved.bypass = plan.disproved.bypass or Reason.NAME_UNPROVEN
        return plan

    def _branch(self, plan: Plan, way: Route | Failure, view: SiteView, client: Client) -> Plan:
        """The same request, sent that way."""
        branch = replace(plan, way=way, templates={}, relayed={})
        if isinstance(way, Route):
            self._plan_route(branch, way, view, client)
        return branch

    def _remembered(self, credentials: bytes | None) -> str:
        """Who these have proved to be before; empty: they have to be proved."""
        logins = self._spine.logins
        if credentials is None or logins is None:
            return ""
        known = logins.recall(credentials, self._now())
        return known.user if known is not None else ""

    @staticmethod
    def _refusal(checked: CheckedRequest, view: SiteView) -> Failure | None:
        """What the site itself does not take, though its listener would."""
        if checked.head.method == b"TRACE" and not view.allow_trace:
            return Failure(errors.NO_METHOD, "TRACE")
        if view.max_body and checked.content_length is not None and checked.content_length > view.max_body:
            return Failure(errors.BODY_TOO_LARGE, f"{checked.content_length} bytes announced, {view.max_body} allowed")
        return None

    def _plan_route(self, plan: Plan, route: Route, view: SiteView, client: Client) -> None:
        mirrored = route.mirrored
        if mirrored is not None:
            plan.request = mirrored.request
            plan.sent = plan.checked._replace(head=mirrored.sent)
        passes = _passes_by_rule(plan, route, client)
        if route.rules.tailors and not passes:
            _tailor(plan, route.rules)
        checked, request = plan.checked, plan.request
        if checked.upgrade is not None and checked.upgrade in view.upgrade:
            plan.upgrade = checked.upgrade
            plan.bypass = Reason.UPGRADE
        elif checked.expect_continue:
            plan.bypass = Reason.EXPECT
        else:
            outside = reuse.before_lookup(request, checked.has_body, route.rules)
            plan.bypass = outside.reason if outside is not None else Reason.CONFIGURED_BYPASS if passes else None
        plan.key = key.primary_key(request, route.rules)
        if plan.trusted:
            self._widen_key(plan, told_beside(request))
        plan.bound = (request.fields.get(b"authorization") or b"").lower().startswith((b"negotiate", b"ntlm"))
        plan.alone = bool(key.session_ids(request, route.rules))
        plan.plain = request.method == b"GET" and plan.bypass is None and SAYING.isdisjoint(request.fields.names())

    def _widen_key(self, plan: Plan, told: bytes) -> None:
        """What a hop passes on of its clients' inventions must not fill the cache, nor the list of what to purge."""
        if not told or told in self.beside:
            plan.key += told
        elif len(self.beside) < BESIDE_MAX:
            self.beside.add(told)
            plan.key += told
        elif plan.bypass is None:
            plan.bypass = Reason.TOLD_BY_HOP

    def remember_endings(self, endings: Iterable[bytes]) -> None:
        """Of the keys that an earlier life has stored: what trusted hops had told is looked for by purges of this one
        too.
        """
        for ending in endings:
            told = told_part(ending)
            if told and len(self.beside) < BESIDE_MAX:
                self.beside.add(told)

    def head_for(
        self,
        x: Exchange,
        replace: tuple[Line, ...] = (),
        drop: frozenset[bytes] = frozenset(),
        method: bytes | None = None,
    ) -> bytes | Callable[[Origin], bytes]:
        """The request head for whichever origin is chosen; at once where it is known."""
        plan = x.plan
        assert plan is not None
        view = plan.view
        assert view is not None
        client = x.client
        plain = not replace and not drop
        if plain and client.said is not None and client.said[0] is plan and not view.rewrite_host:
            return client.said[1]
        if client.hop is None:
            client.hop = make_hop(client.address, client.scheme)
        hop = client.hop

        def head(origin: Origin) -> bytes:
            parent = origin.parent
            host = origin.address.encode() if view.rewrite_host or parent is not None else None
            template = plan.templates.get(host) if plain else None
            if template is None:
                if parent is not None:
                    options = self._forward_options(view, None, parent)
                else:
                    options = self._options[view.name] if host is None else self._forward_options(view, host)
                checked = plan.sent or plan.checked
                template = forward_request(
                    checked, options, trusted=plan.trusted, replace=replace, drop=drop, method=method
                )
                if plain:
                    plan.templates[host] = template
            whole = template.head(hop)
            if plain and parent is None:
                client.said = (plan, whole)
            return whole

        return head


def _passes_by_rule(plan: Plan, route: Route, client: Client) -> bool:
    """The rule leaves this request out of the cache. Seen as the client sent it."""
    plan.of_client = bool(route.past_cache)
    conditions = route.rules.bypass
    return is_in(client.address, route.past_cache) or (
        conditions is not None and bypass.asks_to_pass(plan.request, conditions)
    )


def _tailor(plan: Plan, rules: CacheRules) -> None:
    """What the cache sees, and what is sent, less what the rule leaves out: what is keyed is what is sent."""
    plan.request = readdress(plan.request, _fields_under(plan.request.fields, rules))
    head = plan.checked.head
    query = head.query
    if rules.query is not None and query is not None and head.method in {b"GET", b"HEAD"}:
        query = key.normal_query(query, rules.query)
    fields = _fields_under(head.fields, rules)
    sent = RequestHead(head.method, head.scheme, head.authority, head.path, query, head.version, fields)
    plan.sent = plan.checked._replace(head=sent)


def _fields_under(fields: Fields, rules: CacheRules) -> Fields:
    fields = cookies.counting(fields, rules)
    if rules.device:
        told = (device.FIELD, device.device_class(fields.get(b"user-agent")))
        fields = fields.without((device.FIELD.lower(),)).plus(told)
    return fields
