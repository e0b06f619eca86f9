// Along one axis: which pixels count at a point, and how much.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace stn_jax {

constexpr int kLanes = 64;                // points in a block
constexpr int kMostTaps = 6;              // pixels that count along an axis
constexpr int kMostDegree = 24;
constexpr int32_t kFar = 1 << 23;         // FAR of plain JAX
constexpr int32_t kNowhere = -(1 << 29);  // three of them and a pixel's offset are negative

template <typename Real>
constexpr Real kLimit = 2147483520;  // LIMIT of plain JAX

template <typename Real>
constexpr Real kNan = std::numeric_limits<Real>::quiet_NaN();

enum Rule : int32_t { kConstant, kBorder, kReflection, kMirror, kWrap };

struct Axis {
  int32_t n;       // pixels
  int32_t margin;  // of these before the coordinate's pixel 0
  Rule rule;
  double half, center;  // pixel = half * coordinate + center
};

// The weights of an interpolation method. Of pixel k at t, where t is the place of the point
// after the first of the two middle pixels, or from the middle pixel of an odd number:
//   weight = value[k] + slope[k] t + t (1 - t) (curve[k][0] + curve[k][1] s + ...),
// s = t - 1/2 for an even number of pixels, else t. So written, weights that are 0 or 1 at the
// pixels are so exactly.
struct Method {
  int taps;
  int curves;  // the number of coefficients curve[k]
  double value[kMostTaps], slope[kMostTaps];
  double curve[kMostTaps][kMostDegree];

  bool IsOdd() const { return taps % 2; }
};

// By value: std::min and std::max return references, which the compiler does not vectorize.
template <typename T>
inline T Min(T x, T y) { return x < y ? x : y; }

template <typename T>
inline T Max(T x, T y) { return x > y ? x : y; }

// i modulo n for |i| <= kFar, in floats: there is no vector instruction for integer division.
inline int32_t Modulo(int32_t i, int32_t n, float inverse) {
  int32_t rest = i - static_cast<int32_t>(std::floor(static_cast<float>(i) * inverse)) * n;
  rest += rest < 0 ? n : 0;
  return rest - (rest >= n ? n : 0);
}

// The period with which a rule repeats the pixels.
inline int32_t Period(Rule rule, int32_t n) {
  return rule == kWrap ? n : rule == kMirror ? std::max(2 * n - 2, 1) : 2 * n;
}

// The pixel that the padding rule puts at index i; kNowhere if none.
template <Rule rule>
inline int32_t PixelAt(int32_t i, int32_t n, int32_t period, float inverse) {
  if constexpr (rule == kConstant)
    return static_cast<uint32_t>(i) < static_cast<uint32_t>(n) ? i : kNowhere;
  if constexpr (rule == kBorder) return Max(Min(i, n - 1), 0);
  const int32_t near = Max(Min(i, kFar), -kFar);
  const int32_t inside = Modulo(near, period, inverse);
  const int32_t mirrored = rule == kMirror ? period - inside : period - 1 - inside;
  const int32_t pixel = rule == kWrap ? inside : Min(inside, mirrored);
  return near == i ? pixel : kNowhere;
}

// Calls function.operator()<rule>().
template <typename Function>
auto ByRule(Rule rule, const Function& function) {
  switch (rule) {
    case kBorder: return function.template operator()<kBorder>();
    case kReflection: return function.template operator()<kReflection>();
    case kMirror: return function.template operator()<kMirror>();
    case kWrap: return function.template operator()<kWrap>();
    default: return function.template operator()<kConstant>();
  }
}

inline int32_t PixelAt(const Axis& axis, int32_t i) {
  const int32_t period = Period(axis.rule, axis.n);
  return ByRule(axis.rule, [&]<Rule rule>() {
    return PixelAt<rule>(i, axis.n, period, 1 / static_cast<float>(period));
  });
}

