// Attention as matrix products (unfused.h). softmax_kernel and gradient_kernel: one warp per row of scores, three and
// one passes over it; 8 bytes per score and product, which is why the fused kernels exist.
#include "kernels/attention/unfused.h"

#include <algorithm>

#include "kernels/gemm/core/tile_gemm.h"
#include "runtime/cuda/reduce.cuh"

namespace eq::flash {

namespace {

constexpr int kThreads = 256, kRowsPerBlock = kThreads / 32;

/// Batches and heads first .. first + count of one product of the group.
struct Group {
  std::int64_t batch, batches, head, heads;
  std::int64_t count() const { return batches * heads; }
};

/// Scores [group heads, Lq, pitch]; logsumexp and delta [B, H, Lq].
struct RowArgs {
  float* scores;
  void* probabilities;    ///< may be the scores
  const float* upstream;  ///< dO V^T; gradient only
  void* gradient;         ///< may be upstream; gradient only
  float* logsumexp;
  const float* delta;
  DType type;  ///< of probabilities and gradient
  Group group;
  std::int64_t heads, lq, lk, pitch, rows;
  bool causal;
  float scale;

  /// Row of logsumexp and delta, and the keys seen, of row i of the group.
  __device__ std::int64_t locate(std::int64_t i, std::int64_t& visible) const {
    const std::int64_t index = i / lq, query = i - index * lq, batch = index / group.heads;
    visible = causal ? query + lk - lq + 1 : lk;
    return ((group.batch + batch) * heads + group.head + index - batch * group.heads) * lq + query;
  }
};

__global__ void __launch_bounds__(kThreads) softmax_kernel(const RowArgs a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32; i < a.rows;
       i += std::int64_t{gridDim.x} * kRowsPerBlock) {
    std::int64_t visible;
    const std::int64_t row = a.locate(i, visible);
    const float* const s = a.scores + i * a.pitch;
    float top = -__builtin_huge_valf(), sum = 0.0f;
    for (std::int64_t j = lane; j < visible; j += 32) top = fmaxf(top, s[j] * a.scale);
    top = warp_max(top);
    for (std::int64_t j = lane; j < visible; j += 32) sum += expf(s[j] * a.scale - top);
    sum = warp_sum(sum);
    for (std::int64_t j = lane; j < a.lk; j += 32)
      store_float(a.probabilities, a.type, i * a.pitch + j, j < visible ? expf(s[j] * a.scale - top) / sum : 0.0f);
    if (lane == 0) a.logsumexp[row] = top + logf(sum);
  }
}

__global__ void __launch_bounds__(kThreads) gradient_kernel(const RowArgs a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32; i < a.rows;
       i += std::int64_t{gridDim.x} * kRowsPerBlock) {
    std::int64_t visible;
    const std::int64_t row = a.locate(i, visible);
    const float logsumexp = a.logsumexp[row], delta = a.delta[row];
    for (std::int64_t j = lane; j < a.lk; j += 32) {
      const std::int64_t at = i * a.pitch + j;
      const float p = j < visible ? expf(a.scores[at] * a.scale - logsumexp) : 0.0f;
      const float upstream = a.upstream[at];
      store_float(a.probabilities, a.type, at, p);
      store_float(a.gradient, a.type, at, j < visible ? a.scale * p * (upstream - delta) : 0.0f);
    }
  }
}

/// One operand of the products: where row 0 of batch 0, head 0 lies, and the strides between rows, heads and batches.
struct Rows {
  const void* data;
  std::int64_t pitch, head, batch;
  Tensor copy;
};

/// The operand in the storage of the products: as it lies, or copied to [B, H, L, depth padded].
Rows ready(Device& device, const OpInfo& info, const AttentionDims& d, const void* data, DType stored, DType wanted,
           std::int64_t length) {
  const std::int64_t channels = d.channels();
  const auto chunk = static_cast<std::int64_t>(16 / dtype_size(wanted));
  if (tile::lines_fit(data, stored, wanted, channels) && d.depth % chunk == 0)
    return {data, channels, d.depth, length * channels, {}};
  const std::int64_t padded = tile::padded_length(d.depth);
  // Lines run over (batch, row, head); each head's rows stay `heads` lines apart.
  Tensor copy = tile::pack_lines(
      device, info, {data, stored, {d.batch * length, d.heads, 1}, {channels, d.depth, 0}, d.heads, d.depth, padded},
      wanted);
  return {copy.data(), d.heads * padded, padded, length * d.heads * padded, copy};
}

