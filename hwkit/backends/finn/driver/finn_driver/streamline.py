"""Scales and shifts moved into thresholds, so that only integers flow between layers.

FINN's own streamlining stops at a residual addition: scales and transpositions in front of a fork or an
addition stay there. They are moved past both until nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from finn.transformation.fpgadataflow.convert_to_hw.global_acc_pool import InferGlobalAccPoolLayer
from finn.transformation.streamline import absorb, collapse_repeated, reorder, sign_to_thres
from finn.transformation.streamline.round_thresholds import RoundAndClipThresholds
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.base import Transformation
from qonnx.transformation.batchnorm_to_affine import BatchNormToAffine
from qonnx.transformation.bipolar_to_xnor import ConvertBipolarMatMulToXnorPopcount
from qonnx.transformation.general import (
    ConvertDivToMul,
    ConvertSubToAdd,
    GiveReadableTensorNames,
    GiveUniqueNodeNames,
    RemoveUnusedTensors,
    SortGraph,
)
from qonnx.transformation.infer_data_layouts import InferDataLayouts
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
from qonnx.transformation.remove import RemoveIdentityOps

from .joins import integer_joins

Kinds = Sequence[type[Transformation]]

ROUNDS = 48
# FINN's own list and order (finn.transformation.streamline.Streamline)
LINEAR: Kinds = (
    ConvertSubToAdd, ConvertDivToMul, BatchNormToAffine, sign_to_thres.ConvertSignToThres,
    reorder.MoveMulPastMaxPool, absorb.AbsorbScalarBiasIntoMultiThreshold, reorder.MoveScalesPastIm2Col,
    reorder.MoveScalarLinearPastInvariants, reorder.MoveAddPastMul, reorder.MoveScalarAddPastMatMul,
    reorder.MoveAddPastConv, reorder.MoveScalarMulPastMatMul, reorder.MoveScalarMulPastConv,
    reorder.MoveAddPastMul, collapse_repeated.CollapseRepeatedAdd, collapse_repeated.CollapseRepeatedMul,
    reorder.MoveMulPastMaxPool, absorb.AbsorbAddIntoMultiThreshold, absorb.FactorOutMulSignMagnitude,
    absorb.AbsorbMulIntoMultiThreshold,
    absorb.Absorb1BitMulIntoMatMul, absorb.Absorb1BitMulIntoConv)
RESIDUAL: Kinds = (
    absorb.AbsorbTransposeIntoMultiThreshold, reorder.MoveTransposePastFork, reorder.MoveTransposePastScalarMul,
    reorder.MoveTransposePastJoinAdd, reorder.MakeMaxPoolNHWC, absorb.AbsorbConsecutiveTransposes,
    reorder.MoveLinearPastFork, reorder.MoveScalarLinearPastFork, reorder.MoveScalesPastIm2Col,
    reorder.MoveLinearPastEltwiseAdd, reorder.MoveMulPastJoinAdd, reorder.MoveScalarLinearPastInvariants,
    reorder.MoveTransposePastEltwise)
TIDY: Kinds = (RemoveIdentityOps, SortGraph, InferDataTypes, InferDataLayouts)
NAMES: Kinds = (GiveUniqueNodeNames, GiveReadableTensorNames)


def _state(model: ModelWrapper) -> bytes:
    state: bytes = model.model.SerializeToString(deterministic=True)
    return state


def _applied(model: ModelWrapper, kinds: Kinds) -> ModelWrapper:
    """Each in turn; order, datatypes and layouts are brought up to date only after one that did something."""
    for kind in kinds:
        before = _state(model)
        model = model.transform(kind(), make_deepcopy=False, cleanup=False)
        if _state(model) != before:
            for tidy in TIDY:
                model = model.transform(tidy(), make_deepcopy=False, cleanup=False)
    return model


def streamline(model: ModelWrapper) -> ModelWrapper:
    """A model whose scales are in thresholds, in front of the first and behind the last layer."""
    for tidy in (*TIDY, *NAMES):
        model = model.transform(tidy())
    model = _applied(model, (absorb.AbsorbScalarBiasIntoMultiThreshold, *LINEAR))
    model = _applied(model, (LowerConvsToMatMul, reorder.MakeMaxPoolNHWC))
    for _ in range(ROUNDS):
        before = _state(model)
        model = _applied(model, (*RESIDUAL, *LINEAR, *NAMES))
        if _state(model) == before:
            break
        model.cleanup()
    if model.get_nodes_by_op_type("GlobalAveragePool"):      # an exact sum, and a scale that moves on
        model = _applied(model, (InferGlobalAccPoolLayer, reorder.MoveTransposePastScalarMul, *LINEAR))
    model = _applied(model, (ConvertBipolarMatMulToXnorPopcount, *LINEAR, absorb.AbsorbScalarMulAddIntoTopK,
                             *NAMES))
    model, _ = integer_joins(model)
    return _applied(model.transform(InferDataTypes()), (RoundAndClipThresholds, *NAMES, RemoveUnusedTensors))
