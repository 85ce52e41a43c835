`default_nettype none

// One channel of a 3x3 depthwise convolution for two neighbouring pixels, then requantised to UINT4.
// Tap j of both pixels and its weight arrive j cycles after tap 0; the bias two cycles after tap 0, with the shift.
// The nine products of both pixels share nine DSPs: the pixels lie 18 bits apart in the pre-adder, and the constant
// added with the bias keeps the lower field from borrowing from the upper one (checked exhaustively by the tests).
//     y = clip((sum of x * w + bias) >> (SHIFT + shift), 0, 15), 16 cycles after tap 0 enters
module dsode_depthwise #(
    parameter USE_DSP = 1,
    parameter SHIFT = 5,
    parameter SHIFT_BITS = 3
) (
    input  wire        clk,
    input  wire [71:0] x0,       // nine signed bytes of the left pixel
    input  wire [71:0] x1,
    input  wire [35:0] w,        // nine signed nibbles
    input  wire [15:0] bias,
    input  wire [2:0]  shift,
    input  wire        twin,     // 15 cycles after tap 0: y1 shall be the left pixel's too
    output reg  [3:0]  y0,
    output reg  [3:0]  y1
);
    wire signed [17:0] r0, r1;   // valid 12 cycles after tap 0
    genvar j;
    generate
        if (USE_DSP) begin : g_dsp
            wire [48*10-1:0] cascade;
            wire [48*9-1:0]  p;
            wire [17:0] field = {~bias[15], bias[15], bias};   // bias + 2^17, 18 bits
            assign cascade[47:0] = 48'd0;
            for (j = 0; j < 9; j = j + 1) begin : g_tap
                dsode_dsp #(.FIRST(j == 0), .USE_C(j == 0)) dsp (
                    .clk(clk),
                    .a({x1[8*j+7], x1[8*j +: 8], 18'd0}),
                    .d({{19{x0[8*j+7]}}, x0[8*j +: 8]}),
                    .b({{14{w[4*j+3]}}, w[4*j +: 4]}),
                    .c({12'd0, field, field}),
                    .pcin(cascade[48*j +: 48]), .pcout(cascade[48*(j+1) +: 48]), .p(p[48*j +: 48]));
            end
            assign r0 = {~p[48*8+17], p[48*8 +: 17]};
            assign r1 = {~p[48*8+35], p[48*8+18 +: 17]};
        end else begin : g_lut
            wire signed [17:0] sum0 [0:9];
            wire signed [17:0] sum1 [0:9];
            reg  signed [17:0] first;
            always @(posedge clk) first <= {{2{bias[15]}}, bias};
            assign sum0[0] = first;
            assign sum1[0] = first;
            for (j = 0; j < 9; j = j + 1) begin : g_tap
                (* use_dsp = "no" *) reg signed [11:0] m0, m1;
                reg signed [11:0] n0, n1, k0, k1;
                reg signed [17:0] s0, s1;
                always @(posedge clk) begin
                    m0 <= $signed(x0[8*j +: 8]) * $signed(w[4*j +: 4]);
                    m1 <= $signed(x1[8*j +: 8]) * $signed(w[4*j +: 4]);
                    n0 <= m0; n1 <= m1; k0 <= n0; k1 <= n1;
                    s0 <= sum0[j] + k0;
                    s1 <= sum1[j] + k1;
                end
                assign sum0[j+1] = s0;
                assign sum1[j+1] = s1;
            end
            assign r0 = sum0[9];
            assign r1 = sum1[9];
        end
    endgenerate

    wire [2:0] shift_a, shift_b;
    dsode_delay #(.DEPTH(10), .WIDTH(3)) delay_a (.clk(clk), .d(shift), .q(shift_a));
    dsode_delay #(.DEPTH(1), .WIDTH(3)) delay_b (.clk(clk), .d(shift_a), .q(shift_b));
    wire [1:0] few = (SHIFT_BITS == 0) ? 2'd0 : (SHIFT_BITS == 1) ? {1'b0, shift_a[0]} : shift_a[1:0];
    wire       four = (SHIFT_BITS == 3) && shift_b[2];
    reg signed [17-SHIFT:0] a0, a1, b0, b1;
    wire signed [17-SHIFT:0] from0 = r0[17:SHIFT], from1 = r1[17:SHIFT];
    reg [3:0] low0, low1;
    reg under0, under1, over0, over1;
    always @(posedge clk) begin
        a0 <= from0 >>> few;
        a1 <= from1 >>> few;
        b0 <= four ? a0 >>> 4 : a0;
        b1 <= four ? a1 >>> 4 : a1;
        low0 <= b0[3:0];
        low1 <= b1[3:0];
        under0 <= b0[17-SHIFT];
        under1 <= b1[17-SHIFT];
        over0 <= |b0[16-SHIFT:4];
        over1 <= |b1[16-SHIFT:4];
        y0 <= under0 ? 4'd0 : over0 ? 4'd15 : low0;
        y1 <= (twin ? under0 : under1) ? 4'd0 : (twin ? over0 : over1) ? 4'd15 : twin ? low0 : low1;
    end
endmodule

`default_nettype wire
