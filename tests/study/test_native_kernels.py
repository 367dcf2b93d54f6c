"""What compiled programs are made of: functions of one number, products of any form, sums, and views."""

import itertools

import pytest
import torch

from study.native.program import compiled
from study.native.views import Unsupported
from study.record import grad
from tests.study.native_case import needs_compiler

pytestmark = needs_compiler

WIDE = torch.cat(
    [torch.linspace(-120, 120, 4001), torch.linspace(-1, 1, 1001), torch.tensor([0.0, -0.0, 1e-30, -1e-8])]
)
POSITIVE = torch.cat([torch.logspace(-44, 38, 3001), torch.linspace(0.5, 2, 1001)])
TURN = torch.linspace(0, 6.2831855, 4001)
INSIDE = (torch.arange(1, 2**14, dtype=torch.float32) - 0.5) / 2**14
EDGES = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0])


def soft(x):
    return torch.nn.functional.softplus(x)


def soft_slope(x):
    return grad(lambda y: soft(y).sum())(x)


FUNCTIONS = [
    (torch.exp, WIDE, 0),
    (torch.log, POSITIVE, 0),
    (torch.tanh, WIDE, 0),
    (torch.sigmoid, WIDE, 0),
    (soft, WIDE, 0),
    (soft_slope, WIDE, 3),
    # near the multiples of a quarter turn a result is nearly zero, to the rounding of the argument
    (torch.sin, TURN, 0),
    (torch.cos, TURN, 0),
    (torch.special.ndtri, INSIDE, 0),
]


def run(function, *tensors):
    """A function of one trial's tensors, compiled and run for a pack of one."""
    pack = {f"x{i}": tensor[None] for i, tensor in enumerate(tensors)}
    return compiled(lambda trial: {"y": function(*trial.values())}, pack, ())(pack)["y"][0]


@pytest.mark.parametrize(("function", "points", "further"), FUNCTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_functions_of_floats_are_rounded_correctly_but_for_one_bit(function, points, further):
    """Computed in double, they are within half a unit and a little; composed in float, some operations more."""
    found, exact = run(function, points), function(points.double())
    unit = torch.maximum((exact.abs() * 2**-23), torch.tensor(2.0**-149, dtype=torch.float64))
    beyond = (exact.abs() > torch.finfo(torch.float32).max).logical_and(found.isinf())
    within = (found.double() - exact).abs() <= (1 + further) * unit
    assert (within | beyond).all(), points[~(within | beyond)][:5]


@pytest.mark.parametrize(
    "function", [function for function, _, _ in FUNCTIONS if function not in (torch.sin, torch.cos)]
)
def test_functions_take_what_is_not_finite_as_torch_does(function):
    for dtype in (torch.float32, torch.float64):
        found, expected = run(function, EDGES.to(dtype)), function(EDGES.to(dtype))
        assert torch.equal(found.nan_to_num(7.5), expected.nan_to_num(7.5))
        assert torch.equal(found.isnan(), expected.isnan())


def test_tanh_is_odd_to_the_last_bit():
    points = torch.cat([torch.tensor([0.0, 1e-40, 5e-4, 20.0, 200.0, 3e38, torch.inf]), WIDE[WIDE > 0]])
    found, mirrored = (run(torch.tanh, x).view(torch.int32) for x in (points, -points))
    assert ((found ^ mirrored) == -(2**31)).all()  # the sign and nothing else


POINTWISE = [
    lambda x, y: torch.maximum(x, y),
    lambda x, y: torch.minimum(x, y),
    lambda x, y: torch.relu(x) + y.clamp(min=-1.0, max=0.5),
    lambda x, y: torch.where(x > y, x, 2 * y),
    lambda x, y: torch.nn.functional.leaky_relu(x, 0.2) * y.abs(),
    lambda x, y: torch.lerp(x, y, torch.tensor(0.3)) + torch.lerp(x, y, torch.tensor(0.8)),
    lambda x, y: torch.addcmul(x, x, y, value=2) - torch.addcdiv(y, x, y, value=-1.5),
    lambda x, y: x.sgn() + y.pow(3) + x.square() + (y.abs() + 1).pow(-0.5) + (y.abs() + 1).rsqrt(),
    lambda x, y: (x > 0).logical_and(~(y > 0)).to(x.dtype) * torch.add(x, y, alpha=3) - torch.rsub(x, 2),
    lambda x, y: (x % 0.3) - torch.remainder(x, -0.7) + y % 1,
    lambda x, y: x.logical_or(y).double() + x.logical_and(y) - torch.logical_not(x).double(),
]


@pytest.mark.parametrize("number", range(len(POINTWISE)))
def test_operations_number_by_number_pass_nan_and_infinity_on(number):
    edge = [torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1.0, -2.5, 1e-3]
    x, y = (torch.tensor(values, dtype=torch.float64) for values in zip(*itertools.product(edge, edge), strict=True))
    found, expected = run(POINTWISE[number], x, y), POINTWISE[number](x, y)
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.allclose(found, expected, rtol=1e-14, atol=0, equal_nan=True)


SIZES = [1, 2, 3, 5, 16, 17, 31, 40, 64, 67]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(12))
def test_products_of_any_sizes_and_layouts(seed, dtype):
    """A sum of k products rounds to (k + 1) eps of the sum of their sizes at most."""
    generator = torch.Generator().manual_seed(seed)
    m, n, k = (SIZES[int(torch.randint(len(SIZES), (), generator=generator))] for _ in range(3))
    left, right = (torch.randn(shape, generator=generator, dtype=dtype) for shape in ((m, k), (k, n)))
    starts = {"none": None, "row": torch.randn(n, generator=generator).to(dtype)}
    starts |= {"whole": torch.randn(m, n, generator=generator).to(dtype)}
    bound = (k + 3) * torch.finfo(dtype).eps * (left.abs().double() @ right.abs().double() + 5)
    for turned_left, turned_right, start in itertools.product((False, True), (False, True), starts.values()):
        arguments = (left.T.contiguous() if turned_left else left, right.T.contiguous() if turned_right else right)

        def product(x, y, z=None, turned=(turned_left, turned_right)):
            x, y = (value.t() if turn else value for value, turn in zip((x, y), turned, strict=True))
            return x @ y if z is None else torch.addmm(z, x, y)

        found = run(product, *arguments, *([] if start is None else [start]))
        exact = left.double() @ right.double() + (0 if start is None else start.double())
        assert ((found.double() - exact).abs() <= bound).all(), (m, n, k, turned_left, turned_right)


