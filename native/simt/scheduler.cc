// The fibers of a launch: scheduler.h. A fiber is taken from a pool when its thread starts and given back when it
// returns, so that kernels without barriers need one.
#include "simt/scheduler.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "simt/races.h"

namespace eq::simt {

namespace {

constexpr std::size_t kStack = std::size_t{128} << 10;
constexpr int kPoison = 0xff;

void enter_fiber() { running().trampoline(); }

/// Dynamic shared memory of one block. It ends at an inaccessible page.
std::byte* make_window() {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t size = (kWindow + page - 1) / page * page;
  void* p = mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw RangeError("simt: no memory for a block's shared memory");
  auto* end = static_cast<std::byte*>(p) + size;
  mprotect(end, page, PROT_NONE);
  return end - kWindow;
}

}  // namespace

Fiber* Scheduler::take_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>());
    fibers_.back()->allocate(kStack);
    idle_.push_back(fibers_.back().get());
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  fiber->start(enter_fiber);
  return fiber;
}

uint3 Scheduler::block_index(std::uint64_t block) const {
  return {static_cast<unsigned>(block % gridDim.x), static_cast<unsigned>(block / gridDim.x % gridDim.y),
          static_cast<unsigned>(block / gridDim.x / gridDim.y)};
}

std::string Scheduler::where() const {
  const uint3 b = block_->index, t = block_->threads[current_].index;
  return concat(op, ": block (", b.x, ",", b.y, ",", b.z, "), thread (", t.x, ",", t.y, ",", t.z, ")");
}

std::string Scheduler::describe_thread(std::uint64_t run, unsigned thread) const {
  const std::uint64_t clusters = std::uint64_t{gridDim.x} * gridDim.y * gridDim.z / cluster_, i = run - first_run_;
  const unsigned threads = count_ * cluster_, warps = (count_ + 31) / 32;
  const bool product = thread >= threads;
  const unsigned rank = product ? (thread - threads) / warps : thread / count_;
  const uint3 b = block_index((backwards_ ? clusters - 1 - i : i) * cluster_ + rank), own = block_->index;
  const uint3 t = product ? uint3{} : block_->threads[thread % count_].index;
  const std::string name = product ? concat("a product of warp ", (thread - threads) % warps)
                                   : concat("thread (", t.x, ",", t.y, ",", t.z, ")");
  return b.x == own.x && b.y == own.y && b.z == own.z ? name : concat("block (", b.x, ",", b.y, ",", b.z, "), ", name);
}

bool Scheduler::owns(const std::byte* p) const {
  for (unsigned b = 0; b < cluster_; ++b)
    if (p >= blocks_[b]->window && p < blocks_[b]->window + kWindow) return true;
  return false;
}

std::string Scheduler::describe_shared(std::uintptr_t at) const {
  const auto* p = reinterpret_cast<const std::byte*>(at);
  unsigned b = 0;
  while (b + 1 < cluster_ && (p < blocks_[b]->window || p >= blocks_[b]->window + kWindow)) ++b;
  return concat(p - (blocks_[b]->window + kWindow - shared_bytes_), " of dynamic shared memory");
}

/// Body of every fiber.
void Scheduler::trampoline() {
  body_(context_);
  Thread& thread = block_->threads[current_];
  thread.state = State::Done;
  Warp& warp = block_->warps[current_ / 32];
  warp.done |= 1u << (current_ % 32);
  for (Group& group : warp.groups) release(warp, group);
  switch_fiber(*thread.fiber, main_);
  std::abort();  // a returned thread is never resumed
}

void Scheduler::yield(State state) {
  Thread& thread = block_->threads[current_];
  thread.state = state;
  // Whoever resumes this fiber has made its block and its thread the running ones.
  switch_fiber(*thread.fiber, main_);
}

/// Ends the launch: thrown from the main context, for a fiber's stack has no handler; it is simply dropped.
void Scheduler::fail(std::string what) {
  what = where() + " " + what;
  if (!in_fiber_) throw std::runtime_error(what);
  failure_ = std::move(what);
  switch_fiber(*block_->threads[current_].fiber, main_);
  std::abort();
}

