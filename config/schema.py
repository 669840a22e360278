"""Every option of the configuration file, once: name, type, default, unit and one sentence.

The loader, the reference page, the JSON Schema, `tandem init` and `config/default.toml` are made from these classes. A
class is one table of the file; a field without default must be written. Where a list is wanted, one value alone will
do. `kind` names the check of a text (config/kinds.py) and marks the files to be read. What a value *means* is decided
elsewhere.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from config.units import Destination, Duration, Hours, Listen, Ports, Rate, Size

Network = IPv4Network | IPv6Network
TRANSPARENT = "transparent"  # the same of transparent mode
FORWARD = "forward"  # the name of forward mode beside those of sites, in metrics and logs


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every table: frozen, so that one Config can be shared by all that runs under it."""

    shorthand: ClassVar[str] = ""  # the field that a text in place of the table stands for


def about(text: str, *, kind: str = "", ge: int | None = None, le: int | None = None, positive: bool = False) -> Meta:
    """The one sentence about an option, with its bounds; `positive` is for durations and sizes where 0 has no sense."""
    return Meta(description=text, ge=ge, le=le, extra={"kind": kind, "positive": positive})


# ---- sites -----------------------------------------------------------------------------------------------------------


class Certificate(Table, frozen=True, kw_only=True):
    cert: Annotated[str, about("PEM file with the certificate and its chain.", kind="file")]
    key: Annotated[str, about("PEM file with the private key, not accessible to others.", kind="secret")]


class Upstream(Table, frozen=True, kw_only=True):
    shorthand: ClassVar[str] = "address"

    address: Annotated[
        str, about("host:port of the origin, or https://host[:port] for TLS towards it.", kind="address")
    ]
    route: Annotated[
        str, about("Tomcat's jvmRoute of this origin; sessions whose id ends in it stay here.", kind="route")
    ] = ""
    weight: Annotated[int, about("Share of the requests, relative to the others.", ge=1, le=1000)] = 1
    max_connections: Annotated[
        int, about("Connections kept to this origin at once; 0: no bound.", ge=0, le=1_000_000)
    ] = 0


class Health(Table, frozen=True, kw_only=True):
    path: Annotated[str, about("Path asked for by the active check.", kind="target")] = "/"
    every: Annotated[Duration, about("Time between two checks of one origin.", positive=True)] = Duration(2.0)
    timeout: Annotated[Duration, about("Time for one check, connect to last byte.", positive=True)] = Duration(2.0)
    rise: Annotated[int, about("Good checks in a row before a failed origin is used again.", ge=1, le=1000)] = 2
    fall: Annotated[int, about("Bad checks in a row before an origin is left out.", ge=1, le=1000)] = 2
    status: Annotated[str, about("Statuses that count as good: codes and ranges, `200-399, 404`.", kind="statuses")] = (
        "200-399"
    )


class Ejection(Table, frozen=True, kw_only=True):
    failures: Annotated[
        int, about("Failures in a row that put an origin aside; 0 switches ejection off.", ge=0, le=1_000_000)
    ] = 3
    time: Annotated[
        Duration,
        about("How long it stays aside the first time; doubled at each repetition, up to 8 times.", positive=True),
    ] = Duration(10.0)
    slow_start: Annotated[Duration, about("Time over which a returning origin's share grows back to its weight.")] = (
        Duration(10.0)
    )


class UpstreamTls(Table, frozen=True, kw_only=True):
    verify: Annotated[bool, about("Check the origin's certificate and name.")] = True
    ca: Annotated[str, about("PEM file of authorities to trust instead of the system's.", kind="file")] = ""
    name: Annotated[
        str,
        about("Name expected in the certificate and sent as SNI, instead of the address's host.", kind="host"),
    ] = ""


class Timeouts(Table, frozen=True, kw_only=True):
    connect: Annotated[Duration, about("Connecting to an origin, TLS included.", positive=True)] = Duration(5.0)
    first_byte: Annotated[Duration, about("From the request sent to the response head.", positive=True)] = Duration(
        60.0
    )
    idle: Annotated[
        Duration, about("Between two pieces of a response body, or of an upgraded connection.", positive=True)
    ] = Duration(60.0)
    whole: Annotated[Duration, about("From the request to the last byte of the response; 0: no bound.")] = Duration(0.0)


