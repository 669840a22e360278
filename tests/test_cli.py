"""Commands teach, say what is wrong with its place, and end with 0, 1 or 2."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from proxy import cli
from tests.kit.instance import ROOT, Instance, free_port
from tests.kit.proxy import run_command

GOOD = '[[site]]\nlisten = ":8080"\nupstream = "127.0.0.1:8081"\n'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tandem.toml"
    path.write_text(GOOD)
    return path


def tandem(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "proxy", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_help_names_every_command_and_the_first_steps(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("run", "reverse", "demo", "check", "config", "init", "reload", "version", "status", "purge"):
        assert f"\n    {word} " in text
    assert "first steps:" in text


@pytest.mark.parametrize("words", [[], ["nonsense"], ["run"], ["reverse", ":80"], ["init", "castle"]])
def test_wrong_usage_ends_with_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.run(words)
    assert ended.value.code == 2
    assert "usage: tandem" in capsys.readouterr().err


def test_a_good_file_is_fine(file, capsys):
    assert cli.run(["check", "-c", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: fine\n"


def test_a_bad_file_shows_every_fault_with_its_place(file, capsys):
    file.write_text('[[site]]\nlisten = ":99999"\nupstrem = 1\n')
    assert cli.run(["check", "-c", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"{file}:2:") for line in lines)
    assert any(line.startswith(f"{file}:3:") and "did you mean `upstream`?" in line for line in lines)


def test_check_speaks_to_programs(file, capsys):
    assert cli.run(["check", "--json", "-c", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    file.write_text("=")
    assert cli.run(["check", "--json", "-c", str(file)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["faults"]


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert cli.run(["check", "-c", str(tmp_path / "none.toml")]) == 1
    assert cli.run(["run", "-c", str(tmp_path / "none.toml")]) == 1
    assert capsys.readouterr().err.count("none.toml: No such file or directory\n") == 1


def test_the_effective_configuration_can_be_loaded_again(file, capsys, tmp_path):
    assert cli.run(["config", "-c", str(file)]) == 0
    text = capsys.readouterr().out
    again = tmp_path / "again.toml"
    again.write_text(text)
    assert cli.run(["config", "-c", str(again)]) == 0
    assert capsys.readouterr().out == text
    assert cli.run(["config", "--json", "-c", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == tomllib.loads(text)


def test_the_template_is_a_file_that_checks(capsys, tmp_path):
    assert cli.run(["init", "tomcat"]) == 0
    (tmp_path / "t.toml").write_text(capsys.readouterr().out)
    assert cli.run(["check", "-c", str(tmp_path / "t.toml")]) == 0


def test_reverse_prints_the_file_that_it_stands_for(capsys, tmp_path):
    words = [":8080,[::1]:8081", "http://127.0.0.1:1", "--preset", "tomcat", "--memory", "1GB", "--print-config"]
    assert cli.run(["reverse", *words]) == 0
    config = tomllib.loads(capsys.readouterr().out)
    assert config["site"][0]["listen"] == [":8080", "[::1]:8081"]
    assert config["cache"] == {"memory": "1GB"}


def test_reverse_with_a_faulty_word_says_which(capsys):
    assert cli.run(["reverse", ":80", "nonsense:x:y", "--print-config"]) == 1
    assert "command line:" in capsys.readouterr().err


def test_forward_prints_the_file_that_it_stands_for(capsys):
    words = [":3128", "--clients", "192.168.8.0/24,fd00:8::/64", "--private", "192.168.8.0/24", "--print-config"]
    assert cli.run(["forward", *words]) == 0
    forward = tomllib.loads(capsys.readouterr().out)["forward"]
    assert forward == {
        "listen": ":3128",
        "clients": ["192.168.8.0/24", "fd00:8::/64"],
        "allow_private": "192.168.8.0/24",
    }


def test_forward_wants_to_be_told_whom_it_serves():
    with pytest.raises(SystemExit):
        cli.run(["forward", ":3128"])


def test_version_is_one_line_and_more_if_asked(capsys):
    assert cli.run(["version"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert cli.run(["version", "--verbose"]) == 0
    assert "llhttp" in capsys.readouterr().out


def test_a_reader_that_leaves_early_is_no_fault():
    done = subprocess.run(
        f"{sys.executable} -m proxy config -c /dev/stdin | true", shell=True, cwd=ROOT, input=GOOD, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_reload_without_an_instance_is_told(tmp_path, capsys):
    assert cli.run(["reload", "--runtime", str(tmp_path)]) == 1
    assert "--runtime" in capsys.readouterr().err


def test_a_crashs_state_is_not_signalled(tmp_path, capsys):
    (tmp_path / "lock").touch()
    (tmp_path / "state.json").write_text(json.dumps({"processes": [{"name": "supervisor", "pid": os.getpid()}]}))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert cli.run(["reload", "--runtime", str(tmp_path)]) == 1
    assert "no instance runs" in capsys.readouterr().err


@pytest.mark.slow
def test_reload_tells_what_became_of_it(capsys):
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        text = f'[[site]]\nlisten = "127.0.0.1:{free_port()}"\nupstream = "127.0.0.1:1"\n'
        instance = Instance(Path(top), text).ready()
        try:
            assert cli.run(["reload", "--runtime", str(instance.runtime)]) == 0
            assert capsys.readouterr().out == "reloaded\n"
            instance.config.write_text("[[site]]\nlisten = 3\n")
            assert cli.run(["reload", "--runtime", str(instance.runtime)]) == 1
            error = capsys.readouterr().err
            assert "refused; everything stays as it is" in error
            assert "tandem.toml:2:" in error
        finally:
            instance.clean_up()


def test_a_gateway_without_a_file_shows_what_the_kernel_would_be_told():
    shown = run_command("transparent", "lo", "--show-rules", "--method", "tproxy")
    assert shown.returncode == 0
    assert 'iifname != { "lo" } return' in shown.stdout
    assert "elements = { 127.0.0.0/8 }" in shown.stdout
    assert "ip -4 route add local 0.0.0.0/0 dev lo table 7453" in shown.stdout
    made = run_command("transparent", "lan0", "--clients", "192.168.8.0/24", "--https", "off", "--print-config")
    assert made.stdout.splitlines()[:4] == [
        "[transparent]",
        'interface = "lan0"',
        'clients = "192.168.8.0/24"',
        'https = "off"',
    ]


def test_an_interface_that_is_not_there_is_told_with_those_that_are():
    told = run_command("transparent", "lan77", "--show-rules")
    assert told.returncode == 1
    assert told.stderr.startswith("tandem: lan77 has no address to know its clients by: give --clients, or one of ")
    assert told.stderr.count("\n") == 1
