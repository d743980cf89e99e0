#include "../simd/scalar.h"

#include "../table.h"

const nnp_kernels nnp_kernels__scalar = NNP_TABLE;
