// Where to sample: points in memory, or those of a transformation, which are computed block by
// block and never stored.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "axes.h"

namespace stn_jax {

// The points of all grids. `has_bar` says whether their gradient is wanted.
template <int N, typename Real>
class Points {
 public:
  explicit Points(bool has_bar) : has_bar(has_bar) {}
  virtual ~Points() = default;

  // The coordinates of `count` points from the `first`, in image order.
  virtual void Get(int64_t grid, int64_t first, int count, Real (*x)[kLanes]) const = 0;

  // Takes the gradient of the same points.
  virtual void SetBar(int64_t grid, int64_t first, int count, const Real (*bar)[kLanes]) const = 0;

  const bool has_bar;
};

// Points in memory, (x, y) or (x, y, z).
template <int N, typename Real>
class GridPoints : public Points<N, Real> {
 public:
  GridPoints(const Real* at, Real* bar, int64_t each)
      : Points<N, Real>(bar != nullptr), at_(at), bar_(bar), each_(each) {}

  // Both branches do the same; the compiler vectorizes the first, whose number of iterations it
  // knows.
  void Get(int64_t grid, int64_t first, int count, Real (*x)[kLanes]) const override {
    const Real* own = at_ + (grid * each_ + first) * N;
    if (count == kLanes) {
      for (int l = 0; l < kLanes; ++l)
        for (int a = 0; a < N; ++a) x[a][l] = own[l * N + N - 1 - a];
    } else {
      for (int a = 0; a < N; ++a) {
        std::fill(x[a], x[a] + kLanes, Real(0));
        for (int l = 0; l < count; ++l) x[a][l] = own[l * N + N - 1 - a];
      }
    }
  }

  void SetBar(int64_t grid, int64_t first, int count,
              const Real (*bar)[kLanes]) const override {
    Real* own = bar_ + (grid * each_ + first) * N;
    if (count == kLanes) {
      for (int l = 0; l < kLanes; ++l)
        for (int a = 0; a < N; ++a) own[l * N + N - 1 - a] = bar[a][l];
    } else {
      for (int l = 0; l < count; ++l)
        for (int a = 0; a < N; ++a) own[l * N + N - 1 - a] = bar[a][l];
    }
  }

 private:
  const Real* at_;
  Real* bar_;
  int64_t each_;
};

// The sums over a block that make up the gradient of theta, for each block of each grid.
template <typename Real>
class Partial {
 public:
  Partial(int64_t grids, int64_t points, int numbers)
      : blocks_((points + kLanes - 1) / kLanes), numbers_(numbers), sums_(grids * blocks_ * numbers) {}

  Real* Of(int64_t grid, int64_t first) {
    return sums_.data() + (grid * blocks_ + first / kLanes) * numbers_;
  }

  // Adds them up in the order of the blocks.
  void Total(int64_t grid, Real* out) const {
    const Real* own = sums_.data() + grid * blocks_ * numbers_;
    for (int k = 0; k < numbers_; ++k) {
      double total = 0;
      for (int64_t block = 0; block < blocks_; ++block) total += own[block * numbers_ + k];
      out[k] = static_cast<Real>(total);
    }
  }

 private:
  const int64_t blocks_;
  const int numbers_;
  std::vector<Real> sums_;
};

// The sum over a block's points of their gradient times a number of each.
template <typename Real>
inline Real Inner(const Real* bar, const Real* numbers, int count) {
  Real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int l = 0; l < count; ++l) sum += bar[l] * numbers[l];
  return sum;
}

// Points theta (basis_1, ..., basis_K): a spline's, where basis_k is the weight of a control point
// in each pixel of the output.
template <int N, typename Real>
class BasisPoints : public Points<N, Real> {
 public:
  // theta (grids, N, K), rows (x, y); basis (K, points)
  BasisPoints(const Real* theta, const Real* basis, int terms, int64_t each, Partial<Real>* partial)
      : Points<N, Real>(partial != nullptr), theta_(theta), basis_(basis), terms_(terms),
        each_(each), partial_(partial) {}

  void Get(int64_t grid, int64_t first, int count, Real (*x)[kLanes]) const override {
    for (int a = 0; a < N; ++a) {
      const Real* row = theta_ + (grid * N + N - 1 - a) * terms_;
      std::fill(x[a], x[a] + kLanes, Real(0));
      for (int k = 0; k < terms_; ++k) {
        const Real* own = basis_ + k * each_ + first;
        const Real factor = row[k];
#pragma omp simd
        for (int l = 0; l < count; ++l) x[a][l] += factor * own[l];
      }
    }
  }

  void SetBar(int64_t grid, int64_t first, int count,
              const Real (*bar)[kLanes]) const override {
    Real* out = partial_->Of(grid, first);
    for (int a = 0; a < N; ++a)
      for (int k = 0; k < terms_; ++k)
        out[(N - 1 - a) * terms_ + k] = Inner(bar[a], basis_ + k * each_ + first, count);
  }

 private:
  const Real* theta_;
  const Real* basis_;
  const int terms_;
  const int64_t each_;
  Partial<Real>* partial_;
};

