"""Lines: what they say and that nothing in them can break out; files: that they never hold anybody up."""

import json
import os
import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Outcome, Route
from proxy.http.message import Fields, ResponseHead
from proxy.observe import accesslog
from proxy.observe.accesslog import LogFile, compile_format, entry, escape, masker, render_lines
from proxy.policy.reasons import Reason
from proxy.policy.rules import CacheRules
from tests.kit.raw import wait_until
from tests.observe.exchanges import client, ended, exchanges

OFFSET = 1_699_999_900.0  # monotonic 100 is 2023-11-14 22:13:20 UTC
EVERY_FIELD = " ".join(f"{{{name}}}" for name in (*accesslog.PLACES, *accesslog.FIELDS, "remote"))
FORMATS = ["common", "combined", "squid", "json", EVERY_FIELD, f'"{EVERY_FIELD}"', "%d {target} %(client)s {{}}"]


MASK = masker([b"jsessionid"])


def line(form, x, *, at=100.0, duration=0.0):
    form = compile_format(form)
    text = render_lines([(entry(x, MASK), x.client, at, duration)], form, 0, OFFSET).decode()
    assert text.endswith("\n")
    return text[:-1]


# ---- values ----------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=6000))
def test_an_escaped_value_is_printable_ascii_without_quotes(value):
    text = escape(value)
    assert re.fullmatch(r"[ -~]*", text)
    assert '"' not in text
    assert re.sub(r"\\x[0-9a-f]{2}", "", text).count("\\") == 0
    assert len(text) <= 4 * accesslog.LONGEST + 16


@given(st.binary(max_size=accesslog.LONGEST))
def test_an_escaped_value_can_be_read_back(value):
    assert re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), escape(value).encode()) == value


def test_a_long_value_is_cut_with_a_mark_that_says_how_much_is_gone():
    assert escape(b"a" * 5000) == "a" * accesslog.LONGEST + f"...+{5000 - accesslog.LONGEST}"


@pytest.mark.parametrize(
    ("target", "masked"),
    [
        (b"/a;jsessionid=SECRET.t1?x=1", b"/a;jsessionid=***?x=1"),
        (b"/a;JSESSIONID=SECRET;v=2/b", b"/a;JSESSIONID=***;v=2/b"),
        (b"/a?x=1&sid=SECRET&y=2", b"/a?x=1&sid=***&y=2"),
        (b"/a?sid=SECRET", b"/a?sid=***"),
        (b"/sid=public?inside=sid=public", b"/sid=public?inside=sid=public"),
        (b"/plain", b"/plain"),
    ],
)
def test_session_ids_in_arguments_are_masked(target, masked):
    assert masker([b"jsessionid", b"sid"])(target) == masked


def test_without_names_nothing_is_masked():
    assert masker([])(b"/a;jsessionid=1") == b"/a;jsessionid=1"


# ---- formats ---------------------------------------------------------------------------------------------------------


def test_common_and_combined_are_what_apache_writes():
    x = ended(fields=((b"User-Agent", b"curl/8"), (b"Referer", b"http://a/")))
    common = '192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=1 HTTP/1.1" 200 1024'
    assert line("common", x) == common
    assert line("combined", x) == common + ' "http://a/" "curl/8"'


def test_a_client_told_by_trusted_hops_is_the_one_that_is_logged():
    assert line("common", ended(remote="203.0.113.9")).startswith("203.0.113.9 - - [")
    assert line("{client} {remote}", ended(remote="203.0.113.9")) == "192.0.2.7 203.0.113.9"


def test_a_quote_and_a_line_end_cannot_leave_their_value():
    x = ended(fields=((b"User-Agent", b'x"\r\n1.1.1.1 - - [] "GET /forged'),))
    assert line("combined", x).endswith(r'"x\x22\x0d\x0a1.1.1.1 - - [] \x22GET /forged"')


def test_a_head_that_was_never_read_is_a_dash():
    x = ended(method=b"-", authority=b"", path=b"", query=None, status=400)
    assert '"-" 400' in line("common", x)
    assert line("{url}", x) == "-"
    said = json.loads(line("json", x))
    assert (said["method"], said["url"]) == (None, None)


