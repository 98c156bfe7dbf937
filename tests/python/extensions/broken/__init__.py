"""Fails to import until a file exists, which an environment variable names."""

import os

if not os.path.exists(os.environ["BROKEN_UNTIL"]):
    raise RuntimeError("not today")
