// The IP block `dsode` at its buses: what the registers say, streams that stop, wrong TLAST, resets in the middle.
//     testbench CONFIG STATE RESULT STREAM_BYTES BEATS_IN BEATS_OUT CYCLES DIGEST
// CONFIG   records of 16 bytes: bank (u32), row (u32), word (u64); STATE, RESULT: an image and its answer
// Exit 1 with a line on stdout for every check that fails; 2: wrong words or files.
#include "Vdsode.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static Vdsode* ip;
static long failures, bytes;
static bool in_reset = true;

static void check(bool right, const char* what) {
    if (right) return;
    printf("%s\n", what);
    if (++failures > 20) exit(1);
}

// One cycle. A beat or response that is offered and not taken must stay as it is.
static void edge() {
    ip->eval();
    const bool held = ip->m_axis_tvalid && !ip->m_axis_tready && !in_reset;
    const bool answered = ip->aresetn && ip->s_axi_rvalid && !ip->s_axi_rready;
    const bool written = ip->aresetn && ip->s_axi_bvalid && !ip->s_axi_bready;
    const uint32_t value = ip->s_axi_rdata;
    const bool last = ip->m_axis_tlast;
    std::vector<char> data(bytes);
    memcpy(data.data(), &ip->m_axis_tdata, bytes);
    ip->aclk = 1;
    ip->eval();
    ip->aclk = 0;
    ip->eval();
    if (held && !in_reset)
        check(ip->m_axis_tvalid && ip->m_axis_tlast == last && !memcmp(data.data(), &ip->m_axis_tdata, bytes),
              "m_axis: a beat changed before it was taken");
    if (answered) check(ip->s_axi_rvalid && ip->s_axi_rdata == value, "AXI-Lite: an answer changed before it was taken");
    if (written) check(ip->s_axi_bvalid, "AXI-Lite: a response went before it was taken");
}

static void put(unsigned address, uint32_t value, unsigned strobes = 15, int patience = 0) {
    ip->s_axi_awaddr = address;
    ip->s_axi_wdata = value;
    ip->s_axi_wstrb = strobes;
    ip->s_axi_awvalid = 1;
    ip->s_axi_wvalid = 0;
    ip->s_axi_bready = 0;
    ip->eval();
    for (int i = 0; i < patience; i++) {
        check(!ip->s_axi_awready && !ip->s_axi_bvalid, "AXI-Lite: a write was taken without its data");
        edge();
    }
    ip->s_axi_wvalid = 1;
    ip->eval();
    check(ip->s_axi_awready && ip->s_axi_wready, "AXI-Lite: a write is not taken");
    edge();
    for (int i = 0; i < patience; i++) {     // the next one waits until the response is taken
        check(!ip->s_axi_awready && !ip->s_axi_wready, "AXI-Lite: a second write was taken before the response");
        edge();
    }
    ip->s_axi_awvalid = ip->s_axi_wvalid = 0;
    check(ip->s_axi_bvalid && ip->s_axi_bresp == 0, "AXI-Lite: no response to a write");
    ip->s_axi_bready = 1;
    edge();
    ip->s_axi_bready = 0;
    ip->eval();
    check(!ip->s_axi_bvalid, "AXI-Lite: a response came twice");
}

static uint32_t get(unsigned address, int patience = 0) {
    ip->s_axi_araddr = address;
    ip->s_axi_arvalid = 1;
    ip->s_axi_rready = 0;
    ip->eval();
    check(ip->s_axi_arready, "AXI-Lite: a read is not taken");
    edge();
    for (int i = 0; i < patience; i++) {
        check(!ip->s_axi_arready, "AXI-Lite: a second read was taken before the answer");
        edge();
    }
    ip->s_axi_arvalid = 0;
    check(ip->s_axi_rvalid && ip->s_axi_rresp == 0, "AXI-Lite: no answer to a read");
    const uint32_t value = ip->s_axi_rdata;
    ip->s_axi_rready = 1;
    edge();
    ip->s_axi_rready = 0;
    ip->eval();
    check(!ip->s_axi_rvalid, "AXI-Lite: an answer came twice");
    return value;
}

enum Status { RUNNING = 1, RECEIVING = 2, SENDING = 4, MISPLACED = 8 };
static std::vector<char> state, result;
static long beats_in, beats_out;

// `beats` of the state, TLAST at beat `last`.
static void send(long beats, long last) {
    for (long beat = 0; beat < beats; beat++) {
        memcpy(&ip->s_axis_tdata, state.data() + beat * bytes, bytes);
        ip->s_axis_tvalid = 1;
        ip->s_axis_tlast = beat == last;
        ip->eval();
        for (int i = 0; !ip->s_axis_tready; i++) {
            if (i > 16) return check(false, "s_axis: a beat is not taken");
            edge();
        }
        edge();
        ip->s_axis_tvalid = ip->s_axis_tlast = 0;
        ip->eval();
    }
}

static void wait_for(unsigned status, const char* what) {
    for (int i = 0; (get(0x04) & 7) != status; i++)
        if (i > 10000) {
            check(false, what);
            exit(1);
        }
}

// `beats` of the result, each offered for `pause` cycles before it is taken.
static void receive(long beats, int pause) {
    for (long beat = 0; beat < beats; beat++) {
        ip->m_axis_tready = 0;
        for (int i = 0; i < pause; i++) edge();
        for (int i = 0; !ip->m_axis_tvalid; i++) {
            if (i > 64) return check(false, "m_axis: a beat does not come");
            edge();
        }
        check(!memcmp(&ip->m_axis_tdata, result.data() + beat * bytes, bytes), "m_axis: a wrong beat");
        check(ip->m_axis_tlast == (beat == beats_out - 1), "m_axis: TLAST at the wrong beat");
        check(ip->m_axis_tkeep == (bytes == 32 ? ~0u : (1u << bytes) - 1), "m_axis: TKEEP is not all ones");
        ip->m_axis_tready = 1;
        edge();
        ip->m_axis_tready = 0;
        ip->eval();
    }
}

