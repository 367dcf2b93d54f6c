"""Files of every format give the images that were written, with their labels, in three splits."""

import numpy as np
import pytest
from PIL import Image

from study.data import images
from study.data.images import cache_folder, load, root
from study.errors import UserError
from tests.study.data import files
from tests.study.data.files import first, pictures

LABELS = [i % 10 for i in range(40)]


def joined(*splits):
    """Images of some splits by their bytes: the labels that go with each."""
    return {image.tobytes(): int(label) for split in splits for image, label in zip(*split, strict=True)}


def written(images, labels):
    return {image.tobytes(): int(label) for image, label in zip(first(images), labels, strict=True)}


def everything(found):
    return joined(found.train, found.selection, found.test)


def same(found, train, test):
    """Every image that was written is there once, with its label, on its side of the official split."""
    assert joined(found.train, found.selection) == written(*train)
    assert joined(found.test) == written(*test)
    assert len(found.train.labels) + len(found.selection.labels) == len(train[1])


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
@pytest.mark.parametrize("form", [{}, {"zipped": True}, {"dots": True}, {"zipped": True, "dots": True}])
def test_mnist_is_what_was_written(root, folder, form):
    train, test = ((pictures(n, 28, colour=False, seed=n), LABELS[:n]) for n in (40, 7))
    files.write_mnist(root / folder, train, test, **form)
    found = load("mnist")
    assert (found.shape, found.classes) == ((1, 28, 28), 10)
    same(found, train, test)


@pytest.mark.parametrize("form", ["pickles", "npz", "parquet", "parquet img"])
def test_cifar10_is_what_was_written_and_the_same_in_every_form(root, form):
    train, test = ((pictures(n, 32, seed=n), LABELS[:n]) for n in (40, 7))
    if form == "pickles":
        files.write_cifar_pickles(root / "cifar-10-batches-py", train, test)
    elif form == "npz":
        files.write_npz(root / "cifar10.npz", *train, test)
    else:
        column = form.partition(" ")[2] or "image"
        files.write_parquet(root / "cifar10" / "test-00000-of-00001.parquet", *test, column=column)
        for i, part in enumerate([slice(0, 25), slice(25, 40)]):
            name = f"train-{i:05}-of-00002.parquet"
            files.write_parquet(root / "cifar10" / name, train[0][part], train[1][part], column=column)
    found = load("cifar10")
    assert (found.shape, found.classes) == ((3, 32, 32), 10)
    same(found, train, test)
    files.write_npz(root / "again.npz", *train, test)
    assert load("images:again.npz").fingerprint == found.fingerprint


