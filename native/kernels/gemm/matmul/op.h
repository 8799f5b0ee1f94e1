// Matrix product:  C = act(scale * column_scale_n * (op(A) op(B) + scale2 * A2 B2^T) + bias_n + beta * addend)
//
// A [batch.., M, K] or transposed [batch.., K, M]; B [batch.., K, N] or transposed [batch.., N, K]; the batch axes
// of A and B broadcast. A2 [M, r] and B2 [N, r] (no batch) are a low-rank term: r more steps of the same sum.
// Inputs f32 or bf16 in any mix; where one is bf16 the others are rounded to bf16 on processors that multiply bf16
// (AVX512_BF16, AMX), and sums are f32 everywhere. int32: wrap-around sums, no epilogue.
// FLOPs 2 batch M N (K + r); bytes: A, B and C once.
#pragma once

#include "kernels/gemm/core/epilogue_args.h"
#include "runtime/device.h"

namespace eq {

/// Which matrix of A or B belongs to a product of the batch.
struct BatchStrides {
  int rank = 0;
  std::int64_t dims[Shape::kMaxRank] = {}, a[Shape::kMaxRank] = {}, b[Shape::kMaxRank] = {};

  std::int64_t count() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i];
    return n;
  }
  std::int64_t matrix(const std::int64_t (&strides)[Shape::kMaxRank], std::int64_t index) const {
    std::int64_t m = 0;
    for (int i = rank - 1; i >= 0; --i) {
      m += index % dims[i] * strides[i];
      index /= dims[i];
    }
    return m;
  }
};

struct MatMulArgs {
  std::int64_t m, n, k, batches, b_matrices;
  BatchStrides batch;
  const void *a, *b;  ///< b is null where only its packed form is there (frozen weights on the CPU)
  const void *a2 = nullptr, *b2 = nullptr;
  DType a_dtype, b_dtype, a2_dtype = DType::F32, b2_dtype = DType::F32;
  bool a_transposed, b_transposed;
  std::int64_t k2 = 0;
  float scale2 = 1.0f;
  EpilogueArgs epilogue;
  void* c;
  DType c_dtype;
};

/// `b` is passed because a frozen weight keeps its packed form. Implemented by each device.
void matmul_launch(Device& device, const OpInfo& info, const MatMulArgs& args, const Tensor& b);
void matmul_i32_launch(Device& device, const OpInfo& info, const MatMulArgs& args);

struct MatMulOptions {
  bool a_transposed = false, b_transposed = false;
  Tensor bias, prelu, column_scale;  ///< [N], or one element for all columns; may be absent
  Tensor a2, b2;                     ///< both or neither
  Tensor addend;                     ///< shape of C
  FusedActivation activation = FusedActivation::None;
  float leak = 0.2f, scale = 1.0f, scale2 = 1.0f, beta = 1.0f;
  bool store_f32 = false;  ///< as gradients of trained parameters want it
};

inline ColumnVector column_vector(const char* op, const char* name, const Tensor& t, std::int64_t n) {
  if (!t) return {};
  check_type(is_float(t.dtype), op, ": ", name, " must be float32, got ", dtype_name(t.dtype));
  check_range(t.numel() == n || t.numel() == 1, op, ": ", name, " must have ", n, " elements or one, got shape ",
              t.shape.str());
  return {t.data(), t.dtype, t.numel() == 1};
}

inline BatchStrides broadcast_batches(const char* op, const Shape& a, const Shape& b) {
  BatchStrides s;
  s.rank = std::max(a.rank(), b.rank()) - 2;
  std::int64_t a_step = 1, b_step = 1;
  for (int i = s.rank - 1, ia = a.rank() - 3, ib = b.rank() - 3; i >= 0; --i, --ia, --ib) {
    const std::int64_t da = ia >= 0 ? a[ia] : 1, db = ib >= 0 ? b[ib] : 1;
    check_range(da == db || da == 1 || db == 1, op, ": batch axes of ", a.str(), " and ", b.str(), " do not broadcast");
    s.dims[i] = da == 1 ? db : da;
    s.a[i] = da == 1 ? 0 : a_step;
    s.b[i] = db == 1 ? 0 : b_step;
    a_step *= da;
    b_step *= db;
  }
  return s;
}

