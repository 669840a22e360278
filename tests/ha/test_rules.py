"""Every rule of VRRP in `rules.py` has tests, and they exist."""

import re
from pathlib import Path

from tests.ha.rules import RULES

TESTS = Path(__file__).resolve().parents[1]


def test_every_rule_is_held_by_tests_that_exist():
    text = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    existing = set(re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE))
    for rule in RULES:
        assert rule.tests, rule.says
        assert set(rule.tests) <= existing, rule.says


def test_a_rule_is_one_sentence_said_once_and_its_section_is_of_a_standard():
    assert len({rule.says for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.says.endswith(".")
        assert re.fullmatch(r"(RFC \d+ §[\d.]+\d)?", rule.section), rule.section
