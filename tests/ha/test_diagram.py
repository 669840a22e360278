"""The diagram shows what the table says."""

from __future__ import annotations

import subprocess
import sys

from ha.diagram import render


def test_every_way_between_states_is_drawn_with_its_events():
    lines = render().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> Initialize"]
    assert "    Initialize --> Active: Startup, TimerFired, HealthChanged, GroupMayClaim" in lines
    assert "    Backup --> Active: TimerFired, HealthChanged, PeerSaid, ProbeDone, GroupMayClaim" in lines
    assert any(line.startswith("    Active --> Initialize: Shutdown") for line in lines)
    assert len(lines) == 2 + 6


def test_it_is_a_command():
    shown = subprocess.run([sys.executable, "-m", "ha.diagram"], capture_output=True, text=True, check=True)
    assert shown.stdout == render()
