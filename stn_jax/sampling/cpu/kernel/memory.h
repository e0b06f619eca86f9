// Memory: large pages for results, and space that a thread keeps.

#pragma once

#include <cstdint>
#include <memory>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace stn_jax {

constexpr int64_t kFresh = 1 << 25;  // malloc requests blocks of this size from the system

// Asks for large pages for memory that is about to be written for the first time. Many small
// pages cost more time, since each causes a page fault.
inline void InLargePages([[maybe_unused]] void* begin, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < kFresh) return;
  constexpr uintptr_t page = 1 << 21;
  const auto first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
  const auto last = (reinterpret_cast<uintptr_t>(begin) + bytes) / page * page;
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Memory that is not initialized. A thread that keeps it may ask again and again.
template <typename T>
class Space {
 public:
  T* Of(int64_t count) {
    if (count > count_) {
      space_.reset();  // the old one first
      space_.reset(new T[count]);
      count_ = count;
    }
    return space_.get();
  }

  // Gives the memory back if it is more than a thread should keep.
  void Trim() {
    if (count_ * static_cast<int64_t>(sizeof(T)) <= kKept) return;
    space_.reset();
    count_ = 0;
  }

 private:
  static constexpr int64_t kKept = 1 << 22;
  std::unique_ptr<T[]> space_;
  int64_t count_ = 0;
};

}  // namespace stn_jax
