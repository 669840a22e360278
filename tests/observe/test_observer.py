"""The observer: what is counted and logged at the end of an exchange, and that the memo's short way leaves the same."""

from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.errors import Failure
from proxy.exchange import Outcome
from proxy.observe import metrics
from proxy.observe.accesslog import LogFile, compile_format
from proxy.observe.observer import AccessLog, Observer
from proxy.policy.reasons import Reason
from tests.observe.exchanges import client, clients, ended, exchanges

LAYOUT = metrics.layout(["shop", "blog"])
OFFSET = 1_699_999_900.0


class KeptFile:
    """A log file in memory."""

    def __init__(self):
        self.data, self.reopened, self.closed, self.dropped, self.trouble = b"", 0, False, 0, None

    def write(self, lines, count):
        assert lines.count(b"\n") == count
        self.data += lines

    def reopen(self):
        self.reopened += 1

    def close(self, patience=2.0):
        self.closed = True

    def take_dropped(self):
        dropped, self.dropped = self.dropped, 0
        return dropped


def make(*formats, layout=LAYOUT):
    slots = metrics.view(bytearray(metrics.REGION))
    logs = [AccessLog(KeptFile(), compile_format(text)) for text in formats]
    return Observer(slots, layout, logs, offset=lambda: OFFSET), slots, [log.file for log in logs]


def count(slots, name, **labels):
    return slots[metrics.slot(name, **labels)]


def test_an_exchange_counts_once_in_each_family():
    observer, slots, _ = make()
    x = ended(outcome=Outcome.MISS, reason=Reason.URI_MISS, first_byte=100.02, received=5)
    observer.finished(x, 100.05)
    observer.flush()
    assert count(slots, "tandem_requests_total", outcome="miss") == 1
    assert count(slots, "tandem_responses_total", status="2xx") == 1
    assert count(slots, "tandem_reasons_total", reason="uri-miss") == 1
    assert count(slots, "tandem_response_bytes_total") == 1024
    assert count(slots, "tandem_request_bytes_total") == 5
    block = LAYOUT.blocks["shop"]
    assert slots[block + metrics.site_offset("tandem_site_requests_total", outcome="miss")] == 1
    assert slots[block + metrics.site_offset("tandem_site_responses_total", status="2xx")] == 1
    assert slots[block + metrics.site_offset("tandem_site_response_bytes_total")] == 1024
    text = metrics.render({"w": slots}, LAYOUT)
    assert "tandem_request_duration_seconds_count 1" in text
    assert 'tandem_first_byte_seconds_bucket{le="0.0256"} 1' in text
    assert 'tandem_first_byte_seconds_bucket{le="0.0128"} 0' in text


def test_an_exchange_without_route_counts_for_the_site_it_names_and_else_for_none():
    observer, slots, _ = make()
    observer.finished(ended(route=None, site="blog", outcome=Outcome.ANSWER, status=302, reason=None), 100.0)
    observer.finished(
        ended(route=None, outcome=Outcome.REFUSED, status=400, failure=Failure(errors.BAD_REQUEST)), 100.0
    )
    assert slots[LAYOUT.blocks["blog"] + metrics.site_offset("tandem_site_requests_total", outcome="answer")] == 1
    assert count(slots, "tandem_errors_total", error="bad-request") == 1
    assert not any(slots[LAYOUT.blocks["shop"] : LAYOUT.blocks["shop"] + metrics.BLOCK].tolist())


def test_only_an_answer_that_had_begun_and_failed_counts_as_cut():
    observer, slots, _ = make()
    for outcome, kind in [
        (Outcome.FAILED, errors.CONNECT_ERROR),
        (Outcome.REFUSED, errors.FORBIDDEN),
        (Outcome.MISS, errors.CLIENT_GONE),
    ]:
        observer.finished(ended(outcome=outcome, failure=Failure(kind)), 100.0)
    assert count(slots, "tandem_responses_cut_total") == 0
    observer.finished(ended(outcome=Outcome.MISS, failure=Failure(errors.RESPONSE_CUT)), 100.0)
    assert count(slots, "tandem_responses_cut_total") == 1


def test_lines_are_written_at_the_flush_to_every_log():
    observer, slots, (common, squid) = make("common", "squid")
    observer.finished(ended(), 100.0)
    assert common.data == squid.data == b""
    observer.flush()
    assert common.data == b'192.0.2.7 - - [14/Nov/2023:22:13:20 +0000] "GET /a?b=1 HTTP/1.1" 200 1024\n'
    assert b"TCP_MEM_HIT/200" in squid.data
    assert count(slots, "tandem_log_lines_total") == 2


def test_a_full_batch_is_written_without_waiting_for_the_timer():
    observer, _, (log,) = make("common")
    x = ended()
    template = observer.template(x)
    for _ in range(999):
        observer.repeated(template, x.client, 100.0)
    assert not log.data
    observer.finished(x, 100.0)
    assert log.data.count(b"\n") == 1000


