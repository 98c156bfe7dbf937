"""Hands pip's configuration on to uv, which does not read it.

A machine whose pip is told of a mirror, a folder of wheels or a certificate would otherwise install nothing.
pip itself need not be there: its environment variables and files are read as its documentation describes. A
UV_… variable that the user has set wins.
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
    "depending_on_nothing",
    "pip_settings",
    "settings_that_build",
    "uv_environment",
    "uv_files",
    "uv_options",
]

_SYSTEM_FILE = Path("/etc/pip.conf")
_TRUE = frozenset({"1", "yes", "true", "on", "y", "t"})

# pip's option -> the uv variables that say the same, of which the first is set unless one of them is.
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
# What would point uv elsewhere, or have it run what it installs.
_LEFT_OUT = frozenset(
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
    """pip's settings for `pip install`, by the name of the option: values, or one word for a flag."""
    merged: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for file in _files(environ):
        # A file that pip could not read either says nothing.
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
    """pip's configuration files; a later one overrides an earlier one."""
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
    """Environment variables for uv: `environ`, with what pip's settings mean."""
    settings = pip_settings(environ)
    result = {name: value for name, value in environ.items() if name not in _LEFT_OUT}
    for option, names in _VARIABLES.items():
        if settings.get(option) and not any(name in environ for name in names):
            result[names[0]] = _SEPARATORS.get(option, " ").join(settings[option])
    for option, (name, value) in _FLAGS.items():
        if _is_set(settings, option):
            result.setdefault(name, value)
    if result.get("UV_LINK_MODE") == "symlink":  # to the cache, which no extension can read
        del result["UV_LINK_MODE"]
    if settings.get("keyring-provider") == ["subprocess"]:
        result.setdefault("UV_KEYRING_PROVIDER", "subprocess")
    for name, separator in (("UV_FIND_LINKS", ","), ("UV_CONSTRAINT", " ")):  # wherever uv runs
        if name in result:
            result[name] = separator.join(map(_absolute, result[name].split(separator)))
    if extra_index_urls:
        result["UV_INDEX"] = " ".join([*extra_index_urls, *result.get("UV_INDEX", "").split()])
    if extra_index_urls or settings.get("extra-index-url"):
        # pip takes the best version of all indexes; uv would stop at the first index that has the package.
        result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return result


def uv_options(environ: Mapping[str, str]) -> list[str]:
    """Options for ``uv pip install`` that mean what pip's settings mean and have no variable.

    Not ``no-binary``: to uv it would be the permission to build those packages.
    """
    settings = pip_settings(environ)
    options = ["--no-index"] if _is_set(settings, "no-index") else []
    for value in settings.get("only-binary", []):
        options += [f"--only-binary={package}" for package in value.split(",")]
    return options


def depending_on_nothing(names: Sequence[str], folder: Path) -> list[str]:
    """Options for uv, to be run in this folder, that let it take these packages to depend on nothing.

    That can only be said in its settings: in the user's own, or those of the project that it runs in, of
    which a copy is made.
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


def settings_that_build(environ: Mapping[str, str]) -> Path | None:
    """A file of uv's settings that has it build packages although it is told to install wheels only.

    uv adds what these files say of `no-binary` to its options, where it permits a build, and has no option
    against it.
    """
    for file in uv_files(environ):
        with suppress(OSError, UnicodeDecodeError):
            if re.search(r"^[^#\n]*\bno-binary(?:-package)?\s*=", file.read_text("utf-8"), re.MULTILINE):
                return file
    return None


def cache_folder(environ: Mapping[str, str]) -> str:
    """Where uv keeps what it has fetched, unless a file of its settings says otherwise."""
    home = environ.get("HOME") or os.path.expanduser("~")
    caches = environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return os.path.abspath(environ.get("UV_CACHE_DIR") or os.path.join(caches, "uv"))


def uv_files(environ: Mapping[str, str]) -> list[Path]:
    """Those that uv reads, running here."""
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
    """The file of settings that uv would find, running here."""
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
