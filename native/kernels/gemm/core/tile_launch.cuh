// Queues a problem on the tile kernel that its shape calls for. Instantiated once per pair of loaders, in files of
// their own (cuda_*.cu), to keep compile times short.
#pragma once

#include <type_traits>

#include "kernels/gemm/core/tile_ffma.cuh"
#include "kernels/gemm/core/tile_gemm.h"
#include "kernels/gemm/core/tile_mma.cuh"

namespace eq::tile {

/// Fills in the grid and runs the kernel; parts of k go through f32 memory of their own.
template <class LoadA, class LoadB>
void launch_problem(Device& device, const OpInfo& info, Problem<LoadA, LoadB> p) {
  using T = typename LoadA::Element;
  constexpr bool kHalf = std::is_same_v<T, bf16>;
  std::int64_t layers = 1;
  for (int i = 0; i < p.batches.rank; ++i) layers *= p.batches.dims[i];
  const bool splittable = layers == 1 && p.low_rank.k == 0;
  const Tiling tiling =
      choose_tiling(device, info.name, {p.out.m, p.out.n, p.k, layers, kHalf, p.out.type == DType::F32, splittable});
  p.grid = tiling.grid;
  const Output result = p.out;
  Tensor partial;
  if (p.grid.parts) {
    partial = device.empty(DType::F32, Shape{std::int64_t{p.grid.layers}, p.out.m, p.out.n});
    p.out = Output{};
    p.out.c = partial.data();
    p.out.m = result.m;
    p.out.n = result.n;
    p.out.rows.pitch = result.n;
    p.out.vectors = result.n % 8 == 0;
  }
  const auto blocks = static_cast<unsigned>(p.grid.blocks());
  if constexpr (kHalf) {
    if (tiling.kind == Kind::LargeMma)
      launch_kernel(device, info, mma_kernel<LargeMma, LoadA, LoadB>,
                    Launch{blocks, 1, 1, LargeMma::kThreads, LargeMma::shared_bytes()}, p);
    else
      launch_kernel(device, info, mma_kernel<SmallMma, LoadA, LoadB>,
                    Launch{blocks, 1, 1, SmallMma::kThreads, SmallMma::shared_bytes()}, p);
  } else {
    launch_kernel(device, info, ffma_kernel<LoadA, LoadB>, Launch{blocks, 1, 1, Ffma::kThreads, Ffma::shared_bytes()},
                  p);
  }
  if (p.grid.parts) add_parts(device, info, partial.data<float>(), p.grid.layers, result);
}

template <class T, bool kAlongA, bool kAlongB>
using DenseProblem = Problem<Dense<T, kAlongA>, Dense<T, kAlongB>>;

#define EQ_DENSE_PROBLEM(extern_, T, along_a, along_b)                                               \
  extern_ template void launch_problem<Dense<T, along_a>, Dense<T, along_b>>(Device&, const OpInfo&, \
                                                                             DenseProblem<T, along_a, along_b>);

}  // namespace eq::tile
