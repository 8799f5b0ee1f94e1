// Packets: eight consecutive elements of a tensor whose storage is known at run time only. One thread moves a packet in
// accesses of 16 bytes (two for f32 and i32, one for bf16; bool takes one of 8). Loading and converting are two steps,
// so that the loads of several operands are under way before the first is used. The branches on the storage are the
// same for every thread of a launch: they cost an instruction or two for eight elements and spare a kernel for every
// combination of storages.
#pragma once

#include <type_traits>

#include "runtime/cuda/vec.cuh"

namespace eq {

inline constexpr int kPacket = 8;

struct Packet {
  unsigned words[8];
};

/// Whether packets may start at p.
inline bool packets_fit(const void* p, DType type) {
  return reinterpret_cast<std::uintptr_t>(p) % (dtype_size(type) == 1 ? 8 : 16) == 0;
}

/// Elements [at, at + 8) of memory that no thread writes meanwhile.
__device__ inline Packet load_packet(const void* data, DType type, std::int64_t at) {
  Packet p{};
  if (type == DType::BF16) {
    const uint4 v = __ldg(reinterpret_cast<const uint4*>(static_cast<const bf16*>(data) + at));
    p.words[0] = v.x, p.words[1] = v.y, p.words[2] = v.z, p.words[3] = v.w;
  } else if (type == DType::Bool) {
    const uint2 v = __ldg(reinterpret_cast<const uint2*>(static_cast<const std::uint8_t*>(data) + at));
    p.words[0] = v.x, p.words[1] = v.y;
  } else {
    const auto* from = reinterpret_cast<const uint4*>(static_cast<const unsigned*>(data) + at);
    const uint4 v = __ldg(from), w = __ldg(from + 1);
    p.words[0] = v.x, p.words[1] = v.y, p.words[2] = v.z, p.words[3] = v.w;
    p.words[4] = w.x, p.words[5] = w.y, p.words[6] = w.z, p.words[7] = w.w;
  }
  return p;
}

/// The elements as T: float or double from any storage, int from i32 and bool.
template <class T>
__device__ inline void unpack(const Packet& p, DType type, T (&out)[kPacket]) {
  constexpr bool kFloats = !std::is_same_v<T, int>;
  if (kFloats && type == DType::F32) {
#pragma unroll
    for (int i = 0; i < kPacket; ++i) out[i] = static_cast<T>(__uint_as_float(p.words[i]));
  } else if (kFloats && type == DType::BF16) {
#pragma unroll
    for (int i = 0; i < kPacket / 2; ++i) {
      out[2 * i] = static_cast<T>(low_bf16(p.words[i]));
      out[2 * i + 1] = static_cast<T>(high_bf16(p.words[i]));
    }
  } else if (type == DType::I32) {
#pragma unroll
    for (int i = 0; i < kPacket; ++i) out[i] = static_cast<T>(static_cast<int>(p.words[i]));
  } else {
#pragma unroll
    for (int i = 0; i < kPacket; ++i) out[i] = static_cast<T>(p.words[i / 4] >> (8 * (i % 4)) & 0xffu);
  }
}

template <class T>
__device__ inline T load_one(const void* data, DType type, std::int64_t at) {
  constexpr bool kFloats = !std::is_same_v<T, int>;
  if (kFloats && type == DType::F32) return static_cast<T>(__ldg(static_cast<const float*>(data) + at));
  if (kFloats && type == DType::BF16)
    return static_cast<T>(low_bf16(__ldg(static_cast<const unsigned short*>(data) + at)));
  if (type == DType::I32) return static_cast<T>(__ldg(static_cast<const int*>(data) + at));
  return static_cast<T>(__ldg(static_cast<const unsigned char*>(data) + at));
}

/// Stores float as f32, bf16 or (truncated) i32, int as i32 or bool, unsigned char as bool.
template <class T>
__device__ inline void store_packet(void* data, DType type, std::int64_t at, const T (&values)[kPacket]) {
  unsigned words[8] = {};
  if (std::is_same_v<T, float> && type == DType::BF16) {
#pragma unroll
    for (int i = 0; i < kPacket / 2; ++i)
      words[i] = pack_bf16(static_cast<float>(values[2 * i]), static_cast<float>(values[2 * i + 1]));
    *reinterpret_cast<uint4*>(static_cast<bf16*>(data) + at) = make_uint4(words[0], words[1], words[2], words[3]);
  } else if (!std::is_same_v<T, float> && type == DType::Bool) {
#pragma unroll
    for (int i = 0; i < kPacket; ++i)
      words[i / 4] |= static_cast<unsigned>(static_cast<unsigned char>(values[i])) << (8 * (i % 4));
    *reinterpret_cast<uint2*>(static_cast<std::uint8_t*>(data) + at) = make_uint2(words[0], words[1]);
  } else {
#pragma unroll
    for (int i = 0; i < kPacket; ++i)
      words[i] = type == DType::F32 ? __float_as_uint(static_cast<float>(values[i]))
                                    : static_cast<unsigned>(static_cast<int>(values[i]));
    auto* to = reinterpret_cast<uint4*>(static_cast<unsigned*>(data) + at);
    to[0] = make_uint4(words[0], words[1], words[2], words[3]);
    to[1] = make_uint4(words[4], words[5], words[6], words[7]);
  }
}

template <class T>
__device__ inline void store_one(void* data, DType type, std::int64_t at, T value) {
  if (type == DType::F32)
    static_cast<float*>(data)[at] = static_cast<float>(value);
  else if (type == DType::BF16)
    static_cast<bf16*>(data)[at] = from_float<bf16>(static_cast<float>(value));
  else if (type == DType::I32)
    static_cast<int*>(data)[at] = static_cast<int>(value);
  else
    static_cast<std::uint8_t*>(data)[at] = static_cast<std::uint8_t>(value);
}

/// kWidth elements from `at` on: a packet, or a single one.
template <int kWidth, class T>
__device__ inline void load_some(const void* data, DType type, std::int64_t at, T (&out)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == kPacket);
  if constexpr (kWidth == 1)
    out[0] = load_one<T>(data, type, at);
  else
    unpack(load_packet(data, type, at), type, out);
}
template <int kWidth, class T>
__device__ inline void store_some(void* data, DType type, std::int64_t at, const T (&values)[kWidth]) {
  static_assert(kWidth == 1 || kWidth == kPacket);
  if constexpr (kWidth == 1)
    store_one(data, type, at, values[0]);
  else
    store_packet(data, type, at, values);
}

}  // namespace eq
