"""`python -m ctcd_jax VERB` is `ctcd VERB`."""

import sys

from ctcd_jax.cli import command

sys.exit(command())
