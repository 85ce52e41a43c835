"""ODENet: three neural-ODE blocks of full 3x3 convolutions with two down-sampling stages between.

After Chen et al., "Neural Ordinary Differential Equations", arXiv 1806.07366, in the arrangement of
Watanabe and Matsutani, arXiv 2012.15465, but with one convolution in each down-sampling stage. The
baseline of dsodenet: 120,448 parameters without stem and head.
"""

from __future__ import annotations

from torch import nn

from hwkit.nn.ode import Solver
from hwkit.zoo._odenet import Separable, build_odenet

INPUT_SHAPE = (1, 28, 28)
DATASET = "fashion-mnist"


def build(
    *,
    input_shape: tuple[int, int, int] = INPUT_SHAPE,
    classes: int = 10,
    channels: tuple[int, int, int] = (16, 32, 64),
    steps: int = 6,
    solver: Solver = "euler",
    time_channel: bool = False,
    separable: Separable = "none",
    stem_stride: int = 2,
) -> nn.Sequential:
    """(batch, *input_shape) -> (batch, classes).

    channels      of the three ODE blocks
    steps         N of each ODE block
    time_channel  each convolution of an ODE block sees the time as one more channel
    separable     which 3x3 convolutions are depthwise-separable: "everywhere" (ODE blocks and
                  down-sampling), "blocks", "none"; the stem never is
    stem_stride   1 or 2; 2 quarters the size of every feature map
    """
    return build_odenet(
        input_shape, classes, channels, steps, solver, time_channel, separable, stem_stride
    )
