"""Files that are not what they should be: one sentence naming the file and the rule, and nothing is run or kept."""

import gzip
import os
import pickle
import re

import numpy as np
import pytest

from study.data.pickles import NAMES, read_pickle
from study.errors import UserError
from tests.study.data import files
from tests.study.data.files import idx, pictures

LABELS = [i % 10 for i in range(20)]


SOMEWHERE = "; MANYPATHS_DATA names the folder that such data lies in"
MISSING = {
    "mnist": "mnist/train-images-idx3-ubyte or {root}/MNIST/raw/train-images-idx3-ubyte",
    "cifar10": "cifar-10-batches-py/data_batch_1 or {root}/cifar10/*.parquet or {root}/cifar10.npz",
    "celeba": "celeba/img_align_celeba",
    "imagenet32": "imagenet/train/<class>/*.JPEG",
    "imagenet128": "imagenet/train/<class>/*.JPEG",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_set_that_is_not_there_says_what_is_expected_where(refusal, root, name):
    assert refusal(name) == f"{name}: there is no {root}/{MISSING[name].format(root=root)}{SOMEWHERE}"


# MNIST


@pytest.fixture
def mnist(root):
    part = pictures(20, 28, colour=False), LABELS
    return files.write_mnist(root / "mnist", part, part)


IMAGES, TEST_LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
IDX = [
    (IMAGES, lambda data: data[:-1], "has 15695 bytes, and its header, of 16, says 20 x 28 x 28: it is not whole"),
    (IMAGES, lambda data: data + b"x", "has 15697 bytes"),
    (IMAGES, lambda data: data[:10], "has 10 bytes"),
    (IMAGES, lambda data: b"", "starts with nothing: an idx file of this kind with 00000803"),
    (IMAGES, lambda data: idx(np.zeros(20)), "starts with 00000801: an idx file of this kind with 00000803"),
    (IMAGES, lambda data: b"\x00\x00\x0d\x03" + data[4:], "starts with 00000d03"),
    (IMAGES, lambda data: gzip.compress(data), "starts with 1f8b08"),
    (IMAGES, lambda data: idx(np.zeros((20, 32, 32))), "holds images of 32 x 32: mnist's are 28 x 28"),
    (IMAGES, lambda data: idx(np.zeros((19, 28, 28))), r"holds 19 images and .*train-labels-idx1-ubyte 20 labels"),
    (TEST_LABELS, lambda data: idx(np.full(20, 10)), r"mnist has the label 10 in test: labels are 0 to 9"),
    (
        TEST_LABELS,
        lambda data: idx(np.zeros((20, 28, 28))),
        "starts with 00000803: an idx file of this kind with 00000801",
    ),
]


@pytest.mark.parametrize(("name", "change", "match"), IDX)
def test_an_idx_file_that_is_not_what_it_is_called_is_refused(refusal, mnist, name, change, match):
    (mnist / name).write_bytes(change((mnist / name).read_bytes()))
    sentence = refusal("mnist")
    assert re.search(match, sentence)
    assert str(mnist) in sentence


@pytest.mark.parametrize(
    "change", [lambda data: data[:-9], lambda data: data[:200] + data[201:], lambda data: b"x" * 99]
)
def test_a_broken_gzip_file_is_refused(refusal, mnist, change):
    path = mnist / f"{IMAGES}.gz"
    path.write_bytes(change(gzip.compress((mnist / IMAGES).read_bytes())))
    (mnist / IMAGES).unlink()
    assert refusal("mnist").startswith(f"cannot read {path}: ")


@pytest.mark.parametrize("name", [IMAGES, TEST_LABELS])
def test_a_missing_idx_file_is_named(refusal, mnist, name):
    (mnist / name).unlink()
    dotted = name.replace("-idx", ".idx")
    assert refusal("mnist") == f"mnist: there is no {mnist / name}, nor one called {name}.gz, {dotted}, {dotted}.gz"


# CIFAR-10


@pytest.fixture
def cifar(root):
    part = pictures(20, 32), LABELS
    return files.write_cifar_pickles(root / "cifar-10-batches-py", part, part)


class Runs:
    """Pickles as a call of whatever it is given."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("where", [lambda bad: bad, lambda bad: {b"data": bad, b"labels": []}])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(refusal, cifar, tmp_path, where, protocol):
    ran = tmp_path / "ran"
    (cifar / "data_batch_3").write_bytes(pickle.dumps(where(Runs(os.system, f"touch {ran}")), protocol))
    sentence = refusal("cifar10")
    assert sentence.endswith(f"data_batch_3: it names {os.system.__module__}.system, which data does not need")
    assert not ran.exists()


CALLS = [Runs(eval, "1"), Runs(getattr, 1, "real"), Runs(np.load, "x"), Runs(np.frombuffer, b"x"), Runs(dict), Runs]


@pytest.mark.parametrize("bad", CALLS, ids=range(6))
def test_any_other_name_in_a_pickle_is_refused(tmp_path, bad):
    (tmp_path / "p").write_bytes(pickle.dumps(bad, 2))
    with pytest.raises(UserError, match=r"cannot read the pickle .*/p: it names [\w.]+, which data does not need"):
        read_pickle(tmp_path / "p")


def test_names_in_a_pickle_stand_for_nothing_of_numpy_or_python():
    assert {thing.__module__ for thing in NAMES.values()} == {"study.data.pickles"}


def test_only_latin1_bytes_are_decoded(tmp_path):
    (tmp_path / "p").write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.")
    with pytest.raises(UserError, match="text in the encoding 'zip'"):
        read_pickle(tmp_path / "p")


NO_BATCH = "is no batch of CIFAR-10: a dict is needed, of data"
BATCH = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}
PICKLES = [
    ([1, 2], NO_BATCH),
    ({}, NO_BATCH),
    ({"data": BATCH[b"data"], "labels": BATCH[b"labels"]}, NO_BATCH),
    (BATCH | {b"data": np.zeros((4, 3071), np.uint8)}, NO_BATCH),
    (BATCH | {b"data": np.zeros(3072, np.uint8)}, NO_BATCH),
    (BATCH | {b"data": b"x"}, NO_BATCH),
    (BATCH | {b"labels": b"1234"}, NO_BATCH),
    (BATCH | {b"data": np.zeros((4, 3072))}, "only uint8 ('u1') in C order is read"),
    (BATCH | {b"data": np.asfortranarray(BATCH[b"data"])}, "only uint8 ('u1') in C order is read"),
    (BATCH | {b"labels": [0, 1, 2]}, "has 4 images and 3 labels: one whole number for each is needed"),
    (BATCH | {b"labels": [0, 1, 2, 3.0]}, "one whole number for each is needed"),
    (BATCH | {b"labels": [0, 1, 2, 10]}, "has the label 10 in train: labels are 0 to 9"),
    (BATCH | {b"labels": [0, 1, 2, -1]}, "has the label -1 in train: labels are 0 to 9"),
]


@pytest.mark.parametrize(("content", "match"), PICKLES)
def test_a_pickle_of_something_else_is_refused(refusal, cifar, content, match):
    (cifar / "data_batch_2").write_bytes(pickle.dumps(content, 2))
    sentence = refusal("cifar10")
    assert match in sentence
    assert str(cifar) in sentence


@pytest.mark.parametrize("size", [0, 1, 5, 100, 3000, -1])
def test_half_a_pickle_is_refused(refusal, cifar, size):
    path = cifar / "data_batch_2"
    path.write_bytes(path.read_bytes()[:size])
    assert refusal("cifar10").startswith(f"cannot read the pickle {path}: ")


def test_a_missing_batch_is_named(refusal, root, cifar):
    (cifar / "test_batch").unlink()
    assert refusal("cifar10") == f"cifar10: there is no {cifar / 'test_batch'}{SOMEWHERE}"


@pytest.mark.parametrize(
    ("images", "labels", "match"),
    [
        (pictures(20, 32), None, "has grey images or no labels: cifar10 is in colour and has ten classes"),
        (pictures(20, 32, colour=False), LABELS, "has grey images or no labels"),
        (pictures(20, 28), LABELS, "is 28 x 28: every image of this set is 32 x 32"),
        (pictures(20, 32), [10] * 20, "has the label 10 in train: labels are 0 to 9"),
        (pictures(20, 32), ["cat"] * 20, "has the label 'cat' in train: labels are 0 to 9"),
    ],
)
def test_other_images_are_not_cifar10(refusal, root, images, labels, match):
    files.write_npz(root / "cifar10.npz", images, labels)
    assert match in refusal("cifar10")


# CelebA and ImageNet


@pytest.fixture
def celeba(root):
    return files.write_celeba(root, pictures(4, 8)[:, :1, :1].repeat(218, 1).repeat(178, 2), [0, 0, 1, 2])


LISTS = [
    ("000001.jpg 0\n000002.jpg 3\n", "says '000002.jpg 3' in line 2: a file's name and 0, 1 or 2 are needed"),
    ("000001.jpg\n", "says '000001.jpg' in line 1"),
    ("000001.jpg 0\n000009.jpg 1\n", r"names 000009.jpg in line 2, and .*img_align_celeba has no such file"),
    ("000001.jpg 0\n000002.jpg 1\n", "has no images of the test split: 0 is train, 1 selection, 2 test"),
    ("", "has no images of the train split"),
    ("\xff", "cannot read"),
]


@pytest.mark.parametrize(("text", "match"), LISTS)
def test_a_list_of_celeba_that_does_not_fit_is_refused(refusal, celeba, text, match):
    (celeba / "list_eval_partition.txt").write_text(text, encoding="latin1")
    sentence = refusal("celeba")
    assert re.search(match, sentence)
    assert str(celeba / "list_eval_partition.txt") in sentence


def test_a_missing_list_of_celeba_is_named(refusal, root, celeba):
    (celeba / "list_eval_partition.txt").unlink()
    assert refusal("celeba") == f"celeba: there is no {celeba / 'list_eval_partition.txt'}{SOMEWHERE}"


def test_celeba_of_another_size_is_refused(refusal, celeba):
    path = celeba / "img_align_celeba" / "000003.jpg"
    path.write_bytes(files.encoded(pictures(1, 64)[0], "JPEG"))
    assert refusal("celeba") == f"{path} is 64 x 64: every image of this set is 178 x 218"


def test_a_crop_larger_than_the_pictures_is_refused(refusal, celeba):
    assert "000001.jpg is 178 x 218: too small for a centre crop of 200" in refusal("celeba", crop=200)


def test_imagenet_needs_a_folder_per_class_and_the_same_ones(refusal, root):
    folder = root / "imagenet"
    files.write_folder(folder / "train", pictures(20), ["n1", "n2"] * 10, suffix="JPEG")
    assert refusal("imagenet64") == f"imagenet64: there is no {folder}/val/<class>/*.JPEG{SOMEWHERE}"
    files.write_folder(folder / "val", pictures(2), suffix="JPEG")
    assert refusal("imagenet64") == f"imagenet64: {folder / 'val'} holds pictures: one folder per class is needed"
    for path in (folder / "val").iterdir():
        path.unlink()
    files.write_folder(folder / "val", pictures(2), ["n1", "n3"], suffix="JPEG")
    match = f"{folder} has the label 'n3' in test: the training images have no such label"
    assert refusal("imagenet64") == match


def test_imagenet_in_small_is_checked(refusal, root):
    part = pictures(20, 32), LABELS
    folder = files.write_imagenet_batches(root / "imagenet32", part, part)
    path = folder / "val_data.npz"
    for shape in ((2, 3 * 64 * 64), (3, 3 * 32 * 32)):
        np.savez(path, data=np.zeros(shape, np.uint8), labels=[1, 2])
        needed = "uint8, (2, 3072), is needed for its 2 labels"
        assert refusal("imagenet32") == f"data of {path} is uint8 of shape {shape}: {needed}"
    (folder / "train_data_batch_7.npz").unlink()
    assert refusal("imagenet32") == f"imagenet32: there is no {folder / 'train_data_batch_7.npz'}{SOMEWHERE}"