class Site(Table, frozen=True, kw_only=True):
    listen: Annotated[tuple[Listen, ...], about("Addresses to listen on: `:80`, `127.0.0.1:8080`, `[::1]:80`.")]
    name: Annotated[
        str, about("Name in logs, metrics and rules; the first host or `site-N` if not given.", kind="name")
    ] = ""
    hosts: Annotated[
        tuple[str, ...],
        about("Host names served, `*.example.org` for all below; none: every name.", kind="hosts"),
    ] = ()
    tls: Annotated[
        tuple[Certificate, ...],
        about("Certificates, chosen by the name that the client asks for; port 443 needs one."),
    ] = ()
    tls_ports: Annotated[
        tuple[Annotated[int, about("Port.", ge=1, le=65535)], ...],
        about("Ports of `listen` that speak TLS; none given: all but 80, if there is a certificate."),
    ] = ()
    upstream: Annotated[
        tuple[Upstream, ...], about("Origins: addresses, or tables with route, weight, max_connections.")
    ] = ()
    upstream_tls: Annotated[UpstreamTls, about("TLS towards origins given as https://.")] = field(
        default_factory=UpstreamTls
    )
    preset: Annotated[Literal["none", "tomcat"], about("Set of settings for a kind of origin.")] = "none"
    balance: Annotated[
        Literal["round-robin", "least-requests", "consistent-hash"],
        about("How an origin is chosen for a request without session."),
    ] = "round-robin"
    health: Annotated[Health | None, about("Active checks; without it only failures seen in traffic count.")] = None
    eject: Annotated[Ejection, about("Leaving out an origin after failures seen in traffic.")] = field(
        default_factory=Ejection
    )
    timeouts: Annotated[Timeouts, about("Patience with the origins.")] = field(default_factory=Timeouts)
    retry: Annotated[
        bool,
        about("Repeat, once, what may be repeated: a failed connect, or a safe request unanswered and without body."),
    ] = True
    host: Annotated[
        Literal["keep", "rewrite"], about("Host towards the origin: the client's, or the origin's own address.")
    ] = "keep"
    rewrite_redirects: Annotated[
        bool, about("Turn the origin's own address in Location and cookie domains into the site's.")
    ] = True
    trusted: Annotated[
        tuple[Network, ...],
        about("Hops in front of this proxy whose Forwarded and X-Forwarded-* are believed."),
    ] = ()
    pass_fields: Annotated[
        tuple[str, ...],
        about("Request fields of the dropped kinds that may pass; they become part of the key.", kind="token"),
    ] = ()
    purge_from: Annotated[tuple[Network, ...], about("Networks whose clients may send PURGE.")] = ()
    explain_from: Annotated[
        tuple[Network, ...],
        about("Networks whose clients are told the key in Cache-Status if they send `Tandem-Explain: key`."),
    ] = ()
    upgrade: Annotated[tuple[str, ...], about("Protocols a client may upgrade to.", kind="token")] = ("websocket",)
    max_body: Annotated[Size, about("Largest request body; 0: no bound, it is streamed.")] = Size(0)
    encode_target: Annotated[
        bool, about('Percent-encode `"<>^{|}`, backtick and backslash in targets instead of refusing them.')
    ] = False
    allow_trace: Annotated[bool, about("Forward TRACE instead of answering 405.")] = False
    session_cookies: Annotated[
        tuple[str, ...],
        about("Cookies that make a response personal, `*` once: never stored with them.", kind="pattern"),
    ] = (
        "JSESSIONID",
        "JSESSIONIDSSO",
        "PHPSESSID",
        "ASP.NET_SessionId",
        "connect.sid",
        "sid",
        "session",
        "sessionid",
    )
    session_arguments: Annotated[
        tuple[str, ...], about("Path parameters and query arguments that carry a session id.", kind="token")
    ] = ("jsessionid",)
    set_cookie: Annotated[
        Literal["store", "strip", "skip"],
        about("Other Set-Cookie in storable responses: replay it, leave it out, or do not store."),
    ] = "store"
    targeted: Annotated[
        tuple[str, ...],
        about(
            "Fields that replace Cache-Control and Expires here (RFC 9213); the first valid one counts.", kind="token"
        ),
    ] = ("Tandem-Cache-Control", "CDN-Cache-Control")
    surrogate: Annotated[
        bool, about("Hear Surrogate-Control, after the targeted fields, and leave it out towards clients.")
    ] = False
    hide_fields: Annotated[
        tuple[str, ...],
        about(
            "Response fields that clients do not get; they count all the same: `Tandem-Cache-Control`.", kind="token"
        ),
    ] = ()
    honour_request: Annotated[bool, about("Obey the client's Cache-Control (no-cache, max-age, …).")] = True
    stale_on_error: Annotated[
        Duration, about("How long past freshness a response may answer for a failing origin.")
    ] = Duration(86400.0)
    error_pages: Annotated[
        dict[Annotated[str, about("Status.", kind="error status")], Annotated[str, about("File.", kind="file")]],
        about('Files by status: `{ 503 = "down.html" }`.'),
    ] = field(default_factory=dict)

    def speaks_tls(self, listen: Listen) -> bool:
        """One address speaks either TLS or not, whatever site is asked for: config/checks.py sees to it."""
        return bool(self.tls) and (listen.port in self.tls_ports if self.tls_ports else listen.port != 80)


# ---- rules -----------------------------------------------------------------------------------------------------------


