"""Full int8: calibrate a chain of stages on real inputs, and give neighbouring stages one scale.

A stage's output is the next one's input, and an ODE step's output is its own input N times over. Their
tensors get the same range, so that the int8 values are handed on as they are, with no requantisation.
Operators that move values without changing them (reshape, pooling, concatenation ...) tie their input
and output to one scale: such tensors join the range of the border they touch.

Imports the quantiser: for the conversion job only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
from ai_edge_quantizer.algorithms.utils.common_utils import OpQuantConstraint
from ai_edge_quantizer.utils import qsv_utils
from ai_edge_quantizer.utils.constrained_ops_utils import get_constrained_op_list
from numpy.typing import NDArray

from hwkit.backends.tflite import flat
from hwkit.backends.tflite.chain import Part
from hwkit.backends.tflite.litert import quiet
from hwkit.backends.tflite.slim import slim
from hwkit.errors import BadModel

Ranges = dict[str, Any]     # tensor name -> {"min": array, "max": array}
Tensor = tuple[int, str]    # (stage, tensor name)


def quantize(chain: Sequence[Part], inputs: NDArray[np.float32], each: Callable[[int], None]) -> list[bytes]:
    """int8 forms of the stages of one network.

    inputs   (n, *shape) as the first stage takes one, without batch
    each     called with the number of inputs seen so far
    Raises BadModel when no single scale can be found for a border.
    """
    models = [flat.read(link.content) for link in chain]
    ranges = _calibrate(chain, inputs, each)
    for group in _groups(chain, models):
        known = [ranges[stage][name] for stage, name in group if name in ranges[stage]]
        low, high = min(float(np.min(q["min"])) for q in known), max(float(np.max(q["max"])) for q in known)
        for stage, name in group:
            ranges[stage][name] = {"min": np.array(low), "max": np.array(high)}
    for model, found in zip(models, ranges, strict=True):
        _give_rank(model, found)
    made = []
    for link, found in zip(chain, ranges, strict=True):
        with quiet():
            result = quantizer.Quantizer(link.content, recipe.static_wi8_ai8()).quantize(
                found, enable_progress_report=False)
        made.append(slim(bytes(result.quantized_model)))
    _check_borders(chain, [flat.read(content) for content in made])
    return made


def _calibrate(chain: Sequence[Part], inputs: NDArray[np.float32], each: Callable[[int], None]) -> list[Ranges]:
    """Smallest and largest value of every tensor of every stage, over all inputs and all repeats."""
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    with quiet():
        watchers = [calibrator.Calibrator(link.content, num_threads=1,
                                          mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
                                          qsv_update_func=qsv_utils.min_max_update) for link in chain]
    for number, one in enumerate(inputs, start=1):
        value = one[None]
        with quiet():
            for link, watcher in zip(chain, watchers, strict=True):
                for k in range(link.repeat):
                    value = _watched(watcher, manager, value, None if link.times is None else link.times[k])
        each(number)
    return [watcher.get_model_qsvs() for watcher in watchers]


def _give_rank(model: Any, ranges: Ranges) -> None:
    """The quantiser wants each range as an array with as many dimensions as its tensor."""
    for tensor in model.subgraphs[0].tensors:
        if tensor.name.decode() in ranges:
            one = (1,) * len(flat.shape(tensor))
            ranges[tensor.name.decode()] = {
                end: np.reshape(value, one) for end, value in ranges[tensor.name.decode()].items()}


def _watched(watcher: Any, manager: Any, value: NDArray[np.float32], time: float | None) -> NDArray[np.float32]:
    key, signature = next(iter(watcher.get_signature_list().items()))
    given = dict(zip(sorted(signature["inputs"]), _inputs(value, time), strict=True))
    watcher.calibrate({key: [given]}, manager, cache_output=True)
    output: NDArray[np.float32] = watcher.get_cached_output()[0][signature["outputs"][0]]
    watcher.clear_cached_output()
    return output


def _inputs(value: NDArray[np.float32], time: float | None) -> list[NDArray[np.float32]]:
    return [value] if time is None else [value, np.array([time], np.float32)]


def _groups(chain: Sequence[Part], models: Sequence[Any]) -> Iterator[list[Tensor]]:
    """Sets of tensors that must share one range because a border between stages ties them."""
    parent: dict[Tensor, Tensor] = {}

    def root(tensor: Tensor) -> Tensor:
        while parent.setdefault(tensor, tensor) != tensor:
            tensor = parent[tensor]
        return tensor

    def join(a: Tensor, b: Tensor) -> None:
        parent[root(a)] = root(b)

    borders: list[Tensor] = []
    for stage, (link, model) in enumerate(zip(chain, models, strict=True)):
        graph = model.subgraphs[0]
        names = [tensor.name.decode() for tensor in graph.tensors]
        first, last = (stage, names[graph.inputs[0]]), (stage, names[graph.outputs[0]])
        if link.repeat > 1:
            join(first, last)
            borders.append(first)
        if stage > 0:
            previous = models[stage - 1].subgraphs[0]
            before = (stage - 1, previous.tensors[previous.outputs[0]].name.decode())
            join(before, first)
            borders.append(first)
        for a, b in _tied(model):
            join((stage, names[a]), (stage, names[b]))
    members: dict[Tensor, list[Tensor]] = {}
    for tensor in list(parent):
        members.setdefault(root(tensor), []).append(tensor)
    for key in dict.fromkeys(root(border) for border in borders):
        yield members[key]


def _tied(model: Any) -> Iterator[tuple[int, int]]:
    """Pairs of tensors that an operator forces to have one scale."""
    tying = {str(name.value) for constraint in (OpQuantConstraint.SAME_AS_INPUT_SCALE,
                                                OpQuantConstraint.SAME_AS_OUTPUT_SCALE)
             for name in get_constrained_op_list(constraint)}
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if flat.operator_name(model, operator) in tying:
            for source in flat.inputs(operator):
                tensor = graph.tensors[source]
                if not flat.is_constant(model, tensor) and flat.datatype(tensor) == "FLOAT32":
                    for target in flat.outputs(operator):
                        yield source, target


def _check_borders(chain: Sequence[Part], models: Sequence[Any]) -> None:
    def scale(stage: int, output: bool) -> tuple[float, int]:
        graph = models[stage].subgraphs[0]
        found = graph.tensors[(graph.outputs if output else graph.inputs)[0]].quantization
        if found is None or found.scale is None or len(found.scale) != 1:
            raise BadModel(f"stage {stage} has no int8 {'output' if output else 'input'}",
                           "use ode=unrolled, or precision=f32")
        return float(found.scale[0]), int(found.zeroPoint[0])

    for stage, link in enumerate(chain):
        if link.repeat > 1 and scale(stage, True) != scale(stage, False):
            raise BadModel(f"stage {stage}, run {link.repeat} times, cannot be given one int8 scale for its input "
                           "and its output", "use ode=unrolled, or precision=f32")
        if stage and scale(stage - 1, True) != scale(stage, False):
            raise BadModel(f"stages {stage - 1} and {stage} cannot be given one int8 scale for the values between "
                           "them", "use ode=unrolled, or precision=f32")