void Scheduler::release(Warp& warp, Group& group) {
  if (group.arrived == 0 || ((group.arrived | warp.done) & group.mask) != group.mask) return;
  const auto base = static_cast<unsigned>(&warp - block_->warps.data()) * 32;
  if (group.orders) {
    unsigned lanes[32], count = 0;
    for (unsigned i = 0; i < 32; ++i)
      if (group.arrived >> i & 1u) lanes[count++] = in_cluster(base + i);
    races.join({lanes, count});
  }
  group.present[group.generation % 2] = group.arrived;
  group.arrived = 0;
  group.orders = false;
  ++group.generation;
  std::vector<Thread>& threads = block_->threads;
  for (unsigned i = 0; i < 32; ++i)
    if (group.mask >> i & 1u && base + i < count_ && threads[base + i].state == State::AtExchange)
      threads[base + i].state = State::Ready;
}

void Scheduler::warp_barrier(unsigned mask) { exchange(mask, 0, -1, nullptr, nullptr, true); }

std::uint64_t Scheduler::exchange(unsigned mask, std::uint64_t value, int source, unsigned* present,
                                  const std::uint64_t** everyone, bool orders) {
  Warp& warp = block_->warps[current_ / 32];
  const auto lane = static_cast<unsigned>(current_ % 32);
  if (!(mask >> lane & 1u)) fail(concat("(lane ", lane, ") is not in the mask ", mask, " of its exchange"));
  std::size_t at = 0;
  while (at < warp.groups.size() && warp.groups[at].mask != mask) ++at;
  if (at == warp.groups.size()) warp.groups.emplace_back().mask = mask;
  const unsigned parity = warp.groups[at].generation % 2;
  warp.groups[at].slot[parity][lane] = value;
  if (warp.groups[at].arrived != 0 && warp.groups[at].orders != orders)
    fail("waits at __syncwarp where others of its warp exchange values, or the other way round");
  warp.groups[at].orders = orders;
  warp.groups[at].arrived |= 1u << lane;
  const unsigned before = warp.groups[at].generation;
  release(warp, warp.groups[at]);
  // A thread that returns in between may add groups: the index stays, a reference would not.
  if (warp.groups[at].generation == before) yield(State::AtExchange);
  const Group& group = block_->warps[current_ / 32].groups[at];
  if (present) *present = group.present[parity];
  if (everyone) *everyone = group.slot[parity];
  if (source < 0) return 0;
  return group.present[parity] >> (source & 31) & 1u ? group.slot[parity][source & 31] : ~std::uint64_t{0};
}

int Scheduler::barrier(int predicate) {
  block_->votes += predicate;
  yield(State::AtBarrier);
  return block_->counted;
}

/// Lets the block go on when everyone who has not returned waits.
bool Scheduler::release_barrier() {
  meeting_.clear();
  for (unsigned t = 0; t < count_; ++t) {
    if (block_->threads[t].state == State::Done) continue;
    if (block_->threads[t].state != State::AtBarrier) return false;
    meeting_.push_back(in_cluster(t));
  }
  if (meeting_.empty()) return false;
  races.join(meeting_);
  block_->counted = std::exchange(block_->votes, 0);
  for (Thread& t : block_->threads)
    if (t.state == State::AtBarrier) t.state = State::Ready;
  return true;
}

void Scheduler::wait_until(Condition condition) {
  block_->threads[current_].condition = condition;
  yield(State::Waiting);
}

void Scheduler::named_barrier(unsigned index, unsigned threads) {
  if (index < 1 || index >= kNamedBarriers || threads == 0 || threads % 32 != 0 || threads > count_)
    fail(concat("waits at barrier ", index, " for ", threads, " threads"));
  Arrivals& barrier = block_->named[index];
  if (barrier.arrived == 0) barrier.expected = threads;
  if (barrier.expected != threads)
    fail(concat("waits at barrier ", index, " for ", threads, " threads, others for ", barrier.expected));
  barrier.threads.push_back(in_cluster(current_));
  if (++barrier.arrived == threads) return pass(barrier);
  struct Turn {
    const Arrivals& barrier;
    unsigned generation;
  } turn{barrier, barrier.generation};
  wait_until({[](void* p) {
                const auto& t = *static_cast<const Turn*>(p);
                return t.barrier.generation != t.generation;
              },
              &turn, "the other threads of a named barrier"});
}

