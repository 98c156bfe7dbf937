"""Whole programs: classes of the main module, and ends of the host, which end its extensions too."""

from __future__ import annotations

import signal
import subprocess
import textwrap
from pathlib import Path

import paths
import pytest
from processes import gone, run_python
from sources import slow_uv

EXTENSIONS = paths.EXTENSIONS

PROGRAM = """
import asyncio, enum, os, sys
from pyisolate import ExtensionBase, ExtensionManager, ProxiedSingleton, register_type

@register_type
class Size(enum.Enum):
    BIG = 1

class Api(ProxiedSingleton):
    def pid(self):
        return os.getpid()

class Mine(ExtensionBase):
    async def ask(self):
        return await Api().pid()
    def size(self):
        return Size.BIG

def load():
    manager = ExtensionManager(Mine, {{"venv_root_path": "venvs"}})
    return manager.load_extension({{"name": "ext", "module_path": {echo!r}, "apis": [Api]}})
"""


def run_program(tmp_path: Path, rest: str, *, module: bool = False) -> subprocess.CompletedProcess[str]:
    source = PROGRAM.format(echo=str(EXTENSIONS / "echo")) + textwrap.dedent(rest)
    (tmp_path / "program.py").write_text(source)
    return run_python(["-m", "program"] if module else ["program.py"], tmp_path)


@pytest.mark.parametrize("module", [False, True])
def test_classes_of_the_main_program(tmp_path: Path, module: bool) -> None:
    ended = run_program(
        tmp_path,
        """
        if __name__ == "__main__":
            extension = load()
            assert extension.sync.ask() == os.getpid()
            assert extension.sync.size() is Size.BIG
            extension.stop()
            print("fine")
        """,
        module=module,
    )
    assert (ended.stdout, ended.returncode) == ("fine\n", 0), ended.stderr


@pytest.mark.parametrize("module", [False, True])
@pytest.mark.parametrize("listed", [True, False])
def test_extensions_import_from_the_main_program(tmp_path: Path, module: bool, listed: bool) -> None:
    """By the name of its file; values are of the program's classes, not of a copy."""
    (tmp_path / "asker").mkdir()
    (tmp_path / "asker" / "__init__.py").write_text(
        "from program import Api\ndef ask(): return Api().pid()\n"
    )
    ended = run_program(
        tmp_path,
        f"""
        class Asker(ExtensionBase):
            def on_module_loaded(self, module):
                self.module = module
            async def ask(self):
                answer = self.module.ask()
                return await answer if asyncio.iscoroutine(answer) else answer
        if __name__ == "__main__":
            manager = ExtensionManager(Asker, {{"venv_root_path": "venvs"}})
            apis = [Api] if {listed} else []
            asker = manager.load_extension({{"name": "asker", "module_path": "asker", "apis": apis}})
            print(asker.sync.ask() == os.getpid())
            asker.stop()
        """,
        module=module,
    )
    assert (ended.stdout, ended.returncode) == (f"{listed}\n", 0), ended.stderr
    assert ("'asker' has made its own __main__.Api" in ended.stderr) is not listed


UNGUARDED = {
    "calls": "load().sync.ask()",
    "runs a loop": """
        async def main():
            await load().ask()
        asyncio.run(main())
    """,
    "runs a loop of its own": """
        async def main():
            await load().ask()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
    """,
    "is finished": "load().sync.ask(); sys.exit(0)",
    "exits at once for others": "if sys.argv[1:] != ['run']: sys.exit('usage')\nload().sync.ask()",
    "reads its input": "print(input('name? ')); load().sync.ask()",
    "reads arguments": """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("what")
        parser.parse_args()
        load().sync.ask()
    """,
    "preloads": "load().ensure_process_started()",
}


@pytest.mark.parametrize("rest", UNGUARDED.values(), ids=UNGUARDED)
def test_a_main_program_without_guard_is_told(tmp_path: Path, rest: str) -> None:
    """The errors of importing it would not help its author."""
    source = PROGRAM.format(echo=str(EXTENSIONS / "echo")) + textwrap.dedent(rest)
    (tmp_path / "program.py").write_text(source)
    ended = run_python(["program.py", "run"], tmp_path, source="anybody\n")
    assert ended.returncode == 1
    last = ended.stderr[ended.stderr.index("ImportError:") :]
    assert f"{tmp_path}/program.py is the host's program. The extension's process imports it, too" in last
    assert 'put what starts it under `if __name__ == "__main__":`' in last
    assert "running event loop" not in last


