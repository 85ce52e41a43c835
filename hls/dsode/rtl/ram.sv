`default_nettype none

// One write and one read port; `q` holds mem[ra] two cycles after `ra`. A read in the cycle of a write to the same
// address gives the old word.
// STYLE: 0 LUTs (distributed), 1 block RAM, 2 UltraRAM
module dsode_ram #(
    parameter WIDTH = 64,
    parameter DEPTH = 64,
    parameter STYLE = 1,
    parameter AW = (DEPTH > 1) ? $clog2(DEPTH) : 1
) (
    input  wire             clk,
    input  wire             we,
    input  wire [AW-1:0]    wa,
    input  wire [WIDTH-1:0] wd,
    input  wire [AW-1:0]    ra,
    output reg  [WIDTH-1:0] q
);
    reg [WIDTH-1:0] word;
    generate
        if (STYLE == 2) begin : g_ultra
            (* ram_style = "ultra" *) reg [WIDTH-1:0] mem [0:DEPTH-1];
            always @(posedge clk) begin
                word <= mem[ra];
                if (we) mem[wa] <= wd;
            end
        end else if (STYLE == 1) begin : g_block
            (* ram_style = "block" *) reg [WIDTH-1:0] mem [0:DEPTH-1];
            always @(posedge clk) begin
                word <= mem[ra];
                if (we) mem[wa] <= wd;
            end
        end else begin : g_distributed
            (* ram_style = "distributed" *) reg [WIDTH-1:0] mem [0:DEPTH-1];
            always @(posedge clk) begin
                word <= mem[ra];
                if (we) mem[wa] <= wd;
            end
        end
    endgenerate
    always @(posedge clk) q <= word;
endmodule

// A table of WIDTH bits a row that the configuration bus writes 64 bits at a time: BANKS consecutive banks from FIRST.
// One read address serves all.
module dsode_table #(
    parameter WIDTH = 64,
    parameter DEPTH = 64,
    parameter STYLE = 1,
    parameter FIRST = 0,
    parameter AW = (DEPTH > 1) ? $clog2(DEPTH) : 1
) (
    input  wire             clk,
    input  wire             c_we,
    input  wire [15:0]      c_bank,
    input  wire [15:0]      c_row,
    input  wire [63:0]      c_data,
    input  wire [AW-1:0]    ra,
    output wire [WIDTH-1:0] q
);
    genvar b;
    generate
        for (b = 0; b < (WIDTH + 63) / 64; b = b + 1) begin : g_bank
            localparam W = (WIDTH - 64 * b < 64) ? WIDTH - 64 * b : 64;
            reg          we;
            reg [AW-1:0] wa;
            reg [W-1:0]  wd;
            always @(posedge clk) begin
                we <= c_we && c_bank == FIRST + b;
                wa <= c_row[AW-1:0];
                wd <= c_data[W-1:0];
            end
            dsode_ram #(.WIDTH(W), .DEPTH(DEPTH), .STYLE(STYLE)) ram (
                .clk(clk), .we(we), .wa(wa), .wd(wd), .ra(ra), .q(q[64*b +: W]));
        end
    endgenerate
endmodule

`default_nettype wire
