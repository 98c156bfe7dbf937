"""Building an environment is bounded, and wheels and archives change nothing outside their own folders."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from internals import use_uv
from sources import WHEEL, add_source, add_wheel, build, metadata
from waiting import eventually

from pyisolate import ConfigurationError, EnvironmentBuildError
from pyisolate._env import compiling
from pyisolate._env.bounds import Bounds
from pyisolate._env.builder import EnvironmentBuilder
from pyisolate._env.commands import Commands, OutOfBounds
from pyisolate._env.unpacked import EnvironmentSnapshot

MIB = 1 << 20
PROGRAM = compiling.__file__


def add_strange_wheel(folder: Path, name: str, *entries: tuple[str, str, int]) -> None:
    """A wheel with these entries: name, text and mode."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text, mode in [(f"{name}.py", "", 0o100644), *entries]:
            entry = zipfile.ZipInfo(path)
            entry.create_system, entry.external_attr = 3, mode << 16
            archive.writestr(entry, text)
        archive.writestr(f"{info}/METADATA", metadata(name, "1.0"))
        archive.writestr(f"{info}/WHEEL", WHEEL)
        names = [f"{name}.py", *(path for path, _, _ in entries), f"{info}/METADATA", f"{info}/WHEEL"]
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*names, f"{info}/RECORD"]))


def add_bomb(folder: Path, name: str, mebibytes: int) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"{name}/zeros.bin", "w", force_zip64=True) as file:
            for _ in range(mebibytes):
                file.write(bytes(MIB))
        archive.writestr(f"{name}-1.0.dist-info/METADATA", metadata(name, "1.0"))
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr(
            f"{name}-1.0.dist-info/RECORD", f"{name}/zeros.bin,,\n{name}-1.0.dist-info/RECORD,,\n"
        )


