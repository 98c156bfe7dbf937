"""tools/test_pythons.py: which interpreters it finds and chooses, simulated with stand-ins."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import paths
import pytest

TOOL = paths.ROOT / "tools" / "test_pythons.py"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("test_pythons", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "test_pythons", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "build")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(
        module.shutil,
        "which",
        lambda name: str(found) if (found := tmp_path / "bin" / name).exists() else None,
    )
    return module


def make(path: Path, version: tuple[int, int] = (3, 12), error: str = "", **more: Any) -> str:
    """Make an interpreter with this answer, whose import of the package has this error."""
    answer = {"version": version, "full": "{}.{}.1".format(*version), "path": str(path)}
    answer |= {"implementation": "cpython", "free-threaded": False, **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    imports = f"case \"$*\" in *pyisolate*) echo '{error}' >&2; exit 1 ;; esac"
    path.write_text(f"#!/bin/sh\n{imports}\necho '{json.dumps(answer)}'\n")
    path.chmod(0o755)
    return str(path)


def test_one_of_each_version_is_found(tool: ModuleType, tmp_path: Path) -> None:
    for minor, patch in ((9, 18), (10, 1), (13, 0), (13, 2)):
        make(tmp_path / f"pyenv/versions/3.{minor}.{patch}/bin/python", (3, minor))
    make(tmp_path / "bin/python3.13", (3, 13))
    make(tmp_path / "bin/python3.14", (3, 14))
    make(tmp_path / "bin/python3.14t", (3, 14), **{"free-threaded": True})
    make(tmp_path / "bin/pypy3", (3, 11), implementation="pypy")
    (tmp_path / "bin/python3.12").write_text(
        "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2; exit 127\n"
    )
    (tmp_path / "bin/python3.12").chmod(0o755)
    found = tool.find(tool.candidates())
    assert [python.name for python in found] == ["3.10", "pypy3.11", "3.13", "3.14", "3.14t"]
    assert [python.supported for python in found] == [True, False, True, True, False]
    assert found[2].path.endswith("3.13.2/bin/python")
    make(tmp_path / ".venv/bin/python", (3, 14))
    assert [python.name for python in tool.without_the_usual(found, False)] == [
        "3.10",
        "pypy3.11",
        "3.13",
        "3.14t",
    ]


def test_the_ends_are_chosen(tool: ModuleType, tmp_path: Path) -> None:
    make(tmp_path / ".venv/bin/python", (3, 11))
    found = [tool.ask(make(tmp_path / f"bin/python3.{minor}", (3, minor))) for minor in range(10, 16)]
    assert [python.name for python in tool.without_the_usual(found, True)] == ["3.10", "3.15"]
    assert tool.without_the_usual(found[:2], True) == found[:1]
    assert tool.without_the_usual([], True) == []


@pytest.mark.parametrize(
    ("error", "good"), [("ImportError: PyIsolate does not run here", True), ("SystemError: crash", False)]
)
def test_who_is_not_supported_has_to_say_so(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: str, good: bool
) -> None:
    python = make(tmp_path / "bin/python3.14t", (3, 14), error, **{"free-threaded": True})
    assert tool.main([python]) == (0 if good else 1)
    assert ("refused, as expected" if good else f"FAILED to refuse: {error}") in capsys.readouterr().out


def test_where_there_is_no_other_it_says_what_is_missing(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--ends"]) == 0
    assert "not found: 3.10, 3.11, 3.12, 3.13, 3.14, 3.15" in capsys.readouterr().out


def test_what_is_no_python_is_named(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["/bin/true", "no-such-python"]) == 2
    assert "/bin/true, no-such-python" in capsys.readouterr().err


def test_an_environment_that_cannot_be_made(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is reported with the log; it is an error if the interpreter was named."""
    path = make(tmp_path / "bin/python3.12")
    fails = '[ "$2" != venv ] || { echo no room >&2; exit 3; }'
    Path(path).write_text(Path(path).read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{fails}\n"))
    for arguments, status in (([path], 1), ([], 0)):
        assert tool.main(arguments) == status
        said = capsys.readouterr().out
        assert "not tried" in said
        assert "no environment: status 3" in said
        assert "no room" in said


def test_what_fails_is_an_error(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "bin/python3.12")
    monkeypatch.setattr(tool, "equip", lambda *arguments: "")
    monkeypatch.setattr(tool, "run", lambda *arguments: "status 1")
    (tmp_path / "build/3.12").mkdir(parents=True)
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok: path.write_text("2 failed, 3 passed in 1s"))
    assert tool.main([]) == 1
    assert "FAILED (status 1)" in capsys.readouterr().out
    monkeypatch.setattr(tool, "build", lambda *arguments: "")
    assert tool.main([]) == 1
    assert "FAILED (status 1) 2 failed, 3 passed" in capsys.readouterr().out


def test_the_oldest_numpy_is_tried_where_it_has_wheels(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [tool.ask(make(tmp_path / f"bin/python3.{minor}", (3, minor))) for minor in (10, 12, 14)]
    assert [python.name for python in tool.with_oldest_numpy(found)] == ["3.12-numpy1.26"]
    make(tmp_path / ".venv/bin/python", (3, 11))
    (usual,) = tool.with_oldest_numpy(found)
    assert usual.name == "3.11-numpy1.26"
    for folder, name, numpy, usually in (
        ("values", "arrays", True, True),
        ("values", "value_bounds", False, False),
        ("calls", "calls", False, True),
        ("sandbox", "attempts", False, False),
        ("sandbox", "containers", False, True),
    ):
        assert tool.is_tested(folder, name, usual) is numpy
        assert tool.is_tested(folder, name, found[0]) is usually
    for minor in (11, 10, 12):
        (tmp_path / f"bin/python3.{minor}").unlink(missing_ok=True)
    make(tmp_path / ".venv/bin/python", (3, 13))
    assert tool.main(["--oldest-numpy"]) == 0
    assert "not found: a Python for which NumPy 1.26 exists" in capsys.readouterr().out
