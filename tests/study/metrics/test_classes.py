import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study.metrics.classes import BROKEN, UNSURE, class_counts, covered, labels, modes_of_digits
from study.metrics.divergence import kl_to_uniform


def logits_of(probabilities):
    return torch.tensor(probabilities).double().log()


def test_labels_are_the_most_probable_classes_that_are_probable_enough():
    logits = logits_of([[0.2, 0.7, 0.1], [0.4, 0.35, 0.25], [0.1, 0.3, 0.6]])
    assert labels(logits).tolist() == [1, 0, 2]
    assert labels(logits, confidence=0.5).tolist() == [1, UNSURE, 2]
    assert labels(logits + 1e4, confidence=0.65).tolist() == [1, UNSURE, UNSURE]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_sample_with_logits_that_are_not_finite_breaks_its_trial_only(bad):
    logits = torch.zeros(2, 4, 3)
    logits[1, 2, 0] = bad
    found = labels(logits, confidence=0.5)
    assert found.tolist() == [[UNSURE] * 4, [UNSURE, UNSURE, BROKEN, UNSURE]]
    counts = class_counts(found, 3)
    assert counts[0].tolist() == [0, 0, 0]
    assert counts[1].isnan().all()
    assert covered(counts).isnan().tolist() == [False, True]


def test_counts_and_coverage_by_hand():
    found = torch.tensor([[0, 2, 2, UNSURE, 2], [1, 1, 1, 1, 1]])
    counts = class_counts(found, 4)
    assert counts.tolist() == [[1, 0, 3, 0], [0, 5, 0, 0]]
    assert covered(counts).tolist() == [2, 1]
    assert covered(counts, minimum=2).tolist() == [1, 1]
    assert covered(counts, minimum=11).tolist() == [0, 0]
    assert kl_to_uniform(counts)[1] == pytest.approx(math.log(4))


digit = st.integers(0, 9)


@settings(deadline=None)
@given(digit, digit, digit)
def test_modes_of_digits_read_as_numbers(a, b, c):
    channels = [torch.tensor([[value]]) for value in (a, b, c)]
    assert modes_of_digits(*channels).tolist() == [[int(f"{a}{b}{c}")]]


def test_a_mode_is_unsure_or_broken_as_soon_as_one_channel_is():
    a = torch.tensor([3, UNSURE, UNSURE, 9])
    b = torch.tensor([1, 5, BROKEN, 9])
    c = torch.tensor([UNSURE, 5, 7, 9])
    assert modes_of_digits(a, b, c).tolist() == [UNSURE, UNSURE, BROKEN, 999]


def test_perfect_sampler_of_stacked_digits_covers_all_thousand():
    draws = torch.randint(10, (3, 1, 26_000), generator=torch.Generator().manual_seed(0))
    counts = class_counts(modes_of_digits(*draws), 1000)
    # Of 1000 modes with 26 samples each on average, 1000 e^-26 are missed, and those with ten or fewer are few.
    assert float(covered(counts)[0]) == 1000
    few = 1000 * sum(math.exp(-26) * 26**i / math.factorial(i) for i in range(11))
    assert float(covered(counts, minimum=11)[0]) == pytest.approx(1000 - few, abs=4 * math.sqrt(few) + 1)


def test_a_generator_of_one_hundred_modes_covers_one_hundred():
    draws = torch.randint(10, (2, 1, 26_000), generator=torch.Generator().manual_seed(0))
    counts = class_counts(modes_of_digits(torch.full_like(draws[0], 4), *draws), 1000)
    assert float(covered(counts)[0]) == 100
    assert counts.nonzero()[:, 1].tolist() == list(range(400, 500))
    # A tenth of all modes, hit evenly but for chance: log 10 and a floor of 99 / (2 n).
    assert float(kl_to_uniform(counts)[0]) == pytest.approx(math.log(10) + 99 / 52_000, abs=4 * math.sqrt(198) / 52_000)


def test_the_first_of_equal_logits_is_the_label():
    logits = torch.tensor([[1.0, 1.0, 1.0], [0.0, 2.0, 2.0], [-3.0, -5.0, -3.0]])
    for found in (logits, logits.double(), logits[:, None].expand(-1, 4, -1)):
        assert labels(found).reshape(3, -1)[:, 0].tolist() == [0, 1, 0]
    assert labels(torch.empty(0, 4, 3)).shape == (0, 4)
