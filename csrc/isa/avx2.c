#include "../simd/avx2.h"

#include "../table.h"

const nnp_kernels nnp_kernels__avx2 = NNP_TABLE;