@pytest.mark.parametrize("rest", ["asyncio.run(main())", "load().sync.ask()"])
def test_a_program_without_guard_that_its_extension_imports(tmp_path: Path, rest: str) -> None:
    """It would load itself again in each of its extensions, without end."""
    (tmp_path / "importer").mkdir()
    (tmp_path / "importer" / "__init__.py").write_text(
        "import program\nfrom pyisolate import ExtensionBase\nclass Importer(ExtensionBase): pass\n"
    )
    (tmp_path / "program.py").write_text(
        f"""
import asyncio
from pyisolate import ExtensionBase, ExtensionManager
with open("starts", "a") as starts: starts.write("x")
def load():
    manager = ExtensionManager(ExtensionBase, {{"venv_root_path": "venvs"}})
    return manager.load_extension(
        {{"name": "importer", "module_path": "importer", "sandbox": {{"writable_paths": ["starts"]}}}}
    )
async def main():
    await load().ask()
{rest}
"""
    )
    (tmp_path / "starts").touch()
    ended = run_python(["program.py"], tmp_path)
    last = ended.stderr[ended.stderr.rindex("ImportError:") :]
    assert 'put what starts it under `if __name__ == "__main__":`' in last
    assert (tmp_path / "starts").read_text() == "xx"


def test_a_program_with_guard_that_cannot_be_imported(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        if __name__ != "__main__":
            import nothing_of_this_name
        if __name__ == "__main__":
            load().sync.ask()
        """,
    )
    last = ended.stderr[ended.stderr.rindex("ImportError:") :]
    assert "could not be imported there: ModuleNotFoundError" in last
    assert "put what starts it" not in last


def test_a_program_that_does_not_come_to_an_end_is_told(tmp_path: Path) -> None:
    """It serves instead of being imported; no other error would say so."""
    ended = run_program(
        tmp_path,
        """
        import signal, threading
        if os.environ.get("PYISOLATE_CHILD"):
            threading.Event().wait(600)
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(5))
        signal.alarm(15)
        load().sync.ask()
        """,
    )
    assert ended.returncode == 5
    assert "still imports" in ended.stderr
    assert 'put what starts it under `if __name__ == "__main__":`' in ended.stderr


def test_classes_of_a_program_that_is_no_file_are_refused(tmp_path: Path) -> None:
    """A program that Python reads from a pipe cannot be read again by another process."""
    source = PROGRAM.format(echo=str(EXTENSIONS / "echo")) + "load()"
    ended = run_python([], tmp_path, source=source)
    assert ended.returncode == 1
    assert "Size is defined in an interactive session" in ended.stderr
    assert "define it in a module" in ended.stderr


def test_the_end_of_the_program_ends_extensions_at_once(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        class Mine(Mine):
            async def stop(self):
                await asyncio.sleep(60)
            def pid(self):
                return os.getpid()
        if __name__ == "__main__":
            print(load().sync.pid())
        """,
    )
    assert ended.returncode == 0, ended.stderr
    assert gone(int(ended.stdout))


