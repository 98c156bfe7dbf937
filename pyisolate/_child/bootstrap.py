"""The first code that an extension's process runs. It makes the host's PyIsolate and modules importable.

It runs before the package can be imported, so it uses the standard library alone. On sys.path the extension's
environment comes first and the host's entries follow. The extension's own versions take precedence, and
packages that it does not have are found in the host.
"""

import gc
import importlib
import importlib.util
import json
import os
import site
import sys
from types import ModuleType
from typing import Any


def load(name: str, file: str, package: "list[str] | None" = None) -> ModuleType:
    """Import this file under this name. `package`: the folders of its submodules, if it is a package."""
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=package)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def extend_path(entries: "list[str]") -> None:
    """Append the host's entries to sys.path, and run the .pth files of its site-packages."""
    for entry in entries:
        if entry in sys.path:
            continue
        if os.path.basename(entry) in ("site-packages", "dist-packages"):
            site.addsitedir(entry)
        else:
            sys.path.append(entry)


def export_path(entries: "list[str]", package: str) -> None:
    """Set variables by which this interpreter finds the host's entries when an extension starts it."""
    os.environ["PYISOLATE_PATH"] = json.dumps({"prefix": sys.prefix, "version": sys.version, "path": entries})
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [os.path.join(package, "_child", "programs"), others])
    )


def run(arguments: "dict[str, Any]") -> None:
    os.environ.pop("PYISOLATE_STARTING", None)  # reports that this is an interpreter (interpreter.py)
    # Loaded by file, because the extension's environment may lack the package, or have another version.
    core = load("pyisolate._core", arguments["core"])
    if "keeper" in arguments:
        descriptor = int(os.environ["PISO_FD"])
        core.zygote_guard(descriptor)
        core.serve_forks(descriptor, b'{"modules": {}}', arguments["idle"])
        os._exit(0)
    preload = arguments.get("preload")
    if preload is not None:
        gc.disable()  # imported modules stay alive, so collections would find nothing
        core.zygote_guard(int(os.environ["PISO_FD"]))
    package = arguments["package"]
    load("pyisolate", os.path.join(package, "__init__.py"), [package])
    main = importlib.import_module("pyisolate._child.main").main
    if preload is not None:
        zygote = importlib.import_module(arguments["server"])
        arguments = zygote.serve(preload, arguments["path"], arguments["idle"], arguments["share"])
    export_path(arguments["path"], arguments["package"])
    extend_path(arguments["path"])
    main()


run(json.loads(sys.argv.pop()))
