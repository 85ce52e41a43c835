`default_nettype none

// The end of a pass for one output of one pixel: bias, shift, the state that f is added to, saturation.
//     y = clip(((sum + bias) >> (SHIFT + shift)) + (skip ? x : 0), low, high), five cycles after sum
// signed_state: -128..127; otherwise 0 to 127, or to MIDDLE_HIGH where `middle` is set. `zero` forces 0: a column that
// only pads the row. x and skip are taken two cycles after sum, signed_state, middle and zero three after it.
module dsode_update #(
    parameter SHIFT = 5,
    parameter SHIFT_BITS = 3,
    parameter MIDDLE_HIGH = 127
) (
    input  wire               clk,
    input  wire signed [19:0] sum,
    input  wire signed [19:0] bias,
    input  wire        [2:0]  shift,
    input  wire signed [7:0]  x,
    input  wire               skip,
    input  wire               signed_state,
    input  wire               middle,
    input  wire               zero,
    output reg         [7:0]  y
);
    reg  [2:0] shift1, shift2;
    wire [1:0] few = (SHIFT_BITS == 0) ? 2'd0 : (SHIFT_BITS == 1) ? {1'b0, shift1[0]} : shift1[1:0];
    wire       four = (SHIFT_BITS == 3) && shift2[2];
    reg signed [19:0] biased;
    reg signed [19-SHIFT:0] some;
    reg signed [20-SHIFT:0] added;
    wire signed [19-SHIFT:0] from = biased[19:SHIFT];
    wire signed [19-SHIFT:0] rest = four ? some >>> 4 : some;
    wire signed [7:0] kept = skip ? x : 8'sd0;
    localparam T = 20 - SHIFT;                     // sign bit of `added`
    localparam M = (MIDDLE_HIGH == 127) ? 7 : (MIDDLE_HIGH == 63) ? 6 : (MIDDLE_HIGH == 31) ? 5 : (MIDDLE_HIGH == 15)
                   ? 4 : (MIDDLE_HIGH == 7) ? 3 : 2;   // bits of MIDDLE_HIGH
    reg       under, over, above;
    reg [7:0] low;
    reg       as_state, as_middle, blank;
    always @(posedge clk) begin
        shift1 <= shift;
        shift2 <= shift1;
        biased <= sum + bias;
        some <= from >>> few;
        added <= rest + kept;
        // which way it leaves the range; -128..-1 is inside only for a state
        under <= signed_state ? added[T] & ~(&added[T-1:7]) : added[T];
        over <= ~added[T] & (|added[T-1:7]);
        above <= ~added[T] & middle & (|added[6:M-(M==7)]) & (M != 7);
        low <= added[7:0];
        as_state <= signed_state;
        as_middle <= middle;
        blank <= zero;
        if (blank) y <= 8'd0;
        else if (under) y <= as_state ? 8'h80 : 8'd0;
        else if (above || (over && as_middle)) y <= MIDDLE_HIGH;
        else if (over) y <= 8'd127;
        else y <= low;
    end
endmodule

`default_nettype wire
