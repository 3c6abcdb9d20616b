"""`python -m particles` is the command `particles`."""

import sys

from particles.cli import main

sys.exit(main())
