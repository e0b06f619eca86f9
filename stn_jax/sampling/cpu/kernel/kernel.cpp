// Sampling on a CPU: images (P, *size, C) at points (P, M, n), and the gradients of both. The
// sums are those of the gathers in plain JAX and of its hand-written cotangents. Points are
// processed in blocks, so that the compiler can vectorize the loops over a block.
//
//   threads.h  memory.h   work in parts; large pages
//   pixels.h              the types of pixels
//   axes.h                which pixels count along an axis, and how much
//   points.h              where to sample
//   nearest.h             one pixel for each point
//   narrow.h              few channels: images are copied with a border
//   wide.h                many channels: a vector holds the channels of a point
//   prefilter.h           the coefficients of B-splines

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "axes.h"
#include "memory.h"
#include "narrow.h"
#include "nearest.h"
#include "pixels.h"
#include "points.h"
#include "prefilter.h"
#include "threads.h"
#include "wide.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace stn_jax {
namespace {

constexpr int64_t kPart = 1024;    // points that a thread takes at once
constexpr int64_t kCopyFactor = 8;  // a copied image has at most so many pixels for each point
constexpr int64_t kReadAhead = 1 << 20;  // bytes of an image that a thread reads first
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();

// ---- the problem

struct Problem {
  ffi::ThreadPool& pool;
  Axis axes[3];
  Method method;
  int ndim;
  ffi::DataType dtype;
  int64_t images, grids;             // grids per image
  int64_t points, pixels, channels;  // points per grid, pixels per image

  bool HasManyImages() const { return images >= 2 * static_cast<int64_t>(pool.num_threads()); }
};

using Doubles = ffi::Span<const double>;
using Integers = ffi::Span<const int32_t>;

// What images and options say; grids and points are to be set. `weights` holds value, slope and
// curve of each tap, as Method names them.
Problem Describe(ffi::ThreadPool& pool, const ffi::AnyBuffer& image, Integers rules,
                 Integers margins, Doubles halves, Doubles centers, int32_t taps,
                 Doubles weights) {
  Problem problem{.pool = pool};
  problem.ndim = static_cast<int>(rules.size());
  problem.dtype = image.element_type();
  problem.images = image.dimensions()[0];
  problem.channels = image.dimensions()[problem.ndim + 1];
  problem.pixels = 1;
  for (int a = 0; a < problem.ndim; ++a) {
    const auto n = static_cast<int32_t>(image.dimensions()[a + 1]);
    problem.axes[a] = {n, margins[a], static_cast<Rule>(rules[a]), halves[a], centers[a]};
    problem.pixels *= n;
  }
  Method& method = problem.method;
  method.taps = taps;
  const int each = static_cast<int>(weights.size()) / taps;
  method.curves = each - 2;
  for (int k = 0; k < taps; ++k) {
    method.value[k] = weights[k * each];
    method.slope[k] = weights[k * each + 1];
    for (int d = 0; d < method.curves; ++d) method.curve[k][d] = weights[k * each + 2 + d];
  }
  return problem;
}

// Images, samples or gradients in the type of the images.
struct Numbers {
  ffi::DataType dtype;
  void* data;

