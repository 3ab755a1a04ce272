"""Every error a user can meet, and the exit code that ``otx`` ends with.

::

    OtxXaiError            1   an error of this package
    ├── ConfigError        2   an option has a wrong value, or two options contradict each other
    │   ├── LabelError     2   label names are missing, unknown, or their number does not fit
    │   └── TargetError    2   a target is not a class of the model
    ├── ModelError         3   the checkpoint is missing, broken, or of a kind that is not supported
    │   ├── CheckpointError 3  a torch checkpoint is broken, refused, or fits no architecture
    │   └── TaskError      3   the model is no model of the task, or the task is not supported
    ├── GraphError         4   the graph gives no place for the explain method
    ├── DataError          5   there is no image to explain
    │   └── ImageError     5   one image cannot be read (a run goes on and ends with 7)
    └── OutputError        6   results cannot be written
        ├── BusyError      6   another run is writing into the same folder
        └── MissingPartsError 6  shards of a run are not there yet

``otx`` ends with 0 after a clean run, with :data:`EXIT_PARTIAL` (7) when results were written but some images
failed, with :data:`EXIT_GATE` (8) when an audit fails one of its gates, and with :data:`EXIT_INTERRUPTED` (130) after
Ctrl-C.
"""

from __future__ import annotations

EXIT_PARTIAL = 7
EXIT_GATE = 8
EXIT_INTERRUPTED = 130


class OtxXaiError(Exception):
    """Base of all errors that are the user's to solve: one paragraph saying what, expected and fix."""

    exit_code = 1


class ConfigError(OtxXaiError, ValueError):
    """An option has a wrong value, or two options contradict each other."""

    exit_code = 2


class LabelError(ConfigError):
    """Label names are missing, unknown, or their number does not fit the model."""


class TargetError(ConfigError):
    """A target is not a class of the model."""


class ModelError(OtxXaiError):
    """The checkpoint is missing, broken, or of a kind that is not supported."""

    exit_code = 3


class CheckpointError(ModelError):
    """A torch checkpoint is broken, wants more than tensors, or fits no architecture."""


class TaskError(ModelError):
    """The model is no model of the requested task, or the task is not supported."""


class GraphError(OtxXaiError):
    """The graph gives no place for the explain method."""

    exit_code = 4


class DataError(OtxXaiError):
    """There is no image to explain."""

    exit_code = 5


class ImageError(DataError):
    """One image cannot be read."""


class OutputError(OtxXaiError):
    """Results cannot be written."""

    exit_code = 6


class BusyError(OutputError):
    """Another run is writing into the same folder."""


class MissingPartsError(OutputError):
    """Shards of a run are not there yet, so that they cannot be merged."""
