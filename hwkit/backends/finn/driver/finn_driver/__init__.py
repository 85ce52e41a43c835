"""Drives FINN, inside FINN's own environment: JSON in, JSON out. hwkit starts it and never imports it.

    python -m finn_driver SPEC.json RESULT.json

One subject a file, in the order data passes through:

    flow         the steps, from QONNX to generated code
    pooling      sums over the map as FINN knows them
    sharing      biases plain, and weights that several layers share copied; FINN wants one each
    rounding     quantisers that round down, in the only terms FINN knows
    streamline   scales and shifts moved into thresholds, across residual additions too
    joins        additions of branches with different scales, in integers
    rolling      the repeated steps of a neural ODE as one FINNLoop
    folding      PE and SIMD: as fast as the budget allows, and always legal
    execution    FINN's own Python execution against the outputs wanted
    layers       what each layer costs, and what FINN does not say
    codegen      the generated code in folders with lasting names
"""