/// Sizes, strides and transposition of A and B, checked.
inline MatMulArgs matmul_operands(const char* op, const Tensor& a, const Tensor& b, const MatMulOptions& o) {
  check_type(a.dtype == DType::I32 ? b.dtype == DType::I32 : is_float(a.dtype) && is_float(b.dtype), op,
             ": a and b must both be float32 or both int32, got ", dtype_name(a.dtype), " and ", dtype_name(b.dtype));
  check_type(a.shape.rank() >= 2 && b.shape.rank() >= 2, op, ": a and b must have rank 2 or more, got ", a.shape.str(),
             " and ", b.shape.str());
  MatMulArgs args{};
  args.m = a.shape.at(o.a_transposed ? -1 : -2);
  args.k = a.shape.at(o.a_transposed ? -2 : -1);
  args.n = b.shape.at(o.b_transposed ? -2 : -1);
  const std::int64_t kb = b.shape.at(o.b_transposed ? -1 : -2);
  check_range(args.k == kb, op, ": inner sizes ", args.k, " and ", kb, " of ", a.shape.str(), " and ", b.shape.str(),
              " differ");
  args.batch = broadcast_batches(op, a.shape, b.shape);
  args.batches = args.batch.count();
  args.b_matrices = 1;
  for (int i = 0; i + 2 < b.shape.rank(); ++i) args.b_matrices *= b.shape[i];
  args.a = a.data();
  args.b = b.peek();
  args.a_dtype = a.dtype;
  args.b_dtype = b.dtype;
  args.a_transposed = o.a_transposed;
  args.b_transposed = o.b_transposed;
  return args;
}

/// Adds the low-rank term, if there is one.
inline void add_low_rank(const char* op, const MatMulOptions& o, MatMulArgs& args) {
  check_type(static_cast<bool>(o.a2) == static_cast<bool>(o.b2), op, ": a2 and b2 must come together");
  if (!o.a2) return;
  check_type(is_float(o.a2.dtype) && is_float(o.b2.dtype), op, ": a2 and b2 must be float32");
  check_range(args.batches == 1 && o.a2.shape.rank() == 2 && o.b2.shape.rank() == 2 && o.a2.shape[0] == args.m &&
                  o.b2.shape[0] == args.n && o.a2.shape[1] == o.b2.shape[1],
              op, ": a2 and b2 must be [", args.m, ",r] and [", args.n, ",r] without a batch, got ", o.a2.shape.str(),
              " and ", o.b2.shape.str());
  args.a2 = o.a2.data();
  args.b2 = o.b2.data();
  args.a2_dtype = o.a2.dtype;
  args.b2_dtype = o.b2.dtype;
  args.k2 = o.a2.shape[1];
  args.scale2 = o.scale2;
}

/// Sets the addend, if there is one, of a result of shape `out`.
inline void add_addend(const char* op, const Tensor& addend, const Shape& out, EpilogueArgs& e) {
  if (!addend) return;
  check_type(is_float(addend.dtype), op, ": addend must be float32, got ", dtype_name(addend.dtype));
  check_range(addend.shape.numel() == out.numel(), op, ": addend must have shape ", out.str(), ", got ",
              addend.shape.str());
  e.addend = addend.data();
  e.addend_dtype = addend.dtype;
}

inline EpilogueArgs matmul_epilogue(const char* op, const MatMulOptions& o, std::int64_t n, const Shape& out) {
  EpilogueArgs e;
  e.scale = o.scale;
  e.bias = column_vector(op, "bias", o.bias, n);
  e.prelu = column_vector(op, "prelu", o.prelu, n);
  e.column_scale = column_vector(op, "columnScale", o.column_scale, n);
  e.activation = o.activation;
  e.leak = o.leak;
  check_type(o.activation != FusedActivation::Prelu || o.prelu, op, ": activation prelu needs prelu slopes");
  e.beta = o.beta;
  add_addend(op, o.addend, out, e);
  return e;
}

inline Tensor matmul(Device& device, const char* op, const Tensor& a, const Tensor& b, const MatMulOptions& o) {
  MatMulArgs args = matmul_operands(op, a, b, o);
  std::int64_t dims[Shape::kMaxRank];
  for (int i = 0; i < args.batch.rank; ++i) dims[i] = args.batch.dims[i];
  dims[args.batch.rank] = args.m;
  dims[args.batch.rank + 1] = args.n;
  const Shape out(dims, args.batch.rank + 2);
  add_low_rank(op, o, args);
  args.epilogue = matmul_epilogue(op, o, args.n, out);
  const bool integers = a.dtype == DType::I32;
  check_type(!integers || (args.epilogue.trivial() && !args.a2), op, ": int32 products have no epilogue");
  const bool narrow = !o.store_f32 && (a.dtype == DType::BF16 || b.dtype == DType::BF16);
  const Tensor c = device.empty(integers ? DType::I32 : narrow ? DType::BF16 : DType::F32, out);
  args.c = c.data();
  args.c_dtype = c.dtype;
  const double flops = 2.0 * static_cast<double>(out.numel()) * static_cast<double>(args.k + args.k2);
  const OpInfo info(op, {a.shape, b.shape}, flops, static_cast<double>(a.bytes() + b.bytes() + c.bytes()));
  if (out.numel() == 0) return c;
  if (integers) {
    args.b = b.data();
    matmul_i32_launch(device, info, args);
  } else {
    matmul_launch(device, info, args, b);
  }
  return c;
}

}  // namespace eq
