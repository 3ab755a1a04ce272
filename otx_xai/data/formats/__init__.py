"""Formats of data sets: one file a format, and :func:`recognise`, which tells them apart."""

from otx_xai.data.formats.recognise import recognise
from otx_xai.data.formats.samples import Recognised, Sample

__all__ = ["Recognised", "Sample", "recognise"]
