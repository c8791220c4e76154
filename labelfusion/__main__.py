"""`python -m labelfusion` is the command `labelfusion`."""

import sys

from labelfusion.cli import main

if __name__ == "__main__":
    sys.exit(main())