/// Everything that the products of one group share.
class Products {
 public:
  Products(Device& device, const OpInfo& info, const AttentionDims& d, DType type, std::int64_t pitch)
      : device_(device), info_(info), d_(d), type_(type), pitch_(pitch) {}

  /// scores [Lq, Lk] = x y^T over a head's channels.
  void scores(const Group& g, const Rows& x, const Rows& y, float* to) const {
    tile::Gemm p = start(d_.lq, d_.lk, d_.depth);
    p.a = {at(x, g), true, x.pitch};
    p.b = {at(y, g), true, y.pitch};
    batches(p, g, x.batch, x.head, y.batch, y.head, g.heads * d_.lq * pitch_, d_.lq * pitch_);
    p.out.c = to;
    p.out.type = DType::F32;
    p.out.rows.pitch = pitch_;
    run(p, g);
  }
  /// Rows of `out` (a tensor [B, rows, H*D]) = scores x, or scores^T x where transposed.
  void mix(const Group& g, const void* scores, bool transposed, const Rows& x, void* out, DType type) const {
    const std::int64_t rows = transposed ? d_.lk : d_.lq, channels = d_.channels();
    tile::Gemm p = start(rows, d_.depth, transposed ? d_.lq : d_.lk);
    p.a = {scores, !transposed, pitch_};
    p.b = {at(x, g), false, x.pitch};
    batches(p, g, g.heads * d_.lq * pitch_, d_.lq * pitch_, x.batch, x.head, rows * channels, d_.depth);
    const std::int64_t first = g.batch * rows * channels + g.head * d_.depth;
    p.out.c = static_cast<char*>(out) + first * static_cast<std::int64_t>(dtype_size(type));
    p.out.type = type;
    p.out.rows.pitch = channels;
    run(p, g);
  }

 private:
  tile::Gemm start(std::int64_t m, std::int64_t n, std::int64_t k) const {
    tile::Gemm p{};
    p.type = type_;
    p.m = m;
    p.n = n;
    p.k = k;
    return p;
  }
  const void* at(const Rows& x, const Group& g) const {
    const std::int64_t first = g.batch * x.batch + g.head * x.head;
    return static_cast<const char*>(x.data) + first * static_cast<std::int64_t>(dtype_size(type_));
  }
  static void batches(tile::Gemm& p, const Group& g, std::int64_t a_batch, std::int64_t a_head, std::int64_t b_batch,
                      std::int64_t b_head, std::int64_t c_batch, std::int64_t c_head) {
    p.batches.rank = 2;
    p.batches.dims[0] = static_cast<unsigned>(g.batches);
    p.batches.dims[1] = static_cast<unsigned>(g.heads);
    p.batches.a[0] = a_batch, p.batches.a[1] = a_head;
    p.batches.b[0] = b_batch, p.batches.b[1] = b_head;
    p.batches.c[0] = c_batch, p.batches.c[1] = c_head;
  }
  void run(const tile::Gemm& p, const Group&) const { tile::gemm(device_, info_, p); }

  Device& device_;
  const OpInfo& info_;
  const AttentionDims& d_;
  DType type_;
  std::int64_t pitch_;
};

/// Calls f for groups of whole batches, or of heads of one batch, whose scores fit into the workspace.
template <class F>
void for_groups(const AttentionDims& d, std::int64_t head_bytes, F&& f) {
  const std::int64_t most = std::max<std::int64_t>(1, kWorkspace / head_bytes);
  const std::int64_t batches = std::max<std::int64_t>(1, most / d.heads), heads = std::min(d.heads, most);
  for (std::int64_t b = 0; b < d.batch; b += batches)
    for (std::int64_t h = 0; h < d.heads; h += heads)
      f(Group{b, std::min(batches, d.batch - b), h, std::min(heads, d.heads - h)});
}

