"""The integer reference: what an FPGA must compute, in numpy, every rounding and saturation written out.

It is the golden model of the FPGA path. Torch, QONNX, the HLS kernel and the RTL are each compared with it, bit
for bit.

    arithmetic    shifts that round, saturation
    separable     networks of depthwise-separable convolutions and neural-ODE blocks: what the on-chip engine runs
    graph         any QONNX file: integers with exact scales (scaled, operators), quantisers that are integer
                  thresholds, ties and near values counted (requantize)
    agreement     such a graph against qonnx's own executor, quantiser by quantiser
"""