  template <typename P>
  P* As(int64_t offset = 0) const { return static_cast<P*>(data) + offset; }
};

// Calls function.operator()<P>() for the type of the pixels.
template <typename Function>
auto ByPixel(ffi::DataType dtype, const Function& function) {
  switch (dtype) {
    case ffi::DataType::F64: return function.template operator()<double>();
    case ffi::DataType::BF16: return function.template operator()<Bfloat16>();
    case ffi::DataType::F16: return function.template operator()<Float16>();
    default: return function.template operator()<float>();
  }
}

// ---- points

// A range of the points of one grid. All grids together have Parts(problem) of them.
struct Part {
  int64_t grid, begin, end;
};

int64_t PartsOfGrid(const Problem& problem) { return (problem.points + kPart - 1) / kPart; }

int64_t Parts(const Problem& problem) {
  return problem.images * problem.grids * PartsOfGrid(problem);
}

Part PartOf(const Problem& problem, int64_t number) {
  const int64_t each = PartsOfGrid(problem), begin = number % each * kPart;
  return {number / each, begin, std::min(begin + kPart, problem.points)};
}

// Calls work(part) for all grids of an image.
template <typename Work>
void ForGrids(const Problem& problem, int64_t image, const Work& work) {
  for (int64_t grid = image * problem.grids; grid < (image + 1) * problem.grids; ++grid)
    work(Part{grid, 0, problem.points});
}

// Calls work(first, count, x) for the blocks of a part, x in image order.
template <int N, typename Real, typename Work>
void InBlocks(const Points<N, Real>& points, const Part& part, const Work& work) {
  alignas(64) Real x[N][kLanes];
  for (int64_t first = part.begin; first < part.end; first += kLanes) {
    const int count = static_cast<int>(std::min<int64_t>(kLanes, part.end - first));
    points.Get(part.grid, first, count, x);
    work(first, count, x);
  }
}

// Prefetches a part of the next image along with each part of this one: the points access it
// in an order that a processor cannot predict. (Inlined, since g++ removes the call as
// without effect.)
template <typename P>
[[gnu::always_inline]] inline void AskForNext(const Problem& problem, int64_t number,
                                              const P* images) {
  const int64_t each = problem.grids * PartsOfGrid(problem), k = number % each;
  const int64_t next = number / each + 1, numbers = problem.pixels * problem.channels;
  if (next == problem.images) return;
  const P* image = images + next * numbers;
  for (int64_t i = numbers * k / each; i < numbers * (k + 1) / each; i += 64 / sizeof(P))
    __builtin_prefetch(image + i);
}

// ---- images that are read as they are

// The same for both kinds of blocks.
template <int N, typename P, bool has_slopes>
void FindIn(Nearest<N, P>& block, RealOf<P> (*x)[kLanes]) { block.FindPixels(x); }

template <int N, typename P, bool has_slopes, int T>
void FindIn(Wide<N, T, P>& block, RealOf<P> (*x)[kLanes]) {
  block.template FindTaps<has_slopes>(x);
}

// Reads an image in order, so that it is in the cache when the points ask for its pixels in theirs.
template <typename P>
void Read(const P* image, int64_t numbers) {
  const auto* bytes = reinterpret_cast<const volatile char*>(image);
  const int64_t count = numbers * static_cast<int64_t>(sizeof(P));
  for (int64_t i = 0; i < count; i += 64) static_cast<void>(bytes[i]);
}

// Whether a thread should take whole images, and read each first.
template <typename P>
bool IsRead(const Problem& problem) {
  const int64_t numbers = problem.pixels * problem.channels;
  return problem.HasManyImages() && problem.channels <= kFew &&
         numbers * static_cast<int64_t>(sizeof(P)) <= kReadAhead &&
         problem.pixels <= kCopyFactor * problem.grids * problem.points;
}

// `make` makes a block.
template <int N, typename P, typename Make>
void ValuesOfRaw(const Problem& problem, const Points<N, RealOf<P>>& points, const P* images,
                 P* out, const Make& make) {
  const int64_t numbers = problem.pixels * problem.channels;
  auto sample = [&](const Part& part) {
    const P* image = images + part.grid / problem.grids * numbers;
    P* target = out + part.grid * problem.points * problem.channels;
    auto block = make();
    InBlocks(points, part, [&](int64_t first, int count, auto* x) {
      FindIn<N, P, false>(block, x);
      block.Sample(image, count, target + first * problem.channels);
    });
  };
  if (IsRead<P>(problem))
    return InParts(problem.pool, problem.images, [&](int64_t image) {
      Read(images + image * numbers, numbers);
      ForGrids(problem, image, sample);
    });
  InParts(problem.pool, Parts(problem), [&](int64_t number) {
    AskForNext(problem, number, images);
    sample(PartOf(problem, number));
  });
}

// How many threads share the gradient of an image. Each adds to pixels of its own, in the order
// of the points, so that the sums have the same bits for any number of threads.
int64_t Bands(const Problem& problem, int64_t most) {
  const auto threads = static_cast<int64_t>(problem.pool.num_threads());
  if (problem.images >= threads) return 1;
  const int64_t wanted = (threads + problem.images - 1) / problem.images;
  return std::max<int64_t>(std::min({wanted, most, problem.grids * PartsOfGrid(problem)}), 1);
}

template <int N, typename P, typename Make>
void CotangentsOfRaw(const Problem& problem, const Points<N, RealOf<P>>& points, const P* images,
                     const P* out_bar, P* images_bar, const Make& make) {
  using Real = RealOf<P>;
  using Block = decltype(make());
  const int64_t numbers = problem.pixels * problem.channels;
  auto bar_at = [&](const Part& part, int64_t first) {
    return out_bar + (part.grid * problem.points + first) * problem.channels;
  };
  auto points_bar = [&](Block& block, const Part& part, int64_t first, int count) {
    alignas(64) Real x_bar[N][kLanes] = {};  // zero for the nearest pixel
    if constexpr (!std::is_same_v<Block, Nearest<N, P>>) {
      const P* image = images + part.grid / problem.grids * numbers;
      block.PointsBar(image, count, bar_at(part, first), x_bar);
    }
    points.SetBar(part.grid, first, count, x_bar);
  };
  const int64_t bands = images_bar ? Bands(problem, problem.pixels) : 0;
  const bool is_along = bands == 1 && points.has_bar && problem.HasManyImages();
  auto of_image = [&](int64_t image, int64_t begin, int64_t end) {
    auto block = make();
    P* target = images_bar + image * numbers;
    std::vector<Real> space(std::is_same_v<P, Real> ? 0 : (end - begin) * problem.channels);
    Real* sums;
    if constexpr (std::is_same_v<P, Real>) sums = target;
    else sums = space.data() - begin * problem.channels;  // summed in float, rounded once
    const int64_t from = begin * problem.channels, to = end * problem.channels;
    std::fill(sums + from, sums + to, Real(0));
    ForGrids(problem, image, [&](const Part& part) {
      InBlocks(points, part, [&](int64_t first, int count, auto* x) {
        is_along ? FindIn<N, P, true>(block, x) : FindIn<N, P, false>(block, x);
        block.AddImageBar(count, bar_at(part, first), begin, end, sums);
        if (is_along) points_bar(block, part, first, count);
      });
    });
    if constexpr (!std::is_same_v<P, Real>)
      std::transform(sums + from, sums + to, target + from, [](Real x) { return Round<P>(x); });
  };
  const int64_t whole = problem.images * bands;
  const int64_t parts = points.has_bar && !is_along ? Parts(problem) : 0;
  InParts(problem.pool, whole + parts, [&](int64_t task) {
    if (task < whole) {
      const int64_t band = task % bands;
      of_image(task / bands, problem.pixels * band / bands, problem.pixels * (band + 1) / bands);
      return;
    }
    const Part part = PartOf(problem, task - whole);
    AskForNext(problem, task - whole, images);
    auto block = make();
    InBlocks(points, part, [&](int64_t first, int count, auto* x) {
      FindIn<N, P, true>(block, x);
      points_bar(block, part, first, count);
    });
  });
}

// ---- images that are copied

// Samples and their gradients in the numbers in which they are summed: where they are, or for
// other types and for blocks that are not full, in a space of the block's.

template <typename Real>
constexpr bool Is(ffi::DataType dtype) {
  return dtype == (std::is_same_v<Real, double> ? ffi::DataType::F64 : ffi::DataType::F32);
}

template <typename Real>
const Real* Loaded(const Numbers& from, int64_t offset, int64_t count, bool is_full, Real* space) {
  if (is_full && Is<Real>(from.dtype)) return from.As<Real>(offset);
  ByPixel(from.dtype, [&]<typename P>() {
    if constexpr (std::is_same_v<RealOf<P>, Real>)
      std::transform(from.As<P>(offset), from.As<P>(offset + count), space,
                     [](P x) { return Load(x); });
  });
  return space;
}

template <typename Real>
Real* Target(const Numbers& to, int64_t offset, bool is_full, Real* space) {
  return is_full && Is<Real>(to.dtype) ? to.As<Real>(offset) : space;
}

template <typename Real>
void Stored(const Real* from, int64_t count, const Numbers& to, int64_t offset) {
  ByPixel(to.dtype, [&]<typename P>() {
    if constexpr (std::is_same_v<RealOf<P>, Real>)
      if (static_cast<const void*>(from) != to.As<P>(offset))
        std::transform(from, from + count, to.As<P>(offset),
                       [](Real x) { return Round<P>(x); });
  });
}

// Copies of the images. A thread that works on whole images copies one after another.
template <int N, typename Real>
class Copies {
 public:
  Copies(const Problem& problem, const Bordered<N>& bordered, const Numbers& images)
      : problem_(problem), bordered_(bordered), images_(images) {}

