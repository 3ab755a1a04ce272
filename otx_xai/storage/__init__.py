"""Where files are, on this machine or in an object store, and the one way to read and write them."""

from otx_xai.storage.access import exists, read_bytes, read_text, remove, write_whole
from otx_xai.storage.urls import Place, Url, is_url, place_of

__all__ = ["Place", "Url", "exists", "is_url", "place_of", "read_bytes", "read_text", "remove", "write_whole"]
