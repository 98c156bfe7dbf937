"""Fails to import until the file that the environment names exists."""

import os

if not os.path.exists(os.environ["BROKEN_UNTIL"]):
    raise RuntimeError("not today")
