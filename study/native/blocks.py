"""A block of steps as one program: all of a trial's steps, draws included, its state in the cache meanwhile."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from study.native.build import library
from study.native.emit import Function
from study.native.program import addresses, source_of, translated
from study.native.schedule import ALIGNMENT
from study.native.statements import TYPES
from study.native.views import Unsupported

Tensors = dict[str, Tensor]
Update = Callable[[Tensors], Tensors]
COUNTS = {"count_d": "number + update + 1", "count_g": "step + 1", "progress": "double(step) / double(total)"}
"""What all trials of a pack have in common, computed as it goes."""
PLACE = ("key", "step", "update", "total")
"""What a draw depends on, beside a trial's hyperparameters."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The updates and draws of one trial.

    Attributes:
        discriminator: Its update.
        generator: Its update; None where both move together.
        both: The last update of a step where both move together, None where they do not.
        draws: For player "d" and "g", what one update draws, by name, of the tensors in PLACE, int64 and of shape (),
            the key (2,), and of the trial's hyperparameters.
        drawn: Names of all draws, those of a player ending in _d or _g.
        example: Tensors of a pack, as for `study.step.vectorise`; draws by the names that `draws` gives them.
        shared: Names of those without a trial axis.
    """

    discriminator: Update
    generator: Update | None
    both: Update | None
    draws: Mapping[str, Update]
    drawn: Set[str]
    example: Tensors
    shared: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A compiled program for blocks of steps.

    Attributes:
        run: The compiled function.
        state: Names of the tensors that change.
        read: Names of those that do not, draws made outside included.
        drawn: Names of these draws, empty if the program makes its own.
        constants: What the program looks up.
        forms: Of each tensor, how many numbers a trial or a draw has, and their type.
    """

    run: Callable[..., object]
    state: tuple[str, ...]
    read: tuple[str, ...]
    drawn: tuple[str, ...]
    constants: tuple[Tensor, ...]
    forms: Mapping[str, tuple[int, torch.dtype]]

    def __call__(
        self, tensors: Mapping[str, Tensor], keys: Tensor, steps: range, *, total: int, updates: int
    ) -> Tensors:
        """Take some steps of `total`, each with so many updates of the discriminator; returns the state after them.

        `tensors` are state and hyperparameters, and `drawn` of shape (c, steps, updates, ...).
        """
        inputs = [tensors[name].contiguous() for name in (*self.state, *self.read)]
        for name, tensor in zip((*self.state, *self.read), inputs, strict=True):
            often = 1 if name not in self.drawn else len(steps) * (updates if name.endswith("_d") else 1)
            self._refuse(name, tensor, len(keys) * often)
        outputs = {name: torch.empty_like(tensor) for name, tensor in zip(self.state, inputs, strict=False)}
        numbers = (len(keys), len(steps), updates, steps.start, total)
        pointers = addresses([keys.contiguous(), *inputs, *outputs.values(), *self.constants])
        self.run(*(ctypes.c_int64(number) for number in numbers), pointers)
        return outputs

    def _refuse(self, name: str, tensor: Tensor, count: int) -> None:
        """Compiled code would read on beyond the end of a tensor that is too small."""
        size, dtype = self.forms[name]
        if tensor.numel() != count * size or tensor.dtype is not dtype or tensor.device.type != "cpu":
            found = f"{tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}"
            raise ValueError(f"{name} must have {count} times {size} numbers of {dtype} on the CPU, got {found}")


def blocks_of(recipe: Recipe) -> Blocks:
    """Compile the steps of a pack.

    Raises:
        Unsupported: If an update has an operation that is not translated. One in a draw only means that draws are made
            outside.
        NoCompiler: If nothing can be compiled here.
        CompilerFailed: If others can be compiled and this cannot.
    """
    writer = _Writer(recipe)
    run = library(source_of(writer.functions(), writer.text()), quick=True).run
    return Blocks(
        run=run,
        state=tuple(writer.state),
        read=tuple(writer.read),
        drawn=tuple(writer.drawn),
        constants=tuple(constant for function in writer.functions() for constant in function.constants),
        forms={name: (writer.size(name), recipe.example[name].dtype) for name in (*writer.state, *writer.read)},
    )


