// Few channels: images are copied with a border, so that the taps of a point along the last
// axis are neighbors in memory and no tap is outside.

#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "axes.h"
#include "pixels.h"

namespace stn_jax {

constexpr int kFew = 4;    // channels up to which images are copied
constexpr int kSlack = 3;  // numbers that a vector of four may read beyond a pixel

// Four numbers, as g++ and clang know them.
template <typename Real>
struct Four {
  typedef Real Vector __attribute__((vector_size(4 * sizeof(Real))));

  [[gnu::always_inline]] static Vector At(const Real* from) {
    Vector out;
    std::memcpy(&out, from, sizeof out);
    return out;
  }

  [[gnu::always_inline]] static Real Sum(Vector x) { return (x[0] + x[1]) + (x[2] + x[3]); }
};

// An image with a border of `taps` pixels at each end of each axis, which shows what the
// padding rule puts there.
template <int N>
struct Bordered {
  Axis axes[N];
  int taps;
  int64_t channels;
  int64_t size[N], stride[N];        // pixels along an axis, and numbers between neighbors
  int64_t raw_stride[N];             // of the image without a border
  std::vector<int32_t> pixel[N];     // for each index with the border, the pixel shown there

  Bordered(const Axis* given, int taps, int64_t channels) : taps(taps), channels(channels) {
    int64_t own = channels, raw = channels;
    for (int a = N - 1; a >= 0; --a) {
      axes[a] = given[a];
      size[a] = axes[a].n + 2 * taps + (a == N - 1 ? kSlack : 0);
      stride[a] = own, raw_stride[a] = raw;
      own *= size[a], raw *= axes[a].n;
      pixel[a].resize(size[a]);
      for (int64_t j = 0; j < size[a]; ++j)
        pixel[a][j] = PixelAt(axes[a], static_cast<int32_t>(j) - taps);
    }
  }

  int64_t Numbers() const { return stride[0] * size[0] + kSlack; }

  // Copies the part of an image from `begin` to `end` along the first axis.
  template <typename P, typename Real>
  void Copy(const P* image, int64_t begin, int64_t end, Real* out) const {
    CopyAlong<0>(image, begin, end, out);
  }

  // Adds what the border's numbers received to the pixels that they show.
  template <typename Real>
  void FoldBorder(Real* bar) const { FoldAlong<0>(bar); }

  // Copies the numbers without the border, from pixel `begin` to `end` along the first axis.
  template <typename P, typename Real>
  void CopyInside(const Real* bar, int64_t begin, int64_t end, P* out) const {
    const int64_t lines = N == 2 ? 1 : axes[N - 2].n;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < lines; ++j) {
        const Real* from = bar + (i + taps) * stride[0] + taps * stride[N - 1];
        if (N == 3) from += (j + taps) * stride[1];
        P* to = out + i * raw_stride[0] + (N == 3 ? j * raw_stride[1] : 0);
        std::transform(from, from + axes[N - 1].n * channels, to,
                       [](Real x) { return Round<P>(x); });
      }
  }

 private:
  template <int A, typename P, typename Real>
  void CopyAlong(const P* from, int64_t begin, int64_t end, Real* to) const {
    for (int64_t j = begin; j < end; ++j) {
      Real* own = to + j * stride[A];
      const int64_t raw = pixel[A][j] * raw_stride[A];
      if (pixel[A][j] < 0) Clear(own, stride[A]);
      else if constexpr (A + 2 < N) CopyAlong<A + 1>(from + raw, 0, size[A + 1], own);
      else CopyLine(from + raw, own);
    }
  }

  template <typename Real>
  static void Clear(Real* to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = 0;
  }

  // Copies along the last axis.
  template <typename P, typename Real>
  void CopyLine(const P* from, Real* to) const {
    const int64_t before = taps * channels, inside = raw_stride[N - 2];
    const int64_t after = stride[N - 2] - before - inside;
    for (int64_t i = 0; i < inside; ++i) to[before + i] = Load(from[i]);
    if (axes[N - 1].rule == kConstant) {
      Clear(to, before);
      Clear(to + before + inside, after);
      return;
    }
    for (int64_t j = 0; j < size[N - 1]; ++j) {
      if (j == taps) j += axes[N - 1].n;
      const int64_t raw = pixel[N - 1][j] * channels;
      for (int64_t c = 0; c < channels; ++c)
        to[j * channels + c] = raw < 0 ? 0 : Load(from[raw + c]);
    }
  }

