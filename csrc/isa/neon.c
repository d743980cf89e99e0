#include "../simd/neon.h"

#include "../table.h"

const nnp_kernels nnp_kernels__neon = NNP_TABLE;
