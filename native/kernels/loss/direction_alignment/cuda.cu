// Direction alignment and semantic consistency with their gradient in one launch: op.h.
//
// A block takes one text: it brings the K texts and means of its context and the plain prompt to shared memory,
// normalises them, forms the cosines of its own K - 1 pairs and from them its own gradient: no block waits for another.
//
//   du_i = sum_j a_ij (u_i - u_j) - b_ij (m_i - m_j) - w/2 open_i o;   a = w cos / |d|^2, b = w / (|d| |e|)
//   with d = u_i - u_j, e = m_i - m_j, w = 1 / (C (K-1));   dt_i = (du_i - u_i <u_i, du_i>) / |t_i|
//
// Every pair is thus computed twice; in exchange 108 texts fill the device in one wave. The differences are formed
// before they are scaled: near coincidence sum a u_i - sum a u_j would cancel. The block that finishes last adds up
// the texts' sums in order. Where it finds that some direction does not exist, of which the blocks of other texts
// knew nothing, it replaces their gradients by the fallback's. Before the first update, and for an absent category,
// every block knows.
//
// Bytes: 8 N D from and to memory, 2 K + 1 rows a text from cache; FLOPs: about 20 N K D. Launch: N blocks of 512
// threads (a warp per row and per pair, a thread per column of the gradient), (2 K + 2) D + 5 K + 1 floats of dynamic
// shared memory, 61 KB for K = 9, D = 768; up to 128 registers, as one block a multiprocessor is all there is. A chain
// of latencies: load, two sums over warps, one over the block, counter, sums of the texts.
//
// Limits: up to kMostCategories. Where the context does not fit into kCacheBytes its rows are read from memory at each
// use and normalised anew. Two equal image means cost the last block a pass over nearly all texts.
#include "kernels/packet.cuh"
#include "runtime/cuda/reduce.cuh"

#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr std::int64_t kMostCategories = 4096;
/// Fits beside the static shared memory on every device from sm_80 on.
constexpr std::int64_t kCacheBytes = 96 << 10;

/// One bit per category, passed by value.
struct Flags {
  std::uint32_t words[kMostCategories / 32];
  __device__ bool operator[](std::int64_t k) const { return words[k / 32] >> (k % 32) & 1; }
};

/// The sums of one text, over the pairs of which it is the first.
struct TextSums {
  double alignment, hinge, matching, exists;
};

struct Problem {
  std::int64_t contexts, categories, after, depth, pairs;
  const void *text, *original, *means;
  DType text_type, original_type, means_type;
  float consistency;
  /// 1 / (C (K-1))
  double weight;
  /// Whether every category has images; whether rows can be read in packets.
  bool all_present, packed;
  float *loss, *dtext, *parts, *cosines;
  /// Cosines of every context [contexts, pairs], and the sums of every text.
  float* context_cosines;
  TextSums* sums;
  /// Counts finished blocks; 0 before and after the launch.
  unsigned* ticket;

  /// Row of category 0 of a context; the next category's is `after` rows further.
  __device__ std::int64_t first_row(std::int64_t context) const {
    return context / after * categories * after + context % after;
  }
  /// Index of the pair i < j.
  __device__ std::int64_t pair(std::int64_t i, std::int64_t j) const {
    return i * (2 * categories - i - 1) / 2 + j - i - 1;
  }
};

/// A block's view of one context. The arrays are in shared memory.
template <bool kCached>
struct Context {
  const Problem& p;
  const Flags& present;
  std::int64_t index, first_row;
  /// Lengths of the K texts and of the plain prompt. By category: similarity to the plain prompt; of the pair with the
  /// block's text the cosine and the factors of u_i - u_j and of m_i - m_j in the gradient.
  float *length, *similarity, *cosine, *along_text, *along_image;
  /// Where cached: one gradient [D]; texts [K, D], plain prompt [D], means [K, D].
  float *gradient, *rows;

