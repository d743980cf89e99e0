#include "../simd/sse2.h"

#include "../table.h"

const nnp_kernels nnp_kernels__sse2 = NNP_TABLE;
