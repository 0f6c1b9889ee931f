"""PyTorch's threads and matrix product, and pointers and vectors, for functions that Numba compiles."""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""The number of floats in a vector: they fill two registers of AVX2, or one of AVX-512."""

_LIBRARY = ctypes.CDLL(torch._C.__file__)
_SYMBOLS = (
    *("GOMP_parallel", "GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads"),
    *("sgemm_", "MKL_Set_Num_Threads_Local"),
)
AVAILABLE = all(hasattr(_LIBRARY, name) for name in _SYMBOLS)
"""Whether this PyTorch comes with all of these functions, as it does on Linux for x86-64."""

# Compiled code finds external functions by these names.
for _name in _SYMBOLS if AVAILABLE else ():
    llvmlite.binding.add_symbol(_name, ctypes.cast(getattr(_LIBRARY, _name), ctypes.c_void_p).value)

# Numba's own functions have no types.
_code: Any = cgutils
_pointer: Any = types.CPointer
_text, _integer, _number = _pointer(types.uint8), _pointer(types.int32), _pointer(types.float32)

multiply: Any = types.ExternalFunction(
    "sgemm_",
    types.void(
        *(_text, _text, _integer, _integer, _integer),
        *(_number, _number, _integer, _number, _integer, _number, _number, _integer),
    ),
)
"""BLAS's product of two matrices of floats."""

limit_threads: Any = types.ExternalFunction("MKL_Set_Num_Threads_Local", types.int32(types.int32))
"""MKL's setter of the number of threads for products that the calling thread begins; it returns the number before."""

thread_index: Any = types.ExternalFunction("omp_get_thread_num", types.int32())
"""OpenMP's index of the calling thread among those of `run_in_threads`."""

thread_count: Any = types.ExternalFunction("omp_get_num_threads", types.int32())
"""OpenMP's number of these threads."""

wait_for_all: Any = types.ExternalFunction("GOMP_barrier", types.void())
"""OpenMP's barrier, at which each of these threads waits for all others."""


def run_in_threads(address: int, argument: int) -> None:
    """Call a function in each of PyTorch's own threads at once.

    Other threads would compete with PyTorch's, which keep spinning for a while after each layer.

    Args:
        address: Address of the function, which takes one pointer.
        argument: The pointer.
    """
    _LIBRARY.GOMP_parallel(ctypes.c_void_p(address), ctypes.c_void_p(argument), torch.get_num_threads(), 0)


def _pointer_to(kind: Any) -> Any:
    """Create a function for compiled code that turns an address, an integer, into a pointer."""

    @intrinsic
    def pointer(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return _pointer(kind)(address), generate

    return pointer


floats_at, indices_at = _pointer_to(types.float32), _pointer_to(types.int64)


def _copy_lanes(_: Any, source: Any, at: Any, target: Any, to: Any) -> Any:
    """Copy `LANES` neighbouring floats, from the index `at` of one array to the index `to` of another, as one vector.

    A loop would not be compiled to one vector, since the arrays might overlap.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointers = []
        for array, index in ((0, 1), (2, 3)):
            kind = signature.args[array]
            value = context.make_array(kind)(context, builder, arguments[array])
            indices = _code.unpack_tuple(builder, arguments[index])
            pointer = _code.get_item_pointer(context, builder, kind, value, indices)
            # Positions in arrays are aligned to single floats alone, not to vectors: hence `align=4` below.
            pointers.append(builder.bitcast(pointer, ir.VectorType(ir.FloatType(), LANES).as_pointer()))
        builder.store(builder.load(pointers[0], align=4), pointers[1], align=4)
        return context.get_dummy_value()

    return types.void(source, at, target, to), generate


copy_lanes: Any = intrinsic(_copy_lanes)
