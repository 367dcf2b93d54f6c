"""A function of one trial's tensors and of points, for any number of points of every trial, as a program of C++.

The points are taken some at a time, few enough that what is computed of them stays in the cache of its core.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.errors import UserError
from study.native.build import NoCompiler, library
from study.native.emit import Function
from study.native.program import addresses, source_of, translated
from study.native.statements import TYPES
from study.native.views import Unsupported
from study.schema import NATIVE

Tensors = dict[str, Tensor]
TOGETHER = 128
"""Points that are taken together, unless it is said that there will be fewer."""
FUNCTIONS = 16
"""Functions of points that are kept compiled."""
LARGE, RESULTS = 2**20, 8
"""Bytes from which on the memory of a result is used again, and how many are kept for it: what one evaluation makes."""
_kept: list[tuple[NDArray[np.uint8], weakref.ref[NDArray[Any]]]] = []
"""Such memory, the one used last at the end, and the array that is made of it as long as a tensor has its numbers."""
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """A compiled function of points.

    Attributes:
        run: The compiled function.
        inputs: Names of the tensors that it looks at.
        points: Names of those that hold points.
        forms: Of each tensor, the shape that belongs to a trial or a point, and the type of its numbers.
        results: The same of its results.
        constants: What it looks up.
    """

    run: Callable[..., object]
    inputs: tuple[str, ...]
    points: tuple[str, ...]
    forms: Mapping[str, tuple[torch.Size, torch.dtype]]
    results: Mapping[str, tuple[torch.Size, torch.dtype]]
    constants: tuple[Tensor, ...]

    def __call__(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Results (c, n, ...) by name, of tensors (c, ...) and points (c, n, ...).

        Raises:
            ValueError: If a tensor has another shape or type than was compiled for.
        """
        trials, count = tensors[self.points[0]].shape[:2]
        for name in self.inputs:
            self._refuse(name, tensors[name], (trials, count) if name in self.points else (trials,))
        given = [_dense(tensors[name]) for name in self.inputs]
        apart = (ctypes.c_int64 * len(given))(*(tensor.stride(0) for tensor in given))
        outputs = {name: _empty((trials, count, *form), dtype) for name, (form, dtype) in self.results.items()}
        if trials and count:
            pointers = addresses([*given, *outputs.values(), *self.constants])
            self.run(ctypes.c_int64(trials), ctypes.c_int64(count), apart, pointers)
        return outputs

    def _refuse(self, name: str, tensor: Tensor, leading: tuple[int, ...]) -> None:
        """Compiled code would read on beyond the end of a tensor that is too small."""
        form, dtype = self.forms[name]
        wanted = (*leading, *form)
        if tensor.shape != wanted or tensor.dtype is not dtype or tensor.device.type != "cpu":
            found = f"{tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}"
            raise ValueError(f"{name} must be {wanted} of {dtype} on the CPU, got {found}")


def mapped(
    function: Callable[[Tensors], Tensors],
    example: Mapping[str, Tensor],
    points: tuple[str, ...],
    *,
    together: int = TOGETHER,
) -> Mapped:
    """Compile a function.

    Args:
        function: Maps the tensors of one trial and points (n, ...) to results (n, ...); each row of the results is to
            follow from that row of the points alone.
        example: Tensors (c, ...) of a pack and points (c, n, ...), with n at least 1; only their forms matter.
        points: Names of the tensors that hold points.
        together: Points that are taken together: fewer take as long. Does not change any result.

    Raises:
        Unsupported: If it has an operation that is not translated.
        NoCompiler: If nothing can be compiled here.
        CompilerFailed: If others can be compiled and this cannot.
    """
    some = {name: _some(tensor, together) if name in points else tensor for name, tensor in example.items()}
    made = translated("update", function, some, ())
    names = list(example)
    with torch.no_grad():
        results = function({name: tensor[0] for name, tensor in some.items()})
    inputs = tuple(names[position] for position in made.inputs)
    return Mapped(
        run=library(source_of([made], _runner(made, inputs, some, points, results, together)), quick=True).run,
        inputs=inputs,
        points=tuple(name for name in names if name in points),
        forms={name: (tensor.shape[2 if name in points else 1 :], tensor.dtype) for name, tensor in example.items()},
        results={name: (results[name].shape[1:], results[name].dtype) for name in made.outputs},
        constants=made.constants,
    )


