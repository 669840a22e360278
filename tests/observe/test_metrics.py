"""The table of metrics: slots, layouts, and Prometheus text with prometheus_client's parser as oracle."""

import mmap
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from proxy.errors import KINDS
from proxy.exchange import Outcome
from proxy.observe import metrics
from proxy.policy.reasons import Reason

names = st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=8)


def fresh():
    return metrics.view(bytearray(metrics.REGION))


def parsed(text):
    """{(sample name, labels): value}, as Prometheus would read it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_slot_of_the_table_is_used_once():
    taken = []
    for metric in metrics.METRICS:
        first = metrics._first(metric)
        taken += range(first, first + metrics._width(metric))
    assert taken == list(range(metrics.FIXED))


def test_each_outcome_reason_and_error_has_a_slot():
    for outcome in Outcome:
        metrics.slot("tandem_requests_total", outcome=outcome.value)
    for reason in Reason:
        metrics.slot("tandem_reasons_total", reason=reason.token)
    for token in KINDS:
        metrics.slot("tandem_errors_total", error=token)


def test_a_name_or_label_that_is_not_in_the_table_has_no_slot():
    with pytest.raises(KeyError):
        metrics.slot("tandem_requests_total", outcome="wonder")
    with pytest.raises(KeyError):
        metrics.slot("tandem_wonders_total")


def test_names_follow_prometheus_conventions():
    for metric in (*metrics.METRICS, *metrics.SITE_METRICS):
        assert re.fullmatch(r"tandem_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is metrics.Kind.COUNTER)
        assert metric.help.endswith(".")


@given(names)
def test_a_layout_is_a_function_of_the_site_order(sites):
    one, other = metrics.layout(sites), metrics.layout(list(sites))
    assert one == other
    assert list(one.blocks.values()) == [metrics.FIXED + metrics.BLOCK * i for i in range(len(sites))]


def test_more_sites_than_blocks_share_the_last_one():
    sites = [f"s{i}" for i in range(metrics.MAX_SITES + 10)]
    layout = metrics.layout(sites)
    assert layout.used <= metrics.SLOTS
    assert layout.sites[-1] == metrics.OTHER
    assert layout.blocks[sites[-1]] == layout.blocks[metrics.OTHER]
    assert layout.blocks["s0"] == metrics.FIXED


def test_as_many_sites_as_blocks_share_none():
    layout = metrics.layout([f"s{i}" for i in range(metrics.MAX_SITES)])
    assert len(set(layout.blocks.values())) == metrics.MAX_SITES


def test_a_view_sees_what_another_view_of_the_same_memory_counts():
    memory = mmap.mmap(-1, 2 * metrics.REGION)
    mine, theirs = metrics.view(memory), metrics.view(memoryview(memory)[metrics.REGION :])
    mine[0] += 1
    assert (metrics.view(memory)[0], theirs[0], len(mine)) == (1, 0, metrics.SLOTS)


def test_render_sums_counters_and_shows_gauges_by_process():
    regions = {"worker-0": fresh(), "worker-1": fresh()}
    for count, slots in enumerate(regions.values(), 1):
        slots[metrics.slot("tandem_requests_total", outcome="hit")] += count
        slots[metrics.slot("tandem_store_bytes")] = 10 * count
    seen = parsed(metrics.render(regions, metrics.layout()))
    assert seen["tandem_requests_total", (("outcome", "hit"),)] == 3
    assert seen["tandem_store_bytes", (("process", "worker-0"),)] == 10
    assert seen["tandem_store_bytes", (("process", "worker-1"),)] == 20
    assert metrics.total(regions, "tandem_store_bytes") == 30


def test_seconds_are_shown_in_seconds():
    slots = fresh()
    slots[metrics.slot("tandem_loop_lag_seconds")] = 2500
    assert (
        parsed(metrics.render({"w": slots}, metrics.layout()))["tandem_loop_lag_seconds", (("process", "w"),)] == 0.0025
    )


@given(names, st.data())
def test_any_region_renders_to_text_that_the_parser_reads_back(sites, data):
    layout, slots = metrics.layout(sites), fresh()
    for _ in range(5):
        slots[data.draw(st.integers(0, layout.used - 1))] = data.draw(st.integers(0, 2**40))
    seen = parsed(metrics.render({"worker-0": slots}, layout))
    for site in sites:
        at = layout.blocks[site] + metrics.site_offset("tandem_site_requests_total", outcome="miss")
        assert seen["tandem_site_requests_total", (("outcome", "miss"), ("site", site))] == slots[at]


def test_the_types_told_are_the_types_read():
    families = {
        f.name: f.type for f in text_string_to_metric_families(metrics.render({"w": fresh()}, metrics.layout(["s"])))
    }
    for metric in (*metrics.METRICS, *metrics.SITE_METRICS):
        assert families[metric.name.removesuffix("_total")] == metric.kind.value


@given(st.lists(st.floats(0, 1000), max_size=30))
def test_histogram_buckets_hold_what_is_at_most_their_bound(times):
    slots = fresh()
    for seconds in times:
        metrics.observe(slots, metrics.slot("tandem_request_duration_seconds"), seconds)
    seen = parsed(metrics.render({"w": slots}, metrics.layout()))
    for bound in metrics.BOUNDS:
        assert seen["tandem_request_duration_seconds_bucket", (("le", repr(bound)),)] == sum(t <= bound for t in times)
    assert seen["tandem_request_duration_seconds_count", ()] == len(times)
    assert seen["tandem_request_duration_seconds_sum", ()] == pytest.approx(sum(times), abs=1e-5 * (1 + len(times)))


def test_a_clock_that_steps_back_cannot_make_a_counter_fall():
    slots = fresh()
    metrics.observe(slots, metrics.slot("tandem_request_duration_seconds"), -1.0)
    assert min(slots.tolist()) == 0


def test_a_restarted_process_keeps_counters_and_loses_gauges():
    slots = fresh()
    slots[metrics.slot("tandem_requests_total", outcome="hit")] = 5
    slots[metrics.slot("tandem_connections_open")] = 7
    metrics.clear_gauges(slots)
    assert slots[metrics.slot("tandem_requests_total", outcome="hit")] == 5
    assert slots[metrics.slot("tandem_connections_open")] == 0


@given(names, names)
def test_at_reload_sites_that_stay_keep_their_counts(before, after):
    old, new, slots = metrics.layout(before), metrics.layout(after), fresh()
    metrics.move_sites(slots, metrics.layout(), old)
    for number, site in enumerate(before, 1):
        slots[old.blocks[site]] = number
    metrics.move_sites(slots, old, new)
    for site in after:
        assert slots[new.blocks[site]] == (before.index(site) + 1 if site in before else 0)
    assert not any(slots[new.used : metrics.MARK].tolist())


def test_a_restarted_process_goes_on_counting_for_the_same_sites_and_for_no_others():
    one, other, slots = metrics.layout(["a", "b"]), metrics.layout(["b", "a"]), fresh()
    metrics.move_sites(slots, metrics.layout(), one)
    slots[one.blocks["b"]] = 7
    metrics.move_sites(slots, metrics.layout(), one)
    assert slots[one.blocks["b"]] == 7
    metrics.move_sites(slots, metrics.layout(), other)
    assert slots[one.blocks["b"]] == slots[other.blocks["b"]] == 0


def test_checks_render_as_gauges():
    text = metrics.render_checks([("shop", "10.0.0.1:80", True), ('a"b', "10.0.0.2:80", False)])
    seen = parsed(text)
    assert seen["tandem_check_up", (("pool", "shop"), ("upstream", "10.0.0.1:80"))] == 1
    assert seen["tandem_check_up", (("pool", 'a"b'), ("upstream", "10.0.0.2:80"))] == 0
    assert not metrics.render_checks([])


def test_without_a_process_there_is_nothing_to_say():
    assert not metrics.render({}, metrics.layout(["s"])).strip()
