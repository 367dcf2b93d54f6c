"""The update of one trial as a program of C++ for a whole pack: the trials one after the other, each within the cache.

A pack in one program of tensor operations writes every intermediate result of all its trials to memory. Here the loop
over trials is outermost: what a trial computes with, some 300 kB, stays in the cache of its core, and a trial's results
do not depend on its neighbours or on the capacity. The C++ is made from the same recorded mathematics.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from study.native.build import library
from study.native.emit import Function, emit
from study.native.lower import lower
from study.native.statements import TYPES
from study.native.views import Unsupported
from study.record import record

Tensors = dict[str, Tensor]
KERNELS = Path(__file__).with_name("kernels.h")


def translated(
    name: str, update: Callable[[Tensors], Tensors], example: Mapping[str, Tensor], shared: tuple[str, ...]
) -> Function:
    """Record an update on the first trial of a pack and write it as a function of C++.

    Raises:
        Unsupported: If it cannot be recorded, or has an operation that is not translated.
    """
    names = list(example)
    single = [example[name] if name in shared else example[name][0] for name in names]

    def function(*tensors: Tensor) -> Tensors:
        return update(dict(zip(names, tensors, strict=True)))

    try:
        module = record(function, single)
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        raise Unsupported(f"cannot be recorded: {error}") from error
    _check(module, function, [_other(tensor) for tensor in single])
    return emit(name, lower(module))


def _other(tensor: Tensor) -> Tensor:
    """Other numbers in the same form."""
    if tensor.is_floating_point():
        return 0.9 * tensor + 0.01
    return tensor if tensor.ndim else tensor + 1


@torch.no_grad()
def _check(module: GraphModule, function: Callable[..., Tensors], inputs: list[Tensor]) -> None:
    """Refuse a recording that does not say what the function does to other numbers.

    What leaves torch on its way (as an array of numpy, say) comes back as a constant of the program.
    """
    expected, found = function(*inputs), module(*inputs)
    for name, value in expected.items():
        if not torch.allclose(found[name], value, rtol=0, atol=0, equal_nan=True):
            raise Unsupported(f"{name} follows from something that is not recorded")


def compiled(
    update: Callable[[Tensors], Tensors], example: Mapping[str, Tensor], shared: tuple[str, ...]
) -> Callable[[Tensors], Tensors]:
    """Turn the update of one trial into the update of a pack, as `study.step.vectorise` does, but compiled.

    Raises:
        Unsupported: If it has an operation that is not translated.
        NoCompiler: If nothing can be compiled here.
        CompilerFailed: If others can be compiled and this cannot.
    """
    function = translated("update", update, example, shared)
    names = list(example)
    single = {name: example[name] if name in shared else example[name][0] for name in names}
    with torch.no_grad():
        results = update(single)
    count = len(next(value for name, value in example.items() if name not in shared))
    run = library(source_of([function], _of_pack(function, names, shared, single, results)), quick=True).run
    needed = [names[position] for position in function.inputs]

    def packed(tensors: Tensors) -> Tensors:
        inputs = [tensors[name].contiguous() for name in needed]
        outputs = {name: results[name].new_empty((count, *results[name].shape)) for name in function.outputs}
        run(ctypes.c_int64(count), addresses([*inputs, *outputs.values(), *function.constants]))
        return outputs

    return packed


def addresses(tensors: list[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    """Where the numbers of tensors lie, as an argument of a compiled function."""
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))


def source_of(functions: list[Function], runner: str) -> str:
    """A whole program."""
    loops = {name: text for function in functions for name, text in function.loops.items()}
    return "\n\n".join([KERNELS.read_text(), *loops.values(), *(function.text for function in functions), runner])


def _of_pack(function: Function, names: list[str], shared: tuple[str, ...], single: Tensors, results: Tensors) -> str:
    """The loop over trials."""
    arguments = []
    for i, position in enumerate(function.inputs):
        name = names[position]
        arguments.append(_argument(i, single[name], constant=True, moving=name not in shared))
    for name in function.outputs:
        arguments.append(_argument(len(arguments), results[name], constant=False, moving=True))
    for tensor in function.constants:
        arguments.append(_argument(len(arguments), tensor, constant=True, moving=False))
    return "\n".join(
        [
            'extern "C" void run(int64_t trials, void* const* tensors) {',
            f"  alignas(64) static thread_local char scratch[{max(1, function.scratch)}];",
            "  for (int64_t trial = 0; trial < trials; ++trial)",
            f"    {function.name}({', '.join([*arguments, 'scratch'])});",
            "}",
        ]
    )


def _argument(i: int, value: Tensor, *, constant: bool, moving: bool) -> str:
    kind = f"{'const ' if constant else ''}{TYPES[value.dtype]}*"
    step = f" + trial * {value.numel()}" if moving else ""
    return f"static_cast<{kind}>(tensors[{i}]){step}"
