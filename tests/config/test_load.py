"""The whole way from bytes to a configuration or all of its faults, each placed."""

import pathlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import Faults, accept, load, parse
from config.render import render, render_defaults
from config.schema import Config
from config.units import Listen

HERE = pathlib.Path("/nonexistent")

MANY = """\
[[site]]
listn = ":80"
listen = [":80", "x:99999"]
upstream = ["127.0.0.1:8080", { adress = "a:1" }]
health = { path = "x", every = 5 }
preset = "tomcta"
[[site]]
name = "buero"
hosts = ["b.example:80"]
listen = ":443"
upstream = "a:1"
timeouts.idle = "5m"

[[rule]]
name = "r"
match = { site = "buerro", path = "static" }
[cache]
max_object = 5
keepalive = "1s"
[admin]
listen = "0.0.0.0:9600"
[process]
workers = 1_000
"""

PLACED = [
    (2, 1, "site[0].listn", "unknown key", "did you mean `listen`?"),
    (3, 18, "site[0].listen[1]", '"x:99999" is not accepted', "an address to listen on is"),
    (4, 31, "site[0].upstream[1]", "`address` is missing", "host:port"),
    (4, 33, "site[0].upstream[1].adress", "unknown key", "did you mean `address`?"),
    (5, 19, "site[0].health.path", '"x" is not accepted', "a path begins with `/`"),
    (5, 32, "site[0].health.every", "expected a text with a unit, not 5", "such as `30s`"),
    (6, 10, "site[0].preset", "expected one of none, tomcat", "did you mean `tomcat`?"),
    (9, 10, "site[1].hosts[0]", '"b.example:80" is not accepted', "without port"),
    (12, 17, "site[1].timeouts.idle", '"5m" is not accepted', "a duration is"),
    (16, 18, "rule[0].match.site", "no site has the name", "did you mean `buero`?"),
    (16, 35, "rule[0].match.path[0]", '"static" is not accepted', "a path pattern begins"),
    (18, 14, "cache.max_object", "expected a text with a unit, not 5", "such as `64MB`"),
    (19, 1, "cache.keepalive", "unknown key", "it belongs in [limits]"),
    (21, 10, "admin.listen[0]", "off loopback", "listen on 127.0.0.1"),
    (23, 11, "process.workers", "expected a whole number from 1 to 256, not 1000", ""),
]


def faults_of(text):
    with pytest.raises(Faults) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), "t.toml", HERE)
    return caught.value.faults


def test_all_faults_of_a_file_are_told_at_once_each_in_its_place():
    found = faults_of(MANY)
    assert [(one.line, one.col, one.where) for one in found] == [placed[:3] for placed in PLACED]
    for fault, (_, _, _, what, hint) in zip(found, PLACED, strict=True):
        assert fault.what.startswith(what)
        assert hint in fault.hint
    assert str(found[0]) == "t.toml:2:1: site[0].listn: unknown key; did you mean `listen`?"


@pytest.mark.parametrize(
    ("text", "line", "col", "what"),
    [
        ("a = 1\nb = tomcat\n", 2, 5, "not TOML: invalid value"),
        ("a = 1\na = 2\n", 2, 6, "not TOML: cannot overwrite a value"),
        ("a = [1,", 1, 8, "not TOML: "),
        ('x = "ü"\ny = "', 2, 6, "not TOML: "),
        (b'a = "\xc3\xbc"; \xff', 1, 10, "not UTF-8"),
        ("a = " + "9" * 5000, 1, 1, "not TOML that can be read"),
        ("a = " + "[" * 5000, 1, 1, "not TOML that can be read"),
    ],
)
def test_a_syntax_error_is_placed_too(text, line, col, what):
    (fault,) = faults_of(text)
    assert (fault.line, fault.col) == (line, col)
    assert fault.what.startswith(what)


def test_a_mark_that_editors_write_in_front_of_utf_8_is_no_fault():
    (fault,) = faults_of("\ufeff[cach]\n")
    assert (fault.line, fault.where) == (1, "cach")


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path):
    for path in (tmp_path / "missing.toml", tmp_path, "a\0b"):
        with pytest.raises(Faults, match="cannot be read"):
            load(path)


def test_a_file_far_too_large_is_a_fault(tmp_path):
    with (tmp_path / "big").open("wb") as big:
        big.truncate(17 * 2**20)
    with pytest.raises(Faults, match="larger than 16 MB"):
        load(tmp_path / "big")