  void Copy(int64_t image, int64_t begin, int64_t end, Real* to) const {
    ByPixel(images_.dtype, [&]<typename P>() {
      if constexpr (std::is_same_v<RealOf<P>, Real>) {
        const int64_t numbers = problem_.pixels * problem_.channels;
        bordered_.Copy(images_.As<P>(image * numbers), begin, end, to);
      }
    });
  }

  const Real* One(int64_t image, Space<Real>& space) const {
    Real* to = space.Of(bordered_.Numbers());
    Copy(image, 0, bordered_.size[0], to);
    return to;
  }

  // All images at once, by all threads.
  void MakeAll() {
    all_.reset(new Real[problem_.images * bordered_.Numbers()]);
    const int64_t slabs = std::min<int64_t>(bordered_.size[0], 16);
    InParts(problem_.pool, problem_.images * slabs, [&](int64_t task) {
      const int64_t image = task / slabs, slab = task % slabs;
      Copy(image, bordered_.size[0] * slab / slabs, bordered_.size[0] * (slab + 1) / slabs,
           all_.get() + image * bordered_.Numbers());
    });
  }

  const Real* Made(int64_t image) const { return all_.get() + image * bordered_.Numbers(); }

 private:
  const Problem& problem_;
  const Bordered<N>& bordered_;
  const Numbers images_;
  std::unique_ptr<Real[]> all_;
};

template <int N, int T, int C, typename Real>
void ValuesOfCopies(const Problem& problem, const Points<N, Real>& points, const Numbers& images,
                    const Numbers& out) {
  const Bordered<N> bordered(problem.axes, problem.method.taps, problem.channels);
  Copies<N, Real> copies(problem, bordered, images);
  auto sample = [&](const Part& part, const Real* image) {
    Narrow<N, T, C, Real> block(bordered, problem.method);
    InBlocks(points, part, [&](int64_t first, int count, auto* x) {
      alignas(64) Real space[kLanes * kFew];
      const int64_t before = (part.grid * problem.points + first) * problem.channels;
      Real* values = Target(out, before, count == kLanes, space);
      bool is_done = false;
      if constexpr (N == 2 && T == 2 && C == 1)
        if ((is_done = Plane<Real>::Fits(bordered))) Plane<Real>(bordered).Sample(image, x, values);
      if (!is_done) {
        block.template FindTaps<false>(x);
        block.Sample(image, count, values);
      }
      Stored(values, count * problem.channels, out, before);
    });
  };
  if (problem.HasManyImages())
    return InParts(problem.pool, problem.images, [&](int64_t image) {
      thread_local Space<Real> space;
      const Real* copy = copies.One(image, space);
      ForGrids(problem, image, [&](const Part& part) { sample(part, copy); });
      space.Trim();
    });
  copies.MakeAll();
  InParts(problem.pool, Parts(problem), [&](int64_t number) {
    const Part part = PartOf(problem, number);
    sample(part, copies.Made(part.grid / problem.grids));
  });
}

template <int N, int T, int C, typename Real>
void CotangentsOfCopies(const Problem& problem, const Points<N, Real>& points,
                        const Numbers& images, const Numbers& out_bar, const Numbers& images_bar) {
  const Bordered<N> bordered(problem.axes, problem.method.taps, problem.channels);
  Copies<N, Real> copies(problem, bordered, images);
  const int64_t numbers = problem.pixels * problem.channels, size = bordered.size[0];
  // What a part of the points adds to the gradient of the points, and to a band of the image's.
  auto add = [&](const Part& part, const Real* image, Real* sums, int64_t begin, int64_t end) {
    Narrow<N, T, C, Real> block(bordered, problem.method);
    InBlocks(points, part, [&](int64_t first, int count, auto* x) {
      alignas(64) Real space[kLanes * kFew + kSlack], x_bar[N][kLanes];
      const int64_t before = (part.grid * problem.points + first) * problem.channels;
      const bool is_full = count == kLanes && C == 1;  // vectors read beyond the last pixel
      const Real* bar = Loaded(out_bar, before, count * problem.channels, is_full, space);
      if constexpr (N == 2 && T == 2 && C == 1)
        if (Plane<Real>::Fits(bordered)) {
          std::fill(space + count, space + kLanes, Real(0));
          const Plane<Real> plane(bordered);
          if (image) plane.PointsBar(image, x, bar, x_bar);
          if (image) points.SetBar(part.grid, first, count, x_bar);
          if (sums && begin == 0 && end == size) plane.AddImageBar(x, count, bar, sums);
          if (!sums || (begin == 0 && end == size)) return;
          block.template FindTaps<false>(x);
          return block.AddImageBar(count, bar, begin, end, sums);
        }
      image ? block.template FindTaps<true>(x) : block.template FindTaps<false>(x);
      if (image) {
        block.PointsBar(image, count, bar, x_bar);
        points.SetBar(part.grid, first, count, x_bar);
      }
      if (sums) block.AddImageBar(count, bar, begin, end, sums);
    });
  };
  auto finish = [&](int64_t image, const Real* sums, int64_t begin, int64_t end) {
    ByPixel(images_bar.dtype, [&]<typename P>() {
      if constexpr (std::is_same_v<RealOf<P>, Real>)
        bordered.CopyInside(sums, begin, end, images_bar.As<P>(image * numbers));
    });
  };
  const int64_t inside = bordered.axes[0].n;
  if (problem.HasManyImages())
    return InParts(problem.pool, problem.images, [&](int64_t image) {
      thread_local Space<Real> copy_space, sums_space;
      const Real* copy = points.has_bar ? copies.One(image, copy_space) : nullptr;
      Real* sums = images_bar.data ? sums_space.Of(bordered.Numbers()) : nullptr;
      if (sums) std::fill(sums, sums + bordered.Numbers(), Real(0));
      ForGrids(problem, image, [&](const Part& part) { add(part, copy, sums, 0, size); });
      if (sums) bordered.FoldBorder(sums);
      if (sums) finish(image, sums, 0, inside);
      copy_space.Trim();
      sums_space.Trim();
    });
  if (points.has_bar) copies.MakeAll();
  const int64_t bands = images_bar.data ? Bands(problem, size) : 0;
  const int64_t each = bordered.Numbers(), whole = problem.images * bands;
  std::unique_ptr<Real[]> sums(bands ? new Real[problem.images * each] : nullptr);
  InParts(problem.pool, whole + (points.has_bar ? Parts(problem) : 0), [&](int64_t task) {
    if (task >= whole) {
      const Part part = PartOf(problem, task - whole);
      return add(part, copies.Made(part.grid / problem.grids), nullptr, 0, 0);
    }
    const int64_t image = task / bands, band = task % bands;
    const int64_t begin = size * band / bands, end = size * (band + 1) / bands;
    Real* own = sums.get() + image * each;
    std::fill(own + begin * bordered.stride[0],
              band + 1 == bands ? own + each : own + end * bordered.stride[0], Real(0));
    ForGrids(problem, image, [&](const Part& part) { add(part, nullptr, own, begin, end); });
  });
  InParts(problem.pool, bands ? problem.images : 0, [&](int64_t image) {
    bordered.FoldBorder(sums.get() + image * each);
    finish(image, sums.get() + image * each, 0, inside);
  });
}

// ---- which of these

// Whether images are copied: with few channels, and with enough points.
template <int N>
bool IsCopied(const Problem& problem) {
  if (problem.channels > kFew) return false;
  double pixels = 1;
  for (int a = 0; a < N; ++a)
    pixels *= problem.axes[a].n + 2.0 * problem.method.taps + (a == N - 1 ? kSlack : 0);
  const double most = std::min<double>(kCopyFactor * static_cast<double>(problem.grids * problem.points),
                                       static_cast<double>(kMost / kFew));
  return pixels <= most;
}

// Calls function.operator()<T, C>(): the usual numbers of taps and channels are compiled for
// themselves.
template <int N, typename Function>
void ByCounts(const Problem& problem, const Function& function) {
  const int64_t channels = problem.channels;
  if (problem.method.taps == 2) {
    if (channels == 1) return function.template operator()<2, 1>();
    if (channels == 2) return function.template operator()<2, 2>();
    if (channels == 3) return function.template operator()<2, 3>();
    return function.template operator()<2, 4>();
  }
  if constexpr (N == 2) {
    if (problem.method.taps == 4 && channels == 1) return function.template operator()<4, 1>();
    if (problem.method.taps == 4 && channels == 3) return function.template operator()<4, 3>();
  }
  function.template operator()<0, 0>();
}

// Calls the function with a function that makes blocks for images read as they are.
template <int N, typename P, typename Function>
void ByRawBlock(const Problem& problem, const Function& function) {
  const Axis* axes = problem.axes;
  const Method& method = problem.method;
  const int64_t channels = problem.channels;
  if (method.taps == 1) return function([&] { return Nearest<N, P>(axes, channels); });
  if constexpr (std::is_same_v<P, float> || std::is_same_v<P, Bfloat16>) {
    if (method.taps == 2) return function([&] { return Wide<N, 2, P>(axes, method, channels); });
    if constexpr (N == 2)
      if (method.taps == 4) return function([&] { return Wide<N, 4, P>(axes, method, channels); });
  }
  function([&] { return Wide<N, 0, P>(axes, method, channels); });
}

template <int N, typename Real>
void ValuesAt(const Problem& problem, const Points<N, Real>& points, const Numbers& images,
              const Numbers& out) {
  if (problem.method.taps > 1 && IsCopied<N>(problem)) {
    if constexpr (std::is_same_v<Real, double>)
      return ValuesOfCopies<N, 0, 0, double>(problem, points, images, out);
    else
      return ByCounts<N>(problem, [&]<int T, int C>() {
        ValuesOfCopies<N, T, C, float>(problem, points, images, out);
      });
  }
  ByPixel(problem.dtype, [&]<typename P>() {
    if constexpr (std::is_same_v<RealOf<P>, Real>)
      ByRawBlock<N, P>(problem, [&](const auto& make) {
        ValuesOfRaw<N, P>(problem, points, images.As<P>(), out.As<P>(), make);
      });
  });
}

template <int N, typename Real>
void CotangentsAt(const Problem& problem, const Points<N, Real>& points, const Numbers& images,
                  const Numbers& out_bar, const Numbers& images_bar) {
  if (problem.method.taps > 1 && IsCopied<N>(problem)) {
    if constexpr (std::is_same_v<Real, double>)
      return CotangentsOfCopies<N, 0, 0, double>(problem, points, images, out_bar, images_bar);
    else
      return ByCounts<N>(problem, [&]<int T, int C>() {
        CotangentsOfCopies<N, T, C, float>(problem, points, images, out_bar, images_bar);
      });
  }
  ByPixel(problem.dtype, [&]<typename P>() {
    if constexpr (std::is_same_v<RealOf<P>, Real>)
      ByRawBlock<N, P>(problem, [&](const auto& make) {
        CotangentsOfRaw<N, P>(problem, points, images.As<P>(), out_bar.As<P>(),
                              images_bar.As<P>(), make);
      });
  });
}

// Calls function.operator()<N, Real>().
template <typename Function>
void ByDimensions(const Problem& problem, const Function& function) {
  const bool is_double = problem.dtype == ffi::DataType::F64;
  if (problem.ndim == 2 && is_double) return function.template operator()<2, double>();
  if (problem.ndim == 2) return function.template operator()<2, float>();
  if (is_double) return function.template operator()<3, double>();
  function.template operator()<3, float>();
}

// ---- what JAX calls

// The results that are needed: the gradients of the images, and of the points or of theta.
struct Results {
  void *images = nullptr, *where = nullptr;

