#include "../simd/avx512.h"

#include "../table.h"

const nnp_kernels nnp_kernels__avx512 = NNP_TABLE;