/// Lets those go on who have arrived.
void Scheduler::pass(Arrivals& barrier) {
  races.join(barrier.threads);
  barrier.threads.clear();
  barrier.arrived = 0;
  ++barrier.generation;
}

void Scheduler::cluster_barrier(unsigned blocks) {
  if (blocks != cluster_) fail(concat("waits for a cluster of ", blocks, " blocks, launched as one of ", cluster_));
  ++cluster_arrivals_.arrived;
  cluster_arrivals_.threads.push_back(in_cluster(current_));
  struct Turn {
    const Arrivals& barrier;
    unsigned generation;
  } turn{cluster_arrivals_, cluster_arrivals_.generation};
  wait_until({[](void* p) {
                const auto& t = *static_cast<const Turn*>(p);
                return t.barrier.generation != t.generation;
              },
              &turn, "the other threads of its cluster"});
}

/// Lets the cluster go on when everyone who has not returned waits.
bool Scheduler::release_cluster() {
  unsigned threads = 0;
  for (unsigned b = 0; b < cluster_; ++b)
    for (const Thread& t : blocks_[b]->threads) threads += t.state != State::Done;
  if (threads == 0 || cluster_arrivals_.arrived != threads) return false;
  pass(cluster_arrivals_);
  return true;
}

/// Where another block of the cluster keeps what this block has at `shared`.
const void* Scheduler::in_cluster(const void* shared, unsigned blocks, unsigned rank) {
  if (blocks != cluster_ || rank >= cluster_)
    fail(concat("reads shared memory of block ", rank, " of a cluster of ", cluster_));
  Block& other = *blocks_[rank];
  if (&other == block_) return shared;
  if (other.ended()) fail(concat("reads shared memory of block ", rank, " of its cluster, which has ended"));
  const auto* at = static_cast<const std::byte*>(shared);
  if (at < this->shared() || at >= block_->window + kWindow)
    fail("maps an address that is not in dynamic shared memory to another block of its cluster: not emulated");
  return other.window + (at - block_->window);
}

/// Resumes or starts a thread that can run.
bool Scheduler::step(unsigned t) {
  Thread& thread = block_->threads[t];
  current_ = t;
  threadIdx = thread.index;
  if (thread.state == State::Waiting && thread.condition.holds(thread.condition.context)) thread.state = State::Ready;
  if (thread.state != State::Fresh && thread.state != State::Ready) return false;
  if (thread.state == State::Fresh) thread.fiber = take_fiber();
  thread.state = State::Ready;
  in_fiber_ = true;
  races.enter(in_cluster(t), block_->rank, {thread.fiber->stack, thread.fiber->bytes});
  switch_fiber(main_, *thread.fiber);
  races.leave();
  in_fiber_ = false;
  if (!failure_.empty()) throw std::runtime_error(failure_);
  if (thread.state == State::Done) idle_.push_back(std::exchange(thread.fiber, nullptr));
  return true;
}

bool Scheduler::run_warp(unsigned w) {
  const unsigned begin = w * 32, end = std::min(count_, begin + 32);
  bool progress = false;
  for (bool again = true; again;) {
    again = false;
    for (unsigned i = begin; i < end; ++i) again |= step(backwards_ ? end - 1 - (i - begin) : i);
    progress |= again;
  }
  return progress;
}

/// Until nobody in the block can go on.
bool Scheduler::run_block(Block& block) {
  enter(block);
  bool any = false;
  for (bool progress = true; progress;) {
    progress = false;
    const auto warps = static_cast<unsigned>(block.warps.size());
    for (unsigned i = 0; i < warps; ++i) progress |= run_warp(backwards_ ? warps - 1 - i : i);
    progress |= release_barrier();
    any |= progress;
  }
  return any;
}

void Scheduler::enter(Block& block) {
  block_ = &block;
  blockIdx = block.index;
}

