"""The forms of requirements that users write under 'dependencies'."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import paths
import pytest

from pyisolate import ConfigurationError, EnvironmentBuildError, ExtensionBase, ExtensionManager
from pyisolate._settings.validation import check_extension

ECHO = str(paths.EXTENSIONS / "echo")


def read(*dependencies: str) -> list[str]:
    return list(
        check_extension({"name": "echo", "module_path": ECHO, "dependencies": [*dependencies]}).dependencies
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "own"\nversion = "1"\n')
    monkeypatch.chdir(tmp_path)
    return str(folder)


def test_an_option_and_its_path_are_one(project: str) -> None:
    assert read("-e", project) == [f"-e {project}"]
    assert read("-e", "./project", "six") == [f"-e {project}", "six"]
    assert read("six", "--editable", "project[extra]") == ["six", f"-e {project}[extra]"]
    assert read(f"-e {project}", "-e", project) == [f"-e {project}"] * 2
    assert read(" -e ", " project ") == [f"-e {project}"]
    with pytest.raises(ConfigurationError, match=r"without the path .*\['-e', path\] or \['-e path'\]"):
        read("six", "-e")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("six>=1.0  # needed", ["six>=1.0"]),
        ("six>=1.0\t#needed", ["six>=1.0"]),
        ("# all that follows is for numbers", []),
        ("  #", []),
        ("", []),
        ("name @ https://example.org/a.tar.gz#sha256=00", ["name @ https://example.org/a.tar.gz#sha256=00"]),
        ("six; python_version > '3'  # here", ["six; python_version > '3'"]),
        ("-e ./project  # our own", None),
    ],
)
def test_comments_are_cut(project: str, given: str, expected: list[str] | None) -> None:
    assert read(given) == ([f"-e {project}"] if expected is None else expected)
    assert read("numpy", given)[1:] == read(given)


OWN = [
    "pyisolate",
    "PyIsolate>=0.1",
    "PYISOLATE == 0.10.2",
    "pyisolate[bench]",
    "pyisolate [bench,test] ~= 0.1 ; python_version > '3'",
    "pyisolate (>=0.1)",
    "pyisolate @ file:///somewhere/else",
    "pyisolate@https://example.org/pyisolate-0.10.2.tar.gz",
    "https://example.org/files/pyisolate-0.10.2-py3-none-any.whl",
    "git+https://example.org/someone/pyisolate.git@main",
    "git+ssh://git@example.org/someone/PyIsolate",
    "-e git+https://example.org/someone/pyisolate.git#egg=pyisolate",
    "pyisolate  # the sandbox",
]


@pytest.mark.parametrize("spelling", OWN)
def test_pyisolate_itself_is_left_out(spelling: str, caplog: Any) -> None:
    caplog.set_level("INFO")
    assert read(spelling) == []
    assert read("six", spelling, "numpy") == ["six", "numpy"]
    assert "extensions use the host's PyIsolate" in caplog.text


@pytest.mark.parametrize(
    "other", ["pyisolate-extras", "pyisolated>=1", "not-pyisolate", "py-isolate", "pyisolate.x"]
)
def test_other_projects_are_kept(other: str) -> None:
    assert read(other) == [other]


def test_a_checkout_of_pyisolate_is_left_out(project: str, tmp_path: Path) -> None:
    own = tmp_path / "a checkout"
    own.mkdir()
    (own / "pyproject.toml").write_text('[build-system]\nrequires = []\n[project]\nname = "PyIsolate"\n')
    (tmp_path / "pyisolate-0.1.0-cp311-cp311-linux_x86_64.whl").touch()
    assert read("-e", str(own), str(own), f"-e {own}[bench]", own.as_uri().replace("%20", " ")) == []
    assert read("./pyisolate-0.1.0-cp311-cp311-linux_x86_64.whl") == []
    named = tmp_path / "pyisolate"
    named.mkdir()
    assert read("./pyisolate", "-e pyisolate") == [str(named), f"-e {named}"], (
        "a folder of that name may hold another project"
    )


@pytest.mark.parametrize(
    "given", [["-r", "requirements.txt"], ["-r requirements.txt"], ["requirements.txt"], ["-r"]]
)
def test_files_of_requirements_say_what_to_do(given: list[str]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"list the requirements that are in it: .*splitlines"
    ) as caught:
        read(*given)
    assert "'dependencies' has an invalid item 0" in str(caught.value)


def test_lines_of_a_file_can_be_given(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# for images\npillow>=10  # at least\n\nnumpy\n    # nothing else\n")
    assert read(*file.read_text().splitlines()) == ["pillow>=10", "numpy"]


@pytest.mark.parametrize(
    "given",
    [["--extra-index-url", "https://x"], ["-i https://x"], ["--index-url=https://x"], ["-f", "/wheels"]],
)
def test_indexes_say_what_to_do(given: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="'extra_index_urls'"):
        read(*given)


@pytest.mark.parametrize(
    "given", [["-e", "--index-url=x"], ["-e", "a --no-deps"], ["-e", "a\n-r x"], ["-c", "x"]]
)
def test_two_items_smuggle_no_options(given: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="'dependencies' has an invalid item 0"):
        read(*given)


def test_an_extension_that_names_pyisolate_alone_has_no_environment(venvs: Path) -> None:
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}) as manager:
        extension = manager.load_extension(
            {"name": "echo", "module_path": ECHO, "dependencies": ["PyIsolate>=0.1  # itself"]}
        )
        assert extension.sync.echo(1) == 1
        assert not venvs.exists()


def test_what_a_dependency_needs_of_pyisolate_is_the_hosts(
    venvs: Path, make_wheel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel("1.0")
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["rivet-1.0.dist-info/METADATA"] += b"Requires-Dist: PyIsolate>=0.10\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}) as manager:
        extension = manager.load_extension({"name": "echo", "module_path": ECHO, "dependencies": ["rivet"]})
        assert extension.sync.echo(1) == 1
    assert list(venvs.rglob("rivet.py"))
    assert not list(venvs.rglob("pyisolate*dist-info"))


def test_what_cannot_be_installed_says_no_more_than_that(venvs: Path, wheels: Path) -> None:
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}) as manager:
        extension = manager.load_extension(
            {"name": "echo", "module_path": ECHO, "dependencies": ["rivet>=7"]}
        )
        with pytest.raises(EnvironmentBuildError, match="rivet") as caught:
            extension.ensure_process_started()
    text = str(caught.value)
    assert ".tmp" not in text
    assert text.splitlines()[-1].startswith("Correct 'dependencies' in the extension's configuration")