def files(folder: Path) -> dict[str, Any]:
    """All paths below the folder, with their target or their mode."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else stat.S_IFMT(path.stat().st_mode)
        for path in folder.rglob("*")
    }


# ---- what wheels hold ----


@pytest.mark.parametrize(
    ("entry", "text", "mode"),
    [
        ("../../../../../../outside.py", "x", 0o100644),
        ("{tmp}/outside.py", "x", 0o100644),
        ("bolt-1.0.data/data/../../../outside.py", "x", 0o100644),
        ("bolt-1.0.data/platlib/../../../../../../outside.py", "x", 0o100644),
        ("bolt-1.0.data/scripts/../../../outside.py", "#!python\n", 0o100755),
        ("bolt/link.py", "{tmp}/secret.py", 0o120777),
        ("__pycache__", "{tmp}/folder", 0o120777),
        ("bolt-1.0.data/scripts/python", "#!python\n", 0o100755),
        ("bolt-1.0.data/scripts/tool", "#!python\n", 0o106755),
        ("bolt-1.0.data/data/bin/python3", "x", 0o100755),
        ("bolt-1.0.data/data/lib64/x", "x", 0o100644),
        ("sitecustomize.py", "import os; open({tmp}/outside.py', 'w')", 0o100644),
        ("usercustomize.py", "import os; open({tmp}/outside.py', 'w')", 0o100644),
        ("a" * 300 + ".py", "x", 0o100644),
        ("a/" * 300 + "x.py", "x = 1", 0o100644),
        ("a\\..\\b:c\n.py", "x", 0o100644),
    ],
)
def test_strange_entries_change_nothing_outside(
    venvs: Path, wheels: Path, tmp_path: Path, entry: str, text: str, mode: int
) -> None:
    """uv may refuse them, too."""
    secret = tmp_path / "secret.py"
    secret.write_text("KEY = 1")
    (tmp_path / "folder").mkdir()
    add_strange_wheel(wheels, "bolt", (entry.format(tmp=tmp_path), text.format(tmp=tmp_path), mode))
    before = files(tmp_path)
    try:
        path = build(venvs, "bolt")
    except EnvironmentBuildError:
        path = None
    after = {name: kind for name, kind in files(tmp_path).items() if not name.startswith(("venvs", "cache"))}
    assert after == before
    assert "outside.py" not in "".join(files(venvs))
    if path is not None:
        assert os.path.realpath(path / "bin" / "python") == os.path.realpath(sys.executable)
        links = [str(item.relative_to(path)) for item in path.rglob("*") if item.is_symlink()]
        assert not [name for name in links if name != "lib64" and not name.startswith("bin/python")]
        modes = [item.lstat().st_mode for item in path.rglob("*") if item.is_file()]
        assert not [mode for mode in modes if mode & (stat.S_ISUID | stat.S_ISGID)]


@pytest.mark.parametrize("name", ["pyvenv.cfg", "bin/activate"])
def test_an_environment_stays_what_it_is(venvs: Path, wheels: Path, name: str) -> None:
    add_wheel(wheels, "bolt", {"bolt.py": "", f"bolt-1.0.data/data/{name}": "home = /elsewhere\n"})
    with pytest.raises(EnvironmentBuildError, match=rf"(bolt|a package) has replaced {name}|already exists"):
        build(venvs, "bolt")
    assert not list(venvs.glob("ext-*"))


def test_what_is_no_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    for kind in ("link", "pipe", "setuid"):
        before = EnvironmentSnapshot(tmp_path)
        path = tmp_path / "lib" / kind
        if kind == "link":
            path.symlink_to("/etc/passwd")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_text("x")
            path.chmod(0o4755)
        fault = before.fault(Bounds())
        assert fault is not None
        assert f"lib/{kind}" in fault
        path.unlink()
        assert before.fault(Bounds()) is None


# ---- size ----


def test_a_wheel_that_is_a_bomb(
    venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It unpacks to a thousand times its size. Nothing of it remains, not in uv's cache either."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))
    add_bomb(wheels, "bolt", 600)
    builder = EnvironmentBuilder(venvs, "ext", ["bolt"], environment_size=50 * MIB)
    with pytest.raises(
        EnvironmentBuildError, match=r"bolt.*'environment_size'|'environment_size'.*(?s:.*)bolt"
    ):
        builder.provide()
    assert not list(venvs.glob("ext-*"))
    assert eventually(lambda: sum(path.stat().st_size for path in venvs.rglob("*") if path.is_file()) < MIB)


def test_a_source_that_is_a_bomb(venvs: Path, wheels: Path) -> None:
    code = (
        "NOTE = ''\nwith open('zeros', 'wb') as file:\n    for _ in range(4000): file.write(bytes(1 << 20))"
    )
    add_source(wheels, "bolt", code=code)
    builder = EnvironmentBuilder(venvs, "ext", ["bolt"], allow_source_builds=True, environment_size=200 * MIB)
    with pytest.raises(EnvironmentBuildError, match="'environment_size'"):
        builder.provide()


def test_an_archive_that_is_a_bomb(venvs: Path, wheels: Path) -> None:
    path = add_source(wheels, "bolt")
    zeros = wheels.parent / "zeros"
    with zeros.open("wb") as file:
        file.truncate(1000 * MIB)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(zeros, "bolt-1.0/zeros")
        item = tarfile.TarInfo("bolt-1.0/PKG-INFO")
        archive.addfile(item)
    builder = EnvironmentBuilder(venvs, "ext", ["bolt"], allow_source_builds=True, environment_size=200 * MIB)
    with pytest.raises(EnvironmentBuildError, match=r"'environment_size'|bolt"):
        builder.provide()


def test_a_small_limit_is_told_in_a_unit_that_shows_it(venvs: Path, wheels: Path) -> None:
    add_bomb(wheels, "bolt", 2)
    for size, words in ((1, "1 byte"), (700 << 10, r"700\.0 KiB")):
        with pytest.raises(EnvironmentBuildError, match=rf"more than {words}; 'environment_size'"):
            EnvironmentBuilder(venvs, "ext", ["bolt"], environment_size=size).provide()
    assert "takes 1023 bytes of" in Bounds(size=1).too_large(1023)


def test_what_fits_is_built(venvs: Path, wheels: Path) -> None:
    add_bomb(wheels, "bolt", 20)
    EnvironmentBuilder(
        venvs, "ext", ["bolt"], environment_size=None, environment_timeout=None
    ).provide().release()
    assert list(venvs.glob("ext-*/lib/python*/site-packages/bolt/zeros.bin"))


def test_the_disk_is_not_filled(venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much space is permitted."""
    monkeypatch.setattr("pyisolate._env.bounds.PART_OF_DISK", -1.0)
    add_bomb(wheels, "bolt", 600)
    with pytest.raises(EnvironmentBuildError, match="were free; free more, or set 'venv_root_path'"):
        build(venvs, "bolt")


