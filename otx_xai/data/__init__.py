"""Where images come from: finding them, naming them, reading them."""

from otx_xai.data.file_kinds import IMAGE_SUFFIXES
from otx_xai.data.reading import read_image
from otx_xai.data.sources import find_images, search_images

__all__ = ["IMAGE_SUFFIXES", "find_images", "read_image", "search_images"]
