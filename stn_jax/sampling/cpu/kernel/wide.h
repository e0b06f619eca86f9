// Many channels: a vector holds the channels of one point. The images are read as they are.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "axes.h"
#include "pixels.h"

namespace stn_jax {

// The taps of a block of points. T is their number along an axis, 0 if it is known only when
// the program runs.
template <int N, int T, typename Real>
class Taps {
 public:
  Taps(const Axis* axes, const Method& method) : axes_(axes), method_(method) {}

  // Finds them, from coordinates in image order. (Not inlined, to be compiled once for all types
  // of pixels.)
  template <bool has_slopes>
  [[gnu::noinline]] void FindTaps(Real (*x)[kLanes]) {
    std::fill(nothing_, nothing_ + kLanes, Real(0));
    int32_t stride = 1;
    for (int a = N - 1; a >= 0; --a) {
      Find<T, has_slopes>(axes_[a], method_, x[a], nothing_, along_[a]);
      const int32_t n = axes_[a].n, period = Period(axes_[a].rule, n);
      const auto inverse = 1 / static_cast<float>(period);
      ByRule(axes_[a].rule, [&]<Rule rule>() {
        for (int k = 0; k < Count(); ++k) {
#pragma omp simd
          for (int l = 0; l < kLanes; ++l) {
            const int32_t pixel = PixelAt<rule>(along_[a].first[l] + k, n, period, inverse);
            start_[a][k][l] = pixel < 0 ? pixel : pixel * stride;
          }
        }
      });
      stride *= n;
    }
  }

 protected:
  static constexpr int kTaps = Along<T, Real>::kTaps;

  int Count() const { return T ? T : method_.taps; }

  const Axis* axes_;
  const Method& method_;
  Along<T, Real> along_[N];
  alignas(64) int32_t start_[N][kTaps][kLanes];  // each tap's share of the offset, in pixels
  alignas(64) Real nothing_[kLanes];             // NaN if a coordinate is NaN, else zero
};

template <int N, int T, typename P>
class Wide : public Taps<N, T, RealOf<P>> {
 public:
  using Real = RealOf<P>;
  using Base = Taps<N, T, Real>;

  Wide(const Axis* axes, const Method& method, int64_t channels)
      : Base(axes, method), channels_(channels), zeros_(channels) {}

  // The samples of the block's first `count` points.
  void Sample(const P* image, int count, P* out) const {
    Neighbors near;
    for (int l = 0; l < count; ++l) {
      FindNeighbors(l, image, near);
      P* target = out + l * channels_;
      const Real none = nothing_[l];
      if constexpr (T == 2) {  // so few taps that their pixels' addresses stay in registers
#pragma omp simd
        for (int64_t c = 0; c < channels_; ++c) {
          Real sum = none;
          for (int tap = 0; tap < kMost; ++tap) sum += near.weight[tap] * Load(near.pixel[tap][c]);
          target[c] = Round<P>(sum);
        }
      } else {
        int64_t c = 0;
        for (; c + 32 <= channels_; c += 32) SampleChannels<32>(near, c, none, target + c);
        for (; c + 8 <= channels_; c += 8) SampleChannels<8>(near, c, none, target + c);
        for (; c < channels_; ++c) SampleChannels<1>(near, c, none, target + c);
      }
    }
  }

  // The gradient of the points: the derivative of each tap's weight, times the inner product
  // of its pixel and the gradient of the samples. bar[a] is along axis a.
  void PointsBar(const P* image, int count, const P* out_bar, Real (*bar)[kLanes]) const {
    const int taps = Count();
    for (int l = 0; l < count; ++l) {
      const P* own = out_bar + l * channels_;
      Real total[N] = {};
      for (int i = 0; i < taps; ++i) {
        Real plane = 0, plane_y = 0, plane_x = 0;  // sums over the axes after the first
        for (int j = 0; j < taps; ++j) {
          const int32_t offset = start_[0][i][l] + start_[1][j][l];
          const Real weight = along_[1].weight[j][l], slope = along_[1].slope[j][l];
          if constexpr (N == 2) {
            const Real shared = Inner(image, offset, own);
            plane += weight * shared, plane_y += slope * shared;
          } else {
            Real row = 0, row_x = 0;
            for (int k = 0; k < taps; ++k) {
              const Real shared = Inner(image, offset + start_[2][k][l], own);
              row += along_[2].weight[k][l] * shared;
              row_x += along_[2].slope[k][l] * shared;
            }
            plane += weight * row, plane_y += slope * row, plane_x += weight * row_x;
          }
        }
        const Real weight = along_[0].weight[i][l];
        total[0] += along_[0].slope[i][l] * plane;
        total[1] += weight * plane_y;
        if constexpr (N == 3) total[2] += weight * plane_x;
      }
      for (int a = 0; a < N; ++a) bar[a][l] = nothing_[l] == 0 ? total[a] : 0;
    }
  }

