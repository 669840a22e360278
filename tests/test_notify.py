"""The service manager hears each change of state, on either kind of address, and its silence stops nothing."""

import os
import socket

import pytest

from proxy.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@tandem-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1))
        sock.settimeout(5)
        yield name, sock


def heard(sock):
    return dict(line.split("=", 1) for line in sock.recv(4096).decode().splitlines())


def test_ready_reloading_stopping_and_status_are_told(manager):
    name, sock = manager
    notifier = Notifier({"NOTIFY_SOCKET": name}, os.getpid())
    notifier.ready("serving")
    assert heard(sock) == {"READY": "1", "STATUS": "serving", "MAINPID": str(os.getpid())}
    notifier.reloading()
    reloading = heard(sock)
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    notifier.status("half of it")
    assert heard(sock) == {"STATUS": "half of it"}
    notifier.stopping()
    assert heard(sock)["STOPPING"] == "1"
    notifier.alive()
    assert heard(sock) == {"WATCHDOG": "1"}


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "no"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_told_at_half_its_time_if_it_is_ours(environment, seconds):
    assert Notifier({"NOTIFY_SOCKET": "/x", **environment}, 7).watchdog == seconds


@pytest.mark.parametrize("name", ["", "relative", "/nobody/there", "@nobody-there"])
def test_nobody_listening_is_no_error(name):
    Notifier({"NOTIFY_SOCKET": name}, 1).ready("x")
    Notifier({}, 1).stopping()
