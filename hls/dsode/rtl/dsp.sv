`default_nettype none

// The one DSP48E2 mode that the engine uses, four cycles from a, d, b to p:
//     p = (a + d) * b + (FIRST ? (USE_C ? c : ROUND) : pcin)
// c is taken two cycles after a, d and b. Instantiated, since synthesis would not absorb the registers, the cascade
// and the pre-adder of a packed product.
module dsode_dsp #(
    parameter        FIRST = 0,
    parameter        USE_C = 0,
    parameter [47:0] ROUND = 48'd0
) (
    input  wire        clk,
    input  wire [26:0] a,
    input  wire [26:0] d,
    input  wire [17:0] b,
    input  wire [47:0] c,
    input  wire [47:0] pcin,
    output wire [47:0] pcout,
    output wire [47:0] p
);
    // OPMODE = {W, Z, Y, X}: X and Y the product; W = RND (10) or C (11 with Y, here by Z = C, 011); Z = PCIN (001)
    localparam [8:0] OPMODE = !FIRST ? 9'b00_001_01_01 : USE_C ? 9'b00_011_01_01 : 9'b10_000_01_01;
    DSP48E2 #(
        .AMULTSEL("AD"), .BMULTSEL("B"), .PREADDINSEL("A"), .A_INPUT("DIRECT"), .B_INPUT("DIRECT"),
        .USE_MULT("MULTIPLY"), .USE_SIMD("ONE48"), .RND(ROUND),
        .AREG(1), .ACASCREG(1), .DREG(1), .ADREG(1), .BREG(2), .BCASCREG(2), .CREG(1), .MREG(1), .PREG(1),
        .ALUMODEREG(0), .CARRYINREG(0), .CARRYINSELREG(0), .INMODEREG(0), .OPMODEREG(0)
    ) slice (
        .CLK(clk), .A({{3{a[26]}}, a}), .B(b), .C(c), .D(d), .PCIN(pcin), .PCOUT(pcout), .P(p),
        .ALUMODE(4'b0000), .INMODE(5'b00100), .OPMODE(OPMODE), .CARRYIN(1'b0), .CARRYINSEL(3'b000),
        .CEA1(1'b1), .CEA2(1'b1), .CEAD(1'b1), .CEALUMODE(1'b1), .CEB1(1'b1), .CEB2(1'b1), .CEC(1'b1),
        .CECARRYIN(1'b1), .CECTRL(1'b1), .CED(1'b1), .CEINMODE(1'b1), .CEM(1'b1), .CEP(1'b1),
        .RSTA(1'b0), .RSTALLCARRYIN(1'b0), .RSTALUMODE(1'b0), .RSTB(1'b0), .RSTC(1'b0), .RSTCTRL(1'b0),
        .RSTD(1'b0), .RSTINMODE(1'b0), .RSTM(1'b0), .RSTP(1'b0),
        .ACIN(30'd0), .BCIN(18'd0), .CARRYCASCIN(1'b0), .MULTSIGNIN(1'b0));
endmodule

`default_nettype wire
