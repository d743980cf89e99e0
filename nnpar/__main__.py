"""``python -m nnpar``."""

import sys

from nnpar.cli import main

sys.exit(main())
