#include "kernels/norm/column_sums.h"
#include "op.h"
#include "runtime/cpu/device.h"

#include <cmath>

EQ_DECLARE_ISA(void scale_matrix_compute(const ScaleMatrixArgs& a, ThreadPool& pool))
EQ_DECLARE_ISA(void dora_scale_compute(const DoraScaleArgs& a))
EQ_DECLARE_ISA(void dora_norm_compute(const DoraNormArgs& a, ThreadPool& pool))
EQ_DECLARE_ISA(void dora_magnitude_grad_compute(const DoraMagnitudeGradArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

float element(const void* data, DType type, std::int64_t i) {
  return type == DType::F32 ? static_cast<const float*>(data)[i]
                            : static_cast<float>(static_cast<const bf16*>(data)[i]);
}

void scale_row(const ScaleMatrixArgs& a, std::int64_t row) {
  const Source in{a.in, a.in_type};
  const Target out{a.out, a.out_type};
  const float factor = a.row_scale != nullptr ? a.row_scale[row] : 1.0f;
  BlockBuffer xs, ys;
  for_blocks(0, a.columns, [&](std::int64_t at, std::int64_t n) {
    const std::int64_t begin = row * a.columns + at;
    const float* from = in.block(begin, n, xs);
    float* to = out.block(begin, ys);
    const float* columns = a.column_scale;
    if (columns != nullptr)
      for_vectors(n, [&](auto load, auto store) { store(to, factor * load(columns + at) * load(from)); });
    else
      for_vectors(n, [&](auto load, auto store) { store(to, factor * load(from)); });
    out.commit(begin, n, ys);
  });
}

template <class T>
void transpose(const ScaleMatrixArgs& a, std::int64_t begin, std::int64_t end) {
  const auto* in = static_cast<const T*>(a.in);
  auto* out = static_cast<T*>(a.out);
  for (std::int64_t column = begin; column < end; ++column)
    for (std::int64_t row = 0; row < a.rows; ++row) out[column * a.rows + row] = in[row * a.columns + column];
}

/// |w_j|^2, in blocks added in double.
double squared_row(const DoraNormArgs& a, std::int64_t j) {
  const Source weight{a.weight, a.weight_type};
  BlockBuffer ws;
  double total = 0;
  for_blocks(j * a.k, (j + 1) * a.k, [&](std::int64_t at, std::int64_t n) {
    const float* w = weight.block(at, n, ws);
    vf sum{};
    for_vectors(n, [&](auto load, auto) { sum += load(w) * load(w); });
    total += static_cast<double>(lane_sum(sum));
  });
  return total;
}

/// sum over p and q of b_p gram[p,q] c_q in double, each q in a lane; the lanes are added in a fixed order.
double quadratic_form(const float* gram, std::int64_t stride, const float* b, std::int64_t np, const float* c,
                      std::int64_t nq) {
  const auto doubles = [](const float* p) { return __builtin_convertvector(load<vf_half>(p), vd); };
  vd lanes{};
  std::int64_t q = 0;
  for (; q + kDoubleLanes <= nq; q += kDoubleLanes) {
    vd column{};
    for (std::int64_t p = 0; p < np; ++p) column += static_cast<double>(b[p]) * doubles(gram + p * stride + q);
    lanes += column * doubles(c + q);
  }
  double sum = 0;
  for (int l = 0; l < kDoubleLanes; ++l) sum += lanes[l];
  for (; q < nq; ++q) {
    double column = 0;
    for (std::int64_t p = 0; p < np; ++p)
      column += static_cast<double>(b[p]) * static_cast<double>(gram[p * stride + q]);
    sum += column * static_cast<double>(c[q]);
  }
  return sum;
}

float row_norm(const DoraNormArgs& a, std::int64_t j) {
  const Source lora_b{a.lora_b, a.lora_b_type};
  const std::int64_t row = j * a.rank;
  double linear = 0, quadratic = 0;
  BlockBuffer ps, qs;
  for_blocks(0, a.rank, [&](std::int64_t p, std::int64_t np) {
    const float* b = lora_b.block(row + p, np, ps);
    for (std::int64_t i = 0; i < np; ++i)
      linear += static_cast<double>(b[i]) * static_cast<double>(a.cross[row + p + i]);
    for_blocks(0, a.rank, [&](std::int64_t q, std::int64_t nq) {
      const float* c = lora_b.block(row + q, nq, qs);
      quadratic += quadratic_form(a.gram + p * a.rank + q, a.rank, b, np, c, nq);
    });
  });
  const double squares = squared_row(a, j) + 2 * a.scaling * linear + a.scaling * a.scaling * quadratic;
  // Rounding can leave a vanishing row slightly below zero; NaN passes.
  return static_cast<float>(std::sqrt(squares < 0 ? 0 : squares));
}

/// Sums of dy y and of dy over a block of rows.
void magnitude_block(const DoraMagnitudeGradArgs& a, std::int64_t block) {
  const Source dy{a.dy, a.dy_type}, y{a.y, a.y_type};
  float* products = a.partial + block * 2 * a.n;
  float* plain = products + a.n;
  std::fill_n(products, 2 * a.n, 0.0f);
  BlockBuffer ds, ys;
  for (std::int64_t row = block * a.block_rows(); row < std::min(a.m, (block + 1) * a.block_rows()); ++row) {
    for_blocks(0, a.n, [&](std::int64_t at, std::int64_t n) {
      const float *d = dy.block(row * a.n + at, n, ds), *out = y.block(row * a.n + at, n, ys);
      float *product_sum = products + at, *plain_sum = plain + at;
      for_vectors(n, [&](auto load, auto store) {
        store(product_sum, load(product_sum) + load(d) * load(out));
        store(plain_sum, load(plain_sum) + load(d));
      });
    });
  }
}

/// <x_row, w_j>
double weight_product(const DoraMagnitudeGradArgs& a, std::int64_t row, std::int64_t j) {
  const Source x{a.x, a.x_type}, weight{a.weight, a.weight_type};
  BlockBuffer xs, ws;
  double total = 0;
  for_blocks(0, a.k, [&](std::int64_t at, std::int64_t n) {
    const float *from = x.block(row * a.k + at, n, xs), *w = weight.block(j * a.k + at, n, ws);
    vf sum{};
    for_vectors(n, [&](auto load, auto) { sum += load(from) * load(w); });
    total += static_cast<double>(lane_sum(sum));
  });
  return total;
}

/// sum over rows of dy_j (V x)_j from V itself.
double column_product(const DoraMagnitudeGradArgs& a, std::int64_t j) {
  double total = 0;
  for (std::int64_t row = 0; row < a.m; ++row) {
    double value = weight_product(a, row, j);
    for (std::int64_t p = 0; p < a.rank; ++p)
      value += static_cast<double>(a.scaling * a.u[row * a.rank + p]) *
               static_cast<double>(element(a.lora_b, a.lora_b_type, j * a.rank + p));
    total += value * static_cast<double>(element(a.dy, a.dy_type, row * a.n + j));
  }
  return total;
}

void magnitude_column(const DoraMagnitudeGradArgs& a, std::int64_t j) {
  const auto scale = static_cast<double>(a.scale[j]), norm = static_cast<double>(a.norm[j]);
  const double bias = a.bias != nullptr ? static_cast<double>(element(a.bias, a.bias_type, j)) : 0;
  // y - b is c V x with the rounding error of y. It is used only while the bias does not drown it; inputs are of
  // order 1 behind a norm layer, so that m = c n compares with b.
  const double smallest = a.y_type == DType::BF16 ? 0x1p-3 : 0x1p-10;
  double sum = 0;
  if (scale == 0 || std::fabs(scale * norm) < smallest * std::fabs(bias)) {
    sum = column_product(a, j);
  } else {
    double products = 0, plain = 0;
    for (std::int64_t block = 0; block < a.blocks(); ++block) {
      products += static_cast<double>(a.partial[block * 2 * a.n + j]);
      plain += static_cast<double>(a.partial[(block * 2 + 1) * a.n + j]);
    }
    sum = (products - bias * plain) / scale;
  }
  a.out[j] = static_cast<float>(sum / norm);
}

}  // namespace

void scale_matrix_compute(const ScaleMatrixArgs& a, ThreadPool& pool) {
  if (a.transposed) {
    pool.parallel_for(a.columns, std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(1, a.rows)),
                      [&](std::int64_t begin, std::int64_t end) {
                        if (a.in_type == DType::F32)
                          transpose<float>(a, begin, end);
                        else
                          transpose<bf16>(a, begin, end);
                      });
    return;
  }
  pool.parallel_for(a.rows, std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(1, a.columns)),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t row = begin; row < end; ++row) scale_row(a, row);
                    });
}

