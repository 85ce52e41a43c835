// The IP block `dsode` behind a socket: its client is the processor that reads and writes the block's registers
// (AXI-Lite), and the DMA engine that moves states to it and answers from it (AXI4-Stream).
//     server STREAM_BYTES LIMIT PATIENCE_MS LEASE
// LIMIT        cycles after which a transfer has failed
// PATIENCE_MS  how long the rest of a request may take to come, and an answer to be taken
// LEASE        a FIFO: it serves until something is written there, or nobody can any more
// Prints "port N": it listens there, on 127.0.0.1 only.
//
// One client at a time; each finds the block as after loading a bitstream: nothing of another client is left.
// A client is greeted with 8 bytes, "dsodePL1", or "inuse..." and the end of the connection. Then, all numbers
// 32 bits and little endian:
//     request   operation (a letter), a, b [, data]      answer   status, value, size [, data of that size]
//     'R'       a: byte offset                           value: what the register holds
//     'W'       a: byte offset, b: value                 no answer: writes are posted
//     'T'       a: bytes, b: limit in cycles or 0; data  value: cycles; data up to TLAST. Status 1: none in time
//     'X'       drop the beats of a transfer that failed: needed before the next one
// Status 0: done; 1: no answer in time; 2: not a request, and the connection ends; 3: the block broke its bus's
// protocol, in this request or in a write before it.
#include "Vdsode.h"
#include "verilated.h"
#include <arpa/inet.h>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <netinet/tcp.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

enum Status : uint32_t { DONE, NO_ANSWER, NO_REQUEST, BROKEN };
static const uint32_t MOST_BYTES = 1 << 24;
static std::unique_ptr<Vdsode> ip;
static long bytes, limit, patience_ms;
static int listener, lease;
static bool broken, stuck;

// ---------------------------------------------------------------- the block
static void edge() {
    ip->aclk = 1;
    ip->eval();
    ip->aclk = 0;
    ip->eval();
}

static void fresh(VerilatedContext& context) {
    ip.reset(new Vdsode(&context));
    ip->aresetn = 0;
    ip->s_axi_awvalid = ip->s_axi_wvalid = ip->s_axi_arvalid = ip->s_axis_tvalid = ip->m_axis_tready = 0;
    ip->s_axi_bready = ip->s_axi_rready = 1;
    ip->s_axi_wstrb = 15;
    for (int i = 0; i < 64; i++) edge();
    ip->aresetn = 1;
    edge();
    edge();
    broken = stuck = false;
}

static void write_register(uint32_t address, uint32_t value) {
    ip->s_axi_awaddr = address;
    ip->s_axi_wdata = value;
    ip->s_axi_awvalid = ip->s_axi_wvalid = 1;
    ip->eval();
    broken |= !ip->s_axi_awready || !ip->s_axi_wready;
    edge();
    ip->s_axi_awvalid = ip->s_axi_wvalid = 0;
    ip->eval();
    broken |= !ip->s_axi_bvalid || ip->s_axi_bresp;
    edge();
}

static uint32_t read_register(uint32_t address) {
    ip->s_axi_araddr = address;
    ip->s_axi_arvalid = 1;
    ip->eval();
    broken |= !ip->s_axi_arready;
    edge();
    ip->s_axi_arvalid = 0;
    ip->eval();
    broken |= !ip->s_axi_rvalid || ip->s_axi_rresp;
    const uint32_t value = ip->s_axi_rdata;
    edge();
    return value;
}

// Both channels of a DMA in simple mode: all of `data`, its last beat with TLAST; beats of the answer until TLAST.
static Status transfer(const std::string& data, long cycles, std::string& answer, uint32_t& took) {
    const long beats = (long(data.size()) + bytes - 1) / bytes;
    if (stuck) return NO_ANSWER;
    long sent = 0;
    for (bool ended = false; !ended || sent < beats; took++) {
        if (took >= cycles || answer.size() > MOST_BYTES) {
            ip->m_axis_tready = 0;
            stuck = true;                        // what is on offer stays on offer, until 'X'
            answer.clear();
            return NO_ANSWER;
        }
        if (!ip->s_axis_tvalid && sent < beats) {
            std::string beat = data.substr(sent * bytes, bytes);
            beat.resize(bytes);
            memcpy(&ip->s_axis_tdata, beat.data(), bytes);
            ip->s_axis_tlast = sent == beats - 1;
            ip->s_axis_tvalid = 1;
        }
        ip->m_axis_tready = !ended;
        ip->eval();
        const bool taken = ip->s_axis_tvalid && ip->s_axis_tready;
        if (ip->m_axis_tvalid && ip->m_axis_tready) {
            answer.append(reinterpret_cast<const char*>(&ip->m_axis_tdata), bytes);
            ended = ip->m_axis_tlast;
        }
        edge();
        if (taken) {
            sent++;
            ip->s_axis_tvalid = 0;
        }
    }
    ip->m_axis_tready = 0;
    return DONE;
}

