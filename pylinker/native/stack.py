"""The native stack of guests (``csrc/stack.h``)."""

from __future__ import annotations

from pylinker.native.core import ffi, lib
from pylinker.native.failures import check

__all__ = ["STACK_REFUSAL", "check_stack"]

STACK_REFUSAL: str = ffi.string(lib.pl_stack_refusal()).decode()
"""Prefix of the error message for a thread with too little stack to enter a guest."""


def check_stack() -> None:
    """Raise Failure unless the calling thread has enough stack to enter a guest."""
    check(lib.pl_stack_check(0))
