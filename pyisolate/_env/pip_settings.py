"""Passes pip's configuration to uv, which does not read it.

Otherwise a machine whose pip is configured with a mirror, a folder of wheels or a certificate could install
nothing. pip need not be installed: its environment variables and files are read as its documentation
describes. A UV_… variable that the user has set takes precedence.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = [
    "cache_folder",
    "no_binary_file",
    "pip_settings",
    "uv_environment",
    "uv_files",
    "uv_options",
    "without_dependencies",
]

_SYSTEM_FILE = Path("/etc/pip.conf")
_TRUE = frozenset({"1", "yes", "true", "on", "y", "t"})

# pip's option -> the equivalent uv variables. The first is set unless one of them is set already.
_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "constraint": ("UV_CONSTRAINT",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("ALL_PROXY",),
}
# Variables that would redirect uv to another environment, or make it run what it installs.
_REMOVED = frozenset(
    {
        *("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX", "VIRTUAL_ENV"),
        *(
            "UV_COMPILE_BYTECODE",
            "UV_NO_BINARY",
            "UV_NO_BINARY_PACKAGE",
            "UV_NO_BUILD",
            "UV_NO_BUILD_PACKAGE",
        ),
    }
)
_SEPARATORS = {"find-links": ","}
# pip's flag -> uv's variable and its value
_FLAGS = {
    "pre": ("UV_PRERELEASE", "allow"),
    "no-build-isolation": ("UV_NO_BUILD_ISOLATION", "1"),
    "no-cache-dir": ("UV_NO_CACHE", "1"),
}


def pip_settings(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Return pip's settings for `pip install` by option: the values, or one word for a flag."""
    merged: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in _files(environ):
        # A file that pip could not read either is ignored.
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section, options in merged.items():
            if parser.has_section(section):
                options.update((_option(key), value) for key, value in parser.items(section))
    variables = {
        _option(name[4:]): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value.strip()
    }
    settings = {**merged["global"], **merged["install"], **variables}
    return {option: value.split() for option, value in settings.items()}


def _option(name: str) -> str:
    return name.lower().replace("_", "-").lstrip("-")


def _files(environ: Mapping[str, str]) -> Iterable[Path]:
    """Iterate over pip's configuration files; a later one overrides an earlier one."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    for folder in reversed((environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")):
        yield Path(folder, "pip", "pip.conf")
    yield _SYSTEM_FILE
    yield home / ".pip" / "pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    yield Path(sys.prefix, "pip.conf")
    if named:
        yield Path(named)


def uv_environment(environ: Mapping[str, str], extra_index_urls: Sequence[str] = ()) -> dict[str, str]:
    """Return environment variables for uv: `environ`, and the equivalents of pip's settings."""
    settings = pip_settings(environ)
    result = {name: value for name, value in environ.items() if name not in _REMOVED}
    for option, names in _VARIABLES.items():
        if settings.get(option) and not any(name in environ for name in names):
            result[names[0]] = _SEPARATORS.get(option, " ").join(settings[option])
    for option, (name, value) in _FLAGS.items():
        if _is_set(settings, option):
            result.setdefault(name, value)
    if result.get("UV_LINK_MODE") == "symlink":  # extensions cannot read the cache
        del result["UV_LINK_MODE"]
    if settings.get("keyring-provider") == ["subprocess"]:
        result.setdefault("UV_KEYRING_PROVIDER", "subprocess")
    for name, separator in (("UV_FIND_LINKS", ","), ("UV_CONSTRAINT", " ")):  # uv may run in another folder
        if name in result:
            result[name] = separator.join(map(_absolute, result[name].split(separator)))
    if extra_index_urls:
        result["UV_INDEX"] = " ".join([*extra_index_urls, *result.get("UV_INDEX", "").split()])
    if extra_index_urls or settings.get("extra-index-url"):
        # pip chooses the best version from all indexes; uv would stop at the first index with the package.
        result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return result


def uv_options(environ: Mapping[str, str]) -> list[str]:
    """Return options for ``uv pip install`` for those of pip's settings that have no variable.

    ``no-binary`` is not passed on: for uv it would be the permission to build those packages.
    """
    settings = pip_settings(environ)
    options = ["--no-index"] if _is_set(settings, "no-index") else []
    for value in settings.get("only-binary", []):
        options += [f"--only-binary={package}" for package in value.split(",")]
    return options


def without_dependencies(names: Sequence[str], folder: Path) -> list[str]:
    """Return options for uv, to be run in `folder`, that make it ignore the dependencies of these packages.

    uv accepts that only in its settings file: the user's, or that of the project in which it runs. A copy of
    the file, with the packages added, is written to `folder`.
    """
    chosen = os.environ.get("UV_CONFIG_FILE")
    file = Path(chosen) if chosen else _project_settings()
    text = file.read_text(encoding="utf-8") + "\n" if file is not None else ""
    in_project = file is not None and file.name == "pyproject.toml"
    table = "tool.uv.dependency-metadata" if in_project else "dependency-metadata"
    text += "".join(f'[[{table}]]\nname = "{name}"\nrequires-dist = []\n' for name in names)
    copy = folder / ("pyproject.toml" if in_project else "uv.toml")
    copy.write_text(text, encoding="utf-8")
    return ["--config-file", str(copy)] if chosen else []


def no_binary_file(environ: Mapping[str, str]) -> Path | None:
    """Return a settings file that makes uv build packages although it is told to install only wheels.

    uv adds `no-binary` in these files to its options, which permits builds, and no option prevents that.
    """
    for file in uv_files(environ):
        with suppress(OSError, UnicodeDecodeError):
            if re.search(r"^[^#\n]*\bno-binary(?:-package)?\s*=", file.read_text("utf-8"), re.MULTILINE):
                return file
    return None


def cache_folder(environ: Mapping[str, str]) -> str:
    """Return the folder of uv's cache, unless one of its settings files names another."""
    home = environ.get("HOME") or os.path.expanduser("~")
    caches = environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return os.path.abspath(environ.get("UV_CACHE_DIR") or os.path.join(caches, "uv"))


def uv_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the settings files that uv reads when it runs in the working folder."""
    if environ.get("UV_CONFIG_FILE"):
        return [Path(environ["UV_CONFIG_FILE"])]
    if environ.get("UV_NO_CONFIG", "").lower() in _TRUE:
        return []
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "uv", "uv.toml")
    folders = (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    system = [Path(folder, "uv", "uv.toml") for folder in folders] + [Path("/etc/uv/uv.toml")]
    project = _project_settings()
    return [*([project] if project is not None else []), user, *system]


def _project_settings() -> Path | None:
    """Return the project's settings file that uv finds when it runs in the working folder, or None."""
    with suppress(OSError):
        for folder in (here := Path.cwd(), *here.parents):
            if (folder / "uv.toml").is_file():
                return folder / "uv.toml"
            project = folder / "pyproject.toml"
            if project.is_file() and re.search(r"^\[+tool\.uv\b", project.read_text("utf-8"), re.MULTILINE):
                return project
    return None


def _absolute(text: str) -> str:
    return os.path.abspath(text) if os.path.exists(text) else text


def _is_set(settings: Mapping[str, list[str]], option: str) -> bool:
    return " ".join(settings.get(option, [])).lower() in _TRUE
