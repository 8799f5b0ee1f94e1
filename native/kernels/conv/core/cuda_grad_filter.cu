// The tile kernels on the operands of the filter gradient.
#include "kernels/conv/core/patches.cuh"
#include "kernels/gemm/core/tile_launch.cuh"

namespace eq::tile {

template <class T>
using GradFilter = Problem<Patches<T, false>, Dense<T, false>>;

template void launch_problem(Device&, const OpInfo&, GradFilter<bf16>);
template void launch_problem(Device&, const OpInfo&, GradFilter<float>);

}  // namespace eq::tile
