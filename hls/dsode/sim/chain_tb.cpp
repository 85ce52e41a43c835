// Eight inputs of a pointwise convolution in packed multipliers: `chain_unit` holds dsode_chain of DSPs and of LUTs.
// A vector enters every cycle, so nothing of one may reach another. Prints the number of vectors; exit 1 where a
// field differs from 1024 + its sum.
#include "Vchain_unit.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <random>

static const int LATENCY = 11, RING = 32;
struct Vector {
    int a[2][8], w[2][8];
    uint64_t expected() const {
        uint64_t fields = 0;
        for (int output = 0; output < 2; output++)
            for (int pixel = 0; pixel < 2; pixel++) {
                int sum = 1024;
                for (int i = 0; i < 8; i++) sum += a[pixel][i] * w[output][i];
                if (sum < 0 || sum > 2047) printf("a field of %d borrows\n", sum);
                fields |= uint64_t(sum & 2047) << 11 * (2 * output + pixel);
            }
        return fields;
    }
};

static Vchain_unit* unit;
static Vector ring[RING];
static long now, wrong;

static void enter(const Vector& vector) {
    ring[now % RING] = vector;
    uint32_t a[2] = {0, 0}, w[2] = {0, 0};
    for (int i = 0; i < 8; i++)          // input i arrives i cycles late
        for (int k = 0; k < 2; k++) {
            const Vector& v = ring[(now - i + RING) % RING];
            a[k] |= uint32_t(v.a[k][i] & 15) << 4 * i;
            w[k] |= uint32_t(v.w[k][i] & 15) << 4 * i;
        }
    unit->a0 = a[0];
    unit->a1 = a[1];
    unit->w0 = w[0];
    unit->w1 = w[1];
    unit->clk = 0;
    unit->eval();
    if (now >= RING) {
        const uint64_t expected = ring[(now - LATENCY) % RING].expected();
        for (uint64_t y : {uint64_t(unit->of_dsps), uint64_t(unit->of_luts)})
            if (y != expected && wrong++ < 5)
                printf("vector %ld: %011lx, not %011lx\n", now - LATENCY, long(y), long(expected));
    }
    unit->clk = 1;
    unit->eval();
    now++;
}

int main() {
    VerilatedContext context;
    context.randReset(2);
    unit = new Vchain_unit(&context);
    std::mt19937 noise(1);
    auto among = [&](std::initializer_list<int> values) { return values.begin()[noise() % values.size()]; };
    auto filled = [](int a, int w) {
        Vector v;
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < 8; i++) {
                v.a[k][i] = a;
                v.w[k][i] = w;
            }
        return v;
    };
    // every product, alone and where the other seven push the field to either end
    for (int position : {0, 7})
        for (int w : {0, -8, 7})
            for (int code = 0; code < 1 << 16; code++) {
                Vector v = filled(15, w);
                for (int k = 0; k < 2; k++) {
                    v.a[k][position] = code >> 4 * k & 15;
                    v.w[k][position] = (code >> (8 + 4 * k) & 15) - 8;
                }
                enter(v);
            }
    for (int n = 0; n < 200000; n++) {
        Vector v;
        for (int k = 0; k < 2; k++) {
            const int kind = noise() % 3;            // ends only, one end, anything
            const int end = among({-8, 7});
            for (int i = 0; i < 8; i++) {
                v.a[k][i] = kind == 2 ? int(noise() % 16) : among({0, 15, 15});
                v.w[k][i] = kind == 2 ? int(noise() % 16) - 8 : kind == 1 ? end : among({-8, -1, 0, 7});
            }
        }
        enter(v);
    }
    for (int i = 0; i < LATENCY; i++) enter(filled(0, 0));
    printf("%ld\n", now);
    return wrong != 0;
}
