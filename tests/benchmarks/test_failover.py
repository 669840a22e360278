"""What `make failover` makes of what it saw: outages, holders, tables and what is still to be done. Nothing is run."""

import itertools
import struct
from ipaddress import IPv4Address

import pytest

from benchmarks.failover import __main__ as program
from benchmarks.failover import rows, strain, systems, tally
from benchmarks.failover.holders import GONE, LOCAL, NEW, History, parse
from benchmarks.failover.rows import KEEPALIVED, OURS, ROWS, TANDEM
from benchmarks.failover.tally import Sample, Tally
from benchmarks.failover.watch import Try, count_faults, outage_ms
from tests.kit import flood
from tests.kit.netns import Frame

BY_NAME = {row.name: row for row in ROWS}
STOP = BY_NAME["stop"]


def tries(*moments, fault="-", took=0.001):
    return [Try("probe", at, at + took, fault) for at in moments]


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_rows_have_names_of_their_own_and_bounds_on_what_is_measured():
    assert len(BY_NAME) == len(ROWS)
    for row in ROWS:
        assert {bound.measure for bound in row.bounds} <= set(rows.MEASURES)
        assert all(bound.median is not None or bound.worst is not None for bound in row.bounds)
        assert set(row.systems) <= set(rows.SYSTEMS)
        assert row.interval in systems.SECONDS
    assert set(rows.QUICK) <= set(BY_NAME)


def test_long_rows_get_fewer_rounds_but_one_at_least():
    assert STOP.rounds(7) == 7
    assert BY_NAME["mute"].rounds(7) == 3
    assert BY_NAME["busy"].rounds(7) == 1
    assert BY_NAME["mute"].rounds(1) == 1


# ---- what the client saw ---------------------------------------------------------------------------------------------


def test_an_outage_goes_from_the_last_good_question_to_the_next_good_one():
    seen = [*tries(1.0, 1.002), *tries(1.004, 1.006, fault="silent"), *tries(1.1)]
    assert outage_ms(seen, 1.0) == pytest.approx(98)


def test_an_outage_begins_with_the_event_at_the_earliest():
    assert outage_ms([*tries(0.99), *tries(1.001, fault="cut"), *tries(1.01)], 1.0) == pytest.approx(10)


def test_two_outages_are_added_and_no_fault_is_none():
    seen = [*tries(1.0), *tries(1.01, fault="cut"), *tries(1.02), *tries(1.03, fault="cut"), *tries(1.05)]
    assert outage_ms(seen, 1.0) == pytest.approx(50)
    assert outage_ms(tries(1.0, 1.002, 1.004), 1.0) == 0


def test_an_answer_later_than_50_ms_is_none():
    assert outage_ms([*tries(1.0), *tries(1.002, took=0.06), *tries(1.02)], 1.0) == pytest.approx(20)


def test_faults_are_counted_by_kind():
    assert count_faults([*tries(1, 2, fault="cut"), *tries(3), *tries(4, fault="silent")]) == {"cut": 2, "silent": 1}


# ---- who held the address --------------------------------------------------------------------------------------------


def test_moves_are_counted_when_a_node_gets_the_address_and_a_refresh_is_none():
    history = History({"a": True, "b": False})
    for at, node, holds in [(1, "a", True), (2, "a", False), (2.1, "b", True), (3, "b", True), (9, "a", True)]:
        history.note(at, node, holds)
    assert history.moves(0) == 2
    assert history.moves(5) == 1
    assert history.gained("b", 1.5) == pytest.approx(0.6)
    assert history.gained("b", 5) is None


def test_the_time_of_two_holders_is_added_up_from_the_moment_that_counts():
    history = History({"a": True, "b": False})
    history.note(1.0, "b", True)
    history.note(1.5, "a", False)
    history.note(3.0, "a", True)
    assert history.both(0, 4.0) == pytest.approx(0.5 + 1.0)
    assert history.both(1.2, 4.0) == pytest.approx(0.3 + 1.0)
    assert history.both(1.6, 2.0) == 0


def test_netlink_messages_about_addresses_are_read_and_others_passed_over():
    attribute = struct.pack("=HH4s", 8, LOCAL, IPv4Address("192.168.8.100").packed)
    label = struct.pack("=HH5s3x", 9, 3, b"eth0\0")

    def message(kind, body):
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body

    data = message(16, bytes(16)) + message(NEW, bytes(8) + label + attribute) + message(GONE, bytes(8) + attribute)
    vip = IPv4Address("192.168.8.100").packed
    assert list(parse(data)) == [(NEW, vip), (GONE, vip)]
    assert list(parse(data[:20])) == []
    assert list(parse(message(NEW, bytes(8) + struct.pack("=HH", 0, LOCAL)))) == []
    assert list(parse(bytes(16))) == []


# ---- the tally -------------------------------------------------------------------------------------------------------


def samples(row, system, *outages, **more):
    return [Sample(row, system, {"outage": outage, "failed": 0, "moves": 1, **more}) for outage in outages]


