#include "kernels/activation/functions.h"
#include "kernels/norm/column_sums.h"
#include "op.h"
#include "runtime/cpu/device.h"

#include <cmath>
#include <limits>

EQ_DECLARE_ISA(void group_norm_compute(const GroupNormArgs& a, ThreadPool& pool))
EQ_DECLARE_ISA(void group_norm_grad_compute(const GroupNormGradArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

/// The rows of one block: elements first .. first + rows * C.
struct RowBlock {
  std::int64_t sample, rows, first;
};
RowBlock row_block(const GroupNormDims& d, std::int64_t index) {
  const std::int64_t sample = index / d.blocks(), begin = index % d.blocks() * d.block_rows();
  return {sample, std::min(d.block_rows(), d.positions - begin), (sample * d.positions + begin) * d.channels};
}

/// Calls f(first channel, sum of the channels) for each group.
template <class F>
void for_group_sums(const GroupNormDims& d, const float* channels, F f) {
  const std::int64_t width = d.per_group();
  for (std::int64_t g = 0; g < d.groups; ++g) {
    double sum = 0;
    for (std::int64_t c = g * width; c < (g + 1) * width; ++c) sum += static_cast<double>(channels[c]);
    f(g * width, sum);
  }
}

/// Each group's mean over `count` elements, spread over its channels, in place of its channels' sums.
void spread_means(const GroupNormDims& d, float* channels, std::int64_t count) {
  for_group_sums(d, channels, [&](std::int64_t first, double sum) {
    std::fill_n(channels + first, d.per_group(), static_cast<float>(sum / static_cast<double>(count)));
  });
}

/// Calls f(at, n, x) for every piece of a row: channels at .. at + n, read from element first + at.
template <class F>
EQ_INLINE void for_row(const Source& x, std::int64_t first, std::int64_t channels, BlockBuffer& buffer, F f) {
  for_blocks(0, channels, [&](std::int64_t at, std::int64_t n) { f(at, n, x.block(first + at, n, buffer)); });
}

/// Adds f(load, row) over the rows of a block to sum[0 .. C): four rows at a time, so that the sums are fetched once
/// for four.
template <class T, class F>
EQ_INLINE void add_rows(const T* x, std::int64_t rows, std::int64_t channels, float* sum, F f) {
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    const T *a = x + row * channels, *b = a + channels, *c = b + channels, *d = c + channels;
    for_vectors(channels, [&](auto load, auto store) {
      store(sum, load(sum) + ((f(load, a) + f(load, b)) + (f(load, c) + f(load, d))));
    });
  }
  for (; row < rows; ++row) {
    const T* a = x + row * channels;
    for_vectors(channels, [&](auto load, auto store) { store(sum, load(sum) + f(load, a)); });
  }
}

/// Leaves each group's mean in scratch row 0 and its squared deviations from it in row 1, at its first channel.
template <class T>
void block_statistics(const GroupNormArgs& a, std::int64_t index) {
  const GroupNormDims& d = a.dims;
  const RowBlock block = row_block(d, index);
  const T* x = static_cast<const T*>(a.x) + block.first;
  float* mean = a.scratch + index * 2 * d.channels;
  float* squares = mean + d.channels;
  std::fill_n(mean, 2 * d.channels, 0.0f);
  add_rows(x, block.rows, d.channels, mean, [](auto load, const T* row) { return load(row); });
  spread_means(d, mean, block.rows * d.per_group());
  add_rows(x, block.rows, d.channels, squares, [mean](auto load, const T* row) {
    const vf deviation = load(row) - load(mean);
    return deviation * deviation;
  });
  for_group_sums(d, squares, [squares](std::int64_t first, double sum) { squares[first] = static_cast<float>(sum); });
}

constexpr std::int64_t kGroups = 64;

/// Combines a sample's blocks for groups begin .. end, at most kGroups of them.
void sample_statistics(const GroupNormArgs& a, std::int64_t sample, std::int64_t begin, std::int64_t end) {
  const GroupNormDims& d = a.dims;
  double mean[kGroups] = {}, squares[kGroups] = {}, count = 0;
  for (std::int64_t b = 0; b < d.blocks(); ++b) {
    const std::int64_t index = sample * d.blocks() + b;
    const float* part = a.scratch + index * 2 * d.channels + begin * d.per_group();
    const auto n = static_cast<double>(row_block(d, index).rows * d.per_group());
    const double share = n / (count + n), weight = count * share;
    for (std::int64_t g = 0; g < end - begin; ++g, part += d.per_group()) {
      const double delta = static_cast<double>(part[0]) - mean[g];
      squares[g] += static_cast<double>(part[d.channels]) + delta * delta * weight;
      mean[g] += delta * share;
    }
    count += n;
  }
  for (std::int64_t g = 0; g < end - begin; ++g) {
    const std::int64_t at = sample * d.groups + begin + g;
    const double variance = count > 0 ? squares[g] / count : 0;
    a.mean[at] = static_cast<float>(mean[g]);
    a.rstd[at] = static_cast<float>(1 / std::sqrt(variance + static_cast<double>(a.epsilon)));
  }
}

/// Spreads a sample's group values over the channels.
void spread(const GroupNormDims& d, const float* groups, std::int64_t sample, float* channels) {
  const std::int64_t width = d.per_group();
  for (std::int64_t g = 0; g < d.groups; ++g) std::fill_n(channels + g * width, width, groups[sample * d.groups + g]);
}

/// What is taken off a sample's channels and what they are multiplied by; the scratch rows of its first block hold it
/// once the blocks' statistics are combined.
struct ChannelMap {
  float *shift, *scale;
};
ChannelMap channel_map(const GroupNormArgs& a, std::int64_t sample) {
  float* rows = a.scratch + sample * a.dims.blocks() * 2 * a.dims.channels;
  return {rows, rows + a.dims.channels};
}

/// In f32 the means come off first. In bf16 the error of taking them off after the product, 2^-24 of it, is nothing
/// beside the rounding of x, and the shift holds beta too.
void fill_channel_map(const GroupNormArgs& a, std::int64_t sample) {
  const GroupNormDims& d = a.dims;
  const auto [shift, scale] = channel_map(a, sample);
  spread(d, a.mean, sample, shift);
  spread(d, a.rstd, sample, scale);
  for (std::int64_t c = 0; c < d.channels; ++c) scale[c] *= a.gamma[c];
  if (a.type == DType::F32) return;
  // One NaN instead of any, as store_even_odd requires.
  const auto plain = [](float v) { return v == v ? v : std::numeric_limits<float>::quiet_NaN(); };
  for (std::int64_t c = 0; c < d.channels; ++c) {
    shift[c] = plain(a.beta[c] - shift[c] * scale[c]);
    scale[c] = plain(scale[c]);
  }
}

template <bool kSilu>
void normalise_block(const GroupNormArgs& a, std::int64_t index, const float*) {
  const GroupNormDims& d = a.dims;
  const RowBlock block = row_block(d, index);
  const float* from = static_cast<const float*>(a.x) + block.first;
  float* to = static_cast<float*>(a.y) + block.first;
  const auto [mean, scale] = channel_map(a, block.sample);
  for (std::int64_t row = 0; row < block.rows; ++row, from += d.channels, to += d.channels) {
    for_vectors(d.channels, [&](auto load, auto store) {
      const vf z = (load(from) - load(mean)) * load(scale) + load(a.beta);
      store(to, kSilu ? swish(z, 1.0f) : z);
    });
  }
}

template <bool kSilu>
void normalise_block(const GroupNormArgs& a, std::int64_t index, const bf16*) {
  const GroupNormDims& d = a.dims;
  const RowBlock block = row_block(d, index);
  const ChannelMap map = channel_map(a, block.sample);
  BlockBuffer scales, shifts;
  for_blocks(0, d.channels, [&](std::int64_t at, std::int64_t n) {
    split_even_odd(map.scale + at, n, scales);
    split_even_odd(map.shift + at, n, shifts);
    const bf16* from = static_cast<const bf16*>(a.x) + block.first + at;
    bf16* to = static_cast<bf16*>(a.y) + block.first + at;
    for (std::int64_t row = 0; row < block.rows; ++row, from += d.channels, to += d.channels) {
      for_even_odd(n, [&](auto load, auto store) {
        const EvenOdd x = load(from), s = load(scales.values), t = load(shifts.values);
        const vf even = x.even * s.even + t.even, odd = x.odd * s.odd + t.odd;
        store(to, kSilu ? EvenOdd{swish_coarse(even, 1.0f), swish_coarse(odd, 1.0f)} : EvenOdd{even, odd});
      });
    }
  });
}

/// What the backward pass knows of one channel of one sample, as rows of C.
struct ChannelRows {
  const float *mean, *rstd, *gamma, *beta;
};

/// f(x, dy, to, n, at, load, store) needs h and dz: the normalised input and the gradient before the activation.
template <bool kSilu>
EQ_INLINE void h_and_dz(vf x, vf dy, vf mean, vf rstd, vf gamma, vf beta, vf& h, vf& dz) {
  h = (x - mean) * rstd;
  dz = kSilu ? dy * swish_derivative(h * gamma + beta, 1.0f) : dy;
}

/// sums[0][c] = sum of dz h and sums[1][c] = sum of dz over the block's rows.
template <bool kSilu>
void gradient_sums(const GroupNormGradArgs& a, std::int64_t index, const ChannelRows& rows) {
  const GroupNormDims& d = a.dims;
  const RowBlock block = row_block(d, index);
  const Source x{a.x, a.x_type}, dy{a.dy, a.dy_type};
  float* along = a.scratch + index * 2 * d.channels;
  float* plain = along + d.channels;
  std::fill_n(along, 2 * d.channels, 0.0f);
  BlockBuffer xs, ds;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    const std::int64_t first = block.first + row * d.channels;
    for_row(x, first, d.channels, xs, [&](std::int64_t at, std::int64_t n, const float* from) {
      const float* up = dy.block(first + at, n, ds);
      for_vectors(n, [&](auto load, auto store) {
        vf h, dz;
        h_and_dz<kSilu>(load(from), load(up), load(rows.mean + at), load(rows.rstd + at), load(rows.gamma + at),
                        load(rows.beta + at), h, dz);
        store(along + at, load(along + at) + dz * h);
        store(plain + at, load(plain + at) + dz);
      });
    });
  }
}

