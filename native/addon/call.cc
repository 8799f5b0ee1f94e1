#include "call.h"

#include <cctype>
#include <cmath>

namespace eq::addon {

namespace {

std::string describe(const Napi::Value& v) {
  switch (v.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return v.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number:
      return concat(v.As<Napi::Number>().DoubleValue());
    case napi_string:
      return "a string";
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    default:
      return v.IsArray() ? "an array" : "an object";
  }
}

std::int64_t whole(const Napi::Value& v, const char* op, const std::string& name) {
  check_type(v.IsNumber(), op, ": ", name, " must be a whole number, got ", describe(v));
  const double d = v.As<Napi::Number>().DoubleValue();
  check_range(std::isfinite(d) && d == std::trunc(d) && std::fabs(d) <= 9007199254740991.0, op, ": ", name,
              " must be a whole number, got ", d);
  return static_cast<std::int64_t>(d);
}

/// Messages of checks begin with the op; those from deeper down (memory, a device that is gone) get it here.
std::string named(const char* op, const char* message) {
  const char* end = message;
  while (std::isalnum(static_cast<unsigned char>(*end)) || *end == '_') ++end;
  return end != message && *end == ':' ? message : concat(op, ": ", message);
}

template <class Fn>
napi_value guarded(const Napi::CallbackInfo& info, const char* op, Fn&& fn) {
  try {
    return fn();
  } catch (const Napi::Error&) {
    throw;
  } catch (const TypeError& e) {
    throw Napi::TypeError::New(info.Env(), named(op, e.what()));
  } catch (const RangeError& e) {
    throw Napi::RangeError::New(info.Env(), named(op, e.what()));
  } catch (const std::bad_alloc&) {
    throw Napi::RangeError::New(info.Env(), named(op, "out of memory"));
  } catch (const std::exception& e) {
    throw Napi::Error::New(info.Env(), named(op, e.what()));
  }
}

}  // namespace

Tensor Call::optional_tensor(std::size_t i, const char* name) {
  const Napi::Value v = info_[i];
  if (v.IsNull() || v.IsUndefined()) return {};
  return tensor(i, name);
}

std::vector<Tensor> Call::tensors(std::size_t i, const char* name) {
  const Napi::Value v = info_[i];
  check_type(v.IsArray(), op_, ": ", name, " must be an array of tensor handles, got ", describe(v));
  const auto array = v.As<Napi::Array>();
  const std::uint32_t n = array.Length();
  check_range(n <= (1u << 20), op_, ": ", name, " has ", n, " entries, at most 2^20 are supported");
  std::vector<Tensor> out;
  out.reserve(n);
  for (std::uint32_t k = 0; k < n; ++k) out.push_back(context_.unwrap(env(), array.Get(k), op_, name));
  return out;
}

double Call::number(std::size_t i, const char* name) const {
  const Napi::Value v = info_[i];
  check_type(v.IsNumber(), op_, ": ", name, " must be a number, got ", describe(v));
  return v.As<Napi::Number>().DoubleValue();
}

std::int64_t Call::integer(std::size_t i, const char* name, std::int64_t low, std::int64_t high) const {
  const std::int64_t n = whole(info_[i], op_, name);
  check_range(n >= low && n <= high, op_, ": ", name, " must be in ", low, "..", high, ", got ", n);
  return n;
}

bool Call::boolean(std::size_t i, const char* name) const {
  const Napi::Value v = info_[i];
  check_type(v.IsBoolean(), op_, ": ", name, " must be true or false, got ", describe(v));
  return v.As<Napi::Boolean>().Value();
}

std::string Call::text(std::size_t i, const char* name) const {
  const Napi::Value v = info_[i];
  check_type(v.IsString(), op_, ": ", name, " must be a string, got ", describe(v));
  return v.As<Napi::String>().Utf8Value();
}

DType Call::dtype(std::size_t i, const char* name) const {
  const std::string s = text(i, name);
  for (DType t : {DType::F32, DType::BF16, DType::I32, DType::Bool, DType::F16})
    if (s == dtype_name(t)) return t;
  throw TypeError(concat(op_, ": ", name, " must be f32, bf16, f16, i32 or bool, got ", s));
}

DType Call::storage(std::size_t i, const char* name) const {
  const DType t = dtype(i, name);
  check_type(t != DType::F16, op_, ": ", name, " must be f32, bf16, i32 or bool, got f16");
  return t;
}

std::vector<std::int64_t> Call::integers(std::size_t i, const char* name) const {
  const Napi::Value v = info_[i];
  check_type(v.IsArray(), op_, ": ", name, " must be an array of whole numbers, got ", describe(v));
  const auto array = v.As<Napi::Array>();
  const std::uint32_t n = array.Length();
  check_range(n <= (1u << 24), op_, ": ", name, " has ", n, " entries");
  std::vector<std::int64_t> out(n);
  for (std::uint32_t k = 0; k < n; ++k) out[k] = whole(array.Get(k), op_, name);
  return out;
}

Shape Call::shape(std::size_t i, const char* name) const {
  const auto dims = integers(i, name);
  check_range(dims.size() <= Shape::kMaxRank, op_, ": ", name, " has rank ", dims.size(), ", at most ", Shape::kMaxRank,
              " is supported");
  return Shape(dims.data(), static_cast<int>(dims.size()));
}

void Call::give(const std::vector<Tensor>& ts) {
  Napi::Array out = Napi::Array::New(env(), ts.size());
  for (std::uint32_t i = 0; i < ts.size(); ++i) out.Set(i, Napi::Value(env(), context_.wrap(env(), ts[i])));
  result_ = out;
}

void Call::settle() {
  for (const Tensor& t : held_)
    if (t.buffer->derived) t.buffer->derived->settle(*t.buffer);
}

void register_ops(Napi::Env env, Napi::Object target, const Op* begin, const Op* end) {
  for (const Op* op = begin; op != end; ++op) {
    const auto invoke = [](const Napi::CallbackInfo& info) -> Napi::Value {
      const Op& self = *static_cast<const Op*>(info.Data());
      return Napi::Value(info.Env(), guarded(info, self.name, [&] {
                           Call call(info, self.name);
                           self.function(call);
                           call.settle();
                           return call.result();
                         }));
    };
    target.Set(op->name, Napi::Function::New(env, invoke, op->name, const_cast<Op*>(op)));
  }
}

}  // namespace eq::addon
