// The coefficients of B-splines along one axis (Unser et al., 1993): for each pole z of the
// inverse, a sum from the left and one from the right. Beyond its ends a line goes on as it ends.

#pragma once

#include <algorithm>
#include <cstdint>

#include "memory.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace stn_jax {

constexpr int kLines = 32;  // lines that are filtered beside each other, in vectors

// What is filtered: arrays (outer, n, inner) along their middle axis.
struct Lines {
  int64_t outer, n, inner;
  const int32_t* pixel;  // of each entry of an extended line; -1: zero
  int64_t count, skip;   // entries of an extended line; those at each end that are left out
  xla::ffi::Span<const double> poles;

  int64_t Kept() const { return count - 2 * skip; }
};

template <typename Real>
void Filter(Real (*x)[kLines], int64_t count, Real z) {
  const Real gain = (1 - z) * (1 - 1 / z), ends = 1 / (1 - z);
  for (int j = 0; j < kLines; ++j) x[0][j] *= gain * ends;
  for (int64_t k = 1; k < count; ++k)
    for (int j = 0; j < kLines; ++j) x[k][j] = gain * x[k][j] + z * x[k - 1][j];
  for (int j = 0; j < kLines; ++j) x[count - 1][j] *= -z * ends;
  for (int64_t k = count - 2; k >= 0; --k)
    for (int j = 0; j < kLines; ++j) x[k][j] = z * (x[k + 1][j] - x[k][j]);
}

// The transpose of Filter: its steps backwards.
template <typename Real>
void FilterTransposed(Real (*x)[kLines], int64_t count, Real z) {
  const Real gain = (1 - z) * (1 - 1 / z), ends = 1 / (1 - z);
  for (int64_t k = 0; k < count - 1; ++k)
    for (int j = 0; j < kLines; ++j) {
      const Real bar = z * x[k][j];
      x[k + 1][j] += bar;
      x[k][j] = -bar;
    }
  for (int j = 0; j < kLines; ++j) x[count - 1][j] *= -z * ends;
  for (int64_t k = count - 1; k > 0; --k)
    for (int j = 0; j < kLines; ++j) {
      x[k - 1][j] += z * x[k][j];
      x[k][j] *= gain;
    }
  for (int j = 0; j < kLines; ++j) x[0][j] *= gain * ends;
}

// Some lines of an array (outer, length, inner), each at its place.
struct LinesAt {
  int64_t at[kLines], inner;
  int lines;

  LinesAt(const Lines& of, int64_t length, int64_t first) : inner(of.inner) {
    lines = static_cast<int>(std::min<int64_t>(kLines, of.outer * inner - first));
    for (int j = 0; j < lines; ++j)
      at[j] = (first + j) / inner * length * inner + (first + j) % inner;
  }

  template <typename Real>
  void Read(const Real* from, int64_t k, Real* x) const {
    for (int j = 0; j < lines; ++j) x[j] = from[at[j] + k * inner];
  }

  template <typename Real>
  void Write(const Real* x, int64_t k, Real* to) const {
    for (int j = 0; j < lines; ++j) to[at[j] + k * inner] = x[j];
  }
};

// Pixels (outer, n, inner) to coefficients (outer, Kept(), inner).
template <typename Real>
void Coefficients(const Lines& of, int64_t first, const Real* pixels, Real* out,
                  Real (*x)[kLines]) {
  const LinesAt from(of, of.n, first), to(of, of.Kept(), first);
  std::fill_n(x[0], of.count * kLines, Real{0});
  for (int64_t k = 0; k < of.count; ++k)
    if (of.pixel[k] >= 0) from.Read(pixels, of.pixel[k], x[k]);
  for (const double z : of.poles) Filter(x, of.count, static_cast<Real>(z));
  for (int64_t k = 0; k < of.Kept(); ++k) to.Write(x[k + of.skip], k, out);
}

// The transpose: gradients of coefficients to those of pixels. `sums` has n rows.
template <typename Real>
void PixelsBar(const Lines& of, int64_t first, const Real* bars, Real* out, Real (*x)[kLines],
               Real (*sums)[kLines]) {
  const LinesAt from(of, of.Kept(), first), to(of, of.n, first);
  std::fill_n(x[0], of.count * kLines, Real{0});
  std::fill_n(sums[0], of.n * kLines, Real{0});
  for (int64_t k = 0; k < of.Kept(); ++k) from.Read(bars, k, x[k + of.skip]);
  for (const double z : of.poles) FilterTransposed(x, of.count, static_cast<Real>(z));
  for (int64_t k = 0; k < of.count; ++k)
    if (of.pixel[k] >= 0)
      for (int j = 0; j < kLines; ++j) sums[of.pixel[k]][j] += x[k][j];
  for (int64_t k = 0; k < of.n; ++k) to.Write(sums[k], k, out);
}

template <typename Real>
void FilterLines(xla::ffi::ThreadPool& pool, const Lines& of, const Real* in, Real* out,
                 bool is_transposed) {
  const int64_t parts = (of.outer * of.inner + kLines - 1) / kLines;
  InParts(pool, parts, [&](int64_t part) {
    static thread_local Space<Real[kLines]> space;
    Real(*x)[kLines] = space.Of(of.count + of.n);
    if (is_transposed)
      PixelsBar(of, part * kLines, in, out, x, x + of.count);
    else
      Coefficients(of, part * kLines, in, out, x);
    space.Trim();
  });
}

}  // namespace stn_jax
