"""What the lints share: where the sources are, and C text without its comments and strings."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def c_files(*folders: str) -> list[Path]:
    """The .c and .h files below the folders, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.[ch]"))


def name(path: Path) -> str:
    """The path as it is written in messages: from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def without_comments(text: str, *, strings: bool = False) -> str:
    """C text without comments, and without the contents of literals unless `strings`; same lines."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        if token[0] != "/":
            return token if strings else token[0] + " " * (len(token) - 2) + token[0]
        return re.sub(r"[^\n]", " ", token)

    return _TOKEN.sub(blank, text)


def includes(text: str) -> list[tuple[bool, str]]:
    """(in angle brackets, file name) of each #include."""
    return [
        (bracket == "<", file) for bracket, file in _INCLUDE.findall(without_comments(text, strings=True))
    ]


def functions(text: str) -> list[tuple[str, int, int]]:
    """(name, first line, number of lines) of each function defined in C text laid out as in this project.

    A definition's closing brace is alone in column 0; its head starts at the first line after a blank one,
    a closing brace or a semicolon.
    """
    found: list[tuple[str, int, int]] = []
    start, body = 0, False
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        if not body:
            if not line.strip() or line[0] in "#}" or line.rstrip().endswith(";"):
                start = 0
                continue
            start = start or number
            if line.rstrip().endswith("{"):
                body, head = True, line
                head = "\n".join(without_comments(text).split("\n")[start - 1 : number])
        elif line.startswith("}"):
            match = re.search(r"(\w+)\s*\([^{=]*\)\s*\{$", head.rstrip())
            if match and "=" not in head:
                found.append((match[1], start, number - start + 1))
            start, body = 0, False
    return found


def find_cycle(graph: dict[str, list[str]]) -> list[str] | None:
    """A cycle of the graph as the list of its nodes, the first one repeated at the end, or None."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for following in graph.get(node, []):
            if cycle := visit(following, [*path, node]):
                return cycle
        done.add(node)
        return None

    return next((cycle for node in graph if (cycle := visit(node, []))), None)
