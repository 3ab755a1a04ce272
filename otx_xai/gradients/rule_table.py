"""All rules, by the names under which the table of operations (``graph/traits.py``) calls for them."""

from __future__ import annotations

from collections.abc import Mapping

from otx_xai.gradients.activation_rules import ACTIVATION_RULES
from otx_xai.gradients.arithmetic_rules import ARITHMETIC_RULES
from otx_xai.gradients.convolution_rules import CONVOLUTION_RULES
from otx_xai.gradients.normalisation_rules import NORMALISATION_RULES
from otx_xai.gradients.pooling_rules import POOLING_RULES
from otx_xai.gradients.product_rules import PRODUCT_RULES
from otx_xai.gradients.reduction_rules import REDUCTION_RULES
from otx_xai.gradients.relocation_rules import RELOCATION_RULES
from otx_xai.gradients.sampling_rules import SAMPLING_RULES
from otx_xai.gradients.scatter_rules import SCATTER_RULES
from otx_xai.gradients.shape_rules import SHAPE_RULES
from otx_xai.gradients.step import Rule

RULES: Mapping[str, Rule] = {
    **ACTIVATION_RULES,
    **ARITHMETIC_RULES,
    **CONVOLUTION_RULES,
    **NORMALISATION_RULES,
    **POOLING_RULES,
    **PRODUCT_RULES,
    **REDUCTION_RULES,
    **RELOCATION_RULES,
    **SAMPLING_RULES,
    **SCATTER_RULES,
    **SHAPE_RULES,
}
