// One channel of the depthwise convolution: `depthwise_unit` holds dsode_depthwise of DSPs and of LUTs (bits 8 k and
// 8 k + 8 of y, k even) for four choices of SHIFT and SHIFT_BITS, which are the words of the command line in pairs.
// A vector enters every cycle. Prints the number of vectors; exit 1 where a result differs.
#include "Vdepthwise_unit.h"
#include "verilated.h"
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

static const int BIAS = 2, TWIN = 15, LATENCY = 16, RING = 32, CHOICES = 4;
struct Vector {
    int x[2][9], w[9], bias, shift, twin;
    int sum(int pixel) const {
        int total = 0;
        for (int j = 0; j < 9; j++) total += x[pixel][j] * w[j];
        return total;
    }
};

static Vdepthwise_unit* unit;
static Vector ring[RING];
static long now, wrong;
static int least[CHOICES], bits[CHOICES];
static std::mt19937 noise(1);

static int shift_of(const Vector& v, int choice) { return least[choice] + (v.shift & ((1 << bits[choice]) - 1)); }

static int expected(const Vector& v, int choice) {
    int y[2];
    for (int pixel = 0; pixel < 2; pixel++)
        y[pixel] = std::min(15, std::max(0, (v.sum(v.twin ? 0 : pixel) + v.bias) >> shift_of(v, choice)));
    return y[1] << 4 | y[0];
}

static const Vector& before(int cycles) { return ring[(now - cycles + RING) % RING]; }

static void enter(Vector v) {
    // the bias puts one pixel's result of one choice between just below 0 and just above 15, low bits at random
    v.shift = noise() & 7;
    v.twin = noise() % 4 == 0;
    const int s = shift_of(v, noise() % CHOICES), low = noise() % 3 ? int(noise()) & ((1 << s) - 1) : noise() % 2 ? 0 : -1;
    v.bias = (int(noise() % 19) - 1) * (1 << s) + low - v.sum(noise() & 1);
    if (noise() % 16 == 0) v.bias = (noise() & 1) ? 32767 : -32768;
    v.bias = std::min(32767, std::max(-32768, v.bias));
    ring[now % RING] = v;
    uint8_t x[2][9];
    uint64_t w = 0;
    for (int j = 0; j < 9; j++) {        // tap j arrives j cycles late
        x[0][j] = uint8_t(before(j).x[0][j]);
        x[1][j] = uint8_t(before(j).x[1][j]);
        w |= uint64_t(before(j).w[j] & 15) << 4 * j;
    }
    for (int n = 0; n < 3; n++) {
        unit->x0[n] = unit->x1[n] = 0;
        for (int j = 4 * n; j < 9 && j < 4 * n + 4; j++) {
            unit->x0[n] |= uint32_t(x[0][j]) << 8 * (j % 4);
            unit->x1[n] |= uint32_t(x[1][j]) << 8 * (j % 4);
        }
    }
    unit->w = w;
    unit->bias = uint16_t(before(BIAS).bias);
    unit->shift = before(BIAS).shift;
    unit->twin = before(TWIN).twin;
    unit->clk = 0;
    unit->eval();
    if (now >= RING)
        for (int k = 0; k < 2 * CHOICES; k++) {
            const int y = unit->y >> 8 * k & 255, right = expected(before(LATENCY), k / 2);
            if (y != right && wrong++ < 5)
                printf("vector %ld, unit %d: %02x, not %02x\n", now - LATENCY, k, y, right);
        }
    unit->clk = 1;
    unit->eval();
    now++;
}

int main(int count, char** words) {
    if (count != 1 + 2 * CHOICES) return 2;
    for (int k = 0; k < CHOICES; k++) {
        least[k] = atoi(words[1 + 2 * k]);
        bits[k] = atoi(words[2 + 2 * k]);
    }
    VerilatedContext context;
    context.randReset(2);
    unit = new Vdepthwise_unit(&context);
    for (int n = 0; n < RING; n++) enter(Vector{});
    auto random_taps = [](Vector& v) {
        for (int j = 0; j < 9; j++) {
            v.x[0][j] = int(noise() & 255) - 128;
            v.x[1][j] = int(noise() & 255) - 128;
            v.w[j] = int(noise() & 15) - 8;
        }
    };
    // every product of both pixels at the first tap, alone, and at the last one, after any others
    for (int tap : {0, 8})
        for (int code = 0; code < 1 << 20; code++) {
            Vector v{};
            if (tap) random_taps(v);
            v.x[0][tap] = (code & 255) - 128;
            v.x[1][tap] = (code >> 8 & 255) - 128;
            v.w[tap] = (code >> 16) - 8;
            enter(v);
        }
    // nine taps: the ends of x and w in any mixture; then anything
    for (int n = 0; n < 200000; n++) {
        Vector v;
        const int ends = noise() & 15;
        for (int j = 0; j < 9; j++) {
            v.x[0][j] = ((ends & 8 ? noise() : unsigned(ends)) & 1) ? 127 : -128;
            v.x[1][j] = ((ends & 8 ? noise() : unsigned(ends)) & 2) ? 127 : -128;
            v.w[j] = ((ends & 8 ? noise() : unsigned(ends)) & 4) ? 7 : -8;
        }
        if (n % 2) random_taps(v);
        enter(v);
    }
    for (int n = 0; n < LATENCY; n++) enter(Vector{});
    printf("%ld\n", now);
    return wrong != 0;
}
