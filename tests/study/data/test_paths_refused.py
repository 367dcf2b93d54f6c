"""Files at a path that are not what they should be: one sentence naming the file and the rule."""

import pickle
import re
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from study.data.images import find
from study.errors import UserError
from study.parquet import parquet_header, read_columns
from tests.study.data import files
from tests.study.data.files import pictures

LABELS = [i % 10 for i in range(20)]


def picture_files(root, *changes):
    files.write_folder(root / "a", pictures(12))
    for name, data in changes:
        (root / "a" / name).parent.mkdir(exist_ok=True)
        (root / "a" / name).write_bytes(data)


PNG = files.encoded(pictures(1)[0])
FOLDERS = [
    ([("x.txt", b"hello")], r"/a/x.txt is not called like a picture \(.bmp, .jpeg, .jpg, .png, .webp\)"),
    ([("x.png", b"hello")], "/a/x.png is not an image in PNG, JPEG, BMP or WebP, or not whole"),
    ([("x.png", b"")], "/a/x.png is not an image"),
    ([("x.png", PNG[:60])], "/a/x.png"),
    ([("x.png", PNG[:-40])], "/a/x.png"),
    ([("x.jpg", files.encoded(pictures(1)[0], "JPEG")[:-30])], "/a/x.jpg: image file is truncated"),
    ([("x.png", files.encoded(pictures(1)[0], "GIF"))], "/a/x.png is not an image in PNG, JPEG, BMP or WebP"),
    ([("x.png", files.encoded(pictures(1, 9)[0]))], r"/a/000000.png is 8 x 8 and .*/a/x.png 9 x 9: without a size"),
    ([("x.png", files.encoded(pictures(1)[0][:7]))], "/a/x.png is 8 x 7: without a size to resize to, images have to"),
    (
        [("b/x.png", PNG)],
        r"/a holds files \(000000.png\) beside folders \(b\): either pictures or one folder per class",
    ),
]


@pytest.mark.parametrize(("changes", "match"), FOLDERS)
def test_a_folder_with_something_else_in_it_is_refused(refusal, root, changes, match):
    picture_files(root, *changes)
    assert re.search(match, refusal("images:a"))


TREES = [
    (["b/c/x.png"], "the class folder {a}/b holds the folder c: it has to hold pictures"),
    (["b/x.png", "c/.x.png"], "there are no pictures in {a}/c"),
    ([".x.png"], "there are no pictures in {a}"),
    (["b/x.png", "c/x.gif"], "{a}/c/x.gif is not called like a picture (.bmp, .jpeg, .jpg, .png, .webp)"),
]


@pytest.mark.parametrize(("names", "sentence"), TREES)
def test_a_tree_of_another_kind_is_refused(refusal, root, names, sentence):
    for name in names:
        (root / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "a" / name).write_bytes(PNG)
    assert refusal("images:a") == sentence.format(a=root / "a")


@pytest.mark.parametrize("limit", [63, 20])
@pytest.mark.parametrize("action", ["ignore", "error"])
def test_a_picture_with_too_many_pixels_is_refused(root, monkeypatch, refusal, limit, action):
    # of 64 pixels: above the limit Pillow warns, above twice the limit it raises
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    picture_files(root)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        assert refusal("images:a").endswith(f"/a/000000.png has more than {limit} pixels, which is refused")


def test_a_small_file_of_a_huge_picture_is_refused_unread(refusal, root):
    Image.new("1", (20_000, 20_000)).save(root / "a.png")
    (root / "b").mkdir()
    (root / "a.png").rename(root / "b" / "a.png")
    assert refusal("images:b", size=8).endswith("b/a.png has more than 89478485 pixels, which is refused")


def test_a_path_that_is_not_there_or_of_another_kind_is_refused(refusal, root):
    (root / "a.tar").write_bytes(b"x")
    absent = f"images:b: there is no {root / 'b'}; a relative PATH is looked for in MANYPATHS_DATA"
    assert refusal("images:b") == absent
    sentence = f"images:a.tar: {root / 'a.tar'} is a file of another kind: a folder, .npz or .parquet is needed"
    assert refusal("images:a.tar") == sentence


def test_too_few_images_are_refused(refusal, root):
    files.write_npz(root / "a.npz", pictures(9))
    assert refusal("images:a.npz").startswith(f"{root / 'a.npz'} has too few images (9 in train)")


RULE = "images are uint8 of shape (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels"
ARRAYS = [
    ({"images": np.zeros((20, 8, 8))}, f"images of {{path}} are float64 of shape (20, 8, 8): {RULE}"),
    ({"images": np.zeros((20, 8), np.uint8)}, f"are uint8 of shape (20, 8): {RULE}"),
    ({"images": np.zeros((0, 8, 8), np.uint8)}, f"are uint8 of shape (0, 8, 8): {RULE}"),
    ({"images": np.zeros((20, 8, 8, 4), np.uint8)}, "where neither of the axes 1 and 3 may be channels"),
    ({"images": np.zeros((20, 3, 3, 3), np.uint8)}, "where both of the axes 1 and 3 may be channels"),
    ({"images": np.zeros((20, 8, 9, 3), np.uint8)}, "is 9 x 8: without a size to resize to, images have to be square"),
    ({"pictures": pictures(20)}, "{path} has no array images: it has pictures"),
    (
        {"images": np.array([None] * 20)},
        "{path} is not a whole .npz file of numbers and texts: Object arrays cannot be",
    ),
    ({"images": pictures(20), "labels": [1] * 19}, "{path} has 20 images and 19 labels in train"),
    ({"images": pictures(20), "labels": [1.0] * 20}, "are float64 of shape (20,): labels are whole numbers or texts"),
    ({"images": pictures(20), "labels": [[1]] * 20}, "are int64 of shape (20, 1): labels are whole numbers or texts"),
    ({"images": pictures(20), "labels": [1] * 20, "test_images": pictures(2)}, "in some splits and none in test"),
    ({"images": pictures(20), "test_images": pictures(2, 9)}, "has images of (3, 8, 8) and test_images of (3, 9, 9)"),
    (
        {"images": pictures(20), "labels": [1] * 20, "test_images": pictures(1), "test_labels": [2]},
        "has the label 2 in test: the training images have no such label",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), ARRAYS)
