"""Extends the path of an interpreter that an extension starts, so that it finds the extension's modules.

The folder comes first on the path of each interpreter that an extension starts, so it contains only this
file. An interpreter of another version or environment keeps its path.
"""

import importlib
import importlib.util
import json
import os
import site
import sys


class _Module:
    """A finder for the extension's own module, which no folder of the path contains.

    Workers of `multiprocessing` need it to unpickle functions of the module.
    """

    def __init__(self, name: str, file: str) -> None:
        self._name, self._file = name, file

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self._name:
            return None
        folder = os.path.dirname(self._file)
        return importlib.util.spec_from_file_location(name, self._file, submodule_search_locations=[folder])


def _extend_path() -> None:
    try:
        known = json.loads(os.environ["PYISOLATE_PATH"])
        same = (known["prefix"], known["version"]) == (sys.prefix, sys.version)
        entries = known["path"] if same else []
        module = known.get("module") if same else None
    except (KeyError, ValueError, TypeError):
        return
    if module:
        sys.meta_path.insert(0, _Module(*module))  # type: ignore[arg-type]
    for entry in entries:
        if entry in sys.path:
            continue
        if os.path.basename(entry) in ("site-packages", "dist-packages"):
            site.addsitedir(entry)
        else:
            sys.path.append(entry)


def _run_hidden() -> None:
    """Import the system's `sitecustomize`, if it has one, because this module hides it."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    own = sys.modules.pop(__name__, None)
    try:
        importlib.import_module(__name__)
    except ImportError:
        if own is not None:
            sys.modules[__name__] = own


_extend_path()
_run_hidden()
