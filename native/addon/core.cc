// The calls that are not kernels: handles, transfers, memory, profiling.
#include "core.h"

namespace eq::addon {

namespace {

// upload(values: TypedArray, sourceDtype, shape, storage, frozen) -> handle
void upload(Call& c) {
  check_type(c.raw(0).IsTypedArray(), "upload: values must be a typed array");
  const auto values = c.raw(0).As<Napi::TypedArray>();
  const DType source = c.dtype(1, "sourceDtype");
  const Shape shape = c.shape(2, "shape");
  const DType storage = c.storage(3, "storage");
  const std::size_t expected = static_cast<std::size_t>(shape.numel()) * dtype_size(source);
  check_range(values.ByteLength() == expected, "upload: a ", dtype_name(source), " tensor of shape ", shape.str(),
              " has ", expected, " bytes, the values have ", values.ByteLength());
  Tensor t = c.device().empty(storage, shape);
  t.buffer->frozen = c.boolean(4, "frozen");
  if (expected > 0) {
    const auto* bytes = static_cast<const std::byte*>(values.ArrayBuffer().Data());
    check_type(bytes != nullptr, "upload: the values' buffer is detached");
    c.device().upload(t, bytes + values.ByteOffset(), source);
  }
  c.give(t);
}

void release(Call& c) { c.handle(0, "tensor").buffer.reset(); }
void freeze(Call& c) { c.tensor(0, "tensor").buffer->frozen = true; }
void reshape(Call& c) { c.give(c.tensor(0, "tensor").reshaped(c.shape(1, "shape"))); }
void read(Call& c) { c.give(Napi::Value(c.context().read(c.env(), c.tensor(0, "tensor")))); }
void read_sync(Call& c) { c.give(c.context().read_sync(c.env(), c.tensor(0, "tensor"))); }

void info(Call& c) {
  const Tensor& t = c.tensor(0, "tensor");
  Napi::Object o = Napi::Object::New(c.env());
  Napi::Array shape = Napi::Array::New(c.env(), static_cast<std::size_t>(t.shape.rank()));
  for (int i = 0; i < t.shape.rank(); ++i) shape.Set(static_cast<std::uint32_t>(i), static_cast<double>(t.shape[i]));
  o.Set("storage", dtype_name(t.dtype));
  o.Set("shape", shape);
  o.Set("bytes", static_cast<double>(t.bytes()));
  o.Set("frozen", t.buffer->frozen);
  c.give(o);
}

void memory(Call& c) {
  const MemoryStats& s = c.device().memory().stats();
  Napi::Object o = Napi::Object::New(c.env());
  o.Set("inUse", static_cast<double>(s.in_use));
  o.Set("cached", static_cast<double>(s.cached));
  o.Set("peak", static_cast<double>(s.peak));
  o.Set("limit", static_cast<double>(s.limit));
  o.Set("blocks", static_cast<double>(s.blocks));
  o.Set("allocations", static_cast<double>(s.allocations));
  o.Set("cacheHits", static_cast<double>(s.cache_hits));
  c.give(o);
}

void set_memory_limit(Call& c) {
  c.device().memory().set_limit(static_cast<std::size_t>(c.integer(0, "bytes", 0, std::int64_t{1} << 52)));
}
void trim(Call& c) {
  c.device().memory().trim(static_cast<std::size_t>(c.integer(0, "keep", 0, std::int64_t{1} << 52)));
}
void synchronize(Call& c) { c.device().synchronize(); }
void shutdown(Call& c) { c.context().shutdown(); }
void set_profiling(Call& c) { c.device().profiler().enable(c.boolean(0, "on")); }

void take_profile(Call& c) {
  const auto ranges = c.device().profiler().take();
  Napi::Array out = Napi::Array::New(c.env(), ranges.size());
  for (std::uint32_t i = 0; i < ranges.size(); ++i) {
    const ProfileRange& r = ranges[i];
    Napi::Object o = Napi::Object::New(c.env());
    o.Set("op", r.op);
    o.Set("shapes", r.shapes);
    o.Set("flops", r.flops);
    o.Set("bytes", r.bytes);
    o.Set("startMs", static_cast<double>(r.start_ns) / 1e6);
    o.Set("endMs", static_cast<double>(r.end_ns) / 1e6);
    out.Set(i, o);
  }
  c.give(out);
}

void describe(Call& c) { c.give(describe_device(c.env(), c.device())); }

const Op kOps[] = {
    {"upload", upload},
    {"release", release},
    {"reshape", reshape},
    {"freeze", freeze},
    {"read", read},
    {"readSync", read_sync},
    {"info", info},
    {"memory", memory},
    {"setMemoryLimit", set_memory_limit},
    {"trim", trim},
    {"synchronize", synchronize},
    {"shutdown", shutdown},
    {"setProfiling", set_profiling},
    {"takeProfile", take_profile},
    {"describe", describe},
};

}  // namespace

void register_core(Napi::Env env, Napi::Object exports) { register_ops(env, exports, kOps); }

}  // namespace eq::addon