class Match(Table, frozen=True, kw_only=True):
    site: Annotated[str, about("Name of the site.")] = ""
    path: Annotated[
        tuple[str, ...], about("Path patterns, `*` for any characters: `/static/*`, `*.css`.", kind="path")
    ] = ()
    host: Annotated[tuple[str, ...], about("Host names, `*.example.org` for all below.", kind="hosts")] = ()
    method: Annotated[tuple[str, ...], about("Request methods.", kind="method")] = ()
    mode: Annotated[Literal["reverse", "forward", "transparent"], about("The mode that the rule is for.")] = "reverse"
    client: Annotated[tuple[Network, ...], about("Networks of clients.")] = ()
    user: Annotated[tuple[str, ...], about("Users who have logged in.", kind="user")] = ()
    group: Annotated[tuple[str, ...], about("Groups of such users.", kind="name")] = ()
    domain: Annotated[
        tuple[str, ...],
        about("Destinations by name, with all below: `example.org`; `list:NAME` for one of [lists].", kind="domain"),
    ] = ()
    destination: Annotated[
        tuple[Network, ...], about("Networks of the addresses that would really be connected to.")
    ] = ()
    port: Annotated[tuple[Ports, ...], about("Ports of destinations: `443`, `1024-65535`.")] = ()
    time: Annotated[
        tuple[Hours, ...], about("Parts of the week, in the node's local time: `mon-fri 08:00-15:30`.")
    ] = ()


class Redirect(Table, frozen=True, kw_only=True):
    shorthand: ClassVar[str] = "to"

    to: Annotated[
        str,
        about(
            "Target; `{scheme}`, `{host}`, `{path}`, `{query}` are replaced by the request's.", kind="redirect target"
        ),
    ]
    status: Annotated[Literal[301, 302, 303, 307, 308], about("Status of the redirect.")] = 302


class Answer(Table, frozen=True, kw_only=True):
    status: Annotated[int, about("Status.", ge=200, le=599)] = 200
    body: Annotated[str, about("Text to send.")] = ""
    file: Annotated[str, about("File to send instead of a text, read at start and reload.", kind="file")] = ""
    type: Annotated[str, about("Content-Type.", kind="field value")] = "text/plain; charset=utf-8"


class Query(Table, frozen=True, kw_only=True):
    sort: Annotated[bool, about("Arguments by name, those of one name as they came; sent so, too.")] = False
    drop: Annotated[
        tuple[str, ...],
        about(
            "Arguments left out of the key and of what is sent; one `*` for any characters: `utm_*`.", kind="pattern"
        ),
    ] = ()
    keep: Annotated[
        tuple[str, ...], about("The only arguments that stay in the key and in what is sent.", kind="pattern")
    ] = ()


class Key(Table, frozen=True, kw_only=True):
    header: Annotated[
        tuple[str, ...], about("Request fields whose values tell responses apart, Vary or not.", kind="token")
    ] = ()
    cookie: Annotated[
        tuple[str, ...],
        about("Cookies whose values do; a request with no others is not taken for a personal one.", kind="token"),
    ] = ()
    device: Annotated[
        bool, about("Tell `desktop`, `mobile`, `tablet`, `bot` apart; the origin is told by X-Device-Class.")
    ] = False


class Bypass(Table, frozen=True, kw_only=True):
    cookie: Annotated[tuple[str, ...], about("Cookies one of which is there.", kind="pattern")] = ()
    header: Annotated[
        tuple[str, ...], about("Fields one of which is there, or has a value: `X-Preview`, `X-Debug: 1`.", kind="field")
    ] = ()
    query: Annotated[
        tuple[str, ...],
        about("Arguments one of which is there, or has a value: `preview`, `mode=edit`.", kind="pattern"),
    ] = ()
    clients: Annotated[tuple[Network, ...], about("Networks of the clients, by the address they connect from.")] = ()


