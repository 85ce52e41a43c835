"""The planned working memory against the addresses that the runtime gives its tensors."""

from __future__ import annotations

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from hwkit.backends._arena import Block, arena, planned_bytes
from hwkit.backends.tflite import flat
from hwkit.backends.tflite.lifetimes import blocks
from hwkit.model import Model
from tests.backends.tflite.conftest import Builds


def test_plan_of_a_chain_needs_two_neighbours() -> None:
    chain = [Block(640, -1, 0), Block(1280, 0, 1), Block(640, 1, 2), Block(1280, 2, 3)]
    assert planned_bytes(chain) == 1280 + 640


def test_a_block_goes_into_the_first_gap_that_holds_it() -> None:
    long, early, late = Block(1000, 0, 9), Block(900, 0, 3), Block(800, 5, 9)
    assert planned_bytes([long, early, late]) == 1900


def test_nothing_needs_nothing() -> None:
    assert planned_bytes([]) == 0


def test_plan_is_near_the_runtimes_own(builds: Builds, ode_model: Model) -> None:
    """Its built-in kernels add scratch tensors, so that it may need more, and never much less."""
    built, folder = builds(ode_model, precision="f32", ode="unrolled")
    path = folder / built.stages[0].file
    model = flat.read(path.read_bytes())
    own_kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    runtime = Interpreter(str(path), experimental_op_resolver_type=own_kernels)
    runtime.allocate_tensors()
    spans = []
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if not flat.is_constant(model, tensor):
            start = runtime.tensor(index)().__array_interface__["data"][0]
            spans.append((start, start + flat.tensor_bytes(tensor)))
    extent = max(end for _, end in spans) - min(start for start, _ in spans)
    assert 0.95 <= extent / planned_bytes(blocks(model)) <= 1.5


def test_stages_keep_their_own(builds: Builds, ode_model: Model) -> None:
    built, folder = builds(ode_model, precision="int8", ode="stepped")
    models = [flat.read((folder / s.file).read_bytes()) for s in built.stages]
    found = arena([blocks(m) for m in models])
    assert found.value == sum(planned_bytes(blocks(m)) for m in models)
    assert found.kind == "estimated"
    assert (found.low or 0) <= found.value <= (found.high or 0)
