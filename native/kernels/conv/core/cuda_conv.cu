// The tile kernels on convolution operands: forward and image gradient in bf16 and f32.
#include "kernels/conv/core/patches.cuh"
#include "kernels/gemm/core/tile_launch.cuh"

namespace eq::tile {

template <class T>
using Forward = Problem<Patches<T, true>, Dense<T, false>>;
template <class T>
using GradInput = Problem<Patches<T, true>, TapRows<T>>;

template void launch_problem(Device&, const OpInfo&, Forward<bf16>);
template void launch_problem(Device&, const OpInfo&, Forward<float>);
template void launch_problem(Device&, const OpInfo&, GradInput<bf16>);
template void launch_problem(Device&, const OpInfo&, GradInput<float>);

}  // namespace eq::tile
