"""Prints the generated parts of the world's page: `python -m trueup.lab.world`."""

import sys

from trueup.lab.world.examples import page

sys.stdout.write(page())
