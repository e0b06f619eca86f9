// Bilinear sampling on a CPU: images (P, *size, C) at points (P, M, n), and the gradients of
// both. The sums are those of the gathers in plain JAX and of its hand-written cotangents.
// Points are processed in blocks, so that the compiler can vectorize the loops over a block.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

constexpr int kLanes = 64;               // points in a block
constexpr int64_t kPart = 1024;          // points that a thread takes at once
constexpr float kLimit = 2147483520.0f;  // LIMIT of plain JAX
constexpr int32_t kFar = 1 << 23;        // FAR of plain JAX
constexpr int32_t kNowhere = -(1 << 29);  // three of them and a pixel's offset are negative
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// ---- memory

constexpr int64_t kFresh = 1 << 25;  // malloc requests blocks of this size from the system

// Asks for large pages for memory that is about to be written for the first time. Many small
// pages cost more time, since each causes a page fault.
void InLargePages([[maybe_unused]] void* begin, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < kFresh) return;
  constexpr uintptr_t page = 1 << 21;
  const auto first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
  const auto last = (reinterpret_cast<uintptr_t>(begin) + bytes) / page * page;
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// ---- threads

// Calls work(part) for the parts 0 ... count - 1, on JAX's threads and on this one. It waits
// only for parts that have begun, never for a free thread. So it cannot deadlock when all
// threads wait.
template <typename Work>
void InParts(ffi::ThreadPool& pool, int64_t count, const Work& work) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto run = [state, count, &work] {
    for (int64_t part; (part = state->next++) < count;) {
      work(part);  // the caller waits for it, so `work` is there
      state->done++;
      state->done.notify_one();
    }
  };
  const int64_t others = std::min<int64_t>(pool.num_threads(), count) - 1;
  for (int64_t i = 0; i < others; ++i) pool.Schedule(std::decay_t<decltype(run)>(run));
  run();
  for (int64_t done; (done = state->done) < count;) state->done.wait(done);
}

// ---- pixels of either type

struct Bfloat16 {
  uint16_t bits;
};

inline float Load(float x) { return x; }

