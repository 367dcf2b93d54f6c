"""Convolutions, doubling and halving, against torch's own layers, with weights stored outputs last."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from study.networks.convolutions import (
    convolution,
    convolution_then_means,
    copies_then_convolution,
    doubling,
    halving,
    pooled,
    upsampled,
)
from study.networks.parts import Passage
from study.networks.starts import zero


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(x, weight, bias):
    return functional.conv2d(x, weight.permute(3, 2, 0, 1), bias, padding=weight.shape[0] // 2)


ORACLES = {
    "1 x 1": (convolution, 1, plain),
    "3 x 3": (convolution, 3, plain),
    "halving": (
        halving,
        4,
        # every second row and column of the convolution at stride 1 of an image with a border of one zero
        lambda x, w, b: functional.conv2d(functional.pad(x, (1, 1, 1, 1)), w.permute(3, 2, 0, 1), b)[:, :, ::2, ::2],
    ),
    "doubling": (
        doubling,
        4,
        lambda x, w, b: torch.nn.functional.conv_transpose2d(x, w.permute(2, 3, 0, 1), b, stride=2, padding=1),
    ),
    "then means": (convolution_then_means, 3, lambda x, w, b: functional.avg_pool2d(plain(x, w, b), 2)),
    "copies then": (
        copies_then_convolution,
        3,
        lambda x, w, b: plain(functional.interpolate(x, scale_factor=2, mode="nearest"), w, b),
    ),
}


@pytest.mark.parametrize("name", ORACLES)
@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([2, 4, 6]), st.integers(0, 2**32 - 1))
def test_convolutions_are_torch_s(name, inputs, outputs, side, seed):
    kind, size, oracle = ORACLES[name]
    layer = kind("7", (size, size, inputs, outputs), zero)
    assert {part: value.shape for part, value in layer.parts.items()} == {
        "weight7": (size, size, inputs, outputs),
        "bias7": (outputs,),
    }
    x, weight, bias = (
        normal(2, inputs, side, side, seed=seed),
        normal(size, size, inputs, outputs, seed=seed + 1),
        normal(outputs, seed=seed + 2),
    )
    found = layer.run(Passage({"weight7": weight, "bias7": bias}), x)
    # at most 4 * 9 * 3 products of size about 1 in a sum: 108 * 2.2e-16, with a margin for their size
    assert torch.allclose(found, oracle(x, weight, bias), rtol=0, atol=1e-12)
    bare = kind("7", (size, size, inputs, outputs), zero, bias=None)
    assert list(bare.parts) == ["weight7"]
    assert torch.allclose(bare.run(Passage({"weight7": weight}), x), found - bias[:, None, None], rtol=0, atol=1e-12)


def test_maps_are_doubled_by_repetition_and_halved_by_means():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert upsampled(x)[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 6, 6], [3, 3, 6, 6]]
    assert pooled(x).tolist() == [[[[3]]]]
    assert torch.equal(pooled(upsampled(x)), x)