def test_connect_is_logged_with_its_authority():
    x = ended(method=b"CONNECT", authority=b"a.example:443", path=b"", query=None)
    assert line('"{request}" {url}', x) == '"CONNECT a.example:443 HTTP/1.1" a.example:443'


def test_squid_writes_its_native_columns():
    html = ResponseHead(200, b"OK", Fields(((b"Content-Type", b"text/html; charset=utf-8"),)))
    x = ended(outcome=Outcome.MISS, reason=Reason.URI_MISS, upstream="10.0.0.21:8080", response=html)
    assert line("squid", x, at=100.5, duration=0.0427).split() == [
        "1700000000.500",
        "42",
        "192.0.2.7",
        "TCP_MISS/200",
        "1024",
        "GET",
        "http://shop.example.org/a?b=1",
        "-",
        "FIRSTUP_PARENT/10.0.0.21",
        "text/html",
    ]


def test_who_has_logged_in_stands_in_its_column_of_each_format():
    x = ended()
    x.user = 'a"nna b'
    assert line("common", x).startswith(r"192.0.2.7 - a\x22nna\x20b [")
    assert line("squid", x).split()[7] == r"a\x22nna\x20b"
    assert json.loads(line("json", x))["user"] == r"a\x22nna b"


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("TCP_MEM_HIT", {}),
        ("TCP_IMS_HIT", {"status": 304}),
        ("TCP_INM_HIT", {"status": 304, "fields": ((b"If-None-Match", b'"1"'),)}),
        ("TCP_STALE_HIT", {"outcome": Outcome.STALE, "reason": Reason.STALE_WHILE_REVALIDATE}),
        ("TCP_REFRESH_FAIL_OLD", {"outcome": Outcome.STALE, "reason": Reason.STALE_ON_ERROR}),
        ("TCP_REFRESH_UNMODIFIED", {"outcome": Outcome.REVALIDATED, "reason": Reason.STALE}),
        ("TCP_REFRESH_MODIFIED", {"outcome": Outcome.MISS, "reason": Reason.STALE}),
        ("TCP_CLIENT_REFRESH_MISS", {"outcome": Outcome.MISS, "reason": Reason.REQUEST_NO_CACHE}),
        ("TCP_MISS", {"outcome": Outcome.BYPASS, "reason": Reason.METHOD}),
        ("TCP_MISS_ABORTED", {"outcome": Outcome.MISS, "failure": Failure(errors.CLIENT_GONE)}),
        ("TCP_MISS_TIMEDOUT", {"outcome": Outcome.FAILED, "failure": Failure(errors.FIRST_BYTE_TIMEOUT)}),
        ("TCP_REFRESH_FAIL_ERR", {"outcome": Outcome.FAILED, "reason": Reason.STALE}),
        ("TCP_MISS", {"outcome": Outcome.REFUSED, "failure": Failure(errors.NOT_IN_CACHE)}),
        ("TCP_DENIED", {"outcome": Outcome.REFUSED, "failure": Failure(errors.FORBIDDEN)}),
        ("NONE_NONE", {"outcome": Outcome.REFUSED, "failure": Failure(errors.BAD_REQUEST)}),
        ("TCP_REDIRECT", {"outcome": Outcome.ANSWER, "status": 302}),
        ("NONE_NONE", {"outcome": Outcome.ANSWER}),
        ("TCP_TUNNEL", {"outcome": Outcome.TUNNEL}),
        ("NONE_NONE", {"outcome": Outcome.FAILED, "method": b"CONNECT", "failure": Failure(errors.CONNECT_ERROR)}),
    ],
)
def test_squid_codes(code, changes):
    assert line("{squid_code}", ended(**changes)) == code


@pytest.mark.parametrize(
    ("peer", "pool", "upstream"),
    [
        ("HIER_NONE/-", "shop", ""),
        ("FIRSTUP_PARENT/10.0.0.1", "shop", "10.0.0.1:80"),
        ("HIER_DIRECT/2001:db8::1", "", "[2001:db8::1]:80"),
    ],
)
def test_squid_hierarchy_codes(peer, pool, upstream):
    route = Route("shop", "", pool, CacheRules())
    assert line("{squid_peer}", ended(route=route, upstream=upstream)) == peer