inline float Load(Bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

template <typename T>
T Round(float x);

template <>
inline float Round<float>(float x) { return x; }

template <>
inline Bfloat16 Round<Bfloat16>(float x) {  // to the nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t nan = 0x7fc0, nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return {static_cast<uint16_t>(x == x ? nearest : nan)};
}

// The type in which images of C channels are sampled (C as in Sample below). With few channels
// it is float, since there is no vector instruction that gathers 16-bit numbers.
template <int C, typename T>
using Pixel = std::conditional_t<C != 0, float, T>;

// All images in their own type (raw), and in the type in which they are sampled (Readable),
// which is computed at the first call.
template <int C, typename T>
class Images {
 public:
  const T* const raw;

  Images(ffi::ThreadPool& pool, const ffi::AnyBuffer& images)
      : raw(static_cast<const T*>(images.untyped_data())),
        pool_(pool),
        count_(static_cast<int64_t>(images.element_count())) {}

  const Pixel<C, T>* Readable() {
    if constexpr (std::is_same_v<Pixel<C, T>, T>) {
      return raw;
    } else {
      std::call_once(once_, [this] { Widen(); });
      return space_.get();
    }
  }

 private:
  void Widen() {
    constexpr int64_t part = kPart * 16;
    space_.reset(new float[count_]);
    InParts(pool_, (count_ + part - 1) / part, [this](int64_t number) {
      const int64_t begin = number * part, end = std::min(begin + part, count_);
      std::transform(raw + begin, raw + end, space_.get() + begin, [](T x) { return Load(x); });
    });
  }

  ffi::ThreadPool& pool_;
  const int64_t count_;
  std::once_flag once_;
  std::unique_ptr<float[]> space_;
};

// ---- the taps of a block of points

enum Rule : int32_t { kConstant, kBorder, kReflection, kMirror, kWrap };

struct Axis {
  int32_t n;
  Rule rule;
  float half, center;  // pixel = half * coordinate + center
};

template <int N>
struct Block {
  static constexpr int kTaps = 1 << N;
  alignas(64) int32_t start[N][2][kLanes];  // each side's share of the offset
  alignas(64) float part[N][2][kLanes];     // and its factor of the weight
  alignas(64) float slope[N][kLanes];       // d(part[1]) / d(coordinate)
  alignas(64) float nothing[kLanes];        // NaN if a coordinate is NaN, else zero

  static int Side(int tap, int axis) { return tap >> (N - 1 - axis) & 1; }

  int32_t Offset(int tap, int l) const {  // of the tap's pixel; negative: outside
    int32_t sum = 0;
    for (int a = 0; a < N; ++a) sum += start[a][Side(tap, a)][l];
    return sum;
  }

  float Weight(int tap, int l) const {
    float product = 1;
    for (int a = 0; a < N; ++a) product *= part[a][Side(tap, a)][l];
    return product;
  }
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

// The pixel that the padding rule puts at index i, times the stride; kNowhere if none.
template <Rule rule>
inline int32_t Start(int32_t i, int32_t n, int32_t period, float inverse, int32_t stride) {
  if constexpr (rule == kConstant)
    return static_cast<uint32_t>(i) < static_cast<uint32_t>(n) ? i * stride : kNowhere;
  if constexpr (rule == kBorder) return Max(Min(i, n - 1), 0) * stride;
  const int32_t near = Max(Min(i, kFar), -kFar);
  const int32_t inside = Modulo(near, period, inverse);
  const int32_t mirrored = rule == kMirror ? period - inside : period - 1 - inside;
  const int32_t pixel = rule == kWrap ? inside : Min(inside, mirrored);
  return near == i ? pixel * stride : kNowhere;
}

// Separates the coordinates. Both branches do the same; the compiler vectorizes the first,
// whose number of iterations it knows.
template <int N>
void Split(const float* points, int count, float (*x)[kLanes]) {
  if (count == kLanes) {
    for (int l = 0; l < kLanes; ++l)
      for (int a = 0; a < N; ++a) x[a][l] = points[l * N + N - 1 - a];  // (x, y) backwards
  } else {
    for (int a = 0; a < N; ++a) {
      std::fill(x[a], x[a] + kLanes, 0.0f);
      for (int l = 0; l < count; ++l) x[a][l] = points[l * N + N - 1 - a];
    }
  }
}

// Computes one axis of a block. `stride` is the number of pixels between neighbors along it.
template <int N, Rule rule>
void FindAlong(int a, const Axis& axis, int32_t stride, float* x, Block<N>& block) {
  const int32_t n = axis.n;
  const int32_t period = rule == kWrap ? n : rule == kMirror ? std::max(2 * n - 2, 1) : 2 * n;
  const float inverse = 1 / static_cast<float>(period), extent = axis.half;
  float half = axis.half, center = axis.center;
  if (half == 0) {  // one pixel: a finite coordinate is its center, infinity stays infinite
    for (int l = 0; l < kLanes; ++l) x[l] = std::fabs(x[l]) <= kLargest ? center : x[l];
    half = 1, center = 0;
  }
#pragma omp simd
  for (int l = 0; l < kLanes; ++l) {
    const float at = (x[l] == x[l] ? x[l] : 0) * half + center;
    const float near = Min(Max(at, -kLimit), kLimit);
    const float first = std::floor(near);
    block.part[a][1][l] = near - first;
    block.part[a][0][l] = 1 - (near - first);
    block.slope[a][l] = near == at ? extent : 0;
    block.nothing[l] = x[l] == x[l] ? block.nothing[l] : kNan;
    const int32_t index = static_cast<int32_t>(first);
    block.start[a][0][l] = Start<rule>(index, n, period, inverse, stride);
    block.start[a][1][l] = Start<rule>(index + 1, n, period, inverse, stride);
  }
}

template <int N>
void Find(const float* points, int count, const Axis* axes, Block<N>& block) {
  alignas(64) float x[N][kLanes];
  Split<N>(points, count, x);
  std::fill(block.nothing, block.nothing + kLanes, 0.0f);
  int32_t stride = 1;
  for (int a = N - 1; a >= 0; --a) {
    const Axis& axis = axes[a];
    switch (axis.rule) {
      case kConstant: FindAlong<N, kConstant>(a, axis, stride, x[a], block); break;
      case kBorder: FindAlong<N, kBorder>(a, axis, stride, x[a], block); break;
      case kReflection: FindAlong<N, kReflection>(a, axis, stride, x[a], block); break;
      case kMirror: FindAlong<N, kMirror>(a, axis, stride, x[a], block); break;
      case kWrap: FindAlong<N, kWrap>(a, axis, stride, x[a], block); break;
    }
    stride *= axis.n;
  }
}

// ---- the values

// One channel: a vector holds many points.
template <int N, typename T>
void ReadOne(const float* image, const Block<N>& block, int count, T* out) {
  alignas(64) float sum[kLanes];
  std::copy(block.nothing, block.nothing + kLanes, sum);
  for (int tap = 0; tap < Block<N>::kTaps; ++tap) {
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const int32_t offset = block.Offset(tap, l);
      const float pixel = image[Max(offset, 0)];
      // not a product with zero: the pixel may be infinite
      sum[l] += offset < 0 ? 0 : block.Weight(tap, l) * pixel;
    }
  }
  std::transform(sum, sum + count, out, Round<T>);
}

// More channels: a vector holds the channels of one point. Here and below C is their number
// if it is known at compile time, else 0. `zeros` is a pixel of zeros, for taps outside.
template <int N, int C, typename P, typename T>
void Sample(const P* image, const Block<N>& block, int count, int64_t channels, const P* zeros,
            T* out) {
  constexpr int taps = Block<N>::kTaps;
  const int64_t c_end = C ? C : channels;
  for (int l = 0; l < count; ++l) {
    const P* pixel[taps];
    float weight[taps];
    for (int tap = 0; tap < taps; ++tap) {
      const int64_t offset = block.Offset(tap, l);
      pixel[tap] = offset < 0 ? zeros : image + offset * c_end;
      weight[tap] = block.Weight(tap, l);
    }
    T* target = out + l * c_end;
    const float none = block.nothing[l];
#pragma omp simd
    for (int64_t c = 0; c < c_end; ++c) {
      float sum = none;
      for (int tap = 0; tap < taps; ++tap) sum += weight[tap] * Load(pixel[tap][c]);
      target[c] = Round<T>(sum);
    }
  }
}

// ---- the gradients

// The points' gradient: the derivative of each tap's weight, times the dot product of its
// pixel and the output's cotangent.
template <int N, int C, typename P, typename T>
void SetPointsBar(const P* image, const Block<N>& block, int count, int64_t channels,
                  const T* out_bar, float* points_bar) {
  constexpr int taps = Block<N>::kTaps;
  const int64_t c_end = C ? C : channels;
  alignas(64) float shared[taps][kLanes], bar[kLanes] = {}, total[kLanes];
  if constexpr (C == 1)
    for (int l = 0; l < count; ++l) bar[l] = Load(out_bar[l]);
  for (int tap = 0; tap < taps; ++tap) {
    if constexpr (C == 1) {
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) {
        const int32_t offset = block.Offset(tap, l);
        const float pixel = image[Max(offset, 0)];
        shared[tap][l] = offset < 0 ? 0 : bar[l] * pixel;
      }
    } else {
      std::fill(shared[tap], shared[tap] + kLanes, 0.0f);
      for (int l = 0; l < count; ++l) {
        const int64_t offset = block.Offset(tap, l);
        if (offset < 0) continue;
        const P* pixel = image + offset * c_end;
        const T* own = out_bar + l * c_end;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < c_end; ++c) sum += Load(own[c]) * Load(pixel[c]);
        shared[tap][l] = sum;
      }
    }
  }
  for (int axis = 0; axis < N; ++axis) {
    std::fill(total, total + kLanes, 0.0f);
    for (int tap = 0; tap < taps; ++tap) {
      const float sign = Block<N>::Side(tap, axis) ? 1 : -1;
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) {
        float slope = sign * block.slope[axis][l];
        for (int a = 0; a < N; ++a)
          if (a != axis) slope *= block.part[a][Block<N>::Side(tap, a)][l];
        total[l] += slope * shared[tap][l];
      }
    }
    for (int l = 0; l < count; ++l)
      points_bar[l * N + N - 1 - axis] = block.nothing[l] == 0 ? total[l] : 0;
  }
}