  Results(ffi::RemainingRets& results, bool needs_images, bool needs_where) {
    auto at = [&](int64_t number) {
      auto buffer = *results.get<ffi::AnyBuffer>(number);
      InLargePages(buffer->untyped_data(), buffer->size_bytes());
      return buffer->untyped_data();
    };
    if (needs_images) images = at(0);
    if (needs_where) where = at(needs_images ? 1 : 0);
  }
};

ffi::Error Values(ffi::ThreadPool pool, ffi::AnyBuffer images, ffi::AnyBuffer points,
                  ffi::Result<ffi::AnyBuffer> out, Integers rules, Integers margins,
                  Doubles halves, Doubles centers, int32_t taps, Doubles weights) {
  Problem problem = Describe(pool, images, rules, margins, halves, centers, taps, weights);
  problem.grids = 1, problem.points = points.dimensions()[1];
  const Numbers pixels = {problem.dtype, images.untyped_data()};
  const Numbers values = {problem.dtype, out->untyped_data()};
  InLargePages(values.data, out->size_bytes());
  if (!problem.images) return ffi::Error::Success();
  ByDimensions(problem, [&]<int N, typename Real>() {
    const auto* at = static_cast<const Real*>(points.untyped_data());
    ValuesAt<N, Real>(problem, GridPoints<N, Real>(at, nullptr, problem.points), pixels, values);
  });
  return ffi::Error::Success();
}

ffi::Error Cotangents(ffi::ThreadPool pool, ffi::AnyBuffer images, ffi::AnyBuffer points,
                      ffi::AnyBuffer out_bar, ffi::RemainingRets results, bool needs_image_grad,
                      bool needs_points_grad, Integers rules, Integers margins, Doubles halves,
                      Doubles centers, int32_t taps, Doubles weights) {
  Problem problem = Describe(pool, images, rules, margins, halves, centers, taps, weights);
  problem.grids = 1, problem.points = points.dimensions()[1];
  const Results needed(results, needs_image_grad, needs_points_grad);
  const Numbers pixels = {problem.dtype, images.untyped_data()};
  const Numbers bar = {problem.dtype, out_bar.untyped_data()};
  const Numbers pixels_bar = {problem.dtype, needed.images};
  if (!problem.images) return ffi::Error::Success();
  ByDimensions(problem, [&]<int N, typename Real>() {
    const auto* at = static_cast<const Real*>(points.untyped_data());
    const GridPoints<N, Real> own(at, static_cast<Real*>(needed.where), problem.points);
    CotangentsAt<N, Real>(problem, own, pixels, bar, pixels_bar);
  });
  return ffi::Error::Success();
}

// A warp has theta (images, grids, rows, columns) instead of points. `table` holds the
// coordinates of the output's pixels along each axis, or for a spline the basis (columns, pixels).

// Calls work(points) with those of a warp.
template <int N, typename Real, typename Work>
void WithPoints(const Problem& problem, const ffi::AnyBuffer& theta, const ffi::AnyBuffer& table,
                ffi::Span<const int64_t> size, bool is_spline, Real* theta_bar, const Work& work) {
  const auto* numbers = static_cast<const Real*>(theta.untyped_data());
  const auto* own = static_cast<const Real*>(table.untyped_data());
  const int rows = static_cast<int>(theta.dimensions()[2]);
  const int columns = static_cast<int>(theta.dimensions()[3]);
  const int64_t grids = problem.images * problem.grids, each = rows * columns;
  Partial<Real> partial(theta_bar ? grids : 0, problem.points, static_cast<int>(each));
  Partial<Real>* sums = theta_bar ? &partial : nullptr;
  if (is_spline)
    work(BasisPoints<N, Real>(numbers, own, columns, problem.points, sums));
  else
    work(MatrixPoints<N, Real>(numbers, own, size.begin(), rows > N, sums));
  for (int64_t grid = 0; theta_bar && grid < grids; ++grid)
    partial.Total(grid, theta_bar + grid * each);
}

void SetSizes(Problem& problem, const ffi::AnyBuffer& theta, ffi::Span<const int64_t> size) {
  problem.grids = theta.dimensions()[1];
  problem.points = 1;
  for (const int64_t n : size) problem.points *= n;
}

ffi::Error WarpValues(ffi::ThreadPool pool, ffi::AnyBuffer images, ffi::AnyBuffer theta,
                      ffi::AnyBuffer table, ffi::Result<ffi::AnyBuffer> out,
                      ffi::Span<const int64_t> size, bool is_spline, Integers rules,
                      Integers margins, Doubles halves, Doubles centers, int32_t taps,
                      Doubles weights) {
  Problem problem = Describe(pool, images, rules, margins, halves, centers, taps, weights);
  SetSizes(problem, theta, size);
  const Numbers pixels = {problem.dtype, images.untyped_data()};
  const Numbers values = {problem.dtype, out->untyped_data()};
  InLargePages(values.data, out->size_bytes());
  if (!problem.images) return ffi::Error::Success();
  ByDimensions(problem, [&]<int N, typename Real>() {
    WithPoints<N, Real>(problem, theta, table, size, is_spline, nullptr, [&](const auto& points) {
      ValuesAt<N, Real>(problem, points, pixels, values);
    });
  });
  return ffi::Error::Success();
}

ffi::Error WarpCotangents(ffi::ThreadPool pool, ffi::AnyBuffer images, ffi::AnyBuffer theta,
                          ffi::AnyBuffer table, ffi::AnyBuffer out_bar,
                          ffi::RemainingRets results, bool needs_image_grad,
                          bool needs_theta_grad, ffi::Span<const int64_t> size, bool is_spline,
                          Integers rules, Integers margins, Doubles halves, Doubles centers,
                          int32_t taps, Doubles weights) {
  Problem problem = Describe(pool, images, rules, margins, halves, centers, taps, weights);
  SetSizes(problem, theta, size);
  const Results needed(results, needs_image_grad, needs_theta_grad);
  const Numbers pixels = {problem.dtype, images.untyped_data()};
  const Numbers bar = {problem.dtype, out_bar.untyped_data()};
  const Numbers pixels_bar = {problem.dtype, needed.images};
  if (!problem.images) return ffi::Error::Success();
  ByDimensions(problem, [&]<int N, typename Real>() {
    auto* theta_bar = static_cast<Real*>(needed.where);
    WithPoints<N, Real>(problem, theta, table, size, is_spline, theta_bar,
                        [&](const auto& points) {
      CotangentsAt<N, Real>(problem, points, pixels, bar, pixels_bar);
    });
  });
  return ffi::Error::Success();
}

// Arrays (outer, n, inner) are filtered along their middle axis; `pixels` names the pixel of each
// entry of the extended axis.
ffi::Error Prefilter(ffi::ThreadPool pool, ffi::AnyBuffer in, ffi::Buffer<ffi::S32> pixels,
                     ffi::Result<ffi::AnyBuffer> out, int64_t n, int64_t skip, Doubles poles,
                     bool is_transposed) {
  const auto shape = in.dimensions();
  const Lines lines = {shape[0], n, shape[2], pixels.typed_data(), pixels.dimensions()[0], skip,
                       poles};
  InLargePages(out->untyped_data(), out->size_bytes());
  auto filter = [&]<typename Real>(Real) {
    FilterLines(pool, lines, static_cast<const Real*>(in.untyped_data()),
                static_cast<Real*>(out->untyped_data()), is_transposed);
  };
  in.element_type() == ffi::DataType::F64 ? filter(double{}) : filter(float{});
  return ffi::Error::Success();
}

}  // namespace
}  // namespace stn_jax