static void image(int pause) {
    wait_for(RECEIVING, "it does not become ready for an image");
    send(beats_in, beats_in - 1);
    check(!ip->s_axis_tready, "s_axis: a beat of the next image would be taken");
    wait_for(SENDING, "a run does not end");
    receive(beats_out, pause);
}

static void read_file(const char* name, std::vector<char>& into, long size) {
    FILE* file = fopen(name, "rb");
    into.resize(size);
    if (!file || fread(into.data(), 1, size, file) != size_t(size)) exit(2);
    fclose(file);
}

int main(int count, char** words) {
    if (count != 9) return 2;
    bytes = atol(words[4]);
    beats_in = atol(words[5]);
    beats_out = atol(words[6]);
    read_file(words[2], state, bytes * beats_in);
    read_file(words[3], result, bytes * beats_out);
    VerilatedContext context;
    context.randReset(2);
    ip = new Vdsode(&context);
    ip->aresetn = 0;
    ip->s_axi_awvalid = ip->s_axi_wvalid = ip->s_axi_arvalid = ip->s_axis_tvalid = ip->m_axis_tready = 0;
    ip->s_axi_bready = ip->s_axi_rready = 0;
    for (int i = 0; i < 64; i++) edge();
    ip->aresetn = 1;
    edge();
    edge();
    in_reset = false;

    // registers
    check(get(0x00) == 0, "CONTROL is not 0 after reset");
    check(get(0x04) == 0, "STATUS is not 0 after reset");
    check(get(0x08, 3) == 0x64736f64, "MAGIC is wrong");
    check(get(0x0c) == strtoul(words[8], nullptr, 10), "DIGEST is wrong");
    check(get(0x14) == 0, "IMAGES is not 0 after reset");
    check(get(0x18) == 0 && get(0xfc) == 0, "a register that is none reads as something");
    ip->s_axis_tvalid = 1;
    for (int i = 0; i < 20; i++) {
        check(!ip->s_axis_tready, "s_axis: a beat is taken before ENABLE");
        edge();
    }
    ip->s_axis_tvalid = 0;
    put(0x00, 1, 1);
    check(get(0x00) == 0, "a write of part of a register is not passed over");

    // tables
    FILE* config = fopen(words[1], "rb");
    struct { uint32_t bank, row; uint64_t word; } record;
    if (!config) return 2;
    uint32_t bank = ~0u, row = 0;
    while (fread(&record, 16, 1, config) == 1) {
        if (record.bank != bank || record.row != row) put(0x20, record.bank << 16 | record.row);
        bank = record.bank;
        row = record.row + 1;
        put(0x24, uint32_t(record.word));
        put(0x28, uint32_t(record.word >> 32), 15, row % 5);
    }

    // images
    put(0x00, 1, 15, 3);
    check(get(0x00) == 1, "ENABLE does not read back");
    image(0);
    check(get(0x10) == strtoul(words[7], nullptr, 10), "CYCLES is wrong");
    check(get(0x14) == 1, "IMAGES does not count");
    image(3);
    check(get(0x14) == 2, "IMAGES does not count");
    check(!(get(0x04) & MISPLACED), "STATUS says TLAST was misplaced, and it was not");

    // TLAST too early and at once cleared; missing; both leave the image as it is
    for (long last : {beats_in / 2, beats_in}) {
        send(beats_in, last);
        for (int i = 0; i < 4; i++) edge();
        check(get(0x04) & MISPLACED, "STATUS does not say that TLAST was misplaced");
        put(0x04, 7);
        check(get(0x04) & MISPLACED, "a misplaced TLAST is forgotten by itself");
        put(0x04, 8);
        check(!(get(0x04) & MISPLACED), "a misplaced TLAST cannot be cleared");
        wait_for(SENDING, "a run does not end");
        receive(beats_out, 1);
    }

    // RESET while receiving, running, sending
    for (int when = 0; when < 3; when++) {
        wait_for(RECEIVING, "it does not become ready for an image");
        send(when ? beats_in : beats_in / 2 + 1, beats_in - 1);
        if (when == 1) {
            wait_for(RUNNING, "it does not run");
            for (int i = 0; i < 40; i++) edge();
        } else if (when == 2) {
            wait_for(SENDING, "a run does not end");
            receive(beats_out / 2, 0);
        }
        in_reset = true;
        put(0x00, 3);
        for (int i = 0; i < 400; i++) {
            edge();
            if (i > 4) check(!ip->m_axis_tvalid && !ip->s_axis_tready, "a stream moves during reset");
        }
        check(get(0x14) == 0, "IMAGES is not 0 after RESET");
        put(0x00, 1);
        in_reset = false;
        image(when);
        check(get(0x10) == strtoul(words[7], nullptr, 10), "CYCLES is wrong after RESET");
        check(get(0x14) == 1, "IMAGES does not count after RESET");
    }

    // without ENABLE nothing more is taken
    put(0x00, 0);
    ip->s_axis_tvalid = 1;
    for (int i = 0; i < 20; i++) {
        edge();
        check(!ip->s_axis_tready, "s_axis: a beat is taken without ENABLE");
    }
    ip->s_axis_tvalid = 0;
    return failures != 0;
}
