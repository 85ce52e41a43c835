"""ONNX graphs as torch modules: the operators that float CNNs and transformers export to.

network.py builds the module; the other files hold the operators, each a function of torch tensors that
does what the ONNX operator of that name does. tests/sources/test_onnx_operators.py compares every one with
onnxruntime, and so does hwkit.sources.onnx for every model it opens.
"""
