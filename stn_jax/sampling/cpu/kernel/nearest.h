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
    for (int l = 0; l < count; ++l, out += channels_) {
      const P* from = image + pixel_[l] * channels_;
      if (is_nan_[l] || pixel_[l] < 0) std::fill(out, out + channels_, is_nan_[l] ? nan : zero);
      else
        for (int64_t c = 0; c < channels_; ++c) out[c] = from[c];
    }
  }

  // Adds to the gradient of the image, in the pixels from `begin` to `end`.
  void AddImageBar(int count, const P* out_bar, int64_t begin, int64_t end,
                   Real* image_bar) const {
    for (int l = 0; l < count; ++l, out_bar += channels_) {
      if (is_nan_[l] || pixel_[l] < begin || pixel_[l] >= end) continue;
      Real* to = image_bar + pixel_[l] * channels_;
      for (int64_t c = 0; c < channels_; ++c) to[c] += Load(out_bar[c]);
    }
  }

 private:
  const Axis* axes_;
  const int64_t channels_;
  alignas(64) int32_t pixel_[kLanes];  // negative if there is none
  alignas(64) int32_t is_nan_[kLanes];
};

}  // namespace stn_jax