template <int N, int C, typename T>
void AddImageBar(const Block<N>& block, int count, int64_t channels, const T* out_bar,
                 float* image_bar) {
  const int64_t c_end = C ? C : channels;
  for (int l = 0; l < count; ++l) {
    if (block.nothing[l] != 0) continue;
    const T* bar = out_bar + l * c_end;
    for (int tap = 0; tap < Block<N>::kTaps; ++tap) {
      const int64_t offset = block.Offset(tap, l);
      if (offset < 0) continue;
      float* target = image_bar + offset * c_end;
      const float weight = block.Weight(tap, l);
#pragma omp simd
      for (int64_t c = 0; c < c_end; ++c) target[c] += weight * Load(bar[c]);
    }
  }
}

// ---- a plane: few channels, zeros outside

static_assert(std::endian::native == std::endian::little);

struct Pair {
  float first, second;
};

// Loads two numbers at once: half as many gathers as one by one.
template <typename T>
[[gnu::always_inline]] inline Pair LoadPair(const T* from) {
  if constexpr (std::is_same_v<T, float>) {
    uint64_t both;
    std::memcpy(&both, from, sizeof both);
    const auto low = static_cast<uint32_t>(both), high = static_cast<uint32_t>(both >> 32);
    return {std::bit_cast<float>(low), std::bit_cast<float>(high)};
  } else {
    uint32_t both;
    std::memcpy(&both, from, sizeof both);
    return {std::bit_cast<float>(both << 16), std::bit_cast<float>(both & 0xffff0000)};
  }
}