/// dx of a block; `mean_gh` and `mean_g` are the group means of g h and of g, spread over the channels.
template <bool kSilu>
void gradient_block(const GroupNormGradArgs& a, std::int64_t index, const ChannelRows& rows, const float* mean_gh,
                    const float* mean_g) {
  const GroupNormDims& d = a.dims;
  const RowBlock block = row_block(d, index);
  const Source x{a.x, a.x_type}, dy{a.dy, a.dy_type};
  const Target dx{a.dx, a.x_type};
  BlockBuffer xs, ds, out;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    const std::int64_t first = block.first + row * d.channels;
    for_row(x, first, d.channels, xs, [&](std::int64_t at, std::int64_t n, const float* from) {
      const float* up = dy.block(first + at, n, ds);
      float* to = dx.block(first + at, out);
      for_vectors(n, [&](auto load, auto store) {
        vf h, dz;
        const vf rstd = load(rows.rstd + at), gamma = load(rows.gamma + at);
        h_and_dz<kSilu>(load(from), load(up), load(rows.mean + at), rstd, gamma, load(rows.beta + at), h, dz);
        store(to, rstd * (dz * gamma - load(mean_g + at) - h * load(mean_gh + at)));
      });
      dx.commit(first + at, n, out);
    });
  }
}

/// Adds up a sample's block sums and leaves the group means of g h and g, spread, in the first two rows of `sums`.
void sample_means(const GroupNormGradArgs& a, std::int64_t sample, float* sums) {
  const GroupNormDims& d = a.dims;
  const float* part = a.scratch + sample * d.blocks() * 2 * d.channels;
  for (std::int64_t i = 0; i < 2 * d.channels; ++i) {
    double sum = 0;
    for (std::int64_t b = 0; b < d.blocks(); ++b) sum += static_cast<double>(part[b * 2 * d.channels + i]);
    sums[i] = static_cast<float>(sum) * a.gamma[i % d.channels];
  }
  for (float* row : {sums, sums + d.channels}) spread_means(d, row, d.positions * d.per_group());
}

