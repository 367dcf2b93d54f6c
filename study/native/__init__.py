"""A pack's step as C++ generated from the recorded update of one trial: see `program`."""
