"""`tandem explain` and `tandem cache`: what a running instance would do, did and stores; for people or programs.

Exit status: 0 told, 1 nothing runs or it cannot be told, 2 wrong usage. What is told is worked out in the workers
(explaining.py); here it is only laid out.
"""

from __future__ import annotations

import argparse
from time import localtime, strftime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from proxy import commands, warming
from proxy.commands import FAULTY, FINE, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Plain = dict[str, Any]

EXPLAIN_EXAMPLES: Final = """\
examples:
  tandem explain https://shop.example.org/a
  tandem explain https://shop.example.org/a -H 'Accept-Encoding: gzip' -H 'Cookie: lang=de'
  tandem explain https://shop.example.org/a -H 'Cache-Control: no-cache' --from 10.1.2.3
  tandem explain https://shop.example.org/cart --method POST
  tandem explain http://example.org/a --from 192.168.8.50 --to 203.0.113.7   (a connection that a gateway took)

It shows the site and rule, the key and what was left out of it, each stored variant with its freshness as a sum, every
rule that was applied with its section in the standards, and what an origin would be asked. The functions that decide
for real traffic are asked; nothing is fetched, counted or changed. Without -H the request has Host alone.
"""


def add_arguments(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `explain`; it sets `run` to the function that takes the arguments and gives the exit status."""
    tell = subparsers.add_parser(
        "explain",
        help="tell what would happen to a request, and why",
        description="Tell what would happen to a request, and why. Nothing is fetched or changed.",
        epilog=EXPLAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tell.add_argument("url", metavar="URL", nargs="?", help="the address that would be asked for")
    tell.add_argument(
        "--recent", metavar="N", nargs="?", type=int, const=20, help="instead: the last N decisions of all workers (20)"
    )
    tell.add_argument("-H", "--header", metavar="'NAME: VALUE'", action="append", default=[], help="a field of it")
    tell.add_argument("--from", dest="client", metavar="ADDRESS", default="127.0.0.1", help="whom it would come from")
    tell.add_argument(
        "--to",
        metavar="ADDRESS[:PORT]",
        default="",
        help="transparent mode: where the connection was going when it was taken",
    )
    tell.add_argument("--user", metavar="NAME", default="", help="forward mode: who would have logged in")
    tell.add_argument("--method", default="GET", help="its method (GET)")
    commands.add_common(tell)
    tell.set_defaults(run=explain)
    _add_cache(subparsers)


def _add_cache(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cache = subparsers.add_parser("cache", help="look at what is stored", description="Look at what is stored.")
    kinds = cache.add_subparsers(metavar="WHAT", required=True)
    ls = kinds.add_parser(
        "ls",
        help="list stored responses",
        description="List stored responses of all workers, each of which has a store of its own. A walk over millions "
        "leaves the workers free.",
    )
    which = ls.add_mutually_exclusive_group()
    which.add_argument("--prefix", metavar="URL", help="those whose address begins with this")
    which.add_argument("--tag", metavar="TAG", help="those with this tag")
    which.add_argument("--match", metavar="PATTERN", help="HOST/GLOB or HOST~REGEX, as in `tandem purge`")
    ls.add_argument("--site", metavar="NAME", help="of these, what this site's names reach")
    ls.add_argument("--sort", choices=("size", "hits", "age", "ttl"), default="hits", help="largest first; ttl: least")
    ls.add_argument("--limit", metavar="N", type=int, default=20, help="rows (20, at most 1000)")
    commands.add_common(ls)
    ls.set_defaults(run=list_stored)
    one = kinds.add_parser("show", help="show what is stored for an address", description="Show all stored variants.")
    one.add_argument("url", metavar="URL")
    commands.add_common(one)
    one.set_defaults(run=show_stored)
    heat = kinds.add_parser(
        "warm",
        help="fetch addresses through the proxy, so that they are stored",
        description="Fetch addresses through the proxy itself, until every worker stores them.",
        epilog="example: tandem cache warm urls.txt https://shop.example.org/ --at-once 16",
    )
    warming.add_arguments(heat)


# ---- explain ---------------------------------------------------------------------------------------------------------


def explain(args: argparse.Namespace) -> int:
    if args.recent is not None:
        return _ask(args, "/v1/recent", [("limit", args.recent)], describe_recent)
    query = [("url", commands.as_typed(args.url or "")), ("method", args.method), ("from", args.client)]
    query += [("header", field) for field in args.header]
    query += [(name, value) for name, value in (("to", args.to), ("user", args.user)) if value]
    try:
        _, answer = commands.ask(commands.socket_path(args), "GET", f"/v1/explain?{urlencode(query)}")
    except CommandError as problem:
        return commands.say_fault(problem)
    commands.show(answer, describe(answer["workers"]), as_json=args.json)
    return FINE if answer["workers"] else FAULTY


def describe(workers: list[Plain]) -> list[str]:
    """The first worker's view in full, and of the others what differs."""
    first, *others = workers
    lines = describe_one(first)
    for other in others:
        same = (other["outcome"], other.get("reason"), other["status"]) == (
            first["outcome"],
            first.get("reason"),
            first["status"],
        )
        lines += [] if same else ["", f"{other['name']} has a store of its own, and there: {_verdict(other)}"]
    return lines


def describe_one(told: Plain) -> list[str]:
    lines = [f"{told['method']} {told['url']}", *_where(told), f"  => {_verdict(told)}"]
    if told.get("variants"):
        lines += ["", "stored"]
        for variant in told["variants"]:
            lines += _variant(variant)
    elif "variants" in told:
        lines += ["", "stored: nothing under this key"]
    if told["steps"]:
        lines += ["", "why"]
        lines += [f"  - {one['says']}" + (f"   [{one['rfc']}]" if one["rfc"] else "") for one in told["steps"]]
    if told.get("forward"):
        lines += ["", *_forward(told["forward"])]
    return lines


def _verdict(told: Plain) -> str:
    status = f", {told['status']}" if told["status"] and str(told["status"]) not in told["says"] else ""
    reason = f" ({told['reason']})" if told.get("reason") else ""
    rfc = f"   [{told['rfc']}]" if told.get("rfc") else ""
    return f"{told['outcome']}{reason}: {told['says']}{status}{rfc}"


def _where(told: Plain) -> Iterable[str]:
    trusted = ", a trusted hop" if told.get("trusted") else ""
    taken = f", on its way to {told['to']}" if told.get("to") else ""
    yield f"  from    {told['from']}{trusted}{taken}, through {told['listener']} ({told['mode']})"
    if told.get("site"):
        yield f"  site    {told['site']}, " + (f"rule {told['rule']}" if told["rule"] else "no rule of its own")
    if told.get("dropped"):
        yield f"  dropped {', '.join(told['dropped'])}: neither the cache nor the origin sees them"
    if told.get("key"):
        yield from _key(told["key"])


def _key(key: Plain) -> Iterable[str]:
    yield f"  key     {key['address']}" + (f", kept apart as {key['space']}" if key["space"] else "")
    for line in key["joined"]:
        yield f"          with {line}"
    if key["left_out"]:
        yield f"          without {', '.join(key['left_out'])}"
    if key["sorted"]:
        yield "          its arguments sorted by name"


def _variant(variant: Plain) -> Iterable[str]:
    part = variant["part"]
    what = f"{variant['status']}, {commands.size(variant['bytes'])}"
    if part:
        what += f", the bytes {part['first']}-{part['end'] - 1} of {variant['length'] or 'an unknown length'}"
    yield f"  {'*' if variant.get('chosen') else '-'} {what}" + (", outdated by a purge" if variant["outdated"] else "")
    yield from (f"      {line}" for line in _vary(variant["vary"]))
    yield from (f"      {line}" for line in freshness_lines(variant["freshness"]))
    for name, value in (("ETag", variant["etag"]), ("Last-Modified", variant["last_modified"])):
        if value:
            yield f"      {name}: {value}"
    if variant["tags"]:
        yield f"      tags: {' '.join(variant['tags'])}"


def _vary(vary: list[Plain] | None) -> Iterable[str]:
    if vary is None:
        yield "Vary: *, matches nothing   [RFC 9111 §4.1]"
        return
    for one in vary:
        line = f"Vary: {one['field']}, stored for {_value(one['stored'])}"
        if "same" in one:
            line += ", as asked for" if one["same"] else f", asked for {_value(one['request'])}"
        yield line


def _value(value: str | None) -> str:
    return "none" if value is None else repr(value)


def freshness_lines(sums: Plain) -> Iterable[str]:
    """The arithmetic of RFC 9111 §4.2 as two sums."""
    left = sums["remaining"]
    state = f"fresh for {_seconds(left)}" if left > 0 else f"stale for {_seconds(-left)}"
    said = sums["lifetime_said"] or {"rule": "by a rule", "none": "none given"}.get(
        sums["lifetime_from"], sums["lifetime_from"]
    )
    yield f"{state} = lifetime {_seconds(sums['lifetime'])} ({said}) - age {_seconds(sums['age'])}   [RFC 9111 §4.2]"
    born = f"on arrival (Date {_seconds(sums['apparent_age'])} ago, answered in {_seconds(sums['response_delay'])})"
    yield f"age {_seconds(sums['age'])} = {_seconds(sums['initial_age'])} {born} + {_seconds(sums['resident'])} here"
    bounds = [
        f"{word} {_seconds(sums[key])}" for word, key in (("at least", "least"), ("at most", "most")) if sums[key]
    ]
    if bounds:
        yield f"its rule bounds the lifetime: {', '.join(bounds)}"
    if sums["never_stale"]:
        yield "never used stale   [RFC 9111 §4.2.4]"
    for word, key in (("stale-while-revalidate", "stale_while_revalidate"), ("stale-if-error", "stale_if_error")):
        if sums[key] is not None:
            yield f"{word} for {_seconds(sums[key])}   [RFC 5861]"


def _seconds(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") + " s"


def _forward(forward: Plain) -> Iterable[str]:
    likely = forward["likely"]
    whom = " or ".join(likely) if likely else "nobody: no origin is in"
    session = f", where session route {forward['session']} is" if forward["session"] else ""
    yield f"origin{' (in the background)' if forward['background'] else ''}: {whom}{session}"
    for one in forward["origins"]:
        if one["standing"] != "up" or len(forward["origins"]) > 1:
            yield f"  {one['address']} is {one['standing']} ({one['why']}), {one['active']} requests running"
    yield from (f"  > {line}" for line in (forward["head"] or "").rstrip("\r\n").split("\r\n") if line)


# ---- recent decisions ------------------------------------------------------------------------------------------------


def describe_recent(answer: Plain) -> list[str]:
    rows = [
        (
            strftime("%H:%M:%S", localtime(row["at"])),
            row["method"],
            row["status"] or "-",
            row["outcome"],
            ", ".join(word for word in (row["reason"], row["detail"], row["error"]) if word) or "-",
            f"{row['seconds'] * 1000:.0f}ms" if row["times"] == 1 else f"x{row['times']}",
            row["url"],
        )
        for row in answer["rows"]
    ]
    return commands.table(("TIME", "METHOD", "STATUS", "OUTCOME", "WHY", "TOOK", "URL"), rows)


# ---- cache -----------------------------------------------------------------------------------------------------------


def _ask(
    args: argparse.Namespace, path: str, query: list[tuple[str, Any]], lay_out: Callable[[Plain], list[str]]
) -> int:
    try:
        _, answer = commands.ask(
            commands.socket_path(args), "GET", f"{path}?{urlencode(query)}", limit=commands.SWEEPING
        )
    except CommandError as problem:
        return commands.say_fault(problem)
    commands.show(answer, lay_out(answer), as_json=args.json)
    return FINE


def list_stored(args: argparse.Namespace) -> int:
    query: list[tuple[str, Any]] = [("sort", args.sort), ("limit", args.limit)]
    query += [(name, value) for name in ("tag", "match", "site") if (value := getattr(args, name)) is not None]
    if args.prefix is not None:
        query.append(("prefix", commands.as_typed(args.prefix)))
    return _ask(args, "/v1/cache", query, describe_list)


def describe_list(answer: Plain) -> list[str]:
    rows = [
        (commands.size(row["weight"]), row["uses"], f"{row['age']:.0f}s", _left(row), row["status"], row["url"])
        for row in answer["rows"]
    ]
    lines = commands.table(("MEMORY", "USES", "AGE", "TTL", "STATUS", "URL"), rows)
    left = answer["count"] - len(rows)
    lines.append(
        f"{answer['count']} stored, {commands.size(answer['bytes'])}" + (f"; {left} not shown" if left else "")
    )
    return lines


def _left(row: Plain) -> str:
    return "purged" if row["outdated"] else f"{row['ttl']:.0f}s"


def show_stored(args: argparse.Namespace) -> int:
    return _ask(args, "/v1/cache", [("url", commands.as_typed(args.url)), ("full", 1)], describe_stored)


def describe_stored(answer: Plain) -> list[str]:
    lines = [] if answer["rows"] else ["nothing is stored for this address"]
    for row in answer["rows"]:
        lines += [f"{row['url']} in {row['worker']}", *_variant(row)]
        lines += [f"      < {name}: {value}" for name, value in row["fields"]]
    return lines
