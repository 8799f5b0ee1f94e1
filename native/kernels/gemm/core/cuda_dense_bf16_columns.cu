// Dense bf16 operands, A with columns along k: four kernels (tile_mma.cuh).
#include "kernels/gemm/core/tile_launch.cuh"

namespace eq::tile {
EQ_DENSE_PROBLEM(, bf16, false, true)
EQ_DENSE_PROBLEM(, bf16, false, false)
}  // namespace eq::tile