def of_two_kinds(whole, x):
    """Whole numbers of float32, of which sums are exact, and others of float64."""
    return whole @ whole.t() + x + torch.addcdiv((x[0, 0] * 4).long().double(), whole[:, :5], torch.full((5, 5), 4.0))


FORMS = [
    lambda x: x.t().reshape(-1) * 2,
    lambda x: torch.cat([x, x.flip(0)[:0], 2 * x], 1),
    lambda x: torch.stack([x, x + 1], 1).reshape(2, -1),
    lambda x: x[1:, ::2].repeat(2, 3),
    lambda x: x.expand(4, *x.shape).permute(2, 0, 1).reshape(-1, 4)[2:7],
    lambda x: x[:, 3] * x[2:3, :4].sum(1),
    lambda x: torch.diagonal(x) + x.sum(0)[:5],
    lambda x: x.unsqueeze(1) - x.unsqueeze(0),
    lambda x: torch.split(x.t(), [3, 4])[1].unbind(1)[2],
    lambda x: x.mean((0, 1)) + x.std(correction=0) + x.std(0).sum() + torch.linalg.vector_norm(x),
    lambda x: torch.softmax(x, 1) + torch.log_softmax(x, 0) + torch.logsumexp(x, 1, keepdim=True),
    lambda x: x.amax(0) - x.amax(1).sum(),
    lambda x: torch.arange(5)[:, None] * x + torch.eye(5, 7),
    lambda x: grad(lambda y: (y[1:3].select(1, 2) * torch.diagonal(y)[1:3]).sum())(x),
    lambda x: torch.linspace(0, 1, 9)[(x.abs() * 4).long().clamp(max=8)] + (x > 0).sum(0) / 3,
    lambda x: x[-100:3] + x[:, -100:][:3],
    lambda x: grad(lambda y: (y[-100:3] * y[:3] * y[:, -100:][:3]).sum())(x),
    lambda x: torch.arange(0, 1, 0.1, dtype=x.dtype)[:7] * x + torch.linspace(0, 1, 7, dtype=x.dtype),
    lambda x: (torch.arange(5) + 0.0)[:, None] * x + (x * 4).long() % 2.5 + torch.maximum(x > 0, x < 1),
    lambda x: of_two_kinds((x * 4).long().float(), x[:, :5]),
    lambda x: ((x * 4).long() > torch.tensor(0.1)) * torch.linalg.vector_norm(x.float(), dtype=torch.float64),
]


@pytest.mark.parametrize("number", range(len(FORMS)))
def test_views_joins_and_sums_equal_those_of_torch(number):
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    if number == 1:  # an empty piece, without the operation that makes it here
        found, expected = run(lambda y: torch.cat([y, y[:, :0], 2 * y], 1), x), torch.cat([x, 2 * x], 1)
    else:
        found, expected = run(FORMS[number], x), FORMS[number](x)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-13, atol=1e-14)


def test_long_sums_are_the_same_at_every_run_and_exact_to_rounding():
    x = torch.rand(4417, generator=torch.Generator().manual_seed(1))
    found = run(torch.sum, x)
    assert torch.equal(found, run(torch.sum, x))
    assert abs(found.double() - x.double().sum()) <= 100 * 2**-24 * x.double().sum()


REFUSED = [
    ("aten.rsub.Scalar of 3 arguments", lambda x: torch.rsub(x, 2, alpha=3)),
    ("whole numbers to the power", lambda x: x.long().abs() ** 4),
    ("whole numbers to the power", lambda x: x.long().abs() ** x.long().abs()),
    ("by other than one tensor of whole numbers", lambda x: x[torch.eye(5, dtype=torch.bool)[0].expand(5)]),
    ("a sum of nothing", lambda x: x[:0].sum(0)),
    ("a product of nothing", lambda x: x[:, :0] @ x[:0]),
    ("sort", lambda x: x.sort().values),
    ("float16", lambda x: 2 * x.half()),
]


@pytest.mark.parametrize(("why", "function"), REFUSED)
def test_what_is_not_translated_is_named(why, function):
    with pytest.raises(Unsupported, match=why):
        run(function, torch.ones(5, 7, dtype=torch.float64))


def test_a_comparison_is_of_the_type_that_torch_compares_in():
    """A tensor without dimensions is compared in the type of the other one: 0.1 of float32 is not that of float64."""
    x = torch.tensor([0.1, 0.2])
    assert run(lambda x: (x == torch.tensor(0.1, dtype=torch.float64)).float(), x).tolist() == [1, 0]
