"""The systemd unit: no root, little reach. Scored by systemd itself, offline."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from proxy import rights

UNIT = Path(__file__).resolve().parent.parent / "deploy" / "tandem.service"
HIGHEST_EXPOSURE = 17  # in tenths, as --threshold takes it

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def service():
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read(UNIT)
    return parser["Service"]


@needs_systemd
def test_the_exposure_of_the_unit_is_low():
    command = ["systemd-analyze", "--no-pager", "--offline=true", f"--threshold={HIGHEST_EXPOSURE}", "security", UNIT]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stdout[-300:] + run.stderr


@needs_systemd
def test_every_line_of_the_unit_is_understood():
    run = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True, check=False, timeout=60)
    unknown = [line for line in run.stderr.splitlines() if "tandem.service" in line and "not executable" not in line]
    assert unknown == []


def test_no_process_of_the_unit_is_ever_root(service):
    assert service["User"] == service["Group"] == "tandem"
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert service["NoNewPrivileges"] == "yes"


def test_a_restart_finds_the_runtime_folder(service):
    assert service["RuntimeDirectory"] == "tandem"
    assert service["RuntimeDirectoryPreserve"] == "yes"


def test_stopping_waits_longer_than_the_drain(service):
    assert int(service["TimeoutStopSec"]) > 30
    assert service["KillMode"] == "mixed"
    assert service["Type"] == "notify"


def test_with_a_pair_the_supervisor_has_what_ha_needs_and_still_nobody_is_root(tmp_path):
    """The drop-in is read by systemd itself, together with the unit."""
    names = {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_NICE", "CAP_IPC_LOCK"}
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read(UNIT.with_name("tandem-ha.conf"))
    assert set(parser["Service"]["AmbientCapabilities"].split()) == names
    assert parser["Service"]["CapabilityBoundingSet"] == parser["Service"]["AmbientCapabilities"]
    assert {*rights.NETWORK_NEEDS.values(), *rights.HA_LIKES} == {12, 13, 14, 23}
    if shutil.which("systemd-analyze") is None:
        return
    folder = tmp_path / "tandem.service.d"
    folder.mkdir()
    shutil.copy(UNIT, tmp_path / "tandem.service")
    shutil.copy(UNIT.with_name("tandem-ha.conf"), folder / "ha.conf")
    command = ["systemd-analyze", "verify", tmp_path / "tandem.service"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in run.stderr.splitlines() if "ha.conf" in line] == []