def test_the_median_is_judged_where_one_is_wanted_and_else_the_worst():
    fine = Tally(samples("stop", TANDEM, 1, 2, 90))
    assert fine.failures() == []
    assert Tally(samples("stop", TANDEM, 1, 6, 90)).failures() == ["stop: outage"]
    assert Tally(samples("loss-100ms", TANDEM, 100, 100, 330)).failures() == ["loss-100ms: outage"]
    assert Tally(samples("stop", TANDEM, 1, moves=2)).failures() == ["stop: moves"]
    assert Tally(samples("stop", KEEPALIVED, 1000)).failures() == [], "only ours is judged"


def test_what_is_missing_is_counted_per_row_and_system():
    done = Tally(samples("stop", TANDEM, 1, 2))
    jobs = done.missing([STOP], rows.SYSTEMS, 3)
    assert [(job.system, job.number) for job in jobs] == [
        (TANDEM, 2),
        (KEEPALIVED, 0),
        (KEEPALIVED, 1),
        (KEEPALIVED, 2),
    ]
    assert done.missing([STOP], [TANDEM], 2) == []


def test_the_rounds_of_a_laboratory_alternate_its_events():
    jobs = Tally().missing([STOP, BY_NAME["kill"]], [TANDEM], 2)
    assert [(job.row.name, job.number) for job in jobs] == [("stop", 0), ("kill", 0), ("stop", 1), ("kill", 1)]


def test_a_laboratory_is_left_only_when_system_interval_or_setup_change():
    jobs = Tally().missing(ROWS, rows.SYSTEMS, 2)
    order = [tally.laboratory(job) for job in jobs]
    assert len(set(order)) == 1 + sum(one != other for one, other in itertools.pairwise(order))


def test_the_table_has_measured_beside_wanted():
    text = Tally([*samples("stop", TANDEM, 1, 6, 90), *samples("stop", KEEPALIVED, 120)]).table()
    head, _, line, failed, moves = text.splitlines()
    assert head.split("  ")[0] == "what happens to node A"
    assert "polite stop" in line
    assert "<= 5" in line
    assert "6 (1 to 90, 3 rounds)  OVER" in line
    assert "120 (120 to 120, 1 rounds)" in line
    assert "worst <= 0" in failed
    assert "1 (3 rounds)" in moves


def test_failed_requests_are_named_where_none_is_wanted():
    lost = Sample("stop", TANDEM, {"failed": 2}, {"cut": 2})
    elsewhere = Sample("kill", TANDEM, {"failed": 2}, {"cut": 2})
    assert Tally([lost, elsewhere]).failed() == [f"{TANDEM}, stop: 2 cut"]


def test_a_file_is_gone_on_with_where_it_was_left():
    before = Tally([*samples("stop", TANDEM, 1, 2), *samples("kill", OURS, 3)])
    assert tally.from_json(before.as_json()).as_json() == before.as_json()
    with pytest.raises(TypeError):
        tally.from_json([{"event": "an older file"}])


# ---- the program -----------------------------------------------------------------------------------------------------


def test_a_quick_run_is_a_few_rows_of_two_rounds_without_filled_caches():
    options = program.parse_arguments(["--quick"])
    assert (options.rounds, options.fill, options.rows) == (2, 0, rows.QUICK)
    assert tally.minutes(Tally().missing([BY_NAME[name] for name in options.rows], options.systems, 2)) < 10


def test_a_full_run_is_all_rows_of_seven_rounds_in_about_half_an_hour():
    options = program.parse_arguments([])
    assert (options.rounds, options.fill, list(options.rows)) == (7, 512, [row.name for row in ROWS])
    assert tally.minutes(Tally().missing(ROWS, options.systems, 7)) < 32


def test_rows_are_named_on_the_command_line_and_a_wrong_name_is_an_error(capsys):
    assert program.parse_arguments(["--rows", "kill,stop"]).rows == ["kill", "stop"]
    assert program.parse_arguments(["--systems", OURS]).systems == [OURS]
    with pytest.raises(SystemExit):
        program.parse_arguments(["--rows", "kill,nonsense"])
    assert "no such name: nonsense; there are: loss-1s" in capsys.readouterr().err


# ---- its parts -------------------------------------------------------------------------------------------------------


def test_the_time_of_a_process_is_read_whatever_its_name_is():
    assert strain.parse_cpu("7 (a) b) R 1 2 3 4 5 6 7 8 9 10 70 30 0 0") == 100


def test_an_advertisement_of_a_is_one_that_the_bridge_receives():
    frame = bytes(12) + b"\x08\x00" + flood.stranger()
    assert systems.is_advert_of_a(Frame(0.0, sent=False, data=frame))
    assert not systems.is_advert_of_a(Frame(0.0, sent=True, data=frame))
    assert not systems.is_advert_of_a(Frame(0.0, sent=False, data=frame[:23] + b"\x06" + frame[24:]))
