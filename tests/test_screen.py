"""The first screen is six lines, whatever is configured."""

import itertools
from pathlib import Path

import pytest

from config import load
from proxy import screen, sockets
from tests.kit.instance import free_port


def lines_for(text, usual=Path("/run/tandem")):
    config = load.accept(text.encode(), "test")
    held = sockets.open_missing(config, {}, itertools.count(1))
    sockets.close(held, spare={})
    return screen.build_screen(config, held, Path("/run/tandem"), "1.2.3", usual)


def test_six_lines_say_what_where_and_what_to_try():
    port, admin = free_port(), free_port()
    lines = lines_for(
        f'[[site]]\nname = "shop"\nlisten = "127.0.0.1:{port}"\nupstream = ["10.0.0.1:8080", "10.0.0.2:8080"]\n'
        f'[cache]\nmemory = "1GB"\n[admin]\nlisten = "127.0.0.1:{admin}"\n'
    )
    assert lines == [
        "tandem 1.2.3: serving, with 1 worker",
        "  sites   shop -> 10.0.0.1:8080, 10.0.0.2:8080",
        f"  listen  127.0.0.1:{port}",
        "  cache   1GB in memory, objects up to 64MB",
        f"  admin   /run/tandem/admin.sock, http://127.0.0.1:{admin}/",
        f"  try     curl -i http://127.0.0.1:{port}/    tandem status",
    ]


def test_a_site_that_speaks_tls_is_tried_by_https_whatever_its_port():
    port = free_port()
    lines = lines_for(
        f'[[site]]\nlisten = "127.0.0.1:{port}"\nupstream = "10.0.0.1:80"\ntls = {{ cert = "a.pem", key = "a.key" }}\n'
    )
    assert f"curl -i https://127.0.0.1:{port}/" in lines[5]


def test_a_forward_proxy_says_for_whom_and_how_to_try_it():
    port = free_port()
    lines = lines_for(f'[forward]\nlisten = "127.0.0.1:{port}"\nclients = "192.168.8.0/24"\n')
    assert len(lines) == 6
    assert lines[1] == f"  forward 127.0.0.1:{port} for 192.168.8.0/24"
    assert lines[5] == f"  try     curl -x http://127.0.0.1:{port} http://example.org/    tandem status"


def test_mirrors_have_a_line_of_their_own():
    mirror = '[[forward.mirror]]\nkind = "deb"\npath = "/deb/"\norigin = "https://deb.example/debian/"\n'
    lines = lines_for(f'[forward]\nlisten = "127.0.0.1:{free_port()}"\nclients = "192.168.8.0/24"\n{mirror}')
    assert len(lines) == 7
    assert lines[2] == "  mirrors /deb/ of https://deb.example/debian/"


def test_many_sites_are_counted_and_a_named_one_is_asked_for_by_name():
    port = free_port()
    sites = "".join(f'[[site]]\nhosts = "s{n}.test"\nlisten = ":{port}"\nupstream = "10.0.0.1:80"\n' for n in range(9))
    lines = lines_for(sites + '[cache]\nmemory = "0B"\n[process]\nworkers = 2\n')
    assert len(lines) == 6
    assert lines[0].endswith("with 2 workers")
    assert lines[1].endswith("and 6 more")
    assert lines[3] == "  cache   off"
    assert f"curl -i -H 'Host: s0.test' http://127.0.0.1:{port}/" in lines[5]
    assert max(map(len, lines)) <= 160


def test_an_unusual_folder_is_named_for_commands():
    text = f'[[site]]\nlisten = "127.0.0.1:{free_port()}"\nupstream = "a:1"\n'
    assert lines_for(text, Path("/elsewhere"))[5].endswith("    tandem status --runtime /run/tandem")


@pytest.mark.parametrize(
    ("host", "spelled"), [("", "127.0.0.1:80"), ("0.0.0.0", "127.0.0.1:80"), ("::", "[::1]:80"), ("::1", "[::1]:80")]
)
def test_what_listens_on_all_addresses_is_reached_on_loopback(host, spelled):
    assert screen.spell_reachable(host, 80) == spelled


def test_commands_are_shown_as_they_can_be_typed_here(monkeypatch, tmp_path):
    """In a checkout the command is not on the path of the shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv" / "bin" / "tandem")])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert screen.spell_program() == ".venv/bin/tandem"
    (tmp_path / "tandem").write_text("")
    (tmp_path / "tandem").chmod(0o755)
    assert screen.spell_program() == "tandem"


def test_with_a_pair_one_more_line_shows_the_virtual_addresses():
    config = load.accept(b'[ha]\nvip = "192.168.8.100/24"\nnodes = { a = "192.168.8.4" }\n', "test")
    routers = [{"vips": ["192.168.8.100/24"], "state": "backup"}]
    lines = screen.build_screen(config, {}, Path("/run/tandem"), "1.2.3", routers=routers)
    assert lines[5] == "  vip     192.168.8.100/24 backup"
    assert len(lines) == 7
