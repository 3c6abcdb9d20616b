"""The benchmark: `python -m sims.bench` is `particles bench`. It shows no claim, and is no simulation of the list."""

import sys

from particles.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
