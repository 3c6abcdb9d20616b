"""`python -m particles` is the command `particles`."""

from particles.cli import leave, main

leave(main())
