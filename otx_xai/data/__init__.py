"""Where images come from: finding them, naming them, reading them."""

from otx_xai.data.reading import read_image
from otx_xai.data.sources import IMAGE_SUFFIXES, find_images

__all__ = ["IMAGE_SUFFIXES", "find_images", "read_image"]
