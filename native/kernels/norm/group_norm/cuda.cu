// Group normalisation and its gradients: op.h. Three versions, the first that fits:
//
//   resident  (resident.cuh) slabs of whole groups in shared memory, on sm_90 spread over a cluster: x once in, y once
//             out (gradient: x and dy in, dx out), the floor. All of the UNet's sizes in bf16 on sm_90.
//   split     (split.cuh) three launches, inputs read twice: the VAE's large sizes, the largest of the UNet on sm_80;
//             and the gradients of the parameters, which read them once.
//   whole     (here) a block per group, element by element, x read three times: the plain version, for what is left:
//             many channels that are no multiple of a vector.
//
// FLOPs: 8 n, with SiLU about 25 n; backward 14 n and 60 n. Launch: resident 512 threads, up to 64 registers, the
// slab's bytes of shared memory; split 256 threads on blocks of about 16 K elements; whole 256 threads.
#include "kernels/norm/group_norm/resident.cuh"
#include "kernels/norm/group_norm/split.cuh"

#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256;

/// Adds up f(x, at, c) over a group: element `at` of x, in channel c.
template <class F>
__device__ double sum_group(const GroupNormArgs& a, std::int64_t sample, std::int64_t group, double* shared, F f) {
  const std::int64_t width = a.dims.channels / a.dims.groups;
  const std::int64_t rows_a_step = kThreads / width, columns_a_step = kThreads % width;
  std::int64_t row = threadIdx.x / width, column = threadIdx.x % width;
  double total = 0;
  while (row < a.dims.positions) {
    const std::int64_t c = group * width + column, at = (sample * a.dims.positions + row) * a.dims.channels + c;
    total += static_cast<double>(f(load_float(a.x, a.type, at), at, c));
    column += columns_a_step;
    row += rows_a_step + (column >= width);
    column -= column >= width ? width : 0;
  }
  return block_sum<kThreads>(total, shared);
}

__global__ void __launch_bounds__(kThreads) normalise_groups(GroupNormArgs a) {
  __shared__ double shared[kThreads / 32];
  const std::int64_t groups = a.dims.groups, width = a.dims.channels / groups;
  const std::int64_t sample = blockIdx.x / groups, group = blockIdx.x % groups;
  const auto count = static_cast<double>(max(std::int64_t{1}, a.dims.positions * width));
  const auto mean = static_cast<float>(
      sum_group(a, sample, group, shared, [](float x, std::int64_t, std::int64_t) { return x; }) / count);
  const double squares = sum_group(a, sample, group, shared,
                                   [mean](float x, std::int64_t, std::int64_t) { return (x - mean) * (x - mean); });
  const auto rstd = static_cast<float>(1 / sqrt(squares / count + static_cast<double>(a.epsilon)));
  if (threadIdx.x == 0) {
    a.mean[blockIdx.x] = mean;
    a.rstd[blockIdx.x] = rstd;
  }
  sum_group(a, sample, group, shared, [&a, mean, rstd](float x, std::int64_t at, std::int64_t c) {
    const float y = (x - mean) * (rstd * a.gamma[c]) + a.beta[c];
    store_float(a.y, a.type, at, a.dims.silu ? swish(y, 1.0f) : y);
    return 0.0f;
  });
}

/// The kernel of a family {1, 2, 4, 8 blocks to a cluster} that a plan asks for.
template <class Kernel>
Kernel for_cluster(const group_norm_resident::Plan& plan, Kernel one, [[maybe_unused]] Kernel two,
                   [[maybe_unused]] Kernel four, [[maybe_unused]] Kernel eight) {
  return plan.cluster == 8 ? eight : plan.cluster == 4 ? four : plan.cluster == 2 ? two : one;
}

Launch resident_launch(const GroupNormDims& d, const group_norm_resident::Plan& plan) {
  return {.grid_x = static_cast<unsigned>(d.samples) * plan.slab.slabs * plan.cluster,
          .block = group_norm_resident::kThreads,
          .shared = plan.shared,
          .cluster = plan.cluster};
}

template <class T, bool kSilu>
void launch_resident(Device& device, const OpInfo& info, const GroupNormArgs& a,
                     const group_norm_resident::Plan& plan) {
  using namespace group_norm_resident;
  launch_kernel(device, info,
                for_cluster(plan, normalise_slabs<T, kSilu, 1>, normalise_slabs<T, kSilu, 2>,
                            normalise_slabs<T, kSilu, 4>, normalise_slabs<T, kSilu, 8>),
                resident_launch(a.dims, plan), a, plan.slab);
}

