"""What a run leaves behind: pictures, their files, and the journal of all images."""

from otx_xai.report.explained import ExplainedImage, PlacedMaps
from otx_xai.report.files import encode, write_atomic, write_json, write_picture
from otx_xai.report.journal import JOURNAL, Journal, read_journal, record, restore_order, take_up
from otx_xai.report.lock import locked
from otx_xai.report.names import slug, slugs
from otx_xai.report.pictures import annotate, colormap, overlay, sheet
from otx_xai.report.results import Results
from otx_xai.report.shelves import Line
from otx_xai.report.writer import Writer, writers_of

__all__ = [
    "JOURNAL",
    "ExplainedImage",
    "Journal",
    "Line",
    "PlacedMaps",
    "Results",
    "Writer",
    "annotate",
    "colormap",
    "encode",
    "locked",
    "overlay",
    "read_journal",
    "record",
    "restore_order",
    "sheet",
    "slug",
    "slugs",
    "take_up",
    "write_atomic",
    "write_json",
    "write_picture",
    "writers_of",
]