def test_the_example_of_the_reverse_mode_loads(tmp_path):
    for name in ("shop.pem", "shop.key", "down.html"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "tandem.toml"
    file.write_text(
        """
        [[site]]
        name     = "shop"
        hosts    = ["shop.example.org", "*.shop.example.org"]
        listen   = [":80", ":443"]
        tls      = [{ cert = "shop.pem", key = "shop.key" }]
        preset   = "tomcat"
        balance  = "least-requests"
        health   = { path = "/health", every = "2s", rise = 2, fall = 2 }
        upstream = [
          { address = "10.0.0.21:8080", route = "t1", weight = 2, max_connections = 200 },
          { address = "10.0.0.22:8080", route = "t2" },
        ]
        trusted    = ["10.0.0.2"]
        purge_from = ["10.0.0.0/8"]
        error_pages = { 503 = "down.html" }
        [[rule]]
        name    = "static"
        match   = { site = "shop", path = ["/static/*", "*.css", "*.js"] }
        ttl     = "1h"
        cookies = "ignore"
        [log]
        access = { file = "access.log", format = "combined" }
        [admin]
        listen = "127.0.0.1:9600"
        """
    )
    loaded = load(file)
    assert loaded.warnings == ()
    assert loaded.files == {"shop.pem": tmp_path / "shop.pem", "down.html": tmp_path / "down.html"}
    assert loaded.secrets == {"shop.key": tmp_path / "shop.key"}
    assert loaded.text == file.read_bytes()
    assert loaded.config.site[0].upstream[1].route == "t2"
    assert loaded.config.rule[0].ttl == 3600
    assert loaded.config.admin.listen == (Listen("127.0.0.1", 9600),)
    assert accept(loaded.text, "t") == loaded.config


def test_a_secret_that_others_may_read_refuses_the_file(tmp_path):
    (tmp_path / "a.pem").write_text("c")
    (tmp_path / "a.key").write_text("k")
    (tmp_path / "a.key").chmod(0o644)
    text = b'[[site]]\nlisten = ":443"\nupstream = "a:1"\ntls = { cert = "a.pem", key = "a.key" }\n'
    with pytest.raises(Faults, match=r"t:4:31: site\[0\]\.tls\[0\]\.key: .*accessible to others; chmod o= "):
        parse(text, "t", tmp_path)
    (tmp_path / "a.key").chmod(0o600)
    assert parse(text, "t", tmp_path).config.site[0].tls[0].key == "a.key"


def test_accepted_bytes_are_taken_without_a_look_at_files():
    text = b'[[site]]\nlisten = ":443"\nupstream = "a:1"\ntls = { cert = "no.pem", key = "no.key" }\n'
    assert accept(text, "t").site[0].name == "site-1"
    with pytest.raises(Faults, match=r"no\.pem.*\n.*no\.key"):
        parse(text, "t", HERE)


def test_sites_come_with_names_and_presets_applied():
    config = accept(b'[[site]]\nlisten=":80"\nupstream="a:1"\npreset="tomcat"\nsession_cookies="m"\n', "t")
    assert config.site[0].name == "site-1"
    assert "JSESSIONID" in config.site[0].session_cookies


def test_warnings_are_placed():
    loaded = parse(b'[[site]]\nlisten=":80"\nupstream="a:1"\n[cache]\nmemory = "1MB"\n', "t", HERE)
    assert [str(one) for one in loaded.warnings] == ["t:4:2: cache.max_object: `64MB` does not fit into `memory` (1MB)"]


@pytest.mark.slow
def test_a_sound_file_is_loaded_without_tree_sitter():
    program = (
        "import sys, pathlib; from config.load import parse; "
        "parse(b'[[site]]\\nlisten=\":80\"\\nupstream=\"a:1\"', 't', pathlib.Path()); "
        "assert not [name for name in sys.modules if 'tree_sitter' in name]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=pathlib.Path(__file__).parent.parent.parent)


def only_faults(text):
    found = ()
    try:
        parse(text, "t", HERE)
    except Faults as faults:
        found = faults.faults
    lines = text.count(b"\n") + 1
    assert all(1 <= one.line <= lines and one.col >= 1 for one in found)
    assert all(len(str(one)) < 1000 for one in found)


@given(st.binary() | st.text().map(lambda text: text.encode(errors="replace")))
def test_any_bytes_give_a_configuration_or_faults(text):
    only_faults(text)


PIECES = st.sampled_from(
    [
        *MANY.splitlines(),
        "[[site]]",
        "[site]",
        "[rule]",
        "[site.tls]",
        'tls = ["c"]',
        'error_pages = { 503 = "\\u0000" }',
    ]
    + [line.lstrip("#") for line in render_defaults().splitlines() if line.startswith("#") and line[1:2] != " "]
)


@given(st.lists(PIECES, max_size=12))
def test_lines_of_real_files_in_any_order_give_a_configuration_or_faults(lines):
    only_faults("\n".join(lines).encode())


@given(st.text(max_size=20), st.integers(0, len(render_defaults())))
def test_a_file_with_a_slip_of_the_pen_gives_a_configuration_or_faults(slip, at):
    text = render_defaults().replace("\n#", "\n")
    only_faults((text[:at] + slip + text[at:]).encode(errors="replace"))


def test_no_text_at_all_is_the_default_configuration():
    assert parse(b"", "t", HERE).config == Config()
    assert accept(render(Config()).encode(), "t") == Config()
