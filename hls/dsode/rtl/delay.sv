`default_nettype none

// `q` is `d` DEPTH cycles ago; DEPTH 0 is a wire. No reset: synthesis makes shift registers of LUTs (SRL).
module dsode_delay #(
    parameter DEPTH = 1,
    parameter WIDTH = 8
) (
    input  wire             clk,
    input  wire [WIDTH-1:0] d,
    output wire [WIDTH-1:0] q
);
    generate
        if (DEPTH <= 0) begin : g_wire
            assign q = d;
        end else begin : g_line
            reg [WIDTH-1:0] line [0:DEPTH-1];
            integer i;
            always @(posedge clk) begin
                line[0] <= d;
                for (i = 1; i < DEPTH; i = i + 1) line[i] <= line[i-1];
            end
            assign q = line[DEPTH-1];
        end
    endgenerate
endmodule

// A delay that depends on the shape: D0 in shape 0, D1 in shape 1, D2 in shape 2 (the first SHAPES of them are used).
// The delays must not decrease with the shape: they are taps of one line.
module dsode_delay_by_shape #(
    parameter SHAPES = 1,
    parameter D0 = 1,
    parameter D1 = D0,
    parameter D2 = D1,
    parameter WIDTH = 8
) (
    input  wire             clk,
    input  wire [1:0]       shape,
    input  wire [WIDTH-1:0] d,
    output wire [WIDTH-1:0] q
);
    wire [WIDTH-1:0] q0;
    dsode_delay #(.DEPTH(D0), .WIDTH(WIDTH)) line0 (.clk(clk), .d(d), .q(q0));
    generate
        if (SHAPES == 1 || (D1 == D0 && (SHAPES == 2 || D2 == D0))) begin : g_one
            assign q = q0;
        end else begin : g_more
            wire [WIDTH-1:0] q1;
            dsode_delay #(.DEPTH(D1 - D0), .WIDTH(WIDTH)) line1 (.clk(clk), .d(q0), .q(q1));
            if (SHAPES == 2) begin : g_two
                assign q = (shape == 0) ? q0 : q1;
            end else begin : g_three
                wire [WIDTH-1:0] q2;
                dsode_delay #(.DEPTH(D2 - D1), .WIDTH(WIDTH)) line2 (.clk(clk), .d(q1), .q(q2));
                assign q = (shape == 0) ? q0 : (shape == 1) ? q1 : q2;
            end
        end
    endgenerate
endmodule

`default_nettype wire