// What a block of points finds along one axis. T is the number of taps, 0 if it is known only
// when the program runs.
template <int T, typename Real>
struct Along {
  static constexpr int kTaps = T ? T : kMostTaps;
  alignas(64) int32_t first[kLanes];  // index of the first pixel, before the padding rule
  alignas(64) Real weight[kTaps][kLanes];
  alignas(64) Real slope[kTaps][kLanes];  // of the weight, by the coordinate
};

// The weights at one place t, and their slopes; `at`, `s` and so on as in Method.
template <int T, bool has_slopes, typename Real>
struct Curve {
  Real value, slope, curve[kMostDegree];
  int curves;
  Real middle;

  Curve(const Method& method, int k)
      : value(static_cast<Real>(method.value[k])),
        slope(static_cast<Real>(method.slope[k])),
        // T taps are polynomials of degree T - 1, but for 6 there are others
        curves(T ? Max(T - 2, 0) : method.curves),
        middle(method.IsOdd() ? 0 : 0.5) {
    for (int d = 0; d < curves; ++d) curve[d] = static_cast<Real>(method.curve[k][d]);
  }

  [[gnu::always_inline]] void At(Real t, Real extent, Real& weight_out, Real& slope_out) const {
    const Real s = t - middle;
    Real q = 0, dq = 0;
    for (int d = (T ? Max(T - 2, 0) : curves) - 1; d >= 0; --d) {
      if (has_slopes) dq = dq * s + q;
      q = q * s + curve[d];
    }
    weight_out = value + slope * t + t * (1 - t) * q;
    if (has_slopes) slope_out = extent * (slope + (1 - 2 * t) * q + t * (1 - t) * dq);
  }
};

// Pixel coordinates: pixel = half * coordinate + center.
template <typename Real>
struct Line {
  Real half, center, extent;

  explicit Line(const Axis& axis)
      : half(static_cast<Real>(axis.half)),
        center(static_cast<Real>(axis.center)),
        extent(half) {}

  // One pixel under align_corners: a finite coordinate is its center, infinity stays infinite.
  bool IsPoint() const { return half == 0; }

  [[gnu::always_inline]] Real At(Real x) const {
    return (x == x ? x : 0) * half + center;
  }
};

// Replaces the coordinates of an axis that is one point, after which pixel = coordinate.
template <typename Real>
inline void AtPoint(Line<Real>& line, Real* x) {
  if (!line.IsPoint()) return;
  constexpr Real largest = std::numeric_limits<Real>::max();
  for (int l = 0; l < kLanes; ++l) x[l] = std::fabs(x[l]) <= largest ? line.center : x[l];
  line.half = 1, line.center = 0;
}

// Finds the first pixels, weights and slopes for coordinates x. `nothing` becomes NaN where a
// coordinate is NaN.
template <int T, bool has_slopes, typename Real>
inline void Find(const Axis& axis, const Method& method, Real* x, Real* nothing,
                 Along<T, Real>& out) {
  Line<Real> line(axis);
  AtPoint(line, x);
  const int taps = T ? T : method.taps;
  const Real rounding = taps % 2 ? 0.5 : 0;
  const int32_t before = axis.margin - (taps - 1) / 2;
  alignas(64) Real t[kLanes], extent[kLanes];
#pragma omp simd
  for (int l = 0; l < kLanes; ++l) {
    const Real at = line.At(x[l]);
    const Real near = Min(Max(at, -kLimit<Real>), kLimit<Real>);
    const Real base = std::floor(near + rounding);
    t[l] = near - base;
    extent[l] = near == at ? line.extent : 0;
    nothing[l] = x[l] == x[l] ? nothing[l] : kNan<Real>;
    out.first[l] = static_cast<int32_t>(base) + before;
  }
  for (int k = 0; k < taps; ++k) {
    const Curve<T, has_slopes, Real> curve(method, k);
#pragma omp simd
    for (int l = 0; l < kLanes; ++l)
      curve.At(t[l], extent[l], out.weight[k][l], out.slope[k][l]);
  }
}

}  // namespace stn_jax
