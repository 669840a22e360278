"""Lines for people are whole, harmless, and never waited for."""

import os

from proxy import console


def said(monkeypatch, *texts, size=None):
    """What a reader of our standard error gets."""
    read, write = os.pipe()
    if size:
        os.set_blocking(write, False)
        try:
            while os.write(write, b"x" * 4096):
                pass
        except BlockingIOError:
            os.set_blocking(write, True)
    monkeypatch.setattr(console, "_STDERR", write)
    for text in texts:
        console.say(text)
    os.close(write)
    with os.fdopen(read, "rb") as reader:
        return reader.read()


def test_each_line_says_who_speaks(monkeypatch):
    assert said(monkeypatch, "one\ntwo") == b"tandem: one\ntandem: two\n"


def test_control_characters_are_made_visible(monkeypatch):
    assert said(monkeypatch, "a\x1b[31m\x07b") == b"tandem: a\\x1b[31m\\x07b\n"


def test_a_reader_that_does_not_read_is_not_waited_for(monkeypatch):
    assert b"tandem" not in said(monkeypatch, "lost", size="full")


def test_nobody_reading_is_no_error(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(console, "_STDERR", write)
    console.say("lost")
    os.close(write)