// Samples planes with everything about a point in registers, from its coordinates to its
// values. The points must be near enough for int32 indices (Reaches), and the image must
// have two pixels or more.
template <int C, typename T>
struct Plane {
  const T* image;
  Axis y, x;

  // Two neighbors along x.
  struct Row {
    float first[C], second[C];
  };

  // The two rows around a point, zero outside the image, and its position between them.
  struct Place {
    Row upper, lower;
    float y, x;
  };

  // The pixel at an offset and the next one, each zero if its flag is false.
  [[gnu::always_inline]] Row RowAt(int32_t offset, bool is_first, bool is_second) const {
    const int32_t last = x.n * y.n - 2, near = Max(Min(offset, last), 0);
    float both[2 * C];
    for (int k = 0; k < C; ++k) {
      const auto [first, second] = LoadPair(image + near * C + 2 * k);
      both[2 * k] = first;
      both[2 * k + 1] = second;
    }
    Row row;
    for (int c = 0; c < C; ++c) {
      const float own = offset > near ? both[C + c] : both[c];
      const float next = offset < near ? both[c] : both[C + c];
      row.first[c] = is_first ? own : 0;
      row.second[c] = is_second ? next : 0;
    }
    return row;
  }

  [[gnu::always_inline]] Place At(const float* point) const {
    const auto [x_, y_] = LoadPair(point);
    const float at_x = x_ * x.half + x.center, at_y = y_ * y.half + y.center;
    const float left = std::floor(at_x), upper = std::floor(at_y);
    const auto j = static_cast<uint32_t>(static_cast<int32_t>(left));  // -1 is large
    const auto i = static_cast<uint32_t>(static_cast<int32_t>(upper));
    const uint32_t height = y.n, width = x.n;
    const bool is_i = i < height, is_j = j < width;
    const bool is_next_i = i + 1 < height, is_next_j = j + 1 < width;
    const auto offset = static_cast<int32_t>(i * width + j);
    const auto below = static_cast<int32_t>(i * width + j + width);
    return {RowAt(offset, is_i & is_j, is_i & is_next_j),
            RowAt(below, is_next_i & is_j, is_next_i & is_next_j), at_y - upper, at_x - left};
  }

