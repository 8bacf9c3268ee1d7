"""Makes Triton's interpreter honest about bfloat16.

It keeps bf16 as uint16 and computes on those bits: `tl.dot` and arithmetic give garbage without a word (triton-lang/triton#11584). With
this imported, dots widen their operands, and any other arithmetic on bf16 is an error: a kernel casts to float32 right after a load.
Sums of dots over f16 and bf16 are f32, as the tensor cores' are. It also cuts f32 off to bf16; here that rounds to the nearest, as a GPU. And it calls the result of a comparison of floats a float, which `&` refuses
once it is spread over a block; here it is int1.
"""

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

BUILDER = interpreter.InterpreterBuilder
ALLOWED = ("where",)
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
CAST = BUILDER.cast_impl


def widened(handle):
    """The elements as f32 or wider."""
    if handle.dtype.scalar == tl.bfloat16:
        return (handle.data.astype(np.uint32) << 16).view(np.float32)
    return handle.data if handle.data.dtype == np.float64 else handle.data.astype(np.float32)


def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
    """d + a b, term by term: an element's bits are those of its own row and column, as a matrix library's are not."""
    left, right, sums = widened(a), widened(b), d.data.copy()
    for term in range(left.shape[-1]):
        sums += left[..., term : term + 1] * right[..., term : term + 1, :]
    return interpreter.TensorHandle(sums, d.dtype.scalar)


def rounded(values):
    """The bits of f32 values as bf16: the nearest, the even one of two; NaN stays NaN."""
    whole = values.view(np.uint32).astype(np.uint64)
    near = (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (whole >> 16) | 0x40, near).astype(np.uint16)


def cast_impl(self, src, dst_type):
    """A cast by value."""
    from_type, to_type = src.dtype.scalar, dst_type.scalar
    if (from_type, to_type) == (tl.float32, tl.bfloat16):
        return interpreter.TensorHandle(rounded(np.ascontiguousarray(src.data)), to_type)
    if (from_type, to_type) == (tl.bfloat16, tl.float32):
        return interpreter.TensorHandle(widened(src), to_type)
    if tl.bfloat16 in (from_type, to_type):
        raise TypeError(f"a cast from {from_type} to {to_type}: go by way of float32")
    return CAST(self, src, dst_type)


def guarded(name):
    """A method of the builder that refuses bf16 operands."""
    method = getattr(BUILDER, name)

    def call(self, *operands, **named):
        is_bf16 = any(isinstance(o, interpreter.TensorHandle) and o.dtype.scalar == tl.bfloat16 for o in operands)
        if is_bf16 and getattr(operands[-1], "__name__", "") not in ALLOWED:
            raise TypeError(f"{name} on bf16: cast to float32 after the load")
        result = method(self, *operands, **named)
        if getattr(operands[-1], "__name__", "") in COMPARISONS:
            return interpreter.TensorHandle(result.data.astype(np.bool_), tl.int1)
        return result

    return call


def install():
    """Once a process, before kernels run."""
    BUILDER.create_dot = create_dot
    BUILDER.cast_impl = cast_impl
    for name in ("binary_op", "unary_op", "ternary_op"):
        setattr(BUILDER, name, guarded(name))


install()
