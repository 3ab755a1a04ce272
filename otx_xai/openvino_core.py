"""The process's one OpenVINO Core, and what its errors say to a user."""

from __future__ import annotations

from functools import cache

import openvino as ov

_NO_REASON = "OpenVINO does not recognise it"
_NOISE = (
    "Exception from",
    "Check '",
    "FrontEnd API failed",
    "Loading input model",
    "Shape inference input shapes",
    "Unable to read the model",
    "While validating node",
)


@cache
def core() -> ov.Core:
    """Return this process's one OpenVINO Core, which is never destroyed.

    On machines with AVX-512 every Core gives the thread that uses it a stack for signals, takes it away with itself,
    and then puts back the stack it found, even if the Core that had made that one is gone. The next Ctrl-C after two
    Cores that went in the order they came is a segmentation fault.
    """
    return ov.Core()


def first_line(error: RuntimeError) -> str:
    """The first line of an OpenVINO error that speaks to a user, without source locations and empty phrases."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith(_NOISE)), _NO_REASON).rstrip(".")