@dataclass
class _Writer:
    recipe: Recipe
    updates: dict[str, Function] = field(default_factory=dict)
    draws: dict[str, Function] = field(default_factory=dict)
    state: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        recipe, names = self.recipe, list(self.recipe.example)
        for name in ("discriminator", "generator", "both"):
            update = getattr(recipe, name)
            if update:
                self.updates[name] = translated(name, update, recipe.example, recipe.shared)
        changed = {name for function in self.updates.values() for name in function.outputs}
        self.state = [name for name in names if name in changed]
        needed = {names[i] for function in self.updates.values() for i in function.inputs} - changed - set(COUNTS)
        self.drawn = [name for name in names if name in needed & recipe.drawn]
        self.read = [name for name in names if name in needed]
        try:
            self._draw_inside()
        except Unsupported:
            self.draws = {}

    def _draw_inside(self) -> None:
        """Translate the draws too, and look at no tensor of theirs."""
        if not self.recipe.draws:
            return
        for player, draw in self.recipe.draws.items():
            wanted = [name for name in self.drawn if name.endswith(f"_{player}")]
            if wanted:
                self.draws[player] = self._draw(f"draw_{player}", draw, wanted)
        self.read = [name for name in self.read if name not in self.drawn]
        known = {name for function in self.draws.values() for name in self._inputs_of_draw(function)}
        self.read += [name for name in self.recipe.example if name in known and name not in self.read]
        self.drawn = []

    def _draw(self, name: str, draw: Update, wanted: Sequence[str]) -> Function:
        whole = torch.zeros((), dtype=torch.int64)
        place = {"key": torch.zeros(2, dtype=torch.int64), "step": whole, "update": whole, "total": whole + 1}

        def some(tensors: Tensors) -> Tensors:
            found = draw(tensors)
            return {name: found[name] for name in wanted}

        return translated(name, some, self.recipe.example | place, (*self.recipe.shared, *PLACE))

    def _inputs_of_draw(self, function: Function) -> list[str]:
        names = [*self.recipe.example, *PLACE]
        return [names[i] for i in function.inputs if names[i] not in PLACE]

    def functions(self) -> list[Function]:
        """Everything that the program consists of, beside its loops."""
        return [*self.draws.values(), *self.updates.values()]

    # the program's text

    def text(self) -> str:
        """The loops over trials and steps."""
        body = [
            'extern "C" void run(int64_t trials, int64_t steps, int64_t updates, int64_t first, int64_t total,',
            "                    void* const* tensors) {",
            *self._memory(),
            "  const int64_t* const keys = static_cast<const int64_t*>(tensors[0]);",
            *self._pointers(),
            "  for (int64_t trial = 0; trial < trials; ++trial) {",
            "    const int64_t* const key = keys + 2 * trial;",
            *(f"    copy({name}, of_{name} + trial * {self.size(name)}, {self.size(name)});" for name in self.state),
            f"    const int64_t end = {self._alive()} ? first + steps : first;",
            "    for (int64_t step = first; step < end; ++step) {",
            *self._step(),
            "    }",
            *(f"    copy(to_{name} + trial * {self.size(name)}, {name}, {self.size(name)});" for name in self.state),
            "  }",
            "}",
        ]
        return "\n".join(body)

    def _alive(self) -> str:
        """Whether a trial was sound up to here: what training would make of one that was not is looked at nowhere."""
        done = {"sound_d": "first * updates", "sound_g": "first"}
        return " && ".join(f"*{name} == {number}" for name, number in done.items() if name in self.state) or "true"

    def size(self, name: str) -> int:
        """Numbers of one trial."""
        value = self.recipe.example[name]
        return value.numel() // (1 if name in self.recipe.shared else len(value))

    def _type(self, name: str) -> str:
        return TYPES[self.recipe.example[name].dtype]

    def _made(self) -> list[str]:
        return [name for function in self.draws.values() for name in function.outputs]

    def _memory(self) -> list[str]:
        """What lives as long as a thread: state before and after an update, draws, and memory to work in."""
        arrays = [f"    alignas(64) {self._type(name)} {name}[2][{self._room(name)}];" for name in self.state]
        arrays += [f"    alignas(64) {self._type(name)} {name}[{self._room(name)}];" for name in self._made()]
        return [
            "  struct Memory {",
            *arrays,
            f"    alignas(64) char scratch[{self._scratch()}];",
            "  };",
            "  static thread_local Memory here;",
            *(f"  {self._type(name)} *{name} = here.{name}[0], *next_{name} = here.{name}[1];" for name in self.state),
        ]

    def _room(self, name: str) -> int:
        """Numbers of one trial and some more, for what comes next to begin with a cache line."""
        line = ALIGNMENT // self.recipe.example[name].element_size()
        return -(-self.size(name) // line) * line

    def _scratch(self) -> int:
        return max(ALIGNMENT, *(function.scratch for function in self.functions()))

    def _pointers(self) -> list[str]:
        names = [
            *((f"of_{name}", name) for name in self.state),
            *((f"all_{name}", name) for name in self.read),
            *((f"to_{name}", name) for name in self.state),
        ]
        lines = [
            f"  {self._type(name)}* const {pointer} = static_cast<{self._type(name)}*>(tensors[{i + 1}]);"
            for i, (pointer, name) in enumerate(names)
        ]
        constants = [(f"constant_{f.name}_{i}", t) for f in self.functions() for i, t in enumerate(f.constants)]
        for i, (pointer, tensor) in enumerate(constants, start=len(names) + 1):
            kind = f"const {TYPES[tensor.dtype]}*"
            lines.append(f"  {kind} const {pointer} = static_cast<{kind}>(tensors[{i}]);")
        return lines

    def _call(self, function: Function, inputs: Sequence[str], outputs: Sequence[str]) -> str:
        constants = [f"constant_{function.name}_{i}" for i in range(len(function.constants))]
        return f"{function.name}({', '.join([*inputs, *outputs, *constants, 'here.scratch'])});"

    def _step(self) -> list[str]:
        number = self._type(self.state[0])
        lines = [
            f"const {number} progress = {number}({COUNTS['progress']}), count_g = {number}({COUNTS['count_g']});",
            "const int64_t number = step * updates;",
            "for (int64_t update = 0; update < updates; ++update) {",
            f"  const {number} count_d = {number}({COUNTS['count_d']});",
            *(f"  {line}" for line in self._draws("d", "update")),
        ]
        if "both" in self.updates:
            lines += ["  if (update == updates - 1) {"]
            lines += [f"    {line}" for line in self._of_generator("both")]
            lines += ["    continue;", "  }"]
        lines += [f"  {line}" for line in self._update("discriminator")]
        lines += ["}"]
        if "generator" in self.updates:
            lines += ["{", *(f"  {line}" for line in self._of_generator("generator")), "}"]
        return [f"      {line}" for line in lines]

    def _of_generator(self, update: str) -> list[str]:
        return [*self._draws("g", "zero"), *self._update(update)]

    def _draws(self, player: str, update: str) -> list[str]:
        """Pointers to what an update of a player looks at, drawn here or outside."""
        start = ["const int64_t zero = 0;"] if update == "zero" else []
        count = "updates" if update == "update" else "1"
        place = f"((trial * steps + step - first) * {count} + {update})"
        outside = [name for name in self.drawn if name.endswith(f"_{player}")]
        lines = [
            f"const {self._type(name)}* const {name} = all_{name} + {place} * {self.size(name)};" for name in outside
        ]
        if player not in self.draws:
            return [*start, *lines]
        function = self.draws[player]
        known = {"key": "key", "step": "&step", "update": f"&{update}", "total": "&total"}
        names = [*self.recipe.example, *PLACE]
        inputs = [known.get(names[i]) or self._argument(names[i]) for i in function.inputs]
        outputs = [f"here.{name}" for name in function.outputs]
        return [*start, self._call(function, inputs, outputs)]

    def _update(self, name: str) -> list[str]:
        function, names = self.updates[name], list(self.recipe.example)
        inputs = [self._argument(names[i]) for i in function.inputs]
        outputs = [f"next_{result}" for result in function.outputs]
        return [
            self._call(function, inputs, outputs),
            *(f"exchange({result}, next_{result});" for result in function.outputs),
        ]

    def _argument(self, name: str) -> str:
        if name in self.state or name in self.drawn:
            return name
        if name in COUNTS:
            return f"&{name}"
        if name in self._made():
            return f"here.{name}"
        return f"all_{name} + trial * {self.size(name)}"