template <bool kSilu>
void gradients(const GroupNormGradArgs& a, ThreadPool& pool) {
  const GroupNormDims& d = a.dims;
  const std::int64_t blocks = d.samples * d.blocks();
  // Two rows per sample behind the blocks: the statistics spread over the channels. A sample's own block rows are
  // free again once its means are known, and then hold those.
  float* spread_rows = a.scratch + blocks * 2 * d.channels;
  for (std::int64_t n = 0; n < d.samples; ++n) {
    spread(d, a.mean, n, spread_rows + 2 * n * d.channels);
    spread(d, a.rstd, n, spread_rows + (2 * n + 1) * d.channels);
  }
  const auto rows_of = [&](std::int64_t sample) {
    const float* row = spread_rows + 2 * sample * d.channels;
    return ChannelRows{row, row + d.channels, a.gamma, a.beta};
  };
  pool.parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) gradient_sums<kSilu>(a, i, rows_of(i / d.blocks()));
  });
  if (a.dx == nullptr) return add_blocks(a.scratch, blocks, d.channels, a.dgamma, a.dbeta, pool);
  const auto means_of = [&](std::int64_t sample) { return a.scratch + sample * d.blocks() * 2 * d.channels; };
  for (std::int64_t n = 0; n < d.samples; ++n) sample_means(a, n, means_of(n));
  pool.parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* means = means_of(i / d.blocks());
      gradient_block<kSilu>(a, i, rows_of(i / d.blocks()), means, means + d.channels);
    }
  });
}

}  // namespace

