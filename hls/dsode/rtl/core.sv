`default_nettype none

// The engine: a program of passes over a state that never leaves the chip.
//
// A pass reads slots (a pair of neighbouring pixels, a group of channels), one a cycle, from the state memory or from
// the memory of middle values; a 3x3 depthwise convolution, a pointwise one and an update follow in one pipeline, and
// the result goes to either memory. In shape s the network has INPUTS << s channels and a slot LANES >> s of them.
// A pass may be strided: every second row and pair's left pixel are kept, and a pair of output pixels takes twice
// the groups. Passes of one shape follow each other without a gap, as far as each finds what it reads written.
//
// Cycles count from the one in which a slot's address stands at the memory (0):
//     3                        the slot is at the window; its own token comes ROW + GROUPS cycles later
//     token + 17               requantised depthwise values
//     token of last group + 19 all channels of the pair are held (cycle `held`)
//     held + g + SUM           sum of pointwise output group g, SUM = 14 + log2(INPUTS / 8) + SHAPES - 1
//     held + g + SUM + 5       result at the memory's write port
module dsode_core #(
    parameter LANES = 16,        // outputs of a slot in shape 0; channels of the depthwise lanes
    parameter INPUTS = 16,       // channels in shape 0, and inputs of the shortest dot product
    parameter SHAPES = 3,
    parameter R0 = 7, R1 = 16, R2 = 32,
    parameter T0 = 1, T1 = 4, T2 = 16,
    parameter ROWS = 98,         // rows of the state memory
    parameter MIDDLE_ROWS = 98,  // of the memory of middle values; 0 when f has one convolution
    parameter WEIGHT_ROWS = 64, LANE_ROWS = 64, BIAS_ROWS = 64, PASSES = 64,
    parameter STATE_STYLE = 1, WEIGHT_STYLE = 1, LANE_STYLE = 0, BIAS_STYLE = 0,
    parameter DEPTHWISE_DSP = 1,
    parameter LUT_BLOCKS = 0,    // of LANES / 2 pointwise blocks, how many are made of LUTs instead of DSPs
    parameter DEPTHWISE_SHIFT = 5, DEPTHWISE_SHIFT_BITS = 3,
    parameter POINTWISE_SHIFT = 5, POINTWISE_SHIFT_BITS = 3,
    parameter MIDDLE_HIGH = 127,
    parameter AW = (ROWS > 1) ? $clog2(ROWS) : 1
) (
    input  wire                clk,
    input  wire                rst,
    input  wire                start,
    output reg                 busy,
    output reg                 done,         // one cycle, after the last write
    // state memory from outside while not busy; h_rdata two cycles after h_ra
    input  wire                h_we,
    input  wire [AW-1:0]       h_wa,
    input  wire [16*LANES-1:0] h_wd,
    input  wire [AW-1:0]       h_ra,
    output wire [16*LANES-1:0] h_rd,
    // configuration: one 64-bit word of one bank
    input  wire                c_we,
    input  wire [15:0]         c_bank,
    input  wire [15:0]         c_row,
    input  wire [63:0]         c_data
);
    localparam BANKS = 1 << (SHAPES - 1);
    localparam GRANULE = LANES / BANKS;
    localparam GB = 16 * GRANULE;
    localparam WORD = 16 * LANES;
    localparam BLOCKS = LANES / 2;
    localparam CHANNELS = INPUTS << (SHAPES - 1);
    localparam CHAINS = INPUTS / 8;
    localparam LEVELS = $clog2(CHAINS);
    localparam SUM = 14 + LEVELS + SHAPES - 1;
    localparam SW = AW + SHAPES - 1;               // bits of a slot's number
    localparam GW = 8;
    localparam LAW = (LANE_ROWS > 1) ? $clog2(LANE_ROWS) : 1;
    localparam WAW = (WEIGHT_ROWS > 1) ? $clog2(WEIGHT_ROWS) : 1;
    localparam BAW = (BIAS_ROWS > 1) ? $clog2(BIAS_ROWS) : 1;
    localparam PAW = (PASSES > 1) ? $clog2(PASSES) : 1;
    // banks of the configuration bus
    localparam WEIGHT_BITS = 4 * LANES * CHAINS;   // of each of the eight positions in a chain
    localparam WEIGHT_BANKS = (WEIGHT_BITS + 63) / 64;
    localparam TAP_BANKS = (4 * LANES + 63) / 64;
    localparam FIRST_TAP = 8 * WEIGHT_BANKS;
    localparam FIRST_DBIAS = FIRST_TAP + 9 * TAP_BANKS;
    localparam FIRST_PBIAS = FIRST_DBIAS + LANES / 2;
    localparam FIRST_PASS = FIRST_PBIAS + LANES / 2;

    genvar i, j, k, e, p, b, g, o, c;

    // ------------------------------------------------------------------ configuration bus, one register for the fan-out
    reg        cfg_we;
    reg [15:0] cfg_bank, cfg_row;
    reg [63:0] cfg_data;
    always @(posedge clk) begin
        cfg_we <= c_we & ~rst;
        cfg_bank <= c_bank;
        cfg_row <= c_row;
        cfg_data <= c_data;
    end

    // ------------------------------------------------------------------ program and the sequence of reads
    wire [191:0] pass;
    reg [PAW-1:0] pc;
    dsode_table #(.WIDTH(192), .DEPTH(PASSES), .STYLE(0), .FIRST(FIRST_PASS)) program_ (
        .clk(clk), .c_we(cfg_we), .c_bank(cfg_bank), .c_row(cfg_row), .c_data(cfg_data), .ra(pc), .q(pass));
    wire [1:0]  d_shape = pass[1:0];
    wire        d_source = pass[2], d_target = pass[3], d_skip = pass[4], d_signed = pass[5], d_middle = pass[6];
    wire        d_strided = pass[7], d_last = pass[8];
    wire [15:0] d_slots = pass[31:16], d_gap = pass[47:32];
    wire [11:0] d_lag = pass[59:48];
    wire [7:0]  d_groups_in = pass[71:64], d_groups_out = pass[79:72], d_pairs_in = pass[87:80];
    wire [7:0]  d_height_in = pass[95:88], d_pairs_out = pass[103:96], d_height_out = pass[111:104];
    wire [15:0] d_width_out = pass[127:112];
    wire [15:0] d_lane_row = pass[143:128], d_weight_row = pass[159:144], d_bias_row = pass[175:160];

    // Counters run down, and what they are about to reach is a register of its own: few levels of logic
    reg [1:0]  shape;
    reg [1:0]  fetching;               // the first pass is on its way from the program memory
    reg        fetched;
    reg        reading, r_source, r_last, r_final, r_at_once, r_gap_is_one;
    reg [15:0] r_slot, r_left, r_gap, gap;
    reg        waiting, waited;        // between two passes
    wire       r_over = reading && r_final;
    wire       r_next = fetched || waited || (r_over && r_at_once);
    always @(posedge clk) begin
        if (rst) begin
            fetching <= 0;
            fetched <= 0;
            reading <= 0;
            waiting <= 0;
            waited <= 0;
            pc <= 0;
        end else begin
            fetched <= (fetching == 1);
            if (start && !busy) begin
                fetching <= 3;
                pc <= 0;
            end else if (fetching != 0) fetching <= fetching - 1;
            waited <= (r_over && r_gap_is_one && !r_last) || (waiting && gap == 2);
            if (r_next) begin
                reading <= 1;
                waiting <= 0;
                r_slot <= 0;
                r_left <= d_slots;
                r_final <= (d_slots == 0);
                r_gap <= d_gap;
                r_at_once <= (d_gap == 0) && !d_last;
                r_gap_is_one <= (d_gap == 1);
                r_source <= d_source;
                r_last <= d_last;
                shape <= d_shape;
                pc <= pc + 1;
            end else begin
                if (r_over) begin
                    reading <= 0;
                    waiting <= !r_last;
                end
                gap <= waiting ? gap - 1 : r_gap;
                r_slot <= r_slot + 1;
                r_left <= r_left - 1;
                r_final <= (r_left == 1);
            end
        end
    end

    // what the token side will need of the pass being read, and when
    reg [11:0]  lag;
    reg [191:0] pending;
    reg         t_load;
    always @(posedge clk) begin
        t_load <= (lag == 2) && !rst;
        if (rst) lag <= 0;
        else if (r_next) begin
            lag <= d_lag;
            pending <= pass;
        end else if (lag != 0) lag <= lag - 1;
    end

    // ------------------------------------------------------------------ tokens: where a slot's pair lies
    reg         token;                 // valid, one cycle before the window's `token`
    reg [7:0]   t_group, t_pair, t_row;
    reg         t_last_group, t_last_pair, t_last_row;
    reg [LAW-1:0] t_lane_row;
    reg [191:0] t_pass;
    reg         t_fresh;               // no pair of this pass is complete yet
    wire [7:0]  t_groups = t_pass[71:64], t_pairs = t_pass[87:80];
    reg [7:0]   t_groups_less, t_pairs_less, t_height_less;    // one less each
    wire        t_strided = t_pass[7];
    wire        complete_now = token && t_last_group && (!t_strided || (!t_row[0] && t_pair[0]));
    wire        lone = token && t_last_group && t_strided && !t_row[0] && !t_pair[0] && t_last_pair;
    reg [7:0]   lone_wait;             // a pair's left pixel alone ends a row: its outputs must wait their turn
    reg         lone_now;
    wire        complete = complete_now || lone_now;
    always @(posedge clk) begin
        if (rst) begin
            token <= 0;
            lone_wait <= 0;
            lone_now <= 0;
        end else begin
            lone_now <= (lone && t_groups == 0) || lone_wait == 1;
            if (lone) lone_wait <= t_groups;
            else if (lone_wait != 0) lone_wait <= lone_wait - 1;
            if (t_load) begin
                token <= 1;
                t_fresh <= 1;
                t_group <= 0;
                t_pair <= 0;
                t_row <= 0;
                t_last_group <= (pending[71:64] == 0);
                t_last_pair <= (pending[87:80] == 0);
                t_last_row <= (pending[95:88] == 0);
                t_groups_less <= pending[71:64] - 8'd1;
                t_pairs_less <= pending[87:80] - 8'd1;
                t_height_less <= pending[95:88] - 8'd1;
                t_lane_row <= pending[128 +: LAW];
                t_pass <= pending;
            end else begin
                if (complete) t_fresh <= 0;
                if (token) begin
                    t_group <= t_last_group ? 8'd0 : t_group + 8'd1;
                    t_last_group <= t_last_group ? t_groups == 0 : t_group == t_groups_less;
                    t_lane_row <= t_last_group ? t_pass[128 +: LAW] : t_lane_row + 1'b1;
                    if (t_last_group) begin
                        t_pair <= t_last_pair ? 8'd0 : t_pair + 8'd1;
                        t_last_pair <= t_last_pair ? t_pairs == 0 : t_pair == t_pairs_less;
                        if (t_last_pair) begin
                            t_row <= t_row + 8'd1;
                            t_last_row <= (t_row == t_height_less);
                            if (t_last_row) token <= 0;
                        end
                    end
                end
            end
        end
    end
    reg top, bottom, first, last;      // in the window's token cycle
    always @(posedge clk) begin
        top <= (t_row == 0);
        bottom <= t_last_row;
        first <= (t_pair == 0);
        last <= t_last_pair;
    end

    // ------------------------------------------------------------------ memories of the state, of its copy for the
    // update, and of middle values; a row holds BANKS granules, a slot of shape s BANKS >> s of them
    wire            w_en, w_target;    // the result at the write port
    wire [SW-1:0]   w_slot;
    wire [WORD-1:0] w_lanes;
    wire [SW-1:0]   s_slot;            // the slot whose state the update adds to
    wire [WORD-1:0] x_word, s_word, y_word;
    wire [SW-1:0]   r_address = r_slot[SW-1:0];
    wire [AW-1:0]   r_row = busy ? AW'(r_address >> shape) : h_ra;
    wire [AW-1:0]   w_row = busy ? AW'(w_slot >> shape) : h_wa;
    wire [AW-1:0]   s_row = AW'(s_slot >> shape);
    generate
        for (b = 0; b < BANKS; b = b + 1) begin : g_bank
            wire [1:0] sector = (SHAPES == 1 || shape == 0) ? 2'd0
                                : (shape == 1) ? 2'(b >> (SHAPES - 2 < 0 ? 0 : SHAPES - 2))
                                : 2'(b >> (SHAPES - 3 < 0 ? 0 : SHAPES - 3));
            wire [1:0] wanted = (SHAPES == 1 || shape == 0) ? 2'd0 : (shape == 1) ? {1'b0, w_slot[0]} : w_slot[1:0];
            wire hit = w_en && (SHAPES == 1 || sector == wanted);
            wire [GB-1:0] lanes0 = w_lanes[GB*b +: GB];
            wire [GB-1:0] lanes1 = w_lanes[GB*(b % ((BANKS > 1) ? BANKS / 2 : 1)) +: GB];
            wire [GB-1:0] lanes2 = w_lanes[GB*(b % ((BANKS > 2) ? BANKS / 4 : 1)) +: GB];
            wire [GB-1:0] result = (SHAPES == 1 || shape == 0) ? lanes0 : (SHAPES == 2 || shape == 1) ? lanes1 : lanes2;
            wire [GB-1:0] wd = busy ? result : h_wd[GB*b +: GB];
            wire x_we = busy ? hit && !w_target : h_we;
            dsode_ram #(.WIDTH(GB), .DEPTH(ROWS), .STYLE(STATE_STYLE)) x_ram (
                .clk(clk), .we(x_we), .wa(w_row), .wd(wd), .ra(r_row), .q(x_word[GB*b +: GB]));
            dsode_ram #(.WIDTH(GB), .DEPTH(ROWS), .STYLE(STATE_STYLE)) s_ram (
                .clk(clk), .we(x_we), .wa(w_row), .wd(wd), .ra(s_row), .q(s_word[GB*b +: GB]));
            if (MIDDLE_ROWS > 0) begin : g_middle
                localparam MAW = (MIDDLE_ROWS > 1) ? $clog2(MIDDLE_ROWS) : 1;
                dsode_ram #(.WIDTH(GB), .DEPTH(MIDDLE_ROWS), .STYLE(STATE_STYLE)) y_ram (
                    .clk(clk), .we(hit && w_target), .wa(w_row[MAW-1:0]), .wd(result), .ra(r_row[MAW-1:0]),
                    .q(y_word[GB*b +: GB]));
            end else begin : g_none
                assign y_word[GB*b +: GB] = 0;
            end
        end
    endgenerate
    assign h_rd = x_word;

    // slots from rows: bank j of a slot lies at bank (offset | j), a multiple of the slot's size further
    wire [1:0] r_offset, s_offset;
    wire r_from_middle;
    wire [1:0] r_offset_now = (shape == 0 || SHAPES == 1) ? 2'd0
                              : (shape == 1) ? (SHAPES == 2 ? {1'b0, r_address[0]} : {r_address[0], 1'b0})
                              : r_address[1:0];
    wire [1:0] s_offset_now = (shape == 0 || SHAPES == 1) ? 2'd0
                              : (shape == 1) ? (SHAPES == 2 ? {1'b0, s_slot[0]} : {s_slot[0], 1'b0})
                              : s_slot[1:0];
    dsode_delay #(.DEPTH(2), .WIDTH(3)) r_late (
        .clk(clk), .d({r_source, r_offset_now}), .q({r_from_middle, r_offset}));
    dsode_delay #(.DEPTH(2), .WIDTH(2)) s_late (.clk(clk), .d(s_offset_now), .q(s_offset));
    reg [WORD-1:0] z, skip_lanes;
    generate
        for (g = 0; g < BANKS; g = g + 1) begin : g_slot
            localparam STRIDE = (g == 0) ? 1 : (g == 1) ? 2 : 4;
            localparam CHOICES = (BANKS / STRIDE > 0) ? BANKS / STRIDE : 1;
            wire [1:0] r_choice = r_offset / STRIDE, s_choice = s_offset / STRIDE;
            wire [GB*CHOICES-1:0] xs, ys, ss;
            for (c = 0; c < CHOICES; c = c + 1) begin : g_choice
                assign xs[GB*c +: GB] = x_word[GB*(g + c*STRIDE) +: GB];
                assign ys[GB*c +: GB] = y_word[GB*(g + c*STRIDE) +: GB];
                assign ss[GB*c +: GB] = s_word[GB*(g + c*STRIDE) +: GB];
            end
            if (CHOICES == 1) begin : g_one
                always @(posedge clk) begin
                    z[GB*g +: GB] <= (MIDDLE_ROWS > 0 && r_from_middle) ? ys : xs;
                    skip_lanes[GB*g +: GB] <= ss;
                end
            end else begin : g_many
                always @(posedge clk) begin
                    z[GB*g +: GB] <= (MIDDLE_ROWS > 0 && r_from_middle) ? ys[GB*r_choice +: GB]
                                                                        : xs[GB*r_choice +: GB];
                    skip_lanes[GB*g +: GB] <= ss[GB*s_choice +: GB];
                end
            end
        end
    endgenerate

    // ------------------------------------------------------------------ depthwise
    wire [9*WORD-1:0] taps;
    dsode_window #(
        .LANES(LANES), .GRANULE(GRANULE), .SHAPES(SHAPES),
        .R0(R0), .R1(R1), .R2(R2), .T0(T0), .T1(T1), .T2(T2)
    ) window (.clk(clk), .shape(shape), .z(z), .top(top), .bottom(bottom), .first(first), .last(last), .taps(taps));

    wire [9*4*LANES-1:0] tap_weights;
    generate
        for (j = 0; j < 9; j = j + 1) begin : g_taps
            wire [LAW-1:0] row;
            dsode_delay #(.DEPTH(j), .WIDTH(LAW)) late (.clk(clk), .d(t_lane_row), .q(row));
            dsode_table #(.WIDTH(4*LANES), .DEPTH(LANE_ROWS), .STYLE(LANE_STYLE), .FIRST(FIRST_TAP + j*TAP_BANKS)) table_ (
                .clk(clk), .c_we(cfg_we), .c_bank(cfg_bank), .c_row(cfg_row), .c_data(cfg_data), .ra(row),
                .q(tap_weights[4*LANES*j +: 4*LANES]));
        end
    endgenerate
    wire [LAW-1:0] lane_bias_row;
    wire [32*LANES-1:0] lane_bias;       // a word a channel: bias 15..0, shift 18..16
    dsode_delay #(.DEPTH(2), .WIDTH(LAW)) lane_bias_late (.clk(clk), .d(t_lane_row), .q(lane_bias_row));
    dsode_table #(.WIDTH(32*LANES), .DEPTH(LANE_ROWS), .STYLE(LANE_STYLE), .FIRST(FIRST_DBIAS)) lane_bias_table (
        .clk(clk), .c_we(cfg_we), .c_bank(cfg_bank), .c_row(cfg_row), .c_data(cfg_data), .ra(lane_bias_row),
        .q(lane_bias));
    wire twin;
    dsode_delay #(.DEPTH(17), .WIDTH(1)) twin_late (.clk(clk), .d(t_strided), .q(twin));
    wire [4*LANES-1:0] act0, act1;
    generate
        for (e = 0; e < LANES; e = e + 1) begin : g_lane
            wire [71:0] x0, x1;
            wire [35:0] w;
            for (j = 0; j < 9; j = j + 1) begin : g_tap
                assign x0[8*j +: 8] = taps[WORD*j + GB*(e/GRANULE) + 8*(e%GRANULE) +: 8];
                assign x1[8*j +: 8] = taps[WORD*j + GB*(e/GRANULE) + GB/2 + 8*(e%GRANULE) +: 8];
                assign w[4*j +: 4] = tap_weights[4*LANES*j + 4*e +: 4];
            end
            dsode_depthwise #(
                .USE_DSP(DEPTHWISE_DSP), .SHIFT(DEPTHWISE_SHIFT), .SHIFT_BITS(DEPTHWISE_SHIFT_BITS)
            ) lane (
                .clk(clk), .x0(x0), .x1(x1), .w(w), .bias(lane_bias[32*e +: 16]), .shift(lane_bias[32*e+16 +: 3]),
                .twin(twin), .y0(act0[4*e +: 4]), .y1(act1[4*e +: 4]));
        end
    endgenerate

    // ------------------------------------------------------------------ collect all channels of a pair, then hold them
    wire [7:0] a_group;
    wire a_left, a_right, held_next, held_fresh;
    wire keep_left = token && (!t_strided || (!t_row[0] && !t_pair[0]));
    wire keep_right = token && (!t_strided || (!t_row[0] && t_pair[0]));
    dsode_delay #(.DEPTH(16), .WIDTH(10)) collect_late (
        .clk(clk), .d({keep_left, keep_right, t_group}), .q({a_left, a_right, a_group}));
    dsode_delay #(.DEPTH(19), .WIDTH(2)) held_late (
        .clk(clk), .d({complete & ~rst, t_fresh}), .q({held_next, held_fresh}));
    localparam SLICES = CHANNELS / GRANULE;        // granules of a pair
    reg [4*CHANNELS-1:0] left, right, hold_left, hold_right;
    generate
        for (g = 0; g < SLICES; g = g + 1) begin : g_collect
            // the slot and the lane granule that hold these channels, in each shape
            localparam S0 = g / BANKS, L0 = g % BANKS;
            localparam S1 = g / ((BANKS > 1) ? BANKS / 2 : 1), L1 = g % ((BANKS > 1) ? BANKS / 2 : 1);
            localparam S2 = g / ((BANKS > 2) ? BANKS / 4 : 1), L2 = g % ((BANKS > 2) ? BANKS / 4 : 1);
            reg is0, is1, is2;
            reg my_left, my_right, en_left, en_right;
            wire mine = (SHAPES == 1 || shape == 0) ? is0 : (SHAPES == 2 || shape == 1) ? is1 : is2;
            always @(posedge clk) begin
                // two steps: compare, then choose
                is0 <= (a_group == S0);
                is1 <= (a_group == S1);
                is2 <= (a_group == S2);
                my_left <= a_left;
                my_right <= a_right;
                en_left <= mine && my_left;
                en_right <= mine && my_right;
                if (en_left)
                    left[4*GRANULE*g +: 4*GRANULE] <= act0[4*GRANULE*((SHAPES == 1 || shape == 0) ? L0
                        : (SHAPES == 2 || shape == 1) ? L1 : L2) +: 4*GRANULE];
                if (en_right)
                    right[4*GRANULE*g +: 4*GRANULE] <= act1[4*GRANULE*((SHAPES == 1 || shape == 0) ? L0
                        : (SHAPES == 2 || shape == 1) ? L1 : L2) +: 4*GRANULE];
            end
        end
    endgenerate
    always @(posedge clk) if (held_next) begin
        hold_left <= left;
        hold_right <= right;
    end

    // ------------------------------------------------------------------ output groups of the pair that is held
    reg         out;                   // valid from cycle `held`
    reg [7:0]   o_group, o_pair, o_row;
    reg         o_last_group, o_last_pair, o_last_row;
    reg [WAW-1:0] o_weight_row;
    reg [BAW-1:0] o_bias_row;
    reg [191:0] o_pass;
    reg         o_fresh;               // first group of the pass
    wire [7:0]  o_groups = o_pass[79:72], o_pairs = o_pass[103:96];
    reg [7:0]   o_groups_less, o_pairs_less, o_height_less;
    always @(posedge clk) begin
        if (rst) out <= 0;
        else if (held_next) begin
            out <= 1;
            o_group <= 0;
            o_fresh <= held_fresh;
            if (held_fresh) begin
                o_pass <= t_pass;
                o_weight_row <= t_pass[144 +: WAW];
                o_bias_row <= t_pass[160 +: BAW];
                o_pair <= 0;
                o_row <= 0;
                o_last_group <= (t_pass[79:72] == 0);
                o_last_pair <= (t_pass[103:96] == 0);
                o_last_row <= (t_pass[111:104] == 0);
                o_groups_less <= t_pass[79:72] - 8'd1;
                o_pairs_less <= t_pass[103:96] - 8'd1;
                o_height_less <= t_pass[111:104] - 8'd1;
            end else begin
                o_weight_row <= o_pass[144 +: WAW];
                o_bias_row <= o_pass[160 +: BAW];
                o_last_group <= (o_groups == 0);
                o_pair <= o_last_pair ? 8'd0 : o_pair + 8'd1;
                o_last_pair <= o_last_pair ? o_pairs == 0 : o_pair == o_pairs_less;
                if (o_last_pair) begin
                    o_row <= o_row + 8'd1;
                    o_last_row <= (o_row == o_height_less);
                end
            end
        end else if (out) begin
            o_fresh <= 0;
            o_group <= o_group + 8'd1;
            o_last_group <= (o_group == o_groups_less);
            o_weight_row <= o_weight_row + 1'b1;
            o_bias_row <= o_bias_row + 1'b1;
            if (o_last_group) out <= 0;
        end
    end
    wire o_last = out && o_last_group && o_last_pair && o_last_row && o_pass[8];
    reg  o_zero_left, o_zero_right;    // a cycle later
    always @(posedge clk) begin
        o_zero_left <= {o_pair, 1'b0} >= o_pass[120:112];
        o_zero_right <= {o_pair, 1'b1} >= o_pass[120:112];
    end

    // ------------------------------------------------------------------ pointwise: block o sees INPUTS channels of the
    // held ones, part o mod 2^shape; blocks are added up in pairs, once a halving
    wire [8*INPUTS*BANKS-1:0] parts;   // {right, left} a channel, skewed by its position in a chain
    generate
        for (k = 0; k < BANKS; k = k + 1) begin : g_part
            localparam P1 = k % 2, P2 = k % 4;
            reg [8*INPUTS-1:0] chosen, again;
            integer n;
            always @(posedge clk) begin
                for (n = 0; n < INPUTS; n = n + 1)
                    chosen[8*n +: 8] <= (SHAPES == 1 || shape == 0) ? {hold_right[4*n +: 4], hold_left[4*n +: 4]}
                        : (SHAPES == 2 || shape == 1)
                        ? {hold_right[4*(INPUTS*P1 + n) +: 4], hold_left[4*(INPUTS*P1 + n) +: 4]}
                        : {hold_right[4*(INPUTS*P2 + n) +: 4], hold_left[4*(INPUTS*P2 + n) +: 4]};
                again <= chosen;
            end
            for (c = 0; c < INPUTS; c = c + 1) begin : g_skew
                dsode_delay #(.DEPTH(c % 8), .WIDTH(8)) skew (
                    .clk(clk), .d(again[8*c +: 8]), .q(parts[8*(INPUTS*k + c) +: 8]));
            end
        end
    endgenerate
    wire [8*WEIGHT_BITS-1:0] weights;
    generate
        for (i = 0; i < 8; i = i + 1) begin : g_position
            wire [WAW-1:0] row;
            dsode_delay #(.DEPTH(i), .WIDTH(WAW)) late (.clk(clk), .d(o_weight_row), .q(row));
            dsode_table #(.WIDTH(WEIGHT_BITS), .DEPTH(WEIGHT_ROWS), .STYLE(WEIGHT_STYLE), .FIRST(i*WEIGHT_BANKS)) table_ (
                .clk(clk), .c_we(cfg_we), .c_bank(cfg_bank), .c_row(cfg_row), .c_data(cfg_data), .ra(row),
                .q(weights[WEIGHT_BITS*i +: WEIGHT_BITS]));
        end
    endgenerate
    localparam W0 = 11 + LEVELS, W1 = W0 + 1, W2 = W0 + 2;
    wire [4*W0*BLOCKS-1:0] dots;
    generate
        for (o = 0; o < BLOCKS; o = o + 1) begin : g_block
            wire [4*INPUTS-1:0] a0, a1, w0, w1;
            for (c = 0; c < INPUTS; c = c + 1) begin : g_input
                assign {a1[4*c +: 4], a0[4*c +: 4]} = parts[8*(INPUTS*(o % BANKS) + c) +: 8];
                assign w0[4*c +: 4] = weights[WEIGHT_BITS*(c%8) + 4*(CHAINS*(2*o) + c/8) +: 4];
                assign w1[4*c +: 4] = weights[WEIGHT_BITS*(c%8) + 4*(CHAINS*(2*o+1) + c/8) +: 4];
            end
            dsode_dot #(.INPUTS(INPUTS), .USE_DSP(o >= LUT_BLOCKS)) dot (
                .clk(clk), .a0(a0), .a1(a1), .w0(w0), .w1(w1), .y(dots[4*W0*o +: 4*W0]));
        end
    endgenerate
    // sums over two and four blocks, each shape's delayed to come at the same time
    wire [4*W0*BLOCKS-1:0] dots_late;
    dsode_delay #(.DEPTH(SHAPES - 1), .WIDTH(4*W0*BLOCKS)) dots_line (.clk(clk), .d(dots), .q(dots_late));
    wire [4*W1*BLOCKS/2-1:0] twos_late;
    wire [4*W2*BLOCKS/2-1:0] fours;
    generate
        if (SHAPES > 1) begin : g_twos
            reg [4*W1*BLOCKS/2-1:0] twos;
            integer n;
            always @(posedge clk)
                for (n = 0; n < 4 * (BLOCKS / 2); n = n + 1)
                    twos[W1*n +: W1] <= dots[W0*(8*(n/4) + n%4) +: W0] + dots[W0*(8*(n/4) + 4 + n%4) +: W0];
            dsode_delay #(.DEPTH(SHAPES - 2), .WIDTH(4*W1*BLOCKS/2)) twos_line (.clk(clk), .d(twos), .q(twos_late));
            if (SHAPES > 2) begin : g_fours
                reg [4*W2*BLOCKS/2-1:0] sums;
                integer m;
                always @(posedge clk)
                    for (m = 0; m < 4 * (BLOCKS / 4); m = m + 1)
                        sums[W2*m +: W2] <= twos[W1*(8*(m/4) + m%4) +: W1] + twos[W1*(8*(m/4) + 4 + m%4) +: W1];
                assign fours = sums;
            end else begin : g_no_fours
                assign fours = 0;
            end
        end else begin : g_no_twos
            assign twos_late = 0;
            assign fours = 0;
        end
    endgenerate
    reg [20*2*LANES-1:0] sums;         // lane e of pixel p at 20 * (2 * e + p)
    generate
        for (o = 0; o < BLOCKS; o = o + 1) begin : g_sum
            for (k = 0; k < 4; k = k + 1) begin : g_field     // k = {output of the pair, pixel}
                localparam AT = 20 * (2 * (2*o + k/2) + k%2);
                always @(posedge clk)
                    sums[AT +: 20] <= (SHAPES > 2 && shape == 2 && o < BLOCKS / 4) ? fours[W2*(4*(o % ((BLOCKS > 3) ? BLOCKS/4 : 1)) + k) +: W2]
                        : (SHAPES > 1 && shape == 1 && o < BLOCKS / 2) ? twos_late[W1*(4*(o % ((BLOCKS > 1) ? BLOCKS/2 : 1)) + k) +: W1]
                        : dots_late[W0*(4*o + k) +: W0];
            end
        end
    endgenerate

    // ------------------------------------------------------------------ update and write-back
    wire [BAW-1:0] bias_row;
    wire [32*LANES-1:0] out_bias;        // a word a channel: bias 19..0, shift 26..24
    dsode_delay #(.DEPTH(SUM - 2), .WIDTH(BAW)) bias_late (.clk(clk), .d(o_bias_row), .q(bias_row));
    dsode_table #(.WIDTH(32*LANES), .DEPTH(BIAS_ROWS), .STYLE(BIAS_STYLE), .FIRST(FIRST_PBIAS)) bias_table (
        .clk(clk), .c_we(cfg_we), .c_bank(cfg_bank), .c_row(cfg_row), .c_data(cfg_data), .ra(bias_row), .q(out_bias));
    // flags of the output group, where they are needed
    wire s_out, s_fresh, u_skip, u_signed, u_middle, u_left, u_right, w_fresh, w_last;
    dsode_delay #(.DEPTH(SUM - 2), .WIDTH(2)) skip_early (.clk(clk), .d({out & ~rst, o_fresh}), .q({s_out, s_fresh}));
    dsode_delay #(.DEPTH(SUM + 2), .WIDTH(1)) skip_late (.clk(clk), .d(o_pass[4]), .q(u_skip));
    dsode_delay #(.DEPTH(SUM + 3), .WIDTH(2)) mode_late (
        .clk(clk), .d({o_pass[5], o_pass[6]}), .q({u_signed, u_middle}));
    dsode_delay #(.DEPTH(SUM + 2), .WIDTH(2)) zero_late (
        .clk(clk), .d({o_zero_left, o_zero_right}), .q({u_left, u_right}));
    wire w_out, w_to_middle;
    dsode_delay #(.DEPTH(SUM + 4), .WIDTH(4)) write_early (
        .clk(clk), .d({out & ~rst, o_fresh, o_last & ~rst, o_pass[3]}), .q({w_out, w_fresh, w_last, w_to_middle}));
    reg [SW-1:0] s_count, w_count;
    reg w_valid, w_middle, w_final;
    always @(posedge clk) begin
        if (s_out) s_count <= s_fresh ? 0 : s_count + 1'b1;
        if (w_out) w_count <= w_fresh ? 0 : w_count + 1'b1;
        w_valid <= w_out & ~rst;
        w_middle <= w_to_middle;
        w_final <= w_last & w_out & ~rst;
    end
    assign s_slot = s_count;
    assign w_slot = w_count;
    assign w_en = w_valid;
    assign w_target = w_middle;
    generate
        for (e = 0; e < LANES; e = e + 1) begin : g_update
            for (p = 0; p < 2; p = p + 1) begin : g_pixel
                localparam AT = GB*(e/GRANULE) + (GB/2)*p + 8*(e%GRANULE);
                dsode_update #(
                    .SHIFT(POINTWISE_SHIFT), .SHIFT_BITS(POINTWISE_SHIFT_BITS), .MIDDLE_HIGH(MIDDLE_HIGH)
                ) update (
                    .clk(clk), .sum(sums[20*(2*e+p) +: 20]), .bias(out_bias[32*e +: 20]),
                    .shift(out_bias[32*e+24 +: 3]), .x(skip_lanes[AT +: 8]), .skip(u_skip),
                    .signed_state(u_signed), .middle(u_middle), .zero((p == 0) ? u_left : u_right),
                    .y(w_lanes[AT +: 8]));
            end
        end
    endgenerate

    always @(posedge clk) begin
        done <= 0;
        if (rst) busy <= 0;
        else if (!busy) begin
            if (start) busy <= 1;
        end else if (w_final) begin
            busy <= 0;
            done <= 1;
        end
    end
endmodule

`default_nettype wire
