"""Other programs that want the machine, and what a process took of it meanwhile."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

LIGHT = ("--cpu", "2")
HEAVY = ("--cpu", "8", "--io", "2", "--vm", "2", "--vm-bytes", "128M", "--fork", "2")
TICKS = os.sysconf("SC_CLK_TCK")
DURATION = {"seconds": 60}


def stress(what: tuple[str, ...]) -> None:
    """stress-ng, to its end."""
    command = ["stress-ng", "--quiet", *what, "--timeout", f"{DURATION['seconds']}s"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, in user and system mode."""
    return parse_cpu(Path(f"/proc/{pid}/stat").read_text()) / TICKS


def parse_cpu(stat: str) -> int:
    """Ticks; the name in it may contain anything but ends at the last parenthesis."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
