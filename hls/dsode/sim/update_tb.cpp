// The end of a pass for one value: `update_unit` holds eight of dsode_update with different parameters.
//     testbench VECTORS
// VECTORS  records of 20 bytes: sum (i32), bias (i32), shift (u8), x (i8), flags (u8: bit 0 skip, 1 signed_state,
//          2 middle, 3 zero), padding (u8), and the eight results expected (u8)
// A vector enters every cycle. Prints the number of vectors; exit 1 where a result differs.
#include "Vupdate_unit.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <vector>

static const int STATE = 2, MODE = 3, LATENCY = 5;
#pragma pack(push, 1)
struct Vector {
    int32_t sum, bias;
    uint8_t shift;
    int8_t x;
    uint8_t flags, padding;
    uint8_t expected[8];
};
#pragma pack(pop)

int main(int count, char** words) {
    FILE* file = count == 2 ? fopen(words[1], "rb") : nullptr;
    if (!file) return 2;
    std::vector<Vector> vectors(LATENCY);
    Vector read;
    while (fread(&read, sizeof read, 1, file) == 1) vectors.push_back(read);
    vectors.insert(vectors.end(), LATENCY, read);
    VerilatedContext context;
    context.randReset(2);
    Vupdate_unit unit(&context);
    long wrong = 0;
    for (size_t now = LATENCY; now < vectors.size(); now++) {
        unit.sum = vectors[now].sum & 0xfffff;
        unit.bias = vectors[now].bias & 0xfffff;
        unit.shift = vectors[now].shift;
        unit.x = uint8_t(vectors[now - STATE].x);
        unit.skip = vectors[now - STATE].flags & 1;
        unit.signed_state = vectors[now - MODE].flags >> 1 & 1;
        unit.middle = vectors[now - MODE].flags >> 2 & 1;
        unit.zero = vectors[now - MODE].flags >> 3 & 1;
        unit.clk = 0;
        unit.eval();
        for (int k = 0; k < 8 && now >= 2 * LATENCY; k++) {
            const Vector& v = vectors[now - LATENCY];
            const int y = unit.y >> 8 * k & 255;
            if (y != v.expected[k] && wrong++ < 5)
                printf("vector %ld, unit %d: sum %d bias %d shift %d x %d flags %d: %d, not %d\n",
                       long(now - 2 * LATENCY), k, v.sum, v.bias, v.shift, v.x, v.flags, y, v.expected[k]);
        }
        unit.clk = 1;
        unit.eval();
    }
    printf("%ld\n", long(vectors.size()) - 2 * LATENCY);
    return wrong != 0;
}
