"""The steps from a QONNX file to FINN's reports and generated code, one after the other in one process."""

from __future__ import annotations

import json
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import finn
import numpy as np
from finn.builder.build_dataflow_config import DataflowBuildConfig, DataflowOutputType
from finn.builder.build_dataflow_steps import build_dataflow_step_lookup
from finn.util.exception import FINNError
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.general import GiveUniqueNodeNames

from . import codegen, execution, folding, rolling
from ._telling import Refused, say
from .layers import layers, totals
from .pooling import sums_as_averages
from .rounding import floors_as_rounds
from .sharing import plain_biases, unshare
from .streamline import streamline

REPORTS = "report"
HARDWARE = "finn.custom_op.fpgadataflow"


class Flow:
    """One build. `spec`: model, part, clock_hz, limits, target_fps or null, rolled, golden (an .npz), build."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.build = Path(spec["build"])
        self.seconds: dict[str, float] = {}
        self.config = DataflowBuildConfig(
            output_dir=str(self.build), synth_clk_period_ns=1e9 / spec["clock_hz"], fpga_part=spec["part"],
            target_fps=1, generate_outputs=[DataflowOutputType.ESTIMATE_REPORTS], save_intermediate_models=True,
            standalone_thresholds=spec["standalone_thresholds"])
        golden = np.load(spec["golden"], allow_pickle=False)
        self.inputs, self.wanted = golden["inputs"], golden["outputs"]
        self.half_up = golden["half_up"] if "half_up" in golden.files else None

    def _step(self, name: str, model: ModelWrapper) -> ModelWrapper:
        """One of FINN's own build steps; what it refuses is the model's fault, and said so."""
        before = time.monotonic()
        try:
            model = build_dataflow_step_lookup[name](model, self.config)
        except (FINNError, ValueError, RuntimeError, AssertionError) as e:
            raise Refused(f"FINN's {name} refused the network: {' '.join(str(e).split())[:300]}",
                          "change the layer it names, or quantise it as the other layers are") from e
        self.seconds[name] = round(time.monotonic() - before, 3)
        return model

    def run(self) -> dict[str, Any]:
        model, copies, floors = self._opened()
        say("streamlining")
        before = time.monotonic()
        model = streamline(self._step("step_tidy_up", self._step("step_qonnx_to_finn", model)))
        self.seconds["streamline"] = round(time.monotonic() - before, 3)
        model.save(str(self.build / "streamlined.onnx"))
        say("executing the streamlined network")
        checks = {"streamlined": execution.compared(
            execution.outputs(model, self.inputs), self.wanted)}
        say("converting to hardware layers")
        model = self._step("step_minimize_bit_width_initial", self._step("step_convert_to_hw", model))
        self._all_hardware(model)
        say("executing the hardware layers")
        got = execution.outputs(model, self.inputs)
        checks["hardware"] = execution.compared(got, self.wanted)
        if self.half_up is not None:
            checks["half_up"] = execution.compared(got, self.half_up)
        outside = [n.op_type for n in model.graph.node if not n.domain.startswith(HARDWARE)]
        model = self._step("step_specialize_layers", self._step("step_create_dataflow_partition", model))
        steps = None
        if self.spec["rolled"]:
            say("rolling the steps")
            model, steps = rolling.roll(model)
        model = self._step("step_minimize_bit_width", model)
        chosen = self._folded(model)
        model = self._step("step_minimize_bit_width", chosen.model)
        say("estimating")
        model = self._step("step_generate_estimate_reports", self._step("step_transpose_decomposition", model))
        rows = layers(model, self.spec["part"])
        self._write_folding(rows)
        say("generating code")
        model = self._step("step_hw_codegen", model)
        files = codegen.gather(model, self.build, Path(finn.__file__).parent, version("finn-plus"))
        return {"layers": rows, "used": totals(rows), "bottleneck": chosen.bottleneck, "max_cycles": chosen.cycles,
                "performance": self._performance(chosen), "checks": checks, "copies": copies, "floors": floors,
                "steps": steps, "outside": outside, "codegen": files,
                "external": codegen.external(self.build, files), "reports": self._reports(),
                "seconds": self.seconds,
                "versions": {name: version(name) for name in ("finn-plus", "qonnx", "onnx", "numpy")}}

    def _opened(self) -> tuple[ModelWrapper, int, int]:
        model, copies = unshare(plain_biases(sums_as_averages(ModelWrapper(self.spec["model"]))))
        model, floors = floors_as_rounds(model)
        return model.transform(GiveUniqueNodeNames()), copies, floors

    def _all_hardware(self, model: ModelWrapper) -> None:
        """Only a transposition to FINN's layout may stay outside, in front or behind."""
        left = [n for n in model.graph.node if not n.domain.startswith(HARDWARE) and n.op_type != "Transpose"]
        if left:
            kinds = ", ".join(f"{k} ({n}x)" for k, n in sorted(Counter(n.op_type for n in left).items()))
            raise Refused(f"FINN has no hardware layer for {left[0].op_type} (node {left[0].name}); left over in "
                          f"all: {kinds}", "take it out of the network, or quantise its inputs and its output")

    def _folded(self, model: ModelWrapper) -> folding.Folded:
        fps = self.spec["target_fps"]
        before = time.monotonic()
        target = None if fps is None else max(1, int(self.spec["clock_hz"] / fps))
        chosen = folding.choose(model, self.spec["part"], self.spec["limits"], target)
        if wrong := folding.illegal(chosen.model):
            raise Refused(f"FINN chose an impossible folding: {'; '.join(wrong)}", "ask for another fps")
        self.seconds["folding"] = round(time.monotonic() - before, 3)
        return chosen

    def _write_folding(self, rows: list[dict[str, Any]]) -> None:
        """The folding as FINN's own folding_config_file takes it."""
        config: dict[str, Any] = {"Defaults": {}, **{r["name"]: r["folding"] for r in rows}}
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (self.config.get_report_directory() / "folding_config.json").write_text(text)

    def _performance(self, chosen: folding.Folded) -> dict[str, Any]:
        """FINN's own report with its own keys; a rolled network has none, so no latencies."""
        path = self.config.get_report_directory() / "estimate_network_performance.json"
        if path.is_file():
            report: dict[str, Any] = json.loads(path.read_text())
            return report
        return {"max_cycles": chosen.cycles, "max_cycles_node_name": chosen.bottleneck,
                "estimated_throughput_fps": self.spec["clock_hz"] / chosen.cycles}

    def _reports(self) -> list[str]:
        folder = self.config.get_report_directory()
        return sorted(str(p.relative_to(self.build)) for p in folder.glob("*.json"))