  template <int A, typename Real>
  void FoldAlong(Real* bar) const {
    if (axes[A].rule != kConstant) {
      for (int64_t j = 0; j < size[A]; ++j) {
        if ((j >= taps && j < taps + axes[A].n) || pixel[A][j] < 0) continue;
        Real* to = bar + (pixel[A][j] + taps) * stride[A];
        const Real* from = bar + j * stride[A];
        for (int64_t i = 0; i < stride[A]; ++i) to[i] += from[i];
      }
    }
    if constexpr (A + 1 < N)
      for (int64_t j = taps; j < taps + axes[A].n; ++j) FoldAlong<A + 1>(bar + j * stride[A]);
  }
};

// Loads two neighbors. For floats this is half as many gathers as one by one.
template <typename Real>
struct Pair {
  Real first, second;

  [[gnu::always_inline]] static Pair At(const Real* from) {
    if constexpr (std::is_same_v<Real, float> && std::endian::native == std::endian::little) {
      uint64_t both;
      std::memcpy(&both, from, sizeof both);
      return {std::bit_cast<float>(static_cast<uint32_t>(both)),
              std::bit_cast<float>(static_cast<uint32_t>(both >> 32))};
    } else {
      return {from[0], from[1]};
    }
  }
};

// The places of a block of points in such an image. T is the number of taps along an axis, 0 if
// it is known only when the program runs.
template <int N, int T, typename Real>
class Places {
 public:
  Places(const Bordered<N>& image, const Method& method) : image_(image), method_(method) {}

  // Finds them, from coordinates in image order. (Not inlined, to be compiled once for all
  // numbers of channels.)
  template <bool has_slopes>
  [[gnu::noinline]] void FindTaps(Real (*x)[kLanes]) {
    std::fill(nothing_, nothing_ + kLanes, Real(0));
    std::fill(at_, at_ + kLanes, 0);
    std::fill(is_apart_, is_apart_ + kLanes, 0);
    for (int a = 0; a < N; ++a) {
      Find<T, has_slopes>(image_.axes[a], method_, x[a], nothing_, along_[a]);
      ByRule(image_.axes[a].rule, [&]<Rule rule>() { Place<rule>(a); });
    }
  }

 protected:
  int Taps() const { return T ? T : method_.taps; }

  const Bordered<N>& image_;
  const Method& method_;
  Along<T, Real> along_[N];
  alignas(64) int32_t place_[N][kLanes];  // of the first tap, in pixels with the border
  alignas(64) int32_t at_[kLanes];        // its offset in numbers
  alignas(64) int32_t is_apart_[kLanes];
  alignas(64) Real nothing_[kLanes];      // NaN if a coordinate is NaN, else zero

 private:
  // The place of the first tap in the image with its border. It is set apart if its taps are
  // not neighbors there.
  template <Rule rule>
  void Place(int a) {
    const int32_t taps = Taps(), n = image_.axes[a].n, period = Period(rule, n);
    const auto inverse = 1 / static_cast<float>(period);
    const auto stride = static_cast<int32_t>(image_.stride[a]);
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const int32_t first = along_[a].first[l];
      int32_t at, apart = 0;
      if constexpr (rule == kConstant || rule == kBorder) {
        at = Max(Min(first, n), -taps);
      } else {
        const int32_t near = Max(Min(first, kFar - taps + 1), -kFar);
        at = Modulo(near, period, inverse);
        if constexpr (rule != kWrap) at = at > period - taps ? at - period : at;
        apart = near != first || at > n;
        at = apart ? 0 : at;
      }
      is_apart_[l] |= apart;
      place_[a][l] = at + taps;
      at_[l] += (at + taps) * stride;
    }
  }
};

// C is the number of channels, 0 if it is known only when the program runs.
template <int N, int T, int C, typename Real>
class Narrow : public Places<N, T, Real> {
 public:
  using Base = Places<N, T, Real>;
  using Base::Base;

  // The samples, `channels` numbers for each point.
  void Sample(const Real* image, int count, Real* out) const {
    for (int l = 0; l < count; ++l) SampleOne(image, l, out + l * Channels());
  }

  // The gradient of the points, bar[a] along axis a.
  void PointsBar(const Real* image, int count, const Real* out_bar, Real (*bar)[kLanes]) const {
    for (int l = 0; l < count; ++l) PointBar(image, l, out_bar + l * Channels(), bar);
  }