def test_a_killed_program_takes_its_extensions_with_it(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        if __name__ == "__main__":
            extension = load()
            extension.ensure_process_started()
            print(extension._runtime._session.pid, flush=True)
            os.kill(os.getpid(), 9)
        """,
    )
    assert ended.returncode == -signal.SIGKILL
    assert gone(int(ended.stdout))


def test_what_extensions_are_forked_from_ends_when_there_are_none(tmp_path: Path) -> None:
    """An unused manager leaves no process behind for ever."""
    ended = run_program(
        tmp_path,
        """
        import time
        from pyisolate._host import zygote
        zygote.IDLE_SECONDS = 1.0
        def children():
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                return file.read().split()
        if __name__ == "__main__":
            extension = load()
            for way in range(2):
                assert extension.sync.ask() == os.getpid()
                before = children()
                time.sleep(2.5)
                assert children() == before  # while it is there
                extension.stop()
                deadline = time.monotonic() + 30
                while children() and time.monotonic() < deadline:
                    time.sleep(0.05)
                assert before and not children()
            print("fine")
        """,
    )
    assert (ended.stdout, ended.returncode) == ("fine\n", 0), ended.stderr


def test_a_host_without_descriptors_is_told_how_to_have_more(tmp_path: Path) -> None:
    ended = run_program(
        tmp_path,
        """
        import errno, resource
        if __name__ == "__main__":
            manager = ExtensionManager(Mine, {"venv_root_path": "venvs"})
            def start(number):
                config = {"name": f"ext {number}", "module_path": load.__defaults__[0], "apis": [Api]}
                extension = manager.load_extension(config)
                extension.ensure_process_started()
                return extension
            first = start(0)
            most = len(os.listdir("/proc/self/fd")) + 100  # half of it is enough for an extension itself
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            try:
                for number in range(1, 50):
                    start(number)
            except OSError as error:
                assert error.errno == errno.EMFILE, error
                print(error)
            assert number > 2
            manager.stop_extension("ext 1")
            assert start("again").sync.ask() == os.getpid()
        """.replace("load.__defaults__[0]", repr(str(EXTENSIONS / "echo"))),
    )
    assert ended.returncode == 0, ended.stderr
    assert "could not be started. This process may have" in ended.stdout
    assert "(ulimit -n;" in ended.stdout


ENDS = {
    "preloaded": """
        manager.preload([config])
        wait_for_uv()
    """,
    "in a loop": """
        async def main():
            starting = asyncio.ensure_future(extension())
            await asyncio.to_thread(wait_for_uv)
        async def extension():
            await manager.load_extension(config)
        asyncio.run(main())
    """,
    "in a thread": """
        def start():
            with contextlib.suppress(ExtensionStopped):
                manager.load_extension(config).ensure_process_started()
        threading.Thread(target=start, daemon=True).start()
        wait_for_uv()
    """,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_end_of_the_program_does_not_wait_for_a_start(tmp_path: Path, end: str) -> None:
    """The installer, which would run for ten minutes more, ends with it."""
    uv, pids = slow_uv(tmp_path)
    source = f"""
import contextlib, threading, time
from pyisolate import ExtensionStopped
from pyisolate._env import builder
builder.find_uv = lambda _: {str(uv)!r}
config = {{"name": "ext", "module_path": {str(EXTENSIONS / "echo")!r}, "dependencies": ["rivet"]}}
manager = ExtensionManager(ExtensionBase, {{"venv_root_path": "venvs"}})
def wait_for_uv():
    while not open({str(pids)!r}).read():
        time.sleep(0.01)
if __name__ == "__main__":
"""
    ended = run_program(tmp_path, source + textwrap.indent(textwrap.dedent(end), "    "))
    assert ended.returncode == 0, ended.stderr
    assert all(gone(int(pid)) for pid in pids.read_text().split())
    assert "Traceback" not in ended.stderr


def test_the_end_of_the_program_does_not_wait_for_extensions(tmp_path: Path) -> None:
    """Whatever they do: one writes without end, one is stopped, one computes, one ignores `stop`."""
    ended = run_program(
        tmp_path,
        """
        import signal, threading, time
        class Mine(Mine):
            async def stop(self):
                time.sleep(600)
            def pid(self):
                return os.getpid()
            def write(self):
                def run():
                    while True:
                        os.write(1, bytes(65536))
                        os.write(2, b"x" * 65536)
                threading.Thread(target=run, daemon=True).start()
            async def block(self):
                time.sleep(600)
            async def freeze(self):
                os.kill(os.getpid(), signal.SIGSTOP)
        if __name__ == "__main__":
            manager = ExtensionManager(Mine, {"venv_root_path": "venvs"})
            pids = []
            def start(name):
                config = {"name": name, "module_path": FOLDER, "apis": [Api]}
                extension = manager.load_extension(config)
                pids.append(extension.sync.pid())
                return extension
            start("writes").sync.write()
            async def main():
                asyncio.ensure_future(call(start("blocks").block()))
                asyncio.ensure_future(call(start("freezes").freeze()))
                await asyncio.sleep(0.2)
            async def call(awaitable):
                await awaitable
            asyncio.run(main())
            with open("pids", "w") as file:
                print(*pids, file=file)
        """.replace("FOLDER", repr(str(EXTENSIONS / "echo"))),
    )
    assert ended.returncode == 0, ended.stderr
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 3
    assert all(gone(int(pid)) for pid in pids)
