"""A peer that sends forged, ended and malformed references: a call fails, or the session; nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from paths import HELPERS

CONVERSATIONS = [
    "an_honest_conversation",
    "objects_that_were_ended_or_never_given",
    "malformed_references_end_the_session",
    "ids_and_leases_of_the_peer_s_own_may_be_anything",
    "more_than_may_be_held",
    "a_flood_of_ends",
    "a_notification_with_references",
    *(f"random_acts {seed}" for seed in range(6)),
]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_it_ends_as_it_should(conversation: str) -> None:
    done = subprocess.run(
        [sys.executable, str(HELPERS / "reference_attacks.py"), *conversation.split()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        capture_output=True,
        text=True,
        timeout=110,
        start_new_session=True,  # it ends with its process group
    )
    assert done.returncode == 0, done.stderr[-3000:]
