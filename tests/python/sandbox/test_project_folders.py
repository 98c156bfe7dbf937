"""The files that an extension can read in folders of real programs: a Flask project, a ComfyUI folder, each
with its environment, run as their users run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

import pytest
from internals import NAMESPACES

import pyisolate

LIBRARIES = Path(pyisolate.__file__).parent.parent

READER = """
from pyisolate import ExtensionBase
class Reader(ExtensionBase):
    def readable(self, paths):
        found = []
        for path in paths:
            try:
                open(path, "rb").read(1)
                found.append(path)
            except OSError:
                pass
        return found
"""
HOST = """
import json, os, sys
{imports}
import pyisolate, pyisolate._sandbox.policy
from pyisolate import ExtensionBase, ExtensionManager

def main():
    here = os.path.dirname(os.path.abspath(__file__))
    pyisolate._sandbox.policy.omitted_layers = int(sys.argv[2])
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(here) for name in names]
    manager = ExtensionManager(ExtensionBase, {{"venv_root_path": os.path.join(here, "venvs")}})
    with manager:
        config = {{"name": "reader", "module_path": sys.argv[1], "sandbox": {sandbox}}}
        extension = manager.load_extension(config)
        json.dump(extension.sync.readable(paths), sys.stdout)

if __name__ == "__main__":
    main()
"""

FLASK = {
    "seen": [
        *("app.py", "config.py", "wsgi.py", "shop/__init__.py", "shop/views.py", "shop/templates/index.html"),
        *("shop/static/css/site.css", "shop/models/user.py", "tests/__init__.py", "tests/test_app.py"),
        "tests/data/order.json",
    ],
    "unseen": [
        *(".env", ".flaskenv", ".git/config", ".git/objects/ab/cd", ".gitignore", ".github/workflows/ci.yml"),
        *("instance/app.sqlite", "instance/config.py", "uploads/photo.jpg", "certs/key.pem", "logs/app.log"),
        *("node_modules/left-pad/index.js", "node_modules/gyp/gyp.py", "package.json", "requirements.txt"),
        *("templates/index.html", "static/site.css", "migrations/env.py", "Dockerfile", "backup.sql"),
        *("shop/.env", "shop/models/.cache/rows", "shop/static/.DS_Store", "tests/data/.secret"),
        "venvs/.other.lock",
    ],
}
COMFY = {
    "seen": [
        *("main.py", "folder_paths.py", "nodes.py", "execution.py", "server.py", "app/__init__.py"),
        *(
            "app/database/models.py",
            "app/frontend_management.py",
            "comfy/sd.py",
            "comfy/sd1_clip_config.json",
        ),
        *("comfy/sd1_tokenizer/vocab.json", "comfy/ldm/modules/attention.py", "comfy_api/__init__.py"),
        *("utils/__init__.py", "utils/json_util.py", "custom_nodes/reader/__init__.py"),
        *("custom_nodes/reader/.git/config", "custom_nodes/reader/config.ini"),
    ],
    "unseen": [
        *(
            ".git/config",
            ".env",
            "extra_model_paths.yaml",
            "comfyui.log",
            "models/checkpoints/model.safetensors",
        ),
        *("models/configs/v1-inference.yaml", "input/example.png", "output/ComfyUI_00001_.png", "temp/x.png"),
        *("user/comfyui.db", "user/default/comfy.settings.json", "user/default/workflows/mine.json"),
        *("user/__manager/config.ini", "custom_nodes/other/config.ini", "custom_nodes/other/.git/config"),
        *("custom_nodes/other/data.py.bak", "comfy_extras/nodes_mask.py", "blueprints/x.json"),
        *("script_examples/basic_api_example.py", "comfy/.ipynb_checkpoints/cli_args.py"),
    ],
}


def make(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")


def make_environment(folder: Path) -> str:
    """Make an environment as ``python -m venv`` does, with the tests' packages. Return its interpreter."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{LIBRARIES}\n")
    return str(folder / "bin" / "python")