  // Three or more float channels need so many gathers that Sample above is faster; for them
  // only the gradients are computed here.
  static constexpr bool kReads = C < 3 || !std::is_same_v<T, float>;

  bool Reaches(const float* points, int64_t count) const {
    const float most = 5e8f / Max(Max(x.half, y.half), 1.0f);
    int32_t beyond = 0;
#pragma omp simd reduction(| : beyond)
    for (int64_t k = 0; k < 2 * count; ++k) beyond |= !(std::fabs(points[k]) <= most);
    return !beyond;
  }

  void Sample(const float* points, int64_t count, T* out) const {
    const Plane plane = *this;
#pragma omp simd
    for (int64_t l = 0; l < count; ++l) {
      const auto [upper, lower, y, x] = plane.At(points + 2 * l);
      for (int c = 0; c < C; ++c) {
        const float above = (1 - x) * upper.first[c] + x * upper.second[c];
        const float below = (1 - x) * lower.first[c] + x * lower.second[c];
        out[l * C + c] = Round<T>((1 - y) * above + y * below);
      }
    }
  }

  void SetPointsBar(const float* points, int64_t count, const T* out_bar, float* bar) const {
    const Plane plane = *this;
#pragma omp simd
    for (int64_t l = 0; l < count; ++l) {
      const auto [upper, lower, y, x] = plane.At(points + 2 * l);
      float along_y = 0, along_x = 0;
      for (int c = 0; c < C; ++c) {
        const float a = upper.first[c], b = upper.second[c];
        const float c_ = lower.first[c], d = lower.second[c];
        const float own = Load(out_bar[l * C + c]);
        along_y += own * ((1 - x) * (c_ - a) + x * (d - b));
        along_x += own * ((1 - y) * (b - a) + y * (d - c_));
      }
      bar[2 * l] = plane.x.half * along_x;
      bar[2 * l + 1] = plane.y.half * along_y;
    }
  }
};

// ---- what JAX calls

struct Problem {
  Axis axes[3];
  int ndim;
  int64_t images, points, pixels, channels;  // points and pixels per image

  bool IsPlane() const {
    return ndim == 2 && channels <= 4 && pixels > 1 && pixels * channels <= kMost &&
           axes[0].rule == kConstant && axes[1].rule == kConstant;
  }
};

Problem Describe(const ffi::AnyBuffer& image, const ffi::AnyBuffer& points,
                 ffi::Span<const int32_t> rules, ffi::Span<const float> halves,
                 ffi::Span<const float> centers) {
  Problem problem;
  problem.ndim = static_cast<int>(rules.size());
  problem.images = image.dimensions()[0];
  problem.channels = image.dimensions()[problem.ndim + 1];
  problem.points = points.dimensions()[1];
  problem.pixels = 1;
  for (int a = 0; a < problem.ndim; ++a) {
    const auto n = static_cast<int32_t>(image.dimensions()[a + 1]);
    problem.axes[a] = {n, static_cast<Rule>(rules[a]), halves[a], centers[a]};
    problem.pixels *= n;
  }
  return problem;
}

// Calls function.operator()<N, C, T>().
template <typename Function>
void Specialized(const Problem& problem, ffi::DataType dtype, const Function& function) {
  auto by_channels = [&]<int N, typename T>() {
    switch (problem.channels) {
      case 1: return function.template operator()<N, 1, T>();
      case 2: return function.template operator()<N, 2, T>();
      case 3: return function.template operator()<N, 3, T>();
      case 4: return function.template operator()<N, 4, T>();
      default: return function.template operator()<N, 0, T>();
    }
  };
  auto by_dtype = [&]<int N>() {
    if (dtype == ffi::DataType::F32) return by_channels.template operator()<N, float>();
    return by_channels.template operator()<N, Bfloat16>();
  };
  problem.ndim == 2 ? by_dtype.template operator()<2>() : by_dtype.template operator()<3>();
}