  // Adds the gradient of the image with its border, in the part from `begin` to `end` along the
  // first axis.
  void AddImageBar(int count, const Real* out_bar, int64_t begin, int64_t end,
                   Real* image_bar) const {
    const bool is_whole = begin == 0 && end == image_.size[0];
    for (int l = 0; l < count; ++l) {
      if (nothing_[l] != 0) continue;
      Real last[kMostLine];
      Spread(along_[N - 1].weight, l, out_bar + l * Channels(), last);
      if (is_apart_[l]) AddApart(l, last, begin, end, image_bar);
      else if (is_whole) AddNear<true>(l, last, begin, end, image_bar);
      else AddNear<false>(l, last, begin, end, image_bar);
    }
  }

 private:
  using Base::along_, Base::at_, Base::image_, Base::is_apart_, Base::nothing_, Base::place_;
  using Base::Taps;
  using Vector = typename Four<Real>::Vector;
  static constexpr bool kByChannels = C > 1;  // a vector holds the channels of one tap
  static constexpr int kMostLine = (T ? T : kMostTaps) * (C ? C : kFew);
  static constexpr int kMostRows = (T ? T : kMostTaps) * (N == 3 ? (T ? T : kMostTaps) : 1);

  int Channels() const { return C ? C : static_cast<int>(image_.channels); }
  int Line() const { return Taps() * Channels(); }  // numbers at the taps along the last axis
  int Rows() const { return N == 3 ? Taps() * Taps() : Taps(); }
  int FirstOf(int row) const { return N == 3 ? row / Taps() : row; }  // along the first axis
  int64_t Offset(int row) const {
    if constexpr (N == 2) return row * image_.stride[0];
    return row / Taps() * image_.stride[0] + row % Taps() * image_.stride[1];
  }

  // The weight of a row of taps at point l; differentiated by axis `by`, if it is not -1.
  Real RowWeight(int row, int l, int by = -1) const {
    auto of = [&](int a, int k) {
      return a == by ? along_[a].slope[k][l] : along_[a].weight[k][l];
    };
    if constexpr (N == 2) return of(0, row);
    return of(0, row / Taps()) * of(1, row % Taps());
  }

  // Calls work(row_at) for point l, where row_at(row) is where a row of its taps begins.
  template <typename Work>
  [[gnu::always_inline]] void AtRows(const Real* image, int l, const Work& work) const {
    if (!is_apart_[l]) [[likely]] {
      const Real* base = image + at_[l];
      return work([&](int row) { return base + Offset(row); });
    }
    Real patch[kMostRows * kMostLine + kSlack];
    CopyApart(image, l, patch);
    work([&](int row) { return patch + row * Line(); });
  }

  void CopyApart(const Real* image, int l, Real* patch) const {
    for (int row = 0; row < Rows(); ++row)
      for (int k = 0; k < Taps(); ++k, patch += Channels()) {
        const int64_t from = OffsetApart(l, row, k);
        for (int c = 0; c < Channels(); ++c) patch[c] = from < 0 ? 0 : image[from + c];
      }
  }

  // Where a tap of point l is in the image with its border; negative if nowhere.
  int64_t OffsetApart(int l, int row, int k) const {
    const int taps[3] = {N == 3 ? row / Taps() : row, N == 3 ? row % Taps() : k, k};
    int64_t sum = 0;
    for (int a = 0; a < N; ++a) {
      const int32_t pixel = PixelAt(image_.axes[a], along_[a].first[l] + taps[a]);
      if (pixel < 0) return -1;
      sum += (pixel + Taps()) * image_.stride[a];
    }
    return sum;
  }

  // The products of the taps' factors along the last axis and the channels' numbers.
  void Spread(const Real (*factor)[kLanes], int l, const Real* numbers, Real* out) const {
    for (int k = 0; k < Taps(); ++k)
      for (int c = 0; c < Channels(); ++c) out[k * Channels() + c] = factor[k][l] * numbers[c];
  }

  // One channel: a vector holds taps along the last axis.
  [[gnu::always_inline]] void SampleOne(const Real* image, int l, Real* out) const {
    AtRows(image, l, [&](auto row_at) __attribute__((always_inline)) {
      if constexpr (kByChannels) {
        Vector sum = {};
        for (int row = 0; row < Rows(); ++row) {
          const Real weight = RowWeight(row, l);
          const Real* pixels = row_at(row);
          for (int k = 0; k < Taps(); ++k)
            sum += weight * along_[N - 1].weight[k][l] * Four<Real>::At(pixels + k * C);
        }
        for (int c = 0; c < C; ++c) out[c] = sum[c] + nothing_[l];
      } else {
        Real line[kMostLine];
        for (int i = 0; i < Line(); ++i) line[i] = 0;
        for (int row = 0; row < Rows(); ++row) {
          const Real weight = RowWeight(row, l);
          const Real* pixels = row_at(row);
#pragma omp simd
          for (int i = 0; i < Line(); ++i) line[i] += weight * pixels[i];
        }
        for (int c = 0; c < Channels(); ++c) {
          Real sum = nothing_[l];
          for (int k = 0; k < Taps(); ++k)
            sum += along_[N - 1].weight[k][l] * line[k * Channels() + c];
          out[c] = sum;
        }
      }
    });
  }

