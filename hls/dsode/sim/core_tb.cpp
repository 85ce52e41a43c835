// Drives dsode_core: writes its configuration, then runs images through it.
//     core_tb CONFIG STATES RESULTS ROW_BYTES ROWS_IN ROWS_OUT LIMIT
// CONFIG   records of 16 bytes: bank (u32), row (u32), word (u64)
// STATES   images, ROWS_IN rows of ROW_BYTES each;  RESULTS the same with ROWS_OUT
// Prints the cycles of each image, from the start pulse to `done`. Exit 3 when an image takes more than LIMIT cycles.
#include "Vdsode_core.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static Vdsode_core* core;

static void tick() {
    core->clk = 0;
    core->eval();
    core->clk = 1;
    core->eval();
}

int main(int count, char** words) {
    if (count != 8) return 2;
    const long row_bytes = atol(words[4]), rows_in = atol(words[5]), rows_out = atol(words[6]), limit = atol(words[7]);
    FILE* config = fopen(words[1], "rb");
    FILE* states = fopen(words[2], "rb");
    FILE* results = fopen(words[3], "wb");
    if (!config || !states || !results) return 2;
    VerilatedContext context;
    context.randReset(2);          // registers start as noise: nothing may rely on what they hold
    core = new Vdsode_core(&context);
    core->rst = 1;
    core->start = core->h_we = core->c_we = 0;
    for (int i = 0; i < 64; i++) tick();
    core->rst = 0;
    struct { uint32_t bank, row; uint64_t word; } record;
    while (fread(&record, 16, 1, config) == 1) {
        core->c_we = 1;
        core->c_bank = record.bank;
        core->c_row = record.row;
        core->c_data = record.word;
        tick();
    }
    core->c_we = 0;
    for (int i = 0; i < 4; i++) tick();
    std::vector<char> row(row_bytes);
    std::vector<char> image(row_bytes * rows_in);
    while (fread(image.data(), 1, image.size(), states) == image.size()) {
        for (long n = 0; n < rows_in; n++) {
            core->h_we = 1;
            core->h_wa = n;
            memcpy(&core->h_wd, image.data() + n * row_bytes, row_bytes);
            tick();
        }
        core->h_we = 0;
        long cycles = 0;
        core->start = 1;
        do {
            tick();
            core->start = 0;
            if (++cycles > limit) return 3;
        } while (!core->done);
        printf("%ld\n", cycles);
        for (long n = 0; n < rows_out; n++) {
            core->h_ra = n;
            tick();
            tick();
            tick();
            memcpy(row.data(), &core->h_rd, row_bytes);
            fwrite(row.data(), 1, row_bytes, results);
        }
    }
    fclose(results);
    return 0;
}
