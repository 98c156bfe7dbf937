"""Files under 600 lines, functions under 60."""

from pathlib import Path

from source import ROOT, c_files, functions, name

FOLDERS = ("include", "src", "binding", "tests", "benchmarks")


def python_files() -> list[Path]:
    return sorted(
        path
        for folder in ("pyisolate", "tests", "benchmarks", "tools")
        for path in (ROOT / folder).rglob("*.py")
    )


def test_files_are_short() -> None:
    sizes = {name(path): path.read_text().count("\n") for path in c_files(*FOLDERS) + python_files()}
    assert {file: lines for file, lines in sizes.items() if lines > 600} == {}


def test_functions_are_found() -> None:
    text = (
        "int x;\n\nstatic int\nadd(int a,\n    int b) {\n    return a; /* } */\n}\nstruct s {\n    int a;\n};"
    )
    assert functions(text) == [("add", 3, 5)]


def test_functions_are_short() -> None:
    long = {
        f"{name(path)}:{line} {function}": lines
        for path in c_files(*FOLDERS)
        for function, line, lines in functions(path.read_text())
        if lines > 60
    }
    assert long == {}


def test_most_functions_are_seen() -> None:
    """The counter above must not go blind when the layout changes: every closing brace in column 0 of a .c
    file ends a function, a type or a table."""
    assert sum(len(functions(path.read_text())) for path in c_files("binding")) > 100


def test_folders_are_small() -> None:
    folders = {path.parent for path in c_files("include", "src")}
    sizes = {name(folder): sum(path.is_file() for path in folder.iterdir()) for folder in folders}
    assert {folder: size for folder, size in sizes.items() if size > 20} == {}
