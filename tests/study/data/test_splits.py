import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.data.contents import SPLITS
from study.data.splits import assign, splitmix64
from study.errors import UserError


def test_the_hash_is_splitmix64():
    # the first outputs for seed 0, as every published implementation gives them
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert splitmix64(np.arange(4, dtype=np.uint64)).tolist() == known


def slow(count, tenths):
    """Splits of `count` images by sorting one number after the other."""

    def mixed(index):
        z = (index + 1) * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    order = sorted(range(count), key=mixed)
    split = dict.fromkeys(order, 0)
    for place, number in enumerate(tenths):
        split |= dict.fromkeys(order[place * (count // 10) : (place + 1) * (count // 10)], number)
    return [split[i] for i in range(count)]


@given(st.integers(10, 500), st.dictionaries(st.sampled_from(["selection", "test"]), st.integers(1, 30)))
def test_splits_are_fixed_disjoint_tenths_and_cover_everything(count, own):
    sent = assign("x", {"train": count} | own)
    assert sent["train"].tolist() == slow(count, [SPLITS.index(s) for s in ("selection", "test") if s not in own])
    for split, number in own.items():
        assert sent[split].tolist() == [SPLITS.index(split)] * number
    sizes = np.bincount(np.concatenate(list(sent.values())), minlength=3)
    assert sizes.sum() == count + sum(own.values())
    assert all(size == own.get(split, count // 10) for split, size in zip(SPLITS[1:], sizes[1:], strict=True))


def test_a_split_of_its_own_leaves_the_other_tenth_where_it_was():
    alone, with_test = (assign("x", counts)["train"] for counts in ({"train": 100}, {"train": 100, "test": 5}))
    assert np.array_equal(alone == 1, with_test == 1)


def test_held_out_images_lie_all_over():
    # 600 of 6000 spread at random over ten equal stretches: 60 in each, standard deviation 7
    held = np.flatnonzero(assign("x", {"train": 6000})["train"] == 1)
    assert np.abs(np.histogram(held, bins=10, range=(0, 6000))[0] - 60).max() < 35


@pytest.mark.parametrize("counts", [{"train": 9}, {"train": 9, "test": 5}, {"train": 0}, {"train": 50, "test": 0}])
def test_too_few_images_are_refused(counts):
    found = ", ".join(f"{count} in {split}" for split, count in counts.items())
    with pytest.raises(UserError, match=rf"x has too few images \({found}\): every split needs one"):
        assign("x", counts)


def test_one_training_image_is_enough_where_nothing_is_taken_from_it():
    sent = assign("x", {"train": 1, "selection": 1, "test": 1})
    assert [part.tolist() for part in sent.values()] == [[0], [1], [2]]
