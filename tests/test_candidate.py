"""Everything that a configuration names is read once, by one process, and checked before anybody uses it."""

import itertools
import os
from pathlib import Path

import pytest

from config import load
from proxy import candidate, parcel, rights, sockets
from proxy.candidate import CandidateError, Source
from proxy.rights import Identity
from tests.kit.instance import can_connect, free_port

TLS = 'tls = { cert = "shop.pem", key = "shop.key" }\n'


def write(folder, port, extra=TLS):
    (folder / "shop.pem").write_text("certificate")
    (folder / "shop.key").write_text("private")
    (folder / "shop.key").chmod(0o600)
    path = folder / "tandem.toml"
    path.write_text(f'[[site]]\nlisten = "127.0.0.1:{port}"\nupstream = "127.0.0.1:1"\n{extra}')
    return Source.of_file(path)


def build(source, existing=None, generation=1):
    return candidate.build(source.load(), source, generation, Path("/run/x"), existing or {}, itertools.count(1))


def test_the_children_get_text_files_and_secrets_apart(tmp_path):
    source = write(tmp_path, free_port())
    one = build(source)
    message, fds = one.prepare_for(0)
    assert (message.generation, message.secrets) == (1, ("shop.key",))
    assert len(fds) == 1 + len(message.listeners) + 1
    box = parcel.decode(parcel.unseal(fds[0]))
    assert (box.text, box.name, box.base) == (source.path.read_bytes(), str(source.path), str(tmp_path))
    assert box.files == {"shop.pem": b"certificate"}
    assert b"private" not in parcel.unseal(fds[0])
    assert parcel.unseal(fds[-1]) == b"private"
    one.close(spare={})


def test_what_has_been_read_does_not_change_with_the_disk(tmp_path):
    one = build(write(tmp_path, free_port()))
    for path in tmp_path.iterdir():
        path.write_text("something else")
    _, fds = one.prepare_for(0)
    assert parcel.decode(parcel.unseal(fds[0])).files == {"shop.pem": b"certificate"}
    one.close(spare={})


def test_the_digest_changes_with_every_byte_that_counts(tmp_path):
    source = write(tmp_path, port := free_port())
    digests = []
    for name in (None, "shop.pem", "shop.key", "tandem.toml"):
        if name:
            (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
        one = build(source)
        one.close(spare={})
        digests.append(one.digest)
    assert len(set(digests)) == 4
    again = build(write(tmp_path, port))
    again.close(spare={})
    assert again.digest == digests[0]


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path):
    source = write(tmp_path, free_port())
    (tmp_path / "shop.key").chmod(0o604)
    with pytest.raises(CandidateError, match="chmod"):
        build(source)


def test_a_missing_key_and_a_missing_file_are_told_at_once(tmp_path):
    source = write(tmp_path, free_port())
    (tmp_path / "shop.key").unlink()
    (tmp_path / "shop.pem").unlink()
    with pytest.raises(CandidateError) as caught:
        build(source)
    assert "shop.key" in str(caught.value)
    assert "shop.pem" in str(caught.value)


def test_a_missing_configuration_is_told(tmp_path):
    with pytest.raises(CandidateError, match=r"tandem\.toml: No such file"):
        Source.of_file(tmp_path / "tandem.toml").load()


def test_a_text_is_a_source_too(tmp_path):
    source = Source("command line", tmp_path, text=b'[[site]]\nlisten = ":80"\nupstream = "127.0.0.1:1"\n')
    assert source.load().config.site[0].listen[0].port == 80


def test_a_candidate_that_is_thrown_away_leaves_what_is_running(tmp_path):
    port, other = free_port(), free_port()
    running = build(write(tmp_path, port, ""))
    (tmp_path / "b").mkdir()
    new = build(write(tmp_path / "b", other, f'[[site]]\nhosts = "b"\nlisten = "127.0.0.1:{port}"\nupstream = "a:1"\n'),
                running.sockets, 2)  # fmt: skip
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert can_connect(other)
    new.close(spare=running.sockets)
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 2  # its own socket and its parcel
    assert can_connect(port)
    assert not can_connect(other)
    sockets.close(running.sockets, spare={})
    os.close(running.content)


def test_logs_count_from_the_log_folder_if_there_is_one(tmp_path):
    text = b'[[site]]\nlisten = ":80"\nupstream = "a:1"\n'
    text += b'[log]\naccess = [{ file = "a.log" }, { file = "/x/b.log" }, "-"]\n'
    config = load.accept(text, "test")
    paths = candidate.log_files(config, tmp_path, {})
    assert paths == [tmp_path / "a.log", Path("/x/b.log")]
    assert candidate.log_files(config, tmp_path, {"LOGS_DIRECTORY": "/var/log/tandem:/y"})[0] == Path(
        "/var/log/tandem/a.log"
    )


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    text = b'[[site]]\nlisten = ":80"\nupstream = "a:1"\n[log]\naccess = { file = "no/a.log" }\n'
    with pytest.raises(CandidateError, match=r"access log .*a\.log: No such file"):
        candidate.prepare_logs(load.accept(text, "test"), tmp_path, Identity("us"))