def test_an_origin_that_was_asked_in_vain_stands_in_squids_hierarchy():
    route = Route("forward", "", "", CacheRules())
    x = ended(route=route, outcome=Outcome.FAILED, upstream="", failure=Failure(errors.CONNECT_ERROR))
    assert line("{squid_peer}", x) == "HIER_DIRECT/shop.example.org"


def test_json_says_all_and_null_for_what_is_not_there():
    x = ended(
        outcome=Outcome.FAILED, status=502, failure=Failure(errors.CONNECT_ERROR, "refused"), upstream="10.0.0.1:80"
    )
    said = json.loads(line("json", x, at=100.25, duration=0.5))
    assert said["time"] == "2023-11-14T22:13:20.250Z"
    assert (said["error"], said["detail"], said["upstream"]) == ("connect-refused", "refused", "10.0.0.1:80")
    assert (said["duration"], said["status"], said["referer"]) == (0.5, 502, None)


def test_a_template_escapes_blanks_where_no_quotes_hold_them():
    x = ended(fields=((b"User-Agent", b"a b"),))
    assert line('{user_agent} "{user_agent}"', x) == r'a\x20b "a b"'


@pytest.mark.parametrize(
    "text", ["plain", "{wonder}", "{", "{target}\n", "{cookie}", "{authorization}", "{port:>6}", "{status:%}", "{}"]
)
def test_a_template_at_fault_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError):
        compile_format(text)


def test_a_wrong_field_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="nearest: `status`"):
        compile_format("{statsu}")


@pytest.mark.parametrize("form", FORMATS)
@given(x=exchanges)
def test_no_raw_byte_of_the_network_gets_into_a_line(form, x):
    text = line(form, x)
    assert re.fullmatch(r"[ -~]*", text)
    if form == "json":
        assert isinstance(json.loads(text), dict)
        for value in json.loads(text).values():
            assert not isinstance(value, str) or re.fullmatch(r"[ -~]*", value)


@pytest.mark.parametrize("form", FORMATS)
def test_cookies_and_credentials_are_in_no_format(form):
    secret = (
        (b"Cookie", b"JSESSIONID=SECRET"),
        (b"Authorization", b"Basic SECRET"),
        (b"Proxy-Authorization", b"SECRET"),
    )
    x = ended(path=b"/a;jsessionid=SECRET", fields=(*secret, (b"Referer", b"http://a/?jsessionid=SECRET")))
    assert "SECRET" not in line(form, x)


@pytest.mark.parametrize("form", ["common", "combined", "{target} {user_agent} {referer}", "squid"])
@given(x=exchanges)
def test_the_number_of_columns_does_not_depend_on_the_values(form, x):
    def shape(text):
        return [bool(part.startswith('"')) for part in re.findall(r'"[^"]*"|\[[^\]]*\](?!\S)|[^ ]+', text)]

    x.remote = ""
    x.client.address = "192.0.2.7"
    assert shape(line(form, x)) == shape(line(form, ended()))


def test_times_are_utc_and_follow_the_clock_over_a_second():
    x = ended()
    records = [(entry(x, masker([])), x.client, at, 0.0) for at in (100.0, 100.999, 101.0, 86500.0)]
    lines = render_lines(records, compile_format("{time} {iso_time} {epoch}"), 0, OFFSET).decode().splitlines()
    assert [text.split()[2] for text in lines] == [
        "2023-11-14T22:13:20.000Z",
        "2023-11-14T22:13:20.999Z",
        "2023-11-14T22:13:21.000Z",
        "2023-11-15T22:13:20.000Z",
    ]
    assert lines[3].startswith("15/Nov/2023:22:13:20 +0000")


def test_site_and_rule_of_a_fixed_answer_are_told():
    x = ended(route=None, site="shop", rule="old paths", outcome=Outcome.ANSWER, status=301)
    assert line("{site} {rule}", x) == r"shop old\x20paths"


def test_port_and_request_bytes_can_be_logged():
    assert line("{port} {request_bytes}", ended(client=client(port=5), received=9)) == "5 9"


# ---- files -----------------------------------------------------------------------------------------------------------