class Rule(Table, frozen=True, kw_only=True):
    name: Annotated[str, about("Name in explain, logs and faults.", kind="name")]
    match: Annotated[Match, about("What the rule applies to; the first rule that matches is the only one.")] = field(
        default_factory=Match
    )
    cache: Annotated[bool, about("Whether answers may be stored and reused at all.")] = True
    bypass: Annotated[
        Bypass | None, about("Requests that go past the cache as they came: neither answered from it nor stored.")
    ] = None
    ttl: Annotated[Duration | None, about("Freshness lifetime where the origin gives none.")] = None
    status_ttl: Annotated[
        dict[Annotated[str, about("Status.", kind="final status")], Duration],
        about('The same by status, for errors too (negative caching): `{ 404 = "10s", 503 = "2s" }`.'),
    ] = field(default_factory=dict)
    min_ttl: Annotated[
        Duration | None,
        about(
            "Least lifetime where the origin gives a shorter one and does not insist (no-cache, must-revalidate, …)."
        ),
    ] = None
    max_ttl: Annotated[Duration | None, about("Greatest lifetime, whoever gives it.")] = None
    grace: Annotated[
        Duration,
        about("Time past freshness in which what is stored answers while one fetch renews it, if the origin allows."),
    ] = Duration(0.0)
    stale_on_error: Annotated[Duration | None, about("The site's `stale_on_error`, for this rule.")] = None
    refresh_ahead: Annotated[
        Duration,
        about("Time before the end of freshness in which a hit renews it in the background; 0: never."),
    ] = Duration(0.0)
    hit_for_miss: Annotated[
        Duration, about("How long requests whose answer was not storable do not wait for one another.")
    ] = Duration(120.0)
    honour_request: Annotated[bool | None, about("The site's `honour_request`, for this rule.")] = None
    ignore_reload: Annotated[
        bool, about("A fresh `immutable` response answers the client's reload (no-cache, max-age=0) too.")
    ] = False
    cookies: Annotated[
        Literal["obey", "ignore"], about("`ignore`: Cookie does not travel, Set-Cookie is left out.")
    ] = "obey"
    drop_cookies: Annotated[
        tuple[str, ...], about("Cookies that do not travel and do not count: `_ga*`, `_gid`.", kind="pattern")
    ] = ()
    keep_cookies: Annotated[tuple[str, ...], about("The only cookies that travel and count.", kind="pattern")] = ()
    set_cookie: Annotated[
        Literal["store", "strip", "skip"] | None, about("The site's `set_cookie`, for this rule.")
    ] = None
    query: Annotated[Query | None, about("One spelling for queries that mean the same.")] = None
    key: Annotated[Key | None, about("What else tells responses apart, beside the URL and what Vary names.")] = None
    upstream: Annotated[tuple[Upstream, ...], about("Origins for these requests instead of the site's.")] = ()
    redirect: Annotated[Redirect | None, about("Answer with a redirect.")] = None
    answer: Annotated[Answer | None, about("Answer with a fixed text or file.")] = None
    action: Annotated[
        Literal["none", "allow", "deny", "report"],
        about("Who may what (forward, transparent): `report` only logs that the rule would have denied, and goes on."),
    ] = "none"
    login: Annotated[
        bool, about("With `allow`, where users log in: whether one must have; false lets devices in that cannot.")
    ] = True
    bandwidth: Annotated[
        str, about("With `allow`: the class of [bandwidth] whose rate these connections share.", kind="name")
    ] = ""


class Bandwidth(Table, frozen=True, kw_only=True):
    shorthand: ClassVar[str] = "rate"

    rate: Annotated[
        Rate,
        about("What all connections of the class get together; what they send is free.", positive=True),
    ]


class NameList(Table, frozen=True, kw_only=True):
    shorthand: ClassVar[str] = "file"

    file: Annotated[
        str, about("Names of hosts, one a line, or a hosts file; all below them is meant too.", kind="list")
    ]
    refresh: Annotated[Duration, about("Time between two looks whether the file has changed; 0: at a reload only.")] = (
        Duration(0.0)
    )


# ---- forward mode ----------------------------------------------------------------------------------------------------


class Parent(Table, frozen=True, kw_only=True):
    shorthand: ClassVar[str] = "address"

    address: Annotated[str, about("host:port of the proxy to ask.", kind="address")]
    login: Annotated[
        str, about("File with one line, `user:password`, that this parent wants to be told.", kind="secret")
    ] = ""


class Pac(Table, frozen=True, kw_only=True):
    proxy: Annotated[
        tuple[str, ...],
        about(
            "host:port of the proxies that browsers try in turn; none: the virtual addresses, or the address asked.",
            kind="proxy",
        ),
    ] = ()
    direct: Annotated[
        tuple[str, ...], about("Names that browsers reach without the proxy, with all below.", kind="domain")
    ] = ()
    last_resort: Annotated[bool, about("Browsers go directly where no proxy answers.")] = False


class Mirror(Table, frozen=True, kw_only=True):
    kind: Annotated[Literal["deb", "pypi", "npm", "maven"], about("What it holds; this says what stays for ever.")]
    path: Annotated[str, about("Where clients find it on the addresses of `listen`: `/pypi/`.", kind="mirror path")]
    origin: Annotated[
        str, about("What is mirrored: `https://host[:port]/path/`, or http://, on any address.", kind="place")
    ]
    files: Annotated[
        tuple[str, ...],
        about(
            "Further places that its indexes and redirects lead to, mirrored with it; others are left alone.",
            kind="place",
        ),
    ] = ()
    tls: Annotated[UpstreamTls, about("TLS towards `origin` and `files`.")] = field(default_factory=UpstreamTls)
    token: Annotated[
        str, about("File with one line, the Authorization that `origin` wants: `Bearer …`.", kind="secret")
    ] = ""
    index: Annotated[
        Duration, about("How long an index answers before the origin is asked again (deb, maven: asked each time).")
    ] = Duration(60.0)
    stale_on_error: Annotated[
        Duration, about("How long past that an index answers while the origin cannot be reached or fails.")
    ] = Duration(7 * 86400.0)


