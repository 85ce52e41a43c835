"""Runs under QEMU: one peer's artifact, its outputs and marks around its inferences.

    python guest.py RUNTIME MODEL INPUTS.npy OUTPUTS.npy COUNTED

INPUTS is float32 (n, C, H, W). Marks are the system call getpriority(0x4857, label), which the counting
plugin sees: label 0, 1 with nothing between them, 2 .. COUNTED + 2 around the inferences.
"""

import ctypes
import gc
import sys

import numpy as np

MARK = 0x4857
WARMUP = 2


class OnnxRuntime:
    def __init__(self, model, example):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        source, sink = self.session.get_inputs()[0].name, self.session.get_outputs()[0].name
        first = self.session.run(None, {source: example})[0]
        self.input = ort.OrtValue.ortvalue_from_numpy(example.copy())
        self.result = ort.OrtValue.ortvalue_from_numpy(np.zeros_like(first))
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input(source, self.input)
        self.binding.bind_ortvalue_output(sink, self.result)

    def feed(self, value):
        self.input.update_inplace(value)

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def output(self):
        return self.result.numpy().copy()


class Ncnn:
    winograd = True

    def __init__(self, model, example):
        import ncnn
        self.ncnn, self.net = ncnn, ncnn.Net()
        self.net.opt.num_threads = 1
        self.net.opt.use_vulkan_compute = False
        self.net.opt.use_winograd_convolution = self.winograd
        self.net.load_param(model + ".param")
        self.net.load_model(model + ".bin")
        self.source, self.sink = self.net.input_names()[0], self.net.output_names()[0]

    def feed(self, value):
        self.input = self.ncnn.Mat(np.ascontiguousarray(value[0])).clone()

    def run(self):
        extractor = self.net.create_extractor()
        extractor.input(self.source, self.input)
        self.result = extractor.extract(self.sink)[1]

    def output(self):
        return np.array(self.result)


class NcnnDirect(Ncnn):
    winograd = False


class Mnn:
    def __init__(self, model, example):
        import MNN
        self.mnn, self.net = MNN, MNN.Interpreter(model)
        self.session = self.net.createSession({"backend": "CPU", "numThread": 1, "precision": "high"})
        self.source, self.sink = self.net.getSessionInput(self.session), self.net.getSessionOutput(self.session)

    def tensor(self, value):
        return self.mnn.Tensor(value.shape, self.mnn.Halide_Type_Float, value, self.mnn.Tensor_DimensionType_Caffe)

    def feed(self, value):
        self.source.copyFrom(self.tensor(value))

    def run(self):
        self.net.runSession(self.session)

    def output(self):
        result = self.tensor(np.zeros(self.sink.getShape(), np.float32))
        self.sink.copyToHostTensor(result)
        return np.array(result.getNumpyData())


class Iree:
    def __init__(self, model, example):
        import iree.runtime as iree
        self.iree, self.config = iree, iree.Config("local-sync")
        context = iree.SystemContext(config=self.config)
        module = iree.VmModule.mmap(context.instance, model)
        context.add_vm_module(module)
        name = next(f for f in module.function_names if not f.startswith("__") and "$" not in f)
        self.function = context.modules[module.name][name]

    def feed(self, value):
        self.input = self.iree.asdevicearray(self.config.device, value)

    def run(self):
        self.result = self.function(self.input)

    def output(self):
        return np.array(self.result.to_host())


RUNTIMES = {"onnxruntime": OnnxRuntime, "ncnn": Ncnn, "ncnn-direct": NcnnDirect, "MNN": Mnn, "IREE": Iree}


def nothing():
    pass


def main(runtime, model, inputs, outputs, counted):
    mark = ctypes.CDLL(None).getpriority
    samples = [np.ascontiguousarray(s[None]) for s in np.load(inputs, allow_pickle=False)]
    peer = RUNTIMES[runtime](model, samples[0])
    gc.disable()                              # no collection inside a counted region
    peer.feed(samples[0])
    for _ in range(WARMUP):
        peer.run()
        nothing()
        mark(MARK, 1 << 20)
    mark(MARK, 0)
    nothing()
    mark(MARK, 1)
    run = peer.run
    mark(MARK, 2)
    for k in range(counted):
        run()
        mark(MARK, 3 + k)
    results = []
    for sample in samples:
        peer.feed(sample)
        peer.run()
        results.append(peer.output().reshape(-1))
    np.save(outputs, np.stack(results))


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
