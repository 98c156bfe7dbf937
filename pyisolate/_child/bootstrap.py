"""The first code that an extension's process runs; it makes the host's PyIsolate and modules importable.

It is executed as a script, before the package can be imported, so it uses the standard library alone. The
extension's environment comes first on sys.path, the host's entries after it: what an extension pins wins, and
what it does not have is found in the host.
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
    """Import exactly this file under this name."""
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=package)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def extend_path(entries: "list[str]") -> None:
    """Append the host's entries; of its site-packages also what their .pth files add, as import hooks."""
    for entry in entries:
        if entry in sys.path:
            continue
        if os.path.basename(entry) in ("site-packages", "dist-packages"):
            site.addsitedir(entry)
        else:
            sys.path.append(entry)


def tell_programs(entries: "list[str]", package: str) -> None:
    """Have this interpreter find the host's entries also where the extension runs it as a program."""
    os.environ["PYISOLATE_PATH"] = json.dumps({"prefix": sys.prefix, "version": sys.version, "path": entries})
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [os.path.join(package, "_child", "programs"), others])
    )


def run(arguments: "dict[str, Any]") -> None:
    os.environ.pop("PYISOLATE_STARTING", None)  # it is an interpreter (interpreter.py)
    # By file: the extension's environment need not have the package, and might have another version.
    core = load("pyisolate._core", arguments["core"])
    if "keeper" in arguments:
        descriptor = int(os.environ["PISO_FD"])
        core.zygote_guard(descriptor)
        core.serve_forks(descriptor, b'{"modules": {}}', arguments["idle"])
        os._exit(0)
    preload = arguments.get("preload")
    if preload is not None:
        gc.disable()  # what is imported stays: collections would look at it in vain
        core.zygote_guard(int(os.environ["PISO_FD"]))
    package = arguments["package"]
    load("pyisolate", os.path.join(package, "__init__.py"), [package])
    main = importlib.import_module("pyisolate._child.main").main
    if preload is not None:
        zygote = importlib.import_module(arguments["server"])
        arguments = zygote.serve(preload, arguments["path"], arguments["idle"], arguments["share"])
    tell_programs(arguments["path"], arguments["package"])
    extend_path(arguments["path"])
    main()


run(json.loads(sys.argv.pop()))