void dora_scale_compute(const DoraScaleArgs& a) {
  for (std::int64_t i = 0; i < a.n; ++i) a.scale[i] = a.magnitude[i] / a.norm[i];
}

void dora_norm_compute(const DoraNormArgs& a, ThreadPool& pool) {
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 14) / (a.k + a.rank * a.rank));
  pool.parallel_for(a.n, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) a.norm[j] = row_norm(a, j);
  });
}

void dora_magnitude_grad_compute(const DoraMagnitudeGradArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.blocks(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) magnitude_block(a, block);
  });
  pool.parallel_for(a.n, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t j = begin; j < end; ++j) magnitude_column(a, j);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void scale_matrix_launch(Device& device, const OpInfo& info, const ScaleMatrixArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(scale_matrix_compute)(args, pool); });
}

void dora_scale_launch(Device& device, const OpInfo& info, const DoraScaleArgs& args) {
  cpu(device).launch(info, [args](ThreadPool&) { EQ_DISPATCH(dora_scale_compute)(args); });
}

void dora_norm_launch(Device& device, const OpInfo& info, const DoraNormArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(dora_norm_compute)(args, pool); });
}

void dora_magnitude_grad_launch(Device& device, const OpInfo& info, const DoraMagnitudeGradArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(dora_magnitude_grad_compute)(args, pool); });
}

}  // namespace eq
#endif
