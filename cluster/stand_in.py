"""Started in the place of an agent of Ray's that nobody needs: does nothing for as long as its raylet lives."""

import os
import time

LOOK_SECONDS = 0.5


def main() -> None:
    """Wait for the end of whatever started this."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    main()
