`default_nettype none

// The engine as an IP block: AXI-Lite for control and for the tables, AXI4-Stream for states.
//
// Once ENABLE is set it waits for a state of IN_ROWS rows on s_axis, runs the program over it, and sends the last
// state, OUT_ROWS rows, on m_axis with TLAST; then it waits for the next. A row is 2 x LANES bytes in the order of
// hwkit's pack_state, lowest byte first, STREAM bits a beat.
//
// Registers (byte address, 32 bits each)
//     0x00 CONTROL   bit 0 ENABLE, bit 1 RESET (the engine is held in reset while set)
//     0x04 STATUS    bit 0 running, bit 1 receiving, bit 2 sending, bit 3 TLAST came at the wrong beat (write 1 clears)
//     0x08 MAGIC     reads "dsod"
//     0x0C DIGEST    of the design: a driver refuses tables made for another one
//     0x10 CYCLES    of the last run, from its start to its last write
//     0x14 IMAGES    runs since reset
//     0x20 TABLE     bank in bits 31..16, row in bits 15..0
//     0x24 LOW       bits 31..0 of a table's word
//     0x28 HIGH      bits 63..32; writing it stores the word and moves on to the next row of the bank
module dsode #(
    parameter LANES = 16, INPUTS = 16, SHAPES = 3,
    parameter R0 = 7, R1 = 16, R2 = 32, T0 = 1, T1 = 4, T2 = 16,
    parameter ROWS = 98, MIDDLE_ROWS = 98, WEIGHT_ROWS = 64, LANE_ROWS = 64, BIAS_ROWS = 64, PASSES = 64,
    parameter STATE_STYLE = 1, WEIGHT_STYLE = 1, LANE_STYLE = 0, BIAS_STYLE = 0,
    parameter DEPTHWISE_DSP = 1, LUT_BLOCKS = 0,
    parameter DEPTHWISE_SHIFT = 5, DEPTHWISE_SHIFT_BITS = 3, POINTWISE_SHIFT = 5, POINTWISE_SHIFT_BITS = 3,
    parameter MIDDLE_HIGH = 127,
    parameter IN_ROWS = 98, OUT_ROWS = 32,
    parameter STREAM = 128,
    parameter [31:0] DIGEST = 32'd0
) (
    input  wire                aclk,
    input  wire                aresetn,
    input  wire [7:0]          s_axi_awaddr,
    input  wire                s_axi_awvalid,
    output wire                s_axi_awready,
    input  wire [31:0]         s_axi_wdata,
    input  wire [3:0]          s_axi_wstrb,
    input  wire                s_axi_wvalid,
    output wire                s_axi_wready,
    output wire [1:0]          s_axi_bresp,
    output reg                 s_axi_bvalid,
    input  wire                s_axi_bready,
    input  wire [7:0]          s_axi_araddr,
    input  wire                s_axi_arvalid,
    output wire                s_axi_arready,
    output reg  [31:0]         s_axi_rdata,
    output wire [1:0]          s_axi_rresp,
    output reg                 s_axi_rvalid,
    input  wire                s_axi_rready,
    input  wire [STREAM-1:0]   s_axis_tdata,
    input  wire                s_axis_tvalid,
    output wire                s_axis_tready,
    input  wire                s_axis_tlast,
    output wire [STREAM-1:0]   m_axis_tdata,
    output wire [STREAM/8-1:0] m_axis_tkeep,
    output wire                m_axis_tvalid,
    input  wire                m_axis_tready,
    output wire                m_axis_tlast
);
    localparam WORD = 16 * LANES;
    localparam BEATS = WORD / STREAM;
    localparam AW = (ROWS > 1) ? $clog2(ROWS) : 1;

    // ------------------------------------------------------------------ registers
    reg         enable, reset_engine, misplaced, c_we;
    reg [15:0]  c_bank, c_row;
    reg [31:0]  low, high, cycles, counting, images;
    reg         rst;
    wire        busy, done;
    reg [1:0]   state;
    localparam [1:0] RECEIVE = 2'd0, RUN = 2'd1, SEND = 2'd2;

    wire write = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid;
    assign s_axi_awready = write;
    assign s_axi_wready = write;
    assign s_axi_bresp = 2'b00;
    assign s_axi_arready = s_axi_arvalid && !s_axi_rvalid;
    assign s_axi_rresp = 2'b00;
    wire bad_last;
    always @(posedge aclk) begin
        rst <= !aresetn || reset_engine;
        c_we <= 1'b0;
        if (c_we) c_row <= c_row + 16'd1;
        if (!aresetn) begin
            s_axi_bvalid <= 1'b0;
            s_axi_rvalid <= 1'b0;
            enable <= 1'b0;
            reset_engine <= 1'b0;
            misplaced <= 1'b0;
        end else begin
            if (bad_last) misplaced <= 1'b1;
            if (write) begin
                s_axi_bvalid <= 1'b1;
                if (&s_axi_wstrb) case (s_axi_awaddr[7:2])
                    6'h00: {reset_engine, enable} <= s_axi_wdata[1:0];
                    6'h01: if (s_axi_wdata[3]) misplaced <= 1'b0;
                    6'h08: {c_bank, c_row} <= s_axi_wdata;
                    6'h09: low <= s_axi_wdata;
                    6'h0a: begin
                        high <= s_axi_wdata;
                        c_we <= 1'b1;
                    end
                    default: ;
                endcase
            end else if (s_axi_bready) s_axi_bvalid <= 1'b0;
            if (s_axi_arready) begin
                s_axi_rvalid <= 1'b1;
                case (s_axi_araddr[7:2])
                    6'h00: s_axi_rdata <= {30'd0, reset_engine, enable};
                    6'h01: s_axi_rdata <= {28'd0, misplaced, state == SEND, state == RECEIVE && enable, busy};
                    6'h02: s_axi_rdata <= "dsod";
                    6'h03: s_axi_rdata <= DIGEST;
                    6'h04: s_axi_rdata <= cycles;
                    6'h05: s_axi_rdata <= images;
                    default: s_axi_rdata <= 32'd0;
                endcase
            end else if (s_axi_rready) s_axi_rvalid <= 1'b0;
        end
    end

    // ------------------------------------------------------------------ one state in, a run, one state out
    // Counters run down to a flag that is a register of its own: few levels of logic
    reg [WORD-1:0] row_in, row_out;
    reg [7:0]      beat, beat_out;
    reg            last_beat, last_beat_out, last_row_in, last_row_out, none_left;
    reg [AW:0]     rows_in, rows_left;
    reg            h_we, start;
    reg [AW-1:0]   h_wa, h_ra;
    wire [WORD-1:0] h_rd;
    reg            sending;            // row_out holds beats that were not taken yet
    reg [2:0]      fetch;              // one bit for each cycle until h_rd holds row h_ra
    reg            ready;
    wire           take = s_axis_tvalid && ready;
    wire           full_row = take && last_beat;
    wire           full_state = full_row && last_row_in;
    wire           taken = sending && m_axis_tready;
    wire           row_gone = taken && last_beat_out;
    assign s_axis_tready = ready;
    assign m_axis_tvalid = sending;
    assign m_axis_tdata = row_out[STREAM-1:0];
    assign m_axis_tkeep = {STREAM/8{1'b1}};
    assign m_axis_tlast = last_beat_out && none_left;
    wire           next_row = state == SEND && !fetch[0] && !none_left && (!sending || row_gone);
    reg            wrong_last;
    assign bad_last = wrong_last;
    generate
        if (BEATS == 1) begin : g_row
            always @(posedge aclk) if (take) row_in <= s_axis_tdata;
        end else begin : g_rows
            always @(posedge aclk) if (take) row_in <= {s_axis_tdata, row_in[WORD-1:STREAM]};
        end
    endgenerate
    always @(posedge aclk) begin
        h_we <= full_row;
        start <= 1'b0;
        wrong_last <= take && s_axis_tlast != (last_beat && last_row_in);
        if (full_row) h_wa <= rows_in[AW-1:0];
        counting <= start ? 32'd1 : counting + 32'd1;
        if (rst) begin
            state <= RECEIVE;
            ready <= 1'b0;
            beat <= 0;
            last_beat <= (BEATS == 1);
            rows_in <= 0;
            last_row_in <= (IN_ROWS == 1);
            sending <= 1'b0;
            h_we <= 1'b0;
            images <= 0;
        end else begin
            ready <= enable && state == RECEIVE && !full_state && !start;
            if (take) begin
                beat <= last_beat ? 8'd0 : beat + 8'd1;
                last_beat <= (BEATS == 1) || (!last_beat && beat == BEATS - 2);
            end
            if (full_row) begin
                rows_in <= last_row_in ? 0 : rows_in + 1'b1;
                last_row_in <= (IN_ROWS == 1) || (!last_row_in && rows_in == IN_ROWS - 2);
            end
            if (full_state) begin
                state <= RUN;
                start <= 1'b1;         // one cycle after the last row is written
            end
            fetch <= fetch >> 1;
            if (state == RUN && done) begin
                state <= SEND;
                cycles <= counting;
                images <= images + 32'd1;
                h_ra <= 0;
                rows_left <= OUT_ROWS;
                none_left <= 1'b0;
                fetch <= 3'b111;
            end
            if (taken) begin
                beat_out <= beat_out + 8'd1;
                last_beat_out <= (BEATS == 1) || beat_out == BEATS - 2;
                row_out <= row_out >> STREAM;
                if (row_gone) begin
                    sending <= 1'b0;
                    if (none_left) state <= RECEIVE;
                end
            end
            if (next_row) begin
                row_out <= h_rd;
                sending <= 1'b1;
                beat_out <= 0;
                last_beat_out <= (BEATS == 1);
                rows_left <= rows_left - 1'b1;
                none_left <= (rows_left == 1);
                h_ra <= h_ra + 1'b1;
                fetch <= 3'b111;
            end
        end
    end

    dsode_core #(
        .LANES(LANES), .INPUTS(INPUTS), .SHAPES(SHAPES),
        .R0(R0), .R1(R1), .R2(R2), .T0(T0), .T1(T1), .T2(T2),
        .ROWS(ROWS), .MIDDLE_ROWS(MIDDLE_ROWS), .WEIGHT_ROWS(WEIGHT_ROWS), .LANE_ROWS(LANE_ROWS),
        .BIAS_ROWS(BIAS_ROWS), .PASSES(PASSES),
        .STATE_STYLE(STATE_STYLE), .WEIGHT_STYLE(WEIGHT_STYLE), .LANE_STYLE(LANE_STYLE), .BIAS_STYLE(BIAS_STYLE),
        .DEPTHWISE_DSP(DEPTHWISE_DSP), .LUT_BLOCKS(LUT_BLOCKS),
        .DEPTHWISE_SHIFT(DEPTHWISE_SHIFT), .DEPTHWISE_SHIFT_BITS(DEPTHWISE_SHIFT_BITS),
        .POINTWISE_SHIFT(POINTWISE_SHIFT), .POINTWISE_SHIFT_BITS(POINTWISE_SHIFT_BITS),
        .MIDDLE_HIGH(MIDDLE_HIGH)
    ) core (
        .clk(aclk), .rst(rst), .start(start), .busy(busy), .done(done),
        .h_we(h_we), .h_wa(h_wa), .h_wd(row_in), .h_ra(h_ra), .h_rd(h_rd),
        .c_we(c_we), .c_bank(c_bank), .c_row(c_row), .c_data({high, low}));
endmodule

`default_nettype wire