void Scheduler::start(Block& block) {
  block.threads.assign(count_, {});
  block.warps.assign((count_ + 31) / 32, {});
  for (unsigned t = 0; t < count_; ++t)
    block.threads[t].index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
  for (unsigned w = 0; w < block.warps.size(); ++w) {
    const unsigned lanes = std::min(32u, count_ - w * 32);
    block.warps[w].done = lanes == 32 ? 0u : ~((1u << lanes) - 1u);
  }
  block.votes = 0;
  std::fill(std::begin(block.named), std::end(block.named), Arrivals{});
  const auto first = static_cast<unsigned>(kWindow - shared_bytes_);
  std::memset(block.window + first, kPoison, shared_bytes_);
  block.async.reset(block.window, first);
}

/// Blocks first .. first + cluster of the grid.
void Scheduler::run_cluster(std::uint64_t first) {
  races.begin_run(static_cast<std::uint32_t>(++run_number_));
  cluster_arrivals_ = {};
  for (unsigned rank = 0; rank < cluster_; ++rank) {
    Block& block = *blocks_[rank];
    block.index = block_index(first + rank);
    start(block);
  }
  for (bool progress = true; progress;) {
    progress = false;
    for (unsigned i = 0; i < cluster_; ++i) progress |= run_block(*blocks_[backwards_ ? cluster_ - 1 - i : i]);
    if (cluster_ > 1) progress |= release_cluster();
    // Copies arrive when somebody may wait for them.
    for (unsigned i = 0; i < cluster_ && !progress; ++i) {
      enter(*blocks_[i]);
      progress = !block_->ended() && block_->async.deliver();
    }
  }
  check_ended();
}

void Scheduler::check_ended() {
  for (unsigned rank = 0; rank < cluster_; ++rank) {
    block_ = blocks_[rank].get();
    for (current_ = 0; current_ < count_; ++current_) {
      const Thread& thread = block_->threads[current_];
      if (thread.state == State::Done) continue;
      fail(concat("waits for ever ", thread.state == State::AtBarrier    ? "at __syncthreads"
                                     : thread.state == State::AtExchange ? "at a warp's exchange"
                                                                         : concat("for ", thread.condition.what)));
    }
    current_ = 0;
    if (const char* what = block_->async.unfinished()) fail(what);
  }
}

void Scheduler::run(const GlobalMemory& memory, const Launch& launch, std::size_t most_shared, void (*body)(void*),
                    void* context) {
  count_ = launch.block;
  cluster_ = launch.cluster;
  check_range(count_ >= 1 && count_ <= kMaxThreads, op, ": ", count_, " threads in a block");
  check_range(launch.shared <= most_shared, op, ": ", launch.shared, " bytes of shared memory");
  check_range(launch.grid_x <= 0x7fffffffu && launch.grid_y <= 65535 && launch.grid_z <= 65535, op, ": a grid of ",
              launch.grid_x, " x ", launch.grid_y, " x ", launch.grid_z);
  check_range(cluster_ >= 1 && cluster_ <= kMaxCluster && launch.grid_x % cluster_ == 0, op, ": ", launch.grid_x,
              " blocks in clusters of ", cluster_);
  while (blocks_.size() < cluster_) {
    blocks_.push_back(std::make_unique<Block>());
    blocks_.back()->rank = static_cast<unsigned>(blocks_.size()) - 1;
    blocks_.back()->window = make_window();
  }
  block_ = blocks_.front().get();
  current_ = 0;
  body_ = body;
  context_ = context;
  failure_.clear();
  in_fiber_ = false;
  gridDim = {launch.grid_x, launch.grid_y, launch.grid_z};
  blockDim = {launch.block, 1, 1};
  shared_bytes_ = (launch.shared + 127) / 128 * 128;
  idle_.clear();  // a failed launch leaves fibers behind
  for (auto& fiber : fibers_) idle_.push_back(fiber.get());
  first_run_ = run_number_ + 1;
  races.begin_launch(memory, cluster_, count_, static_cast<std::uint32_t>(first_run_));
  const std::uint64_t clusters = std::uint64_t{launch.grid_x} * launch.grid_y * launch.grid_z / cluster_;
  for (std::uint64_t i = 0; i < clusters; ++i) run_cluster((backwards_ ? clusters - 1 - i : i) * cluster_);
  backwards_ = !backwards_;
}

}  // namespace eq::simt
