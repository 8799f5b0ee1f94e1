// Compares the declarations of native/runtime/cuda/{cublaslt,cudnn}_api.h with the libraries' own headers, as far as a
// caller can tell them apart: a difference is an error of the compiler. See tools/gpu/check-libraries.sh.
#pragma once

#include <cstddef>
#include <type_traits>

namespace check {

/// Whether a value of one type is passed as one of the other is.
template <class A, class B>
constexpr bool passed_alike() {
  constexpr auto whole = [](auto number) {
    using T = typename decltype(number)::type;
    return std::is_integral_v<T> || std::is_enum_v<T>;
  };
  if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>) {
    using X = std::remove_cv_t<std::remove_pointer_t<A>>;
    using Y = std::remove_cv_t<std::remove_pointer_t<B>>;
    if constexpr (std::is_arithmetic_v<X> || std::is_pointer_v<X>)
      return passed_alike<X, Y>();
    else
      return true;
  } else if constexpr (whole(std::type_identity<A>{}) && whole(std::type_identity<B>{})) {
    return sizeof(A) == sizeof(B);
  } else {
    return std::is_same_v<A, B>;
  }
}

template <class Ours, class Theirs>
struct SameCall : std::false_type {};
template <class R, class... P, class S, class... Q>
struct SameCall<R (*)(P...), S (*)(Q...)> {
  static constexpr bool value = [] {
    if constexpr (sizeof...(P) != sizeof...(Q))
      return false;
    else
      return passed_alike<R, S>() && (passed_alike<P, Q>() && ...);
  }();
};

}  // namespace check

#define SAME_CALL(Api, member, symbol)                                              \
  static_assert(check::SameCall<decltype(Api::member), decltype(&::symbol)>::value, \
                #symbol " is called otherwise than it is declared");
#define SAME_NUMBER(ours, theirs) \
  static_assert(static_cast<long long>(ours) == static_cast<long long>(theirs), #ours " is not " #theirs);
