"""The checkout as a package: installed as editable, and not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import paths
import pytest

import pyisolate

ROOT = paths.ROOT
INSTALLED = Path(pyisolate.__file__).parent

# Instead of compiling, the installed package is put into a wheel.
MESONPY = """
import zipfile
from pathlib import Path

def get_requires_for_build_editable(settings=None):
    return []

build_sdist = get_requires_for_build_sdist = get_requires_for_build_wheel = None

def build_wheel(folder, settings, metadata_directory):
    assert settings["build-dir"]
    with zipfile.ZipFile(Path(folder, "some.whl"), "w") as wheel:
        for path in INSTALLED.rglob("*"):
            if path.is_file():
                wheel.write(path, f"pyisolate/{path.relative_to(INSTALLED)}")
        wheel.writestr("pyisolate-1.dist-info/METADATA", "Name: pyisolate")
        wheel.writestr("pyisolate-1.dist-info/RECORD", "")
    return "some.whl"
"""

PROGRAM = """
import site, sys
site.addsitedir(sys.argv[1])
import pyisolate
manager = pyisolate.ExtensionManager(pyisolate.ExtensionBase, {"venv_root_path": sys.argv[2] + "/venvs"})
extension = manager.load_extension({"name": "e", "module_path": sys.argv[2] + "/e"})
print(pyisolate.__file__, extension.sync.twice(21))
manager.stop_all_extensions()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package's sources, without the compiled module."""
    folder = tmp_path / "checkout"
    shutil.copytree(INSTALLED, folder / "pyisolate", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "build_backend.py", folder / "tools")
    return folder


def run(
    *arguments: str | Path, cwd: Path, python: str = sys._base_executable
) -> subprocess.CompletedProcess[str]:
    # Without the environment of the tests and with -S, so that the installed package is not found.
    command = [python, "-S", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("python", [sys._base_executable, sys.executable], ids=["base", "environment"])
def test_editable_install(python: str, checkout: Path, tmp_path: Path) -> None:
    """It needs neither its build tools nor an import hook, also in an extension's process."""
    (checkout / "tools" / "mesonpy.py").write_text(
        f"from pathlib import Path\nINSTALLED = Path({str(INSTALLED)!r})\n{MESONPY}"
    )
    program = f"import build_backend; build_backend.build_editable({str(tmp_path)!r})"
    built = run("-c", program, cwd=checkout / "tools")
    assert built.returncode == 0, built.stderr
    site = tmp_path / "site-packages"
    with zipfile.ZipFile(tmp_path / "some.whl") as wheel:
        assert sorted(wheel.namelist()) == [
            "pyisolate-1.dist-info/METADATA",
            "pyisolate-1.dist-info/RECORD",
            "pyisolate.pth",
        ]
        wheel.extractall(site)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "__init__.py").write_text(
        "import pyisolate\nclass E(pyisolate.ExtensionBase):\n    def twice(self, n):\n        return 2 * n\n"
    )
    used = run("-c", PROGRAM, site, tmp_path, cwd=tmp_path, python=python)
    assert used.stdout == f"{checkout / 'pyisolate' / '__init__.py'} 42\n", used.stderr


def test_sources_that_are_not_built(checkout: Path) -> None:
    tried = run("-c", "import pyisolate", cwd=checkout)
    assert f"{checkout / 'pyisolate'} contains sources of PyIsolate that are not built" in tried.stderr
    assert "pip install -e ." in tried.stderr
