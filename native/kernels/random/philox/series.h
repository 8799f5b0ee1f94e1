// The polynomials of normal random numbers, once for both devices: V is double, or a vector of doubles. Double
// precision, so that rounding to f32 hides how each device evaluates; the coefficients are those of Sun's fdlibm (log,
// and sine and cosine on [-pi/4, pi/4]), good to one unit in the last place.
#pragma once

namespace eq {

/// With s = f / (2 + f) and half = f^2 / 2: log(1 + f) = f - (half - s (half + R(s))); this is s (half + R(s)).
template <class V>
[[gnu::always_inline]] constexpr V log_series(const V& s, const V& half) {
  const V z = s * s, w = z * z;
  const V odd = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
  const V even = z * (6.666666666666735130e-01 +
                      w * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
  return s * (half + odd + even);
}

/// sin x for x in [-pi/4, pi/4], with z = x^2.
template <class V>
[[gnu::always_inline]] constexpr V sine_series(const V& x, const V& z) {
  return x + x * z *
                 (-1.66666666666666324348e-01 +
                  z * (8.33333333332248946124e-03 +
                       z * (-1.98412698298579493134e-04 +
                            z * (2.75573137070700676789e-06 +
                                 z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
}

/// cos x for x in [-pi/4, pi/4], of z = x^2.
template <class V>
[[gnu::always_inline]] constexpr V cosine_series(const V& z) {
  return 1.0 - (0.5 * z - z * z *
                              (4.16666666666666019037e-02 +
                               z * (-1.38888888888741095749e-03 +
                                    z * (2.48015872894767294178e-05 +
                                         z * (-2.75573143513906633035e-07 +
                                              z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11))))));
}

}  // namespace eq
