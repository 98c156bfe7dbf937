"""Building environments runs nothing of a package with the host's rights."""

from __future__ import annotations

import base64
import fcntl
import functools
import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import host_side
import pytest
from sources import add_project, add_source, add_wheel, note
from waiting import eventually

import pyisolate.sandbox
from pyisolate import ConfigurationError, EnvironmentBuildError, Extension, ExtensionStopped, SandboxMode
from pyisolate import environment as environments
from pyisolate.commands import Commands
from pyisolate.environment import EnvironmentBuilder
from pyisolate.requirements import is_own_source, is_plain, without_build, without_wheels
from pyisolate.source_builds import SourceBuilds
from pyisolate.sources import Source, fetch

Load = Callable[..., Extension]
MakeWheel = Callable[[str], Path]

FILES, NAMESPACES = 1, 5  # layers of the sandbox


def touching(path: Path) -> str:
    """Code that leaves a trace, if it may."""
    return (
        f"NOTE = 'refused'\ntry:\n    open({str(path)!r}, 'w').close()\n    NOTE = 'ran'\n"
        "except OSError: pass"
    )


@pytest.fixture
def wheels(make_wheel: MakeWheel, tmp_path: Path) -> Path:
    """Where pip and uv look for packages."""
    return tmp_path / "wheels"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file of the host's that nothing may make."""
    return tmp_path / "trace"


def build(root: Path, *dependencies: str, **options: bool) -> Path:
    environment = EnvironmentBuilder(root, "ext", dependencies, **options).provide()
    environment.release()
    return environment.path


# ---- wheels: nothing of them runs ----


def test_a_pth_file_does_not_run(venvs: Path, wheels: Path, trace: Path) -> None:
    pth = f"import os; open({str(trace)!r}, 'w').close()\n"
    add_wheel(wheels, "bolt", {"bolt.pth": pth, "bolt.py": "", "sitecustomize.py": pth})
    path = build(venvs, "bolt")
    assert list(path.glob("lib/python*/site-packages/bolt.pth"))
    assert list(path.glob("lib/python*/site-packages/__pycache__/bolt.*.pyc"))
    assert not trace.exists()


