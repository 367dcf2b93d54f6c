"""The benchmark of a GPU, without one: that it runs, compares what is equal, and claims nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import gpu
from benchmarks.gpu_packs import INPUTS, game_of, images, operations, pack_of, refolded, unfolded
from benchmarks.gpu_plain import dcgans, perceptrons
from study.networks.dcgan import dcgan

ROOT = Path(__file__).parents[1]
WITHOUT = """
import sys
for name in ("ray", "pydantic", "pandas", "sklearn", "safetensors"):
    sys.modules[name] = None
import benchmarks.gpu, benchmarks.gpu_process
benchmarks.gpu_process.worker("pack:mlp:2", "cpu")[0](1)
"""


def test_torch_numpy_and_pyarrow_are_all_it_needs():
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card_nothing_is_measured():
    with pytest.raises(SystemExit, match=r"^no CUDA device: nothing measured$"):
        gpu.run()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_part_runs_in_small(monkeypatch):
    monkeypatch.delenv(gpu.JAX, raising=False)
    found = gpu.run(quick=True)
    assert {part for part, rows in found.details.items() if rows} == {*gpu.PARTS} - {"jax"}
    assert all(line.measured > 0 for line in found.lines)


def test_jax_is_measured_by_wall_time_with_either_generator(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(
        "#!/bin/sh\nshift 2\nfor capacity; do "
        """echo "{\\"capacity\\": $capacity, \\"wall_milliseconds\\": 0.5, \\"on\\": \\"$JAX_PLATFORMS\\"}"; done\n"""
    )
    program.chmod(0o755)
    monkeypatch.setenv(gpu.JAX, str(program))
    rows = [*gpu.jax(gpu.Sizes(capacities=(16, 64)), "cuda")]
    assert [(row["draws"], row["capacity"]) for row in rows] == [(d, c) for d in gpu.JAX_DRAWS for c in (16, 64)]
    assert {(row["on"], row["rate"]) for row in rows} == {("cuda", 2000.0)}


def test_ratios_are_of_the_best_of_each():
    parts = {
        "plain": [{"networks": "mlp", "rate": 500.0}, {"networks": "dcgan", "rate": 50.0}],
        "shared": [{"processes": 8, "rate": 3000.0}, {"processes": 16, "rate": 4000.0}],
        "jax": [{"capacity": 16, "rate": 80_000.0}, {"capacity": 64, "rate": 100_000.0}],
        "packs": [
            {"card": "a card", "torch": "2", "operations": 1, "peak": 1.0},
            {"capacity": 16, "way": "recorded", "rate": 1000.0, "bytes": 2.0**20, "share": 0.1},
            {"capacity": 16, "way": "captured", "rate": 120_000.0, "bytes": 2.0**20, "share": 0.1},
            {"capacity": 64, "way": "captured", "rate": None, "bytes": None, "share": None},
            {"tf32": {"gain": 1.0, "steps": 1, "off_median": 0.0, "off_most": 0.0}},
        ],
        "flight": [],
        "convolutions": [{"networks": "dcgan", "processes": 2, "rate": 450.0}],
    }
    printed = [json.dumps({"part": part} | row) for part, rows in parts.items() for row in rows]
    found = gpu.summary(gpu.read(["what else is printed", *printed]))
    assert found.remarks[0] == "on a card, torch 2"
    assert [(line.measured, line.required) for line in found.lines if line.required] == [
        (240, ">= 200"),
        (30, ">= 20"),
        (1.2, ">= 1"),
        (9, ">= 8"),
    ]


@pytest.mark.parametrize(("networks", "task"), [("mlp", None), ("dcgan", images("dcgan", side=8))])
def test_a_plain_loop_has_the_networks_of_a_pack(networks, task):
    pair = perceptrons() if networks == "mlp" else dcgans(8, 128)
    game = game_of(task)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in pair]
    assert counts == [game.generator.size, game.discriminator.size]


def test_so_it_has_at_full_size():
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in dcgans(32, 128)]
    assert counts == [network.size for network in dcgan(128, (3, 32, 32), bounded=True)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (3, 1, 1), (1, 1, 0)])
def test_products_of_unfolded_images_are_convolutions(kernel, stride, padding):
    x, weight, bias = (torch.rand(shape, dtype=torch.float64) for shape in [(2, 3, 8, 8), (5, 3, kernel, kernel), (5,)])
    form = {"stride": stride, "padding": padding}
    assert torch.allclose(unfolded(x, weight, bias, **form), functional.conv2d(x, weight, bias, **form))
    back = weight.transpose(0, 1)
    assert torch.allclose(refolded(x, back, bias, **form), functional.conv_transpose2d(x, back, bias, **form))


@pytest.mark.parametrize("way", ["captured", "channels-last", "unfold"])
def test_every_way_to_convolve_trains_the_same(way):
    """Sums of up to 1,024 terms, which in double precision round to 2e-13 of their size at worst.

    In single precision another order of a sum can carry an input of a rectifier over zero, now and then.
    """
    game = game_of(images("dcgan", side=8, batch=4))
    expected, found = (pack_of(game, 2, "cpu", way=each, dtype=torch.float64) for each in ("recorded", way))
    for pack in (expected, found):
        pack.train(1)
    for name in ("loss_d", "grad_norm_d", "loss_g", "grad_norm_g"):
        assert found.tensors[name].dtype is torch.float64
        assert torch.allclose(found.tensors[name], expected.tensors[name], rtol=1e-11, atol=0), name


class Layouts(TorchDispatchMode):
    """Whether maps and weights of convolutions come with channels last."""

    def __init__(self):
        super().__init__()
        self.last = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        form = torch.channels_last
        self.last += [argument.is_contiguous(memory_format=form) for argument in args[: INPUTS.get(func, 0)]]
        return func(*args, **(kwargs or {}))


def test_channels_come_last_where_they_shall():
    game = game_of(images("dcgan", side=8, batch=4))
    pack = pack_of(game, 2, "cpu", way="channels-last")
    with Layouts() as layouts:
        pack.train(1)
    assert layouts.last
    assert all(layouts.last)


def test_operations_are_counted_for_one_trial():
    """Those of the layers of 64 x 64 are nearly all, and each product of one is on 64, 128 or 192 samples.

    At least 14 on 64: forward in the generator twice, in the discriminator on four batches; as often backward for
    weights; and twice for inputs. At most the 30 products that `benchmarks.dissect` counts, on 192 each.
    """
    wide = 2 * 64**3
    assert 14 * wide < operations(game_of(), "cpu") < 30 * 3 * wide
