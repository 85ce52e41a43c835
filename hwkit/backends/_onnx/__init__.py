"""ONNX files of a network, for the backends that deploy them. One subject a file, in the order data passes:

    options, forecast         what one may choose; what is known before building
    convert                   the job, in a child process: calls everything below
    export, tidy              from a folded torch program to a small graph
    qdq, fallback             int8: calibration, and the layers that must stay in float
    forms, half               unrolled, stepped, loop; float16
    session, operators        run the graphs; what their operators cost
    deployed, bounds          files, golden data, findings and figures; the least time on a GPU
"""
