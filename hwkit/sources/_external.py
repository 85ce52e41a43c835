"""Tensors of an ONNX file whose data lie in a file beside it."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto

from hwkit.errors import BadModel


def check_external(tensor: TensorProto, folder: Path, what: str) -> None:
    """Raises BadModel when a tensor's data lie in a file outside the model's folder, or in none."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    place = (folder / location).resolve()
    if not place.is_relative_to(folder.resolve()):
        raise BadModel(f"{what}: {tensor.name} names data outside the model's folder: {location!r:.80}",
                       "keep a model's data beside it")
    if not place.is_file():
        raise BadModel(f"{what}: the file {location!r:.80}, which holds {tensor.name}, is missing",
                       f"copy it into {folder}")
