"""Loops as functions of C++: functions of pointers, so that equal loops of a program are compiled once.

Within such a function no argument that is written overlaps with another, and the compiler is told so. In the program
around it, where memory is used again for something else, nothing of the kind is said.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from study.native.schedule import Loop
from study.native.statements import ADDRESS, TYPES, element, literal, type_of
from study.native.views import Buffer, Filled, Value, View

SHORT = 4
"""Turns of an innermost loop up to which it is written out, for the one around it to become vectors."""
WHOLE = 16
"""Where there is but one loop and it turns a multiple of so many times, it is compiled once for all multiples."""


@dataclass(frozen=True)
class Outlined:
    """A loop as a function.

    Attributes:
        name: A digest of the text, so that equal loops have equal names.
        text: The function's definition.
        call: The statement that calls it for the loop's buffers.
    """

    name: str
    text: str
    call: str


def outlined(loop: Loop) -> Outlined:
    """Write a loop as a function of pointers to what it reads and writes, and of how often it turns."""
    touched = list(_touched(loop))
    first: dict[Buffer, int] = {}
    for view in touched:
        root, begin = view.buffer.root(), view.offset + view.buffer.first()
        first[root] = min(first.get(root, begin), begin)
    names = {root: f"a{i}" for i, root in enumerate(first)}
    writer = _Writer(loop, names, first, _groups(loop.shape, touched))
    written = {statement.out.buffer.root() for statement in loop.statements}
    arguments = [
        f"{'' if root in written else 'const '}{TYPES[root.dtype]}* __restrict {names[root]}" for root in first
    ]
    given = [f"{root.name} + {begin}" if begin else root.name for root, begin in first.items()]
    if writer.turns:
        arguments.append("int64_t count")
        given.append(str(writer.turns))
    text = "\n".join([f"({', '.join(arguments)}) {{", *(f"  {line}" for line in writer.text()), "}"])
    name = f"loop_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return Outlined(name, f"static APART void {name}{text}", f"{name}({', '.join(given)});")


def _touched(loop: Loop) -> Iterator[View]:
    """Views in memory that a loop reads or writes, in the order of its text."""
    made: set[View] = set()
    for statement in loop.statements:
        yield from (view for view in statement.reads if view not in made)
        made.add(statement.out)
        if statement.out.buffer in loop.kept:
            yield statement.out


def _groups(shape: tuple[int, ...], views: Sequence[View]) -> list[list[int]]:
    """Dimensions, neighbours together where every view allows to count through them with one index."""
    groups: list[list[int]] = []
    for d in range(len(shape)):
        inner = groups[-1][-1] if groups else None
        if inner is not None and all(view.strides[inner] == view.strides[d] * shape[d] for view in views):
            groups[-1].append(d)
        else:
            groups.append([d])
    return groups


@dataclass(frozen=True)
class _Writer:
    """Writes the text of a loop.

    Attributes:
        loop: What is to be written.
        names: Of the arguments, by the memory they point to.
        first: The number of this memory that an argument points to.
        groups: Dimensions that share an index.
    """

    loop: Loop
    names: dict[Buffer, str]
    first: dict[Buffer, int]
    groups: list[list[int]]

    @property
    def turns(self) -> int:
        """How often the outermost loop turns, in units of WHOLE if it is the only one; 0 where the text says it."""
        if len(self.groups) == 1:
            return 0 if self._size(0) % WHOLE else self._size(0) // WHOLE
        return self._size(0) if self.groups else 0

    def text(self) -> list[str]:
        """Nested loops; what does not change along inner ones is read outside of them."""
        return self._nested(0, {})

    def _nested(self, depth: int, known: dict[View, str]) -> list[str]:
        known = dict(known)
        lines = self._reads(depth, known)
        if depth == len(self.groups):
            return [*lines, *self._body(known)]
        inside = [f"  {line}" for line in self._nested(depth + 1, known)]
        if self._written_out(depth):
            turns = range(self._size(depth))
            return [*lines, *(line for i in turns for line in ("{", f"  const int64_t i{depth} = {i};", *inside, "}"))]
        last = depth == len(self.groups) - 1 or self._written_out(depth + 1)
        end = str(self._size(depth))
        if depth == 0 and self.turns:
            end = f"{WHOLE} * count" if len(self.groups) == 1 else "count"
        head = f"for (int64_t i{depth} = 0; i{depth} < {end}; ++i{depth}) {{"
        return [*lines, f"INDEPENDENT {head}" if last else head, *inside, "}"]

    def _written_out(self, depth: int) -> bool:
        return 0 < depth == len(self.groups) - 1 and self._size(depth) <= SHORT

    def _size(self, depth: int) -> int:
        return math.prod(self.loop.shape[d] for d in self.groups[depth])

    def _reads(self, depth: int, known: dict[View, str]) -> list[str]:
        """Read what changes along no index further in."""
        lines, made = [], set[View]()
        for statement in self.loop.statements:
            for view in statement.reads:
                fixed = not any(self._steps(view)[depth:]) and ADDRESS not in statement.form
                if fixed and view not in made and view not in known:
                    known[view] = f"r{len(known)}"
                    lines.append(f"const {type_of(view)} {known[view]} = {self._place(view)};")
            made.add(statement.out)
        return lines

    def _steps(self, view: View) -> list[int]:
        return [view.strides[group[-1]] for group in self.groups]

    def _place(self, view: View) -> str:
        root = view.buffer.root()
        return element(self.names[root], view.offset + view.buffer.first() - self.first[root], self._steps(view))

    def _body(self, known: dict[View, str]) -> list[str]:
        lines = []

        def read(value: Value) -> str:
            return literal(value) if isinstance(value, Filled) else known.get(value) or self._place(value)

        for i, statement in enumerate(self.loop.statements):
            expression = statement.form.format(*(read(value) for value in statement.inputs))
            known[statement.out] = f"v{i}"
            lines.append(f"const {type_of(statement.out)} v{i} = {expression};")
            if statement.out.buffer in self.loop.kept:
                lines.append(f"{self._place(statement.out)} = v{i};")
        return lines