  // Adds to the gradient of the image, in the pixels from `begin` to `end`.
  void AddImageBar(int count, const P* out_bar, int64_t begin, int64_t end,
                   Real* image_bar) const {
    for (int l = 0; l < count; ++l) {
      if (nothing_[l] != 0) continue;
      const P* bar = out_bar + l * channels_;
      ForTaps(l, [&](int32_t offset, Real weight) __attribute__((always_inline)) {
        if (offset < begin || offset >= end) return;
        Real* target = image_bar + offset * channels_;
#pragma omp simd
        for (int64_t c = 0; c < channels_; ++c) target[c] += weight * Load(bar[c]);
      });
    }
  }

 private:
  using Base::along_, Base::Count, Base::kTaps, Base::nothing_, Base::start_;
  static constexpr int kMost = N == 2 ? kTaps * kTaps : kTaps * kTaps * kTaps;

  // The pixels of the taps of one point, zeros where there is none, and their weights.
  struct Neighbors {
    int count;
    const P* pixel[kMost];
    Real weight[kMost];
  };

  // Calls work(offset, weight) for the taps of a point. The offset is negative if there is no
  // pixel.
  template <typename Work>
  [[gnu::always_inline]] void ForTaps(int l, const Work& work) const {
    const int taps = Count();
    for (int i = 0; i < taps; ++i)
      for (int j = 0; j < taps; ++j) {
        const int32_t offset = start_[0][i][l] + start_[1][j][l];
        const Real weight = along_[0].weight[i][l] * along_[1].weight[j][l];
        if constexpr (N == 2) work(offset, weight);
        else
          for (int k = 0; k < taps; ++k)
            work(offset + start_[2][k][l], weight * along_[2].weight[k][l]);
      }
  }

  [[gnu::always_inline]] void FindNeighbors(int l, const P* image, Neighbors& out) const {
    int count = 0;
    ForTaps(l, [&](int32_t offset, Real weight) __attribute__((always_inline)) {
      out.pixel[count] = offset < 0 ? zeros_.data() : image + offset * channels_;
      out.weight[count++] = weight;
    });
    out.count = count;
  }

  // The inner product of a pixel and the gradient of a sample.
  [[gnu::always_inline]] Real Inner(const P* image, int32_t offset, const P* own) const {
    if (offset < 0) return 0;
    const P* pixel = image + offset * channels_;
    Real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < channels_; ++c) sum += Load(own[c]) * Load(pixel[c]);
    return sum;
  }

  template <int channels>
  [[gnu::always_inline]] void SampleChannels(const Neighbors& near, int64_t first, Real none,
                                             P* out) const {
    Real sum[channels];
    for (int c = 0; c < channels; ++c) sum[c] = none;
    constexpr int together = 4;  // taps, so that sums stay in registers
    const int count = T ? kMost : near.count;
    int tap = 0;
    for (; tap + together <= count; tap += together)
      AddTaps<together, channels>(near, tap, first, sum);
    for (; tap < count; ++tap) AddTaps<1, channels>(near, tap, first, sum);
    for (int c = 0; c < channels; ++c) out[c] = Round<P>(sum[c]);
  }

  template <int taps, int channels>
  [[gnu::always_inline]] static void AddTaps(const Neighbors& near, int tap, int64_t first,
                                             Real* sum) {
    const P* pixel[taps];
    Real weight[taps];
    for (int k = 0; k < taps; ++k)
      pixel[k] = near.pixel[tap + k] + first, weight[k] = near.weight[tap + k];
#pragma omp simd
    for (int c = 0; c < channels; ++c) {
      Real own = sum[c];
      for (int k = 0; k < taps; ++k) own += weight[k] * Load(pixel[k][c]);
      sum[c] = own;
    }
  }

  const int64_t channels_;
  const std::vector<P> zeros_;  // a pixel of zeros
};

}  // namespace stn_jax
