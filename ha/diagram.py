"""The state diagram of a virtual router, out of the table in `machine.py`: `python -m ha.diagram`.

Only what leads from one state to another is drawn; the table has the rest.
"""

from __future__ import annotations

import sys

from ha.events import State
from ha.machine import TRANSITIONS


def render() -> str:
    """The diagram in Mermaid's language, a line per pair of states with the events that may lead there."""
    lines = ["stateDiagram-v2", f"    [*] --> {_name(State.INITIALIZE)}"]
    for old, rules in TRANSITIONS.items():
        for new in State:
            events = [event.__name__ for event, rule in rules.items() if new in rule.to and new is not old]
            if events:
                lines.append(f"    {_name(old)} --> {_name(new)}: {', '.join(events)}")
    return "\n".join(lines) + "\n"


def _name(state: State) -> str:
    return state.value.capitalize()


if __name__ == "__main__":
    sys.stdout.write(render())