template <class T>
static void group_norm_as(const GroupNormArgs& a, ThreadPool& pool) {
  const GroupNormDims& d = a.dims;
  const std::int64_t blocks = d.samples * d.blocks();
  pool.parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) block_statistics<T>(a, i);
  });
  const std::int64_t parts = (d.groups + kGroups - 1) / kGroups;
  pool.parallel_for(d.samples * parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i % parts * kGroups;
      sample_statistics(a, i / parts, first, std::min(d.groups, first + kGroups));
    }
  });
  if (blocks > 0)
    for (std::int64_t n = 0; n < d.samples; ++n) fill_channel_map(a, n);
  // From the last block to the first: what the statistics read last is still in second-level cache.
  pool.parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = blocks - 1 - begin; i >= blocks - end; --i) {
      const T* type = nullptr;
      d.silu ? normalise_block<true>(a, i, type) : normalise_block<false>(a, i, type);
    }
  });
}

void group_norm_compute(const GroupNormArgs& a, ThreadPool& pool) {
  if (a.type == DType::BF16)
    group_norm_as<bf16>(a, pool);
  else
    group_norm_as<float>(a, pool);
}

void group_norm_grad_compute(const GroupNormGradArgs& a, ThreadPool& pool) {
  if (a.dims.silu)
    gradients<true>(a, pool);
  else
    gradients<false>(a, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void group_norm_launch(Device& device, const OpInfo& info, const GroupNormArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(group_norm_compute)(args, pool); });
}

void group_norm_grad_launch(Device& device, const OpInfo& info, const GroupNormGradArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(group_norm_grad_compute)(args, pool); });
}

}  // namespace eq
#endif