template <class T, bool kSilu>
void launch_resident(Device& device, const OpInfo& info, const GroupNormGradArgs& a,
                     const group_norm_resident::Plan& plan) {
  using namespace group_norm_resident;
  launch_kernel(device, info,
                for_cluster(plan, differentiate_slabs<T, kSilu, 1>, differentiate_slabs<T, kSilu, 2>,
                            differentiate_slabs<T, kSilu, 4>, differentiate_slabs<T, kSilu, 8>),
                resident_launch(a.dims, plan), a, plan.slab);
}

template <class T>
void launch_split(Device& device, const OpInfo& info, const GroupNormArgs& a, const columns::Layout& layout) {
  using namespace group_norm_split;
  const Rows rows = rows_of(a.dims);
  const std::int64_t blocks = a.dims.samples * rows.blocks, groups = a.dims.samples * a.dims.groups;
  launch_kernel(device, info, block_statistics<T>, layout.launch(blocks), a, rows, layout);
  launch_kernel(device, info, combine_blocks,
                {.grid_x = static_cast<unsigned>((groups + 7) / 8), .block = columns::kThreads}, a, rows);
  launch_kernel(device, info, a.dims.silu ? normalise_blocks<T, true> : normalise_blocks<T, false>,
                layout.launch(blocks), a, rows, layout);
}

template <class T>
void launch_gradients(Device& device, const OpInfo& info, const GroupNormGradArgs& a) {
  using namespace group_norm_split;
  const Rows rows = rows_of(a.dims);
  const std::int64_t blocks = a.dims.samples * rows.blocks;
  const columns::Layout layout = columns::layout(a.dims.channels, kLanes<T>);
  launch_kernel(device, info, a.dims.silu ? gradient_sums<T, true> : gradient_sums<T, false>, layout.launch(blocks), a,
                rows, layout);
  if (a.dx == nullptr) return columns::add_blocks(device, info, a.scratch, blocks, a.dims.channels, a.dgamma, a.dbeta);
  // Behind the blocks' sums there are two rows of C floats for each sample.
  float* means = a.scratch + blocks * 2 * a.dims.channels;
  const auto groups = static_cast<unsigned>(rows.blocks == 0 ? 0 : a.dims.samples * a.dims.groups);
  launch_kernel(device, info, gradient_means, {.grid_x = groups, .block = columns::kThreads}, a, rows, means);
  launch_kernel(device, info, a.dims.silu ? gradient_blocks<T, true> : gradient_blocks<T, false>, layout.launch(blocks),
                a, rows, layout, means);
}

}  // namespace

void group_norm_launch(Device& device, const OpInfo& info, const GroupNormArgs& args) {
  const GroupNormDims& d = args.dims;
  with_float_type(args.type, [&](auto type) {
    using T = decltype(type);
    const bool fits = all_fit(d.channels, kLanes<T>, args.x, args.y);
    const group_norm_resident::Plan plan =
        fits ? group_norm_resident::make_plan(device, d, sizeof(T), false) : group_norm_resident::Plan{};
    const columns::Layout layout = columns::layout(d.channels, fits ? kLanes<T> : 1);
    if (plan.fits())
      d.silu ? launch_resident<T, true>(device, info, args, plan) : launch_resident<T, false>(device, info, args, plan);
    else if (layout.chunks == 1 && d.channels <= group_norm_split::kMostChannels && d.positions > 0)
      fits ? launch_split<T>(device, info, args, layout) : launch_split<AnyFloat>(device, info, args, layout);
    else
      launch_kernel(device, info, normalise_groups,
                    {.grid_x = static_cast<unsigned>(d.samples * d.groups), .block = kThreads}, args);
  });
}

void group_norm_grad_launch(Device& device, const OpInfo& info, const GroupNormGradArgs& args) {
  with_float_type(args.x_type, [&](auto type) {
    using T = decltype(type);
    if (args.x_type != args.dy_type || !all_fit(args.dims.channels, kLanes<T>, args.x, args.dy, args.dx))
      return launch_gradients<AnyFloat>(device, info, args);
    const group_norm_resident::Plan plan = args.dx != nullptr
                                               ? group_norm_resident::make_plan(device, args.dims, sizeof(T), true)
                                               : group_norm_resident::Plan{};
    if (!plan.fits()) return launch_gradients<T>(device, info, args);
    args.dims.silu ? launch_resident<T, true>(device, info, args, plan)
                   : launch_resident<T, false>(device, info, args, plan);
  });
}

}  // namespace eq
