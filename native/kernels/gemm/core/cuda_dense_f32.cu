// Dense f32 operands: four kernels (tile_ffma.cuh).
#include "kernels/gemm/core/tile_launch.cuh"

namespace eq::tile {
EQ_DENSE_PROBLEM(, float, true, true)
EQ_DENSE_PROBLEM(, float, true, false)
EQ_DENSE_PROBLEM(, float, false, true)
EQ_DENSE_PROBLEM(, float, false, false)
}  // namespace eq::tile
