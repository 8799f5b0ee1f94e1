// What the shim must find in kernels that use Hopper's instructions: a small product C [64, 128] = A B^T, whose tiles a
// warp copies into a ring of two stages and a warpgroup multiplies, with one mistake or none; and a cluster of two
// blocks. See probe.cc.
#include "simt/probe.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/cuda/cluster.cuh"
#include "runtime/cuda/hopper.cuh"

namespace eq {

namespace {

constexpr int kM = 64, kN = 128, kTile = 64, kSteps = 5, kStages = 2, kThreads = 160;
constexpr unsigned kBytesA = kM * kTile * 2, kBytesB = kN * kTile * 2, kStage = kBytesA + kBytesB;

const char* const kMistakes[] = {"hopper_sound",
                                 "hopper_wrong_swizzle",
                                 "hopper_wrong_stride",
                                 "hopper_wrong_transposition",
                                 "hopper_misaligned_ring",
                                 "hopper_no_wait_for_copies",
                                 "hopper_wrong_parity",
                                 "hopper_too_few_bytes",
                                 "hopper_too_many_bytes",
                                 "hopper_stage_freed_too_early",
                                 "hopper_stage_filled_unasked",
                                 "hopper_no_wait_for_products",
                                 "hopper_no_products_fence",
                                 "hopper_no_proxy_fence",
                                 "hopper_operand_overwritten",
                                 "hopper_no_barrier_after_init",
                                 "hopper_no_init_fence",
                                 "hopper_copy_left_under_way",
                                 "hopper_one_warp_leaves_out_a_product"};
enum Mistake {
  kNone,
  kWrongSwizzle,
  kWrongStride,
  kWrongTransposition,
  kMisalignedRing,
  kNoWaitForCopies,
  kWrongParity,
  kTooFewBytes,
  kTooManyBytes,
  kFreedTooEarly,
  kFilledUnasked,
  kNoWaitForProducts,
  kNoProductsFence,
  kNoProxyFence,
  kOverwritten,
  kNoBarrier,
  kNoInitFence,
  kLeftUnderWay,
  kOneWarpLess
};

__device__ void produce(const CUtensorMap& a, const CUtensorMap& b, unsigned ring, unsigned full, unsigned empty,
                        Mistake m) {
  for (int step = 0; step < kSteps + (m == kLeftUnderWay); ++step) {
    const unsigned stage = static_cast<unsigned>(step % kStages), to = ring + stage * kStage;
    if (step >= kStages && m != kFilledUnasked)
      hopper::barrier_wait(empty + stage * 8, static_cast<unsigned>(step / kStages - 1) & 1u);
    hopper::barrier_expect(full + stage * 8, m == kTooFewBytes ? kBytesA : m == kTooManyBytes ? kStage + 16 : kStage);
    hopper::copy_tile(to, &a, full + stage * 8, step * kTile, 0);
    hopper::copy_tile(to + kBytesA, &b, full + stage * 8, step * kTile, 0);
  }
}

template <bool kTransposed>
__device__ void multiply(float (&sums)[kN / 2], unsigned tile, Mistake m) {
  for (unsigned k = 0; k < kTile / 16; ++k) {
    if (m == kOneWarpLess && k == 3 && threadIdx.x / 32 == 2) continue;
    std::uint64_t a = hopper::descriptor(tile + k * 32, 16), b = hopper::descriptor(tile + kBytesA + k * 32, 16);
    if (m == kWrongSwizzle) b += std::uint64_t{1} << 62;
    if (m == kWrongStride) a += std::uint64_t{1} << 38;
    hopper::WarpgroupProduct<kN, kTransposed>::add(sums, a, b);
  }
}

__global__ void product(const CUtensorMap a, const CUtensorMap b, float* c, Mistake m) {
  auto* const raw = dynamic_shared<unsigned char>();
  unsigned char* const ring = raw + (1024 - shared_address(raw) % 1024) % 1024 + (m == kMisalignedRing ? 128 : 0);
  const unsigned ring_at = shared_address(ring), full = ring_at + kStages * kStage, empty = full + kStages * 8;
  if (threadIdx.x == 0) {
    for (unsigned i = 0; i < kStages; ++i) {
      hopper::barrier_init(full + i * 8, 1);
      hopper::barrier_init(empty + i * 8, 4);
    }
    if (m != kNoInitFence) hopper::barrier_init_fence();
  }
  if (m != kNoBarrier) __syncthreads();
  if (threadIdx.x >= 128) {
    if (threadIdx.x == 128) produce(a, b, ring_at, full, empty, m);
    return;
  }
  float sums[kN / 2] = {};
  for (int step = 0; step < kSteps; ++step) {
    const unsigned stage = static_cast<unsigned>(step % kStages), tile = ring_at + stage * kStage;
    const unsigned parity = static_cast<unsigned>(step / kStages + (m == kWrongParity)) & 1u;
    if (m != kNoWaitForCopies || step != 1) hopper::barrier_wait(full + stage * 8, parity);
    if (m == kNoProxyFence && step == 1) {
      ring[stage * kStage + threadIdx.x] += 1;
      hopper::named_barrier(1, 128);
    }
    if (m != kNoProductsFence) hopper::products_begin();
    m == kWrongTransposition ? multiply<true>(sums, tile, m) : multiply<false>(sums, tile, m);
    hopper::products_commit();
    if (m == kOverwritten && step == 1) ring[stage * kStage + threadIdx.x] += 1;
    if (m == kFreedTooEarly) {
      if (threadIdx.x % 32 == 0) hopper::barrier_arrive(empty + stage * 8);
      hopper::products_wait<1>(sums);
    } else {
      hopper::products_wait<1>(sums);
      if (step > 0 && threadIdx.x % 32 == 0) hopper::barrier_arrive(empty + (step - 1) % kStages * 8);
    }
  }
  if (m != kNoWaitForProducts) hopper::products_wait<0>(sums);
  const unsigned lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
  for (unsigned i = 0; i < kN / 2; ++i) c[(row + i / 2 % 2 * 8) * kN + i / 4 * 8 + lane % 4 * 2 + i % 2] = sums[i];
  if (m == kNoWaitForProducts) hopper::products_wait<0>(sums);
}

Tensor matrix(Device& device, int rows, int seed, std::vector<float>& values) {
  std::vector<bf16> halves;
  for (int i = 0; i < rows * kSteps * kTile; ++i) {
    values.push_back(static_cast<float>((i * seed + i / 7) % 15 - 7));
    halves.emplace_back(values.back());
  }
  const Tensor t = device.empty(DType::BF16, {rows, kSteps * kTile});
  device.upload(t, halves.data(), DType::BF16);
  return t;
}
CUtensorMap map_of(const Tensor& t, int rows) {
  CUtensorMap map;
  const cuuint64_t sizes[] = {kSteps * kTile, static_cast<cuuint64_t>(rows)}, strides[] = {kSteps * kTile * 2};
  const cuuint32_t box[] = {kTile, static_cast<cuuint32_t>(rows)}, steps[] = {1, 1};
  if (cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, t.data(), sizes, strides, box, steps,
                             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    throw std::runtime_error("the tensor map was refused");
  return map;
}

void run_product(simt::SimtDevice& device, Mistake m) {
  std::vector<float> a, b, c(kM * kN);
  const Tensor ta = matrix(device, kM, 3, a), tb = matrix(device, kN, 5, b);
  const Tensor out = device.empty(DType::F32, {kM, kN});
  // Twice, for both orders of execution.
  for (int i = 0; i < 2; ++i) {
    launch_kernel(device, OpInfo("Product", {}), product,
                  {.grid_x = 1, .block = kThreads, .shared = 2048 + kStages * (kStage + 16)}, map_of(ta, kM),
                  map_of(tb, kN), out.data<float>(), m);
    device.read(out, c.data(), [](std::string) {});
    for (int at = 0; at < kM * kN; ++at) {
      float expected = 0;
      for (int k = 0; k < kSteps * kTile; ++k)
        expected += a[at / kN * kSteps * kTile + k] * b[at % kN * kSteps * kTile + k];
      if (!(c[at] == expected)) throw std::runtime_error(concat("c[", at, "] is ", c[at], ", not ", expected));
    }
  }
}

const char* const kClusterMistakes[] = {"cluster_sound", "cluster_no_barrier_before", "cluster_no_barrier_after",
                                        "cluster_wrong_size"};
enum ClusterMistake { kSound, kNoBarrierBefore, kNoBarrierAfter, kWrongSize };

/// Each block of two reads what the other one keeps in shared memory.
EQ_CLUSTER(2)
__global__ void swap(float* y, ClusterMistake m) {
  float* const own = dynamic_shared<float>();
  if (threadIdx.x == 0) *own = static_cast<float>(blockIdx.x + 1);
  if (m == kWrongSize)
    cluster_barrier<4>();
  else if (m != kNoBarrierBefore)
    cluster_barrier<2>();
  if (threadIdx.x == 0) y[blockIdx.x] = cluster_read<2>(own, 1 - blockIdx.x % 2);
  if (m != kNoBarrierAfter) cluster_barrier<2>();
}

void run_cluster(simt::SimtDevice& device, ClusterMistake m) {
  const Tensor y = device.empty(DType::F32, {4});
  for (int i = 0; i < 2; ++i) {
    launch_kernel(device, OpInfo("Swap", {}), swap, {.grid_x = 4, .block = 64, .shared = 4, .cluster = 2},
                  y.data<float>(), m);
    float out[4];
    device.read(y, out, [](std::string) {});
    constexpr float kExpected[4] = {2, 1, 4, 3};
    for (int b = 0; b < 4; ++b)
      if (out[b] != kExpected[b]) throw std::runtime_error(concat("y[", b, "] is ", out[b]));
  }
}

}  // namespace

bool probe_hopper(simt::SimtDevice& device, const char* name) {
  for (std::size_t i = 0; i < std::size(kMistakes); ++i)
    if (std::strcmp(name, kMistakes[i]) == 0) return run_product(device, static_cast<Mistake>(i)), true;
  for (std::size_t i = 0; i < std::size(kClusterMistakes); ++i)
    if (std::strcmp(name, kClusterMistakes[i]) == 0) return run_cluster(device, static_cast<ClusterMistake>(i)), true;
  return false;
}

}  // namespace eq
