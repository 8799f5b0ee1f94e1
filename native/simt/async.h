// What a block has under way that is no thread: bulk tensor copies and warpgroup products, with the barriers in shared
// memory that count the copies. From the PTX ISA's sections on mbarrier, cp.async.bulk.tensor and wgmma; hopper.h is
// what kernels call.
//
//   copies     arrive, in launches that run forwards, when a thread waits for their barrier and nobody can go on,
//              the newest first; in launches that run backwards, at once: as late and as early as the hardware may
//   products   read their operands when they are waited for; until then their sums are NaN
//
// Errors: a product of what a copy has yet to bring or of ordinary stores that no fence.proxy.async has followed; a
// copy to, or a store into, operands of products under way; sums that are touched before they are waited for; barriers
// that are not initialised, arrived at too often or waited for in vain; whatever is still under way when the block
// ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <vector>

#include "simt/races.h"
#include "simt/tensor_map.h"

namespace eq::simt {

/// Shared addresses of a block: 228 KiB, all that a multiprocessor of sm_90 has.
constexpr unsigned kWindow = 228u << 10;

/// Where 16-byte chunks lie when rows of 16 << bits bytes are swizzled: the chunk's number in its row is combined with
/// the row's number modulo the row's chunks. A rule about addresses, so patterns begin at multiples of 128 << bits.
constexpr unsigned swizzled(unsigned address, unsigned bits) {
  return address ^ ((address >> 7 & ((1u << bits) - 1u)) << 4);
}

/// What a warp issues together.
struct WarpStep {
  enum Kind { Fence, Commit, Wait, Product, TransposedProduct } kind = Fence;
  std::uint64_t a = 0, b = 0;
  int n = 0;  ///< columns, or groups that may stay under way
  bool operator==(const WarpStep&) const = default;
};
/// The threads of a warp that have come to their next step, and where each one's sums are.
struct WarpMeeting {
  WarpStep step;
  unsigned arrived = 0;
  float* sums[32] = {};
};

class Async {
 public:
  /// Forgets everything; `first` is the lowest shared address that belongs to the block.
  void reset(std::byte* window, unsigned first);

  void barrier_init(unsigned barrier, unsigned count);
  void barrier_init_fence();
  void barrier_arrive(unsigned barrier, unsigned expected_bytes);
  bool phase_over(unsigned barrier, unsigned parity);
  /// The running thread goes on after a phase.
  void passed(unsigned barrier);

  void copy(unsigned to, const TensorMap& map, unsigned barrier, const int* at);
  /// Lets the newest copy arrive whose barrier somebody waits for; false if there is none.
  bool deliver();
  /// Threads that wait for a barrier's phase.
  int& waiting(unsigned barrier) { return waiting_[barrier]; }

  void fence_proxy();
  WarpMeeting& meeting(unsigned warp) {
    begin();
    return warps_[warp].meeting;
  }
  void fence_products(unsigned warp);
  void product(unsigned warp, float* const (&sums)[32], int n, std::uint64_t a, std::uint64_t b, bool transposed_b);
  void commit(unsigned warp);
  void wait(unsigned warp, int pending);

  /// What is still under way; nullptr if nothing is.
  const char* unfinished() const;

 private:
  struct Barrier {
    unsigned pending, expected, phase;
    int bytes;
  };
  struct Copy {
    TensorMap map;
    int at[5];
    unsigned to, barrier;
    Races::Copy order;
    Snapshot before;
  };
  /// What those who arrive at a barrier let those who wait for it know.
  struct Phases {
    Snapshot current, last;
  };
  struct Chunk {
    unsigned address;
    std::uint16_t values[8];
  };
  /// The sums of a warp [16, n] while products add to them.
  struct Sums {
    float* lanes[32];
    int n = 0;
    unsigned products = 0;
    std::vector<float> values;
  };
  struct Product {
    Sums* sums;
    unsigned group;
    std::uint32_t number;  ///< of the warp's products, from 1
    bool transposed_b;
    std::vector<Chunk> a, b;
  };
  struct WarpState {
    WarpMeeting meeting;
    bool fenced = false;
    unsigned issued = 0, committed = 0;
    std::deque<Product> products;
    std::list<Sums> sums;
  };

  bool used() const { return !async_view_.empty(); }
  void begin();
  Barrier load(unsigned barrier) const;
  void store(unsigned barrier, Barrier value);
  void check_range(unsigned address, unsigned bytes, const char* what) const;
  void arrive(const Copy& copy);
  std::vector<Chunk> operand(std::uint32_t product, std::uint64_t descriptor, int first, int lines, bool along_k);
  void release(const std::vector<Chunk>& operand);
  void finish(WarpState& warp);
  Sums& sums_of(WarpState& warp, float* const (&lanes)[32], int n);
  void give_back(WarpState& warp);

  std::byte* window_ = nullptr;
  unsigned first_ = 0;
  std::vector<std::byte> async_view_;             ///< shared memory as copies and products see it
  std::vector<std::uint16_t> readers_, writers_;  ///< by chunk of 16 bytes: products and copies under way
  std::vector<unsigned> unfenced_;                ///< barriers initialised, and not yet made known to copies
  std::vector<Copy> copies_;
  std::map<unsigned, int> waiting_;
  std::map<unsigned, Phases> phases_;
  std::vector<WarpState> warps_;
  std::vector<std::vector<WarpStep>> issues_;  ///< of each warpgroup: what its first warp issued
};

/// The map behind the pointer, if it is one of this rank.
const TensorMap& read_map(const CUtensorMap* map, int rank);

}  // namespace eq::simt
