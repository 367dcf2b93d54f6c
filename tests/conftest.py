"""What every test gets: one thread, no global state carried over, and Ctrl-C."""

import signal

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a script starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