// Calls work(first, count, block) for the blocks of an image's points from begin to end.
template <int N, typename Work>
void InBlocks(const Problem& problem, const float* points, int64_t begin, int64_t end,
              const Work& work) {
  Block<N> block;
  for (int64_t first = begin; first < end; first += kLanes) {
    const int count = static_cast<int>(std::min<int64_t>(kLanes, end - first));
    Find<N>(points + first * N, count, problem.axes, block);
    work(first, count, block);
  }
}

// A range of the points of one image. All images together have Parts(problem) of them.
struct Part {
  int64_t image, begin, end;
};

int64_t Parts(const Problem& problem) {
  return problem.images * ((problem.points + kPart - 1) / kPart);
}

Part PartOf(const Problem& problem, int64_t number) {
  const int64_t each = (problem.points + kPart - 1) / kPart, begin = number % each * kPart;
  return {number / each, begin, std::min(begin + kPart, problem.points)};
}

// Prefetches a part of the next image along with each part of this one: the points access it
// in an order that a processor cannot predict. (Inlined, since g++ removes the call as
// without effect.)
template <typename P>
[[gnu::always_inline]] inline void AskForNext(const Problem& problem, int64_t number,
                                              const P* images) {
  const int64_t each = Parts(problem) / problem.images, k = number % each;
  const int64_t next = number / each + 1, numbers = problem.pixels * problem.channels;
  if (next == problem.images) return;
  const P* image = images + next * numbers;
  for (int64_t i = numbers * k / each; i < numbers * (k + 1) / each; i += 64 / sizeof(P))
    __builtin_prefetch(image + i);
}

ffi::Error Values(ffi::ThreadPool pool, ffi::AnyBuffer images, ffi::AnyBuffer points,
                  ffi::Result<ffi::AnyBuffer> out, ffi::Span<const int32_t> rules,
                  ffi::Span<const float> halves, ffi::Span<const float> centers) {
  const Problem problem = Describe(images, points, rules, halves, centers);
  InLargePages(out->untyped_data(), out->size_bytes());
  Specialized(problem, images.element_type(), [&]<int N, int C, typename T>() {
    constexpr bool may_be_plane = N == 2 && C > 0 && Plane<C, T>::kReads;
    const bool is_plane = may_be_plane && problem.IsPlane();
    Images<C, T> pixels(pool, images);
    if (!is_plane) pixels.Readable();
    const auto* all_points = static_cast<const float*>(points.untyped_data());
    const std::vector<Pixel<C, T>> zeros(problem.channels);
    InParts(pool, Parts(problem), [&](int64_t number) {
      const auto [p, begin, end] = PartOf(problem, number);
      const int64_t before = p * problem.pixels * problem.channels;
      const float* own = all_points + p * problem.points * N;
      T* target = static_cast<T*>(out->untyped_data()) + p * problem.points * problem.channels;
      is_plane ? AskForNext(problem, number, pixels.raw)
               : AskForNext(problem, number, pixels.Readable());
      if constexpr (may_be_plane) {
        const Plane<C, T> plane = {pixels.raw + before, problem.axes[0], problem.axes[1]};
        if (is_plane && plane.Reaches(own + begin * N, end - begin))
          return plane.Sample(own + begin * N, end - begin, target + begin * C);
      }
      const auto* image = pixels.Readable() + before;
      InBlocks<N>(problem, own, begin, end, [&](int64_t first, int count, auto& block) {
        T* here = target + first * problem.channels;
        if constexpr (C == 1) ReadOne(image, block, count, here);
        else Sample<N, C>(image, block, count, problem.channels, zeros.data(), here);
      });
    });
  });
  return ffi::Error::Success();
}