  __device__ Context(const Problem& problem, const Flags& flags, float* shared)
      : p(problem), present(flags), index(0), first_row(0) {
    rows = shared;
    gradient = rows + (kCached ? (2 * p.categories + 1) * p.depth : 0);
    length = gradient + (kCached ? p.depth : 0);
    similarity = length + p.categories + 1;
    cosine = similarity + p.categories;
    along_text = cosine + p.categories;
    along_image = along_text + p.categories;
  }
  __device__ void enter(std::int64_t context) {
    index = context;
    first_row = p.first_row(context);
  }
  /// The first element of the text of category k.
  __device__ std::int64_t text(std::int64_t k) const { return (first_row + k * p.after) * p.depth; }
  /// Where a text (k < K), the plain prompt (k = K) or a mean lies in its tensor.
  struct Row {
    const void* data;
    DType type;
    std::int64_t begin;
  };
  __device__ Row row(std::int64_t k) const {
    if (k < p.categories) return {p.text, p.text_type, text(k)};
    if (k == p.categories) return {p.original, p.original_type, 0};
    return {p.means, p.means_type, (k - p.categories - 1) * p.depth};
  }
  /// Row k <= K as it came.
  __device__ float raw(std::int64_t k, std::int64_t e) const {
    const Row r = row(k);
    return load_float(r.data, r.type, r.begin + e);
  }
  /// Text k < K or the plain prompt k = K at unit length.
  __device__ float unit(std::int64_t k, std::int64_t e) const {
    return kCached ? rows[k * p.depth + e] : raw(k, e) / length[k];
  }
  __device__ float mean(std::int64_t k, std::int64_t e) const {
    if (kCached) return rows[(p.categories + 1 + k) * p.depth + e];
    return present[k] ? load_float(p.means, p.means_type, k * p.depth + e) : 0.0f;
  }
};

/// Copies the context's rows to shared memory, two rows to a warp at a time, whose loads come before the first use of
/// one. An absent category's mean becomes zeros.
__device__ void cache_rows(const Context<true>& c) {
  const Problem& p = c.p;
  const auto rows = static_cast<unsigned>(2 * p.categories + 1), depth = static_cast<unsigned>(p.depth);
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const auto is_absent = [&](unsigned row) { return row > p.categories && !c.present[row - p.categories - 1]; };
  if (!p.packed) {
    for (unsigned row = warp; row < rows; row += kWarps) {
      const auto r = c.row(row);
      const bool absent = is_absent(row);
      for (unsigned e = lane; e < depth; e += 32)
        c.rows[row * depth + e] = absent ? 0.0f : load_float(r.data, r.type, r.begin + e);
    }
    return;
  }
  constexpr unsigned kRows = 2, kBatch = 3, kStep = 32 * kPacket;
  for (unsigned first = warp; first < rows; first += kRows * kWarps)
    for (unsigned e = lane * kPacket; e < depth; e += kBatch * kStep) {
      Packet packets[kRows][kBatch];
#pragma unroll
      for (unsigned n = 0; n < kRows; ++n) {
        const unsigned row = first + n * kWarps;
        if (row >= rows) break;
        const auto r = c.row(row);
#pragma unroll
        for (unsigned m = 0; m < kBatch; ++m)
          if (e + m * kStep < depth) packets[n][m] = load_packet(r.data, r.type, r.begin + e + m * kStep);
      }
#pragma unroll
      for (unsigned n = 0; n < kRows; ++n) {
        const unsigned row = first + n * kWarps;
        if (row >= rows) break;
        const DType type = c.row(row).type;
        const bool absent = is_absent(row);
#pragma unroll
        for (unsigned m = 0; m < kBatch; ++m) {
          if (e + m * kStep >= depth) break;
          float values[kPacket];
          unpack(packets[n][m], type, values);
#pragma unroll
          for (float& value : values) value = absent ? 0.0f : value;
          store_vector<kPacket>(c.rows + row * depth + e + m * kStep, values);
        }
      }
    }
}

/// Lengths of the texts and of the plain prompt, and where cached their unit vectors, a warp per row. A zero or NaN
/// stays visible as NaN.
template <bool kCached>
__device__ void normalise(const Context<kCached>& c) {
  const std::int64_t depth = c.p.depth;
  const int lane = static_cast<int>(threadIdx.x % 32);
  if constexpr (kCached) cache_rows(c);
  __syncthreads();
  for (std::int64_t k = threadIdx.x / 32; k <= c.p.categories; k += kWarps) {
    float squares = 0;
    for (std::int64_t e = lane; e < depth; e += 32) {
      const float t = kCached ? c.rows[k * depth + e] : c.raw(k, e);
      squares += t * t;
    }
    const float length = sqrtf(warp_sum(squares));
    if (kCached)
      for (std::int64_t e = lane; e < depth; e += 32) c.rows[k * depth + e] /= length;
    if (lane == 0) c.length[k] = length;
  }
  __syncthreads();
}

