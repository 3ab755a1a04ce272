"""The process's one OpenVINO Core, and what its errors say to a user."""

from __future__ import annotations

import os
from functools import cache

import openvino as ov

from otx_xai.errors import ConfigError
from otx_xai.records import Precision

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

_CAPABILITIES = {Precision.F32: "FP32", Precision.BF16: "BF16", Precision.F16: "FP16"}
"""What a device says that it can, of each precision; in the order in which fewer bits are tried."""


_limits: list[int] = []
"""Number of cores that the user leaves to this process; empty: all."""


@cache
def core() -> ov.Core:
    """Return this process's one OpenVINO Core, which is never destroyed.

    On machines with AVX-512 every Core gives the thread that uses it a stack for signals, takes it away with itself,
    and then puts back the stack it found, even if the Core that had made that one is gone. The next Ctrl-C after two
    Cores that went in the order they came is a segmentation fault.
    """
    return ov.Core()


def limit_cores(count: int) -> None:
    """Let this process use so many cores only, wherever they are: others work beside it on the same machine.

    Args:
        count: number of cores, at least 1.
    """
    core().set_property("CPU", {"INFERENCE_NUM_THREADS": count, "ENABLE_CPU_PINNING": False})
    _limits[:] = [count]


def allowed_cores() -> int:
    """Return how many cores this process may use."""
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(present or 1, *_limits, present or 1)


def first_line(error: RuntimeError) -> str:
    """The first line of an OpenVINO error that speaks to a user, without source locations and empty phrases."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith(_NOISE)), _NO_REASON).rstrip(".")


def precision_hint(device: str, precision: Precision) -> str:
    """Return the words of OpenVINO's ``INFERENCE_PRECISION_HINT``.

    Float32 is asked for rather than left to the device: maps are small differences of nearly equal scores.

    Args:
        device: OpenVINO device.
        precision: any but ``auto``.

    Raises:
        ConfigError: the device does not compute in it.
    """
    known = precisions(device)
    if precision is not Precision.F32 and known and precision not in known:
        raise ConfigError(
            f"--precision is {precision}, which the device {device!r} of this machine does not compute in. It can do "
            f"{', '.join(known)}, or auto."
        )
    return str(precision)


def precisions(device: str) -> tuple[Precision, ...]:
    """Return the precisions that a device computes with, float32 first; of several devices those that all know.

    Args:
        device: OpenVINO device, such as ``CPU``, ``GPU.1``, ``AUTO`` or ``HETERO:GPU,CPU``.

    Returns:
        Empty where OpenVINO does not know the device.
    """
    kind, _, listed = device.partition(":")
    names = [name.partition("(")[0] for name in listed.split(",") if name and not name.startswith("-")] or [kind]
    try:
        said = [set(core().get_property(name, "OPTIMIZATION_CAPABILITIES")) for name in names]
    except RuntimeError:
        return ()
    return tuple(precision for precision, name in _CAPABILITIES.items() if all(name in own for own in said))