RowArgs row_args(const AttentionDims& d, const Group& g, DType type, std::int64_t pitch, float* scores) {
  RowArgs a{};
  a.scores = scores;
  a.type = type;
  a.group = g;
  a.heads = d.heads;
  a.lq = d.lq;
  a.lk = d.lk;
  a.pitch = pitch;
  a.rows = g.count() * d.lq;
  a.causal = d.causal;
  a.scale = d.scale;
  return a;
}

DType product_type(DType q, DType k, DType v) {
  return q == DType::BF16 && k == DType::BF16 && v == DType::BF16 ? DType::BF16 : DType::F32;
}

}  // namespace

void unfused_attention(Device& device, const OpInfo& info, const AttentionArgs& args) {
  const AttentionDims& d = args.dims;
  const DType type = product_type(args.q_type, args.k_type, args.v_type);
  const std::int64_t pitch = tile::padded_length(d.lk), size = d.lq * pitch;
  const Rows q = ready(device, info, d, args.q, args.q_type, type, d.lq);
  const Rows k = ready(device, info, d, args.k, args.k_type, type, d.lk);
  const Rows v = ready(device, info, d, args.v, args.v_type, type, d.lk);
  const Products products(device, info, d, type, pitch);
  for_groups(d, size * 4, [&](const Group& g) {
    const Tensor scores = device.empty(DType::F32, {g.count(), d.lq, pitch});
    // f32 probabilities take the place of the scores.
    const Tensor probabilities = type == DType::F32 ? scores : device.empty(type, scores.shape);
    products.scores(g, q, k, scores.data<float>());
    RowArgs a = row_args(d, g, type, pitch, scores.data<float>());
    a.probabilities = probabilities.data();
    a.logsumexp = args.logsumexp;
    launch_kernel(device, info, softmax_kernel, Launch{grid_for(device, a.rows, kRowsPerBlock), 1, 1, kThreads}, a);
    products.mix(g, probabilities.data(), false, v, args.out, args.out_type);
  });
}

void unfused_attention_grad(Device& device, const OpInfo& info, const AttentionGradArgs& args, const float* delta) {
  const AttentionDims& d = args.dims;
  const DType type = product_type(args.q_type, args.k_type, args.v_type);
  const std::int64_t pitch = tile::padded_length(d.lk), size = d.lq * pitch;
  const Rows q = ready(device, info, d, args.q, args.q_type, type, d.lq);
  const Rows k = ready(device, info, d, args.k, args.k_type, type, d.lk);
  const Rows v = ready(device, info, d, args.v, args.v_type, type, d.lk);
  const Rows dy = ready(device, info, d, args.dy, args.dy_type, type, d.lq);
  const Products products(device, info, d, type, pitch);
  for_groups(d, size * 8, [&](const Group& g) {
    const Tensor scores = device.empty(DType::F32, {g.count(), d.lq, pitch});
    const Tensor upstream = device.empty(DType::F32, scores.shape);
    const Tensor probabilities = type == DType::F32 ? scores : device.empty(type, scores.shape);
    const Tensor gradient = type == DType::F32 ? upstream : device.empty(type, scores.shape);
    products.scores(g, q, k, scores.data<float>());
    products.scores(g, dy, v, upstream.data<float>());
    RowArgs a = row_args(d, g, type, pitch, scores.data<float>());
    a.probabilities = probabilities.data();
    a.upstream = upstream.data<float>();
    a.gradient = gradient.data();
    a.logsumexp = const_cast<float*>(args.logsumexp);
    a.delta = delta;
    launch_kernel(device, info, gradient_kernel, Launch{grid_for(device, a.rows, kRowsPerBlock), 1, 1, kThreads}, a);
    products.mix(g, probabilities.data(), true, dy, args.dv, args.v_type);
    products.mix(g, gradient.data(), true, q, args.dk, args.k_type);
    products.mix(g, gradient.data(), false, k, args.dq, args.q_type);
  });
}

}  // namespace eq::flash
