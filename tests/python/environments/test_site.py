"""Extensions initialise their environment as an interpreter does at start, whether forked or executed.

Files of the host's site-packages that run at start run in each extension's process, with its variables.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paths
import pytest

import pyisolate

PROBE = paths.EXTENSIONS / "probe"
HOST = """
import json, os, site, sys
from pathlib import Path
from pyisolate import ExtensionBase, ExtensionManager, SandboxMode

manager = ExtensionManager(ExtensionBase, {{"venv_root_path": "venvs"}})
packages = Path(site.getsitepackages()[0])

def ask(what, method="fork", **more):
    name = f"e{{len(found)}}"
    extension = manager.load_extension({{
        "name": name, "module_path": {probe!r}, "sandbox_mode": SandboxMode.DISABLED,
        "start_method": method, **more
    }})
    found.append([extension.sync.evaluate(what), extension.sync.process()])
    parent = Path(f"/proc/{{extension.sync.ids()[1]}}/cmdline").read_text()
    assert ('"keeper"' in parent) == (method == "exec")
    extension.stop()

found = []
"""
Ask = Callable[..., list[Any]]


@pytest.fixture
def host(tmp_path: Path) -> Ask:
    """host(program, files of its site-packages, **variables): the answers of its extensions."""

    def run(program: str, files: dict[str, str], system: bool = False, **variables: str) -> list[Any]:
        venv.create(tmp_path / "host", symlinks=True, system_site_packages=system)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        packages = tmp_path / "host" / "lib" / version / "site-packages"
        (packages / "pyisolate.pth").write_text(os.path.dirname(pyisolate.__path__[0]) + "\n")
        for name, text in files.items():
            (packages / name).write_text(text)
        source = HOST.format(probe=str(PROBE)) + textwrap.dedent(program) + "\nprint(json.dumps(found))"
        (tmp_path / "program.py").write_text(source)
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        ended = subprocess.run(
            [tmp_path / "host" / "bin" / "python", "program.py"],
            cwd=tmp_path,
            env={**environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr or "no_such_module" in ended.stderr
        found: list[Any] = json.loads(ended.stdout.splitlines()[-1])
        return found

    return run


def test_what_pth_files_do_is_there(host: Ask) -> None:
    forked, executed, confined = host(
        """
        what = "[hooked.NUMBER, sys.path[-1], sys.modules['sitecustomize'].__name__, sys.stderr.isatty()]"
        what = what.replace("hooked", "sys.modules['hooked']")
        ask(what)
        ask(what, "exec")
        ask(what, sandbox_mode=SandboxMode.REQUIRED)
        """,
        {
            "hooked.py": "import sys\nNUMBER = 7\nclass Hook:\n    find_spec = lambda *_: None\n"
            "sys.meta_path.append(Hook())\n",
            "one.pth": "# a comment\n/usr\nimport hooked\n",
            "sitecustomize.py": "",
        },
    )
    assert forked == executed
    assert forked[0][0] == 7
    assert "Hook" in forked[1]["hooks"]
    assert confined[0] == forked[0]


@pytest.mark.parametrize("read", ["os.environ.get('SWITCH')", "dict(os.environ).get('SWITCH')"])
def test_variables_that_pth_files_look_at_are_the_extensions(host: Ask, read: str) -> None:
    what = "sys.modules['switched'].SWITCH"
    forked, executed, unset = host(
        f"""
        for method in ("fork", "exec"):
            ask({what!r}, method, env={{"SWITCH": "on"}})
        ask({what!r})
        """,
        {"switched.py": f"import os\nSWITCH = {read}\n", "switched.pth": "import switched\n"},
    )
    assert forked == executed
    assert forked[0] == "on"
    assert unset[0] is None


THREAD = "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("import os; os.environ['SET'] = '1'", "os.environ['SET']"),
        ("import os; os.dup2(0, 77, inheritable=False)", "os.fstat(77).st_mode"),
        (f"import threading, time; {THREAD}", "[thread.name for thread in threading.enumerate()]"),
        ("import sys; print('hello', file=sys.stderr); sys.said = 1", "sys.said"),
        ("import no_such_module", "1"),
        ("import native", "'_decimal' in sys.modules"),
    ],
)
def test_what_pth_files_do_to_their_process(host: Ask, line: str, what: str) -> None:
    forked, executed = host(
        f"ask({what!r})\nask({what!r}, 'exec')",
        {"odd.pth": f"{line}\n", "native.py": "import _decimal\n"},
    )
    assert forked == executed


def test_a_pth_file_that_appears_is_seen(host: Ask) -> None:
    before, after, executed = host(
        """
        ask("sys.path")
        (packages / "more.pth").write_text("/usr\\n")
        ask("sys.path")
        ask("sys.path", "exec")
        """,
        {},
    )
    assert "/usr" not in before[0]
    assert "/usr" in after[0]
    assert after == executed


def test_packages_of_the_user_are_found(host: Ask, tmp_path: Path) -> None:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = tmp_path / "home" / ".local" / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    forked, executed, elsewhere, executed_elsewhere = host(
        """
        ask("sys.path")
        ask("sys.path", "exec")
        ask("sys.path", env={"HOME": "/"})
        ask("sys.path", "exec", env={"HOME": "/"})
        """,
        {},
        system=True,
        HOME=str(tmp_path / "home"),
    )
    assert forked == executed
    assert str(packages) in forked[0]
    assert elsewhere == executed_elsewhere


def test_the_hosts_pythonpath_comes_first(host: Ask, tmp_path: Path) -> None:
    forked, executed, other, executed_other = host(
        """
        ask("sys.path[0]")
        ask("sys.path[0]", "exec")
        ask("sys.path[0]", env={"PYTHONPATH": "/usr"})
        ask("sys.path[0]", "exec", env={"PYTHONPATH": "/usr"})
        """,
        {},
        PYTHONPATH=str(tmp_path),
    )
    assert forked == executed
    assert forked[0] == str(tmp_path)
    assert other == executed_other
    assert other[0] == "/usr"


def test_each_process_runs_pth_files_itself(host: Ask) -> None:
    """Also those without an environment of their own: the effects stay in one extension."""
    first, second = host(
        "for _ in range(2):\n    ask('[sys.modules[\"counted\"].PID == os.getpid()]')",
        {"counted.py": "import os\nPID = os.getpid()\n", "counted.pth": "import counted\n"},
    )
    assert first[0] == second[0] == [True]
