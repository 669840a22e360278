"""`python -m proxy` is the command `tandem`."""

import subprocess
import sys
import tomllib

from proxy import versions
from tests.kit.instance import ROOT


def test_the_module_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "version"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"tandem {versions.version()}\n")


def test_the_command_is_this_function():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"tandem": "proxy.__main__:main"}