  [[gnu::always_inline]] void PointBar(const Real* image, int l, const Real* out_bar,
                                       Real (*bar)[kLanes]) const {
    AtRows(image, l, [&](auto row_at) __attribute__((always_inline)) {
      if constexpr (kByChannels) {
        Vector total[N] = {};  // differentiated by each axis
        for (int row = 0; row < Rows(); ++row) {
          const Real* pixels = row_at(row);
          Vector value = {}, slope = {};
          for (int k = 0; k < Taps(); ++k) {
            const Vector pixel = Four<Real>::At(pixels + k * C);
            value += along_[N - 1].weight[k][l] * pixel;
            slope += along_[N - 1].slope[k][l] * pixel;
          }
          for (int a = 0; a < N - 1; ++a) total[a] += RowWeight(row, l, a) * value;
          total[N - 1] += RowWeight(row, l) * slope;
        }
        const Vector own = Four<Real>::At(out_bar);
        for (int a = 0; a < N; ++a) {
          Vector product = own * total[a];
          for (int c = C; c < 4; ++c) product[c] = 0;  // beyond the pixel
          bar[a][l] = nothing_[l] == 0 ? Four<Real>::Sum(product) : 0;
        }
      } else {
        Real line[N][kMostLine];  // differentiated by each axis, but for the last
        for (int a = 0; a < N; ++a)
          for (int i = 0; i < Line(); ++i) line[a][i] = 0;
        for (int row = 0; row < Rows(); ++row) {
          const Real* pixels = row_at(row);
          for (int a = 0; a < N; ++a) {
            const Real weight = RowWeight(row, l, a);
#pragma omp simd
            for (int i = 0; i < Line(); ++i) line[a][i] += weight * pixels[i];
          }
        }
        Real weighted[kMostLine], sloped[kMostLine];
        Spread(along_[N - 1].weight, l, out_bar, weighted);
        Spread(along_[N - 1].slope, l, out_bar, sloped);
        for (int a = 0; a < N; ++a) {
          const Real* last = a == N - 1 ? sloped : weighted;
          Real sum = 0;
          for (int i = 0; i < Line(); ++i) sum += last[i] * line[a][i];
          bar[a][l] = nothing_[l] == 0 ? sum : 0;
        }
      }
    });
  }

  template <bool is_whole>
  [[gnu::always_inline]] void AddNear(int l, const Real* last, int64_t begin, int64_t end,
                                      Real* image_bar) const {
    Real* base = image_bar + at_[l];
    for (int row = 0; row < Rows(); ++row) {
      const int64_t plane = place_[0][l] + FirstOf(row);
      if (!is_whole && (plane < begin || plane >= end)) continue;
      const Real weight = RowWeight(row, l);
      Real* target = base + Offset(row);
#pragma omp simd
      for (int i = 0; i < Line(); ++i) target[i] += weight * last[i];
    }
  }

  void AddApart(int l, const Real* last, int64_t begin, int64_t end, Real* image_bar) const {
    for (int row = 0; row < Rows(); ++row)
      for (int k = 0; k < Taps(); ++k) {
        const int64_t to = OffsetApart(l, row, k);
        if (to < begin * image_.stride[0] || to >= end * image_.stride[0]) continue;
        for (int c = 0; c < Channels(); ++c)
          image_bar[to + c] += RowWeight(row, l) * last[k * Channels() + c];
      }
  }
};

// Bilinear sampling of one channel of a plane that repeats nothing beyond its edges: a vector
// holds many points, and everything about them stays in registers.
template <typename Real>
class Plane {
 public:
  static constexpr int kTaps = 2;

  explicit Plane(const Bordered<2>& image)
      : y_(image.axes[0]),
        x_(image.axes[1]),
        height_(static_cast<Real>(image.axes[0].n)),
        width_(static_cast<Real>(image.axes[1].n)),
        stride_(static_cast<uint32_t>(image.stride[0])) {}

