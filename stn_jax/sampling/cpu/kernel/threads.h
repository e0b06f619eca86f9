// Work in parts, on JAX's threads.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

#include "xla/ffi/api/ffi.h"

namespace stn_jax {

// Calls work(part) for the parts 0 ... count - 1, on JAX's threads and on this one. It waits
// only for parts that have begun, never for a free thread. So it cannot deadlock when all
// threads wait.
inline void InParts(xla::ffi::ThreadPool& pool, int64_t count,
                    const std::function<void(int64_t)>& work) {
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

}  // namespace stn_jax
