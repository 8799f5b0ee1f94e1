#include "simt/clocks.h"

#include <algorithm>

namespace eq::simt {

namespace {

void add(std::vector<std::uint32_t>& to, const std::vector<std::uint32_t>& from) {
  if (to.size() < from.size()) to.resize(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = std::max(to[i], from[i]);
}
void add(Acquired& to, const Acquired& from) {
  for (const auto& [at, count] : from) {
    std::size_t& known = to[at];
    known = std::max(known, count);
  }
}
void add(Knowledge& to, const Knowledge& from) {
  add(to.seen, from.seen);
  add(to.fenced, from.fenced);
  add(to.others, from.others);
  add(to.others_fenced, from.others_fenced);
  add(to.observed, from.observed);
}

}  // namespace

Snapshot merge(const Snapshot& a, const Snapshot& b) {
  if (!a || !b) return a ? a : b;
  auto sum = std::make_shared<Knowledge>(*a);
  add(*sum, *b);
  return sum;
}

void Clocks::begin_launch(unsigned threads, unsigned products) {
  auto nothing = std::make_shared<Knowledge>();
  nothing->seen.resize(threads + products);
  nothing_ = std::move(nothing);
  threads_.assign(threads, {});
  atomics_.clear();
}

void Clocks::begin_run(std::uint32_t run) {
  run_ = run;
  std::fill(threads_.begin(), threads_.end(), Thread{1, nothing_});
}

Snapshot Clocks::release(unsigned thread) {
  Thread& t = threads_[thread];
  auto known = std::make_shared<Knowledge>(*t.known);
  known->seen[thread] = t.now++;
  return known;
}

void Clocks::acquire(unsigned thread, const Snapshot& what) {
  if (what) threads_[thread].known = merge(threads_[thread].known, what);
}

void Clocks::join(std::span<const unsigned> threads) {
  const Knowledge* last = threads_[threads.front()].known.get();
  auto all = std::make_shared<Knowledge>(*last);
  // Threads that met before share what they know.
  for (const unsigned t : threads) {
    const Knowledge* own = threads_[t].known.get();
    if (own != last) add(*all, *own);
    last = own;
  }
  for (const unsigned t : threads) {
    all->seen[t] = threads_[t].now++;
    threads_[t].known = all;
  }
}

void Clocks::learn(std::span<const unsigned> threads, unsigned other, std::uint32_t clock) {
  Snapshot last, learnt;
  for (const unsigned t : threads) {
    Snapshot& known = threads_[t].known;
    if (known != last) {
      last = known;
      auto more = std::make_shared<Knowledge>(*known);
      more->seen[other] = std::max(more->seen[other], clock);
      learnt = std::move(more);
    }
    known = learnt;
  }
}

void Clocks::fence(unsigned thread) {
  auto known = std::make_shared<Knowledge>(*release(thread));
  add(known->others, known->observed);
  known->observed.clear();
  known->fenced = known->seen;
  known->others_fenced = known->others;
  threads_[thread].known = std::move(known);
}

void Clocks::atomic(unsigned thread, const void* at) {
  Thread& t = threads_[thread];
  const auto it = atomics_.find(at);
  if (it != atomics_.end()) {
    auto known = std::make_shared<Knowledge>(*t.known);
    add(known->observed, it->second.others);
    known->observed[at] = it->second.releases.size();
    t.known = std::move(known);
  }
  if (t.known->fenced.empty()) return;
  Atomic& atomic = it != atomics_.end() ? it->second : atomics_[at];
  atomic.releases.push_back({run_, t.known->fenced});
  add(atomic.others, t.known->others_fenced);
}

bool Clocks::learnt(unsigned thread, std::uint32_t run, unsigned other, std::uint32_t clock) const {
  for (const auto& [at, count] : threads_[thread].known->others) {
    const std::vector<Release>& releases = atomics_.at(at).releases;
    for (std::size_t i = 0; i < count; ++i)
      if (releases[i].run == run && releases[i].seen[other] >= clock) return true;
  }
  return false;
}

}  // namespace eq::simt
