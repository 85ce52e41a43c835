`default_nettype none

// The 3x3 neighbourhood of two neighbouring pixels, as the systolic depthwise lanes want it: tap J (row 2 - J / 3,
// column 2 - J % 3 of the kernel) leaves J cycles after tap 0.
//
// `z` is the stream of slots (pixel pair, channel group), one a cycle. Slot m's taps leave one cycle after its token,
// when z holds slot m + SLOTS_A_ROW + GROUPS, the newest that it needs. A tap outside the image is 0: the flags
// top, bottom, first, last say in the token's cycle where the pair lies.
// Every tap is the one before it, delayed; lanes that a shape does not use are not delayed in it.
module dsode_window #(
    parameter LANES = 16,        // channels of a slot in shape 0; half as many in each further shape
    parameter GRANULE = 4,       // channels that lie together, both pixels, in a slot
    parameter SHAPES = 3,
    parameter R0 = 7, R1 = 16, R2 = 32,     // slots a row, of each shape
    parameter T0 = 1, T1 = 4, T2 = 16       // groups of channels, of each shape
) (
    input  wire                  clk,
    input  wire [1:0]            shape,
    input  wire [16*LANES-1:0]   z,
    input  wire                  top,
    input  wire                  bottom,
    input  wire                  first,
    input  wire                  last,
    output wire [9*16*LANES-1:0] taps      // tap J at 16*LANES*J
);
    localparam GB = 16 * GRANULE;
    wire [16*LANES-1:0] raw [0:8];
    genvar j, p, g;
    generate
        for (j = 0; j < 9; j = j + 1) begin : g_tap
            localparam KY = 2 - j / 3, KX = 2 - j % 3;
            for (p = 0; p < 2; p = p + 1) begin : g_pixel
                // source pixel of the pair, and how many pairs back from the newest: 0, 1 or 2
                localparam SOURCE = (p + KX + 1) % 2;
                localparam BACK = (p + KX < 1) ? 2 : (p + KX > 2) ? 0 : 1;
                // the tap before this one that reads the same source pixel
                localparam PKX = (KX < 2) ? KX + 1 : 0, PKY = (KX < 2) ? KY : KY + 1;
                localparam Q = (SOURCE + 3 - PKX) % 2;
                localparam PBACK = (j == 0) ? 0 : (Q + PKX < 1) ? 2 : (Q + PKX > 2) ? 0 : 1;
                localparam ROWS = (j == 0) ? 0 : PKY - KY;
                localparam PAIRS = BACK - PBACK;
                localparam SKEW = (j == 0) ? 0 : 1;
                wire outside_now = (KY == 0 && top) || (KY == 2 && bottom) || (p + KX < 1 && first)
                                   || (p + KX > 2 && last);
                wire outside;
                dsode_delay #(.DEPTH(j), .WIDTH(1)) flag (.clk(clk), .d(outside_now), .q(outside));
                for (g = 0; g < LANES / GRANULE; g = g + 1) begin : g_granule
                    // shapes that use this granule of lanes
                    localparam USED = (SHAPES > 2 && g < (LANES / GRANULE) / 4) ? 3
                                      : (SHAPES > 1 && g < (LANES / GRANULE) / 2) ? 2 : 1;
                    wire [GB/2-1:0] source;
                    if (j == 0) begin : g_newest
                        assign source = z[GB*g + (GB/2)*SOURCE +: GB/2];
                    end else begin : g_chained
                        assign source = raw[j-1][GB*g + (GB/2)*Q +: GB/2];
                    end
                    wire [GB/2-1:0] here;
                    dsode_delay_by_shape #(
                        .SHAPES(USED), .WIDTH(GB/2),
                        .D0(ROWS*R0 + PAIRS*T0 + SKEW), .D1(ROWS*R1 + PAIRS*T1 + SKEW),
                        .D2(ROWS*R2 + PAIRS*T2 + SKEW)
                    ) line (.clk(clk), .shape(shape), .d(source), .q(here));
                    assign raw[j][GB*g + (GB/2)*p +: GB/2] = here;
                    reg [GB/2-1:0] tap;
                    always @(posedge clk) if (outside) tap <= 0; else tap <= here;
                    assign taps[16*LANES*j + GB*g + (GB/2)*p +: GB/2] = tap;
                end
            end
        end
    endgenerate
endmodule

`default_nettype wire
