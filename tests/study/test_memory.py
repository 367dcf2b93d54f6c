import pytest
import torch

from study.memory import bytes_of, limited


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("4 GiB", 4 * 2**30), ("500MB", 500_000_000), ("1.5 TiB", 3 * 2**39), ("2 kB", 2000), ("1 KiB", 1024)],
)
def test_an_amount_in_bytes(amount, expected):
    assert bytes_of(amount) == expected


@pytest.mark.parametrize("amount", ["", "4", "GiB", "4 gib", "-4 GiB", "4 GiB ", "0 GiB", "1e9 B", "4 KB", "0.0001 kB"])
def test_what_is_no_amount_is_refused(amount):
    with pytest.raises(ValueError, match="is no amount of memory"):
        bytes_of(amount)


def unasked():
    raise AssertionError("asked for what nobody needs")


def test_without_an_amount_nothing_is_limited():
    with limited(None, device="cpu", need=unasked):
        pass


def test_what_is_needed_may_be_all_that_is_allowed_and_no_byte_more():
    with limited(2**20, device="cpu", need=lambda: 2**20):
        pass
    refused = pytest.raises(MemoryError, match=r"^out of memory: training takes 3\.0 MiB$")
    with refused, limited(2**20, device="cpu", need=lambda: 3 * 2**20):
        raise AssertionError("it ran")


def test_on_a_gpu_torch_is_told_what_part_of_it(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("", (), {"total_memory": 2**34})())
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    with limited(2**32, device="cuda", need=unasked):
        assert told == [0.25]
    with limited(2**40, device="cuda", need=unasked):
        pass
    assert told == [0.25, 1.0, 1.0, 1.0]
