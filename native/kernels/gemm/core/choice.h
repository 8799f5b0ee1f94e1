// Several ways to compute one product, and the choice among them by measured time: the first product of a shape runs
// every way a few times, and the fastest is remembered, in the process and in a file of the user's cache folder
// (equipoise/cuda-choices.tsv: GPU, ways, shape, choice, times). `equipoise doctor` shows it.
//
// EQUIPOISE_CUDA_TUNE=0 keeps the first way of each list, the built-in kernel: results then do not depend on timings.
// With the name of a way, products of every size take it where it is able (for tests): nothing is measured, and
// describe_choices counts them.
// While launches are recorded nothing can be timed: a shape that is met there first takes the first way.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/device.h"

namespace eq::tile {

struct Way {
  const char* name;
  /// Queues the product; false where this way cannot compute it. Runs again with the same result.
  std::function<bool()> run;
};

/// Whether a product is large enough for a choice: below, every way is as fast as its launch.
bool worth_choosing(double flops);

/// The way that EQUIPOISE_CUDA_TUNE names, empty if none.
std::string forced_way();

/// This program's folder in the user's cache; empty where there is no home for it.
std::filesystem::path cache_folder();

/// Computes a product one way of several. `shape` is what the choice depends on. The first way must be able.
void run_fastest(Device& device, const OpInfo& info, const std::string& shape, const std::vector<Way>& ways);

/// What there is to choose from, and every choice for this GPU so far: name and description.
std::vector<std::pair<std::string, std::string>> describe_choices(Device& device);

}  // namespace eq::tile
