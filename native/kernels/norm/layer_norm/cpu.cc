#include "kernels/norm/column_sums.h"
#include "op.h"
#include "runtime/cpu/device.h"

#include <cmath>

EQ_DECLARE_ISA(void layer_norm_compute(const LayerNormArgs& a, ThreadPool& pool))
EQ_DECLARE_ISA(void layer_norm_grad_compute(const LayerNormGradArgs& a, ThreadPool& pool))
EQ_DECLARE_ISA(void layer_norm_param_grad_compute(const LayerNormParamGradArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

// Long rows are read a block at a time; block sums are added in double.
static void forward_row(const LayerNormArgs& a, std::int64_t row) {
  const Source x{a.x, a.type};
  const Target y{a.y, a.type};
  const std::int64_t first = row * a.channels;
  BlockBuffer xs, ys;
  double total = 0, squares = 0;
  for_blocks(0, a.channels, [&](std::int64_t at, std::int64_t n) {
    const float* from = x.block(first + at, n, xs);
    vf sum{};
    for_vectors(n, [&](auto load, auto) { sum += load(from); });
    total += static_cast<double>(lane_sum(sum));
  });
  const auto mean = static_cast<float>(total / static_cast<double>(a.channels));
  for_blocks(0, a.channels, [&](std::int64_t at, std::int64_t n) {
    const float* from = x.block(first + at, n, xs);
    vf sum{};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const vf d = load<vf>(from + i) - mean;
      sum += d * d;
    }
    double rest = 0;
    for (; i < n; ++i) rest += static_cast<double>((from[i] - mean) * (from[i] - mean));
    squares += static_cast<double>(lane_sum(sum)) + rest;
  });
  const auto rstd =
      static_cast<float>(1 / std::sqrt(squares / static_cast<double>(a.channels) + static_cast<double>(a.epsilon)));
  a.mean[row] = mean;
  a.rstd[row] = rstd;
  for_blocks(0, a.channels, [&](std::int64_t at, std::int64_t n) {
    const float* from = x.block(first + at, n, xs);
    const float *gamma = a.gamma + at, *beta = a.beta + at;
    float* to = y.block(first + at, ys);
    for_vectors(n, [&](auto load, auto store) { store(to, (load(from) - mean) * rstd * load(gamma) + load(beta)); });
    y.commit(first + at, n, ys);
  });
}

static void backward_row(const LayerNormGradArgs& a, std::int64_t row) {
  const Source x{a.x, a.x_type}, dy{a.dy, a.dy_type};
  const Target dx{a.dx, a.x_type};
  const std::int64_t first = row * a.channels;
  const float mean = a.mean[row], rstd = a.rstd[row];
  BlockBuffer xs, ds, out;
  double plain = 0, along = 0;
  for_blocks(0, a.channels, [&](std::int64_t at, std::int64_t n) {
    const float *from = x.block(first + at, n, xs), *up = dy.block(first + at, n, ds), *gamma = a.gamma + at;
    vf sum{}, dot{};
    // Lanes beyond the row's end hold dy = 0 and add nothing.
    for_vectors(n, [&](auto load, auto) {
      const vf g = load(up) * load(gamma);
      sum += g;
      dot += g * (load(from) - mean) * rstd;
    });
    plain += static_cast<double>(lane_sum(sum));
    along += static_cast<double>(lane_sum(dot));
  });
  const auto mean_g = static_cast<float>(plain / static_cast<double>(a.channels));
  const auto mean_gh = static_cast<float>(along / static_cast<double>(a.channels));
  for_blocks(0, a.channels, [&](std::int64_t at, std::int64_t n) {
    const float *from = x.block(first + at, n, xs), *up = dy.block(first + at, n, ds), *gamma = a.gamma + at;
    float* to = dx.block(first + at, out);
    for_vectors(n, [&](auto load, auto store) {
      const vf h = (load(from) - mean) * rstd;
      store(to, rstd * (load(up) * load(gamma) - mean_g - h * mean_gh));
    });
    dx.commit(first + at, n, out);
  });
}

static void param_block(const LayerNormParamGradArgs& a, std::int64_t block, std::int64_t per_block) {
  const Source x{a.x, a.x_type}, dy{a.dy, a.dy_type};
  float* dgamma = a.partial + block * 2 * a.channels;
  float* dbeta = dgamma + a.channels;
  std::fill_n(dgamma, 2 * a.channels, 0.0f);
  BlockBuffer xs, ds;
  for (std::int64_t row = block * per_block; row < std::min(a.rows, (block + 1) * per_block); ++row) {
    const float mean = a.mean[row], rstd = a.rstd[row];
    for_blocks(0, a.channels, [&](std::int64_t at, std::int64_t n) {
      const float* from = x.block(row * a.channels + at, n, xs);
      const float* up = dy.block(row * a.channels + at, n, ds);
      float *gamma_sum = dgamma + at, *beta_sum = dbeta + at;
      for_vectors(n, [&](auto load, auto store) {
        const vf d = load(up);
        store(gamma_sum, load(gamma_sum) + d * (load(from) - mean) * rstd);
        store(beta_sum, load(beta_sum) + d);
      });
    });
  }
}

static std::int64_t row_grain(std::int64_t channels) { return std::max<std::int64_t>(1, (1 << 14) / channels); }

void layer_norm_compute(const LayerNormArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, row_grain(a.channels), [&a](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) forward_row(a, row);
  });
}

void layer_norm_grad_compute(const LayerNormGradArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, row_grain(a.channels), [&a](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) backward_row(a, row);
  });
}

void layer_norm_param_grad_compute(const LayerNormParamGradArgs& a, ThreadPool& pool) {
  const std::int64_t per_block = norm_block_rows(a.channels), blocks = (a.rows + per_block - 1) / per_block;
  pool.parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) param_block(a, block, per_block);
  });
  add_blocks(a.partial, blocks, a.channels, a.dgamma, a.dbeta, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void layer_norm_launch(Device& device, const OpInfo& info, const LayerNormArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(layer_norm_compute)(args, pool); });
}

void layer_norm_grad_launch(Device& device, const OpInfo& info, const LayerNormGradArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(layer_norm_grad_compute)(args, pool); });
}

void layer_norm_param_grad_launch(Device& device, const OpInfo& info, const LayerNormParamGradArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(layer_norm_param_grad_compute)(args, pool); });
}

}  // namespace eq
#endif
