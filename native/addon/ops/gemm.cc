#include "addon/families.h"
#include "kernels/gemm/ceiling/op.h"
#include "kernels/gemm/matmul/op.h"

namespace eq::addon {

namespace {

float real(Call& c, std::size_t i, const char* name) { return static_cast<float>(c.number(i, name)); }

// matMul(a, b, transposeA, transposeB, storeF32) -> c
void mat_mul(Call& c) {
  MatMulOptions o;
  o.a_transposed = c.boolean(2, "transposeA");
  o.b_transposed = c.boolean(3, "transposeB");
  o.store_f32 = c.boolean(4, "storeF32");
  c.give(matmul(c.device(), "MatMul", c.tensor(0, "a"), c.tensor(1, "b"), o));
}

// fusedMatMul(a, b, transposeA, transposeB, bias, activation, leak, prelu, addend, beta, scale, storeF32) -> c
void fused_mat_mul(Call& c) {
  MatMulOptions o;
  o.a_transposed = c.boolean(2, "transposeA");
  o.b_transposed = c.boolean(3, "transposeB");
  o.bias = c.optional_tensor(4, "bias");
  o.activation = c.choice(5, "activation", FusedActivation::QuickGelu);
  o.leak = real(c, 6, "leak");
  o.prelu = c.optional_tensor(7, "prelu");
  o.addend = c.optional_tensor(8, "addend");
  o.beta = real(c, 9, "beta");
  o.scale = real(c, 10, "scale");
  o.store_f32 = c.boolean(11, "storeF32");
  c.give(matmul(c.device(), "FusedMatMul", c.tensor(0, "a"), c.tensor(1, "b"), o));
}

// linear(x, weight, bias, activation, x2, weight2, scale2, columnScale, storeF32, addend) -> y
void linear(Call& c) {
  const Tensor& x = c.tensor(0, "x");
  const Tensor& weight = c.tensor(1, "weight");
  check_type(x.shape.rank() >= 1 && weight.shape.rank() == 2,
             "Linear: x must have rank 1 or more and weight rank 2, got ", x.shape.str(), " and ", weight.shape.str());
  MatMulOptions o;
  o.b_transposed = true;
  o.bias = c.optional_tensor(2, "bias");
  o.activation = c.choice(3, "activation", FusedActivation::QuickGelu);
  o.a2 = c.optional_tensor(4, "x2");
  o.b2 = c.optional_tensor(5, "weight2");
  o.scale2 = real(c, 6, "scale2");
  o.column_scale = c.optional_tensor(7, "columnScale");
  o.addend = c.optional_tensor(9, "addend");
  o.store_f32 = c.boolean(8, "storeF32") || (o.addend && o.addend.dtype == DType::F32);
  const int last = x.shape.rank() - 1;
  std::int64_t rows = 1, dims[Shape::kMaxRank];
  for (int i = 0; i < last; ++i) rows *= dims[i] = x.shape[i];
  dims[last] = weight.shape[0];
  const Tensor y = matmul(c.device(), "Linear", x.reshaped({rows, x.shape[last]}), weight, o);
  c.give(y.reshaped(Shape(dims, last + 1)));
}

// ceilingMultiply(half, rounds) -> sums
void multiply_ceiling(Call& c) {
  c.give(ceiling_multiply(c.device(), c.boolean(0, "half"), c.integer(1, "rounds", 1, std::int64_t{1} << 24)));
}

// ceilingCopy(x) -> y
void copy_ceiling(Call& c) { c.give(ceiling_copy(c.device(), c.tensor(0, "x"))); }

const Op kOps[] = {
    {"matMul", mat_mul},
    {"fusedMatMul", fused_mat_mul},
    {"linear", linear},
    {"ceilingMultiply", multiply_ceiling},
    {"ceilingCopy", copy_ceiling},
};

}  // namespace

void register_gemm(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