#define WITH_OPTIONS                             \
  .Attr<ffi::Span<const int32_t>>("rules")       \
      .Attr<ffi::Span<const int32_t>>("margins") \
      .Attr<ffi::Span<const double>>("halves")   \
      .Attr<ffi::Span<const double>>("centers")  \
      .Attr<int32_t>("taps")                     \
      .Attr<ffi::Span<const double>>("weights")

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    stn_jax_cpu_values, stn_jax::Values,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .Ret<ffi::AnyBuffer>() WITH_OPTIONS);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    stn_jax_cpu_cotangents, stn_jax::Cotangents,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .RemainingRets()
        .Attr<bool>("needs_image_grad")
        .Attr<bool>("needs_where_grad") WITH_OPTIONS);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    stn_jax_cpu_warp_values, stn_jax::WarpValues,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .Ret<ffi::AnyBuffer>()
        .Attr<ffi::Span<const int64_t>>("size")
        .Attr<bool>("is_spline") WITH_OPTIONS);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    stn_jax_cpu_warp_cotangents, stn_jax::WarpCotangents,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .RemainingRets()
        .Attr<bool>("needs_image_grad")
        .Attr<bool>("needs_where_grad")
        .Attr<ffi::Span<const int64_t>>("size")
        .Attr<bool>("is_spline") WITH_OPTIONS);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    stn_jax_cpu_prefilter, stn_jax::Prefilter,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::Buffer<ffi::S32>>()
        .Ret<ffi::AnyBuffer>()
        .Attr<int64_t>("n")
        .Attr<int64_t>("skip")
        .Attr<ffi::Span<const double>>("poles")
        .Attr<bool>("is_transposed"));
