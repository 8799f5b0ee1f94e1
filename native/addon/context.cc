#include "context.h"

namespace eq::addon {

namespace {

// Random, so that no object of another addon can pass for a tensor.
constexpr napi_type_tag kTensorTag = {0x3f1d6a0c9be24c57ULL, 0xa4c18e7720d9f3b1ULL};

void must(napi_env env, napi_status status, const char* what) {
  if (status != napi_ok) throw Napi::Error::New(env, std::string("equipoise addon: ") + what + " failed");
}

/// The host typed array a tensor is read into (bf16 widens to Float32Array).
Napi::TypedArray host_array(Napi::Env env, const Tensor& t) {
  const auto n = static_cast<std::size_t>(t.numel());
  check_range(n <= (std::size_t{1} << 32), "read: ", t.shape.str(), " is too large for one typed array");
  switch (t.dtype) {
    case DType::I32:
      return Napi::Int32Array::New(env, n);
    case DType::Bool:
      return Napi::Uint8Array::New(env, n);
    default:
      return Napi::Float32Array::New(env, n);
  }
}

void* bytes_of(const Napi::TypedArray& a) { return static_cast<std::byte*>(a.ArrayBuffer().Data()) + a.ByteOffset(); }

}  // namespace

struct Context::PendingRead {
  Context* context;
  Napi::Promise::Deferred deferred;
  Napi::Reference<Napi::TypedArray> target;
  std::string fault;
};

Context::Context(Napi::Env env) {
  napi_value name;
  must(env, napi_create_string_utf8(env, "equipoise reads", NAPI_AUTO_LENGTH, &name), "naming the read queue");
  const auto call = [](napi_env e, napi_value, void*, void* data) {
    std::unique_ptr<PendingRead> read(static_cast<PendingRead*>(data));
    if (!e) {  // the environment is going away: nobody waits any more
      read->target.SuppressDestruct();
      return;
    }
    try {
      Napi::HandleScope scope(e);
      read->context->complete(e, *read);
    } catch (const Napi::Error&) {
      // A worker that is being terminated runs no JavaScript any more.
    }
  };
  must(env,
       napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, call, &completions_),
       "creating the read queue");
  must(env, napi_unref_threadsafe_function(env, completions_), "unreferencing the read queue");
}

Context::~Context() { shutdown(); }

const std::shared_ptr<Device>& Context::shared_device() {
  check_type(!closed_, "the device has been shut down");
  if (!device_) device_ = create_device(index_);
  return device_;
}

void Context::select(int index) {
  check_type(!device_ || index == index_, "device ", index_, " is in use already; this process cannot change to ",
             index);
  index_ = index;
}

void Context::shutdown() {
  closed_ = true;
  if (!device_) return;
  device_->abandon_recording();
  // Runs what is queued; its reads then reach the completion queue, and no later callback can start.
  device_->wait_for(device_->submitted());
  device_.reset();
}

void Context::complete(Napi::Env env, PendingRead& read) {
  if (--pending_ == 0) napi_unref_threadsafe_function(env, completions_);
  if (read.fault.empty())
    read.deferred.Resolve(read.target.Value());
  else
    read.deferred.Reject(Napi::Error::New(env, read.fault).Value());
}

Napi::Promise Context::read(Napi::Env env, const Tensor& t) {
  Napi::TypedArray target = host_array(env, t);
  auto* read = new PendingRead{this, Napi::Promise::Deferred::New(env), Napi::Persistent(target), {}};
  Napi::Promise promise = read->deferred.Promise();
  if (pending_++ == 0) napi_ref_threadsafe_function(env, completions_);
  device().read(t, bytes_of(target), [read, queue = completions_](std::string fault) {
    read->fault = std::move(fault);
    if (napi_call_threadsafe_function(queue, read, napi_tsfn_nonblocking) != napi_ok) {
      read->target.SuppressDestruct();  // closing: the environment already dropped its references
      delete read;
    }
  });
  return promise;
}

Napi::Value Context::read_sync(Napi::Env env, const Tensor& t) {
  Napi::TypedArray target = host_array(env, t);
  std::string fault;
  device().read(t, bytes_of(target), [&fault](std::string f) { fault = std::move(f); });
  device().wait_for(device().submitted());
  if (!fault.empty()) throw std::runtime_error(fault);
  return target;
}

napi_value Context::wrap(napi_env env, Tensor t) {
  napi_value object;
  must(env, napi_create_object(env, &object), "creating a handle");
  auto owned = std::make_unique<Tensor>(std::move(t));
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<Tensor*>(data); };
  must(env, napi_wrap(env, object, owned.get(), finalize, nullptr, nullptr), "wrapping a tensor");
  owned.release();
  must(env, napi_type_tag_object(env, object, &kTensorTag), "tagging a handle");
  return object;
}

Tensor& Context::unwrap(napi_env env, napi_value value, const char* op, const char* argument) {
  napi_valuetype type;
  napi_typeof(env, value, &type);
  bool ours = false;
  check_type(type == napi_object && napi_check_object_type_tag(env, value, &kTensorTag, &ours) == napi_ok && ours, op,
             ": ", argument, " must be a tensor handle of this device");
  void* data = nullptr;
  check_type(napi_unwrap(env, value, &data) == napi_ok && data, op, ": ", argument, " must be a tensor handle");
  auto& tensor = *static_cast<Tensor*>(data);
  check_type(tensor.buffer != nullptr, op, ": ", argument, " has been disposed");
  Device& own = device();
  check_type(tensor.buffer->device.get() == &own, op, ": ", argument, " belongs to another device");
  if (own.recording()) own.keep(tensor.buffer);
  return tensor;
}

}  // namespace eq::addon
