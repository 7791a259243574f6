from torch import nn

from robustgap.measures.core import measure


@measure(
    family="capacity",
    needs=("weights",),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="number of entries of all parameters",
    invariances=("layer rescaling", "logit scale"),
)
def num_params(model: nn.Module) -> float:
    """Number of parameters.

        sum over parameters of their entries;  a count

    Weights, biases and BatchNorm's scales and shifts count, whether or not they are trained; buffers do not; a tensor
    shared by several layers counts once. Published code (Dziugaite et al., NeurIPS 2020) counts weights alone.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 20. Claim: as a capacity measure larger means
    a larger gap (of clean accuracy), so +1, which that paper then finds refuted.
    """
    return float(sum(parameter.numel() for parameter in model.parameters()))