def test_lines_arrive_in_order_and_appended(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(b"before\n")
    log = LogFile(str(path))
    for number in range(100):
        log.write(b"%d\n" % number, 1)
    log.close()
    assert path.read_bytes() == b"before\n" + b"".join(b"%d\n" % n for n in range(100))
    assert log.take_dropped() == 0


def test_after_reopen_lines_go_to_the_new_file_and_none_is_lost(tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    log = LogFile(str(path))
    log.write(b"one\n", 1)
    wait_until(lambda: path.read_bytes() == b"one\n")
    path.rename(old)
    log.write(b"two\n", 1)
    wait_until(lambda: old.read_bytes() == b"one\ntwo\n")
    log.reopen()
    log.write(b"three\n", 1)
    log.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"three\n")


def test_a_file_that_cannot_be_opened_again_stays_in_use(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "access.log"
    log = LogFile(str(path))
    folder.rename(tmp_path / "gone")
    log.reopen()
    wait_until(lambda: log.trouble is not None)
    log.write(b"still\n", 1)
    log.close()
    assert (tmp_path / "gone/access.log").read_bytes() == b"still\n"


def test_a_log_that_cannot_be_opened_at_all_is_a_fault_at_start(tmp_path):
    with pytest.raises(FileNotFoundError):
        LogFile(str(tmp_path / "no/access.log"))


def test_a_full_disk_drops_lines_and_counts_them():
    log = LogFile("/dev/full")
    log.write(b"one\ntwo\n", 2)
    log.close()
    assert log.take_dropped() == 2
    assert "No space left" in (log.trouble or "")


def test_a_reader_that_does_not_read_never_blocks_the_writer(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    log = LogFile(str(fifo))
    text = b"x" * 99 + b"\n"
    began = time.monotonic()
    for _ in range(2000):
        log.write(text * 10, 10)
    assert time.monotonic() - began < 5
    log.close()
    got = b""
    while chunk := os.read(reader, 1 << 16):
        got += chunk
    os.close(reader)
    assert got == text * (len(got) // 100)
    assert len(got) // 100 + log.take_dropped() == 20000
    assert log.take_dropped() == 0


def test_a_blocked_descriptor_cannot_keep_us_from_ending():
    reader, writer = os.pipe()
    log = LogFile("-", lambda _: os.dup(writer))
    for _ in range(100):
        log.write(b"x" * 99999 + b"\n", 1)
    began = time.monotonic()
    log.close(patience=0.1)
    assert time.monotonic() - began < 2
    assert log.take_dropped() > 50  # beyond MAX_WAITING
    os.close(writer)
    os.close(reader)  # frees the thread
    wait_until(lambda: not log._thread.is_alive())


def test_two_writers_on_one_pipe_do_not_mix_their_lines():
    reader, writer = os.pipe()
    logs = [LogFile("-", lambda _: os.dup(writer)) for _ in range(2)]
    os.close(writer)
    got = bytearray()

    def read():
        while chunk := os.read(reader, 1 << 16):
            got.extend(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(50):
        for letter, log in zip(b"ab", logs, strict=True):
            log.write((bytes([letter]) * 149 + b"\n") * 60, 60)
    for log in logs:
        log.close(10)
    thread.join(10)
    os.close(reader)
    assert sorted(set(bytes(got).splitlines())) == [b"a" * 149, b"b" * 149]
    assert len(got) == 2 * 50 * 60 * 150


def test_a_line_torn_by_a_full_disk_is_closed_before_the_next(monkeypatch, tmp_path):
    """The first write of the second batch takes a part of it, the one after that finds the disk full."""
    path = tmp_path / "access.log"
    real, script = os.write, [None, 3, OSError(28, "No space left on device")]

    def write(fd, data):
        step = script.pop(0) if script else None
        if isinstance(step, OSError):
            raise step
        return real(fd, data[:step])

    log = LogFile(str(path))
    monkeypatch.setattr(accesslog.os, "write", write)
    log.write(b"first\n", 1)
    wait_until(lambda: len(script) == 2)
    log.write(b"second\n", 1)
    wait_until(lambda: not script)
    log.write(b"third\n", 1)
    log.close()
    assert path.read_bytes() == b"first\nsec\nthird\n"
    assert log.take_dropped() == 1


def test_standard_output_is_a_duplicate_of_its_descriptor(capfd):
    log = LogFile("-", lambda _: os.dup(1))
    log.write(b"hello\n", 1)
    log.close()
    os.write(1, b"still open\n")
    assert capfd.readouterr().out == "hello\nstill open\n"