def test_very_many_entries(venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyisolate._env.unpacked.MOST_FILES", 500)
    add_wheel(wheels, "bolt", {f"bolt/{number}.txt": "" for number in range(600)})
    with pytest.raises(EnvironmentBuildError, match="with bolt it has more than 500 files"):
        build(venvs, "bolt")


# ---- time ----


def test_a_step_has_a_limit(
    venvs: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\nsleep 600 & wait\n")
    uv.chmod(0o755)
    use_uv(monkeypatch, uv)
    builder = EnvironmentBuilder(venvs, "ext", ["rivet"], environment_timeout=0.5)
    with pytest.raises(EnvironmentBuildError, match=r"more than 0\.5 s; 'environment_timeout'"):
        builder.provide()


def test_a_limit_that_is_shorter_than_any_step(venvs: Path, wheels: Path) -> None:
    """Also if the step ends before the check."""
    add_wheel(wheels, "bolt", {})
    for seconds in (1e-9, 0.001):
        with pytest.raises(EnvironmentBuildError, match=rf"more than {seconds:g} s; 'environment_timeout'"):
            EnvironmentBuilder(venvs, "ext", ["bolt"], environment_timeout=seconds).provide()
    commands = Commands("ext")
    commands.bounds = Bounds(seconds=0.01)
    with pytest.raises(OutOfBounds, match=r"0\.01 s"), commands.step(lambda: None):
        time.sleep(0.02)


def test_a_build_has_a_limit(venvs: Path, wheels: Path) -> None:
    add_source(wheels, "bolt", code="NOTE = ''\nimport time\ntime.sleep(600)")
    builder = EnvironmentBuilder(venvs, "ext", ["bolt"], allow_source_builds=True, environment_timeout=8)
    with pytest.raises(EnvironmentBuildError, match="'environment_timeout'"):
        builder.provide()


def test_what_is_over_is_not_ended() -> None:
    """Its pid may belong to another process by then."""
    commands = Commands("ext")
    ended: list[str] = []
    with commands.step(lambda: ended.append("first")) as finish:
        finish()
        commands.bounds = Bounds(seconds=0.0)
        time.sleep(0.3)
    assert ended == []
    with pytest.raises(OutOfBounds), commands.step(lambda: ended.append("second")):
        assert eventually(lambda: ended == ["second"])
    commands.check()


def test_the_keys_are_checked(load: Any) -> None:
    for key, value in (("environment_timeout", 0), ("environment_size", "1G")):
        with pytest.raises(ConfigurationError, match=f"'{key}' must be"):
            load("echo", **{key: value})


# ---- compiling ----


def compiled(folder: Path) -> set[str]:
    return {path.name.split(".")[0] for path in folder.rglob("__pycache__/*.pyc")}


def test_files_that_cannot_be_compiled(tmp_path: Path) -> None:
    """All other files are compiled."""
    good = ["a", "m", "z", "below/b", "below/" + "d/" * 300 + "deep"]
    texts = dict.fromkeys(good, "x = 1\n")
    texts |= {
        "two": "print 'x'\n",
        "nul": "x = 1\0\n",
        "nested": "x = " + "(" * 100_000 + ")" * 100_000,
        "minus": "x = " + "-" * 100_000 + "1",
        "long": "x = 0\n" + "x;" * 3_000_000 + "\n",
        "bytes": "\udc80",
    }
    for name, text in texts.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, errors="surrogateescape")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "module.py").write_text("x = 1")
    (tmp_path / "linked" / "__pycache__").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link.py").symlink_to(tmp_path / "a.py")
    subprocess.run([sys.executable, "-I", "-S", PROGRAM, str(tmp_path), "2"], check=True, timeout=300)
    found = compiled(tmp_path)
    assert {os.path.basename(name) for name in good} <= found
    assert not found & {"two", "nul", "pipe", "link", "bytes"}
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_compiler_that_crashes(tmp_path: Path) -> None:
    for name in ("a", "b", "crash", "d", "e", "hang", "g"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    source = """
import compileall, os, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import compiling
real = compileall.compile_file
def compile_file(path, **options):
    if path.endswith("crash.py"):
        os.abort()
    while path.endswith("hang.py"):
        pass
    return real(path, **options)
compileall.compile_file = compile_file
compiling.main(sys.argv[2], 1)
"""
    subprocess.run([sys.executable, "-c", source, PROGRAM, str(tmp_path)], check=True, timeout=120)
    assert compiled(tmp_path) == {"a", "b", "d", "e", "g"}


def test_compiling_that_takes_too_long_fails_no_build(
    venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Commands.run

    def slow(self: Commands, command: Any, *arguments: Any) -> Any:
        if any(str(part).endswith("compiling.py") for part in command):
            self.bounds = Bounds(seconds=0.3)
            command = ["sleep", "600"]
        return run(self, command, *arguments)

    monkeypatch.setattr(Commands, "run", slow)
    add_wheel(wheels, "bolt", {"bolt.py": ""})
    path = build(venvs, "bolt")
    assert list(path.glob("lib/python*/site-packages/bolt.py"))


def test_no_module_is_left_out(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "below/c.py", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found = [os.path.relpath(path, tmp_path) for path in compiling.modules(str(tmp_path))]
    assert found == ["a.py", "b.py", "below/c.py"]