PYTHON_2 = (
    b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(K\x06K\x09eU\x04dataq"
    b"\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09U\x01bq\x0a\x87q\x0bRq\x0c(K"
    b"\x01K\x02M\x00\x0c\x86q\rcnumpy\ndtype\nq\x0eU\x02u1q\x0fK\x00K\x01\x87q\x10Rq\x11(K\x03U\x01|q\x12NNNJ\xff\xff"
    b"\xff\xffJ\xff\xff\xff\xffK\x00tq\x13b\x89T\x00\x18\x00\x00%btq\x14bU\tfilenamesq\x15]q\x16(U\x05a.pngq\x17U\x05"
    b"b.pngq\x18eu."
)
"""A batch of two images as Python 2 and its NumPy wrote it, opcode by opcode."""


def test_a_batch_that_python_2_wrote_is_read(root):
    train, test = ((pictures(n, 32, seed=n), LABELS[:n]) for n in (40, 7))
    files.write_cifar_pickles(root / "cifar-10-batches-py", train, test)
    two = pictures(2, 32, seed=5)
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(PYTHON_2 % first(two).tobytes())
    same(load("cifar10"), train, (two, [6, 9]))


def celeba(inside, outside, side, count=4):
    """Pictures of one shade in a square in the middle and of another around it."""
    image = np.full((218, 178, 3), outside, dtype=np.uint8)
    top, left = (218 - side) // 2, (178 - side) // 2
    image[top : top + side, left : left + side] = inside
    return np.stack([image] * count)


def test_celeba_is_the_middle_108_pixels_in_its_published_splits(root):
    # JPEG at quality 100 rounds coefficients to whole numbers: pixels are off by a few levels at an edge inside a block
    shades = [40, 90, 140, 190, 240]
    stack = np.concatenate([celeba(shade, 0, 108, 1) for shade in shades])
    files.write_celeba(root, stack, [0, 2, 0, 1, 0], quality=100)
    found = load("celeba")
    assert (found.shape, found.classes) == ((3, 64, 64), 1)
    assert "108" in found.description
    assert "64" in found.description
    for split, expected in ((found.train, [40, 140, 240]), (found.selection, [190]), (found.test, [90])):
        assert split.labels.tolist() == [0] * len(expected)
        assert np.abs(split.pixels.astype(int) - np.array(expected)[:, None, None, None]).max() <= 8


def test_a_wider_crop_of_celeba_sees_what_lies_around(root):
    files.write_celeba(root, celeba(200, 0, 108), [0, 0, 1, 2], quality=100)
    edges = load("celeba", crop=116, size=58).train.pixels[0].astype(int)
    assert edges.shape == (3, 58, 58)  # two to one: the outer 4 of 116 pixels are the outer 2 of 58
    assert edges[:, 0].max() <= 20
    assert edges[:, :, -1].max() <= 20
    assert edges[:, 4:-4, 4:-4].min() >= 190


def test_imagenet_is_the_middle_square_with_classes_in_order(root):
    for where, shift in (("train", 0), ("val", 3)):
        for number, name in enumerate(["n02", "n01"]):
            wide = np.zeros((64, 80, 3), dtype=np.uint8)
            wide[:, 8:72] = 50 + 100 * number + shift
            files.write_folder(root / "imagenet" / where / name, np.stack([wide] * 12), suffix="JPEG", quality=100)
    found = load("imagenet128")
    assert (found.shape, found.classes, found.test.labels.tolist()) == ((3, 128, 128), 2, [0] * 12 + [1] * 12)
    for split, shift in ((found.train, 0), (found.selection, 0), (found.test, 3)):
        shades = np.where(split.labels == 0, 150, 50) + shift
        inner = split.pixels[..., 3:-3].astype(int)  # twice as large: an edge reaches one pixel in
        assert np.abs(inner - shades[:, None, None, None]).max() <= 8


def test_imagenet_as_published_in_small_is_what_was_written(root):
    train, test = ((pictures(n, 32, seed=n), LABELS[:n]) for n in (40, 7))
    files.write_imagenet_batches(root / "imagenet32", train, test)
    found = load("imagenet32")
    assert (found.shape, found.classes) == ((3, 32, 32), 10)
    same(found, train, test)


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("labels", [sorted(LABELS), None])
def test_images_are_the_same_in_every_format_and_so_is_the_fingerprint(root, colour, labels):
    stack = pictures(40, colour=colour)
    files.write_npz(root / "a.npz", stack, labels)
    np.savez_compressed(root / "b.npz", images=first(stack), **({} if labels is None else {"labels": labels}))
    files.write_parquet(root / "c.parquet", stack, labels)
    files.write_parquet(root / "d" / "0.parquet", stack[:11], labels and labels[:11], plain=True)
    files.write_parquet(root / "d" / "1.parquet", stack[11:], labels and labels[11:], plain=True)
    files.write_folder(root / "e", stack, labels)
    files.write_folder(root / "f", stack, labels, suffix="BMP")
    found = {name: load(f"images:{name}") for name in ["a.npz", "b.npz", "c.parquet", "d", "e", "f"]}
    found["absolute"] = load(f"images:{root / 'e'}")
    assert {len(one.fingerprint) for one in found.values()} == {16}
    assert len({one.fingerprint for one in found.values()}) == 1
    for one in found.values():
        assert (one.shape, one.classes) == ((3 if colour else 1, 8, 8), 10 if labels else 1)
        assert everything(one) == written(stack, labels or [0] * 40)


def test_lossless_webp_is_what_was_written(root):
    stack = pictures(20)
    files.write_folder(root / "a", stack, suffix="webp", lossless=True)
    assert everything(load("images:a")) == written(stack, [0] * 20)


def test_one_pixel_label_or_place_changes_the_fingerprint(root):
    stack, labels = pictures(20), [0, 1] * 10
    pixel = stack.copy()
    pixel[13, 2, 3, 1] ^= 1
    label = [1, 1, *labels[2:]]
    kinds = {"a": (stack, labels), "b": (pixel, labels), "c": (stack, label), "d": (stack[::-1], labels[::-1])}
    kinds |= {"e": (stack, None), "f": (stack[:19], labels[:19]), "g": (stack, [1 - one for one in labels])}
    prints = {name: load(f"images:{files.write_npz(root / f'{name}.npz', *kind)}") for name, kind in kinds.items()}
    assert len({one.fingerprint for one in prints.values()}) == len(kinds)


def test_splits_of_a_folder_or_parquet_files_are_kept(root):
    parts = {"train": pictures(20, seed=1), "val": pictures(3, seed=2), "test": pictures(4, seed=3)}
    for name, stack in parts.items():
        files.write_folder(root / "a" / name, stack, [0, 1] * (len(stack) // 2) + [0] * (len(stack) % 2))
        files.write_folder(root / "flat" / name, stack)
        files.write_parquet(root / "b" / f"{name}-0.parquet", stack)
    for name in ("a", "flat", "b"):
        found = load(f"images:{name}")
        for split, word in ((found.train, "train"), (found.selection, "val"), (found.test, "test")):
            assert set(joined(split)) == set(written(parts[word], [0] * len(parts[word])))
    assert load("images:flat").fingerprint == load("images:b").fingerprint


def test_a_folder_called_train_among_others_is_a_class(root):
    files.write_folder(root / "a", pictures(30), ["bus", "train", "test"] * 10)
    assert load("images:a").classes == 3


def test_labels_are_numbered_in_sorted_order(root):
    stack = pictures(30)
    for name, labels in (("a", [7, 100, 20] * 10), ("b", ["cat", "fox", "dog"] * 10)):
        found = load(f"images:{files.write_npz(root / f'{name}.npz', stack, labels)}")
        assert found.classes == 3
        assert everything(found) == written(stack, [0, 2, 1] * 10)


def test_resizing_takes_the_middle_square_and_averages(root):
    # Short side 64 to 32, then the middle 32 columns of 40: Pillow asked for the same in the other order.
    wide = np.random.default_rng(0).integers(0, 256, (10, 64, 80, 3), dtype=np.uint8)
    files.write_folder(root / "a", wide)
    other = [Image.fromarray(one).resize((40, 32), Image.Resampling.BILINEAR).crop((4, 0, 36, 32)) for one in wide]
    expected = {np.asarray(one).transpose(2, 0, 1).tobytes() for one in other}
    files.write_npz(root / "b.npz", wide)
    for name in ("a", "b.npz"):
        assert set(everything(load(f"images:{name}", size=32))) == expected


def test_a_crop_is_the_middle_exactly(root):
    stack = pictures(12, 9)
    found = load(f"images:{files.write_npz(root / 'a.npz', stack)}", crop=4)
    assert everything(found) == written(stack[:, 2:6, 2:6], [0] * 12)


RED, SHADES = np.array([200, 10, 30], dtype=np.uint8), np.arange(64, dtype=np.uint8).reshape(8, 8)


def palette():
    image = Image.fromarray(SHADES % 2).convert("P")
    image.putpalette([200, 10, 30, 1, 2, 3])
    return image


def transparent(kind):
    """Red, half of it transparent."""
    alpha = np.tile(np.array([0, 255], dtype=np.uint8), (8, 4))[..., None]
    colours = np.broadcast_to(RED if kind == "RGBA" else RED[:1], (8, 8, len(kind) - 1))
    return Image.fromarray(np.concatenate([colours, alpha], axis=-1))


CONVERSIONS = {
    "black and white": (Image.fromarray(SHADES % 2 == 1), SHADES[None] % 2 * 255),
    "16 bits: the higher 8": (Image.fromarray(SHADES.astype(np.uint16) * 256 + 255), SHADES[None]),
    "RGBA: without alpha": (transparent("RGBA"), np.broadcast_to(RED[:, None, None], (3, 8, 8))),
    "grey with alpha": (transparent("LA"), np.full((1, 8, 8), 200)),
    "palette": (palette(), np.where(SHADES % 2 == 0, RED[:, None, None], np.array([1, 2, 3])[:, None, None])),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_other_kinds_of_pixels_are_converted(root, name):
    image, expected = CONVERSIONS[name]
    for i in range(10):
        image.save(root / f"{i}.png")
    assert np.array_equal(load(f"images:{root}").train.pixels[0], expected)


def test_a_palette_with_transparency_is_read_without_a_warning(root):
    for i in range(10):
        palette().save(root / f"{i}.png", transparency=b"\x00\x80")
    assert load("images:.").train.pixels[0, :, 0, 0].tolist() == RED.tolist()


def test_ink_colours_become_rgb(root):
    for i in range(10):
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(root / f"{i}.jpg", quality=100)
    red = load("images:.").train.pixels[0]
    assert np.abs(red.astype(int) - np.array([255, 0, 0])[:, None, None]).max() <= 4


def test_one_picture_in_colour_makes_a_set_of_grey_ones_rgb(root):
    stack = pictures(12, colour=False)
    files.write_folder(root / "a", stack)
    (root / "a" / "000003.png").write_bytes(files.encoded(np.stack([stack[3]] * 3, axis=-1)))
    found = load("images:a")
    assert found.shape == (3, 8, 8)
    assert everything(found) == written(np.stack([stack] * 3, axis=-1), [0] * 12)


def test_hidden_files_are_left_out(root):
    files.write_folder(root / "a", pictures(12))
    (root / "a" / ".DS_Store").write_bytes(b"x")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    assert len(everything(load("images:a"))) == 12


def test_arrays_are_mapped_and_cannot_be_written_to(root):
    found = load(f"images:{files.write_npz(root / 'a.npz', pictures(20))}")
    for split in (found.train, found.selection, found.test):
        for array in split:
            assert isinstance(array, np.memmap)
            assert array.mode == "r"
    assert (found.train.pixels.dtype, found.train.labels.dtype) == (np.uint8, np.int64)
    with pytest.raises(ValueError, match="read-only"):
        found.train.pixels[0] = 0


def test_a_set_is_loaded_once_per_process(root):
    files.write_npz(root / "a.npz", pictures(20))
    assert load("images:a.npz") is load("images:a.npz")


def test_the_folders_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("MANYPATHS_DATA", "MANYPATHS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    assert (root(), cache_folder()) == (tmp_path / "data", tmp_path / "home/.cache/manypaths")
    monkeypatch.setenv("MANYPATHS_DATA", "~/pictures")
    monkeypatch.setenv("MANYPATHS_CACHE", "scratch")
    assert (root(), cache_folder()) == (tmp_path / "home/pictures", tmp_path / "scratch")


def test_a_name_that_is_no_set_is_refused(root):
    names = "celeba, cifar10, imagenet128, imagenet32, imagenet64, images:PATH"
    with pytest.raises(UserError, match=rf"unknown image set 'mnits': choose from mnist, {names}"):
        load("mnits")
    assert set(images.SETS) == {"mnist", "cifar10", "celeba", "imagenet32", "imagenet64", "imagenet128"}


@pytest.mark.parametrize(
    ("source", "options", "match"),
    [
        ("mnist", {"size": 32}, "mnist has one size and takes no size: celeba and images:PATH do"),
        ("imagenet64", {"crop": 3}, "imagenet64 has one size and takes no crop"),
        ("celeba", {"size": 0}, "celeba: size = 0: a side is at least 1 pixel"),
        ("images:a", {"crop": -1}, "images:a: crop = -1: a side is at least 1 pixel"),
    ],
)
def test_a_size_that_cannot_be_is_refused(root, source, options, match):
    with pytest.raises(UserError, match=match):
        load(source, **options)
