"""The scenario that must always work: two real instances, a client that asks on, and whatever happens to one of them.

Who holds the address, how often it moved and which requests failed is what counts. Where a node has to be told of a
fault instead of waiting for silence, the outage shows it; intervals are long, so that silence is longer than a busy
machine takes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_interface

import pytest

from tests.kit import flood
from tests.kit import pair as kit
from tests.kit.netns import VIP, VIP6, make_lab, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

BOTH = [str(VIP), str(VIP6)]
INTERVAL = "300ms"
TOLD = 700  # milliseconds; silence takes 750 to 930


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with make_lab() as lab:
        yield kit.Pair(lab, tmp_path_factory.mktemp("pair"), kit.config(interval=INTERVAL, vip=BOTH))


@pytest.fixture
def client(pair):
    """Asks once in 10 ms, from a state in which A is Active and B can take over."""
    pair.settle("a")
    one = kit.Client(pair.lab)
    one.wait_for_answers()
    yield one
    one.close()


@pytest.fixture
def visitor(pair):
    """Comes anew for each answer, which takes the origin 10 ms; who has to try to connect again is a failure."""
    pair.settle("a")
    one = kit.Client(pair.lab, path="/slow/live", patience=0.9)
    one.wait_for_answers()
    yield one
    one.close()


@pytest.fixture
def steady(pair):
    """Waits for its answers as long as a busy machine takes: what fails is refused, cut or lost."""
    pair.settle("a")
    one = kit.Client(pair.lab, patience=10)
    one.wait_for_answers()
    yield one
    one.close()


def moved_to_b(pair, client, at, most_ms, seconds=5):
    """B has both addresses and A none; the client went without for at most so long."""
    pair.b.wait_for("active", seconds)
    client.wait_for_answers()
    wait_until(lambda: pair.holders() == ["b"] and pair.holders(VIP6) == ["b"])
    assert client.outage(at) < most_ms, (client.failed(at), pair.said())


def test_a_node_whose_last_worker_is_killed_lets_go_at_once(pair, client):
    at = time.monotonic()
    pair.a.kill("worker-0")
    moved_to_b(pair, client, at, TOLD)
    assert "no live worker" in pair.a.said()


def test_a_handover_costs_no_request(pair, visitor):
    at = time.monotonic()
    answer = pair.a.ask("handover")
    assert answer["ok"], answer
    assert answer["to"] == "b"
    assert answer["milliseconds"] < TOLD
    pair.b.wait_for("active")
    visitor.wait_for_answers()
    assert pair.a.ask("handover")["ok"]  # from the other side
    pair.a.wait_for("active")
    visitor.wait_for_answers()
    assert not visitor.failed(at), f"{visitor.story(at)}\n{pair.said()}"


def test_a_drill_goes_there_and_back(pair, visitor):
    at = time.monotonic()
    answer = pair.a.ask("drill", seconds=0.2)
    assert answer["ok"], answer
    pair.a.wait_for("active")
    visitor.wait_for_answers()
    assert not visitor.failed(at), f"{visitor.story(at)}\n{pair.said()}"
    assert not pair.b.ask("drill")["ok"]


def test_when_ha_is_killed_the_supervisor_cleans_up_and_starts_it_as_backup(pair, client):
    at = time.monotonic()
    pair.a.kill("ha")
    moved_to_b(pair, client, at, TOLD)
    assert "let go of vip-51-ipv4, vip-51-ipv6 in its place" in pair.a.said()
    pair.a.wait_for("backup")
    assert pair.holders() == ["b"]


def test_when_the_supervisor_is_killed_ha_lets_go_and_ends(pair, client):
    ha = pair.a.pid("ha")
    at = time.monotonic()
    os.kill(pair.a.pid("supervisor"), signal.SIGKILL)
    moved_to_b(pair, client, at, TOLD)
    wait_until(lambda: not is_alive(ha))
    pair.a.process.wait(10)
    pair.a.start()
    pair.a.wait_for("backup")


def test_a_cut_link_moves_the_address_and_its_return_moves_nothing(pair, client):
    at = time.monotonic()
    pair.lab.cut("a")
    moved_to_b(pair, client, at, 3000)
    assert pair.a.states() == {"initialize"}
    back = time.monotonic()
    pair.lab.restore("a")
    pair.a.wait_for("backup")
    pair.settle_down()
    assert pair.holders() == ["b"]
    assert not client.failed(back), client.story(back)


def test_an_interface_that_vanishes_is_found_again_by_its_name(pair, client):
    pair.lab.unplug("a")
    pair.b.wait_for("active", 5)
    assert pair.a.states() == {"initialize"}
    pair.lab.plug("a")
    pair.a.wait_for("backup")
    pair.settle_down()
    assert pair.holders() == ["b"]


def test_a_polite_stop_costs_no_request_and_power_back_moves_nothing(pair, visitor):
    at = time.monotonic()
    assert pair.a.stop() == 0
    pair.b.wait_for("active")
    visitor.wait_for_answers()
    pair.a.start()
    pair.a.wait_for("backup")
    pair.settle_down()
    assert pair.holders() == ["b"]
    assert not visitor.failed(at), f"{visitor.story(at)}\n{pair.said()}"


def test_a_hung_worker_is_as_good_as_none(pair, client):
    at = time.monotonic()
    pair.a.kill("worker-0", signal.SIGSTOP)
    try:
        moved_to_b(pair, client, at, 3000)
    finally:
        pair.a.kill("worker-0", signal.SIGCONT)


def test_a_frozen_ha_loses_its_address_to_the_kernel_and_its_thaw_moves_nothing(pair, client):
    at = time.monotonic()
    pair.a.kill("ha", signal.SIGSTOP)
    try:
        pair.b.wait_for("active", 5)
        wait_until(lambda: not pair.a.holds(), 10)
        time.sleep(
            max(0.0, at + 1.5 - time.monotonic())
        )  # several intervals: it will know that others may have claimed
    finally:
        pair.a.kill("ha", signal.SIGCONT)
    pair.a.wait_for("backup")
    pair.settle_down()
    assert pair.holders() == ["b"]


def test_when_all_of_a_node_is_killed_at_once_the_kernel_cleans_up(pair, client):
    processes = [one["pid"] for one in pair.a.state()["processes"]]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    pair.b.wait_for("active", 5)
    wait_until(lambda: not pair.a.holds() and not pair.a.holds(VIP6), 10)
    pair.a.process.wait(10)
    pair.a.start()
    pair.a.wait_for("backup")


def test_a_partition_ends_with_one_active(pair, client):
    at = time.monotonic()
    pair.lab.isolate("a")
    pair.b.wait_for("active", 5)
    client.wait_for_answers()
    assert client.outage(at) < 4000  # 2.5 intervals and the skew time is the law
    assert pair.a.states() == {"active"}, "nobody told it anything"
    time.sleep(1)
    pair.lab.restore("a")
    wait_until(lambda: pair.holders() == ["a"] and pair.holders(VIP6) == ["a"], 5)
    pair.b.wait_for("backup")
    client.wait_for_answers()
    assert "active -> backup: a is Active" in pair.b.said()


@pytest.mark.parametrize("lose", [lambda lab: lab.mute("a"), lambda lab: lab.deafen("b")], ids=["mute", "deafen"])
def test_filtered_advertisements_move_nothing_while_the_link_lives(pair, steady, lose):
    before, at, loud = moves(pair), time.monotonic(), pair.b.said().count("adverts-filtered")
    shouts = pair.b.ask("status")["routers"][0]["shouts"].get("adverts-filtered", 0)
    lose(pair.lab)
    try:
        wait_until(lambda: pair.b.ask("status")["routers"][0]["shouts"].get("adverts-filtered", 0) > shouts + 2, 60)
    finally:
        pair.lab.clear("a")
        pair.lab.clear("b")
    assert moves(pair) == before
    assert not steady.failed(at), steady.story(at)
    assert pair.b.said().count("adverts-filtered") - loud <= 2, "one loud line a minute for each family"


@pytest.mark.parametrize("flags", [["--each-fault"], []], ids=["each-fault", "flood"])
def test_forged_advertisements_move_nothing_and_fill_no_log(pair, steady, flags):
    before, at, lines = moves(pair), time.monotonic(), pair.a.said().count("\n")
    pair.lab["client"].run(sys.executable, flood.__file__, 200 if flags else 20_000, 1, *flags)
    assert moves(pair) == before
    assert pair.holders() == ["a"]
    assert not steady.failed(at), steady.story(at)
    assert pair.a.said().count("\n") - lines <= 20


def test_reloads_move_nothing_and_take_new_values_over(pair, steady):
    before, at = moves(pair), time.monotonic()
    for number in range(3):
        text = kit.config(interval=INTERVAL, vip=BOTH, ha=f'garp_refresh = "{10 + number}s"')
        for node in pair.nodes.values():
            node.write(text)
            node.reload()
    assert moves(pair) == before
    assert not steady.failed(at), steady.story(at)
    more = kit.config(interval=INTERVAL, vip=[*BOTH, "192.168.8.101/24"])
    for node in pair.nodes.values():
        node.write(more)
        node.reload()
    wait_until(lambda: pair.a.namespace.reaches("192.168.8.101"))
    assert moves(pair) == before
    for node in pair.nodes.values():
        node.write(pair.text)
        node.reload()
    wait_until(lambda: not pair.a.namespace.reaches("192.168.8.101", 0.2), 10)
    assert moves(pair) == before


def test_with_preempt_the_preferred_node_takes_the_address_back(pair, client):
    text = kit.config(interval=INTERVAL, vip=BOTH, ha="preempt = true")
    for node in pair.nodes.values():
        node.write(text)
        node.reload()
    try:
        at = time.monotonic()
        pair.a.kill("worker-0")
        pair.b.wait_for("active", 5)
        pair.a.wait_for("active", 15)  # when its new worker has served for long enough
        wait_until(lambda: pair.holders() == ["a"])
        client.wait_for_answers()
        assert len(client.failed(at)) < 20
    finally:
        for node in pair.nodes.values():
            node.write(pair.text)
            node.reload()


def test_status_says_who_is_what_and_why(pair, client):
    status = pair.a.ask("status")
    assert {one["state"] for one in status["routers"]} == {"active"}
    assert {one["vrid"] for one in status["routers"]} == {51}
    (other,) = status["nodes"]
    assert (other["name"], other["link"], other["drift"]) == ("b", "up", False)
    processes = {one["name"]: one["state"] for one in pair.a.state()["processes"]}
    assert processes["ha"] == "running"
    assert not pair.a.ask("nonsense")["ok"]


def test_metrics_and_the_configuration_digest_are_shown(pair, client):
    text = pair.a.get("/metrics")
    assert "tandem_ha_up 1" in text
    assert 'tandem_ha_state{router="vip-51-ipv4",state="active"} 1' in text
    assert 'tandem_ha_link_up{node="b"} 1' in text


def test_the_commands_say_the_same(pair, client):
    said = pair.a.command("ha", "status")
    assert "ACTIVE" in said
    assert "all is well" in said
    assert "vip 192.168.8.100/24: active" in pair.a.command("status")
    assert "handed over to b" in pair.a.command("ha", "handover")
    assert "lives" in pair.a.command("ha", "release", status=1)


def test_at_the_end_nothing_is_left(pair):
    pair.settle("a")
    assert pair.a.namespace.sysctl("net.ipv4.conf.eth0.arp_ignore") == "1"
    for node in pair.nodes.values():
        assert node.stop() == 0
        assert not node.holds()
        assert not node.holds(VIP6)
        assert node.namespace.sysctl("net.ipv4.conf.eth0.arp_ignore") == "0"
        assert json.loads((node.runtime / "ha.state").read_text())["addresses"] == []


def moves(pair):
    return {host: node.ask("status")["routers"][0]["transitions"] for host, node in pair.nodes.items()}


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---- other pairs -----------------------------------------------------------------------------------------------------

CROSSED = """
[[ha.router]]
vip = "192.168.8.100/24"
vrid = 51
[[ha.router]]
vip = "192.168.8.101/24"
vrid = 52
first = "b"
"""


def crossed_config():
    text = kit.config(ha="preempt = true")
    return text.replace('vip = ["192.168.8.100/24"]\nvrid = 51\n', "").replace("\n[ha.nodes]", CROSSED + "\n[ha.nodes]")


def test_two_routers_with_crossed_preferences_make_both_nodes_active(tmp_path):
    second = ip_interface("192.168.8.101/24")
    with make_lab() as lab:
        pair = kit.Pair(lab, tmp_path, crossed_config())
        wait_until(lambda: pair.holders() == ["a"] and pair.holders(second) == ["b"], 30)
        pair.settle_down()
        pair.a.kill("worker-0")
        wait_until(lambda: pair.holders() == ["b"] and pair.holders(second) == ["b"], 5)
        wait_until(lambda: pair.holders() == ["a"] and pair.holders(second) == ["b"], 20)
        for node in pair.nodes.values():
            assert node.stop() == 0


@pytest.mark.tomcat
def test_in_front_of_tomcat_clients_go_on(tmp_path):
    with make_lab() as lab:
        tomcat = kit.start_tomcat_in(lab, tmp_path)
        try:
            pair = kit.Pair(lab, tmp_path, kit.config(health='{ path = "/", every = "200ms" }'), origin=False)
            pair.settle("a")
            client = kit.Client(lab, path="/examples/jsp/snp/snoop.jsp", patience=2)
            client.wait_for_answers()
            at = time.monotonic()
            pair.a.kill("worker-0")
            pair.b.wait_for("active", 5)
            client.wait_for_answers()
            assert client.outage(at) < 500
            assert pair.a.stop() == 0
            client.close()
        finally:
            lab["origin"].call(tomcat.stop)


def test_a_node_whose_origin_is_gone_yields_to_one_that_has_it(tmp_path):
    with make_lab() as lab:
        pair = kit.Pair(lab, tmp_path)
        pair.settle("a")
        kit.block_origin(lab["a"])
        pair.b.wait_for("active", 10)
        assert "origins of shop: -30" in pair.a.command("ha", "status")
        before = moves(pair)
        kit.block_origin(lab["b"])
        wait_until(lambda: "origins of shop: -30" in pair.b.command("ha", "status"), 10)
        time.sleep(0.5)
        assert moves(pair) == before, "both are ill: the holder keeps it"


def test_without_the_rights_one_line_says_which(tmp_path):
    (tmp_path / "ha.key").write_text(kit.SECRET)
    (tmp_path / "ha.key").chmod(0o600)
    (tmp_path / "tandem.toml").write_text(kit.config().replace('":80"', '":8099"'))
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set", "-net_admin,-net_raw", sys.executable, "-P", "-m", "proxy", "run"),
            *("-c", str(tmp_path / "tandem.toml"), "--runtime", str(tmp_path / "r")),
        ],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(kit.ROOT)},
        timeout=60,
    )
    assert done.returncode == 1
    assert "[ha] needs the right CAP_NET_ADMIN and CAP_NET_RAW" in done.stderr


def test_on_a_machine_that_is_no_node_one_line_says_so(tmp_path):
    with make_lab(("client", "origin")) as lab:
        text = kit.config()
        one = kit.Instance(lab, "client", tmp_path, text)
        assert one.process.wait(60) == 1
        assert "no interface of this machine has the address of a node (192.168.8.4, 192.168.8.6)" in one.said()