// ---------------------------------------------------------------- its client
static long now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now().time_since_epoch()).count();
}

static bool give(int client, const void* data, size_t size) {
    for (const char* at = static_cast<const char*>(data); size;) {
        const ssize_t n = send(client, at, size, MSG_NOSIGNAL);      // SO_SNDTIMEO bounds it
        if (n <= 0) return false;
        at += n;
        size -= n;
    }
    return true;
}

// Wait for `client` or, below 0, for a client that comes; tells others that they cannot be served now.
// False when nothing came by `deadline_ms`; below 0: it waits for ever.
static bool wait_for(int client, long deadline_ms) {
    for (;;) {
        pollfd waiting[3] = {{listener, POLLIN, 0}, {client, POLLIN, 0}, {lease, POLLIN, 0}};
        poll(waiting, 3, deadline_ms < 0 ? -1 : 100);
        if (waiting[2].revents) exit(0);
        if (waiting[1].revents) return true;
        if (waiting[0].revents) {
            if (client < 0) return true;
            const int other = accept(listener, nullptr, nullptr);
            give(other, "inuse...", 8);
            close(other);
        }
        if (deadline_ms >= 0 && now_ms() > deadline_ms) return false;
    }
}

class Input {
    int client;
    std::string held;
    size_t at = 0;

public:
    explicit Input(int client) : client(client) {}

    // The next bytes; false when they do not come. Between requests a client may be silent as long as it likes.
    bool take(void* into, size_t size, bool begun) {
        long deadline_ms = begun ? now_ms() + patience_ms : -1;
        char block[65536];
        while (held.size() - at < size) {
            if (deadline_ms < 0 && held.size() > at) deadline_ms = now_ms() + patience_ms;
            if (!wait_for(client, deadline_ms)) return false;
            const ssize_t n = recv(client, block, sizeof block, 0);
            if (n <= 0) return false;
            held.erase(0, at);
            at = 0;
            held.append(block, n);
        }
        memcpy(into, held.data() + at, size);
        at += size;
        return true;
    }
};

static bool is_register(uint32_t offset) { return offset <= 0xfc && offset % 4 == 0; }

static void serve(int client) {
    Input input(client);
    uint32_t request[3];
    if (!give(client, "dsodePL1", 8)) return;
    while (input.take(request, sizeof request, false)) {
        const uint32_t a = request[1], b = request[2];
        std::string data, answer;
        uint32_t status = DONE, value = 0;
        if (request[0] == 'W' && is_register(a)) {
            write_register(a, b);
            continue;
        } else if (request[0] == 'R' && is_register(a)) {
            value = read_register(a);
        } else if (request[0] == 'T' && a > 0 && a <= MOST_BYTES) {
            data.resize(a);
            if (!input.take(&data[0], a, true)) return;
            status = transfer(data, b && b < limit ? b : limit, answer, value);
        } else if (request[0] == 'X') {
            ip->s_axis_tvalid = 0;
            edge();
            stuck = false;
        } else {
            status = NO_REQUEST;
        }
        if (broken) status = BROKEN;
        const uint32_t head[3] = {status, value, uint32_t(answer.size())};
        if (!give(client, head, sizeof head) || !give(client, answer.data(), answer.size())) return;
        if (status == NO_REQUEST) return;
    }
}

int main(int count, char** words) {
    if (count != 5 || (lease = open(words[4], O_RDONLY | O_NONBLOCK)) < 0) return 2;
    bytes = atol(words[1]);
    limit = atol(words[2]);
    patience_ms = atol(words[3]);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof place;
    if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&place), size) || listen(listener, 8)
        || getsockname(listener, reinterpret_cast<sockaddr*>(&place), &size)) {
        perror("the simulator cannot listen on 127.0.0.1");
        return 1;
    }
    printf("port %d\n", ntohs(place.sin_port));
    fflush(stdout);
    VerilatedContext context;
    context.randReset(2);          // registers start as noise: nothing may rely on what they hold
    for (;;) {
        wait_for(-1, -1);
        const int client = accept(listener, nullptr, nullptr);
        if (client < 0) continue;
        const int on = 1;
        const timeval longest{patience_ms / 1000, patience_ms % 1000 * 1000};
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &longest, sizeof longest);
        fresh(context);
        serve(client);
        close(client);
    }
}