@lru_cache(maxsize=FUNCTIONS)
def of_points(function: Callable[[Tensor], Tensor], shape: torch.Size, dtype: torch.dtype) -> Mapped | None:
    """A function of `points` (n, ...) alone as one whose result is named "results"; None where it is not translated."""
    example = {"points": torch.full((1, TOGETHER, *shape), 0.5, dtype=dtype)}
    return compiled_or_none(lambda: mapped(lambda trial: {"results": function(trial["points"])}, example, ("points",)))


def compiled_or_none(make: Callable[[], Made]) -> Made | None:
    """What a function compiles; None where it has operations that are not translated.

    Raises:
        UserError: If nothing can be compiled on this machine: who asked for it must not get other bits.
    """
    try:
        return make()
    except Unsupported:
        return None
    except NoCompiler as error:
        raise UserError(f"program {NATIVE!r}: {error}") from None


def _dense(tensor: Tensor) -> Tensor:
    """A tensor whose trials are dense; they may lie apart, or be one."""
    return tensor if tensor.is_contiguous() or tensor[:1].is_contiguous() else tensor.contiguous()


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory of an earlier result that nothing refers to any more: fresh pages can cost as much as a pack's samples.

    What there is none for is made by numpy, which asks for large pages.
    """
    kind = _numpy_type(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < LARGE:
        return torch.from_numpy(np.empty(shape, kind))
    place = next(
        (i for i, (array, user) in enumerate(_kept) if size <= array.nbytes < 2 * size and user() is None), None
    )
    memory = np.empty(size, np.uint8) if place is None else _kept.pop(place)[0]
    result = memory[:size].view(kind).reshape(shape)
    _kept.append((memory, weakref.ref(result)))
    del _kept[:-RESULTS]
    return torch.from_numpy(result)


@cache
def _numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty((), dtype=dtype).numpy().dtype


def _some(tensor: Tensor, together: int) -> Tensor:
    """As many points as are taken together."""
    index = torch.arange(together, device=tensor.device) % tensor.shape[1]
    return tensor[:, index]


def _runner(
    function: Function,
    inputs: tuple[str, ...],
    example: Mapping[str, Tensor],
    points: tuple[str, ...],
    results: Tensors,
    together: int,
) -> str:
    """The loops over trials and points.

    Where the number of points is no multiple, the last ones are done twice; where there are too few, copies of the last
    one fill up what the function takes.
    """
    buffers, fill, keep, few, many = [], [], [], [], []
    for i, name in enumerate(inputs):
        kind, size = f"const {TYPES[example[name].dtype]}*", example[name][0, 0].numel() if name in points else 0
        begin = f"static_cast<{kind}>(tensors[{i}]) + trial * apart[{i}]"
        many.append(f"{begin} + point * {size}" if size else begin)
        few.append(f"some{i}" if size else begin)
        if size:
            buffers.append(f"  static thread_local {TYPES[example[name].dtype]} some{i}[{together * size}];")
            last = "(point < count ? point : count - 1)"
            fill.append(f"copy(some{i} + point * {size}, {begin} + {last} * {size}, {size});")
    for i, name in enumerate(function.outputs, start=len(inputs)):
        kind, size = TYPES[results[name].dtype], results[name][0].numel()
        begin = f"static_cast<{kind}*>(tensors[{i}])"
        many.append(f"{begin} + (trial * count + point) * {size}")
        few.append(f"some{i}")
        buffers.append(f"  static thread_local {kind} some{i}[{together * size}];")
        keep.append(f"copy({begin} + trial * count * {size}, some{i}, count * {size});")
    for i, tensor in enumerate(function.constants, start=len(inputs) + len(function.outputs)):
        constant = f"static_cast<const {TYPES[tensor.dtype]}*>(tensors[{i}])"
        many.append(constant)
        few.append(constant)
    return "\n".join(
        [
            'extern "C" void run(int64_t trials, int64_t count, const int64_t* apart, void* const* tensors) {',
            f"  alignas(64) static thread_local char scratch[{max(1, function.scratch)}];",
            *buffers,
            "  for (int64_t trial = 0; trial < trials; ++trial)",
            f"    if (count < {together}) {{",
            f"      for (int64_t point = 0; point < {together}; ++point) {{ {' '.join(fill)} }}",
            f"      {function.name}({', '.join([*few, 'scratch'])});",
            f"      {' '.join(keep)}",
            "    } else",
            f"      for (int64_t first = 0; first < count; first += {together}) {{",
            f"        const int64_t point = first > count - {together} ? count - {together} : first;",
            f"        {function.name}({', '.join([*many, 'scratch'])});",
            "      }",
            "}",
        ]
    )
