"""From raw network outputs to predictions, and to maps that lie over the image. Pure functions on arrays."""

from otx_xai.postprocess.geometry import Placement, fit, place, to_image
from otx_xai.postprocess.maps import min_max, to_uint8
from otx_xai.postprocess.scores import predict, sigmoid, softmax

__all__ = ["Placement", "fit", "min_max", "place", "predict", "sigmoid", "softmax", "to_image", "to_uint8"]