class Forward(Table, frozen=True, kw_only=True):
    listen: Annotated[
        tuple[Listen, ...], about("Addresses at which clients find the proxy: `:3128`, `192.168.8.4:3128`.")
    ]
    clients: Annotated[
        tuple[Network, ...], about("Networks of the clients that are served; nobody else is, and none means nobody.")
    ] = ()
    users: Annotated[
        str,
        about(
            "Password file of users who must log in, made by `tandem user add`; none: nobody logs in.", kind="secret"
        ),
    ] = ""
    groups: Annotated[str, about("File of groups of users, `group: user user` a line, for rules.", kind="file")] = ""
    realm: Annotated[str, about("What a browser shows when it asks for the password.", kind="realm")] = "Tandem"
    otherwise: Annotated[
        Literal["allow", "deny"], about("What becomes of a served client's request that no rule matches.")
    ] = "allow"
    allow_private: Annotated[
        tuple[Destination, ...],
        about(
            "Destinations that may be reached although they are not public: networks, or one address and port. "
            "Never this proxy's own listeners."
        ),
    ] = ()
    parent: Annotated[
        tuple[Parent, ...], about("Proxies that are asked instead of the origins; another one where one fails.")
    ] = ()
    direct: Annotated[
        tuple[str, ...], about("Domains, with all below, that are reached without `parent`.", kind="domain")
    ] = ()
    mirror: Annotated[
        tuple[Mirror, ...], about("Mirrors of package registries, asked for by http:// at the proxy itself.")
    ] = ()
    ports: Annotated[tuple[Ports, ...], about("Ports that may be asked for by http://: ports and ranges.")] = (
        Ports(80, 80),
        Ports(443, 443),
        Ports(1025, 65535),
    )
    connect_ports: Annotated[tuple[Ports, ...], about("Ports that CONNECT may reach.")] = (Ports(443, 443),)
    timeouts: Annotated[Timeouts, about("Patience with the origins.")] = field(default_factory=Timeouts)
    retry: Annotated[bool, about("Repeat, once, a safe request without body whose connection ended unanswered.")] = True
    per_client: Annotated[int, about("Connections per client address and worker; 0: no bound.", ge=0, le=1_000_000)] = (
        200
    )
    requests: Annotated[
        int,
        about(
            "Requests per second of one user, or one client without login, divided among workers; over it 429; "
            "0: no bound, and the memo.",
            ge=0,
            le=1_000_000,
        ),
    ] = 0
    pac: Annotated[Pac, about("What /proxy.pac and /wpad.dat, served here, tell browsers.")] = field(
        default_factory=Pac
    )
    identify: Annotated[
        bool, about("Tell origins who asks, by Forwarded and X-Forwarded-*; the clients' own are dropped in any case.")
    ] = False
    max_body: Annotated[Size, about("Largest request body; 0: no bound, it is streamed.")] = Size(0)
    honour_request: Annotated[bool, about("Obey the client's Cache-Control (no-cache, max-age, …).")] = True
    stale_on_error: Annotated[
        Duration, about("How long past freshness a response may answer for a failing origin.")
    ] = Duration(86400.0)
    error_pages: Annotated[
        dict[Annotated[str, about("Status.", kind="error status")], Annotated[str, about("File.", kind="file")]],
        about('Files by status: `{ 403 = "refused.html" }`.'),
    ] = field(default_factory=dict)


class Dns(Table, frozen=True, kw_only=True):
    servers: Annotated[
        tuple[str, ...],
        about("Name servers to ask instead of the system's: `192.168.8.1`, `127.0.0.1:5353`.", kind="name server"),
    ] = ()
    negative_ttl: Annotated[
        Duration, about("How long it is remembered that a name does not exist or cannot be found.")
    ] = Duration(5.0)


# ---- the rest --------------------------------------------------------------------------------------------------------


class Cache(Table, frozen=True, kw_only=True):
    memory: Annotated[
        Size,
        about("Memory of the cache on this node: bodies, heads, index and buffers together; 0: no cache."),
    ] = Size(256 * 2**20)
    max_object: Annotated[Size, about("Largest response that is stored.", positive=True)] = Size(64 * 2**20)
    variants: Annotated[int, about("Variants kept per key; the longest unused goes.", ge=1, le=1000)] = 32
    memo: Annotated[bool, about("The shortcut from request bytes to ready answers.")] = True
    trust_age: Annotated[bool, about("Believe Age alone, for origins whose clock is wrong.")] = False
    path: Annotated[
        str, about("Folder in which the cache survives a restart, the workers' own; empty: it does not.", kind="output")
    ] = ""
    disk: Annotated[Size, about("Space on disk of the cache on this node, with `path`.", positive=True)] = Size(
        10 * 2**30
    )