def test_arrays_of_another_kind_are_refused(refusal, root, content, sentence):
    path = root / "a.npz"
    np.savez(path, **content)
    assert sentence.format(path=path) in refusal("images:a.npz")


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 99, files.idx(np.zeros(5)), pickle.dumps(1)])
def test_a_file_that_is_no_npz_file_is_refused(refusal, root, data):
    (root / "a.npz").write_bytes(data)
    assert refusal("images:a.npz") == f"{root / 'a.npz'} is not a whole .npz file"


def encoded(n, labels=None, **columns):
    return {"image": [PNG] * n} | ({} if labels is None else {"label": labels}) | columns


TABLES = [
    ({"picture": [PNG] * 20, "id": [1] * 20}, "{path} has no column image or img: it has picture, id"),
    ({"image": [{"bytes": None, "path": "a.png"}] * 20}, "{path} has no bytes of a picture in column image, row 1"),
    ({"image": ["a.png"] * 20}, "has no bytes of a picture in column image, row 1"),
    ({"image": [PNG] * 7 + [None] * 13}, "has no bytes of a picture in column image, row 8"),
    ({"image": [PNG] * 19 + [b"x"]}, "row 20 of {path} is not an image in PNG, JPEG, BMP or WebP, or not whole"),
    ({"image": [PNG] * 19 + [PNG[:-40]]}, "row 20 of {path}"),
    (
        encoded(20, [1] * 19 + [None]),
        "{path} has labels of type NoneType, int: all are whole numbers, or all are texts",
    ),
    (encoded(20, [0.5] * 20), "has labels of type float"),
    (encoded(20, [[1]] * 20), "has labels of type list"),
    (encoded(0, []), "{path} has too few images (0 in train)"),
]


@pytest.mark.parametrize(("content", "sentence"), TABLES)
def test_tables_of_another_kind_are_refused(refusal, root, content, sentence):
    path = root / "a.parquet"
    pq.write_table(pa.table(content), path)
    assert sentence.format(path=path) in refusal("images:a.parquet")


def test_labels_in_some_files_only_are_refused(refusal, root):
    files.write_parquet(root / "a" / "0.parquet", pictures(20), LABELS)
    files.write_parquet(root / "a" / "1.parquet", pictures(20))
    sentence = f"{root / 'a' / '1.parquet'} has no column label or labels, and other files beside it do"
    assert refusal("images:a") == sentence


@pytest.mark.parametrize("size", [0, 4, 300, -1])
def test_half_a_parquet_file_is_refused(refusal, root, size):
    path = files.write_parquet(root / "a.parquet", pictures(20), LABELS)
    path.write_bytes(path.read_bytes()[:size])
    assert refusal("images:a.parquet").startswith(f"cannot read {path}: ")


def test_columns_of_a_parquet_file_come_in_order_a_few_rows_at_a_time(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(20), "b": ["x"] * 20, "c": [None, [1]] * 10}), path, row_group_size=6)
    assert parquet_header(path) == (20, ["a", "b", "c"])
    batches = list(read_columns(path, ["c", "a"], rows=4))
    assert [number for batch in batches for number in batch["a"]] == list(range(20))
    assert [row for batch in batches for row in batch["c"]] == [None, [1]] * 10
    assert max(len(batch["a"]) for batch in batches) <= 4
    for reading in (parquet_header, lambda path: next(read_columns(path, ["a"]))):
        with pytest.raises(UserError, match=r"^cannot read .*/none: "):
            reading(tmp_path / "none")


# Any damage at all


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One file of each format, by the source that reads it."""
    root = tmp_path_factory.mktemp("whole")
    part, small = (pictures(20, 32), LABELS), (pictures(20, 28, colour=False), LABELS)
    files.write_cifar_pickles(root / "cifar-10-batches-py", part, part)
    files.write_mnist(root / "mnist", small, small, zipped=True)
    found = {
        "cifar10": root / "cifar-10-batches-py" / "data_batch_1",
        "mnist": root / "mnist" / "train-images-idx3-ubyte.gz",
        "images:a.npz": files.write_npz(root / "a.npz", pictures(12)),
    }
    for suffix in ("png", "jpg", "bmp", "webp"):
        files.write_folder(root / suffix, pictures(1), suffix=suffix)
        found[f"images:{suffix}"] = root / suffix / f"000000.{suffix}"
    return root, {source: (path, path.read_bytes()) for source, path in found.items()}


# these opcodes reserve as much memory as the number after them says
GREEDY = b"rjTBX\x8a\x8b\x8d\x8e\x96"


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_in_one_sentence(whole, data):
    root, found = whole
    source = data.draw(st.sampled_from(sorted(found)))
    path, content = found[source]
    place = data.draw(st.integers(0, min(len(content), 400) - 1))
    byte = bytes([data.draw(st.sampled_from([b for b in range(256) if b not in GREEDY]))])
    cut = data.draw(st.booleans())
    path.write_bytes(content[:place] if cut else content[:place] + byte + content[place + 1 :])
    try:
        for blocks in find(source, root).read().blocks.values():
            assert all(block.dtype == np.uint8 for block in blocks)
        said = ""
    except UserError as error:
        said = str(error)
    finally:
        path.write_bytes(content)
    assert "\n" not in said