  // Not for other channels and rules, nor for axes of one point.
  static bool Fits(const Bordered<2>& image) {
    auto fits = [](const Axis& axis) { return axis.rule <= kBorder && axis.half != 0; };
    return image.channels == 1 && fits(image.axes[0]) && fits(image.axes[1]);
  }

  // Coordinates in image order. (Not inlined: elsewhere g++ 12 does not see the gathers.)
  [[gnu::noinline]] void Sample(const Real* image, const Real (*x)[kLanes], Real* out) const {
    const Plane own = *this;
    const Real *ys = x[0], *xs = x[1];
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const auto [upper, lower, v, u] = own.At(image, ys[l], xs[l]);
      const Real above = (1 - u) * upper.first + u * upper.second;
      const Real below = (1 - u) * lower.first + u * lower.second;
      const Real none = (xs[l] == xs[l]) & (ys[l] == ys[l]) ? 0 : kNan<Real>;
      out[l] = (1 - v) * above + v * below + none;
    }
  }

  [[gnu::noinline]] void PointsBar(const Real* image, const Real (*x)[kLanes],
                                   const Real* out_bar, Real (*bar)[kLanes]) const {
    const Plane own = *this;
    const Real *ys = x[0], *xs = x[1];
    Real *ys_bar = bar[0], *xs_bar = bar[1];
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const auto [upper, lower, v, u] = own.At(image, ys[l], xs[l]);
      const Real along_y =
          (1 - u) * (lower.first - upper.first) + u * (lower.second - upper.second);
      const Real along_x =
          (1 - v) * (upper.second - upper.first) + v * (lower.second - lower.first);
      const bool is_point = (xs[l] == xs[l]) & (ys[l] == ys[l]);
      ys_bar[l] = is_point ? own.y_.half * out_bar[l] * along_y : 0;
      xs_bar[l] = is_point ? own.x_.half * out_bar[l] * along_x : 0;
    }
  }

  // Adds the gradient of the image with its border.
  void AddImageBar(const Real (*x)[kLanes], int count, const Real* out_bar,
                   Real* image_bar) const {
    alignas(64) int32_t at[kLanes];
    alignas(64) Real part[4][kLanes];
    Spread(x[0], x[1], out_bar, at, part);
    for (int l = 0; l < count; ++l) {
      Real *upper = image_bar + at[l], *lower = upper + stride_;
      upper[0] += part[0][l], upper[1] += part[1][l];
      lower[0] += part[2][l], lower[1] += part[3][l];
    }
  }

 private:
  // Each point's gradient times the weights of its four pixels.
  [[gnu::noinline]] void Spread(const Real* ys, const Real* xs, const Real* out_bar, int32_t* at,
                                Real (*part)[kLanes]) const {
    const Plane own = *this;
    Real *a = part[0], *b = part[1], *c = part[2], *d = part[3];
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const auto [offset, v, u] = own.Find(ys[l], xs[l]);
      const bool is_point = (xs[l] == xs[l]) & (ys[l] == ys[l]);
      const Real bar = is_point ? out_bar[l] : 0, below = v * bar, above = bar - below;
      at[l] = offset;
      a[l] = (1 - u) * above, b[l] = u * above;
      c[l] = (1 - u) * below, d[l] = u * below;
    }
  }

  // The offset of the first pixel around a point, and the point's place between the four.
  struct Found {
    int32_t offset;
    Real y, x;
  };

  struct Place {
    Pair<Real> upper, lower;
    Real y, x;
  };

  [[gnu::always_inline]] Found Find(Real y, Real x) const {
    // a point that is clamped has all its taps in the border
    const Real at_y = Min(Max(y_.At(y), Real(-kTaps)), height_);
    const Real at_x = Min(Max(x_.At(x), Real(-kTaps)), width_);
    const Real top = std::floor(at_y), left = std::floor(at_x);
    const auto i = static_cast<uint32_t>(static_cast<int32_t>(top) + kTaps);
    const auto j = static_cast<uint32_t>(static_cast<int32_t>(left) + kTaps);
    return {static_cast<int32_t>(i * stride_ + j), at_y - top, at_x - left};
  }

  [[gnu::always_inline]] Place At(const Real* image, Real y, Real x) const {
    const auto [offset, v, u] = Find(y, x);
    const Real* from = image + offset;
    return {Pair<Real>::At(from), Pair<Real>::At(from + stride_), v, u};
  }

  Line<Real> y_, x_;
  Real height_, width_;
  uint32_t stride_;
};

}  // namespace stn_jax
