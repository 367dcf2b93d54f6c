"""Imported by the workers of a local Ray as they start, while Tune is being set up: what every pack needs."""

import gc

# looking for garbage takes a tenth of the time, again and again, and modules leave none
gc.disable()
try:
    import ray.tune  # noqa: F401 - to be there

    import cluster.driver  # noqa: F401 - to be there
    import study.worker  # noqa: F401 - and torch, the longest of them
finally:
    gc.freeze()
    gc.enable()
