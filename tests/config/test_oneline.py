"""Commands without a file go the way of files."""

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import Faults, parse
from config.oneline import NAME, build_forward, build_reverse
from config.units import Listen

HERE = pathlib.Path("/nonexistent")


def test_a_reverse_proxy_in_one_line():
    text = build_reverse([":80"], ["http://127.0.0.1:8080"])
    assert text == '[[site]]\nlisten = ":80"\nupstream = "http://127.0.0.1:8080"\n'
    site = parse(text.encode(), NAME, HERE).config.site[0]
    assert site.listen == (Listen("", 80),)
    assert site.upstream[0].address == "http://127.0.0.1:8080"


def test_more_origins_and_options_are_written_out():
    text = build_reverse([":80", ":81"], ["https://a", "b:1"], preset="tomcat", memory="1GB", admin="127.0.0.1:9600")
    config = parse(text.encode(), NAME, HERE).config
    assert [one.address for one in config.site[0].upstream] == ["https://a", "b:1"]
    assert config.site[0].preset == "tomcat"
    assert config.cache.memory == 2**30
    assert config.admin.listen == (Listen("127.0.0.1", 9600),)


def test_a_forward_proxy_in_one_line():
    text = build_forward([":3128"], ["192.168.8.0/24"])
    assert text == '[forward]\nlisten = ":3128"\nclients = "192.168.8.0/24"\n'
    more = build_forward([":3128"], ["10.0.0.0/8", "fd00::/8"], private=["10.0.0.5:80"], memory="1GB")
    config = parse(more.encode(), NAME, HERE).config
    assert config.forward is not None
    assert list(map(str, config.forward.clients)) == ["10.0.0.0/8", "fd00::/8"]
    assert [one.text for one in config.forward.allow_private] == ["10.0.0.5:80"]
    assert config.cache.memory == 2**30


def test_a_fault_names_the_command_line():
    with pytest.raises(Faults, match=r"command line:2:10: site\[0\]\.listen\[0\]: \"80\" is not accepted"):
        parse(build_reverse(["80"], ["a:1"]).encode(), NAME, HERE)


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1), st.text(), st.text())
def test_any_words_give_a_file_that_can_be_read(listen, origins, memory, admin):
    found = ()
    try:
        parse(build_reverse(listen, origins, memory=memory, admin=admin).encode(), NAME, HERE)
    except Faults as faults:
        found = faults.faults
    assert all("not TOML" not in fault.what for fault in found)