def test_a_pth_file_does_not_run_when_uv_is_told_to_compile(
    venvs: Path, wheels: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "uv.toml"
    settings.write_text("[pip]\ncompile-bytecode = true\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    add_wheel(wheels, "bolt", {"bolt.pth": f"import os; open({str(trace)!r}, 'w').close()\n"})
    build(venvs, "bolt")
    assert not trace.exists()


def test_a_pth_file_does_not_run_beside_a_project_of_the_hosts(
    venvs: Path, wheels: Path, trace: Path, tmp_path: Path
) -> None:
    add_wheel(wheels, "bolt", {"bolt.pth": f"import os; open({str(trace)!r}, 'w').close()\n"})
    project = add_project(tmp_path / "my project", "nail", "bolt")
    path = build(venvs, str(project))
    assert list(path.glob("lib/python*/site-packages/bolt.pth"))
    assert not trace.exists()


def test_an_interpreter_in_a_wheel_does_not_run(venvs: Path, wheels: Path, trace: Path) -> None:
    script = f"#!/bin/sh\ntouch {trace}\n"
    add_wheel(wheels, "bolt", {"bolt.py": "", "bolt-1.0.data/data/bin/python": script})
    with suppress(EnvironmentBuildError):  # uv may refuse it
        build(venvs, "bolt")
    assert not trace.exists()


def test_what_is_no_python_is_left_alone(venvs: Path, wheels: Path) -> None:
    add_wheel(wheels, "bolt", {"bolt.py": "", "bolt_old.py": "print 'two'\n"})
    assert list(build(venvs, "bolt").glob("lib/python*/site-packages/__pycache__/bolt.*.pyc"))


# ---- source code: refused, with names ----


def test_source_code_is_refused_by_default(venvs: Path, wheels: Path, trace: Path) -> None:
    add_source(wheels, "bolt", code=touching(trace))
    with pytest.raises(EnvironmentBuildError, match=r"source code of bolt\b.*'allow_source_builds': True"):
        build(venvs, "bolt")
    assert not trace.exists()
    assert [path for path in venvs.iterdir() if not path.name.endswith(".lock")] == []


def test_an_older_wheel_is_preferred_to_source_code(venvs: Path, wheels: Path, trace: Path) -> None:
    add_source(wheels, "bolt", version="2.0", code=touching(trace))
    add_wheel(wheels, "bolt", {"bolt.py": ""})
    assert list(build(venvs, "bolt").glob("lib/python*/site-packages/bolt-1.0.dist-info"))
    assert not trace.exists()


@pytest.mark.parametrize("name", ["PIP_NO_BINARY", "UV_NO_BINARY", "UV_NO_BINARY_PACKAGE"])
def test_preferring_source_code_does_not_permit_it(
    venvs: Path, wheels: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1" if name == "UV_NO_BINARY" else "bolt")
    add_source(wheels, "bolt", code=touching(trace))
    with pytest.raises(EnvironmentBuildError, match="only source code of bolt"):
        build(venvs, "bolt")
    assert not trace.exists()


def test_source_code_that_a_project_of_the_hosts_needs_is_refused(
    venvs: Path, wheels: Path, trace: Path, tmp_path: Path
) -> None:
    add_source(wheels, "bolt", code=touching(trace))
    project = add_project(tmp_path / "project", "nail", "bolt")
    with pytest.raises(EnvironmentBuildError, match="only source code of bolt"):
        build(venvs, str(project))
    assert not trace.exists()


# ---- the host's own projects are the host's ----


@pytest.mark.parametrize("form", ["{path}", "nail @ file://{path}", "file://{path}", "{archive}"])
def test_projects_of_the_hosts_are_built(venvs: Path, wheels: Path, tmp_path: Path, form: str) -> None:
    project = add_project(tmp_path / "project", "nail")
    archive = add_source(tmp_path, "nail")
    path = build(venvs, form.format(path=project, archive=archive))
    assert list(path.glob("lib/python*/site-packages/nail.py"))


def test_what_is_the_hosts_own(tmp_path: Path) -> None:
    own = ["-e /a", "/a", "/a[x]", "/a-1.tar.gz", "a @ file:///a", "a[x] @ file:///a.zip", "-e file:///a"]
    others = [
        "a",
        "a>=1",
        "/a-1-py3-none-any.whl",
        "file:///a.whl",
        "a @ https://b/a.tar.gz",
        "git+https://b",
    ]
    assert [text for text in own + others if is_own_source(text)] == own


def test_what_a_build_may_ask_for() -> None:
    plain = ["a", "a.b-c_d", "a>=1,<2", "a (>=1)", "a[x,y]~=1.0 ; python_version < '3'", "a==1.*"]
    others = [
        "",
        "-e a",
        "--index-url=b",
        "a @ b",
        "./a",
        "/a",
        "a/b",
        "a.zip",
        "a.whl",
        "a.tar.gz[x]",
        "a\nb",
    ]
    assert [text for text in plain + others if is_plain(text)] == plain


def test_what_uv_says_is_understood() -> None:
    words = "x\nhint: Wheels are required for\n   `Foo.Bar` because building\n`b==2 has no usable wheels"
    assert without_wheels(words) == ["foo-bar", "b"]
    assert without_build("cause: Building source distributions for `nut` is disabled") == ["nut"]


def test_keys_need_each_other(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="'build_network' needs 'allow_source_builds'"):
        load("echo", host_side.Hooked, build_network=True)


# ---- source code at a URL ----


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def serving(folder: Path, handler: type[Silent]) -> Iterator[int]:
    """Serve a folder; yields the port."""
    made = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), made) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL at which it is served."""
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
    """Serves to those that know a password; writes down what it was sent."""

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
    """A folder, and the URL at which it is served, with user and password."""
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


# ---- what is in the way is named ----


@pytest.mark.parametrize("name", ["uv.toml", "pyproject.toml"])
@pytest.mark.parametrize("text", ['no-binary-package = ["bolt"]', '{table}pip = {{ no-binary = ["bolt"] }}'])
def test_settings_of_uv_that_permit_builds_are_refused(
    venvs: Path,
    wheels: Path,
    trace: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    text: str,
) -> None:
    """uv would add them to its options."""
    folder = tmp_path / "app"
    folder.mkdir()
    in_project = name == "pyproject.toml"
    (folder / name).write_text("[tool.uv]\n" * in_project + text.format(table="") + "\n")
    monkeypatch.chdir(folder)
    add_source(wheels, "bolt", code=touching(trace))
    with pytest.raises(EnvironmentBuildError, match=rf"{name} has a setting 'no-binary'"):
        build(venvs, "bolt")
    assert not trace.exists()


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path, wheels: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentBuildError, match=r"'venv_root_path' .*/file/venvs"):
        build(tmp_path / "file" / "venvs", "rivet")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("failed to write: No space left on device (os error 28)", "UV_CACHE_DIR"),
        ("cause: Permission denied (os error 13)", "'venv_root_path'"),
        ("error: Failed to fetch: `https://a/b/`\ncause: dns error", "network"),
        ("error: No solution found when resolving dependencies", "'dependencies'"),
    ],
)
def test_the_remedy_is_for_what_has_failed(
    venvs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, remedy: str
) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\ncat >&2 <<'.'\n{words}\n.\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setattr("pyisolate.environment._find_uv", lambda name: str(uv))
    with pytest.raises(EnvironmentBuildError) as caught:
        build(venvs, "rivet")
    assert remedy in str(caught.value).splitlines()[-1]


def test_a_working_folder_that_has_been_removed(venvs: Path, make_wheel: MakeWheel, tmp_path: Path) -> None:
    make_wheel("1.0")
    source = """
        import os, sys
        from pathlib import Path
        from pyisolate.environment import EnvironmentBuilder
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        EnvironmentBuilder(Path(sys.argv[1]), "ext", ["rivet"]).provide()
    """
    command = [sys.executable, "-c", textwrap.dedent(source), str(venvs)]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert list(venvs.glob("ext-*/pyisolate.json"))


# ---- locks ----


def test_a_lock_is_waited_for_with_a_limit(
    venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "LOCK_LIMIT", 0.2)
    venvs.mkdir()
    with open(venvs / ".ext.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentBuildError, match=rf"process {os.getpid()} \(.*'venv_root_path'"):
            build(venvs, "rivet")


# ---- source code, where it is permitted: built in a sandbox ----


def test_source_code_is_built_confined(venvs: Path, wheels: Path, trace: Path) -> None:
    add_source(wheels, "bolt", code=touching(trace))
    assert note(build(venvs, "bolt", allow_source_builds=True)) == "refused"
    assert not trace.exists()


def test_it_is_the_sandbox_that_holds(
    venvs: Path, wheels: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyisolate.sandbox, "_omitted", 1 << FILES | 1 << NAMESPACES)
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
    assert [path for path in venvs.iterdir() if not path.name.endswith(".lock")] == []


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
