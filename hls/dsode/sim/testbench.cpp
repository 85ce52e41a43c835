// Drives the IP block `dsode` as a processor and a DMA engine would: AXI-Lite, then a stream of states.
//     testbench CONFIG STATES RESULTS STREAM_BYTES BEATS_IN BEATS_OUT LIMIT STALL
// CONFIG   records of 16 bytes: bank (u32), row (u32), word (u64)
// STATES   images of BEATS_IN beats; RESULTS gets BEATS_OUT beats for each
// LIMIT    cycles after which an image has failed;  STALL 0: both streams always ready; n: either pauses in about n of
//          16 cycles, by a fixed pseudo-random sequence
// Prints for each image: cycles of the run, and cycles from its first beat to the last beat of its result.
// Exit 2: wrong words or files; 3: too many cycles; 4: a wrong answer on the bus.
#include "Vdsode.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static Vdsode* ip;
static long now, limit;
static uint32_t noise = 12345;

static bool stalls(int share) {
    noise = noise * 1664525u + 1013904223u;
    return int(noise >> 28) < share;
}

static void edge() {
    ip->aclk = 1;
    ip->eval();
    ip->aclk = 0;
    ip->eval();
    now++;
}

static void fail(int code, const char* why) {
    fprintf(stderr, "%s\n", why);
    exit(code);
}

static void write_register(unsigned address, uint32_t value) {
    ip->s_axi_awaddr = address;
    ip->s_axi_wdata = value;
    ip->s_axi_wstrb = 15;
    ip->s_axi_awvalid = ip->s_axi_wvalid = 1;
    ip->eval();
    for (int i = 0; !(ip->s_axi_awready && ip->s_axi_wready); i++) {
        if (i > 16) fail(4, "AXI-Lite: a write is not taken");
        edge();
    }
    edge();
    ip->s_axi_awvalid = ip->s_axi_wvalid = 0;
    ip->s_axi_bready = 1;
    ip->eval();
    if (!ip->s_axi_bvalid || ip->s_axi_bresp) fail(4, "AXI-Lite: no response to a write");
    edge();
}

static uint32_t read_register(unsigned address) {
    ip->s_axi_araddr = address;
    ip->s_axi_arvalid = 1;
    ip->eval();
    for (int i = 0; !ip->s_axi_arready; i++) {
        if (i > 16) fail(4, "AXI-Lite: a read is not taken");
        edge();
    }
    edge();
    ip->s_axi_arvalid = 0;
    ip->s_axi_rready = 1;
    ip->eval();
    if (!ip->s_axi_rvalid || ip->s_axi_rresp) fail(4, "AXI-Lite: no response to a read");
    uint32_t value = ip->s_axi_rdata;
    edge();
    return value;
}

int main(int count, char** words) {
    if (count != 9) fail(2, "eight words are needed");
    const long bytes = atol(words[4]), beats_in = atol(words[5]), beats_out = atol(words[6]);
    limit = atol(words[7]);
    const int stall = atoi(words[8]);
    FILE* config = fopen(words[1], "rb");
    FILE* states = fopen(words[2], "rb");
    FILE* results = fopen(words[3], "wb");
    if (!config || !states || !results) fail(2, "a file cannot be opened");
    VerilatedContext context;
    context.randReset(2);          // registers start as noise: nothing may rely on what they hold
    ip = new Vdsode(&context);
    ip->aresetn = 0;
    ip->s_axi_awvalid = ip->s_axi_wvalid = ip->s_axi_arvalid = ip->s_axis_tvalid = ip->m_axis_tready = 0;
    for (int i = 0; i < 64; i++) edge();
    ip->aresetn = 1;
    edge();
    if (read_register(0x08) != 0x64736f64) fail(4, "MAGIC is wrong");
    struct { uint32_t bank, row; uint64_t word; } record;
    uint32_t bank = ~0u, row = 0;
    while (fread(&record, 16, 1, config) == 1) {
        if (record.bank != bank || record.row != row) write_register(0x20, record.bank << 16 | record.row);
        bank = record.bank;
        row = record.row + 1;
        write_register(0x24, uint32_t(record.word));
        write_register(0x28, uint32_t(record.word >> 32));
    }
    write_register(0x00, 1);
    std::vector<char> in(bytes * beats_in), out(bytes * beats_out);
    while (fread(in.data(), 1, in.size(), states) == in.size()) {
        long first = -1, sent = 0, received = 0, start = now;
        while (received < beats_out) {
            if (now - start > limit) fail(3, "the image takes too long");
            // a valid beat stays until it is taken; a stalled stream begins no new one
            if (!ip->s_axis_tvalid && sent < beats_in && !stalls(stall)) {
                ip->s_axis_tvalid = 1;
                memcpy(&ip->s_axis_tdata, in.data() + sent * bytes, bytes);
                ip->s_axis_tlast = sent == beats_in - 1;
            }
            ip->m_axis_tready = !stalls(stall);
            ip->eval();
            const bool took = ip->s_axis_tvalid && ip->s_axis_tready, gave = ip->m_axis_tvalid && ip->m_axis_tready;
            if (took && first < 0) first = now;
            if (gave) {
                memcpy(out.data() + received * bytes, &ip->m_axis_tdata, bytes);
                if (bool(ip->m_axis_tlast) != (received == beats_out - 1)) fail(4, "TLAST at the wrong beat");
                received++;
            }
            edge();
            if (took) {
                sent++;
                ip->s_axis_tvalid = 0;
            }
        }
        ip->m_axis_tready = 0;
        printf("%u %ld\n", read_register(0x10), now - 1 - first);
        fwrite(out.data(), 1, out.size(), results);
    }
    if (read_register(0x04) & 8) fail(4, "the block says that TLAST came at the wrong beat");
    fclose(results);
    return 0;
}