HA = 'ha = { vip = "192.168.8.100/24", nodes = { a = "192.168.8.4" }, secret = { file = "ha.key" } }'


def with_ha(folder):
    (folder / "ha.key").write_text("0123456789abcdef")
    (folder / "ha.key").chmod(0o600)
    source = write(folder, free_port())
    source.path.write_text(HA + "\n" + source.path.read_text())
    return source


def test_the_secret_of_the_pair_is_for_ha_alone_and_keys_of_sites_are_not_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(rights, "missing_for_network", list)
    one = build(with_ha(tmp_path))
    assert one.prepare_for(0)[0].secrets == ("shop.key",)
    assert one.prepare_for(sockets.ADMIN)[0].secrets == ("shop.key",)
    message, fds = one.prepare_for(sockets.HA)
    assert (message.secrets, message.listeners) == (("ha.key",), ())
    assert parcel.unseal(fds[-1]) == b"0123456789abcdef"
    one.close(spare={})


def test_without_its_rights_a_pair_is_refused_with_their_names(tmp_path, monkeypatch):
    monkeypatch.setattr(rights, "missing_for_network", lambda: ["CAP_NET_RAW"])
    with pytest.raises(CandidateError, match=r"\[ha\] needs the right CAP_NET_RAW: .* must be started again"):
        build(with_ha(tmp_path))


# ---- lists of names --------------------------------------------------------------------------------------------------

RULE = '[[rule]]\nname = "r"\nmatch = { mode = "forward", domain = ["list:one", "list:two"] }\naction = "deny"\n'
LISTS = RULE + '[lists]\none = "one.txt"\ntwo = { file = "two.txt", refresh = "1h" }\n'


def with_lists(folder):
    (folder / "one.txt").write_text("one.test\n")
    (folder / "two.txt").write_text("two.test\n")
    return write(folder, free_port(), TLS + LISTS)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def refresh(one, folder, *paths):
    return candidate.refresh(one, paths, folder, 2, one.sockets, itertools.count(9))


def test_lists_go_to_workers_alone_by_descriptor_and_are_part_of_the_digest(tmp_path):
    source = with_lists(tmp_path)
    one = build(source)
    message, fds = one.prepare_for(0)
    assert [path for path, _ in message.lists] == ["one.txt", "two.txt"]
    assert [parcel.unseal(fd) for fd in fds[-2:]] == [b"one.test\n", b"two.test\n"]
    assert parcel.unseal(fds[-3]) == b"private"
    assert b"two.test" not in parcel.unseal(fds[0])
    assert one.prepare_for(sockets.ADMIN)[0].lists == ()
    one.close(spare={})
    (tmp_path / "two.txt").write_text("other.test\n")
    other = build(source)
    other.close(spare={})
    assert other.digest != one.digest
    assert other.core == one.core


def test_a_refresh_reads_the_lists_that_changed_and_nothing_else(tmp_path):
    one = build(with_lists(tmp_path))
    before = descriptors()
    (tmp_path / "tandem.toml").write_text("nonsense")
    assert refresh(one, tmp_path, "one.txt", "two.txt", "unknown.txt") is None
    (tmp_path / "two.txt").write_text("more.test\n")
    assert refresh(one, tmp_path, "one.txt") is None
    new = refresh(one, tmp_path, "one.txt", "two.txt")
    message, fds = new.prepare_for(0)
    assert [parcel.unseal(fd) for fd in fds[-2:]] == [b"one.test\n", b"more.test\n"]
    assert (new.generation, new.core, new.config, new.sockets) == (2, one.core, one.config, one.sockets)
    assert new.digest != one.digest
    assert message.lists[0] == one.prepare_for(0)[0].lists[0]
    new.close(spare=one.sockets)
    assert descriptors() == before
    one.close(spare={})


def test_a_list_that_is_gone_refuses_the_refresh_and_leaves_nothing_open(tmp_path):
    one = build(with_lists(tmp_path))
    before = descriptors()
    (tmp_path / "one.txt").write_text("changed.test\n")
    (tmp_path / "two.txt").unlink()
    with pytest.raises(CandidateError, match=r"two\.txt: No such file .*; the list stays as it was read last"):
        refresh(one, tmp_path, "one.txt", "two.txt")
    assert descriptors() == before
    one.close(spare={})


def test_a_list_beyond_all_measure_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(candidate, "_MOST_LIST", 4)
    with pytest.raises(CandidateError, match="which is no list of names"):
        build(with_lists(tmp_path))