class Limits(Table, frozen=True, kw_only=True):
    request_line: Annotated[Size, about("Request line; over it 414.", positive=True)] = Size(16 * 2**10)
    field: Annotated[Size, about("One header field; over it 431.", positive=True)] = Size(16 * 2**10)
    head: Annotated[Size, about("Whole request head; over it 431.", positive=True)] = Size(64 * 2**10)
    fields: Annotated[int, about("Header fields of a request; over it 431.", ge=1, le=10000)] = 100
    response_head: Annotated[Size, about("Whole response head; over it 502.", positive=True)] = Size(128 * 2**10)
    response_fields: Annotated[int, about("Header fields of a response; over it 502.", ge=1, le=10000)] = 200
    interim: Annotated[int, about("Interim (1xx) answers before a final one; over it 502.", ge=0, le=10000)] = 32
    chunk_overhead: Annotated[
        Size, about("Framing bytes of a chunked body beyond 8 times the body; over it 400 or 502.", positive=True)
    ] = Size(16 * 2**10)
    head_time: Annotated[
        Duration, about("From a request's first byte to its whole head; over it 408.", positive=True)
    ] = Duration(10.0)
    keepalive: Annotated[Duration, about("Idle time of a client connection between requests.", positive=True)] = (
        Duration(60.0)
    )
    body_idle: Annotated[Duration, about("Request body without progress; over it 408.", positive=True)] = Duration(30.0)
    body_rate: Annotated[
        Size, about("Least speed of a request body per second, measured over body_idle; under it 408.")
    ] = Size(128)
    client_idle: Annotated[
        Duration, about("Client that takes nothing of its answer; over it the connection is cut.", positive=True)
    ] = Duration(60.0)
    pool_idle: Annotated[Duration, about("Idle upstream connection kept; below Tomcat's 20 s.", positive=True)] = (
        Duration(15.0)
    )
    tunnel_idle: Annotated[
        Duration, about("Tunnel in which nothing moves; over it both sides are closed.", positive=True)
    ] = Duration(600.0)
    tunnels: Annotated[
        int, about("Tunnels per user, or client address without users, of a worker; 0: no bound.", ge=0, le=1_000_000)
    ] = 100
    per_client: Annotated[
        int,
        about("Connections per client address and worker; trusted hops are exempt; 0: no bound.", ge=0, le=1_000_000),
    ] = 1000
    connections: Annotated[
        int, about("Client connections per worker; 0: as the open-files limit allows.", ge=0, le=10_000_000)
    ] = 0


class AccessLog(Table, frozen=True, kw_only=True):
    shorthand: ClassVar[str] = "file"

    file: Annotated[str, about("File, from $LOGS_DIRECTORY if set; `-` is standard output.", kind="output")]
    format: Annotated[
        str, about("common, combined, squid, json, or a template with `{field}` names.", kind="log format")
    ] = "combined"


class Log(Table, frozen=True, kw_only=True):
    access: Annotated[tuple[AccessLog, ...], about("Access logs.")] = ()
    level: Annotated[
        Literal["debug", "info", "warning", "error"], about("What is written to the error log (standard error).")
    ] = "info"


class Tokens(Table, frozen=True, kw_only=True):
    file: Annotated[
        str,
        about(
            "File with a line for each token: a name, `read` or `change`, and `sha256:` with the SHA-256 of the token"
            " in hex. A token is random and of 22 characters at least.",
            kind="secret",
        ),
    ]


class Admin(Table, frozen=True, kw_only=True):
    listen: Annotated[tuple[Listen, ...], about("TCP addresses of the API and metrics, beside the Unix socket.")] = ()
    tokens: Annotated[Tokens | None, about("Tokens that may change things over TCP.")] = None
    tls: Annotated[tuple[Certificate, ...], about("Certificates; needed off loopback.")] = ()
    hosts: Annotated[
        tuple[str, ...], about("Names under which a browser may reach the admin address.", kind="hosts")
    ] = ()


class Process(Table, frozen=True, kw_only=True):
    workers: Annotated[int, about("Worker processes.", ge=1, le=256)] = 1
    user: Annotated[str, about("User of workers and admin when started as root.", kind="name")] = "tandem"
    drain: Annotated[Duration, about("Time for requests in flight when stopping.")] = Duration(30.0)


# ---- high availability -----------------------------------------------------------------------------------------------


class SecretFile(Table, frozen=True, kw_only=True):
    file: Annotated[str, about("File with the secret that both nodes share, made by `tandem ha key`.", kind="secret")]


class Node(Table, frozen=True, kw_only=True):
    shorthand: ClassVar[str] = "address"

    address: Annotated[str, about("The node's own address on the network of the virtual addresses.", kind="ip")]
    link: Annotated[
        str, about("Its address for the peer link, where that takes another path; else `address`.", kind="ip")
    ] = ""
    link_local: Annotated[
        str, about("Its IPv6 link-local address, for pairs without peer link: it tells this otherwise.", kind="ip")
    ] = ""
    interface: Annotated[str, about("Its interface, where the one with `address` is not meant.", kind="interface")] = ""
    priority: Annotated[
        int, about("Priority; 0: 250 for the first node, 10 less for each further one; 255: owner.", ge=0, le=255)
    ] = 0


