// A frozen linear layer with a low-rank update (LoRA) and, optionally, a trained magnitude (DoRA), as matrix products
// with the update as extra steps of the sum and the scale in the epilogue. Formulas and gradients:
// packages/backend/src/fused/dora-linear.ts.
//
//   x [M,K], W [N,K] frozen, A [r,K], B [N,r], m and n = |W + s B A| [N], b [N];  c = m / n
//   u = x A^T;  y = c (x W^T + s u B^T) + b                             2 M N K + 2 M r (N + K) FLOPs
//   h = s (dy c) B;  dx = (dy c) W + h A                                the same
//   dA = h^T x;  dB = s (dy c)^T u;  dm_j = sum dy_j (y - b)_j / m_j    2 M r (N + K), 4 M N
//   n_j^2 = |w_j|^2 + 2 s b_j . (A w_j) + s^2 b_j (A A^T) b_j           2 N K (r + 1) once per optimizer step
//
// c is folded into the smaller operand: into B for h, into dy or W (whichever is smaller) for dx, into dB's rows
// afterwards. Where m_j is 0, or so small beside b_j that y's rounding hides V x, dm_j comes from V itself, column by
// column; that does not happen to a magnitude near the norm it starts from.
//
// u, h, the norm, the scale and the gradients of A, B and m are stored in f32; y and dx as a linear layer's result.
// Bytes: x, W and y once per product; min(M, K) N more for the scaled operand of dx.
#pragma once

#include "kernels/gemm/matmul/op.h"
#include "kernels/norm/norm.h"

