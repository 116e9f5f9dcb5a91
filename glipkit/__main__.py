"""`python -m glipkit` is the `glipkit` command."""

import sys

from glipkit.shell.main import main

sys.exit(main())
