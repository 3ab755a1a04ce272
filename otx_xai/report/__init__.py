"""What a run leaves behind: pictures, their files, and the journal of all images."""

from otx_xai.report.files import (
    Dump,
    Journal,
    read_journal,
    record,
    slug,
    slugs,
    write_atomic,
    write_json,
    write_picture,
)
from otx_xai.report.pictures import annotate, colormap, overlay, sheet

__all__ = [
    "Dump",
    "Journal",
    "annotate",
    "colormap",
    "overlay",
    "read_journal",
    "record",
    "sheet",
    "slug",
    "slugs",
    "write_atomic",
    "write_json",
    "write_picture",
]
