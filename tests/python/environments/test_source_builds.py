"""Packages without a wheel are built in a sandbox, if the configuration permits it."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import host_side
import pytest
from internals import FILES, NAMESPACES, leave_out
from sources import add_project, add_source, add_wheel, build, note, touching
from waiting import eventually

from pyisolate import EnvironmentBuildError, Extension, ExtensionStopped, SandboxMode
from pyisolate._env.builder import EnvironmentBuilder
from pyisolate._env.commands import Commands
from pyisolate._env.fetch import Source, fetch
from pyisolate._env.source_builds import SourceBuilds

Load = Callable[..., Extension]
MakeWheel = Callable[[str], Path]


def test_source_code_is_built_confined(venvs: Path, wheels: Path, trace: Path) -> None:
    add_source(wheels, "bolt", code=touching(trace))
    assert note(build(venvs, "bolt", allow_source_builds=True)) == "refused"
    assert not trace.exists()


def test_it_is_the_sandbox_that_holds(
    venvs: Path, wheels: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(monkeypatch, FILES, NAMESPACES)
    add_source(wheels, "bolt", code=touching(trace))
    assert note(build(venvs, "bolt", allow_source_builds=True)) == "ran"
    assert trace.exists()


def test_what_a_package_needs_is_known_when_it_has_been_built(venvs: Path, wheels: Path) -> None:
    add_source(wheels, "bolt", "nut>=2", "rivet")
    add_source(wheels, "nut", version="1.0")
    add_source(wheels, "nut", version="2.0")
    add_source(wheels, "nut", version="3.0")
    add_wheel(wheels, "rivet", {"rivet.py": ""})
    path = build(venvs, "bolt", "nut<3", allow_source_builds=True)
    found = sorted(info.name for info in path.glob("lib/python*/site-packages/*.dist-info"))
    assert found == ["bolt-1.0.dist-info", "nut-2.0.dist-info", "rivet-1.0.dist-info"]


def test_what_a_build_needs_is_built_too(venvs: Path, wheels: Path, trace: Path) -> None:
    add_source(wheels, "tool", code=touching(trace))
    add_source(wheels, "bolt", code="import tool\nNOTE = tool.NOTE", requires='["tool"]')
    path = build(venvs, "bolt", allow_source_builds=True)
    assert note(path) == "refused"
    assert not list(path.glob("lib/python*/site-packages/tool.py"))


def test_what_a_backend_asks_for(venvs: Path, wheels: Path) -> None:
    add_wheel(wheels, "tool", {"tool.py": "NOTE = 'here'"})
    code = """
def get_requires_for_build_wheel(config_settings=None):
    return ["tool"]
try:
    from tool import NOTE
except ImportError:
    NOTE = "missing"
"""
    add_source(wheels, "bolt", code=code)
    assert note(build(venvs, "bolt", allow_source_builds=True)) == "here"


def test_programs_that_a_build_may_not_run_are_not_found(
    venvs: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "programs" / "sh"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    add_source(wheels, "bolt", code="import shutil\nNOTE = shutil.which('sh')")
    found = note(build(venvs, "bolt", allow_source_builds=True))
    assert found not in (None, str(program))


def test_a_pth_file_of_what_a_build_needs_is_confined(venvs: Path, wheels: Path, trace: Path) -> None:
    line = f"import os; open({str(trace)!r}, 'w').close()\n"
    add_wheel(wheels, "tool", {"tool.py": "", "tool.pth": line})
    add_source(wheels, "bolt", requires='["tool"]')
    build(venvs, "bolt", allow_source_builds=True)
    assert not trace.exists()


@pytest.mark.parametrize(
    "needed", ["nail @ file://{path}", "{path}", "-e {path}", "nail @ https://a/b.tar.gz"]
)
def test_a_build_cannot_have_projects_of_the_host_built(
    venvs: Path, wheels: Path, tmp_path: Path, trace: Path, needed: str
) -> None:
    path = add_project(tmp_path / "project", "nail", code=touching(trace))
    add_source(wheels, "bolt", requires=repr([needed.format(path=path)]))
    with pytest.raises(EnvironmentBuildError, match="which is not taken from an index"):
        build(venvs, "bolt", allow_source_builds=True)
    assert not trace.exists()


def test_packages_that_need_each_other_to_be_built(venvs: Path, wheels: Path) -> None:
    add_source(wheels, "bolt", requires='["nut"]')
    add_source(wheels, "nut", requires='["bolt"]')
    with pytest.raises(EnvironmentBuildError, match="bolt needs nut needs bolt"):
        build(venvs, "bolt", allow_source_builds=True)


def test_a_build_that_fails_says_why(venvs: Path, wheels: Path) -> None:
    add_source(wheels, "bolt", code="NOTE = ''\nraise RuntimeError('no compiler \x1b[2J')")
    with pytest.raises(
        EnvironmentBuildError, match=r"(?s)bolt could not be built.*no compiler.*'build_network'"
    ) as caught:
        build(venvs, "bolt", allow_source_builds=True)
    assert "\x1b" not in str(caught.value) + caught.value.stderr
    assert list(venvs.iterdir()) == []


NETWORK = """
import socket
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=10).close()
    NOTE = "connected"
