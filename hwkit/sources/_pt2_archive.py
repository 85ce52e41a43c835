"""Make a .pt2 archive safe to load: read it as data, refuse what torch.export.load would run, write it anew.

What torch 2.13's loader runs, and what is done about it here:

    pickles: sample inputs, legacy weights, opaque constants     never read; sample inputs are written anew
    compiled code (data/aotinductor)                             never read
    node targets: any dotted name under torch, e.g. torch.os.system   aten operators only, resolved and checked
    file names given to operators (aten.from_file, aten.save)    refused; strings must be operators' own words
    names of tensors, which become Python source                 plain identifiers only
    guards (Python source), shape expressions (sympy's eval)     guards dropped, symbolic shapes refused
    tree specs (may import modules)                              tuples, lists and dicts only
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch._export.serde.schema import ScalarType
from torch.export.pt2_archive import PT2ArchiveWriter

from hwkit.errors import BadModel
from hwkit.sources._child import reading
from hwkit.sources._sniff import EXPORT_HINT

MODEL = "models/model.json"
# Words that operators take, e.g. gelu's approximate="tanh".
WORDS = {"none", "tanh", "same", "valid", "floor", "trunc", "constant", "reflect", "replicate", "circular", "mean",
         "sum", "max", "min", "amax", "amin", "prod", "bilinear", "nearest", "bicubic", "linear", "right", "left"}
ARGUMENTS = {"as_none", "as_tensor", "as_tensors", "as_int", "as_ints", "as_float", "as_floats", "as_string",
             "as_bool", "as_bools", "as_scalar_type", "as_memory_format", "as_layout", "as_device",
             "as_optional_tensors"}
TREES = {"builtins.tuple", "builtins.list", "builtins.dict", None}
_TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
_PLAIN = re.compile(r"[\w.+:-]*", re.ASCII)
_DUNDER = re.compile(r"(^|\.)__\w+__($|\.)", re.ASCII)
_FILE_OPERATORS = {"from_file", "save"}


def clean_copy(path: Path, what: str) -> tuple[bytes, tuple[int, ...]]:
    """A new archive of what is sound in the archive `path`, and the shape of one sample, without batch.

    Raises BadModel when the archive is damaged, holds code, or takes and gives other than is deployed here.
    """
    records = _records(path, what)
    with reading(what):
        program = json.loads(records[MODEL])
        configs = {name: json.loads(records[name]) for name in
                   ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")}
        shape = _clean_program(program, what)
        tensors = {f"{Path(name).parent}/{file}": b"" for name, config in configs.items()
                   for file in _tensor_files(config, what)}
        tensors = {name: records[name] for name in tensors}
    sample = io.BytesIO()
    torch.save(((torch.zeros(1, *shape),), {}), sample)
    copy = io.BytesIO()
    with PT2ArchiveWriter(copy) as archive:
        archive.write_string("byteorder", "little")
        archive.write_string(MODEL, json.dumps(program))
        archive.write_bytes("data/sample_inputs/model.pt", sample.getvalue())
        for name, config in configs.items():
            archive.write_string(name, json.dumps(config))
        for name, data in tensors.items():
            archive.write_bytes(name, data)
    return copy.getvalue(), shape


def _records(path: Path, what: str) -> dict[str, bytes]:
    """Contents of the archive by name, without its root folder; pickles and compiled code are not read."""
    with reading(what), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = next(name.removesuffix("archive_format") for name in names if name.endswith("archive_format"))
        known = {name.removeprefix(root): name for name in names}
        models = [name for name in known if name.startswith("models/")]
        if any(name.startswith("data/aotinductor/") for name in known):
            raise BadModel(f"{what} holds compiled code (AOTInductor), which is never loaded", EXPORT_HINT)
        if models != [MODEL]:
            raise BadModel(f"{what} holds {len(models)} programs ({', '.join(models):.80}); one is deployed, "
                           "named 'model'", EXPORT_HINT)
        if archive.read(known["archive_version"]) != b"0" or archive.read(known["byteorder"]) != b"little":
            raise BadModel(f"{what} was written in another version or byte order of the format", EXPORT_HINT)
        wanted = re.compile(r"models/model\.json|"
                            r"data/(weights|constants)/(model_\w+_config\.json|(weight|tensor)_\w+)")
        return {name: archive.read(full) for name, full in known.items() if wanted.fullmatch(name)}


def _clean_program(program: dict[str, Any], what: str) -> tuple[int, ...]:
    """Check the program and drop, in place, what is not needed to run it. Gives the shape of one sample."""
    graph_module = program["graph_module"]
    graph = graph_module["graph"]
    program["guards_code"] = []
    graph_module["metadata"] = {}
    symbolic = [key for key in ("sym_int_values", "sym_bool_values", "sym_float_values") if graph.get(key)]
    if symbolic or program["range_constraints"]:
        raise BadModel(f"{what} was exported with dynamic shapes",
                       "export it again without dynamic_shapes, batch 1")
    for node in graph["nodes"]:
        node["metadata"] = {}
        _check_node(node, what)
    for entry in graph_module["module_call_graph"]:
        if entry["signature"] is not None:
            for key in ("in_spec", "out_spec"):
                _check_tree(json.loads(entry["signature"][key])[1], what)
    _check_strings({**program, "graph_module": {**graph_module, "module_call_graph": [
        {**entry, "signature": None} for entry in graph_module["module_call_graph"]]}}, what)
    return _input_shape(graph_module, what)


def _check_node(node: dict[str, Any], what: str) -> None:
    target = node["target"]
    if target != "_operator.getitem":
        match = _TARGET.fullmatch(target)
        packet = getattr(torch.ops.aten, match[1], None) if match else None
        overload = getattr(packet, match[2], None) if match else None
        if not isinstance(overload, torch._ops.OpOverload) or overload._opname in _FILE_OPERATORS:
            raise BadModel(f"{what}: the operator {target!r:.80} (node {node.get('name')!r:.40}) is not a plain "
                           "tensor operator of ATen", "export a float network made of torch's own layers, "
                           "with no custom operators and no control flow")
    for given in node["inputs"]:
        (kind, value), = given["arg"].items()
        if kind not in ARGUMENTS:
            raise BadModel(f"{what}: {target} takes an argument of kind {kind!r:.40}", EXPORT_HINT)
        if kind == "as_string" and value not in WORDS:
            raise BadModel(f"{what}: {target} takes the text {value!r:.40}", EXPORT_HINT)
        if given["name"] in ("training", "train") and value is True:
            raise BadModel(f"{what} was exported in training mode ({target} with {given['name']}=True)",
                           "call network.eval() before torch.export.export")


def _check_tree(tree: dict[str, Any], what: str) -> None:
    if tree["type"] not in TREES:
        raise BadModel(f"{what} takes or gives a {tree['type']!r:.60}",
                       "let forward take a tensor and return a tensor")
    for child in tree["children_spec"]:
        _check_tree(child, what)


def _check_strings(value: Any, what: str) -> None:
    """Names become Python source when torch rebuilds the graph: only plain ones may."""
    match value:
        case dict():
            for key, inner in value.items():
                _check_strings(key, what)
                _check_strings(inner, what)
        case list():
            for inner in value:
                _check_strings(inner, what)
        case str() if not _PLAIN.fullmatch(value) or _DUNDER.search(value):
            raise BadModel(f"{what}: {value!r:.60} is not a plain name",
                           "name modules with letters, digits, '_' and '-' only, and export again")


def _tensor_files(config: dict[str, Any], what: str) -> list[str]:
    """Names of the raw files that weights or constants are in. Raises BadModel for pickled ones."""
    _check_strings(config, what)
    for name, meta in config["config"].items():
        if meta["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\w+", meta["path_name"], re.ASCII):
            raise BadModel(f"{what}: {name} is stored as a Python pickle, which is never opened",
                           "export plain tensors only: no custom objects, no tensor subclasses")
    return sorted({meta["path_name"] for meta in config["config"].values()})


def _input_shape(graph_module: dict[str, Any], what: str) -> tuple[int, ...]:
    inputs = [spec for spec in graph_module["signature"]["input_specs"] if "user_input" in spec]
    if len(inputs) != 1 or any("constant_input" in spec for spec in graph_module["signature"]["input_specs"]):
        raise BadModel(f"{what} takes {len(inputs)} inputs, and what is deployed here takes one",
                       "wrap the network in a module that takes one tensor, and export that")
    meta = graph_module["graph"]["tensor_values"][inputs[0]["user_input"]["arg"]["as_tensor"]["name"]]
    sizes = tuple(int(size["as_int"]) for size in meta["sizes"])
    if meta["dtype"] != ScalarType.FLOAT:
        raise BadModel(f"{what} takes {ScalarType(meta['dtype']).name.lower()} inputs, and what is deployed here "
                       "takes float32", "wrap the network in a module that takes float32, and export that")
    if len(sizes) < 2 or sizes[0] != 1:
        raise BadModel(f"{what} takes an input of shape {sizes}; what is deployed here takes one sample, (1, ...)",
                       "export it again with an example input of batch 1")
    return sizes[1:]