namespace eq {

/// out[i,j] = rows_i columns_j in[i,j], either scale null for none; or out[j,i] = in[i,j] where transposed.
struct ScaleMatrixArgs {
  const void* in;
  void* out;
  DType in_type, out_type;
  std::int64_t rows, columns;
  const float *row_scale, *column_scale;
  bool transposed;
};
void scale_matrix_launch(Device& device, const OpInfo& info, const ScaleMatrixArgs& args);

/// c = m / n, elementwise.
struct DoraScaleArgs {
  const float *magnitude, *norm;
  float* scale;
  std::int64_t n;
};
void dora_scale_launch(Device& device, const OpInfo& info, const DoraScaleArgs& args);

struct DoraNormArgs {
  const void *weight, *lora_b;
  DType weight_type, lora_b_type;
  /// W A^T [N,r] and A A^T [r,r].
  const float *cross, *gram;
  float* norm;
  std::int64_t n, k, rank;
  double scaling;
};
void dora_norm_launch(Device& device, const OpInfo& info, const DoraNormArgs& args);

struct DoraMagnitudeGradArgs {
  const void *dy, *y, *x, *weight, *lora_b, *bias;
  DType dy_type, y_type, x_type, weight_type, lora_b_type, bias_type;
  const float *u, *scale, *norm;
  float* out;
  /// Per block of rows: sums of dy y and of dy, [blocks, 2, N].
  float* partial;
  std::int64_t m, n, k, rank;
  float scaling;
  std::int64_t block_rows() const { return norm_block_rows(n); }
  std::int64_t blocks() const { return (m + block_rows() - 1) / block_rows(); }
};
void dora_magnitude_grad_launch(Device& device, const OpInfo& info, const DoraMagnitudeGradArgs& args);

/// The matrices of an adapted layer. x and dy are seen as rows.
struct DoraDims {
  std::int64_t n, k, rank;
};

inline Tensor as_rows(const char* op, const char* name, const Tensor& t, std::int64_t columns) {
  check_float(op, name, t);
  check_type(t.shape.rank() >= 1, op, ": ", name, " must have at least one axis");
  check_range(t.shape.at(-1) == columns && columns >= 1, op, ": ", name, " must have ", columns, " columns, got ",
              t.shape.str());
  return t.reshaped({t.numel() / columns, columns});
}

inline DoraDims dora_dims(const char* op, const Tensor& weight, const Tensor& lora_a, const Tensor& lora_b) {
  for (const Tensor* t : {&weight, &lora_a, &lora_b}) {
    check_float(op, "matrix", *t);
    check_type(t->shape.rank() == 2, op, ": weight, A and B must have rank 2, got ", t->shape.str());
  }
  const DoraDims d{weight.shape[0], weight.shape[1], lora_a.shape[0]};
  check_range(d.n >= 1 && d.k >= 1 && d.rank >= 1 && lora_a.shape[1] == d.k && lora_b.shape[0] == d.n &&
                  lora_b.shape[1] == d.rank,
              op, ": weight ", weight.shape.str(), ", A ", lora_a.shape.str(), " and B ", lora_b.shape.str(),
              " do not fit");
  return d;
}

/// `in` with its rows, its columns or neither scaled, stored like it.
inline Tensor scale_matrix(Device& device, const char* op, const Tensor& in, const Tensor& rows,
                           const Tensor& columns) {
  const std::int64_t n = in.shape[0], k = in.shape[1];
  if (rows) check_vector(op, "scale", rows, n);
  if (columns) check_vector(op, "scale", columns, k);
  Tensor out = device.empty(in.dtype, in.shape);
  scale_matrix_launch(
      device, {op, {in.shape}, 2.0 * static_cast<double>(in.numel()), static_cast<double>(in.bytes() + out.bytes())},
      {in.data(), out.data(), in.dtype, out.dtype, n, k, rows ? rows.data<float>() : nullptr,
       columns ? columns.data<float>() : nullptr, false});
  return out;
}

inline Tensor transpose_matrix(Device& device, const char* op, const Tensor& in) {
  Tensor out = device.empty(in.dtype, {in.shape[1], in.shape[0]});
  scale_matrix_launch(device, {op, {in.shape}, 0, 2.0 * static_cast<double>(in.bytes())},
                      {in.data(), out.data(), in.dtype, out.dtype, in.shape[0], in.shape[1], nullptr, nullptr, true});
  return out;
}

inline Tensor dora_norm(Device& device, const Tensor& weight, const Tensor& lora_a, const Tensor& lora_b,
                        double scaling) {
  const char* op = "DoraNorm";
  const DoraDims d = dora_dims(op, weight, lora_a, lora_b);
  MatMulOptions transposed;
  transposed.b_transposed = true;
  transposed.store_f32 = true;
  const Tensor cross = matmul(device, op, weight, lora_a, transposed);
  const Tensor gram = matmul(device, op, lora_a, lora_a, transposed);
  Tensor norm = device.empty(DType::F32, {d.n});
  dora_norm_launch(device,
                   {op,
                    {weight.shape, lora_a.shape},
                    2.0 * static_cast<double>(d.n * (d.k + d.rank * d.rank)),
                    static_cast<double>(weight.bytes())},
                   {weight.data(), lora_b.data(), weight.dtype, lora_b.dtype, cross.data<float>(), gram.data<float>(),
                    norm.data<float>(), d.n, d.k, d.rank, scaling});
  return norm;
}

/// [y, u] without magnitude, [y, u, c] with.
inline std::vector<Tensor> dora_linear(Device& device, const Tensor& x, const Tensor& weight, const Tensor& lora_a,
                                       const Tensor& lora_b, const Tensor& magnitude, const Tensor& norm,
                                       const Tensor& bias, float scaling) {
  const char* op = "DoraLinear";
  const DoraDims d = dora_dims(op, weight, lora_a, lora_b);
  const Tensor rows = as_rows(op, "x", x, d.k);
  check_type(static_cast<bool>(magnitude) == static_cast<bool>(norm), op, ": magnitude and norm must come together");
  MatMulOptions down;
  down.b_transposed = true;
  down.store_f32 = true;
  MatMulOptions up;
  up.b_transposed = true;
  up.bias = bias;
  std::vector<Tensor> out(2);
  if (magnitude) {
    check_vector(op, "magnitude", magnitude, d.n);
    check_vector(op, "norm", norm, d.n);
    out.push_back(device.empty(DType::F32, {d.n}));
    dora_scale_launch(device, {op, {magnitude.shape}},
                      {magnitude.data<float>(), norm.data<float>(), out[2].data<float>(), d.n});
    up.column_scale = out[2];
  }
  out[1] = matmul(device, op, rows, lora_a, down);
  up.a2 = out[1];
  up.b2 = lora_b;
  up.scale2 = scaling;
  out[0] = matmul(device, op, rows, weight, up);
  return out;
}

/// h = s (dy c) B; scale is empty for plain LoRA.
inline Tensor dora_grad_hidden(Device& device, const Tensor& dy, const Tensor& lora_b, const Tensor& scale,
                               float scaling) {
  const char* op = "DoraLinearGradHidden";
  check_float(op, "loraB", lora_b);
  check_type(lora_b.shape.rank() == 2, op, ": loraB must have rank 2, got ", lora_b.shape.str());
  MatMulOptions o;
  o.store_f32 = true;
  o.scale = scaling;
  const Tensor b = scale ? scale_matrix(device, op, lora_b, scale, {}) : lora_b;
  return matmul(device, op, as_rows(op, "dy", dy, lora_b.shape[0]), b, o);
}

/// dx = (dy c) W + h A
inline Tensor dora_grad_input(Device& device, const Tensor& dy, const Tensor& h, const Tensor& weight,
                              const Tensor& lora_a, const Tensor& scale) {
  const char* op = "DoraLinearGradInput";
  check_float(op, "loraA", lora_a);
  check_type(weight.shape.rank() == 2 && lora_a.shape.rank() == 2, op, ": weight and loraA must have rank 2");
  const std::int64_t n = weight.shape[0], k = weight.shape[1];
  check_range(n >= 1 && k >= 1, op, ": weight must not be empty, got ", weight.shape.str());
  Tensor rows = as_rows(op, "dy", dy, n), w = weight;
  if (scale && rows.shape[0] < k)
    rows = scale_matrix(device, op, rows, {}, scale);
  else if (scale)
    w = scale_matrix(device, op, weight, scale, {});
  MatMulOptions o;
  o.a2 = h;
  o.b2 = transpose_matrix(device, op, lora_a);
  return matmul(device, op, rows, w, o);
}

/// [dA = h^T x, dB = s (dy c)^T u]
inline std::vector<Tensor> dora_grad_lora(Device& device, const Tensor& x, const Tensor& dy, const Tensor& u,
                                          const Tensor& h, const Tensor& scale, float scaling) {
  const char* op = "DoraLinearGradLora";
  check_type(u.shape.rank() == 2 && h.shape.rank() == 2, op, ": u and h must have rank 2");
  check_type(x.shape.rank() >= 1 && dy.shape.rank() >= 1, op, ": x and dy must have at least one axis");
  MatMulOptions o;
  o.a_transposed = true;
  o.store_f32 = true;
  const Tensor grad_a = matmul(device, op, h, as_rows(op, "x", x, x.shape.at(-1)), o);
  o.scale = scaling;
  Tensor grad_b = matmul(device, op, as_rows(op, "dy", dy, dy.shape.at(-1)), u, o);
  if (scale) grad_b = scale_matrix(device, op, grad_b, scale, {});
  return {grad_a, grad_b};
}

struct DoraMagnitudeInputs {
  Tensor x, dy, y, u, weight, lora_b, scale, norm, bias;
};
inline Tensor dora_grad_magnitude(Device& device, const DoraMagnitudeInputs& t, float scaling) {
  const char* op = "DoraLinearGradMagnitude";
  check_float(op, "weight", t.weight);
  check_float(op, "loraB", t.lora_b);
  check_type(t.weight.shape.rank() == 2 && t.lora_b.shape.rank() == 2, op, ": weight and loraB must have rank 2");
  const std::int64_t n = t.weight.shape[0], k = t.weight.shape[1], rank = t.lora_b.shape[1];
  const Tensor x = as_rows(op, "x", t.x, k), dy = as_rows(op, "dy", t.dy, n), y = as_rows(op, "y", t.y, n);
  check_range(t.lora_b.shape[0] == n && dy.shape[0] == x.shape[0] && y.shape[0] == x.shape[0], op, ": x ",
              t.x.shape.str(), ", dy ", t.dy.shape.str(), ", y ", t.y.shape.str(), " and loraB ", t.lora_b.shape.str(),
              " do not fit");
  check_vector(op, "u", t.u, x.shape[0] * rank);
  check_vector(op, "scale", t.scale, n);
  check_vector(op, "norm", t.norm, n);
  if (t.bias) {
    check_float(op, "bias", t.bias);
    check_range(t.bias.numel() == n, op, ": bias must have ", n, " elements, got ", t.bias.shape.str());
  }
  Tensor out = device.empty(DType::F32, {n});
  DoraMagnitudeGradArgs args{dy.data(),
                             y.data(),
                             x.data(),
                             t.weight.data(),
                             t.lora_b.data(),
                             t.bias ? t.bias.data() : nullptr,
                             dy.dtype,
                             y.dtype,
                             x.dtype,
                             t.weight.dtype,
                             t.lora_b.dtype,
                             t.bias ? t.bias.dtype : DType::F32,
                             t.u.data<float>(),
                             t.scale.data<float>(),
                             t.norm.data<float>(),
                             out.data<float>(),
                             nullptr,
                             x.shape[0],
                             n,
                             k,
                             rank,
                             scaling};
  const Tensor partial = device.empty(DType::F32, {args.blocks(), 2, n});
  args.partial = partial.data<float>();
  dora_magnitude_grad_launch(
      device,
      {op, {dy.shape, y.shape}, 4.0 * static_cast<double>(dy.numel()), static_cast<double>(dy.bytes() + y.bytes())},
      args);
  return out;
}

}  // namespace eq
