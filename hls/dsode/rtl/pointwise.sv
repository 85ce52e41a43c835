`default_nettype none

// Eight inputs of a pointwise convolution, for two neighbouring pixels and two outputs: four products a DSP.
// Input i and its weights arrive i cycles after input 0. A DSP computes
//     (w1 * 2^22 + w0) * (a1 * 2^11 + a0)
// whose four fields of 11 bits each get 1024 added once a chain: they never go negative, so no field borrows from the
// next, and the correction costs nothing since it is folded into the bias (checked exhaustively by the tests).
//     y = {w1.a1, w1.a0, w0.a1, w0.a0}, each + 1024, 11 cycles after input 0 enters
module dsode_chain #(
    parameter USE_DSP = 1
) (
    input  wire        clk,
    input  wire [31:0] a0,       // eight UINT4 of the left pixel
    input  wire [31:0] a1,
    input  wire [31:0] w0,       // eight INT4 of one output
    input  wire [31:0] w1,
    output wire [43:0] y
);
    genvar i;
    generate
        if (USE_DSP) begin : g_dsp
            wire [48*9-1:0] cascade;
            wire [48*8-1:0] p;
            assign cascade[47:0] = 48'd0;
            for (i = 0; i < 8; i = i + 1) begin : g_input
                dsode_dsp #(.FIRST(i == 0), .ROUND({4'd0, {4{11'd1024}}})) dsp (
                    .clk(clk),
                    .a({w1[4*i+3], w1[4*i +: 4], 22'd0}),
                    .d({{23{w0[4*i+3]}}, w0[4*i +: 4]}),
                    .b({3'd0, a1[4*i +: 4], 7'd0, a0[4*i +: 4]}),
                    .c(48'd0),
                    .pcin(cascade[48*i +: 48]), .pcout(cascade[48*(i+1) +: 48]), .p(p[48*i +: 48]));
            end
            assign y = p[48*7 +: 44];
        end else begin : g_lut
            wire [44*9-1:0] sum;
            assign sum[43:0] = {4{11'd1024}};
            for (i = 0; i < 8; i = i + 1) begin : g_input
                (* use_dsp = "no" *) reg signed [7:0] m00, m01, m10, m11;
                reg signed [7:0] n00, n01, n10, n11, k00, k01, k10, k11;
                reg [43:0] s;
                wire signed [4:0] left = {1'b0, a0[4*i +: 4]}, right = {1'b0, a1[4*i +: 4]};
                always @(posedge clk) begin
                    m00 <= left * $signed(w0[4*i +: 4]);
                    m01 <= right * $signed(w0[4*i +: 4]);
                    m10 <= left * $signed(w1[4*i +: 4]);
                    m11 <= right * $signed(w1[4*i +: 4]);
                    n00 <= m00; n01 <= m01; n10 <= m10; n11 <= m11;
                    k00 <= n00; k01 <= n01; k10 <= n10; k11 <= n11;
                    s[0 +: 11] <= sum[44*i +: 11] + {{3{k00[7]}}, k00};
                    s[11 +: 11] <= sum[44*i + 11 +: 11] + {{3{k01[7]}}, k01};
                    s[22 +: 11] <= sum[44*i + 22 +: 11] + {{3{k10[7]}}, k10};
                    s[33 +: 11] <= sum[44*i + 33 +: 11] + {{3{k11[7]}}, k11};
                end
                assign sum[44*(i+1) +: 44] = s;
            end
            assign y = sum[44*8 +: 44];
        end
    endgenerate
endmodule

// Sum of N unsigned numbers of W bits (N a power of two), a register a level.
module dsode_tree #(
    parameter N = 8,
    parameter W = 11
) (
    input  wire                   clk,
    input  wire [N*W-1:0]         x,
    output wire [W+$clog2(N)-1:0] y
);
    generate
        if (N == 1) begin : g_wire
            assign y = x;
        end else begin : g_add
            reg [(N/2)*(W+1)-1:0] half;
            integer i;
            always @(posedge clk)
                for (i = 0; i < N / 2; i = i + 1)
                    half[(W+1)*i +: W+1] <= x[2*W*i +: W] + x[2*W*i+W +: W];
            dsode_tree #(.N(N/2), .W(W+1)) rest (.clk(clk), .x(half), .y(y));
        end
    endgenerate
endmodule

// Two outputs and two pixels of a pointwise convolution over INPUTS channels (8 times a power of two).
// Weight and activation of channel c arrive c % 8 cycles after those of channel 0.
//     y = four fields {w1.a1, w1.a0, w0.a1, w0.a0}, each + 128 * INPUTS, 11 + log2(INPUTS / 8) cycles later
module dsode_dot #(
    parameter INPUTS = 64,
    parameter USE_DSP = 1,
    parameter W = 11 + $clog2(INPUTS / 8)
) (
    input  wire                clk,
    input  wire [4*INPUTS-1:0] a0,
    input  wire [4*INPUTS-1:0] a1,
    input  wire [4*INPUTS-1:0] w0,
    input  wire [4*INPUTS-1:0] w1,
    output wire [4*W-1:0]      y
);
    localparam CHAINS = INPUTS / 8;
    wire [11*CHAINS-1:0] field [0:3];
    genvar k, f;
    generate
        for (k = 0; k < CHAINS; k = k + 1) begin : g_chain
            wire [43:0] sum;
            dsode_chain #(.USE_DSP(USE_DSP)) chain (
                .clk(clk), .a0(a0[32*k +: 32]), .a1(a1[32*k +: 32]), .w0(w0[32*k +: 32]), .w1(w1[32*k +: 32]),
                .y(sum));
            for (f = 0; f < 4; f = f + 1) begin : g_field
                assign field[f][11*k +: 11] = sum[11*f +: 11];
            end
        end
        for (f = 0; f < 4; f = f + 1) begin : g_tree
            dsode_tree #(.N(CHAINS), .W(11)) tree (.clk(clk), .x(field[f]), .y(y[W*f +: W]));
        end
    endgenerate
endmodule

`default_nettype wire
