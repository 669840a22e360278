"""A runtime folder has one owner, who finds it clean."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from proxy import runtime
from proxy.rights import Identity
from proxy.runtime import RuntimeFolder, RuntimeFolderError

US = Identity("us")
NOBODY = Identity("nobody", 65534, 65534)


@pytest.mark.parametrize(
    ("option", "environment", "uid", "folder"),
    [
        ("/x", {"RUNTIME_DIRECTORY": "/run/unit"}, 0, "/x"),
        (None, {"RUNTIME_DIRECTORY": "/run/unit", "XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/unit"),
        (None, {"RUNTIME_DIRECTORY": "/run/one:/run/two"}, 7, "/run/one"),
        (None, {"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/tandem"),
        (None, {"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/tandem"),
        (None, {}, 7, "/tmp/tandem-7"),
    ],
)
def test_the_folder_follows_option_then_manager_then_user(option, environment, uid, folder):
    assert runtime.choose_folder(option, environment, uid) == Path(folder)


def test_the_folder_is_made_for_us_and_our_group_alone(tmp_path):
    folder = RuntimeFolder.occupy(tmp_path / "a" / "run", US)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o750
    folder.leave()


def test_leftovers_of_a_crash_are_removed(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("lock", "admin.sock", "worker-3.sock", "state.json"):
        (run / name).write_text("1\n")
    folder = RuntimeFolder.occupy(run, US)
    assert [entry.name for entry in run.iterdir()] == ["lock"]
    folder.leave()


def test_a_living_owner_is_named(tmp_path):
    code = "import sys, time; from proxy.runtime import *; from proxy.rights import Identity\n"
    code += "f = RuntimeFolder.occupy(Path(sys.argv[1]), Identity('us')); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(runtime.__file__).parent.parent,
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        assert runtime.is_held(tmp_path / "run")
        with pytest.raises(RuntimeFolderError, match=f"pid {holder.pid}.*--runtime"):
            RuntimeFolder.occupy(tmp_path / "run", US)
        holder.kill()
        holder.wait()
    assert not runtime.is_held(tmp_path / "run")
    RuntimeFolder.occupy(tmp_path / "run", US).leave()  # a dead one is replaced


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(RuntimeFolderError, match=r"something else \(photos\)"):
        RuntimeFolder.occupy(tmp_path, US)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeFolderError, match="no folder"):
        RuntimeFolder.occupy(tmp_path / "run", US)


def test_a_folder_that_cannot_be_made_is_told_with_the_remedy():
    with pytest.raises(RuntimeFolderError, match="--runtime"):
        RuntimeFolder.occupy(Path("/proc/tandem"), US)


def test_state_is_written_in_one_step_and_read_back(tmp_path):
    folder = RuntimeFolder.occupy(tmp_path / "run", US)
    folder.write_state({"processes": [{"name": "worker-0", "pid": 1}, {"name": "supervisor", "pid": 42}]})
    state = runtime.read_state(folder.path)
    assert runtime.supervisor_of(state) == 42
    assert not (folder.path / "state.json.new").exists()
    folder.leave()
    with pytest.raises(FileNotFoundError):
        runtime.read_state(folder.path)


@pytest.mark.parametrize("state", [{}, {"processes": 3}, {"processes": [{"name": "supervisor", "pid": "x"}]}])
def test_a_state_without_supervisor_is_told(state):
    with pytest.raises(ValueError, match="no supervisor"):
        runtime.supervisor_of(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives the folder to another user")
def test_started_as_root_the_folder_belongs_to_the_children_and_stays_writable_for_us():
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        folder = RuntimeFolder.occupy(Path(top) / "run", NOBODY)
        assert folder.path.stat().st_uid == NOBODY.uid
        folder.write_state({"x": 1})
        assert (folder.path / "state.json").stat().st_uid == NOBODY.uid
        folder.leave()
        assert not (folder.path / "state.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the children are another user")
def test_a_folder_that_the_children_cannot_reach_is_refused(tmp_path):
    tmp_path.chmod(0o700)
    with pytest.raises(RuntimeFolderError, match="Permission denied"):
        RuntimeFolder.occupy(tmp_path / "run", NOBODY)