except OSError:
    NOTE = "refused"
"""


@pytest.mark.parametrize("permitted", [False, True])
def test_the_network_is_permitted_by_its_key(venvs: Path, wheels: Path, permitted: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        add_source(wheels, "bolt", code=NETWORK.format(port=server.getsockname()[1]))
        path = build(venvs, "bolt", allow_source_builds=True, build_network=permitted)
    assert note(path) == ("connected" if permitted else "refused")


@pytest.mark.parametrize(
    "name", ["'../../rivet-1.0-py3-none-any.whl'", "'rivet-1.0-py3-none-any.whl'", "None"]
)
def test_a_build_makes_a_wheel_of_its_package_only(venvs: Path, wheels: Path, name: str) -> None:
    add_source(
        wheels,
        "bolt",
        code="NOTE = ''",
        ending=f"""
real = build_wheel
def build_wheel(folder, *args):
    import shutil
    path = os.path.join(folder, real(folder, *args))
    shutil.copy(path, os.path.join(folder, "rivet-1.0-py3-none-any.whl"))
    return {name}
""",
    )
    with pytest.raises(EnvironmentBuildError, match="bolt could not be built"):
        build(venvs, "bolt", allow_source_builds=True)


def test_a_link_in_place_of_a_wheel_is_not_followed(venvs: Path, wheels: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    commands = Commands("ext")
    builds = SourceBuilds(
        "ext", sys.executable, False, SandboxMode.REQUIRED, {}, tmp_path, commands, lambda folder, names: None
    )
    builds.wheels.mkdir()
    (tmp_path / "bolt-1.0-py3-none-any.whl").symlink_to(secret)
    with pytest.raises(EnvironmentBuildError, match="could not be read"):
        builds._take("bolt", tmp_path, "bolt-1.0-py3-none-any.whl")


def test_a_build_can_be_ended(venvs: Path, wheels: Path, tmp_path: Path) -> None:
    add_source(
        wheels, "bolt", code="NOTE = ''\nimport time, os\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    )
    builder = EnvironmentBuilder(venvs, "ext", ["bolt"], allow_source_builds=True)
    errors: list[BaseException] = []

    def provide() -> None:
        with pytest.raises(ExtensionStopped) as caught:
            builder.provide()
        errors.append(caught.value)

    thread = threading.Thread(target=provide)
    thread.start()
    assert eventually(lambda: list(venvs.glob(".ext.*/output-*")) != [])
    builder.cancel()
    thread.join(20)
    assert len(errors) == 1


def test_an_extension_says_what_it_permits(load: Load, wheels: Path) -> None:
    add_source(wheels, "bolt", code="NOTE = ''")
    extension = load("echo", host_side.Hooked, dependencies=["bolt"], allow_source_builds=True)
    assert extension.sync.version("bolt") == "built"


def test_a_build_has_the_limits_of_its_extension(load: Load, wheels: Path) -> None:
    code = "import resource\nNOTE = str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    add_source(wheels, "bolt", code=code)
    limits = {"open_files": 123}
    options: dict[str, Any] = {"allow_source_builds": True, "sandbox": {"limits": limits}}
    extension = load("echo", host_side.Hooked, dependencies=["bolt"], **options)
    assert note(Path(extension.sync.file("bolt")).parents[3]) == "123"


def test_a_project_of_the_hosts_that_needs_source_code(
    venvs: Path, wheels: Path, trace: Path, tmp_path: Path
) -> None:
    add_source(wheels, "bolt", code=touching(trace))
    project = add_project(tmp_path / "project", "nail", "bolt")
    assert note(build(venvs, str(project), allow_source_builds=True)) == "refused"


# ---- source code at a URL ----


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def serving(folder: Path, handler: type[Silent]) -> Iterator[int]:
    """Serve a folder; yield the port."""
    made = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL under which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()
    with serving(folder, Silent) as port:
        yield folder, f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("form", ["bolt @ {url}", "{url}", "bolt[x] @ {url} ; python_version > '3'"])
def test_source_code_at_a_url(
    venvs: Path, wheels: Path, trace: Path, site: tuple[Path, str], form: str
) -> None:
    archive = add_source(site[0], "bolt", code=touching(trace))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    requirement = form.format(url=f"{site[1]}/{archive.name}#sha256={digest}")
    with pytest.raises(EnvironmentBuildError, match="only source code of bolt"):
        build(venvs, requirement)
    assert note(build(venvs, requirement, allow_source_builds=True)) == "refused"
    assert not trace.exists()


def test_source_code_that_is_another(venvs: Path, wheels: Path, site: tuple[Path, str]) -> None:
    archive = add_source(site[0], "bolt")
    url = f"{site[1]}/{archive.name}#sha256={'0' * 64}"
    with pytest.raises(EnvironmentBuildError, match="SHA-256 differs"):
        build(venvs, f"bolt @ {url}", allow_source_builds=True)


class Guarded(Silent):
    """Serve requests with a password, and record what was sent."""

    def do_GET(self) -> None:
        word = self.headers.get("Authorization", "")
        self.words.append(word)
        if word != "Basic " + base64.b64encode(b"me:secret").decode():
            self.send_error(401)
        elif "elsewhere" in self.path:
            self.send_response(302)
            self.send_header("Location", self.elsewhere)
            self.end_headers()
        else:
            super().do_GET()

    words: ClassVar[list[str]] = []
    elsewhere = ""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL under which it is served, with user and password."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    Guarded.words.clear()
    with serving(folder, Guarded) as port:
        yield folder, f"http://me:secret@127.0.0.1:{port}"


def test_source_code_in_an_index_with_a_password(
    venvs: Path, wheels: Path, guarded: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = guarded
    archive = add_source(folder, "bolt")
    page = folder / "simple" / "bolt"
    page.mkdir(parents=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    link = f'<a href="/{archive.name}#sha256={digest}">{archive.name}</a>'
    (page / "index.html").write_text(f"<html><body>{link}</body></html>")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
    assert note(build(venvs, "bolt", allow_source_builds=True)) == ""


def test_a_wheel_in_an_index_with_a_password(
    venvs: Path, wheels: Path, guarded: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = guarded
    add_wheel(folder, "nail", {"nail.py": ""})
    page = folder / "simple" / "nail"
    page.mkdir(parents=True)
    name = "nail-1.0-py3-none-any.whl"
    (page / "index.html").write_text(f'<html><body><a href="/{name}">{name}</a></body></html>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
    path = build(venvs, "nail")
    assert list(path.glob("lib/python*/site-packages/nail.py"))
    assert "secret" not in "".join(file.read_text() for file in path.glob("*.json"))


def test_a_password_stays_with_its_host(
    tmp_path: Path, guarded: tuple[Path, str], site: tuple[Path, str]
) -> None:
    add_source(site[0], "bolt")
    words: list[str] = []

    class Listening(Silent):
        def do_GET(self) -> None:
            words.append(self.headers.get("Authorization", ""))
            super().do_GET()

    with serving(site[0], Listening) as port:
        Guarded.elsewhere = f"http://localhost:{port}/bolt-1.0.tar.gz"
        environ = {"UV_INDEX": f"mine={guarded[1]}/simple https://pypi.org/simple"}
        urls = [f"{guarded[1]}/elsewhere/bolt-1.0.tar.gz", Guarded.elsewhere]
        urls.append(re.sub("//.*@", "//", urls[0]))
        for number, url in enumerate(urls):
            (tmp_path / str(number)).mkdir()
            fetch(Source("bolt", url), tmp_path / str(number), environ, lambda: None)
    assert words == ["", "", ""]
    assert "" not in Guarded.words
