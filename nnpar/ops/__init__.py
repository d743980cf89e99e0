"""Checked functions on NumPy arrays: each makes one step and runs it.

Arguments may have any strides and any real dtype: what is not float32 of native byte order, or not in the memory
layout that the kernels read, is copied once. Image batches have shape (N, C, H, W) and come back as such, as views of
channels-last memory. ``out=`` receives the result and is returned; it must not overlap an input. A batch of 0 images
gives an empty result, or a gradient of zeros.

NaN and infinity propagate to every result that they take part in; whether a product with the zeros of a padding takes
part is left open. Winograd's convolution (see :func:`nnpar.convolution.choose`) carries them to all 4x4 outputs of a
tile, and to all taps of a filter's gradient. Float64 beyond the range of float32 becomes infinite. Denormal numbers
count as zero.

Each function has a twin of the same name and arguments, but for `algorithm`, in :mod:`nnpar.reference`.
"""

from nnpar.ops.batch_norm import (
    batch_norm2d,
    batch_norm2d_grad,
    batch_norm2d_inference,
    batch_norm2d_normalize,
    batch_norm2d_statistics,
)
from nnpar.ops.convolution import bias_grad, conv2d, conv2d_input_grad, conv2d_weight_grad
from nnpar.ops.elementwise import dropout, relu, relu_grad
from nnpar.ops.losses import mse, softmax, softmax_cross_entropy
from nnpar.ops.matmul import gemm, linear
from nnpar.ops.pooling import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad, upsample2d, upsample2d_grad

__all__ = [
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm2d",
    "batch_norm2d_grad",
    "batch_norm2d_inference",
    "batch_norm2d_normalize",
    "batch_norm2d_statistics",
    "bias_grad",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "dropout",
    "gemm",
    "linear",
    "max_pool2d",
    "max_pool2d_grad",
    "mse",
    "relu",
    "relu_grad",
    "softmax",
    "softmax_cross_entropy",
    "upsample2d",
    "upsample2d_grad",
]
