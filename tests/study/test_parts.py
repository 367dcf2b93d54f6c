import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.parts import Listing, Piece, packs_of

NAMES = [f"{i:016x}" for i in range(8)]
SIZES = {name: 1 + i % 3 for i, name in enumerate(NAMES)}


@st.composite
def listings(draw):
    small = draw(st.lists(st.sampled_from(NAMES), unique=True))
    merged = draw(st.lists(st.lists(st.sampled_from(NAMES), unique=True, min_size=1), max_size=4))
    held = {f"0-{i}": tuple((name, SIZES[name]) for name in names) for i, names in enumerate(merged)}
    return Listing(tuple(sorted(small)), held)


def rows_of(listing, pieces):
    """The rows that reading some pieces gives: a name for each, of the pack it belongs to."""
    found = []
    for piece in pieces:
        packs = listing.merged.get(piece.file, ((piece.file, SIZES.get(piece.file)),))
        rows = [pack for pack, count in packs for _ in range(count)]
        found += rows if piece.spans is None else [row for at, n in piece.spans for row in rows[at : at + n]]
    return sorted(found)


@given(listings())
def test_every_pack_is_read_once_whatever_holds_it(listing):
    expected = sorted(name for name in listing.packs() for _ in range(SIZES[name]))
    assert rows_of(listing, listing.pieces()) == expected
    assert sorted(pack for piece in listing.pieces() for pack in piece.packs) == listing.packs()


@given(listings(), st.sets(st.sampled_from(NAMES)))
def test_some_packs_are_read_and_no_others(listing, wanted):
    expected = sorted(name for name in wanted & set(listing.packs()) for _ in range(SIZES[name]))
    assert rows_of(listing, listing.pieces(wanted)) == expected


@given(listings())
def test_without_its_needless_files_a_listing_holds_the_same(listing):
    needless = set(listing.needless())
    small = tuple(name for name in listing.small if name not in needless)
    rest = Listing(small, {name: packs for name, packs in listing.merged.items() if name not in needless})
    assert rest.packs() == listing.packs()
    assert rest.needless() == []


def test_a_folder_is_plain_when_nothing_is_there_twice_and_nobody_is_at_it():
    held = {"0-x": (("a", 1), ("b", 2))}
    assert Listing(("c",), held).plain()
    assert not Listing(("a", "c"), held).plain()
    assert not Listing((), held | {"0-y": (("a", 1),)}).plain()
    assert not Listing(("c",), held, marked=True).plain()


def test_a_piece_of_a_merged_file_says_where_its_rows_are():
    listing = Listing((), {"0-x": (("a", 2), ("b", 3), ("c", 1))})
    assert listing.pieces({"b"}) == [Piece("0-x", ("b",), ((2, 3),))]


@pytest.mark.parametrize("raw", [None, {}, [["a"]], [["a", "b"]], ["ab"], [[1, 2]]])
def test_what_does_not_say_its_packs_is_no_merged_file(raw):
    with pytest.raises(ValueError, match="which packs"):
        packs_of(raw)
