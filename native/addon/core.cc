// The calls that are not kernels: handles, transfers, memory, profiling.
#include "core.h"

#include <vector>

#include "runtime/filter_layout.h"

namespace eq::addon {

namespace {

/// The bytes of a typed array; they must be those of a tensor.
const std::byte* host_values(Call& c, DType source, const Shape& shape) {
  check_type(c.raw(0).IsTypedArray(), c.op(), ": values must be a typed array");
  const auto values = c.raw(0).As<Napi::TypedArray>();
  const std::size_t expected = static_cast<std::size_t>(shape.numel()) * dtype_size(source);
  check_range(values.ByteLength() == expected, c.op(), ": a ", dtype_name(source), " tensor of shape ", shape.str(),
              " has ", expected, " bytes, the values have ", values.ByteLength());
  if (expected == 0) return nullptr;
  const auto* bytes = static_cast<const std::byte*>(values.ArrayBuffer().Data());
  check_type(bytes != nullptr, c.op(), ": the values' buffer is detached");
  return bytes + values.ByteOffset();
}

// upload(values: TypedArray, sourceDtype, shape, storage, frozen) -> handle
void upload(Call& c) {
  const DType source = c.dtype(1, "sourceDtype");
  const Shape shape = c.shape(2, "shape");
  Tensor t = c.device().empty(c.storage(3, "storage"), shape);
  t.buffer->frozen = c.boolean(4, "frozen");
  // Last, because reading another argument may run a getter that detaches the values.
  if (const std::byte* values = host_values(c, source, shape)) c.device().upload(t, values, source);
  c.give(t);
}

/// Where filters are reordered; as large as the largest so far, freed by trim.
thread_local std::vector<std::byte> filter_room;

// uploadFilter(values: TypedArray, sourceDtype, shape [O,I,H,W], storage, frozen) -> handle [H,W,I,O]
void upload_filter(Call& c) {
  const DType source = c.dtype(1, "sourceDtype");
  const Shape shape = c.shape(2, "shape");
  check_type(is_float(source), c.op(), ": sourceDtype must be a float type, got ", dtype_name(source));
  check_type(shape.rank() == 4, c.op(), ": shape must be [O,I,H,W], got ", shape.str());
  Tensor t = c.device().empty(c.storage(3, "storage"), {shape[2], shape[3], shape[1], shape[0]});
  t.buffer->frozen = c.boolean(4, "frozen");
  if (const std::byte* values = host_values(c, source, shape)) {
    const std::size_t size = dtype_size(source), bytes = static_cast<std::size_t>(shape.numel()) * size;
    if (filter_room.size() < bytes) filter_room.resize(bytes);
    filter_to_hwio(values, filter_room.data(), shape[0], shape[1], shape[2] * shape[3], size);
    c.device().upload(t, filter_room.data(), source);
  }
  c.give(t);
}

void release(Call& c) { c.handle(0, "tensor").buffer.reset(); }
void freeze(Call& c) { c.tensor(0, "tensor").buffer->frozen = true; }
void reshape(Call& c) { c.give(c.tensor(0, "tensor").reshaped(c.shape(1, "shape"))); }
void read(Call& c) { c.give(Napi::Value(c.context().read(c.env(), c.tensor(0, "tensor")))); }
void read_sync(Call& c) { c.give(c.context().read_sync(c.env(), c.tensor(0, "tensor"))); }

// copy(tensor) -> a tensor of its own memory
void copy(Call& c) {
  const Tensor& from = c.tensor(0, "tensor");
  const Tensor to = c.device().empty(from.dtype, from.shape);
  c.device().copy(to, from);
  c.give(to);
}

// copyInto(to, from)
void copy_into(Call& c) {
  const Tensor &to = c.tensor(0, "to"), &from = c.tensor(1, "from");
  check_type(!to.buffer->frozen, "copyInto: a frozen tensor never changes");
  check_type(to.dtype == from.dtype, "copyInto: ", dtype_name(from.dtype), " values do not fit a ",
             dtype_name(to.dtype), " tensor");
  check_range(to.numel() == from.numel(), "copyInto: shapes ", to.shape.str(), " and ", from.shape.str(), " differ");
  c.device().copy(to, from);
}

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
  o.Set("requested", static_cast<double>(s.requested));
  o.Set("held", static_cast<double>(s.held));
  o.Set("largestCached", static_cast<double>(c.device().memory().largest_cached()));
  c.give(o);
}

void set_memory_limit(Call& c) {
  c.device().memory().set_limit(static_cast<std::size_t>(c.integer(0, "bytes", 0, std::int64_t{1} << 52)));
}
void trim(Call& c) {
  c.device().memory().trim(static_cast<std::size_t>(c.integer(0, "keep", 0, std::int64_t{1} << 52)));
  filter_room = {};
}
void synchronize(Call& c) { c.device().synchronize(); }
void shutdown(Call& c) { c.context().shutdown(); }
void set_profiling(Call& c) { c.device().profiler().enable(c.boolean(0, "on")); }

void take_profile(Call& c) {
  c.device().flush_profile();
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

void select_device(Call& c) { c.context().select(static_cast<int>(c.integer(0, "index", 0, 1 << 16))); }
void devices(Call& c) { c.give(list_devices(c.env())); }

// Graphs: random, so that no object of another addon can pass for one.
constexpr napi_type_tag kRecordingTag = {0x91c5e20f6d7b4a83ULL, 0x8e03b7f4a1d2695cULL};
using RecordingSlot = std::unique_ptr<Recording>;

RecordingSlot& recording_of(Call& c, std::size_t i) {
  const napi_value value = c.raw(i);
  napi_valuetype type;
  napi_typeof(c.env(), value, &type);
  bool ours = false;
  check_type(
      type == napi_object && napi_check_object_type_tag(c.env(), value, &kRecordingTag, &ours) == napi_ok && ours,
      c.op(), ": recording must be a handle of a recording");
  void* data = nullptr;
  napi_unwrap(c.env(), value, &data);
  return *static_cast<RecordingSlot*>(data);
}

void begin_recording(Call& c) { c.device().begin_recording(); }
void abandon_recording(Call& c) { c.device().abandon_recording(); }

// endRecording() -> recording
void end_recording(Call& c) {
  auto slot = std::make_unique<RecordingSlot>(c.device().end_recording());
  napi_value object;
  napi_create_object(c.env(), &object);
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<RecordingSlot*>(data); };
  check_type(napi_wrap(c.env(), object, slot.get(), finalize, nullptr, nullptr) == napi_ok,
             "endRecording: no handle could be made");
  slot.release();
  napi_type_tag_object(c.env(), object, &kRecordingTag);
  c.give(Napi::Value(c.env(), object));
}

void replay(Call& c) {
  RecordingSlot& slot = recording_of(c, 0);
  check_type(slot != nullptr, "replay: the recording has been released");
  slot->replay();
}
void release_recording(Call& c) { recording_of(c, 0).reset(); }

void describe(Call& c) { c.give(describe_device(c.env(), c.device())); }

const Op kOps[] = {
    {"upload", upload},
    {"uploadFilter", upload_filter},
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
    {"selectDevice", select_device},
    {"devices", devices},
    {"copy", copy},
    {"copyInto", copy_into},
    {"beginRecording", begin_recording},
    {"endRecording", end_recording},
    {"abandonRecording", abandon_recording},
    {"replay", replay},
    {"releaseRecording", release_recording},
};

}  // namespace

void register_core(Napi::Env env, Napi::Object exports) { register_ops(env, exports, kOps); }

}  // namespace eq::addon
