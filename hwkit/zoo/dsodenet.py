"""dsODENet: a neural-ODE network whose 3x3 convolutions are depthwise-separable, made for on-chip memory.

After Kawakami, Watanabe, Sugiura and Matsutani, "A Low-Cost Neural ODE with Depthwise Separable
Convolution for Edge Domain Adaptation on FPGAs", IEICE E106-D(7), 2023, arXiv 2107.12824. The authors'
layer table is not public: this one is ours, 16,400 parameters without stem and head against odenet's
120,448 (-86.4 %).
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
    separable: Separable = "everywhere",
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
