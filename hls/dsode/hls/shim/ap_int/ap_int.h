// Integers of 1 to 64 bits, signed (two's complement) and unsigned, that wrap around when assigned. Arithmetic is
// done in 64 bits, so an expression is exact and only its assignment cuts. Stands in for the arbitrary-precision
// types of the same names where there is no vendor tool; only what the kernel uses.
#pragma once

namespace shim {

// Bits low..high of an integer, to be read or, where `T` is not const, written.
template <typename T>
class Range {
  public:
    Range(T& whole, int high, int low) : whole_(whole), high_(high), low_(low) {}

    operator unsigned long long() const { return (static_cast<unsigned long long>(whole_) >> low_) & mask(); }

    Range& operator=(unsigned long long bits) {
        const unsigned long long rest = static_cast<unsigned long long>(whole_) & ~(mask() << low_);
        whole_ = rest | ((bits & mask()) << low_);
        return *this;
    }

  private:
    unsigned long long mask() const { return ~0ull >> (63 - (high_ - low_)); }

    T& whole_;
    int high_, low_;
};

template <int BITS, bool SIGNED>
class Integer {
    static_assert(BITS >= 1 && BITS <= 64, "1 to 64 bits");

  public:
    constexpr Integer(long long value = 0) : value_(cut(value)) {}

    template <int OTHER, bool OTHER_SIGNED>
    constexpr Integer(const Integer<OTHER, OTHER_SIGNED>& other) : value_(cut(other)) {}

    constexpr operator long long() const { return value_; }

    Range<Integer> range(int high, int low) { return Range<Integer>(*this, high, low); }
    Range<const Integer> range(int high, int low) const { return Range<const Integer>(*this, high, low); }

  private:
    static constexpr long long cut(long long value) {
        return SIGNED ? static_cast<long long>(static_cast<unsigned long long>(value) << (64 - BITS)) >> (64 - BITS)
                      : static_cast<long long>(static_cast<unsigned long long>(value) << (64 - BITS) >> (64 - BITS));
    }

    long long value_;
};

}  // namespace shim

template <int BITS>
using ap_int = shim::Integer<BITS, true>;

template <int BITS>
using ap_uint = shim::Integer<BITS, false>;
