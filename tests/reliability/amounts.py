"""How much a test run tries: the quick part by default, all of it in `make reliability`.

A test that injects several faults says so: ``record_property("tried", 12)`` and
``record_property("handled", 12)``; a test that says nothing is one fault.
"""

import os

import pytest

WHOLE = os.environ.get("MOT_LAB_RELIABILITY") == "whole"

only_whole = pytest.mark.skipif(not WHOLE, reason="minutes long: part of make reliability")


def amount(quick: int, whole: int) -> int:
    """The number of faults to inject."""
    return whole if WHOLE else quick