class Router(Table, frozen=True, kw_only=True):
    vip: Annotated[tuple[str, ...], about("Virtual addresses of this router, of one or both families.", kind="vip")]
    vrid: Annotated[int, about("Virtual router identifier, the same on both nodes.", ge=1, le=255)]
    name: Annotated[str, about("Name in logs, metrics and notify programs; `vip-VRID` if not given.", kind="name")] = ""
    first: Annotated[str, about("Name of the node preferred for it; else the first of `nodes`.", kind="name")] = ""
    group: Annotated[str, about("Routers with the same group move together.", kind="name")] = ""


class Track(Table, frozen=True, kw_only=True):
    name: Annotated[str, about("Name in `tandem ha status` and logs.", kind="name")]
    interface: Annotated[str, about("Interface that must be up.", kind="interface")] = ""
    file: Annotated[str, about("File that must exist; if it holds a number, that must be 0.", kind="output")] = ""
    script: Annotated[
        tuple[str, ...], about("Program with its arguments that must exit with 0; no shell.", kind="word")
    ] = ()
    every: Annotated[Duration, about("Time between two looks.", positive=True)] = Duration(1.0)
    timeout: Annotated[
        Duration, about("Time for the program; over it, it is killed and has failed.", positive=True)
    ] = Duration(1.0)
    rise: Annotated[int, about("Good looks in a row before it counts as good again.", ge=1, le=1000)] = 2
    fall: Annotated[int, about("Bad looks in a row before it counts as bad.", ge=1, le=1000)] = 2
    weight: Annotated[int, about("What a bad one takes from the priority.", ge=0, le=253)] = 20
    resign: Annotated[bool, about("Whether a bad one makes this node let go at once.")] = False


class Ha(Table, frozen=True, kw_only=True):
    nodes: Annotated[
        dict[Annotated[str, about("Name.", kind="name")], Node],
        about("The nodes by name, the preferred one first; a node knows itself by its address."),
    ]
    vip: Annotated[
        tuple[str, ...],
        about("Virtual addresses, of one or both families: `192.168.8.100/24`, `fd00:8::100/64`.", kind="vip"),
    ] = ()
    vrid: Annotated[int, about("Virtual router identifier of `vip`.", ge=1, le=255)] = 51
    secret: Annotated[SecretFile | None, about("The secret of the peer link; without it there is no link.")] = None
    interval: Annotated[
        Duration, about("Time between advertisements, 10ms to 40s; in version 2 whole seconds.", positive=True)
    ] = Duration(0.1)
    preempt: Annotated[
        bool, about("A returning node of higher priority takes the address back; else only a healthier one does.")
    ] = False
    preempt_delay: Annotated[Duration, about("How long a node has been able to serve before it preempts.")] = Duration(
        0.0
    )
    version: Annotated[Literal[3, 2], about("VRRP version.")] = 3
    password: Annotated[
        str, about("Password of version 2, for old routers that want one; anybody can read it, it protects nothing.")
    ] = ""
    unicast: Annotated[bool, about("Send to the other nodes' addresses instead of the multicast group.")] = False
    min_ttl: Annotated[int, about("Least TTL of a unicast advertisement, for nodes behind a router.", ge=1, le=255)] = (
        255
    )
    checksum: Annotated[
        Literal["rfc9568", "pseudo"],
        about("Checksum of IPv4 advertisements until another node's has been heard; `pseudo` as in keepalived."),
    ] = "rfc9568"
    virtual_mac: Annotated[bool, about("Use the virtual router's MAC address (a macvlan) instead of the own.")] = False
    garp_refresh: Annotated[Duration, about("Time between repeated announcements while Active; 0: none.")] = Duration(
        30.0
    )
    link_port: Annotated[int, about("TCP port of the peer link.", ge=1, le=65535)] = 9601
    link_settle: Annotated[Duration, about("How long an interface must be up again before it counts.")] = Duration(0.2)
    others: Annotated[
        tuple[Network, ...], about("Addresses of foreign routers that may use the same VRID without alarm.")
    ] = ()
    notify: Annotated[
        str,
        about("Program run at each change: `INSTANCE`, name, MASTER, BACKUP, FAULT or STOP, priority.", kind="program"),
    ] = ""
    worker_weight: Annotated[
        int, about("What a lost worker takes from the priority, while others live.", ge=0, le=253)
    ] = 10
    origin_weight: Annotated[int, about("What a site without any good origin takes from it.", ge=0, le=253)] = 30
    router: Annotated[
        tuple[Router, ...], about("Several virtual routers instead of `vip`, for pairs with both nodes active.")
    ] = ()
    track: Annotated[tuple[Track, ...], about("What else the priority depends on.")] = ()


