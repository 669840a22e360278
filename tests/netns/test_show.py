"""What `make pair` shows ends well, and names each event with its outage and bound."""

import pytest

from tests.kit import show


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_story_of_the_pair_ends_within_its_bounds():
    """With long intervals: what is told is told far sooner than silence would tell, on a busy machine too."""
    lines = []
    assert show.main(lines.append, interval=300) == 0, "\n".join(lines)
    text = "\n".join(lines)
    for event in show.EVENTS:
        assert event.what in text
    assert text.count(" (allowed ") == len(show.EVENTS)
    assert text.endswith("all within their bounds")
