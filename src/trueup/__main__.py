"""`python -m trueup`, so that `accelerate launch -m trueup ...` works."""

import sys

from trueup.cli import main

sys.exit(main())
