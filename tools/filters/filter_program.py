"""Programs for seccomp: compiles rules to instructions, and evaluates a program for a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from filter_rules import ALLOW, INT, Action, Argument, Option, When

__all__ = ["Instruction", "compile_filter", "evaluate"]

Instruction = tuple[int, int, int, int]
"""struct sock_filter: code, jt, jf, k."""

LOAD, IMMEDIATE, AND = 0x20, 0x00, 0x54
JUMP, EQUAL, AT_LEAST, ANY_BIT = 0x05, 0x15, 0x35, 0x45
RETURN = 0x06
KILL, PERMIT = 0x80000000, 0x7FFF0000
SILENT = 0x00050000
"""SECCOMP_RET_ERRNO: the call fails with the error."""
REPORTED = 0x7FF00000
"""SECCOMP_RET_TRACE stands for an error that is reported to the host, where possible."""

NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data. Of an argument: its low 32 bits on a little-endian machine."""
FAR = 255


@dataclass
class _Item:
    """An instruction or a label. An empty label stands for the next instruction."""

    code: int
    value: int = 0
    yes: str = ""
    no: str = ""
    label: str = ""
    far: bool = False

    @property
    def size(self) -> int:
        return 0 if self.label else 3 if self.far else 1


class _Assembler:
    def __init__(self) -> None:
        self._items: list[_Item] = []
        self._labels = 0

    def new_label(self) -> str:
        self._labels += 1
        return f"L{self._labels}"

    def place(self, label: str) -> None:
        self._items.append(_Item(-1, label=label))

    def add(self, code: int, value: int = 0, *, yes: str = "", no: str = "") -> None:
        self._items.append(_Item(code, value, yes, no))

    def act(self, action: Action) -> None:
        base = REPORTED if action.reported else SILENT
        self.add(RETURN, PERMIT if action.error is None else base | action.error)

    def assemble(self) -> list[Instruction]:
        while True:
            places = self._places()
            distant = [item for item in self._items if self._is_too_far(item, places)]
            if not distant:
                return self._emit(places)
            for item in distant:
                item.far = True

    def _places(self) -> dict[str, int]:
        at, places = 0, {}
        for item in self._items:
            if item.label:
                places[item.label] = at
            places[str(id(item))] = at
            at += item.size
        return places

    def _is_too_far(self, item: _Item, places: Mapping[str, int]) -> bool:
        if item.label or item.far or item.code not in (EQUAL, AT_LEAST, ANY_BIT):
            return False
        here = places[str(id(item))] + 1
        return any(places[label] - here > FAR for label in (item.yes, item.no) if label)

    def _emit(self, places: Mapping[str, int]) -> list[Instruction]:
        program: list[Instruction] = []
        for item in self._items:
            if item.label:
                continue
            here = len(program) + 1
            yes, no = (places[label] - here if label else 0 for label in (item.yes, item.no))
            if item.code == JUMP:
                program.append((JUMP, 0, 0, yes))
            elif item.far:  # the test jumps to one of the two jumps after it
                program.append((item.code, 0, 1, item.value))
                program.append((JUMP, 0, 0, yes - 1 if item.yes else 1))
                program.append((JUMP, 0, 0, no - 2 if item.no else 0))
            else:
                program.append((item.code, yes, no, item.value))
        return program


class _Compiler:
    def __init__(self, options: Sequence[str]) -> None:
        self.to = _Assembler()
        self._options = {name: 1 << bit for bit, name in enumerate(options)}

    def tree(self, ranges: Sequence[tuple[int, Action | str]]) -> None:
        """Compile a search over ranges: (first number of a range, an action or the label of its rules)."""
        if len(ranges) == 1:
            target = ranges[0][1]
            if isinstance(target, str):
                self.to.add(JUMP, yes=target)
            else:
                self.to.act(target)
            return
        middle, right = len(ranges) // 2, self.to.new_label()
        self.to.add(AT_LEAST, ranges[middle][0], yes=right)
        self.tree(ranges[:middle])
        self.to.place(right)
        self.tree(ranges[middle:])

    def rules(self, rules: Sequence[When]) -> None:
        for rule in rules:
            following = self.to.new_label()
            for test in rule.tests:
                self._test(test, following)
            self.to.act(rule.action)
            self.to.place(following)

    def _test(self, test: Argument | Option, otherwise: str) -> None:
        if isinstance(test, Option):
            self.to.add(IMMEDIATE)
            self.to.add(ANY_BIT, sum(self._options[name] for name in test.names), no=otherwise)
            return
        self.to.add(LOAD, ARGUMENTS + 8 * test.index)
        if test.mask != INT:
            self.to.add(AND, test.mask)
        found = self.to.new_label()
        for value in test.values[:-1]:
            self.to.add(EQUAL, value & INT, yes=found)
        self.to.add(EQUAL, test.values[-1] & INT, no=otherwise)
        self.to.place(found)


def compile_filter(
    architecture: int,
    permitted: set[int],
    checked: Mapping[int, Sequence[When]],
    unknown: Action,
    options: Sequence[str],
) -> list[Instruction]:
    """Return the program for a machine, in which LD IMM stands for the options."""
    compiler = _Compiler(options)
    to = compiler.to
    right, labels = to.new_label(), {tuple(rules): to.new_label() for rules in checked.values()}
    blocks = {number: labels[tuple(rules)] for number, rules in checked.items()}
    to.add(LOAD, ARCHITECTURE)
    to.add(EQUAL, architecture, yes=right)
    to.add(RETURN, KILL)  # a program for another architecture, where numbers have other meanings
    to.place(right)
    to.add(LOAD, NUMBER)
    ranges: list[tuple[int, Action | str]] = []
    for number in range(max(permitted | checked.keys()) + 2):
        target = blocks.get(number, ALLOW if number in permitted else unknown)
        if not ranges or ranges[-1][1] != target:
            ranges.append((number, target))
    compiler.tree(ranges)
    for rules, label in labels.items():
        to.place(label)
        compiler.rules(rules)
    return to.assemble()


def evaluate(
    program: Sequence[Instruction],
    options: int,
    architecture: int,
    number: int,
    arguments: Sequence[int] = (),
) -> int:
    """Return what the program returns for a call."""
    data = {NUMBER: number & INT, ARCHITECTURE: architecture}
    for index in range(6):
        value = arguments[index] if index < len(arguments) else 0
        data[ARGUMENTS + 8 * index] = value & INT
        data[ARGUMENTS + 8 * index + 4] = value >> 32 & INT
    at = a = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == RETURN:
            return k
        if code == LOAD:
            a = data[k]
        elif code == IMMEDIATE:
            a = options
        elif code == AND:
            a &= k
        elif code == JUMP:
            at += k
        else:
            holds = {EQUAL: a == k, AT_LEAST: a >= k, ANY_BIT: a & k != 0}[code]
            at += yes if holds else no