# ---- transparent mode ------------------------------------------------------------------------------------------------


class Transparent(Table, frozen=True, kw_only=True):
    interface: Annotated[
        tuple[Annotated[str, about("Name.", kind="interface")], ...],
        about("Interfaces by which clients come in."),
    ]
    clients: Annotated[tuple[Network, ...], about("Networks of the clients whose connections are taken.")]
    otherwise: Annotated[
        Literal["allow", "deny"], about("What becomes of a client's connection that no rule matches.")
    ] = "allow"
    method: Annotated[
        Literal["redirect", "tproxy"],
        about("How connections are taken: by translating their destination, or as they are (IP_TRANSPARENT)."),
    ] = "redirect"
    spoof: Annotated[
        bool, about("Connect to origins from the client's own address, with `tproxy` alone; else from the gateway's.")
    ] = False
    https: Annotated[
        Literal["splice", "off"],
        about("HTTPS: read the server name and pass the bytes on, never decrypted; or leave it alone."),
    ] = "splice"
    nameless: Annotated[
        Literal["allow", "deny"], about("HTTPS whose server name cannot be read: judged by address alone, or refused.")
    ] = "allow"
    refuse_quic: Annotated[bool, about("Refuse HTTPS over UDP, which would pass unseen; browsers then take TCP.")] = (
        True
    )
    exempt: Annotated[tuple[Network, ...], about("Destinations that are reached directly.")] = ()
    exempt_clients: Annotated[tuple[Network, ...], about("Clients that are left alone.")] = ()
    allow_private: Annotated[
        tuple[Destination, ...],
        about(
            "Destinations that may be reached although they are not public: networks, or one address and port. "
            "Never this proxy's own listeners."
        ),
    ] = ()
    stale_on_error: Annotated[
        Duration, about("How long past its freshness a stored response answers for an origin that fails.")
    ] = Duration(86400.0)
    timeouts: Annotated[Timeouts, about("Patience with origins.")] = field(default_factory=Timeouts)
    fail: Annotated[
        Literal["open", "closed"],
        about("With no worker left, traffic goes past the proxy, or stops; without supervisor it always goes past."),
    ] = "open"
    port: Annotated[int, about("Port on which taken HTTP connections arrive.", ge=1, le=65535)] = 3129
    https_port: Annotated[int, about("Port on which taken HTTPS connections arrive.", ge=1, le=65535)] = 3130
    http_ports: Annotated[
        tuple[Annotated[int, about("Port.", ge=1, le=65535)], ...], about("Destination ports of HTTP.")
    ] = (80,)
    https_ports: Annotated[
        tuple[Annotated[int, about("Port.", ge=1, le=65535)], ...], about("Destination ports of HTTPS.")
    ] = (443,)
    per_client: Annotated[int, about("Connections per client address and worker; 0: no bound.", ge=0, le=1_000_000)] = (
        200
    )
    honour_request: Annotated[bool, about("Obey the client's Cache-Control (no-cache, max-age, …).")] = True

    @property
    def arrivals(self) -> tuple[Listen, ...]:
        """Where taken connections arrive: of HTTP, and of HTTPS if that is taken too."""
        ports = (self.port, self.https_port) if self.https == "splice" else (self.port,)
        return tuple(Listen("", port) for port in ports)


# ---- the whole -------------------------------------------------------------------------------------------------------


class Config(Table, frozen=True, kw_only=True):
    site: Annotated[tuple[Site, ...], about("Reverse mode: a cache in front of origins.")] = ()
    rule: Annotated[tuple[Rule, ...], about("Rules in order; the first that matches wins.")] = ()
    lists: Annotated[
        dict[Annotated[str, about("Name.", kind="name")], NameList], about("Lists of names, for `domain` of rules.")
    ] = field(default_factory=dict)
    forward: Annotated[Forward | None, about("Forward mode: a proxy for the clients of a network.")] = None
    bandwidth: Annotated[
        dict[Annotated[str, about("Name.", kind="name")], Bandwidth], about("Classes of clients that share a rate.")
    ] = field(default_factory=dict)
    cache: Annotated[Cache, about("The response cache.")] = field(default_factory=Cache)
    limits: Annotated[Limits, about("Bounds on what a peer may send and take.")] = field(default_factory=Limits)
    dns: Annotated[Dns, about("How names of origins are found.")] = field(default_factory=Dns)
    log: Annotated[Log, about("Logs.")] = field(default_factory=Log)
    admin: Annotated[Admin, about("The admin surface.")] = field(default_factory=Admin)
    process: Annotated[Process, about("Processes and rights.")] = field(default_factory=Process)
    transparent: Annotated[
        Transparent | None, about("Transparent mode: connections of clients who configure nothing.")
    ] = None
    ha: Annotated[Ha | None, about("High availability: virtual addresses held by one of a pair of nodes.")] = None
