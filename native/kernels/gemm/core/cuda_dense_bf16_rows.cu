// Dense bf16 operands, A with rows along k: four kernels (tile_mma.cuh).
#include "kernels/gemm/core/tile_launch.cuh"

namespace eq::tile {
EQ_DENSE_PROBLEM(, bf16, true, true)
EQ_DENSE_PROBLEM(, bf16, true, false)
}  // namespace eq::tile
