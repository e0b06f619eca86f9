// The nearest pixel of each point: it is copied.

#pragma once

#include <algorithm>
#include <cstdint>

#include "axes.h"
#include "pixels.h"

namespace stn_jax {

template <int N, typename P>
class Nearest {
 public:
  using Real = RealOf<P>;

  Nearest(const Axis* axes, int64_t channels) : axes_(axes), channels_(channels) {}

  // Finds the pixels of a block of points, from coordinates in image order.
  void FindPixels(Real (*x)[kLanes]) {
    if constexpr (N == 2)
      if (RepeatsNothing(axes_[0]) && RepeatsNothing(axes_[1])) return FindInPlane(x[0], x[1]);
    std::fill(pixel_, pixel_ + kLanes, 0);
    std::fill(is_nan_, is_nan_ + kLanes, 0);
    int32_t stride = 1;
    for (int a = N - 1; a >= 0; --a) {
      const int32_t n = axes_[a].n, period = Period(axes_[a].rule, n);
      const auto inverse = 1 / static_cast<float>(period);
      Line<Real> line(axes_[a]);
      AtPoint(line, x[a]);
      ByRule(axes_[a].rule, [&]<Rule rule>() {
#pragma omp simd
        for (int l = 0; l < kLanes; ++l) {
          const Real at = Min(Max(line.At(x[a][l]), -kLimit<Real>), kLimit<Real>);
          const auto index = static_cast<int32_t>(std::floor(at + Real(0.5)));
          const int32_t pixel = PixelAt<rule>(index, n, period, inverse);
          pixel_[l] += pixel < 0 ? pixel : pixel * stride;
          is_nan_[l] |= x[a][l] != x[a][l];
        }
      });
      stride *= n;
    }
  }

  void Sample(const P* image, int count, P* out) const {
    const P zero = Round<P>(0), nan = Round<P>(kNan<Real>);
    if (channels_ == 1) {
      P block[kLanes];
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) {
        const P own = image[Max(pixel_[l], 0)];
        block[l] = is_nan_[l] ? nan : pixel_[l] < 0 ? zero : own;
      }
      std::copy(block, block + count, out);
      return;
    }
    ByChannels([&]<int C>() {
      const int64_t channels = C ? C : channels_;
      for (int l = 0; l < count; ++l) {
        const P* from = image + Max(pixel_[l], 0) * channels;
        const P other = is_nan_[l] ? nan : zero;
        const bool is_own = pixel_[l] >= 0 && !is_nan_[l];
        for (int64_t c = 0; c < channels; ++c) out[l * channels + c] = is_own ? from[c] : other;
      }
    });
  }

  // Adds to the gradient of the image, in the pixels from `begin` to `end`.
  void AddImageBar(int count, const P* out_bar, int64_t begin, int64_t end,
                   Real* image_bar) const {
    ByChannels([&]<int C>() {
      const int64_t channels = C ? C : channels_;
      for (int l = 0; l < count; ++l) {
        if (is_nan_[l] || pixel_[l] < begin || pixel_[l] >= end) continue;
        Real* to = image_bar + pixel_[l] * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] += Load(out_bar[l * channels + c]);
      }
    });
  }

 private:
  static bool RepeatsNothing(const Axis& axis) { return axis.rule <= kBorder && axis.half != 0; }

  // Both axes at once. The coordinates that a rule tells apart are those around the image.
  [[gnu::noinline]] void FindInPlane(const Real* ys, const Real* xs) {
    const Line<Real> y(axes_[0]), x(axes_[1]);
    const int32_t height = axes_[0].n, width = axes_[1].n;
    const Real top = axes_[0].rule == kBorder ? 0 : -1, left = axes_[1].rule == kBorder ? 0 : -1;
    const Real bottom = height + (top < 0 ? 0 : -1), right = width + (left < 0 ? 0 : -1);
    int32_t *pixel = pixel_, *is_nan = is_nan_;
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const Real at_y = std::floor(y.At(ys[l]) + Real(0.5));
      const Real at_x = std::floor(x.At(xs[l]) + Real(0.5));
      const auto i = static_cast<int32_t>(Min(Max(at_y, top), bottom));
      const auto j = static_cast<int32_t>(Min(Max(at_x, left), right));
      const bool is_inside = (i >= 0) & (i < height) & (j >= 0) & (j < width);
      pixel[l] = is_inside ? i * width + j : -1;
      is_nan[l] = (xs[l] != xs[l]) | (ys[l] != ys[l]);
    }
  }

  // Calls function.operator()<C>(), C = 0 for a number that is known only when the program runs.
  template <typename Function>
  void ByChannels(const Function& function) const {
    switch (channels_) {
      case 1: return function.template operator()<1>();
      case 3: return function.template operator()<3>();
      default: return function.template operator()<0>();
    }
  }

  const Axis* axes_;
  const int64_t channels_;
  alignas(64) int32_t pixel_[kLanes];  // negative if there is none
  alignas(64) int32_t is_nan_[kLanes];
};

}  // namespace stn_jax
