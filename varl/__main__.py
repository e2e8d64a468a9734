"""`python -m varl` is the command line."""

import sys

from varl.cli import main

if __name__ == "__main__":
  sys.exit(main())