/// Similarities of the texts, cosines of text `i` with the others and the factors of its gradient, a warp per text.
/// Returns whether every direction that this warp saw exists, and on the first lane of one warp 1 - <u_i, m_i>.
template <bool kCached>
__device__ bool align(const Context<kCached>& c, std::int64_t i, double& matching) {
  const Problem& p = c.p;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const auto weight = static_cast<float>(p.weight);
  bool exists = true;
  for (std::int64_t j = threadIdx.x / 32; j < p.categories; j += kWarps) {
    float text_squares = 0, image_squares = 0, product = 0, similarity = 0, match = 0;
    for (std::int64_t e = lane; e < p.depth; e += 32) {
      const float u = c.unit(j, e), m = c.mean(j, e), d = c.unit(i, e) - u, image = c.mean(i, e) - m;
      text_squares += d * d;
      image_squares += image * image;
      product += d * image;
      similarity += c.unit(p.categories, e) * u;
      match += u * m;
    }
    const float text_length = sqrtf(warp_sum(text_squares)), image_length = sqrtf(warp_sum(image_squares));
    product = warp_sum(product);
    similarity = warp_sum(similarity);
    match = warp_sum(match);
    if (lane != 0) continue;
    c.similarity[j] = similarity;
    // Written so that NaN counts as a direction and is seen in the loss.
    const bool no_text = text_length <= kDirectionFloor, no_image = image_length <= kDirectionFloor;
    const bool none = i == j || no_text || no_image;
    const float cosine = none ? 0.0f : product / image_length / text_length;
    c.cosine[j] = cosine;
    c.along_text[j] = none ? 0.0f : weight * cosine / text_length / text_length;
    c.along_image[j] = none ? 0.0f : weight / text_length / image_length;
    if (i == j) matching = c.present[i] ? 1 - static_cast<double>(match) : 0.0;
    if (i != j && none) exists = false;
    if (i < j) p.context_cosines[c.index * p.pairs + p.pair(i, j)] = cosine;
  }
  return exists;
}

/// The gradient of text `i`, with the directions or with the cosine loss that stands in for them; `open` of its hinges
/// have a slope.
template <bool kCached>
__device__ void gradient(const Context<kCached>& c, std::int64_t i, int open, bool fallback, float* shared) {
  const Problem& p = c.p;
  float* to = p.dtext + c.text(i);
  // Every thread comes back to its own elements: the result's memory serves where there is no other.
  float* du = kCached ? c.gradient : to;
  const float hinge = -0.5f * static_cast<float>(p.weight) * static_cast<float>(open);
  const float share = -1 / static_cast<float>(p.contexts);
  float along = 0;
  for (std::int64_t e = threadIdx.x; e < p.depth; e += kThreads) {
    const float u = c.unit(i, e), m = c.mean(i, e);
    float sum = 0;
    if (fallback) {
      sum = share * m;
    } else {
#pragma unroll 4
      for (std::int64_t j = 0; j < p.categories; ++j)
        sum += c.along_text[j] * (u - c.unit(j, e)) - c.along_image[j] * (m - c.mean(j, e));
    }
    sum += hinge * c.unit(p.categories, e);
    du[e] = sum;
    along += u * sum;
  }
  along = block_sum<kThreads>(along, shared);
  for (std::int64_t e = threadIdx.x; e < p.depth; e += kThreads) to[e] = (du[e] - along * c.unit(i, e)) / c.length[i];
}

/// All of one text. `replace` is for the last block: the gradient of the fallback, and no sums.
template <bool kCached>
__device__ void process_text(Context<kCached>& c, std::int64_t text, bool replace, float* shared) {
  const Problem& p = c.p;
  c.enter(text / p.categories);
  const std::int64_t i = text % p.categories;
  // The previous text's rows are no longer read.
  __syncthreads();
  normalise(c);
  double matching = 0;
  const bool exists = __syncthreads_and(align(c, i, matching)) != 0 && p.all_present;
  // Every thread adds up the few categories for itself.
  double alignment = 0, hinges = 0;
  int open = 0;
  for (std::int64_t j = 0; j < p.categories; ++j) {
    if (j == i) continue;
    const float hinge = p.consistency - 0.5f * (c.similarity[i] + c.similarity[j]);
    if (j > i) alignment += 1 - static_cast<double>(c.cosine[j]);
    // Written so that NaN reaches the loss.
    if (hinge <= 0) continue;
    ++open;
    if (j > i) hinges += static_cast<double>(hinge);
  }
  gradient(c, i, open, replace || !exists, shared);
  // The first lane of the warp that saw text i knows its matching term.
  if (!replace && threadIdx.x == static_cast<unsigned>(i % kWarps) * 32)
    p.sums[text] = {alignment, hinges, matching, exists ? 1.0 : 0.0};
}

