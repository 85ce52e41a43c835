// A first-in first-out queue with the interface of the HLS streams that is used here. Stands in where there is no
// vendor tool. Reading an empty stream, which would wait for ever on a chip, is an error.
#pragma once

#include <cstddef>
#include <queue>
#include <stdexcept>
#include <string>

namespace hls {

template <typename T>
class stream {
  public:
    explicit stream(const char* name = "stream") : name_(name) {}
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;

    T read() {
        if (waiting_.empty()) {
            throw std::runtime_error("read of the empty stream " + name_);
        }
        T first = waiting_.front();
        waiting_.pop();
        return first;
    }

    void write(const T& value) { waiting_.push(value); }
    bool empty() const { return waiting_.empty(); }
    std::size_t size() const { return waiting_.size(); }

  private:
    std::queue<T> waiting_;
    std::string name_;
};

}  // namespace hls