// The gradients that are needed, of the images and then of the points. One thread sums the
// gradient of an image, so that its rounding is the same in every run.
ffi::Error Cotangents(ffi::ThreadPool pool, ffi::AnyBuffer images, ffi::AnyBuffer points,
                      ffi::AnyBuffer out_bar, ffi::RemainingRets results,
                      bool needs_image_grad, bool needs_points_grad,
                      ffi::Span<const int32_t> rules, ffi::Span<const float> halves,
                      ffi::Span<const float> centers) {
  const Problem problem = Describe(images, points, rules, halves, centers);
  void* images_bar = nullptr;
  float* points_bar = nullptr;
  if (needs_image_grad) {
    auto result = *results.get<ffi::AnyBuffer>(0);
    InLargePages(images_bar = result->untyped_data(), result->size_bytes());
  }
  if (needs_points_grad) {
    auto result = *results.get<ffi::Buffer<ffi::F32>>(needs_image_grad ? 1 : 0);
    InLargePages(points_bar = result->typed_data(), result->size_bytes());
  }
  Specialized(problem, images.element_type(), [&]<int N, int C, typename T>() {
    const int64_t numbers = problem.pixels * problem.channels;
    const bool is_plane = N == 2 && C > 0 && problem.IsPlane();
    Images<C, T> pixels(pool, images);
    if (needs_points_grad && !is_plane) pixels.Readable();
    const auto* all_bars = static_cast<const T*>(out_bar.untyped_data());
    auto work = [&](const Part& part, float* image_bar, float* points_bar) {
      const int64_t before = part.image * problem.points;
      const float* own = static_cast<const float*>(points.untyped_data()) + before * N;
      if constexpr (N == 2 && C > 0) {
        const T* image = pixels.raw + part.image * numbers;
        const Plane<C, T> plane = {image, problem.axes[0], problem.axes[1]};
        const int64_t first = part.begin, count = part.end - first;
        if (points_bar && is_plane && plane.Reaches(own + first * N, count)) {
          const T* bar = all_bars + (before + first) * C;
          plane.SetPointsBar(own + first * N, count, bar, points_bar + (before + first) * N);
          points_bar = nullptr;
        }
      }
      if (!image_bar && !points_bar) return;
      const auto* image = points_bar ? pixels.Readable() + part.image * numbers : nullptr;
      InBlocks<N>(problem, own, part.begin, part.end, [&](int64_t first, int count, auto& block) {
        const T* bar = all_bars + (before + first) * problem.channels;
        if (image_bar) AddImageBar<N, C>(block, count, problem.channels, bar, image_bar);
        if (!points_bar) return;
        float* target = points_bar + (before + first) * N;
        SetPointsBar<N, C>(image, block, count, problem.channels, bar, target);
      });
    };
    auto work_on_image = [&](int64_t p, float* points_bar) {
      const Part whole = {p, 0, problem.points};
      T* target = static_cast<T*>(images_bar) + p * numbers;
      if constexpr (std::is_same_v<T, float>) {
        std::fill(target, target + numbers, 0.0f);
        work(whole, target, points_bar);
      } else {  // summed in float, rounded once
        std::vector<float> sums(numbers);
        work(whole, sums.data(), points_bar);
        std::transform(sums.begin(), sums.end(), target, Round<T>);
      }
    };
    // With fewer images than threads, the points' gradient is computed in parts of its own,
    // else along with the gradient of the image.
    const int64_t whole = needs_image_grad ? problem.images : 0;
    const bool is_along = whole >= pool.num_threads();
    InParts(pool, whole + (needs_points_grad && !is_along ? Parts(problem) : 0),
            [&](int64_t part) {
      if (part < whole) return work_on_image(part, is_along ? points_bar : nullptr);
      const int64_t number = part - whole;
      is_plane ? AskForNext(problem, number, pixels.raw)
               : AskForNext(problem, number, pixels.Readable());
      work(PartOf(problem, number), nullptr, points_bar);
    });
  });
  return ffi::Error::Success();
}

}  // namespace

#define WITH_AXES                                \
  .Attr<ffi::Span<const int32_t>>("rules")       \
      .Attr<ffi::Span<const float>>("halves")    \
      .Attr<ffi::Span<const float>>("centers")

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    stn_jax_cpu_values, Values,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .Ret<ffi::AnyBuffer>() WITH_AXES);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    stn_jax_cpu_cotangents, Cotangents,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .Arg<ffi::AnyBuffer>()
        .RemainingRets()
        .Attr<bool>("needs_image_grad")
        .Attr<bool>("needs_points_grad") WITH_AXES);