repetitions = st.lists(st.tuples(st.integers(0, 3), clients, st.floats(100, 200)), max_size=12)
FORMATS = ("combined", "squid", "json", "{port} {duration} {iso_time} {detail}")


@given(st.lists(exchanges, min_size=4, max_size=4), repetitions, st.integers(0, 12))
def test_repetitions_leave_the_same_counters_and_lines_as_exchanges(originals, times, flush_at):
    """Each repetition once through `repeated` with a template, once through `finished` as what it stands for."""
    short, short_slots, short_files = make(*FORMATS)
    long, long_slots, long_files = make(*FORMATS)
    for x in originals:  # an answer of the memo takes no time, asks no origin, and has its own connection's client
        x.first_byte = None
        x.remote = x.client.address if x.remote == "" else x.remote
    templates = [short.template(x) for x in originals]
    for at, (which, who, now) in enumerate(times):
        if at == flush_at:
            short.flush()
        short.repeated(templates[which], who, now)
        x = originals[which]
        told = x.remote != x.client.address
        x.client, x.started = who, now
        x.remote = x.remote if told else who.address
        long.finished(x, now)
    short.flush()
    long.flush()
    memo_hits = metrics.slot("tandem_memo_hits_total")
    assert short_slots[memo_hits] == len(times)
    long_slots[memo_hits] = len(times)  # which way it went is all that differs
    assert short_slots.tolist() == long_slots.tolist()
    assert [file.data for file in short_files] == [file.data for file in long_files]


@given(
    st.lists(exchanges, min_size=3, max_size=3), st.lists(st.tuples(st.integers(0, 2), st.floats(0, 50)), max_size=12)
)
def test_equal_exchanges_leave_the_same_by_their_likeness_as_one_by_one(originals, times):
    """Relayed answers differ in their times alone: what is equal comes from a template, the times from each."""
    short, short_slots, short_files = make(*FORMATS)
    long, long_slots, long_files = make(*FORMATS)
    likenesses = [short.likeness(x) for x in originals]
    for which, duration in times:
        x = originals[which]
        short.alike(likenesses[which], x, x.started + duration)
        long.finished(x, x.started + duration)
    short.flush()
    long.flush()
    assert short_slots.tolist() == long_slots.tolist()
    assert [file.data for file in short_files] == [file.data for file in long_files]


def test_without_logs_a_repetition_is_only_counted():
    observer, slots, _ = make()
    x = ended()
    template = observer.template(x)
    for _ in range(5000):
        observer.repeated(template, x.client, 100.0)
    assert count(slots, "tandem_requests_total", outcome="hit") == 0
    observer.flush()
    observer.flush()
    assert count(slots, "tandem_requests_total", outcome="hit") == 5000


def test_making_a_template_counts_nothing():
    observer, slots, _ = make("common")
    observer.template(ended())
    observer.flush()
    assert not any(slots[: metrics.MARK].tolist())


def test_dropped_lines_are_counted_at_the_next_flush():
    observer, slots, (log,) = make("common")
    log.dropped = 3
    observer.flush()
    assert count(slots, "tandem_log_dropped_total") == 3


def test_a_new_configuration_flushes_first_keeps_counters_and_closes_what_is_gone():
    observer, slots, (log,) = make("common")
    observer.finished(ended(), 100.0)
    template = observer.template(ended())
    new = AccessLog(KeptFile(), compile_format("{site}"))
    layout = metrics.layout(["blog", "shop"])
    observer.configure(layout, [new])
    assert (log.closed, log.data.count(b"\n")) == (True, 1)
    observer.finished(ended(), 100.0)
    observer.flush()
    assert new.file.data == b"shop\n"
    assert slots[layout.blocks["shop"] + metrics.site_offset("tandem_site_requests_total", outcome="hit")] == 2
    assert template.generation != observer.generation


def test_an_observer_made_before_its_configuration_goes_on_where_its_predecessor_counted():
    first, slots, _ = make()
    first.finished(ended(), 100.0)
    second = Observer(slots, metrics.layout(), offset=lambda: OFFSET)
    second.configure(LAYOUT, [])
    second.finished(ended(), 100.0)
    assert slots[LAYOUT.blocks["shop"] + metrics.site_offset("tandem_site_requests_total", outcome="hit")] == 2


def test_reopen_and_close_write_what_has_ended_before():
    observer, _, (log,) = make("common")
    observer.finished(ended(), 100.0)
    observer.reopen()
    assert (log.data.count(b"\n"), log.reopened) == (1, 1)
    observer.finished(ended(), 100.0)
    observer.close()
    assert (log.data.count(b"\n"), log.closed) == (2, True)


def test_the_trouble_of_a_log_file_is_told():
    slots = metrics.view(bytearray(metrics.REGION))
    observer = Observer(
        slots, LAYOUT, [AccessLog(LogFile("/dev/full"), compile_format("common"))], offset=lambda: OFFSET
    )
    observer.finished(ended(client=client()), 100.0)
    observer.close()
    assert observer.trouble() == ["/dev/full: lines dropped: No space left on device"]
    assert count(slots, "tandem_log_dropped_total") == 1
