"""`python -m halftone`."""

import sys

from halftone.cli.main import main

sys.exit(main())
