"""Texts made from the schema are up to date, and say what the schema says."""

import json
import pathlib
import re
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import accept, load, parse
from config.presets import settle
from config.render import (
    ROOT,
    build_files,
    quote,
    render,
    render_defaults,
    render_gateway,
    render_json_schema,
    render_lan,
    render_pair,
    render_tomcat,
)
from config.schema import Config, Forward, Ha, Node, Rule, SecretFile, Site, Transparent, Upstream
from config.units import Listen
from tests.config.test_schema import TABLES

FULL = """
[[site]]
hosts = ["shop.example.org", "*.shop.example.org"]
listen = [":80", "[::1]:8443"]
tls = { cert = "shop.pem", key = "shop.key" }
preset = "tomcat"
health = { path = "/health", every = "1500ms" }
upstream = [{ address = "10.0.0.21:8080", route = "t1", weight = 2 }, "https://b"]
upstream_tls = { verify = false }
trusted = ["10.0.0.2", "2001:db8::/32"]
session_cookies = []
upgrade = []
error_pages = { 503 = "down.html" }
[[rule]]
name = "gone"
match = { path = ["/old/*"], method = ["GET"] }
answer = { status = 410, body = "ü\\"\\n\\u007f" }
[[rule]]
name = "static"
ttl = "90min"
[log]
access = ["-", { file = "a.log", format = "{status}" }]
[admin]
listen = "127.0.0.1:9600"
tokens = { file = "admin.tokens" }
[ha]
vip = ["192.168.8.100/24", "fd00:8::100/64"]
vrid = 7
nodes = { a = "192.168.8.4", b = { address = "192.168.8.6", link = "10.9.9.6" } }
others = ["192.168.8.9"]
track = { name = "gateway", script = ["/bin/ping", "-c1", "192.168.8.1"], resign = true }
"""


@pytest.mark.parametrize("name", build_files())
def test_a_file_made_from_the_schema_is_up_to_date(name):
    assert (ROOT / name).read_text() == build_files()[name], "run: python -m config.render"


def test_the_effective_configuration_loads_as_itself():
    config = accept(FULL.encode(), "t")
    assert accept(render(config).encode(), "t") == config


def test_no_option_uncommented_changes_what_is_so_without_it():
    text = re.sub(r"(?m)^#(?=\S)", "", render_defaults())
    site = Site(listen=(Listen("", 80),), upstream=(Upstream(address="127.0.0.1:8080"),))
    rule = Rule(name="static")
    nodes = {"a": Node(address="192.168.8.4"), "b": Node(address="192.168.8.6")}
    ha = Ha(nodes=nodes, vip=("192.168.8.100/24",), secret=SecretFile(file="ha.key"))
    forward = Forward(listen=(Listen("", 3128),))
    transparent = Transparent(interface=("lan0",), clients=(IPv4Network("192.168.8.0/24"),))
    assert accept(text.encode(), "default.toml") == Config(
        site=(settle(site, 1),), forward=forward, transparent=transparent, rule=(rule,), ha=ha
    )
    assert accept(render_defaults().encode(), "default.toml") == Config()


def test_every_option_is_in_the_commented_defaults_and_in_the_reference():
    defaults, reference = render_defaults(), build_files()["docs/configuration.md"]
    for table in TABLES:
        for name in table.__struct_fields__:
            assert re.search(rf"(?m)^# *\[*[a-z.]*\b{name}\b", defaults), name
            assert table is Config or f"| `{name}` |" in reference, name


def test_the_start_for_tomcat_loads_without_a_warning(tmp_path):
    file = tmp_path / "tandem.toml"
    file.write_text(render_tomcat())
    loaded = load(file)
    assert loaded.warnings == ()
    assert loaded.config.site[0].preset == "tomcat"


def test_the_proposals_for_tomcat_load_too(tmp_path):
    for name in ("site.pem", "site.key", "down.html"):
        (tmp_path / name).touch(mode=0o600)
    text = re.sub(r"(?m)^#(?=\S)", "", render_tomcat()).replace('listen = ":80"', 'listen = [":80", ":443"]')
    assert parse(text.encode(), "t", tmp_path).warnings == ()


def test_the_start_for_a_pair_loads_without_a_warning_and_so_do_its_proposals(tmp_path):
    (tmp_path / "ha.key").touch(mode=0o600)
    for text in (render_pair(), re.sub(r"(?m)^#(?=\S)", "", render_pair())):
        loaded = parse(text.encode(), "t", tmp_path)
        assert loaded.warnings == ()
        assert loaded.config.ha is not None
        assert set(loaded.config.ha.nodes) == {"a", "b"}


def test_the_start_for_a_lan_loads_without_a_warning_and_so_do_its_proposals(tmp_path):
    for text in (render_lan(), re.sub(r"(?m)^#(?=\S)", "", render_lan())):
        loaded = parse(text.encode(), "t", tmp_path)
        assert loaded.warnings == ()
        assert loaded.config.forward is not None
        assert loaded.config.site == ()


def test_the_start_for_a_gateway_loads_without_a_warning_and_so_do_its_proposals(tmp_path):
    (tmp_path / "ha.key").touch(mode=0o600)
    (tmp_path / "ha.key").write_text("0" * 64)
    for text in (render_gateway(), re.sub(r"(?m)^#(?=\S)", "", render_gateway())):
        loaded = parse(text.encode(), "t", tmp_path)
        assert loaded.warnings == ()
        assert loaded.config.transparent is not None
        assert loaded.config.site == ()


@given(st.text())
def test_quoted_text_comes_back(text):
    config = accept(f'[[site]]\nlisten=":80"\n[[rule]]\nname="r"\nanswer = {{ body = {quote(text)} }}\n'.encode(), "t")
    assert config.rule[0].answer is not None
    assert config.rule[0].answer.body == text


def test_bytes_that_no_text_can_hold_become_a_mark():
    assert quote("a\udcff") == '"a\ufffd\ufffd\ufffd"'


def test_the_json_schema_refers_only_to_what_it_defines():
    text = render_json_schema()
    schema = json.loads(text)
    assert set(re.findall(r"#/\$defs/(\w+)", text)) == set(schema["$defs"])
    assert set(schema["properties"]) == set(Config.__struct_fields__)
    assert schema["$defs"]["Limits"]["properties"]["keepalive"]["default"] == "1min"
    assert schema["$defs"]["Site"]["required"] == ["listen"]


def test_the_files_lie_in_the_project():
    assert pathlib.Path(__file__).is_relative_to(ROOT)