def read(
    python: str, folder: Path, reader: Path, omitted: int, script: str, imports: str = "", sandbox: str = "{}"
) -> set[str]:
    """Return the files of the folder that an extension can read when the script is run."""
    (folder / script).write_text(HOST.format(imports=imports, sandbox=sandbox))
    reader.mkdir(parents=True, exist_ok=True)
    (reader / "__init__.py").write_text(READER)
    command = [python, str(folder / script), str(reader), str(omitted)]
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environ,
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {os.path.relpath(path, folder) for path in json.loads(done.stdout)}


@pytest.fixture(params=[0, 1 << NAMESPACES], ids=["namespaces", "no namespaces"])
def omitted(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_a_flask_project(tmp_path: Path, omitted: int) -> None:
    app = tmp_path / "app"
    make(app, [*FLASK["seen"], *FLASK["unseen"]])
    python = make_environment(app / ".venv")
    (app / ".venv" / "notes.txt").write_text("x")
    seen = read(python, app, tmp_path / "reader", omitted, "app.py")
    of_environment = {path for path in seen if path.startswith(".venv/")}
    compiled = {path for path in seen if "__pycache__" in path}
    assert seen - of_environment - compiled == set(FLASK["seen"])
    assert ".venv/pyvenv.cfg" in of_environment
    assert ".venv/notes.txt" not in of_environment


def test_a_project_that_is_its_own_environment(tmp_path: Path, omitted: int) -> None:
    app = tmp_path / "app"
    own = ["bin/deploy.sh", "lib/secrets.json", "share/dump.sql", "include/keys.h", "lib/app/settings.py"]
    make(app, [*FLASK["seen"], *FLASK["unseen"], *own])
    python = make_environment(app)
    seen = read(python, app, tmp_path / "reader", omitted, "app.py")
    rest = {path for path in seen if not path.startswith(("bin/python", "lib/python", "lib64/python"))}
    assert rest - {path for path in rest if "__pycache__" in path} == {*FLASK["seen"], "pyvenv.cfg"}


@pytest.mark.parametrize("imports", ["", "import custom_nodes.other"])
def test_a_comfyui_folder(tmp_path: Path, omitted: int, imports: str) -> None:
    """Its `comfy` has no ``__init__``, nor has `custom_nodes`, from which some nodes import others."""
    app = tmp_path / "ComfyUI"
    make(app, [*COMFY["seen"], *COMFY["unseen"]])
    others = set()
    if imports:
        others = {"custom_nodes/other/__init__.py"}
        make(app, others)
        others |= {
            "custom_nodes/other/config.ini",
            "custom_nodes/other/data.py.bak",
        }  # a package, with its data
    python = make_environment(app / "venv")
    reader = app / "custom_nodes" / "reader"
    imports = f"import app.database.models, comfy.sd, utils.json_util, folder_paths, nodes\n{imports}"
    seen = read(python, app, reader, omitted, "main.py", imports)
    rest = {path for path in seen if not path.startswith("venv/") and "__pycache__" not in path}
    assert rest == {*COMFY["seen"], *others}


def test_more_and_less_by_configuration(tmp_path: Path, omitted: int) -> None:
    app = tmp_path / "ComfyUI"
    make(app, [*COMFY["seen"], *COMFY["unseen"]])
    sandbox = {
        "readonly_paths": [str(app / "models"), str(app / "input")],
        "host_paths": [f"!{app}/models/configs", f"!{app}/app", f"!{app}/custom_nodes/reader/config.ini"],
    }
    seen = read(
        sys.executable, app, app / "custom_nodes" / "reader", omitted, "main.py", sandbox=repr(sandbox)
    )
    assert {"models/checkpoints/model.safetensors", "input/example.png", "nodes.py"} <= seen
    excluded = ("models/configs/", "app/", "custom_nodes/reader/config.ini")
    assert not [path for path in seen if path.startswith(excluded)]