/// Adds up the texts' sums and the contexts' cosines, and redoes gradients where directions turned out not to exist.
template <bool kCached>
__device__ void finish(Context<kCached>& c, double* shared, float* float_shared) {
  const Problem& p = c.p;
  const std::int64_t texts = p.contexts * p.categories;
  // Written by other blocks while this one ran.
  const volatile TextSums* sums = p.sums;
  const volatile float* cosines = p.context_cosines;
  double alignment = 0, hinge = 0, matching = 0, missing = 0;
  for (std::int64_t text = threadIdx.x; text < texts; text += kThreads) {
    alignment += sums[text].alignment;
    hinge += sums[text].hinge;
    matching += sums[text].matching;
    missing += 1 - sums[text].exists;
  }
  alignment = block_sum<kThreads>(alignment, shared) * p.weight;
  hinge = block_sum<kThreads>(hinge, shared) * p.weight;
  matching = block_sum<kThreads>(matching, shared) / static_cast<double>(p.contexts);
  const bool fallback = block_sum<kThreads>(missing, shared) > 0;
  // A warp takes kAtOnce pairs, so that their reads are under way together.
  constexpr int kAtOnce = 4;
  for (std::int64_t first = threadIdx.x / 32; first < p.pairs; first += kAtOnce * kWarps) {
    double sum[kAtOnce] = {};
    for (std::int64_t context = threadIdx.x % 32; context < p.contexts; context += 32)
#pragma unroll
      for (int n = 0; n < kAtOnce; ++n)
        if (first + n * kWarps < p.pairs)
          sum[n] += static_cast<double>(cosines[context * p.pairs + first + n * kWarps]);
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      sum[n] = warp_sum(sum[n]);
      if (threadIdx.x % 32 == 0 && first + n * kWarps < p.pairs)
        p.cosines[first + n * kWarps] = static_cast<float>(sum[n] / static_cast<double>(p.contexts));
    }
  }
  if (fallback) alignment = matching;
  if (threadIdx.x == 0) {
    p.parts[0] = static_cast<float>(alignment);
    p.parts[1] = static_cast<float>(hinge);
    p.parts[2] = fallback ? 1.0f : 0.0f;
    *p.loss = static_cast<float>(alignment + hinge);
    *p.ticket = 0;
  }
  if (!fallback) return;
  for (std::int64_t text = 0; text < texts; ++text)
    if (sums[text].exists != 0) process_text(c, text, true, float_shared);
}

template <bool kCached>
__global__ void __launch_bounds__(kThreads, 1)
    align_texts(const __grid_constant__ Problem p, const __grid_constant__ Flags present) {
  __shared__ double shared[kWarps];
  __shared__ float float_shared[kWarps];
  __shared__ bool last;
  Context<kCached> context(p, present, dynamic_shared<float>());
  for (std::int64_t text = blockIdx.x; text < p.contexts * p.categories; text += gridDim.x)
    process_text(context, text, false, float_shared);
  // Publish this block's results before its count.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(p.ticket, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  finish(context, shared, float_shared);
}

}  // namespace

void direction_alignment_launch(Device& device, const OpInfo& info, DirectionArgs args) {
  const DirectionDims& d = args.dims;
  check_range(d.categories <= kMostCategories, info.name, ": at most ", kMostCategories,
              " categories on this device, got ", d.categories);
  Flags present{};
  bool all_present = true;
  for (std::int64_t k = 0; k < d.categories; ++k) {
    const bool is_there = args.present[static_cast<std::size_t>(k)] != 0;
    present.words[k / 32] |= static_cast<std::uint32_t>(is_there) << (k % 32);
    all_present = all_present && is_there;
  }
  const bool packed = d.depth % kPacket == 0 && packets_fit(args.text, args.text_type) &&
                      packets_fit(args.original, args.original_type) && packets_fit(args.means, args.means_type);
  const Tensor sums = device.empty(DType::F32, {d.texts(), sizeof(TextSums) / sizeof(float)});
  const Problem problem{d.contexts(),
                        d.categories,
                        d.after,
                        d.depth,
                        d.pairs(),
                        args.text,
                        args.original,
                        args.means,
                        args.text_type,
                        args.original_type,
                        args.means_type,
                        args.consistency,
                        1 / static_cast<double>(d.contexts() * (d.categories - 1)),
                        all_present,
                        packed,
                        args.loss,
                        args.dtext,
                        args.parts,
                        args.cosines,
                        args.scratch,
                        sums.data<TextSums>(),
                        tickets(device)};
  const std::int64_t small = 4 * (5 * d.categories + 1);
  const std::int64_t cached = small + 4 * (2 * d.categories + 2) * d.depth;
  const bool fits = cached <= kCacheBytes;
  const Launch launch{.grid_x = static_cast<unsigned>(std::min<std::int64_t>(d.texts(), 1 << 30)),
                      .block = kThreads,
                      .shared = static_cast<unsigned>(fits ? cached : small)};
  launch_kernel(device, info, fits ? align_texts<true> : align_texts<false>, launch, problem, present);
}

}  // namespace eq