// Points theta (x, y, 1) of the pixels (x, y) of the output, divided by the last one if there is
// one row more: affine and projective transformations.
template <int N, typename Real>
class MatrixPoints : public Points<N, Real> {
 public:
  // theta (grids, N or N + 1, N + 1), rows and columns (x, y); lines: the pixels' coordinates
  // along each axis, in image order
  MatrixPoints(const Real* theta, const Real* lines, const int64_t* size, bool is_projective,
               Partial<Real>* partial)
      : Points<N, Real>(partial != nullptr), theta_(theta), is_projective_(is_projective),
        partial_(partial) {
    for (int a = 0; a < N; ++a) line_[a] = lines, size_[a] = size[a], lines += size[a];
  }

  void Get(int64_t grid, int64_t first, int count, Real (*x)[kLanes]) const override {
    alignas(64) Real pixel[N][kLanes];
    Pixels(first, count, pixel);
    const Real* theta = Theta(grid);
    for (int a = 0; a < N; ++a) Row(theta + (N - 1 - a) * (N + 1), pixel, x[a]);
    if (!is_projective_) return;
    alignas(64) Real w[kLanes];
    Divisors(theta, pixel, w);
    constexpr Real infinity = std::numeric_limits<Real>::infinity();
    for (int a = 0; a < N; ++a)
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) x[a][l] = w[l] == 0 ? infinity : x[a][l] / w[l];
  }

  void SetBar(int64_t grid, int64_t first, int count,
              const Real (*bar)[kLanes]) const override {
    alignas(64) Real pixel[N][kLanes], scaled[N + 1][kLanes];
    Pixels(first, count, pixel);
    for (int a = 0; a < N; ++a) std::copy(bar[a], bar[a] + kLanes, scaled[a]);
    if (is_projective_) Divide(grid, first, count, pixel, scaled);
    Real* out = partial_->Of(grid, first);
    // rows (x, y[, z][, w]); the gradient of w is the last of `scaled`
    for (int row = 0; row < Rows(); ++row) {
      const Real* own = row < N ? scaled[N - 1 - row] : scaled[N];
      for (int column = 0; column < N; ++column)
        *out++ = Inner(own, pixel[N - 1 - column], count);
      Real sum = 0;
      for (int l = 0; l < count; ++l) sum += own[l];
      *out++ = sum;
    }
  }

 private:
  int Rows() const { return is_projective_ ? N + 1 : N; }
  const Real* Theta(int64_t grid) const { return theta_ + grid * Rows() * (N + 1); }

  // The coordinates of pixels of the output, in image order.
  void Pixels(int64_t first, int count, Real (*pixel)[kLanes]) const {
    int64_t index[N];
    for (int a = N - 1; a >= 0; --a) index[a] = first % size_[a], first /= size_[a];
    for (int l = 0; l < count;) {
      const int64_t rest = size_[N - 1] - index[N - 1];
      const int end = static_cast<int>(std::min<int64_t>(count, l + rest));
      const Real* line = line_[N - 1] + index[N - 1] - l;
      for (int a = 0; a < N - 1; ++a) std::fill(pixel[a] + l, pixel[a] + end, line_[a][index[a]]);
      for (; l < end; ++l) pixel[N - 1][l] = line[l];
      index[N - 1] = 0;
      for (int a = N - 2; a >= 0 && ++index[a] == size_[a]; --a) index[a] = 0;
    }
    for (int a = 0; a < N; ++a) std::fill(pixel[a] + count, pixel[a] + kLanes, Real(0));
  }

  // One row of theta times (x, y, 1).
  void Row(const Real* row, const Real (*pixel)[kLanes], Real* out) const {
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      Real sum = row[N];
      for (int a = 0; a < N; ++a) sum += row[a] * pixel[N - 1 - a][l];
      out[l] = sum;
    }
  }

  // The last row's products; 0 where they are zero to rounding.
  void Divisors(const Real* theta, const Real (*pixel)[kLanes], Real* w) const {
    const Real* row = theta + N * (N + 1);
    constexpr Real rounding = 4 * std::numeric_limits<Real>::epsilon();
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      Real sum = row[N], size = std::fabs(row[N]);
      for (int a = 0; a < N; ++a) {
        const Real term = row[a] * pixel[N - 1 - a][l];
        sum += term, size += std::fabs(term);
      }
      w[l] = std::fabs(sum) <= rounding * size ? 0 : sum;
    }
  }

  // From the gradient of points x = u / w to those of u and w; infinite points have none.
  void Divide(int64_t grid, int64_t first, int count, const Real (*pixel)[kLanes],
              Real (*scaled)[kLanes]) const {
    alignas(64) Real x[N][kLanes], w[kLanes];
    Get(grid, first, count, x);
    Divisors(Theta(grid), pixel, w);
    std::fill(scaled[N], scaled[N] + kLanes, Real(0));
    for (int a = 0; a < N; ++a)
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) {
        const Real own = w[l] == 0 ? 0 : scaled[a][l] / w[l];
        scaled[N][l] -= w[l] == 0 ? 0 : own * x[a][l];
        scaled[a][l] = own;
      }
  }

  const Real* theta_;
  const Real* line_[N];
  int64_t size_[N];
  const bool is_projective_;
  Partial<Real>* partial_;
};

}  // namespace stn_jax
